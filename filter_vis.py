"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                     every convolution stage: filters, and their outputs for one image
    python filter_vis.py --layer conv2_relu --sign both      one layer, the minimum beside the maximum
    python filter_vis.py --layer --objective neuron --patches   middle unit of each filter, beside the data's best patches
    python filter_vis.py --parametrization pixel             the plain ascent of the homework (and --tv, --l2, --jitter)
    python filter_vis.py --classes --adversarial --kernels   an image of each class; the smallest change of class; kernels

Under each tile: the filter's number, the activation reached, how many times the data's maximum that is, and the share
of the filter's variance over the data that the classes explain (eta squared), by which tiles are sorted.
Writes figures/NAME_filters_LAYER.png, NAME_outputs_LAYER.png and so on, and a CSV of the numbers beside each.
"""

from pathlib import Path

from utils import cli

OUTSIDE = -1.0  # drawn in blue: a patch that reaches over the border of its face


def arguments():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, help=".h5 or .keras classifier (default: models/cnn.h5, else the released one)")
    parser.add_argument("--data", type=Path, help="CSV or image folder (default: data/*.csv, else the sample)")
    parser.add_argument("--limit", type=cli.number(int, 1), default=2000, help="faces that the filters are measured on")
    parser.add_argument("--index", type=cli.number(int, 0), default=15, help="the face, from 0, for outputs and --adversarial")
    parser.add_argument("--layer", nargs="*", metavar="NAME",
                        help="layers to show (default: the activation that ends each convolution stage)")
    parser.add_argument("--filters", type=cli.number(int, 1), default=64,
                        help="at most so many of a layer, highest eta squared first")
    parser.add_argument("--objective", choices=("channel", "neuron"), default="channel",
                        help="mean of the filter's map (its texture), or its middle unit (its shape)")
    parser.add_argument("--sign", choices=("max", "min", "both"), default="max", help="what excites, what inhibits")
    parser.add_argument("--parametrization", choices=("fourier", "pixel"), default="fourier",
                        help="climb a smooth spectrum under random transforms, or plain pixels as in the homework")
    parser.add_argument("--tv", type=cli.number(float, 0), help="pixel: weight of total variation (default 0)")
    parser.add_argument("--l2", type=cli.number(float, 0), help="pixel: weight of the distance from mid-grey (default 0)")
    parser.add_argument("--jitter", type=cli.number(int, 0, 24), help="pixel: random shift at each step, pixels (default 0)")
    parser.add_argument("--steps", type=cli.number(int, 1), default=200, help="of gradient ascent")
    parser.add_argument("--seed", type=cli.number(int, 0, 2 ** 31 - 1), default=0, help="of the noise and the transforms")
    parser.add_argument("--progress", choices=("strip", "gif"), help="also show the ascent on its way")
    parser.add_argument("--patches", type=cli.number(int, 1, 16), nargs="?", const=5, metavar="N",
                        help="also the N (5) patches of the data that excite each filter most")
    only = parser.add_argument_group("instead of filters, unless --layer is given too")
    only.add_argument("--classes", action="store_true", help="the image that maximises each class's logit")
    only.add_argument("--adversarial", action="store_true", help="the smallest change of one face that turns its class")
    only.add_argument("--kernels", action="store_true", help="the first convolution's kernels as they are")
    args = parser.parse_args()
    if args.parametrization != "pixel" and (args.tv, args.l2, args.jitter) != (None, None, None):
        raise cli.UserError("--tv, --l2 and --jitter belong to --parametrization pixel")
    return args


class Study:
    """A model, the faces it is shown, and where the figures go."""

    def __init__(self, args):
        from utils import data, models
        from utils import feature_visualization as fv

        fv.tensorflow()
        self.args = args
        path = args.model or models.default_model()
        self.model, self.name = fv.unfolded(models.load(path)), Path(path).stem
        self.faces = data.training_part(data.find_data(args.data))
        if args.index >= len(self.faces):
            raise cli.UserError(f"--index {args.index} is out of range: there are {len(self.faces)} faces, "
                                f"0 to {len(self.faces) - 1}")
        self.shown = self.faces.take(slice(0, args.limit))
        self.face = models.prepare(self.faces.images[args.index:args.index + 1], self.model)[0]
        self.label = "" if self.faces.labels is None else f" ({data.CLASSES[self.faces.labels[args.index]]})"
        self.size, self.range = self.face.shape[:2], (0.0, 255.0)
        self.options = {"parametrization": args.parametrization, "steps": args.steps, "seed": args.seed,
                        "total_variation": args.tv or 0, "l2": args.l2 or 0, "jitter": args.jitter or 0}
        self.figures, self.written = models.FIGURES, []
        _, self.nodes = fv.trace(self.model, self.size)

    def path(self, kind, layer="", suffix=".png"):
        name = "_".join(filter(None, (self.name, kind, layer.replace("/", "_"))))
        self.written.append(self.figures / f"{name}{suffix}")
        return self.written[-1]

    def layers(self):
        """The layers asked for, or the end of each stage; UserError for one that has no maps."""
        from utils import feature_visualization as fv

        names = self.args.layer or fv.stage_activations(self.nodes)
        for name in names:
            if name not in fv.feature_layers(self.nodes):
                problem = "gives no maps" if name in self.nodes else "does not exist"
                raise cli.UserError(f"layer {name} {problem}; choose from {', '.join(fv.feature_layers(self.nodes))}")
        return list(dict.fromkeys(names))

    def ascend(self, layer, channels, objective, sign):
        """(Ascent, Canvas) of some filters of a layer, with a progress bar."""
        from utils import feature_visualization as fv

        canvas = fv.canvas(self.model, self.size, layer, objective)
        batches = -(-len(channels) // fv.batch_limit(canvas.network, len(channels)))
        bar = cli.Progress(label=layer, total=self.args.steps * batches)
        ascent = fv.ascend(canvas.network, channels, canvas.size, self.range, objective, sign, canvas.unit,
                           report=lambda n: bar.step(n=n), **self.options)
        bar.close()
        return ascent, canvas


# ---- filters ---------------------------------------------------------------------------------------------------


def filters(study, layers):
    """Every figure about filters: returns one summary row a layer."""
    import numpy as np

    from utils import feature_visualization as fv

    bar = cli.Progress(label="responses", total=len(study.shown))
    found = fv.responses(study.model, study.size, layers, study.shown.images, report=lambda n: bar.step(n=n))
    bar.close()
    summary = []
    for layer in layers:
        answers = found[layer]
        dead = fv.dead_filters(answers)
        labels = study.shown.labels
        eta = fv.eta_squared(answers.mean, labels) if labels is not None else np.full(len(dead), np.nan)
        order = [c for c in np.argsort(-np.nan_to_num(eta), kind="stable") if not dead[c]][:study.args.filters]
        if not order:
            print(f"{layer}: all {len(dead)} filters are dead on these {len(study.shown)} faces; nothing to show")
            continue
        field = study.nodes[layer].field
        sees = "the whole image" if field is None else "{1}x{0} px".format(*field.size)
        times = synthesise(study, layer, order, answers, eta, dead, sees)
        outputs(study, layer, order)
        if study.args.patches:
            patches(study, layer, order[:24], answers, eta, field, sees)
        summary.append([layer, len(dead), int(dead.sum()), sees, len(order), f"{np.nanmedian(times):.1f}x",
                        f"{np.nanmedian(eta[order]):.3f}" if labels is not None else "-"])
    return summary


def synthesise(study, layer, order, answers, eta, dead, sees):
    """The sheet of synthesised images and its CSV; returns how many times the data's extreme each one reached."""
    import numpy as np

    from utils.files import write_csv

    args = study.args
    signs = {"max": ["max"], "min": ["min"], "both": ["max", "min"]}[args.sign]
    extremes = {("channel", "max"): answers.mean.max(0), ("channel", "min"): answers.low_mean.min(0),
                ("neuron", "max"): answers.peak.max(0), ("neuron", "min"): answers.low_peak.min(0)}
    images, rows = [], []
    for sign in signs:
        ascent, canvas = study.ascend(layer, order, args.objective, 1 if sign == "max" else -1)
        (top, left), (bottom, right) = canvas.box
        images.append(ascent.images[:, top:bottom, left:right])
        extreme = extremes[args.objective, sign][order]
        times = np.divide(ascent.activations, extreme, out=np.full(len(order), np.nan), where=extreme != 0)
        rows += [[c, args.objective, sign, *(f"{v:.6g}" for v in numbers), args.steps, args.seed]
                 for c, *numbers in zip(order, ascent.activations, extreme, times, eta[order])]
        if args.progress and sign == signs[0]:
            progress(study, layer, order, ascent, canvas)
    header = ["filter", "objective", "sign", "activation", "data_extreme", "times_data", "eta_squared", "steps", "seed"]
    count = len(order)
    captions = []
    for i, c in enumerate(order):
        reached = " | ".join(compact(float(rows[i + k * count][3])) for k in range(len(signs)))
        times = " | ".join(f"{float(rows[i + k * count][5]):.1f}" for k in range(len(signs)))
        share = "" if np.isnan(eta[c]) else f"  η² {eta[c]:.2f}"
        captions.append(f"#{c}: {reached}\n{times}×{share}")
    what = {"channel": "mean of the map", "neuron": "middle unit"}[args.objective]
    aim = {"max": "most", "min": "least", "both": "most (left) and least (right)"}[args.sign]
    missing = f"; {dead.sum()} dead of {len(dead)} left out" if dead.any() else ""
    more = f" of {len(dead)}" if len(order) < len(dead) - dead.sum() else ""
    sheet(np.stack(images, 1), captions, study.path("filters", layer),
          f"{study.name}, {layer}: the images that excite each filter {aim}\n{what}, {args.steps} steps of ascent "
          f"({args.parametrization}); {len(order)}{more} filters, each unit sees {sees}{missing}")
    write_csv(study.path("filters", layer, ".csv"), header, rows)
    return [float(row[5]) for row in rows]


