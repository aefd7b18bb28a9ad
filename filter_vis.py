"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                    each stage's filters, and their outputs for a face
    python filter_vis.py --layer conv2_relu --sign both     one layer, the minimum beside the maximum
    python filter_vis.py --objective neuron --patches       the filters' middle units, the data's best patches
    python filter_vis.py --parametrization pixel            the plain ascent of the homework
    python filter_vis.py --classes --adversarial --kernels  class images, the least change of class, kernels

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
SIGNS = {"max": 1, "min": -1}
OUTSIDE_COLOR = "#BBDDF2"  # beyond the border of a face


def main(argv=None):
    """Returns {kind, or kind_layer: DataFrame} of every table, "summary" with one row a layer among them, and
    {"images_layer": synthesised images as in `draw_sheet`, in the order of "filters_layer"}."""
    args = parse_args(argv)
    cli.start_keras()
    study = load_study(args)
    files.check_outputs(output_paths(study, study.layers))
    tables = {}
    if args.kernels:
        tables["kernels"] = show_kernels(study)
    if study.layers:
        tables |= show_filters(study)
    if args.classes:
        tables["classes"] = show_classes(study)
    if args.adversarial:
        tables["adversarial"] = show_adversarial(study)
    shown = [layer for layer in study.layers if f"filters_{layer}" in tables]
    print("Wrote " + ", ".join(map(files.relative_path, output_paths(study, shown))))
    return tables


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
    option("--tv", type=cli.number(float, 0), default=0, help="pixel: weight of total variation")
    option("--l2", type=cli.number(float, 0), default=0, help="pixel: weight of the distance from mid-grey")
    option("--jitter", type=cli.number(int, 0, 24), default=0, help="pixel: random shift at each step")
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
    if args.parametrization != "pixel" and (args.tv or args.l2 or args.jitter):
        raise cli.UserError("--tv, --l2 and --jitter belong to --parametrization pixel")
    args.signs = list(SIGNS) if args.sign == "both" else [args.sign]
    args.goal = " and ".join(f"{sign}imum" for sign in args.signs)
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


@dataclasses.dataclass
class Study:
    """A network and what it is studied with.

    model: keras.Model without nested models; nodes: its layers (see `receptive_field.trace`); layers: names
    of those to show; faces: `utils.data.Faces` that filters are measured on; face: one as the network sees
    it, grey float32 (h, w), and its caption; options: of `activation_maximization.ascend`.
    """

    args: object
    name: str
    model: object
    nodes: dict
    layers: list
    faces: object
    face: object
    caption: str
    options: dict

    def path(self, kind, suffix=".png"):
        from utils import models

        return models.FIGURES / f"{self.name}_{kind.replace('/', '_')}{suffix}"

    def save(self, kind, table):
        """Write columns or rows as CSV, numbers with six significant digits; returns what is written."""
        import pandas as pd

        table = pd.DataFrame(table)
        for name in table.select_dtypes("floating"):
            table[name] = table[name].map("{:.6g}".format, na_action="ignore")
        files.write_table(self.path(kind, ".csv"), table)
        return table


def load_study(args):
    """Everything that the options name. Raises UserError for layers and faces that do not exist."""
    from explain import receptive_field
    from explain.activation_maximization import Fourier, Pixel
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
    faces = data.training_part(data.find_data(args.data))
    if args.index >= len(faces):
        raise cli.UserError(f"--index {args.index} is out of range: there are {len(faces)} faces, "
                            f"0 to {len(faces) - 1}")
    label = "" if faces.labels is None else f" ({data.CLASSES[faces.labels[args.index]]})"
    face = models.prepare(faces.images[[args.index]], model)[0, ..., 0]
    pixels = args.parametrization == "pixel"
    options = {"parametrization": Pixel(args.tv, args.l2, args.jitter) if pixels else Fourier(),
               "steps": args.steps, "seed": args.seed}
    return Study(args, path.stem, model, nodes, layers, faces.take(slice(0, args.limit)), face,
                 f"face {args.index}{label}", options)


