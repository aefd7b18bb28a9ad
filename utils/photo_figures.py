"""One figure a photo: its faces in their squares, each as the network sees it, and the class probabilities as bars."""

from utils.data import CLASSES
from utils.figures import COLORS, plt, save_figure
from utils.photos import shrunk

DRAWN = 12  # faces a figure; the CSV has them all
LONGEST_SIDE = 1200  # pixels of the photo in the figure


def draw_photo(photo, faces, probabilities, path, title):
    """Write the figure of one photo to `path` (PNG); returns the path.

    photo: uint8 (height, width, 3); faces: its `photos.Face`s; probabilities: (len(faces), 7), rows sum to 1.
    """
    drawn = faces[:DRAWN]
    beside = len(drawn) <= 3
    across = 1 if beside else 2
    down = -(-len(drawn) // across)
    tall = photo.shape[0] / photo.shape[1]
    if beside:
        figure = plt.figure(figsize=(7.2, max(1.55 * down, min(3.1 * tall, 4.6)) + 0.4), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[3.1, 4.1])
    else:
        height = min(6.6 * tall, 4.6)
        figure = plt.figure(figsize=(7.2, height + 1.35 * down + 0.4), layout="constrained")
        left, right = figure.subfigures(2, 1, height_ratios=[height, 1.35 * down])
    figure.suptitle(title, fontsize=10)
    draw_squares(left.subplots(), photo, faces)
    axes = right.subplots(down, 2 * across, squeeze=False, width_ratios=[1, 1.5] * across)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (face, p) in enumerate(zip(drawn, probabilities)):
        row, column = divmod(i, across)
        crop, bars = axes[row, 2 * column:2 * column + 2]
        crop.imshow(face.image, cmap="gray", vmin=0, vmax=255)
        crop.set_title(f"face {face.number}: {CLASSES[p.argmax()]}", fontsize=8.5)
        draw_bars(bars, p)
    if len(faces) > DRAWN:
        right.supxlabel(f"and {len(faces) - DRAWN} more in the CSV", fontsize=8)
    return save_figure(figure, path)


def draw_squares(ax, photo, faces):
    """The photo with each face's square and number."""
    small, scale = shrunk(photo, LONGEST_SIDE)
    ax.imshow(small, interpolation="antialiased")
    ax.set_axis_off()
    for face in faces:
        x, y, width, height = (scale * v for v in face.square)
        ax.add_patch(plt.Rectangle((x, y), width, height, fill=False, ec=COLORS["orange"], lw=1.6))
        ax.text(max(x, 0), max(y, 0), face.number, fontsize=7, color="black", va="top",
                bbox={"fc": COLORS["orange"], "ec": "none", "pad": 1.2})
    ax.set(xlim=(0, small.shape[1]), ylim=(small.shape[0], 0))


def draw_bars(ax, probabilities):
    """The seven probabilities as horizontal bars, the predicted class in colour."""
    ax.set_axis_on()
    best = probabilities.argmax()
    colors = [COLORS["blue"] if code == best else "#BBBBBB" for code in range(len(CLASSES))]
    ax.barh(range(len(CLASSES)), probabilities, color=colors, height=0.72)
    for code, p in enumerate(probabilities):
        ax.text(p + 0.02, code, f"{p:.2f}", va="center", fontsize=7, weight="bold" if code == best else "normal")
    ax.set(xlim=(0, 1.15), ylim=(len(CLASSES) - 0.5, -0.5), xticks=[])
    ax.set_yticks(range(len(CLASSES)), CLASSES, fontsize=7)
    ax.tick_params(axis="y", length=0)
    ax.spines["bottom"].set_visible(False)
    ax.set_box_aspect(0.68)