def outputs(study, layer, order):
    """What the same filters answer to one face: part (b) of the question."""
    import keras
    import numpy as np

    from utils import feature_visualization as fv
    from utils.files import write_csv

    image, nodes = fv.trace(study.model, study.size)
    maps = np.asarray(keras.Model(image, nodes[layer].output)(study.face[None], training=False), np.float32)[0]
    maps = np.moveaxis(maps, -1, 0)[order]
    captions = [f"#{c}: mean {compact(m.mean())}\nmax {compact(m.max())}" for c, m in zip(order, maps)]
    sheet(maps[:, None], captions, study.path("outputs", layer), f"{study.name}, {layer}: outputs for face {study.args.index}"
          f"{study.label}, {maps.shape[2]}x{maps.shape[1]} each", scale="activation", face=study.face[..., 0])
    write_csv(study.path("outputs", layer, ".csv"), ["filter", "mean", "maximum", "share_above_zero"],
              [[c, f"{m.mean():.6g}", f"{m.max():.6g}", f"{(m > 0).mean():.4f}"] for c, m in zip(order, maps)])


def patches(study, layer, order, answers, eta, field, sees):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    import numpy as np

    from utils import data, models
    from utils import feature_visualization as fv
    from utils.files import write_csv

    ascent, canvas = study.ascend(layer, order, "neuron", 1)
    (top, left), (bottom, right) = canvas.box
    made = ascent.images[:, top:bottom, left:right]
    groups = data.image_groups(study.shown.images)

    def face(row):
        return models.prepare(study.shown.images[row:row + 1], study.model)[0, ..., 0]

    best = [fv.top_patches(answers, c, study.args.patches, field, face, groups) for c in order]
    shape = np.max([part.shape for _, _, parts in best for part in parts] + [made.shape[1:]], 0)
    cells = np.full((len(order), 1 + max(len(rows) for rows, _, _ in best), *shape), np.nan, np.float32)
    for cell, image, (_, _, parts) in zip(cells, made, best):
        for k, part in enumerate([image, *parts]):
            y, x = (shape - part.shape) // 2
            cell[k, y:y + part.shape[0], x:x + part.shape[1]] = np.nan_to_num(part, nan=OUTSIDE)
    captions = [f"#{c}: synthesised {compact(a)}; data {compact(v[0])} to {compact(v[-1])}" +
                ("" if np.isnan(eta[c]) else f"; η² {eta[c]:.2f}") for c, a, (_, v, _) in zip(order, ascent.activations, best)]
    sheet(cells, captions, study.path("patches", layer), f"{study.name}, {layer}: the image synthesised for the middle "
          f"unit, then the patches\nof {len(study.shown)} faces that excite the filter most; each unit sees {sees} (blue: "
          "outside the face)", columns=2)
    header = ["filter", "rank", "face", "label", "activation", "y", "x"]
    labels = study.shown.labels
    rows = [[c, k + 1, row, "" if labels is None else labels[row], f"{v:.6g}", *divmod(int(answers.at[row, c]), answers.width)]
            for c, (found, values, _) in zip(order, best) for k, (row, v) in enumerate(zip(found, values))]
    write_csv(study.path("patches", layer, ".csv"), header, rows)


