"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                    each stage's filters, and their outputs for a face
    python filter_vis.py --layer conv2_relu --sign both     one layer, the minimum beside the maximum
    python filter_vis.py --objective neuron --patches       the filters' middle units, the data's best patches
    python filter_vis.py --parametrization pixel            the plain ascent of the homework
    python filter_vis.py --classes --adversarial --kernels  class images, smallest change of class, kernels

Under each tile: the filter's number, the activation reached, its ratio to the most extreme activation on the
data ("-" where no face goes beyond zero that way), and the share of the filter's variance over the data that
the classes explain (eta squared), by which tiles are sorted. Writes figures/
MODEL_filters_LAYER_OBJECTIVE_PARAMETRIZATION_SIGN_DATA.png with the 16 filters of the highest eta squared
and, of more, ..._all.png, likewise MODEL_outputs_LAYER_DATA_index-N.png and so on, other settings in the
name, and a CSV of the numbers beside each. The ascent of 32 filters takes 3 s on two cores
(benchmarks/README.md).
"""

import dataclasses
import textwrap
from pathlib import Path

import numpy as np

from utils import cli, data, files, models

BEST = 16  # filters on a sheet that fits a page
SIGNS = {"max": 1, "min": -1}
OUTSIDE_COLOR = "#BBDDF2"  # beyond the border of a face


def main(argv=None):
    """Returns {kind, or kind_layer: DataFrame} of every table, "summary" with one row a layer among them, and
    {"images_layer": synthesised images as in `draw_sheet`, in the order of "filters_layer"}. attrs["figures"]
    of a table are the paths of its figures."""
    args = parse_args(argv)
    cli.start_keras()
    study = load_study(args)
    files.check_outputs(output_paths(study))
    tables = {}
    if args.kernels:
        tables["kernels"] = show_kernels(study)
    if study.layers:
        tables |= show_filters(study)
    if args.classes:
        tables["classes"] = show_classes(study)
    if args.adversarial:
        tables["adversarial"] = show_adversarial(study)
    print("Wrote " + ", ".join(map(files.relative_path, study.written)))
    return tables


def parse_args(argv):
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--model", type=Path, help="classifier (default: models/cnn.h5, else the released one)")
    option("--data", type=cli.data_path,
           help="CSV or image folder (default: data/*.csv, else the built-in sample)")
    option("--limit", type=cli.number(int, 1), default=2000, help="faces that the filters are measured on")
    option("--index", type=cli.number(int, 0),
           help="training image, from 0, of outputs and --adversarial (default: of the first 100 the one "
                "that the network classifies correctly with the highest probability)")
    option("--layer", nargs="*", metavar="NAME",
           help="layers to show (default: the activation that ends each convolution stage)")
    option("--filters", type=cli.number(int, 1), default=64,
           help="at most so many of a layer, highest eta squared first")
    option("--objective", choices=("channel", "neuron"), default="channel",
           help="mean of the filter's map (its texture), or its middle unit (its shape)")
    option("--sign", choices=("max", "min", "both"), default="max",
           help="max: what excites the filter most; min: what inhibits it most")
    option("--parametrization", choices=("fourier", "pixel"), default="fourier",
           help="climb a smooth spectrum under random transforms, or plain pixels as in the homework")
    option("--tv", type=cli.number(float, 0), default=0, help="pixel: weight of total variation")
    option("--l2", type=cli.number(float, 0), default=0, help="pixel: weight of the distance from mid-grey")
    option("--jitter", type=cli.number(int, 0, 24), default=0, help="pixel: random shift at each step")
    option("--steps", type=cli.number(int, 1), default=200, help="steps of gradient ascent")
    option("--seed", type=cli.number(int, 0), default=0,
           help="seed of the noise and the transforms")
    option("--patches", type=cli.number(int, 1, 16), nargs="?", const=5, metavar="N",
           help="also the N (5) patches of the data that excite each filter most")
    only = parser.add_argument_group("instead of filters, unless --layer is given too")
    only.add_argument("--classes", action="store_true", help="the image that maximises each class's logit")
    only.add_argument("--adversarial", action="store_true",
                      help="the smallest change of one face that changes its predicted class")
    only.add_argument("--kernels", action="store_true", help="the first convolution's kernels as they are")
    args = parser.parse_args(argv)
    if args.parametrization != "pixel" and (args.tv or args.l2 or args.jitter):
        raise cli.UserError("--tv, --l2 and --jitter belong to --parametrization pixel")
    args.show_filters = args.layer is not None or not (args.classes or args.adversarial or args.kernels)
    if args.patches and not args.show_filters:
        raise cli.UserError("--patches is about filters; give --layer too")
    args.signs = list(SIGNS) if args.sign == "both" else [args.sign]
    args.goal = " and ".join(f"{sign}imum" for sign in args.signs)
    args.ascent = parser.changed(args, "tv", "l2", "jitter", "steps", "seed")
    args.measured = parser.changed(args, "limit", "filters")
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


@dataclasses.dataclass
class Study:
    """A network and what it is studied with.

    model: keras.Model without nested models, logits: the same without its softmax; nodes: its layers (see
    `receptive_field.trace`); layers: names of those to show; faces: `utils.data.Faces` that filters are
    measured on; face: one as the network sees it, grey float32 (h, w), and its caption; options: of
    `activation_maximization.ascend`.
    """
    args: object
    name: str
    model: object
    logits: object
    nodes: dict
    layers: list
    faces: object
    face: object
    caption: str
    options: dict
    written: list = dataclasses.field(default_factory=list)

    def path(self, kind, ending=".png"):
        """figures/MODEL_KIND_LAYER and the settings that make a difference to this kind."""
        args, measured = self.args, f"{self.args.ascent}_{self.faces.name}{self.args.measured}"
        climb = f"{args.parametrization}_{args.sign}{measured}"
        one_face = f"{self.faces.name}_index-{args.index}"
        settings = {
            "filters": f"{args.objective}_{climb}", "classes": climb,
            "patches": f"{args.patches}_{args.parametrization}{measured}", "outputs": one_face,
            "adversarial": one_face, "kernels": ""}[kind.partition("_")[0]]
        return models.FIGURES / f"{files.name_part(self.name, kind, settings)}{ending}"

    def write(self, kind, table, figures):
        """Write columns or rows as a table, and {ending: figure}; returns the table, a DataFrame."""
        import pandas as pd

        from utils.figures import write_results

        results = {self.path(kind, ending): figure for ending, figure in figures.items()}
        results[self.path(kind, ".csv")] = pd.DataFrame(table)
        self.written += results
        return write_results(results)


def load_study(args):
    """Everything that the options name. Raises UserError for layers and faces that do not exist."""
    from explain import faithfulness, receptive_field
    from explain.activation_maximization import Pixel
    from utils import structure

    path = args.model or models.default_model()
    model = models.load(path)
    _, nodes = receptive_field.trace(model)
    layers = list(dict.fromkeys(args.layer or receptive_field.stage_ends(nodes))) if args.show_filters else []
    choices = receptive_field.feature_layers(nodes)
    for name in layers:
        if name not in choices:
            problem = "gives no maps" if name in nodes else "does not exist"
            raise cli.UserError(f"layer {name} {problem}; choose from {', '.join(choices)}")
    logits = structure.logits_model(model)
    faces, (args.index,) = faithfulness.training_faces(
        logits, args.data, None if args.index is None else [args.index])
    label = "" if faces.labels is None else f" ({data.CLASSES[faces.labels[args.index]]})"
    face = models.prepare(faces.images[[args.index]], model)[0, ..., 0]
    pixels = Pixel(args.tv, args.l2, args.jitter) if args.parametrization == "pixel" else None
    options = {"parametrization": pixels, "steps": args.steps, "seed": args.seed}
    return Study(args, path.stem, model, logits, nodes, layers, faces.take(slice(0, args.limit)), face,
                 f"index {args.index}{label}", options)


def output_paths(study):
    """All files that the command may write: {path: first column of a CSV, else ""}."""
    args = study.args
    kinds = ["filters", "outputs"] + ["patches"] * bool(args.patches)
    first_columns = {f"{kind}_{layer}": "filter" for layer in study.layers for kind in kinds}
    first_columns |= {kind: first for kind, first in (("classes", "class"), ("adversarial", "method"),
                                                      ("kernels", "filter")) if getattr(args, kind)}
    return {study.path(kind, ending): first * (ending == ".csv")
            for kind, first in first_columns.items() for ending in (".png", "_all.png", ".csv")}


# ---- filters -----------------------------------------------------------------------------------------------


def show_filters(study):
    """Every figure about filters: {kind_layer: DataFrame}, and "summary" with one row a layer if any."""
    import pandas as pd

    from explain import activation_maximization as maximization

    args, faces, tables, rows = study.args, study.faces, {}, []
    is_labelled = faces.labels is not None
    measured = maximization.responses(study.model, study.layers, faces.images)
    for layer, answers in measured.items():
        dead = maximization.dead_filters(answers)
        eta = np.full(len(dead), np.nan)
        if is_labelled:
            eta = maximization.eta_squared(answers.mean, faces.labels)
        order = np.argsort(-np.nan_to_num(eta), kind="stable")  # without labels by number
        order = order[~dead[order]][:args.filters]
        if not len(order):
            print(f"{layer}: all {len(dead)} filters are dead on these {len(faces)} faces; nothing to show")
            continue
        shown = (f"of {(~dead).sum()} filters{' that are not dead' * bool(dead.any())}, "
                 + ("highest η² first" if is_labelled else "by number"))
        table, tables[f"images_{layer}"] = show_maximized(study, layer, order, answers, eta, shown)
        tables[f"filters_{layer}"] = table
        tables[f"outputs_{layer}"] = show_outputs(study, layer, order, shown)
        if args.patches:
            tables[f"patches_{layer}"] = show_patches(study, layer, order[:BEST], answers, shown)
        rows.append({"layer": layer, "filters": len(dead), "dead": dead.sum(),
                     "rare": maximization.rare_filters(answers).sum(),
                     "unit sees": field_text(study, layer), "shown": len(order),
                     "median of data": times_text(table.times_data.median()),
                     "median eta²": f"{np.median(eta[order]):.3f}" if is_labelled else "-"})
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


def times_text(times):
    """A ratio to the data, "-" for NaN."""
    return "-" if np.isnan(times) else f"{times:.1f}×"


def climb(study, canvas, channels, signs, extremes, label):
    """Images of each channel (int, n) of a canvas by gradient ascent: an Ascent for each of `signs`, and a
    DataFrame, a row a sign and channel: filter, sign, activation, data_extreme (of `extremes`, {sign: float
    (channels,)}) and times_data, their ratio, NaN where the extreme is zero or has not the sign sought."""
    import pandas as pd

    from explain import activation_maximization as maximization

    ascents = [maximization.ascend(canvas, channels, SIGNS[sign], label=label, **study.options)
               for sign in signs]
    table = pd.concat(
        pd.DataFrame({"filter": channels, "sign": sign, "activation": ascent.activations,
                      "data_extreme": extremes[sign][channels]}) for sign, ascent in zip(signs, ascents))
    extreme = table.data_extreme.where(table.sign.map(SIGNS) * table.data_extreme > 0)
    return ascents, table.assign(times_data=table.activation / extreme)


def beyond_data(study, table):
    """Whether the images of `climb` excite filters more than the data do, in words, and why if not."""
    args, lacking, rows = study.args, table[table.times_data.isna()], table.dropna(subset="times_data")
    side = " or ".join(lacking.sign.map({"max": "above", "min": "below"}).unique())
    if rows.empty:
        beyond = (lacking.sign.map(SIGNS) * lacking.activation > 0).sum()
        return (f"None of {len(study.faces):,} faces reaches a value {side} zero here, so no ratio is given; "
                f"{beyond} of {len(table)} synthesised images reach one.")
    below = rows["filter"][rows.times_data <= 1].astype(str)
    text = (f"The median synthesised image reaches {rows.times_data.median():.1f} times what the most "
            f"extreme of {len(study.faces):,} faces does; ")
    if len(lacking):
        text += f"{len(lacking)} of {len(table)} have no ratio: no face goes {side} zero; "
    if below.empty:
        return text + f"each{' other' * bool(len(lacking))} goes beyond every face."
    names = textwrap.shorten(", ".join(below.unique()), 60, placeholder=" ...")
    why = (f"{args.steps} steps are too few" if args.steps < 100 else
           "the penalties hold them back" if args.tv or args.l2 else
           "the ascent from noise ended on a lower peak" + (
               ", or smoothness and contrast hold it back" if args.parametrization == "fourier" else ""))
    return text + f"{len(below)} of {len(rows)} stay below the data ({names}): {why}."


def show_maximized(study, layer, order, answers, eta, shown):
    """The sheets of synthesised images; returns their table, one row a filter and sign, and the images."""
    from explain import activation_maximization as maximization

    args, canvas = study.args, maximization.canvas(study.model, layer, study.args.objective)
    extremes = {"max": answers.mean.max(0), "min": answers.low_mean.min(0)}
    if args.objective == "neuron":
        extremes = {"max": answers.peak.max(0), "min": answers.low_peak.min(0)}
    ascents, table = climb(study, canvas, order, args.signs, extremes, layer)
    table = table.assign(objective=args.objective, eta_squared=eta[table["filter"]], steps=args.steps,
                         seed=args.seed)

    captions, is_labelled = [], study.faces.labels is not None
    for c, rows in table.groupby("filter", sort=False):
        reached, times = map("{:.3g}".format, rows.activation), map(times_text, rows.times_data)
        share = f"  η² {eta[c]:.2f}" if is_labelled else ""
        captions.append(f"#{c}: {' | '.join(reached)}\n{' | '.join(times)}{share}")
    what = {"channel": "mean of its map", "neuron": "its middle unit"}[args.objective]
    key = (f"#filter: activation after {args.steps} steps ({args.parametrization}); ×: times the "
           f"{args.goal} of the data{'; η²: share of its variance that the classes explain' * is_labelled}")
    images = np.stack([canvas.crop(ascent.images) for ascent in ascents], 1)
    figures = draw_sheets(
        f"{study.name}, {layer}: images of each filter's {args.goal} ({what})", shown, images, captions,
        f"{key}. Each unit sees {field_text(study, layer)}. {beyond_data(study, table)}")
    return study.write(f"filters_{layer}", table, figures), images


def show_outputs(study, layer, order, shown):
    """How the same filters respond to one face: part (b) of the question."""
    import keras

    part = keras.Model(study.model.inputs[0], study.model.get_layer(layer).output)
    maps = np.asarray(part(models.prepare(study.face[None], study.model), training=False), np.float32)
    maps = np.moveaxis(maps[0], -1, 0)[order]
    mean, maximum = maps.mean((1, 2)), maps.max((1, 2))
    silent = (maximum <= 0).sum()
    conclusion = (
        (f"{silent} of these {len(maps)} filters are silent for this face; " if silent else
         f"Each of {len(maps)} filters responds to this face somewhere; ")
        + f"on average {100 * (maps > 0).mean():.0f} % of a map is above zero. "
        f"#{order[mean.argmax()]} has the highest mean response.")
    figures = draw_sheets(
        f"{study.name}, {layer}: outputs for {study.caption}, {maps.shape[2]}x{maps.shape[1]} each", shown,
        maps[:, None], [f"#{c}: mean {m.mean():.3g}\nmax {m.max():.3g}" for c, m in zip(order, maps)],
        conclusion, label="activation", face=study.face,
        cmap="viridis", vmin=min(0.0, maps.min()), vmax=np.percentile(maps, 99.5) or 1.0)
    return study.write(f"outputs_{layer}", {"filter": order, "mean": mean, "maximum": maximum,
                                            "share_above_zero": (maps > 0).mean((1, 2))}, figures)


def show_patches(study, layer, order, answers, shown):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    from explain import activation_maximization as maximization
    from explain.receptive_field import patch

    canvas = maximization.canvas(study.model, layer, "neuron")
    (ascent,), reached = climb(study, canvas, order, ["max"], {"max": answers.peak.max(0)}, layer)
    groups, labels = data.image_groups(study.faces.images), study.faces.labels
    cells, captions, table = [], [], []
    for c, image, activation in zip(order, canvas.crop(ascent.images), ascent.activations):
        rows, units = maximization.best_images(answers, c, study.args.patches, groups)
        values = answers.peak[rows, c]
        faces = models.prepare(study.faces.images[rows], study.model)[..., 0]
        patches = [patch(face, study.nodes[layer].field, unit) for face, unit in zip(faces, units)]
        missing = np.subtract(patches[0].shape, image.shape)
        image = np.pad(image, [(n // 2, n - n // 2) for n in missing], constant_values=np.nan)
        cells.append([image, *patches])
        captions.append(f"#{c}: synthesised {activation:.3g}; data {values[0]:.3g} to {values[-1]:.3g}")
        table += [{"filter": c, "rank": rank, "index": row, "label": "" if labels is None else labels[row],
                   "activation": value, "y": y, "x": x}
                  for rank, (row, value, (y, x)) in enumerate(zip(rows, values, units), 1)]
    figures = draw_sheets(
        f"{study.name}, {layer}: image of the middle unit's maximum, and the patches of "
        f"{len(study.faces):,} faces that excite it most", shown, np.array(cells), captions,
        f"Each unit sees {field_text(study, layer)} (blue: outside the face). {beyond_data(study, reached)}",
        columns=2)
    return study.write(f"patches_{layer}", table, figures)


# ---- classes, the smallest change, kernels -----------------------------------------------------------------


def show_classes(study):
    """The image that maximises each class's logit, beside the face of the data that does."""
    from explain import activation_maximization as maximization
    from explain import faithfulness

    args, logits, captions = study.args, study.logits, models.class_names(study.logits)
    on_data = models.predict(logits, study.faces.images)
    ascents, table = climb(study, maximization.Canvas(logits), np.arange(len(captions)), args.signs,
                           {"max": on_data.max(0), "min": on_data.min(0)}, "classes")
    best = {"max": on_data.argmax(0), "min": on_data.argmin(0)}
    tiles = [images for sign, ascent in zip(args.signs, ascents) for images in (
        ascent.images, models.prepare(study.faces.images[best[sign]], logits)[..., 0])]
    table.insert(0, "class", np.array(captions)[table["filter"]])
    table["probability"] = np.concatenate(
        [np.diag(faithfulness.probabilities(logits, ascent.images)) for ascent in ascents])
    table["best_index"] = np.concatenate([best[sign] for sign in args.signs])
    for row in table.itertuples():
        captions[row.filter] += f"\nlogit {row.activation:.3g}, index {row.best_index} {row.data_extreme:.3g}"
    figure = draw_sheet(
        f"{study.name}: images of the {args.goal} of each class's logit,\n"
        f"each beside the most extreme of {len(study.faces):,} faces", np.stack(tiles, 1), captions,
        beyond_data(study, table.assign(filter=table["class"])), columns=4 // len(args.signs))
    table = table.sort_index(kind="stable").drop(columns=["filter", "times_data"]).rename(
        columns={"activation": "logit", "data_extreme": "its_logit"})  # class by class
    text = table.assign(**table.select_dtypes("floating").map("{:.3g}".format))
    cli.print_table(text.rename(columns=lambda name: name.replace("_", " ")))
    return study.write("classes", table, {".png": figure})


def show_adversarial(study):
    """The smallest change of one face that changes its predicted class, and its size."""
    from explain import faithfulness
    from explain.adversarial import adversarial

    face, names, rows = np.rint(study.face), models.class_names(study.logits), []
    exact, whole, fgsm = adversarial(study.logits, face)
    before = faithfulness.probabilities(study.logits, face[None])[0]
    old = before.argmax()
    for method, image in (("DeepFool, exact", exact), ("DeepFool, whole grey levels", whole),
                          ("FGSM, whole grey levels", fgsm)):
        if image is not None:
            after, change = faithfulness.probabilities(study.logits, image[None])[0], image - face
            rows.append({"method": method, "class": names[old], "turned to": names[after.argmax()],
                         "L2": np.linalg.norm(change), "RMS": np.sqrt((change ** 2).mean()),
                         "Linf": np.abs(change).max(), "p before": before[old], "p after": after[old],
                         "p of the new class": after.max()})
    row, changed = (rows[0], exact) if whole is None else (rows[1], whole)
    conclusion = (f"{100 * (changed != face).mean():.0f} % of the pixels, changed by at most "
                  f"{row['Linf']:.2g} of 255 grey levels, change the prediction from {row['class']} to "
                  f"{row['turned to']}. ") + (
        "In whole grey levels no such small change was found: saved as an image file, the original class is "
        "predicted again."
        if whole is None else "All levels are whole, as in an image file.")
    figure = draw_adversarial(study, face, changed, row, conclusion)
    table = study.write("adversarial", rows, {".png": figure})
    cli.print_table(table.assign(**table.select_dtypes("floating").map("{:.3g}".format)))
    print(conclusion)
    return table


def show_kernels(study):
    """The first convolution's kernels as they are, on one symmetric scale."""
    from explain import receptive_field

    layer = receptive_field.first_convolution(study.nodes)
    weights = np.asarray(layer.get_weights()[0], np.float32)  # (height, width, inputs, filters)
    tiles = weights.sum(2).transpose(2, 0, 1)  # a grey face is the same in every input channel, so they add
    order = np.argsort(-np.linalg.norm(tiles, axis=(1, 2)), kind="stable")
    several = f", summed over {weights.shape[2]} channels" if weights.shape[2] > 1 else ""
    limit = np.abs(tiles).max() or 1.0
    balance = np.abs(tiles.sum((1, 2))) / np.maximum(np.abs(tiles).sum((1, 2)), 1e-12)
    figures = draw_sheets(
        f"{study.name}, {layer.name}: kernels of {weights.shape[1]}x{weights.shape[0]}{several}",
        f"of {len(tiles)} kernels, largest norm first", tiles[order, None],
        [f"#{i}: {tiles[i].min():.3g}\nto {tiles[i].max():.3g}" for i in order],
        f"In {(balance < 0.25).sum()} of {len(tiles)} kernels positive and negative weights nearly cancel: "
        "these respond to contrast, such as edges, and hardly to brightness. In "
        f"{(balance > 0.75).sum()} nearly all the weight has one sign.",
        label="weight", cmap="RdBu_r", vmin=-limit, vmax=limit)
    filters, y, x = np.indices(tiles.shape).reshape(3, -1)
    return study.write("kernels", {"filter": filters, "y": y, "x": x, "weight": tiles.ravel()}, figures)


# ---- figures -----------------------------------------------------------------------------------------------


def draw_sheets(title, shown, cells, captions, conclusion, **style):
    """{ending: figure}: a sheet of the first BEST cells and, of more, a second one of all; see `draw_sheet`.
    shown: second line of the title, after the number of cells."""
    counts = {".png": BEST} | ({"_all.png": len(cells)} if len(cells) > BEST else {})
    return {ending: draw_sheet(f"{title}\n{min(count, len(cells))} {shown}", cells[:count], captions[:count],
                               conclusion, **style) for ending, count in counts.items()}


def draw_sheet(title, cells, captions, conclusion, columns=None, label=None, face=None, **style):
    """Cells (n, k, h, w), the k tiles of each side by side, in a grid as wide as a page's column.

    Grey levels 0-255, NaN outside the face, unless `style` of imshow says otherwise. label: of a colour bar;
    face: a grey image above it. Returns a figure.
    """
    from utils.figures import WIDTH, add_conclusion, plt

    grey = {"cmap": plt.get_cmap("gray").with_extremes(bad=OUTSIDE_COLOR), "vmin": 0, "vmax": 255}
    n, k, height, width = cells.shape
    columns = min(n, columns or (6 if k == 1 else 4))
    tiles = k * 25 / 24 + 1 / 12  # a cell and the gaps in it and beside it
    side = min((WIDTH - 0.7 * bool(label)) / (columns * tiles), 1.1)  # of a tile in inches, as all below
    across, tall = side * tiles, side * height / width
    right, line = columns * across, 0.118  # height of a caption's line
    size = max(right + 0.7 * bool(label), 4)
    title = "\n".join(textwrap.fill(part, int(14.5 * size)) for part in title.split("\n"))
    down = tall + line * (1 + max(caption.count("\n") for caption in captions)) + 0.05 + side / 8
    top = 0.16 * (1.5 + title.count("\n"))
    bottom = max(top + -(-n // columns) * down, (top + 1.9) if label else 0)
    figure = plt.figure(figsize=(size, bottom))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, size), ylim=(bottom, 0))
    ax.set_axis_off()
    ax.text(0, 0, title, fontsize=8.5, va="top")
    for i, (cell, caption) in enumerate(zip(cells, captions)):
        x, y = i % columns * across, top + i // columns * down
        ax.text(x, y + tall + 0.02, caption, fontsize=7, va="top", linespacing=1.1)
        for tile in cell:
            drawn = ax.imshow(tile, extent=(x, x + side, y + tall, y), aspect="auto", **grey | style)
            x += side * 25 / 24
    if label:
        high = min(1.6, max(0.4, bottom - top - (0.35 if face is None else 1.05)))
        bar = figure.add_axes(((right + 0.08) / size, 0.2 / bottom, 0.1 / size, high / bottom))
        figure.colorbar(drawn, cax=bar, extend="max" if cells.max() > drawn.norm.vmax else "neither")
        bar.set_ylabel(label, fontsize=7.5)
        bar.tick_params(labelsize=7)
    if face is not None:
        ax.imshow(face, extent=(right + 0.04, right + 0.66, top + 0.62, top), aspect="auto", **grey)
    add_conclusion(figure, conclusion)
    return figure


def draw_adversarial(study, face, changed, row, conclusion):
    """The face, the magnified change and the changed face."""
    from utils.figures import WIDTH, add_conclusion, plt

    change = changed - face
    limit = abs(change).max()
    grey, signed = {"cmap": "gray", "vmin": 0, "vmax": 255}, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    before, after, new = (100 * row[key] for key in ("p before", "p after", "p of the new class"))
    panels = (
        (face, grey, f"{study.caption}:\n{row['class']} {before:.1f} %"),
        (change, signed,
         f"the change, {127 / limit:.0f}× magnified:\nL2 {row['L2']:.2f}, L∞ {row['Linf']:.2g} of 255"),
        (changed, grey, f"changed face: {row['turned to']} {new:.1f} %,\n{row['class']} {after:.1f} %"))
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.6), layout="constrained")
    for ax, (image, style, title) in zip(axes, panels):
        drawn = ax.imshow(image, **style)
        ax.set_title(title, fontsize=8)
        ax.set_axis_off()
        if style is signed:
            figure.colorbar(drawn, ax=ax, label="grey levels", shrink=0.8)
    figure.suptitle(f"{study.name}: smallest adversarial change found", fontsize=10)
    add_conclusion(figure, conclusion)
    return figure


if __name__ == "__main__":
    cli.run(main)
