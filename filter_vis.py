"""Question 5: which image excites each filter most? Gradient ascent, beside the data that excite it.

    python filter_vis.py                                    each stage's filters, and their outputs for a face
    python filter_vis.py --layer conv2_relu --sign both     one layer, the minimum beside the maximum
    python filter_vis.py --objective neuron --patches       the filters' middle units, the data's best patches
    python filter_vis.py --parametrization pixel            the plain ascent of the homework
    python filter_vis.py --classes                          the image that maximises each class's logit

Under each image: the filter's number, the activation reached, its ratio to the most extreme activation on the
data ("-" where no face goes beyond zero that way), and the share of the filter's variance over the data that
the classes explain (eta squared), by which images are sorted. The CSV also says what an image looks like:
how strongly it has one direction, which, how fine its stripes are, how light it is. Writes
figures/MODEL_filters_LAYER_DATA.png with the 16 filters of the highest eta squared and, of more, ..._all.png,
likewise MODEL_outputs_LAYER_DATA.png and so on, settings that are not at their defaults in the name, and a
CSV of the numbers beside each. The ascent of 32 filters takes 3 s on two cores (benchmarks/README.md).
"""

import dataclasses
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, data, files, models

BEST = 16  # filters on a sheet that fits a page
SIGNS = {"max": 1, "min": -1}


def main(argv=None):
    """Returns {kind, or kind_layer: DataFrame} of every table, "summary" with one row per layer among them,
    and {"images_layer": synthesised images as in `draw_sheet`, in the order of "filters_layer"}.
    attrs["figures"] of a table are the paths of its figures."""
    args, changed = parse_args(argv)
    cli.start_keras()
    study = load_study(args, changed)
    kinds = ["filters", "outputs"] + ["patches"] * bool(args.patches)
    kinds = [f"{kind}_{layer}" for layer in study.layers for kind in kinds] + ["classes"] * args.classes
    files.check_outputs([study.path(kind, end) for kind in kinds for end in (".png", "_all.png", ".csv")])
    tables = show_filters(study) if study.layers else {}
    if args.classes:
        tables["classes"] = show_classes(study)
    cli.print_written(study.written)
    return tables


def parse_args(argv):
    """The options, and those of their values that are not at the default, for file names."""
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--model", type=Path, help="classifier (default: models/cnn.h5, else the released one)")
    option("--data", type=cli.data_path,
           help="CSV or image folder (default: data/*.csv, else the built-in sample)")
    option("--limit", type=cli.number(int, 1), default=2000,
           help="how many faces, drawn at random, the filters are measured on")
    option("--index", type=cli.number(int, 0),
           help="training image, from 0, whose outputs are shown (default: of the first 100 the one that the "
                "network classifies correctly with the highest probability)")
    option("--layer", nargs="*", metavar="NAME",
           help="layers to show (default: the activation that ends each convolution stage)")
    option("--filters", type=cli.number(int, 1), default=64,
           help="at most so many of a layer, highest eta squared first")
    option("--objective", choices=("channel", "neuron"), default="channel",
           help="mean of the filter's map (its texture), or its middle unit (its shape)")
    option("--sign", choices=("max", "min", "both"), default="max",
           help="max: what excites the filter most; min: what inhibits it most")
    option("--parametrization", choices=("fourier", "pixel"), default="fourier",
           help="ascend in a smooth spectrum under random transforms, or in plain pixels as in the homework")
    option("--steps", type=cli.number(int, 1), default=200, help="steps of gradient ascent")
    option("--seed", type=cli.number(int, 0), default=0, help="seed of the noise and the transforms")
    option("--patches", type=cli.number(int, 1, 16), nargs="?", const=5, metavar="N",
           help="also the N (5) patches of the data that excite each filter most")
    option("--classes", action="store_true",
           help="the image that maximises each class's logit, instead of filters unless --layer is given too")
    cli.add_out_folder(parser)
    args = parser.parse_args(argv)
    if args.patches and args.classes and args.layer is None:
        raise cli.UserError("--patches is about filters; give --layer too")
    return args, parser.changed(args, "objective", "parametrization", "sign", "steps", "seed", "index",
                                "patches", "limit", "filters")


