"""The figures of filter_vis.py: sheets of tiles with a caption under each, and the adversarial face."""

import numpy as np
from PIL import Image

from utils.figures import plt, save_figure
from utils.files import replacing

OUTSIDE = -1.0  # the value of pixels beyond the border of a face
OUTSIDE_COLOR = "#BBDDF2"


def mosaic(cells, columns, below=0):
    """Cells (n, k, h, w), the k tiles of a cell side by side, as one image with NaN between and `below` rows under each."""
    n, k, height, width = cells.shape
    gap, seam = max(1, round(width / 8)), max(1, round(width / 24))
    across = k * (width + seam) - seam
    rows = -(-n // columns)
    image = np.full((rows * (height + below + gap) - gap, columns * (across + gap) - gap), np.nan, np.float32)
    for i, cell in enumerate(cells):
        y, x = i // columns * (height + below + gap), i % columns * (across + gap)
        for j, tile in enumerate(cell):
            image[y:y + height, x + j * (width + seam):x + j * (width + seam) + width] = tile
    return image


def padded(cells):
    """Lists of tiles of different sizes (float (h, w), NaN outside the face) as one array (n, k, H, W), each in the middle
    of its place: what is NaN in a tile is marked as outside, the rest of a place stays empty."""
    height, width = np.max([tile.shape for cell in cells for tile in cell], 0)
    made = np.full((len(cells), max(map(len, cells)), height, width), np.nan, np.float32)
    for places, cell in zip(made, cells):
        for place, tile in zip(places, cell):
            y, x = (height - tile.shape[0]) // 2, (width - tile.shape[1]) // 2
            place[y:y + tile.shape[0], x:x + tile.shape[1]] = np.nan_to_num(tile, nan=OUTSIDE)
    return made


def animation(frames, path):
    """Write grey frames (k, n, h, w) as a GIF of sheets that stays on the last for two seconds."""
    zoom = max(1, 96 // frames.shape[2])
    first, *rest = [Image.fromarray(np.nan_to_num(mosaic(frame[:, None], 8), nan=255).astype(np.uint8).repeat(zoom, 0)
                                    .repeat(zoom, 1)) for frame in frames]
    with replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=[200] * len(rest) + [2000], loop=0)


def sheet(cells, captions, path, title, columns=None, scale=None, face=None):
    """Draw cells (n, k, h, w) in a grid with a caption under each, at the size of a report's page.

    scale: None for grey images 0-255; else the colour bar's label: "activation" (viridis) or "weight" (symmetric).
    face: a grey image shown to the left of the colour bar.
    """
    n, k, height, width = cells.shape
    enlarge = max(1, round(48 / width))  # so that gaps and captions do not depend on the size of the tiles
    cells = cells.repeat(enlarge, 2).repeat(enlarge, 3)
    height, width = cells.shape[2:]
    columns = min(n, columns or max(2, 8 // k))
    lines = 1 + max(caption.count("\n") for caption in captions)
    inches = min(7.2 / (columns * (k * 1.06 + 0.12)), 1.1)  # one tile
    unit = width / inches
    below = round((0.105 * lines + 0.03) * unit)
    image = mosaic(cells, columns, below)
    extra = 0.75 if scale else 0.0
    wide, high = image.shape[1] / unit, image.shape[0] / unit
    head = 0.16 * (1.5 + title.count("\n"))
    figure = plt.figure(figsize=(wide + extra, high + head))
    total = wide + extra, high + head
    ax = figure.add_axes((0, 0, wide / total[0], high / total[1]))
    finite = cells[np.isfinite(cells)]
    low, top, cmap = 0.0, 255.0, "gray"
    if scale == "activation":
        low, top, cmap = min(0.0, float(finite.min())), float(np.percentile(finite, 99.5)) or 1.0, "viridis"
    elif scale == "weight":
        top, cmap = float(np.abs(finite).max()) or 1.0, "RdBu_r"
        low = -top
    colors = plt.get_cmap(cmap).with_extremes(under=OUTSIDE_COLOR if scale is None else None)
    drawn = ax.imshow(image, cmap=colors, vmin=low, vmax=top, interpolation="nearest",
                      extent=(0, image.shape[1], image.shape[0], 0), aspect="equal")
    ax.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    ax.set_axis_off()
    gap, seam = max(1, round(width / 8)), max(1, round(width / 24))
    for i, caption in enumerate(captions):
        x = i % columns * (k * (width + seam) - seam + gap)
        y = i // columns * (height + below + gap) + height
        ax.text(x, y + 0.02 * unit, caption, fontsize=6, va="top", linespacing=1.1)
    if scale:
        length = min(1.6, max(0.4, high - 0.25 - (0.8 if face is not None else 0.1)))
        bar = figure.add_axes((1 - 0.62 / total[0], 0.2 / total[1], 0.1 / total[0], length / total[1]))
        figure.colorbar(drawn, cax=bar, extend="max" if scale == "activation" else "neither").set_label(scale, fontsize=7)
        bar.tick_params(labelsize=6)
    if face is not None:
        inset = figure.add_axes((1 - 0.66 / total[0], (high - 0.62) / total[1], 0.62 / total[0], 0.62 / total[1]))
        inset.imshow(face, cmap="gray", vmin=0, vmax=255)
        inset.set_axis_off()
    figure.text(0, 1, title, fontsize=8.5, va="top")
    save_figure(figure, path)


def compact(value):
    """A number in about four characters."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1 else f"{value:.2f}"


def adversarial(face, found, names, caption, title, path):
    """The face, the magnified change and the changed face: face float (h, w); found: utils.adversarial.Adversarial."""
    change = found.image - face
    limit = np.abs(change).max()
    old, new = int(found.before.argmax()), int(found.after.argmax())
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained")
    axes[0].imshow(face, cmap="gray", vmin=0, vmax=255)
    drawn = axes[1].imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].imshow(found.image, cmap="gray", vmin=0, vmax=255)
    figure.colorbar(drawn, ax=axes[1], label="grey levels", shrink=0.8)
    axes[0].set_title(f"{caption}:\n{names[old]} {100 * found.before[old]:.1f} %")
    axes[1].set_title(f"the change, {127 / max(limit, 1e-9):.0f}× magnified:\n"
                      f"L2 {np.linalg.norm(change):.2f}, L∞ {limit:.2f} of 255")
    axes[2].set_title(f"changed face:\n{names[new]} {100 * found.after[new]:.1f} %, "
                      f"{names[old]} {100 * found.after[old]:.1f} %")
    for ax in axes:
        ax.title.set_fontsize(8.5)
        ax.set_axis_off()
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)