def progress(study, layer, order, ascent, canvas):
    """The ascent on its way: a strip of the first filters, or a GIF of all."""
    import numpy as np
    from PIL import Image

    from utils.files import replacing

    (top, left), (bottom, right) = canvas.box
    frames = ascent.snapshots[:, :, top:bottom, left:right]
    if study.args.progress == "gif":
        zoom = max(1, 96 // frames.shape[2])
        pictures = [np.nan_to_num(mosaic(frame[:, None], 8), nan=255).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
                    for frame in frames]
        with replacing(study.path("progress", layer, ".gif")) as temporary:
            first, *rest = [Image.fromarray(picture) for picture in pictures]
            first.save(temporary, save_all=True, append_images=rest, duration=[200] * len(rest) + [2000], loop=0)
        return
    keep = np.unique(np.linspace(0, len(frames) - 1, 9).round().astype(int))
    count = min(8, len(order))
    cells = frames[keep][:, :count].swapaxes(0, 1).reshape(-1, 1, *frames.shape[2:])
    captions = [f"#{c}, step {ascent.steps[k]}" for c in order[:count] for k in keep]
    sheet(cells, captions, study.path("progress", layer), f"{study.name}, {layer}: the ascent on its way", columns=len(keep))


# ---- classes, the smallest change, kernels ---------------------------------------------------------------------


def classes(study):
    """The image that maximises each class's logit, above the face of the data that does."""
    import numpy as np

    from utils import feature_visualization as fv
    from utils import models
    from utils.files import write_csv

    args, names = study.args, models.class_names(study.model)
    logits = models.logits_model(study.model)
    chosen = range(min(len(names), args.filters))
    bar = cli.Progress(label="classes", total=args.steps * -(-len(chosen) // fv.batch_limit(logits, len(chosen))))
    signs = {"max": [1], "min": [-1], "both": [1, -1]}[args.sign]
    found = [fv.ascend(logits, chosen, study.size, study.range, "channel", sign, report=lambda n: bar.step(n=n),
                       **study.options) for sign in signs]
    bar.close()
    on_data = models.predict(logits, study.shown.images, 64)
    cells, captions, rows = [], [], []
    for c in chosen:
        parts = []
        for sign, ascent in zip(signs, found):
            share = probabilities(models.predict(logits, ascent.images[c:c + 1])[0])[c]
            best = int((sign * on_data[:, c]).argmax())
            face = models.prepare(study.shown.images[best:best + 1], study.model)[0, ..., 0]
            parts += [ascent.images[c], face]
            rows.append([names[c], "max" if sign > 0 else "min", f"{ascent.activations[c]:.6g}", f"{share:.6g}", best,
                         f"{on_data[best, c]:.6g}"])
        cells.append(parts)
        reached = "; ".join(f"logit {compact(float(row[2]))}, face {compact(float(row[5]))}" for row in rows[-len(signs):])
        captions.append(f"{names[c]}: {reached}")
    aim = {"max": "maximises", "min": "minimises", "both": "maximises, then minimises,"}[args.sign]
    sheet(np.array(cells), captions, study.path("classes"), f"{study.name}: the image that {aim} each class's logit,\n"
          f"beside the face of {len(study.shown)} that does", columns=4 // len(signs))
    write_csv(study.path("classes", suffix=".csv"), ["class", "sign", "logit", "probability", "best_face", "its_logit"], rows)
    print(cli.table(rows, ["class", "sign", "logit", "probability", "best face", "its logit"]))


def adversarial(study):
    """The smallest change of one face that turns its class, and its size."""
    import matplotlib.pyplot as plt
    import numpy as np

    from utils import feature_visualization as fv
    from utils import figures, models
    from utils.files import write_csv

    names, logits = models.class_names(study.model), models.logits_model(study.model)
    face = study.face[..., 0]
    found = fv.adversarial(logits, face, study.range)
    change = found.image - face
    old, new = int(found.before.argmax()), int(found.after.argmax())
    rounded = int(models.predict(logits, np.rint(found.image)[None])[0].argmax())
    rows = []
    for name, image in (("DeepFool with bisection", found.image), ("FGSM, smallest step", found.fgsm)):
        if image is not None:
            share = probabilities(models.predict(logits, image[None])[0])
            rows.append([name, names[old], names[int(share.argmax())], f"{np.linalg.norm(image - face):.2f}",
                         f"{np.sqrt(((image - face) ** 2).mean()):.3f}", f"{np.abs(image - face).max():.2f}",
                         f"{found.before[old]:.3f}", f"{share[old]:.3f}", f"{share.max():.3f}"])
    header = ["method", "class", "turned to", "L2", "RMS", "Linf", "p before", "p after", "p of the new class"]
    print(cli.table(rows, header))
    print(f"Rounded to whole grey levels the face is {names[rounded]}.")
    limit = np.abs(change).max()
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained")
    axes[0].imshow(face, cmap="gray", vmin=0, vmax=255)
    drawn = axes[1].imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].imshow(found.image, cmap="gray", vmin=0, vmax=255)
    figure.colorbar(drawn, ax=axes[1], label="grey levels", shrink=0.8)
    axes[0].set_title(f"face {study.args.index}{study.label}:\n{names[old]} {100 * found.before[old]:.1f} %")
    axes[1].set_title(f"the change, {127 / max(limit, 1e-9):.0f}× magnified:\n"
                      f"L2 {np.linalg.norm(change):.2f}, L∞ {limit:.2f} of 255")
    axes[2].set_title(f"changed face:\n{names[new]} {100 * found.after[new]:.1f} %, "
                      f"{names[old]} {100 * found.after[old]:.1f} %")
    for ax in axes:
        ax.title.set_fontsize(8.5)
        ax.set_axis_off()
    figure.suptitle(f"{study.name}: the smallest change found that turns the class", fontsize=10)
    figures.save_figure(figure, study.path("adversarial"))
    write_csv(study.path("adversarial", suffix=".csv"), header, rows)


def kernels(study):
    """The first convolution's kernels as they are, on one symmetric scale."""
    import numpy as np

    from utils import feature_visualization as fv
    from utils.files import write_csv

    layer = next((node.layer for node in study.nodes.values() if isinstance(node.layer, fv.CONVOLUTIONS)), None)
    if layer is None:
        raise cli.UserError(f"the model has no convolution; its layers are {', '.join(study.nodes)}")
    weights = np.asarray(layer.get_weights()[0], np.float32)  # (height, width, inputs, filters)
    tiles = weights.sum(2).transpose(2, 0, 1)  # a grey face is the same in every input channel, so they add
    captions = [f"#{i}: {compact(tile.min())}\nto {compact(tile.max())}" for i, tile in enumerate(tiles)]
    several = f", summed over {weights.shape[2]} channels" if weights.shape[2] > 1 else ""
    sheet(tiles[:, None], captions, study.path("kernels"), f"{study.name}, {layer.name}: {len(tiles)} kernels of "
          f"{weights.shape[1]}x{weights.shape[0]}{several}", scale="weight")
    write_csv(study.path("kernels", suffix=".csv"), ["filter", "y", "x", "weight"],
              [[k, y, x, f"{tiles[k, y, x]:.6g}"] for k, y, x in np.ndindex(tiles.shape)])


# ---- drawing ---------------------------------------------------------------------------------------------------


def mosaic(cells, columns, below=0):
    """Cells (n, k, h, w), the k tiles of a cell side by side, as one image with NaN between and `below` rows under each."""
    import numpy as np

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


def sheet(cells, captions, path, title, columns=None, scale=None, face=None):
    """Draw cells (n, k, h, w) in a grid with a caption under each, at the size of a report's page.

    scale: None for grey images 0-255; else the colour bar's label: "activation" (viridis) or "weight" (symmetric).
    face: a grey image shown to the left of the colour bar.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    from utils import figures

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
    colors = plt.get_cmap(cmap).with_extremes(under="#BBDDF2" if scale is None else None)
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
    figures.save_figure(figure, path)


def compact(value):
    """A number in about four characters."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1 else f"{value:.2f}"


def probabilities(logits):
    """Softmax of one vector, without overflow."""
    import numpy as np

    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def main():
    args = arguments()
    cli.start_keras()
    from utils.files import shown

    study = Study(args)
    wanted = args.layer is not None or not (args.classes or args.adversarial or args.kernels)
    layers = study.layers() if wanted else []
    if args.kernels:
        kernels(study)
    if layers:
        rows = filters(study, layers)
        if rows:
            print(cli.table(rows, ["layer", "filters", "dead", "unit sees", "shown", "median of data", "median eta²"]))
    if args.classes:
        classes(study)
    if args.adversarial:
        adversarial(study)
    print("Wrote " + ", ".join(shown(path) for path in study.written))


if __name__ == "__main__":
    cli.run(main)