@dataclasses.dataclass(frozen=True)
class Study:
    """A network and what it is studied with."""

    args: object  # as `parse_args` returns it, like the next one
    changed: str
    signs: list  # of the ascents
    goal: str  # these in words
    name: str  # of the model, for files
    title: str  # of the model, for people
    model: object  # a keras.Model without nested models
    fields: dict  # {layer: `receptive_field.Field`}
    layers: list  # names of those to show
    faces: data.Faces  # that filters are measured on; `ids` are their numbers as training images
    face: data.Faces  # the one whose outputs are shown
    written: list = dataclasses.field(default_factory=list)  # paths, in order

    def path(self, kind, ending):
        """MODEL_KIND_LAYER, the data and the settings in the folder of results."""
        name = files.name_part(self.name, kind, self.faces.name + self.changed)
        return self.args.out_folder / (name + ending)


def load_study(args, changed):
    """Everything that the options name. Raises UserError for layers and faces that do not exist."""
    from explain import receptive_field, subjects
    from utils import structure

    path = args.model or models.default_model()
    model = models.load(path)
    fields, layers = receptive_field.fields(model), []
    if args.layer is not None or not args.classes:
        layers = list(dict.fromkeys(args.layer or receptive_field.stage_ends(model)))
    for name in layers:
        if name not in fields:
            raise cli.UserError(f"no layer {name!r} with feature maps; choose from {', '.join(fields)}")
    faces, rows = subjects.training_faces(structure.logits_model(model), args.data,
                                          None if args.index is None else [args.index])
    faces.ids = np.arange(len(faces))
    signs = list(SIGNS) if args.sign == "both" else [args.sign]
    goal = " and ".join(f"{sign}imum" for sign in signs)
    return Study(args, changed, signs, goal, files.model_name(path), models.title(path), model, fields,
                 layers, data.draw_sample(faces, args.limit), faces.take(rows))


def show_filters(study):
    """Every figure about filters; returns what `main` does of them."""
    from explain import activation_maximization as maximization

    args, faces, tables, rows = study.args, study.faces, {}, []
    measured = maximization.measure_responses(study.model, study.layers, faces.images)
    for layer, responses in measured.items():
        dead, rare = maximization.dead_and_rare(responses)
        eta = (np.full(len(dead), np.nan) if faces.labels is None else
               maximization.eta_squared(responses.mean, faces.labels))
        order = np.argsort(-np.nan_to_num(eta), kind="stable")  # without labels by number
        order = order[~dead[order]][:args.filters]
        if not len(order):
            print(f"{layer}: all {len(dead)} filters are dead on these {len(faces)} faces; nothing to show")
            continue
        shown = (f"{{}} of {(~dead).sum()} filters{' that are not dead' * bool(dead.any())}, "
                 + ("by number" if faces.labels is None else "highest η² first"))
        table, tables[f"images_{layer}"] = show_maximized(study, layer, order, responses, eta, shown)
        tables[f"filters_{layer}"] = table
        tables[f"outputs_{layer}"] = show_outputs(study, layer, order, shown)
        if args.patches:
            tables[f"patches_{layer}"] = show_patches(study, layer, order[:BEST], responses, shown)
        rows.append({"layer": layer, "filters": len(dead), "dead": dead.sum(), "rare": rare.sum(),
                     "unit sees": field_text(study, layer), "shown": len(order),
                     "times the data": times_text(table.times_data.median()),
                     "stripes": f"{table.stripes.sum()} of {len(table)}"})
    if rows:
        tables["summary"] = pd.DataFrame(rows)
        print(f"Dead: silent on all {len(faces):,} faces; rare: active on under 1 %; times the data:\n"
              "the image's activation over the most extreme face's, median; stripes: images of one direction")
        cli.print_table(tables["summary"].drop(columns=["unit sees", "shown"]))
    return tables


def sees_all(study, layer):
    """Whether a unit of a layer sees the whole image."""
    field = study.fields[layer]
    return not field.is_local or (field.size >= study.model.input_shape[1:3]).all()


def field_text(study, layer):
    """How much of the image a unit of a layer sees, in words."""
    size = "{1:.0f}×{0:.0f} px".format(*study.fields[layer].size)
    return "the whole image" if sees_all(study, layer) else size


def times_text(times):
    """A ratio to the data, "-" for NaN."""
    return "-" if np.isnan(times) else f"{times:.1f}×"


