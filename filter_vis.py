"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                     every convolution stage: filters, and outputs for
    one image python filter_vis.py --layer conv2_relu --sign both      one layer, the minimum beside the
    maximum python filter_vis.py --layer --objective neuron --patches   middle unit of each filter, beside the
    data's best patches python filter_vis.py --parametrization pixel             the plain ascent of the
    homework (and --tv, --l2, --jitter) python filter_vis.py --classes --adversarial --kernels   an image of
    each class; the smallest change of class; kernels

Under each tile: the filter's number, the activation reached, how many times the data's maximum that is, and
the share of the filter's variance over the data that the classes explain (eta squared), by which tiles are
sorted. Writes figures/NAME_filters_LAYER.png, NAME_outputs_LAYER.png and so on, and a CSV of the numbers
beside each.
"""

import dataclasses
from pathlib import Path

from utils import cli, files

PATCH_FILTERS = 24  # of a layer at most, on the sheet of patches
STRIP_FILTERS, STRIP_FRAMES = 8, 8
OUTSIDE = -1.0  # the value of pixels beyond the border of a face
OUTSIDE_COLOR = "#BBDDF2"


def main(argv=None):
    """Returns {kind, or kind_layer: DataFrame} of every table, "summary" with one row a layer among them."""
    args = parse_args(argv)
    cli.start_keras()
    study = load_study(args)
    if args.kernels:
        show_kernels(study)
    if study.layers:
        show_filters(study)
    if args.classes:
        show_classes(study)
    if args.adversarial:
        show_adversarial(study)
    print("Wrote " + ", ".join(files.relative_path(path) for path in study.written))
    return study.tables


def parse_args(argv):
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--model", type=Path, help="classifier (default: models/cnn.h5, else the released one)")
    option("--data", type=cli.data_path, help="CSV or image folder (default: data/*.csv, else the sample)")
    option("--limit", type=cli.number(int, 1), default=2000, help="faces that the filters are measured on")
    option("--index", type=cli.number(int, 0), default=15, help="face, from 0, of outputs and --adversarial")
    option("--layer", nargs="*", metavar="NAME",
           help="layers to show (default: the activation that ends each convolution stage)")
    option("--filters", type=cli.number(int, 1), default=64,
           help="at most so many of a layer, highest eta squared first")
    option("--objective", choices=("channel", "neuron"), default="channel",
           help="mean of the filter's map (its texture), or its middle unit (its shape)")
    option("--sign", choices=("max", "min", "both"), default="max", help="what excites, what inhibits")
    option("--parametrization", choices=("fourier", "pixel"), default="fourier",
           help="climb a smooth spectrum under random transforms, or plain pixels as in the homework")
    option("--tv", type=cli.number(float, 0), help="pixel: weight of total variation (default 0)")
    option("--l2", type=cli.number(float, 0), help="pixel: weight of the distance from mid-grey (default 0)")
    option("--jitter", type=cli.number(int, 0, 24), help="pixel: random shift at each step (default 0)")
    option("--steps", type=cli.number(int, 1), default=200, help="of gradient ascent")
    option("--seed", type=cli.number(int, 0, 2 ** 31 - 1), default=0, help="of the noise and the transforms")
    option("--progress", choices=("strip", "gif"), help="also show the ascent on its way")
    option("--patches", type=cli.number(int, 1, 16), nargs="?", const=5, metavar="N",
           help="also the N (5) patches of the data that excite each filter most")
    only = parser.add_argument_group("instead of filters, unless --layer is given too")
    only.add_argument("--classes", action="store_true", help="the image that maximises each class's logit")
    only.add_argument("--adversarial", action="store_true",
                      help="the smallest change of one face that turns its class")
    only.add_argument("--kernels", action="store_true", help="the first convolution's kernels as they are")
    args = parser.parse_args(argv)
    if args.parametrization != "pixel" and (args.tv, args.l2, args.jitter) != (None, None, None):
        raise cli.UserError("--tv, --l2 and --jitter belong to --parametrization pixel")
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


@dataclasses.dataclass
class Study:
    """A network and what it is studied with.

    model: keras.Model without nested models; nodes: its layers (see `receptive_field.trace`); layers: names
    of those to show; faces: `utils.data.Faces` that filters are measured on; face: float32 (h, w, c), and its
    caption; options: of the ascent; tables and written: results so far.
    """

    args: object
    name: str
    model: object
    nodes: dict
    layers: list
    faces: object
    face: object
    caption: str
    options: object
    tables: dict = dataclasses.field(default_factory=dict)
    written: list = dataclasses.field(default_factory=list)

    def path(self, kind, suffix=".png"):
        """The path of a figure, noted as written."""
        self.written.append(output_path(self.name, kind, suffix))
        return self.written[-1]

    def save(self, kind, table):
        """Write a table and keep it as a result."""
        self.tables[kind] = table
        files.write_table(self.path(kind, ".csv"), table)

    def grey(self, row):
        """One of the faces as the network sees it: float32 (h, w)."""
        from utils import models

        return models.prepare(self.faces.images[row:row + 1], self.model)[0, ..., 0]


def load_study(args):
    """Everything that the options name. Raises UserError for layers and faces that do not exist."""
    from explain import receptive_field
    from explain.activation_maximization import Options
    from utils import data, models

    path = args.model or models.default_model()
    model = models.load(path)
    _, nodes = receptive_field.trace(model)
    filters_too = args.layer is not None or not (args.classes or args.adversarial or args.kernels)
    layers = list(dict.fromkeys(args.layer or receptive_field.stage_ends(nodes))) if filters_too else []
    choices = receptive_field.feature_layers(nodes)
    for name in layers:
        if name not in choices:
            problem = "gives no maps" if name in nodes else "does not exist"
            raise cli.UserError(f"layer {name} {problem}; choose from {', '.join(choices)}")
    if args.kernels:
        receptive_field.first_convolution(nodes)
    files.check_outputs(output_paths(args, path.stem, layers))
    faces = data.training_part(data.find_data(args.data))
    if args.index >= len(faces):
        raise cli.UserError(f"--index {args.index} is out of range: there are {len(faces)} faces, "
                            f"0 to {len(faces) - 1}")
    label = "" if faces.labels is None else f" ({data.CLASSES[faces.labels[args.index]]})"
    penalties = args.tv or 0, args.l2 or 0, args.jitter or 0
    options = Options(args.parametrization, args.steps, args.seed, *penalties)
    face = models.prepare(faces.images[args.index:args.index + 1], model)[0]
    return Study(args, path.stem, model, nodes, layers, faces.take(slice(0, args.limit)), face,
                 f"face {args.index}{label}", options)


def output_path(name, kind, suffix=".png"):
    from utils import models

    return models.FIGURES / f"{name}_{kind.replace('/', '_')}{suffix}"


def output_paths(args, name, layers):
    """All files that the command may write."""
    kinds = ["filters", "outputs"] + ["patches"] * bool(args.patches)
    kinds = [f"{kind}_{layer}" for layer in layers for kind in kinds]
    kinds += [kind for kind in ("classes", "adversarial", "kernels") if getattr(args, kind)]
    ascent = [output_path(name, f"progress_{layer}", ".gif" if args.progress == "gif" else ".png")
              for layer in layers if args.progress]
    return [output_path(name, kind, suffix) for kind in kinds for suffix in (".png", ".csv")] + ascent


# ---- filters -----------------------------------------------------------------------------------------------


def show_filters(study):
    """Every figure about filters, and one summary row a layer."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization

    faces, rows = study.faces, []
    answers_of = maximization.responses(study.model, study.layers, faces.images)
    for layer in study.layers:
        answers = answers_of[layer]
        dead = maximization.dead_filters(answers)
        eta = np.full(len(dead), np.nan)
        if faces.labels is not None:
            eta = maximization.eta_squared(answers.mean, faces.labels)
        order = np.argsort(-np.nan_to_num(eta), kind="stable")
        order = [c for c in order if not dead[c]][:study.args.filters]
        if not order:
            print(f"{layer}: all {len(dead)} filters are dead on these {len(faces)} faces; nothing to show")
            continue
        table = show_maximized(study, layer, order, answers, eta)
        show_outputs(study, layer, order)
        if study.args.patches:
            show_patches(study, layer, order[:PATCH_FILTERS], answers, eta)
        rows.append({"layer": layer, "filters": len(dead), "dead": int(dead.sum()),
                     "rare": int(maximization.rare_filters(answers).sum()),
                     "unit sees": field_text(study, layer), "shown": len(order),
                     "median of data": f"{table.times_data.median():.1f}x",
                     "median eta²": "-" if faces.labels is None else f"{np.median(eta[order]):.3f}"})
    if rows:
        study.tables["summary"] = pd.DataFrame(rows)
        print(f"Dead: silent on all {len(faces):,} faces; rare: active on under 1 % of the images")
        cli.print_table(study.tables["summary"])