def output_paths(study, layers):
    """All files that the command writes about these layers and whatever else was asked for.

    Returns {path: first column of a CSV, else ""}.
    """
    args = study.args
    kinds = ["filters", "outputs"] + ["patches"] * bool(args.patches)
    first_columns = {f"{kind}_{layer}": "filter" for layer in layers for kind in kinds}
    first_columns |= {kind: first for kind, first in (("classes", "class"), ("adversarial", "method"),
                                                      ("kernels", "filter")) if getattr(args, kind)}
    outputs = {study.path(kind, suffix): first * (suffix == ".csv")
               for kind, first in first_columns.items() for suffix in (".png", ".csv")}
    suffix = ".gif" if args.progress == "gif" else ".png"
    return outputs | {study.path(f"progress_{layer}", suffix): "" for layer in layers if args.progress}


# ---- filters -----------------------------------------------------------------------------------------------


def show_filters(study):
    """Every figure about filters: {kind_layer: DataFrame}, and "summary" with one row a layer if any."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization

    args, faces, tables, rows = study.args, study.faces, {}, []
    measured = maximization.responses(study.model, study.layers, faces.images)
    for layer, answers in measured.items():
        dead = maximization.dead_filters(answers)
        eta = np.full(len(dead), np.nan)
        if faces.labels is not None:
            eta = maximization.eta_squared(answers.mean, faces.labels)
        order = np.argsort(-np.nan_to_num(eta), kind="stable")
        order = order[~dead[order]][:args.filters]
        if not len(order):
            print(f"{layer}: all {len(dead)} filters are dead on these {len(faces)} faces; nothing to show")
            continue
        table, tables[f"images_{layer}"] = show_maximized(study, layer, order, answers, eta)
        tables[f"filters_{layer}"] = table
        tables[f"outputs_{layer}"] = show_outputs(study, layer, order)
        if args.patches:
            tables[f"patches_{layer}"] = show_patches(study, layer, order[:PATCH_FILTERS], answers)
        rows.append({"layer": layer, "filters": len(dead), "dead": dead.sum(),
                     "rare": maximization.rare_filters(answers).sum(),
                     "unit sees": field_text(study, layer), "shown": len(order),
                     "median of data": f"{pd.to_numeric(table.times_data).median():.1f}x",
                     "median eta²": "-" if faces.labels is None else f"{np.median(eta[order]):.3f}"})
    if rows:
        tables["summary"] = pd.DataFrame(rows)
        print(f"Dead: silent on all {len(faces):,} faces; rare: active on under 1 % of the images")
        cli.print_table(tables["summary"])
    return tables


def field_text(study, layer):
    """How much of the image a unit of a layer sees, in words."""
    field = study.nodes[layer].field
    if not field.is_local or (field.size >= study.model.input_shape[1:3]).all():
        return "the whole image"
    return "{1:.0f}x{0:.0f} px".format(*field.size)


def show_maximized(study, layer, order, answers, eta):
    """The sheet of synthesised images; returns its table, one row a filter and sign, and the images."""
    import numpy as np
    import pandas as pd

    from explain import activation_maximization as maximization

    args = study.args
    extremes = {("channel", "max"): answers.mean.max(0), ("channel", "min"): answers.low_mean.min(0),
                ("neuron", "max"): answers.peak.max(0), ("neuron", "min"): answers.low_peak.min(0)}
    canvas, ascents, tables = maximization.canvas(study.model, layer, args.objective), [], []
    for sign in args.signs:
        ascents.append(maximization.ascend(canvas, order, SIGNS[sign], label=layer, **study.options))
        reached, extreme = ascents[-1].activations, extremes[args.objective, sign][order]
        tables.append(pd.DataFrame({
            "filter": order, "objective": args.objective, "sign": sign, "activation": reached,
            "data_extreme": extreme, "times_data": reached / np.where(extreme == 0, np.nan, extreme),
            "eta_squared": eta[order], "steps": args.steps, "seed": args.seed}))
    table = pd.concat(tables)
    if args.progress:
        show_progress(study, layer, order, canvas.crop(ascents[0].snapshots), ascents[0].steps)

    captions, labelled = [], study.faces.labels is not None
    for c, rows in table.groupby("filter", sort=False):
        reached, times = map("{:.3g}".format, rows.activation), map("{:.1f}".format, rows.times_data)
        share = f"  η² {eta[c]:.2f}" if labelled else ""
        captions.append(f"#{c}: {' | '.join(reached)}\n{' | '.join(times)}×{share}")
    what = {"channel": "mean of the map", "neuron": "middle unit"}[args.objective]
    dead = maximization.dead_filters(answers).sum()
    images = np.stack([canvas.crop(ascent.images) for ascent in ascents], 1)
    draw_sheet(
        study.path(f"filters_{layer}"),
        f"{study.name}, {layer}: images of each filter's {args.goal} ({what})\n"
        f"{args.steps} steps of ascent ({args.parametrization}); each unit sees {field_text(study, layer)}\n"
        f"{len(order)} of {len(eta)} filters; {dead} are dead on all {len(study.faces):,} faces\n"
        f"#filter: activation; ×: times the data's {args.goal}"
        + "; η²: share of its variance that the classes explain" * labelled,
        images, captions)
    return study.save(f"filters_{layer}", table), images


def show_outputs(study, layer, order):
    """What the same filters answer to one face: part (b) of the question."""
    import keras
    import numpy as np

    from utils import models

    part = keras.Model(study.model.inputs[0], study.model.get_layer(layer).output)
    maps = np.asarray(part(models.prepare(study.face[None], study.model), training=False), np.float32)
    maps = np.moveaxis(maps[0], -1, 0)[order]
    captions = [f"#{c}: mean {m.mean():.3g}\nmax {m.max():.3g}" for c, m in zip(order, maps)]
    draw_sheet(study.path(f"outputs_{layer}"), f"{study.name}, {layer}: outputs for {study.caption}, "
               f"{maps.shape[2]}x{maps.shape[1]} each", maps[:, None], captions, "activation", study.face,
               cmap="viridis", vmin=min(0.0, maps.min()), vmax=np.percentile(maps, 99.5) or 1.0)
    return study.save(f"outputs_{layer}", {
        "filter": order, "mean": maps.mean((1, 2)), "maximum": maps.max((1, 2)),
        "share_above_zero": [f"{share:.4f}" for share in (maps > 0).mean((1, 2))]})


def show_patches(study, layer, order, answers):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    import numpy as np

    from explain import activation_maximization as maximization
    from explain.receptive_field import patch
    from utils import data, models

    canvas = maximization.canvas(study.model, layer, "neuron")
    ascent = maximization.ascend(canvas, order, label=layer, **study.options)
    groups, labels = data.image_groups(study.faces.images), study.faces.labels
    cells, captions, table = [], [], []
    for c, image, reached in zip(order, canvas.crop(ascent.images), ascent.activations):
        rows, units = maximization.best_images(answers, c, study.args.patches, groups)
        values = answers.peak[rows, c]
        faces = models.prepare(study.faces.images[rows], study.model)[..., 0]
        patches = [patch(face, study.nodes[layer].field, unit) for face, unit in zip(faces, units)]
        missing = np.subtract(patches[0].shape, image.shape)
        image = np.pad(image, [(n // 2, n - n // 2) for n in missing], constant_values=np.nan)
        cells.append([image, *patches])
        captions.append(f"#{c}: synthesised {reached:.3g}; data {values[0]:.3g} to {values[-1]:.3g}")
        table += [{"filter": c, "rank": rank, "face": row, "label": "" if labels is None else labels[row],
                   "activation": value, "y": y, "x": x}
                  for rank, (row, value, (y, x)) in enumerate(zip(rows, values, units), 1)]
    draw_sheet(study.path(f"patches_{layer}"), (
        f"{study.name}, {layer}: the image synthesised for the middle unit, then the patches\nof "
        f"{len(study.faces)} faces that excite the filter most; each unit sees {field_text(study, layer)} "
        "(blue: outside the face)"), np.array(cells), captions, columns=2)
    return study.save(f"patches_{layer}", table)


def show_progress(study, layer, order, frames, steps):
    """The ascent on its way, frames (k, n, h, w) after `steps`: a strip of the first filters, or a GIF of
    all that stays on the last for two seconds."""
    import numpy as np
    from PIL import Image, ImageOps

    if study.args.progress == "strip":
        times = np.arange(0, len(frames), -(-(len(frames) - 1) // STRIP_FRAMES) or 1)
        cells = frames[times][:, :STRIP_FILTERS].swapaxes(0, 1).reshape(-1, 1, *frames.shape[2:])
        captions = [f"#{c}, step {steps[k]}" for c in order[:STRIP_FILTERS] for k in times]
        title = f"{study.name}, {layer}: the ascent on its way ({study.args.objective} objective)"
        draw_sheet(study.path(f"progress_{layer}"), title, cells, captions, columns=len(times))
        return
    _, n, height, width = frames.shape
    columns, gap = min(n, 8), max(1, width // 8)
    tiles = np.pad(frames, [(0, 0), (0, -n % columns), (0, gap), (0, gap)], constant_values=255)
    tiles = tiles.astype(np.uint8).reshape(len(tiles), -1, columns, *tiles.shape[2:])
    sheets = [Image.fromarray(np.vstack([np.hstack(row) for row in rows])) for rows in tiles]
    first, *rest = [ImageOps.scale(sheet, max(1, 96 // height), Image.NEAREST) for sheet in sheets]
    with files.replacing(study.path(f"progress_{layer}", ".gif")) as temporary:
        first.save(temporary, save_all=True, append_images=rest, duration=[200] * len(rest) + [2000], loop=0)


# ---- classes, the smallest change, kernels -----------------------------------------------------------------


def show_classes(study):
    """The image that maximises each class's logit, beside the face of the data that does."""
    import numpy as np

    from explain import activation_maximization as maximization
    from explain import faithfulness
    from utils import models, structure

    args, logits = study.args, structure.logits_model(study.model)
    names, canvas = models.class_names(logits), maximization.Canvas(logits)
    on_data = models.predict(logits, study.faces.images)
    tiles, rows = [], []
    for sign in args.signs:
        ascent = maximization.ascend(canvas, range(len(names)), SIGNS[sign], label="classes", **study.options)
        best = (SIGNS[sign] * on_data).argmax(0)
        tiles += [ascent.images, models.prepare(study.faces.images[best], logits)[..., 0]]
        rows += [{"class": name, "sign": sign, "logit": ascent.activations[code],
                  "probability": faithfulness.probabilities(logits, ascent.images[[code]])[0, code],
                  "best_face": best[code], "its_logit": on_data[best[code], code]}
                 for code, name in enumerate(names)]
    rows.sort(key=lambda row: names.index(row["class"]))
    captions = [f"{name}: " + "; ".join(f"logit {row['logit']:.3g}, face {row['its_logit']:.3g}"
                                        for row in rows if row["class"] == name) for name in names]
    draw_sheet(study.path("classes"), f"{study.name}: images of the {args.goal} of each class's logit,\n"
               f"each beside the most extreme of {len(study.faces)} faces", np.stack(tiles, 1), captions,
               columns=4 // len(args.signs))
    table = study.save("classes", rows)
    cli.print_table(table.rename(columns=lambda name: name.replace("_", " ")))
    return table


def show_adversarial(study):
    """The smallest change of one face that turns its class, and its size."""
    import numpy as np

    from explain import faithfulness
    from explain.adversarial import adversarial
    from utils import models, structure

    logits, face = structure.logits_model(study.model), study.face
    names = models.class_names(logits)
    smallest, fgsm = adversarial(logits, face)
    before = faithfulness.probabilities(logits, face[None])[0]
    old, rows = before.argmax(), []
    for method, image in (("DeepFool with bisection", smallest), ("FGSM, smallest step", fgsm)):
        if image is not None:
            after, change = faithfulness.probabilities(logits, image[None])[0], image - face
            rows.append({"method": method, "class": names[old], "turned to": names[after.argmax()],
                         "L2": f"{np.linalg.norm(change):.2f}", "RMS": f"{np.sqrt((change ** 2).mean()):.3f}",
                         "Linf": f"{np.abs(change).max():.2f}", "p before": f"{before[old]:.3f}",
                         "p after": f"{after[old]:.3f}", "p of the new class": f"{after.max():.3f}"})
    table = study.save("adversarial", rows)
    cli.print_table(table)
    whole = models.predict(logits, np.rint(smallest)[None])[0].argmax()
    print(f"Rounded to whole grey levels the face is {names[whole]}.")
    draw_adversarial(study, smallest, rows[0])
    return table


def show_kernels(study):
    """The first convolution's kernels as they are, on one symmetric scale."""
    import numpy as np

    from explain import receptive_field

    layer = receptive_field.first_convolution(study.nodes)
    weights = np.asarray(layer.get_weights()[0], np.float32)  # (height, width, inputs, filters)
    tiles = weights.sum(2).transpose(2, 0, 1)  # a grey face is the same in every input channel, so they add
    captions = [f"#{i}: {tile.min():.3g}\nto {tile.max():.3g}" for i, tile in enumerate(tiles)]
    several = f", summed over {weights.shape[2]} channels" if weights.shape[2] > 1 else ""
    limit = np.abs(tiles).max() or 1.0
    draw_sheet(study.path("kernels"), f"{study.name}, {layer.name}: {len(tiles)} kernels of "
               f"{weights.shape[1]}x{weights.shape[0]}{several}", tiles[:, None], captions, "weight",
               cmap="RdBu_r", vmin=-limit, vmax=limit)
    filters, y, x = np.indices(tiles.shape).reshape(3, -1)
    return study.save("kernels", {"filter": filters, "y": y, "x": x, "weight": tiles.ravel()})


# ---- figures -----------------------------------------------------------------------------------------------


def draw_sheet(path, title, cells, captions, label=None, face=None, columns=None, **style):
    """Draw cells (n, k, h, w), the k tiles of each side by side, in a grid at the size of a report's page.

    Grey levels 0-255, NaN outside the face, unless `style` of imshow says otherwise. label: of a colour bar;
    face: a grey image above it.
    """
    from utils.figures import plt, save_figure

    grey = {"cmap": plt.get_cmap("gray").with_extremes(bad=OUTSIDE_COLOR), "vmin": 0, "vmax": 255}
    n, k, height, width = cells.shape
    columns = min(n, columns or max(2, 8 // k))
    tiles = k * 25 / 24 + 1 / 12  # a cell and the gaps in it and beside it
    side = min(7.2 / (columns * tiles), 1.1)  # width of a tile in inches, as everything below
    across, tall = side * tiles, side * height / width
    down = tall + 0.105 * (1 + max(caption.count("\n") for caption in captions)) + 0.03 + side / 8
    top = 0.16 * (1.5 + title.count("\n"))
    right, bottom = columns * across, top + -(-n // columns) * down
    size = right + (0.7 if label else 0), bottom
    figure = plt.figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(bottom, 0))
    ax.set_axis_off()
    ax.text(0, 0, title, fontsize=8.5, va="top")
    for i, (cell, caption) in enumerate(zip(cells, captions)):
        x, y = i % columns * across, top + i // columns * down
        ax.text(x, y + tall + 0.02, caption, fontsize=6, va="top", linespacing=1.1)
        for tile in cell:
            drawn = ax.imshow(tile, extent=(x, x + side, y + tall, y), aspect="auto", **grey | style)
            x += side * 25 / 24
    if label:
        high = min(1.6, max(0.4, bottom - top - (0.35 if face is None else 1.05)))
        bar = figure.add_axes(((right + 0.08) / size[0], 0.2 / bottom, 0.1 / size[0], high / bottom))
        figure.colorbar(drawn, cax=bar, extend="max" if cells.max() > drawn.norm.vmax else "neither")
        bar.set_ylabel(label, fontsize=7)
        bar.tick_params(labelsize=6)
    if face is not None:
        ax.imshow(face, extent=(right + 0.04, right + 0.66, top + 0.62, top), aspect="auto", **grey)
    save_figure(figure, path)


def draw_adversarial(study, changed, row):
    """The face, the magnified change and the changed face."""
    from utils.figures import plt, save_figure

    change = changed - study.face
    limit = abs(change).max()
    grey, signed = {"cmap": "gray", "vmin": 0, "vmax": 255}, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    before, after, new = (100 * float(row[key]) for key in ("p before", "p after", "p of the new class"))
    panels = (
        (study.face, grey, f"{study.caption}:\n{row['class']} {before:.1f} %"),
        (change, signed,
         f"the change, {127 / limit:.0f}× magnified:\nL2 {row['L2']}, L∞ {row['Linf']} of 255"),
        (changed, grey, f"changed face:\n{row['turned to']} {new:.1f} %, {row['class']} {after:.1f} %"))
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained")
    for ax, (image, style, title) in zip(axes, panels):
        drawn = ax.imshow(image, **style)
        ax.set_title(title, fontsize=8.5)
        ax.set_axis_off()
        if style is signed:
            figure.colorbar(drawn, ax=ax, label="grey levels", shrink=0.8)
    figure.suptitle(f"{study.name}: the smallest change found that turns the class", fontsize=10)
    save_figure(figure, study.path("adversarial"))


if __name__ == "__main__":
    cli.run(main)