def ascend_channels(study, canvas, channels, signs, extremes, label):
    """Images of each channel (int, n) of a canvas by gradient ascent; extremes: {sign: float (channels,)},
    the most extreme activations on the data. Returns images (signs, n, h, w) of what the unit sees, and a
    DataFrame, one row per sign and channel: filter, sign, activation, data_extreme and times_data, their
    ratio, NaN where the extreme is zero or has not the sign sought."""
    from explain.activation_maximization import Pixel, ascend
    from utils.machine import has_native_bfloat16

    args, images, tables = study.args, [], []
    for sign in signs:
        made, activation = ascend(
            canvas, channels, SIGNS[sign], Pixel() if args.parametrization == "pixel" else None, args.steps,
            args.seed, "mixed_bfloat16" if has_native_bfloat16() else "float32", label)
        images.append(canvas.crop(made))
        tables.append(pd.DataFrame({"filter": channels, "sign": sign, "activation": activation,
                                    "data_extreme": extremes[sign][channels]}))
    table = pd.concat(tables, ignore_index=True)
    extreme = table.data_extreme.where(table.sign.map(SIGNS) * table.data_extreme > 0)
    return np.stack(images), table.assign(times_data=table.activation / extreme)


def beyond_data(study, table):
    """How images excite filters beyond the data, or why not; table: as `ascend_channels` returns it."""
    rows, lacking = table.dropna(subset="times_data"), table.times_data.isna().sum()
    sentences, below = [], (rows.times_data <= 1).sum()
    if len(rows):
        sentences.append(f"The median synthesised image reaches {rows.times_data.median():.1f} times what "
                         f"the most extreme of {len(study.faces):,} faces does.")
    if lacking:
        sentences.append(f"{lacking} of {len(table)} have no ratio, as no face goes beyond zero that way.")
    if below:
        sentences.append(f"{below} of {len(rows)} stay below the data: too few steps, a lower peak near the "
                         "noise it began with, or smoothness and contrast hold them back.")
    return " ".join(sentences)


def show_maximized(study, layer, order, responses, eta, shown):
    """The sheets of synthesised images; returns their table and the images (filters, signs, h, w)."""
    from explain.activation_maximization import cut_canvas, describe

    args, canvas = study.args, cut_canvas(study.model, layer, study.args.objective)
    high, low, value, what = {
        "channel": (responses.mean, responses.low_mean, "mean", "the mean of the filter's map"),
        "neuron": (responses.peak, responses.low_peak, "unit", "the middle unit of the filter's map")
    }[args.objective]
    extremes = {"max": high.max(0), "min": low.min(0)}
    images, table = ascend_channels(study, canvas, order, study.signs, extremes, layer)
    table = table.assign(objective=args.objective, eta_squared=eta[table["filter"]], steps=args.steps,
                         seed=args.seed, **describe(np.concatenate(images)))
    images = images.swapaxes(0, 1)
    captions, is_labelled = [], study.faces.labels is not None
    for c, rows in table.groupby("filter", sort=False):
        reached, times = (" | ".join(rows[name].map(form)) for name, form in (
            ("activation", "{:.3g}".format), ("times_data", times_text)))
        share = f"\nη² {eta[c]:.2f}" * is_labelled
        captions.append(f"filter {c}\n{value} {reached}\n{times} the data{share}")
    explained = ", and η², the share of its variance that the classes explain" * is_labelled

    def conclude(count):
        rows = table[table["filter"].isin(order[:count])]
        stripes, tones = rows[rows.stripes], rows.tone.value_counts()
        period = f" ({1 / stripes.frequency.median():.1f} px from stripe to stripe in the median)"
        return (f"{len(stripes)} of {len(rows)} images are stripes of one direction"
                f"{period * bool(len(stripes))}; {tones.get('light', 0)} are light, {tones.get('dark', 0)} "
                f"dark. {beyond_data(study, rows)} Each unit sees {field_text(study, layer)}. Under each "
                f"image: {what} after {args.steps} steps, how many times the {study.goal} of the data this "
                f"is{explained}.")

    return write_sheets(
        study, f"filters_{layer}", table, f"{study.title}, {layer}: image of each filter's "
        f"{study.goal}", shown, images, captions, conclude), images