def field_text(study, layer):
    """How much of the image a unit of a layer sees, in words."""
    field = study.nodes[layer].field
    if not field.is_local or (field.size >= study.model.input_shape[1:3]).all():
        return "the whole image"
    return "{1:.0f}x{0:.0f} px".format(*field.size)


def show_maximized(study, layer, order, answers, eta):
    """The sheet of synthesised images and its table, one row a filter and sign."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization

    args = study.args
    signs = {"max": ["max"], "min": ["min"], "both": ["max", "min"]}[args.sign]
    extremes = {("channel", "max"): answers.mean.max(0), ("channel", "min"): answers.low_mean.min(0),
                ("neuron", "max"): answers.peak.max(0), ("neuron", "min"): answers.low_peak.min(0)}
    canvas = maximization.canvas(study.model, layer, args.objective)
    ascents = {sign: maximization.ascend(canvas, order, 1 if sign == "max" else -1, study.options, layer)
               for sign in signs}
    table = pd.concat([pd.DataFrame({
        "filter": order, "objective": args.objective, "sign": sign, "activation": ascent.activations,
        "data_extreme": extremes[args.objective, sign][order], "eta_squared": eta[order], "steps": args.steps,
        "seed": args.seed}) for sign, ascent in ascents.items()])
    table.insert(5, "times_data", table.activation / table.data_extreme.where(table.data_extreme != 0))
    study.save(f"filters_{layer}", table.apply(rounded))
    if args.progress:
        show_progress(study, layer, order, ascents[signs[0]], canvas)

    captions = []
    for c, rows in table.groupby("filter", sort=False):
        share = "" if np.isnan(eta[c]) else f"  η² {eta[c]:.2f}"
        captions.append(f"#{c}: {' | '.join(map(compact, rows.activation))}\n"
                        f"{' | '.join(map('{:.1f}'.format, rows.times_data))}×{share}")
    alive = len(eta) - maximization.dead_filters(answers).sum()
    what = {"channel": "mean of the map", "neuron": "middle unit"}[args.objective]
    aim = {"max": "most", "min": "least", "both": "most (left) and least (right)"}[args.sign]
    missing = ""
    if alive < len(eta):
        missing = (f"\nleft out: {len(eta) - alive} of {len(eta)} filters, "
                   f"dead on all {len(study.faces):,} faces")
    explained = "" if np.isnan(eta).all() else "; η²: share of its variance that the classes explain"
    more = f" of {len(eta)}" if len(order) < alive else ""
    images = np.stack([canvas.crop(ascent.images) for ascent in ascents.values()], 1)
    draw_sheet(images, captions, study.path(f"filters_{layer}"), (
        f"{study.name}, {layer}: the images that excite each filter {aim}\n"
        f"{what}, {args.steps} steps of ascent ({args.parametrization}); {len(order)}{more} filters, "
        f"each unit sees {field_text(study, layer)}"
        f"{missing}\n"
        f"#filter: activation; ×: times the data's {args.sign.replace('both', 'max or min')}imum{explained}"))
    return table


def show_outputs(study, layer, order):
    """What the same filters answer to one face: part (b) of the question."""
    import keras
    import numpy as np
    import pandas as pd

    part = keras.Model(study.model.inputs[0], study.model.get_layer(layer).output)
    maps = np.asarray(part(study.face[None], training=False), np.float32)[0]
    maps = np.moveaxis(maps, -1, 0)[order]
    captions = [f"#{c}: mean {compact(m.mean())}\nmax {compact(m.max())}" for c, m in zip(order, maps)]
    draw_sheet(maps[:, None], captions, study.path(f"outputs_{layer}"), f"{study.name}, {layer}: outputs for "
               f"{study.caption}, {maps.shape[2]}x{maps.shape[1]} each", scale="activation",
               face=study.face[..., 0])
    study.save(f"outputs_{layer}", pd.DataFrame({
        "filter": order, "mean": rounded(maps.mean((1, 2))), "maximum": rounded(maps.max((1, 2))),
        "share_above_zero": [f"{share:.4f}" for share in (maps > 0).mean((1, 2))]}))


def show_patches(study, layer, order, answers, eta):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization
    from utils import data

    canvas = maximization.canvas(study.model, layer, "neuron")
    ascent = maximization.ascend(canvas, order, 1, study.options, layer)
    groups, labels = data.image_groups(study.faces.images), study.faces.labels
    field = study.nodes[layer].field
    cells, captions, tables = [], [], []
    for c, image, reached in zip(order, canvas.crop(ascent.images), ascent.activations):
        rows, values, parts = maximization.top_patches(answers, c, study.args.patches, field, study.grey,
                                                       groups)
        share = "" if np.isnan(eta[c]) else f"; η² {eta[c]:.2f}"
        captions.append(f"#{c}: synthesised {compact(reached)}; data {compact(values[0])} to "
                        f"{compact(values[-1])}{share}")
        cells.append([image, *parts])
        y, x = np.divmod(answers.at[rows, c], answers.width)
        tables.append(pd.DataFrame({
            "filter": c, "rank": range(1, len(rows) + 1), "face": rows,
            "label": "" if labels is None else labels[rows], "activation": rounded(values), "y": y, "x": x}))
    study.save(f"patches_{layer}", pd.concat(tables))
    draw_sheet(padded(cells), captions, study.path(f"patches_{layer}"), (
        f"{study.name}, {layer}: the image synthesised for the middle unit, then the patches\nof "
        f"{len(study.faces)} faces that excite the filter most; each unit sees {field_text(study, layer)} "
        "(blue: outside the face)"), columns=2)


def show_progress(study, layer, order, ascent, canvas):
    """The ascent on its way: a strip of the first filters, or a GIF of all."""
    import numpy as np

    frames = canvas.crop(ascent.snapshots)
    if study.args.progress == "gif":
        write_animation(frames, study.path(f"progress_{layer}", ".gif"))
        return
    times = np.arange(0, len(frames), -(-(len(frames) - 1) // STRIP_FRAMES) or 1)
    cells = frames[times][:, :STRIP_FILTERS].swapaxes(0, 1).reshape(-1, 1, *frames.shape[2:])
    captions = [f"#{c}, step {ascent.steps[k]}" for c in order[:STRIP_FILTERS] for k in times]
    title = f"{study.name}, {layer}: the ascent on its way ({study.args.objective} objective)"
    draw_sheet(cells, captions, study.path(f"progress_{layer}"), title, columns=len(times))


# ---- classes, the smallest change, kernels -----------------------------------------------------------------


def show_classes(study):
    """The image that maximises each class's logit, above the face of the data that does."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization
    from explain import faithfulness
    from utils import models, structure

    args, logits = study.args, structure.logits_model(study.model)
    names = models.class_names(logits)
    chosen = range(min(len(names), args.filters))
    signs = {"max": [1], "min": [-1], "both": [1, -1]}[args.sign]
    place = maximization.Canvas(logits, logits.input_shape[1:3])
    ascents = [maximization.ascend(place, chosen, sign, study.options, "classes") for sign in signs]
    on_data = models.predict(logits, study.faces.images, 64)
    cells, captions, rows = [], [], []
    for c in chosen:
        parts = []
        for sign, ascent in zip(signs, ascents):
            share = faithfulness.probabilities(logits, ascent.images[c:c + 1])[0, c]
            best = int((sign * on_data[:, c]).argmax())
            parts += [ascent.images[c], study.grey(best)]
            rows.append({"class": names[c], "sign": "max" if sign > 0 else "min",
                         "logit": ascent.activations[c], "probability": share, "best_face": best,
                         "its_logit": on_data[best, c]})
        cells.append(parts)
        captions.append(f"{names[c]}: " + "; ".join(
            f"logit {compact(row['logit'])}, face {compact(row['its_logit'])}" for row in rows[-len(signs):]))
    table = pd.DataFrame(rows).apply(rounded)
    study.save("classes", table)
    cli.print_table(table.rename(columns=lambda name: name.replace("_", " ")))
    aim = {"max": "maximises", "min": "minimises", "both": "maximises, then minimises,"}[args.sign]
    title = (f"{study.name}: the image that {aim} each class's logit,\n"
             f"beside the face of {len(study.faces)} that does")
    draw_sheet(np.array(cells), captions, study.path("classes"), title, columns=4 // len(signs))


def show_adversarial(study):
    """The smallest change of one face that turns its class, and its size."""
    import numpy as np
    import pandas as pd

    from explain import faithfulness
    from explain.adversarial import adversarial
    from utils import models, structure

    logits = structure.logits_model(study.model)
    names, face = models.class_names(logits), study.face[..., 0]
    result = adversarial(logits, face)
    old, rows = int(result.before.argmax()), []
    for method, image in (("DeepFool with bisection", result.image), ("FGSM, smallest step", result.fgsm)):
        if image is not None:
            share = faithfulness.probabilities(logits, image[None])[0]
            change = image - face
            rows.append({"method": method, "class": names[old], "turned to": names[int(share.argmax())],
                         "L2": f"{np.linalg.norm(change):.2f}", "RMS": f"{np.sqrt((change ** 2).mean()):.3f}",
                         "Linf": f"{np.abs(change).max():.2f}", "p before": f"{result.before[old]:.3f}",
                         "p after": f"{share[old]:.3f}", "p of the new class": f"{share.max():.3f}"})
    study.save("adversarial", pd.DataFrame(rows))
    cli.print_table(study.tables["adversarial"])
    whole = int(models.predict(logits, np.rint(result.image)[None])[0].argmax())
    print(f"Rounded to whole grey levels the face is {names[whole]}.")
    draw_adversarial(study, result, names)


def show_kernels(study):
    """The first convolution's kernels as they are, on one symmetric scale."""
    import numpy as np
    import pandas as pd

    from explain import receptive_field

    layer = receptive_field.first_convolution(study.nodes)
    weights = np.asarray(layer.get_weights()[0], np.float32)  # (height, width, inputs, filters)
    tiles = weights.sum(2).transpose(2, 0, 1)  # a grey face is the same in every input channel, so they add
    captions = [f"#{i}: {compact(tile.min())}\nto {compact(tile.max())}" for i, tile in enumerate(tiles)]
    several = f", summed over {weights.shape[2]} channels" if weights.shape[2] > 1 else ""
    size = f"{weights.shape[1]}x{weights.shape[0]}"
    draw_sheet(tiles[:, None], captions, study.path("kernels"),
               f"{study.name}, {layer.name}: {len(tiles)} kernels of {size}{several}", scale="weight")
    index = np.indices(tiles.shape).reshape(3, -1)
    study.save("kernels", pd.DataFrame({"filter": index[0], "y": index[1], "x": index[2],
                                        "weight": rounded(tiles.ravel())}))


# ---- figures -----------------------------------------------------------------------------------------------


def rounded(values):
    """Numbers with six significant digits as text; anything else as it is."""
    import numpy as np

    values = np.asarray(values)
    return ["" if np.isnan(v) else f"{v:.6g}" for v in values] if values.dtype.kind == "f" else values


def compact(value):
    """A number in about four characters."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1 else f"{value:.2f}"


def mosaic(cells, columns, below=0):
    """Cells (n, k, h, w), the k tiles of a cell side by side, as one image with NaN between and `below` rows
    under each; and the corner (x, y) of each caption in it."""
    import numpy as np

    n, k, height, width = cells.shape
    gap, seam = max(1, round(width / 8)), max(1, round(width / 24))
    across, down = k * (width + seam) - seam + gap, height + below + gap
    image = np.full((-(-n // columns) * down - gap, columns * across - gap), np.nan, np.float32)
    corners = []
    for i, cell in enumerate(cells):
        y, x = i // columns * down, i % columns * across
        corners.append((x, y + height))
        for j, tile in enumerate(cell):
            left = x + j * (width + seam)
            image[y:y + height, left:left + width] = tile
    return image, corners


def padded(cells):
    """Lists of tiles of different sizes (float (h, w), NaN outside the face) as one array (n, k, H, W), each
    in the middle of its place: what is NaN in a tile is marked as outside, the rest of a place stays
    empty."""
    import numpy as np

    height, width = np.max([tile.shape for cell in cells for tile in cell], 0)
    result = np.full((len(cells), max(map(len, cells)), height, width), np.nan, np.float32)
    for places, cell in zip(result, cells):
        for place, tile in zip(places, cell):
            y, x = (height - tile.shape[0]) // 2, (width - tile.shape[1]) // 2
            place[y:y + tile.shape[0], x:x + tile.shape[1]] = np.nan_to_num(tile, nan=OUTSIDE)
    return result


def write_animation(frames, path):
    """Write grey frames (k, n, h, w) as a GIF of sheets that stays on the last for two seconds."""
    import numpy as np
    from PIL import Image

    zoom = max(1, 96 // frames.shape[2])
    sheets = [np.nan_to_num(mosaic(frame[:, None], 8)[0], nan=255).astype(np.uint8) for frame in frames]
    first, *rest = [Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1)) for sheet in sheets]
    with files.replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=[200] * len(rest) + [2000], loop=0)


def draw_sheet(cells, captions, path, title, columns=None, scale=None, face=None):
    """Draw cells (n, k, h, w) in a grid with a caption under each, at the size of a report's page.

    scale: None for grey images 0-255; else the colour bar's label, "activation" or "weight" (symmetric).
    face: a grey image above the colour bar.
    """
    import numpy as np

    from utils.figures import plt, save_figure

    enlarge = max(1, round(48 / cells.shape[3]))  # gaps and captions do not depend on the size of the tiles
    cells = cells.repeat(enlarge, 2).repeat(enlarge, 3)
    n, k, _, width = cells.shape
    columns = min(n, columns or max(2, 8 // k))
    unit = width / min(7.2 / (columns * (k * 1.06 + 0.12)), 1.1)  # pixels an inch
    lines = 1 + max(caption.count("\n") for caption in captions)
    image, corners = mosaic(cells, columns, round((0.105 * lines + 0.03) * unit))
    high, wide = np.array(image.shape) / unit
    total = wide + (0.75 if scale else 0.0), high + 0.16 * (1.5 + title.count("\n"))
    figure = plt.figure(figsize=total)

    def axes_at(left, bottom, width, height):  # in inches
        return figure.add_axes((left / total[0], bottom / total[1], width / total[0], height / total[1]))

    finite = cells[np.isfinite(cells)]
    low, top, cmap = 0.0, 255.0, plt.get_cmap("gray").with_extremes(under=OUTSIDE_COLOR)
    if scale == "activation":
        low, top, cmap = min(0.0, float(finite.min())), float(np.percentile(finite, 99.5)) or 1.0, "viridis"
    elif scale == "weight":
        top, cmap = float(np.abs(finite).max()) or 1.0, "RdBu_r"
        low = -top
    ax = axes_at(0, 0, wide, high)
    drawn = ax.imshow(image, cmap=cmap, vmin=low, vmax=top, aspect="equal",
                      extent=(0, image.shape[1], image.shape[0], 0))
    ax.set_axis_off()
    for (x, y), caption in zip(corners, captions):
        ax.text(x, y + 0.02 * unit, caption, fontsize=6, va="top", linespacing=1.1)
    if scale:
        room = high - 0.25 - (0.1 if face is None else 0.8)
        bar = axes_at(total[0] - 0.62, 0.2, 0.1, min(1.6, max(0.4, room)))
        figure.colorbar(drawn, cax=bar, extend="max" if scale == "activation" else "neither")
        bar.set_ylabel(scale, fontsize=7)
        bar.tick_params(labelsize=6)
    if face is not None:
        inset = axes_at(total[0] - 0.66, high - 0.62, 0.62, 0.62)
        inset.imshow(face, cmap="gray", vmin=0, vmax=255)
        inset.set_axis_off()
    figure.text(0, 1, title, fontsize=8.5, va="top")
    save_figure(figure, path)


def draw_adversarial(study, result, names):
    """The face, the magnified change and the changed face."""
    import numpy as np

    from utils.figures import plt, save_figure

    face = study.face[..., 0]
    change = result.image - face
    limit = np.abs(change).max()
    old, new = int(result.before.argmax()), int(result.after.argmax())
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained")
    axes[0].imshow(face, cmap="gray", vmin=0, vmax=255)
    drawn = axes[1].imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].imshow(result.image, cmap="gray", vmin=0, vmax=255)
    figure.colorbar(drawn, ax=axes[1], label="grey levels", shrink=0.8)
    before, after = 100 * result.before, 100 * result.after
    titles = (f"{study.caption}:\n{names[old]} {before[old]:.1f} %",
              f"the change, {127 / max(limit, 1e-9):.0f}× magnified:\n"
              f"L2 {np.linalg.norm(change):.2f}, L∞ {limit:.2f} of 255",
              f"changed face:\n{names[new]} {after[new]:.1f} %, {names[old]} {after[old]:.1f} %")
    for ax, title in zip(axes, titles):
        ax.set_title(title, fontsize=8.5)
        ax.set_axis_off()
    figure.suptitle(f"{study.name}: the smallest change found that turns the class", fontsize=10)
    save_figure(figure, study.path("adversarial"))


if __name__ == "__main__":
    cli.run(main)