def show_outputs(study, layer, order, shown):
    """How the same filters respond to one face: part (b) of the question."""
    import keras

    part = keras.Model(study.model.inputs[0], study.model.get_layer(layer).output)
    face, labels = models.prepare(study.face.images, study.model), study.face.labels
    which = f"index {study.face.ids[0]}" + ("" if labels is None else f" ({data.CLASSES[labels[0]]})")
    maps = np.moveaxis(np.asarray(part(face, training=False), np.float32)[0], -1, 0)[order]
    mean, maximum, active = maps.mean((1, 2)), maps.max((1, 2)), (maps > 0).mean((1, 2))

    def conclude(count):
        silent, best = (maximum[:count] <= 0).sum(), mean[:count].argmax()
        some = (f"{silent} of these {count} filters are silent for this face" if silent else
                "Each of these filters responds to this face somewhere")
        return (f"{some}; on average {100 * active[:count].mean():.0f} % of a map ({maps.shape[2]}×"
                f"{maps.shape[1]}) is above zero. Filter {order[best]} has the highest mean.")

    return write_sheets(
        study, f"outputs_{layer}", {"filter": order, "mean": mean, "maximum": maximum,
                                    "share_above_zero": active},
        f"{study.title}, {layer}: outputs for {which}", shown, maps[:, None],
        [f"filter {c}\nmean {m:.2g}\nmax {top:.3g}" for c, m, top in zip(order, mean, maximum)], conclude,
        label="activation", face=face[0, ..., 0], cmap="viridis", vmin=min(0.0, maps.min()),
        vmax=np.percentile(maps, 99.5) or 1.0)


def show_patches(study, layer, order, responses, shown):
    """The data's best patches of each filter beside the image synthesised for its middle unit."""
    from explain.activation_maximization import best_images, cut_canvas
    from explain.receptive_field import patch

    canvas = cut_canvas(study.model, layer, "neuron")
    images, reached = ascend_channels(study, canvas, order, ["max"], {"max": responses.peak.max(0)}, layer)
    groups, labels = data.image_groups(study.faces.images), study.faces.labels
    cells, captions, table = [], [], []
    for c, image, activation in zip(order, images[0], reached.activation):
        rows, units = best_images(responses, c, study.args.patches, groups)
        values = responses.peak[rows, c]
        faces = models.prepare(study.faces.images[rows], study.model)[..., 0]
        patches = [patch(face, study.fields[layer], unit) for face, unit in zip(faces, units)]
        if sees_all(study, layer):  # the middle that the network sees of each face, without what is around
            top, left = np.subtract(faces.shape[1:], image.shape) // 2
            patches = faces[:, top:top + image.shape[0], left:left + image.shape[1]]
        missing = np.subtract(patches[0].shape, image.shape)  # where the unit looks beyond the border
        image = np.pad(image, [(n // 2, n - n // 2) for n in missing], constant_values=np.nan)
        cells.append([image, *patches])
        captions.append(f"filter {c}: synthesised {activation:.3g}, data {values[0]:.3g} to {values[-1]:.3g}")
        table += [{"filter": c, "rank": rank, "index": study.faces.ids[row],
                   "label": "" if labels is None else labels[row], "activation": value, "y": y, "x": x}
                  for rank, (row, value, (y, x)) in enumerate(zip(rows, values, units), 1)]
    cells = np.array(cells)
    outside = " (blue: outside the face)" if np.isnan(cells).any() else ""
    return write_sheets(
        study, f"patches_{layer}", table, f"{study.title}, {layer}: image of the middle unit's maximum, then "
        f"the patches of {len(study.faces):,} faces that excite it most", shown, cells, captions,
        lambda count: f"Each unit sees {field_text(study, layer)}{outside}. {beyond_data(study, reached)}",
        columns=2)


def show_classes(study):
    """The image that maximises each class's logit, beside the face of the data that does."""
    from explain.activation_maximization import Canvas
    from explain.subjects import probabilities
    from utils import structure

    logits = structure.logits_model(study.model)
    names, on_data = models.class_names(logits), models.predict(logits, study.faces.images)
    images, table = ascend_channels(study, Canvas(logits), np.arange(len(names)), study.signs,
                                    {"max": on_data.max(0), "min": on_data.min(0)}, "classes")
    best = {"max": on_data.argmax(0), "min": on_data.argmin(0)}
    table.insert(0, "class", np.array(names)[table["filter"]])
    table["probability"] = np.concatenate([np.diag(probabilities(logits, made)) for made in images])
    table["best_index"] = study.faces.ids[np.concatenate([best[sign] for sign in study.signs])]
    cells, captions = [], []
    for made, (sign, rows) in zip(images, table.groupby("sign", sort=False)):
        cells += [*made, *models.prepare(study.faces.images[best[sign]], logits)[..., 0]]
        captions += [*(rows["class"] + rows.activation.map("\nlogit {:.3g}".format)),
                     *("face: " + rows["class"] + rows.data_extreme.map("\nlogit {:.3g}".format))]
    beyond = beyond_data(study, table)
    table = table.sort_values("filter", kind="stable").drop(columns=["filter", "times_data"]).rename(
        columns={"activation": "logit", "data_extreme": "its_logit"})  # class by class
    text = table.assign(**table.select_dtypes("floating").map("{:.3g}".format))
    cli.print_table(text.rename(columns=lambda name: name.replace("_", " ")))
    return write_sheets(
        study, "classes", table, f"{study.title}: image of the {study.goal} of each class's logit",
        f"Below each row: of {len(study.faces):,} faces the most extreme for the class",
        np.array(cells)[:, None], captions, lambda count: beyond, len(captions),
        columns=min(len(names), 8))


def write_sheets(study, kind, table, title, shown, cells, captions, conclude, most=BEST, **style):
    """Write a sheet of the first `most` cells, of more a second one of all, and a table's columns or rows;
    the DataFrame. shown: last line of the title, {} for the number of cells; conclude: the text below for so
    many cells; for the others see `draw_sheet`."""
    from utils.figures import write_results

    results = {}
    for ending, count in ((".png", min(most, len(cells))), ("_all.png", len(cells))):
        if ending == ".png" or count > most:
            results[study.path(kind, ending)] = draw_sheet(
                f"{title}\n{shown.format(count)}", cells[:count], captions[:count], conclude(count), **style)
    results[study.path(kind, ".csv")] = pd.DataFrame(table)
    study.written.extend(results)
    return write_results(results)


def draw_sheet(title, cells, captions, conclusion, columns=None, label=None, face=None, **style):
    """Cells (n, k, h, w), the k tiles of each side by side, in a grid as wide as a page's column: a figure.
    Grey levels 0-255, NaN outside the face, unless `style` of imshow says otherwise. face: a grey image in a
    row before the cells, beside a colour bar; label: of this."""
    from utils.figures import WIDTH, add_conclusion, plt

    grey = {"cmap": plt.get_cmap("gray").with_extremes(bad="#BBDDF2"), "vmin": 0, "vmax": 255}
    drawings = [(cell, caption, grey | style) for cell, caption in zip(cells, captions)]
    columns = columns or 8 // cells.shape[1]
    if face is not None:
        drawings[:0] = [(face[None], "the face", grey)] + [((), "", None)] * (columns - 1)
    lines, ratio = -(-len(drawings) // columns), cells.shape[2] / cells.shape[3]
    height = ratio * WIDTH / columns / cells.shape[1] + 0.12 * captions[0].count("\n") + 0.18  # inches
    title = "\n".join(textwrap.fill(part, 90) for part in title.split("\n"))
    figure, axes = plt.subplots(lines, columns, layout="compressed", squeeze=False,
                                figsize=(WIDTH, lines * height + 0.15 * title.count("\n") + 0.2),
                                subplot_kw={"frame_on": False, "xticks": [], "yticks": []})
    for ax, (cell, caption, options) in zip(axes.flat, drawings):
        for left, image in zip(np.arange(len(cell)) * 1.06, cell):  # a gap between the tiles
            drawn = ax.imshow(image, extent=(left, left + 1, 0, ratio), **options)
            ax.add_patch(plt.Rectangle((left, 0), 1, ratio, fill=False, edgecolor="grey", linewidth=0.5,
                                       clip_on=False))
        ax.set_xlim(0, max(1, len(cell) * 1.06 - 0.06))
        ax.set_title(caption.replace("-", "\N{MINUS SIGN}"), fontsize=7, loc="left", y=0, va="top", pad=-2)
    if label:
        bar = axes[0, 1].inset_axes([0.5, 0.5, columns - 1.5, 0.15])
        bar.set_in_layout(False)
        figure.colorbar(drawn, cax=bar, orientation="horizontal", label=label,
                        extend="max" if cells.max() > drawn.norm.vmax else "neither")
    figure.suptitle(title, fontsize=9)
    add_conclusion(figure, conclusion)
    return figure


if __name__ == "__main__":
    cli.run(main)
