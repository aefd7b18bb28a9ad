"""Question 4: where does the network look? Saliency maps, and which of them to trust.

    python saliency.py                                  one training image: face, heat map, masked face
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     the faces in photos, all methods side by side
    python saliency.py --evaluate 100                   deletion, insertion, randomisation of each method
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and wrong

Methods: gradient, gradient-x-input, smoothgrad, squaregrad, vargrad, integrated-gradients, guided-backprop,
grad-cam, grad-cam++, layer-cam, hires-cam and, slow because they ask the network hundreds of times per image,
score-cam, occlusion, rise. The masked face keeps the pixels with the largest values of its map (--area) that
are above zero; the others become the face's mean grey (--fill). The figure's conclusion says on which parts
of the face maps lie (explain/regions.py). --colormap jet gives the colours of the homework.

Writes figures/MODEL_saliency_METHOD_DATA_index-N.png, other settings in the name, and a CSV with the numbers
beside each. --images finds the faces as predict.py does and makes one figure per photo: the photo with its
faces in squares, and each face with the detector's score, its prediction and its maps. Any Keras classifier
with one image input will do. A sheet takes seconds, --evaluate minutes.
"""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd

from photos import reading
from utils import cli, data, files, models
from utils.cli import UserError

PHOTO_FACES = 8  # of a photo
PHOTO_HEIGHT = 2.6  # inches of the photo above its faces
FEW = 20  # faces, of fewer a mean map is drawn pale
FAMILY_COLORS = {"gradient": "sky", "guided": "purple", "class activation": "red", "perturbation": "green",
                 "control": "grey"}
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255}  # of faces
IMAGE_ONLY = {"xticks": [], "yticks": [], "frame_on": False, "box_aspect": 1}  # of axes


def main(argv=None):
    """Returns the (first) table that is written, a DataFrame; its attrs["figures"] are the figures' paths."""
    args, changed = parse_args(argv)
    cli.start_keras()
    from explain import attribution
    from explain.subjects import choose_targets
    from utils import evaluation, structure
    from utils.figures import faces_name, write_results

    # ---- The network, and the methods that suit it
    path = args.model or models.default_model()
    name, model = files.model_name(path), structure.logits_model(models.load(path))
    asked = args.method or ["fast" if args.evaluate else "gradient"]
    methods = choose_methods(model, args, asked)
    options = {option: getattr(args, option) for option in ("seed", "samples", "baseline", "layer")}

    # ---- Faces, and how the results' names begin
    what = "_".join(asked)
    if args.evaluate or args.mean_maps:
        faces = evaluation.faces_to_evaluate([path], args.data, args.labels, args.usage, args.training_data)
        order = np.random.default_rng([args.seed, 4]).permutation(len(faces))
        faces = faces.take(order[:args.evaluate])
        what = f"{'evaluation' if args.evaluate else 'mean'}_{what}_{faces.name}"
        what += f"_{args.evaluate}" * bool(args.evaluate)
    else:
        faces, captions, which = choose_faces(args, model)
        what += f"_{which}"
    stem = files.name_part(name, "saliency", what) + files.name_part(changed)
    files.check_outputs(args.out_folder / f"{stem}{suffix}" for suffix in (".png", ".csv"))

    # ---- How much each pixel matters, and what that shows
    subjects = choose_targets(model, faces, args.target, needs_labels=args.mean_maps)
    controls = [] if args.mean_maps else attribution.CONTROLS
    maps = attribution.attribute_all(model, subjects.grey, subjects.targets, [*methods, *controls], **options)
    maps = {method: attribution.strength(values, method) for method, values in maps.items()}
    name = models.title(path)
    if args.evaluate:
        results = evaluate_methods(args, name, faces_name(faces), model, subjects, maps, options)
    elif args.mean_maps:
        results = average_maps(args, name, faces_name(faces), model, subjects, maps)
    else:
        results = explain_faces(args, name, model, subjects, maps, captions)
    results = {args.out_folder / f"{stem}{ending}": result for ending, result in results.items()}
    table = write_results(results)
    cli.print_written(results)
    return table


def parse_args(argv):
    """The options, and those of their values that are not at the default, for file names."""
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--model", type=Path, help=".h5 or .keras (default: models/cnn.h5, else the released one)")
    cli.add_evaluation_data(parser, "faces (default: data/*.csv, else the built-in sample; with --evaluate "
                            "and --mean-maps the model's validation split)")
    either = parser.add_mutually_exclusive_group().add_argument
    either("--index", type=cli.number(int, 0), nargs="+",
           help="training images, counted from 0 (default: of the first 100 the one that the network "
                "classifies correctly with the highest probability)")
    either("--per-class", type=cli.number(int, 1, 10), metavar="N", help="the first N images of each class")
    either("--images", type=Path, nargs="+", metavar="PHOTO",
           help="photos, or folders of photos, with people: one figure each")
    either("--evaluate", type=cli.number(int, 2), nargs="?", const=100, metavar="N",
           help="test the methods on N validation images (100 if not given)")
    either("--mean-maps", action="store_true", help="mean map of each class over the validation split")
    cli.add_photos(parser, PHOTO_FACES)
    option("--method", nargs="+", metavar="METHOD",
           help="of those above, all or fast, all but the slow ones (default: gradient; --evaluate: fast)")
    option("--target", default="predicted", metavar="predicted|true|contrastive|CLASS",
           help="whose logit is explained; contrastive: the largest minus the runner-up")
    option("--area", type=cli.number(float, 0, 100, open_low=True), default=20.0, metavar="PERCENT",
           help="share of the area that the masked face keeps")
    option("--fill", choices=("mean", "black", "blurred"), default="mean",
           help="what replaces the rest (--evaluate: the mean, in deletion and insertion blurred faces)")
    option("--layer", help="layer for the CAM methods (default: the last one of the last convolution stage)")
    option("--baseline", choices=("black", "mean", "blurred"), default="black",
           help="baseline of integrated gradients")
    option("--samples", type=cli.number(int, 1), default=32,
           help="noisy copies for smoothgrad, squaregrad and vargrad")
    option("--seed", type=cli.number(int, 0), default=0, help="seed of noise, masks, controls and intervals")
    option("--colormap", default="inferno", metavar="NAME", help="a colour map of matplotlib, such as jet")
    cli.add_out_folder(parser)
    args = parser.parse_args(argv)
    if not args.images and (args.cropped or args.max_faces):
        raise UserError("--cropped and --max-faces belong to --images")
    if args.images and args.data:
        raise UserError("--images takes its faces from photos; leave out --data")
    if (args.labels or args.usage or args.training_data) and not (args.evaluate or args.mean_maps):
        raise UserError("--labels, --usage and --training-data belong to --evaluate and --mean-maps")
    from matplotlib import colormaps  # not before, as --help is to answer at once

    if args.colormap not in colormaps:
        raise UserError(f"--colormap: matplotlib has no {args.colormap!r}"
                        + cli.near(args.colormap, colormaps))
    return args, parser.changed(args, "target", "area", "fill", "layer", "baseline", "samples", "seed",
                                *["colormap"] * (not args.evaluate))


# ---- methods and faces -------------------------------------------------------------------------------------


def choose_methods(model, args, asked):
    """The methods `asked` stands for (--method or its default) and that suit the network. UserError for a
    method, --target or --layer that does not exist, and for a method that is named and does not suit."""
    from explain import attribution, receptive_field

    targets = ["predicted", "true", "contrastive", *models.class_names(model)]
    if args.target not in targets:
        raise UserError(f"--target {args.target!r} is none of {', '.join(targets)}")
    receptive_field.fields(model)  # refuses layers without a gradient
    if args.layer:
        attribution.cam_layer(model, args.layer)
    groups = {"all": list(attribution.METHODS),
              "fast": [name for name in attribution.METHODS if name not in attribution.SLOW]}
    methods = list(dict.fromkeys(method for name in asked for method in groups.get(name, [name])))
    if unknown := set(methods) - set(attribution.METHODS):
        raise UserError(f"--method: invalid choice: {unknown.pop()!r} (choose from "
                        f"{', '.join([*attribution.METHODS, *groups])})")
    if args.mean_maps and len(methods) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")
    problems = {method: lacks for method in methods if (lacks := attribution.problem(model, method))}
    for method in problems.keys() & asked:
        raise UserError(problems[method])
    if problems:
        print(f"Left out, as the model has no convolution or no ReLU: {', '.join(problems)}")
    methods = [method for method in methods if method not in problems]
    if "guided-backprop" in methods:
        print("Warning: guided-backprop shows the edges of the face whatever the network has learnt\n"
              "(Adebayo et al. 2018): --evaluate tells whether it does so here")
    return methods


def choose_faces(args, model):
    """The faces that --index, --per-class or --images name; a DataFrame, one row per face: caption `image`
    and, of a photo, what `photos.reading.load_faces` tells; and a part of the results' names."""
    from explain.subjects import training_faces

    if args.images:
        photos = reading.find_photos(args.images)
        table, images = reading.load_faces(photos, args.cropped, args.max_faces or PHOTO_FACES)
        table = table.rename(columns={"image": "photo"})
        table.insert(0, "image", table.photo.map(os.path.basename) + ", face " + table.face.astype(str))
        return data.Faces(images, source="--images"), table, "photos"
    faces, rows = training_faces(model, args.data, args.index)
    which = "index-" + "-".join(map(str, rows))
    if args.per_class:
        if faces.labels is None:
            raise UserError(f"{faces.source} has no labels for --per-class; choose images with --index")
        rows = np.concatenate([np.flatnonzero(faces.labels == code)[:args.per_class]
                               for code in range(len(data.CLASSES))])
        which = f"per-class-{args.per_class}"
    captions = pd.DataFrame({"image": [f"index {row}" for row in rows]})
    return faces.take(rows), captions, f"{faces.name}_{which}"


# ---- maps of single faces ----------------------------------------------------------------------------------


def explain_faces(args, name, model, subjects, maps, captions):
    """How much of the probability the most salient area keeps: a table, one row per face and method, and
    figures, one per photo or page; by the ending of their names."""
    from explain import attribution, faithfulness, regions

    masked, tables, how = {}, [], {"fill": args.fill, "seed": args.seed}
    given = model, subjects.grey, subjects.codes
    for method in [method for method in maps if method not in attribution.CONTROLS]:
        masked[method], p, area = faithfulness.salient_kept(*given, maps[method], args.area / 100, **how)
        random, spread = faithfulness.random_kept(*given, area, **how)
        _, edges, _ = faithfulness.salient_kept(*given, maps["edges"], area, **how)
        tables.append(captions.join(subjects.table).assign(
            method=method, area_kept=area, p_kept=p, p_kept_random=random, p_kept_random_sd=spread,
            p_kept_edges=edges, map_max=maps[method].max((1, 2)), blank=attribution.is_blank(maps[method]),
            **regions.shares(maps[method]).add_prefix("on_")))
    table = pd.concat(tables).sort_index(kind="stable")  # face by face; the index is the face's number

    print(f"Probability of the class, given the whole face, only the top {args.area:g} % of its map, as many "
          "random\npixels (mean of 50 draws), and as many on the strongest edges")
    columns = ["image", "target", "method", "p_whole", "p_kept", "p_kept_random", "p_kept_edges"]
    text = table[columns].set_axis(["image", "class", "method", "whole", "map", "random", "edges"], axis=1)
    cli.print_table(text.map(lambda value: value if isinstance(value, str) else f"{value:.2f}"))

    if args.images:
        names = reading.figure_paths(captions.photo.unique(), Path(), "")
        sheets = {names[photo].name: rows.index for photo, rows in captions.groupby("photo", sort=False)}
    else:
        # A page of A4 holds six lines: of two faces by one method, or of a face and the maps of four methods
        pages = split_pages(subjects.table.true if args.per_class else pd.Series(captions.index),
                            12 if len(masked) == 1 else max(1, 6 // -(-(1 + len(masked)) // 5)))
        sheets = {f"_page-{number}.png" if len(pages) > 1 else ".png": page
                  for number, page in enumerate(pages, start=1)}
    figures = {ending: draw_sheet(args, name, subjects.grey, maps, masked, table.loc[faces])
               for ending, faces in sheets.items()}
    for ending, figure in figures.items() if args.images else [*figures.items()][-1:]:
        conclude_sheet(figure, table.loc[sheets[ending]] if args.images else table)
    return figures | {".csv": table}


def split_pages(groups, most):
    """Numbers of the faces on each page, at most `most`; only larger groups (a Series) are torn apart."""
    parts = [part for _, group in groups.groupby(groups, sort=False)
             for part in np.array_split(group.index, -(-len(group) // most))]
    count = -(-len(parts) // max(1, most // max(map(len, parts))))
    pages = np.array_split(np.arange(len(parts)), count)
    return [np.concatenate(parts[page[0]:page[-1] + 1]) for page in pages]


def draw_sheet(args, name, grey, maps, masked, table):
    """The face, its map by each method and, of a single method, the masked face; above them the photo that
    the faces come from, if any. A face starts a new line, unless two by a single method share it:

        face map masked face map masked         face map map map map
        face map masked face map masked         map  map map
    """
    from explain.attribution import METHODS
    from utils.figures import WIDTH, plt

    n, methods, photo = table.index.nunique(), len(masked), table.get("photo")
    columns, panels = (3 if n == 1 else 6), 3  # of the sheet, of a face
    if methods > 1:
        columns = min(1 + methods, 5)
        panels = -(-(1 + methods) // columns) * columns
    lines = -(-n * panels // columns)
    height = (WIDTH / (3.6 if n == methods == 1 else columns) + (0.7 if methods == 1 else 0.3)) * lines + 0.6
    figure = below = plt.figure(figsize=(WIDTH, height + PHOTO_HEIGHT * (photo is not None)),
                                layout="constrained")
    title = f"{name}: saliency"
    if photo is not None:
        above, below = figure.subfigures(2, 1, height_ratios=[PHOTO_HEIGHT, height])
        reading.draw_boxes(above.subplots(), reading.read_photo(photo.iloc[0]),
                           table[~table.index.duplicated()])
        title += f" on {os.path.basename(photo.iloc[0])}"
    axes = below.subplots(lines, columns, squeeze=False, subplot_kw=IMAGE_ONLY)
    for (original, *others), (i, rows) in zip(axes.reshape(-1, panels), table.groupby(level=0)):
        for ax, row in zip(others, rows.itertuples()):
            value = np.maximum(maps[row.method][i], 0)
            largest = np.percentile(value, 99.5) or value.max() or 1.0  # else one pixel hides the rest
            image = ax.imshow(value, cmap=args.colormap, vmin=0, vmax=largest)
            ax.set_title(row.method, fontsize=7.5)
            ax.text(0.5, 0.5, "blank" * row.blank, color="white", ha="center", transform=ax.transAxes)
        original.imshow(grey[i], **GREY)
        original.set_title(row.image if photo is None else f"face {row.face}", fontsize=7.5)
        text = f"predicted:\n{row.predicted} {row.p_predicted:.2f}" + f"\ntrue: {row.true}" * bool(row.true)
        if getattr(row, "score", np.nan) >= 0:  # of the detector
            text += f"\nscore {row.score:.2f}, tilt {row.tilt:.0f}°"
        original.set_xlabel(text, fontsize=7)
        others[0].set_xlabel(f"explains\n{row.target}", fontsize=7)
        if methods == 1:
            others[1].imshow(masked[row.method][i], **GREY)
            others[1].set_title(f"{100 * row.area_kept:.0f} % kept", fontsize=7.5)
            texts = [f"probability {row.p_kept:.2f}", f"whole face {row.p_whole:.2f}",
                     f"random pixels {row.p_kept_random:.2f}", f"edges {row.p_kept_edges:.2f}"]
            others[1].set_xlabel("\n".join(texts), fontsize=7)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if methods == n == 1:
        below.colorbar(image, cax=others[0].inset_axes([1.05, 0, 0.07, 1]), extend="max",
                       label=METHODS[row.method].unit)
    else:
        below.colorbar(plt.cm.ScalarMappable(cmap=args.colormap), ax=axes, extend="max", location="bottom",
                       shrink=0.6, aspect=40, label="relative to each map's 99.5th percentile")
    method = row.method if methods == 1 else f"{methods} methods"
    what = f"the {args.target} class" if args.target in ("predicted", "true") else args.target
    figure.suptitle(f"{title}\n{method}, for {what}", fontsize=10)
    return figure


def conclude_sheet(figure, table):
    """Write under a figure where the maps lie and what the network makes of the most salient pixels alone."""
    from explain import regions
    from utils.figures import add_conclusion

    controls = ["p_kept_random", "p_kept_edges"]
    means = table.groupby("method")[["p_kept", *controls, "p_kept_random_sd", "p_whole", "area_kept"]].mean()
    best, n = means.p_kept.idxmax(), table.index.nunique()
    kept, random, edges, spread, whole, area = means.loc[best]
    wins = (table.p_kept - table[controls].max(axis=1) >= 0.05).sum()
    what = f"The {best} map" if n == 1 else f"On average of the {n} faces the {best} map"
    what += f", of {len(means)} methods the one that keeps the probability highest," * (len(means) > 1)
    change = (f"stays at {kept:.2f}" if round(kept, 2) == round(whole, 2) else
              f"{'rises' if kept > whole else 'falls'} from {whole:.2f} to {kept:.2f}")
    add_conclusion(figure, (
        f"{regions.describe(table[table.method == best], what)} With nothing but its top "
        f"{100 * area:.0f} % of the area the probability of the class {change}; with as many "
        f"random pixels it is {random:.2f} (50 draws, standard deviation {spread:.2f}), "
        f"with as many on the strongest edges {edges:.2f}."
        + f" Maps that beat both by 0.05 or more: {wins} of {len(table)}." * (len(table) > 1)))


# ---- evidence ----------------------------------------------------------------------------------------------


def evaluate_methods(args, name, source, model, subjects, maps, options):
    """Test the methods: figure, table with verdicts, curves and cascade, by the ending of their names."""
    from explain import attribution, faithfulness

    n, few = len(subjects.grey), slice(24)  # the cascade makes every map again after every stage
    if n < 2:  # there is no interval
        raise UserError(f"{source}: expected at least 2")
    scores, curves = faithfulness.evaluate(model, subjects.grey, subjects.codes, maps, args.seed)
    methods = [method for method in maps if method not in attribution.CONTROLS]
    cascade = faithfulness.cascade(model, subjects.grey[few], subjects.targets[few], methods, **options)
    table, control = faithfulness.verdicts(scores, cascade, args.seed)

    print(f"{source}\nAreas under the curves: of deletion low is good, of insertion high; net: "
          f"their difference\nabove that of {control}, the best control, bootstrap 95 % interval. Correlation"
          f" and SSIM:\nof maps of {len(subjects.grey[few])} faces before and after the upper half of the "
          f"layers is\nre-initialised; both above {faithfulness.FAILS:g} fails.")
    net = f"net_above_{control}"
    cli.print_table(pd.DataFrame({
        "method": table.method, "delete": table.deletion_area.map("{:.3f}".format),
        "insert": table.insertion_area.map("{:.3f}".format),
        f"net above {control}": table[[net, f"{net}_low", f"{net}_high"]].apply(
            lambda row: "{:+z.2f} [{:+z.2f}, {:+z.2f}]".format(*row), axis=1),
        "corr.": table.rank_correlation, "SSIM": table.ssim, "verdict": table.verdict}))
    for row in table[table.blank > 0].itertuples():
        print(f"{row.method}: {row.blank} of the maps are blank")
    figure = draw_evidence(f"{name}: which maps show what it uses?\n{source}, 95 % intervals", table,
                           curves, control)
    return {".png": figure, ".csv": table, "_curves.csv": curves, "_randomisation.csv": cascade}


def draw_evidence(title, table, curves, control):
    """Deletion and insertion curves, and what the two verdicts of each method rest on, with intervals."""
    from explain.attribution import CONTROLS, METHODS
    from explain.faithfulness import FAILS
    from utils.figures import COLORS, WIDTH, add_conclusion, plt

    family = table.method.map(lambda method: (METHODS | CONTROLS)[method].family)
    colors, height = family.map(FAMILY_COLORS).map(COLORS), 0.2 * len(table) + 0.4
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 3.8 + height), layout="constrained", sharey="row",
                                height_ratios=[2.6, height], subplot_kw={"axisbelow": True})
    for ax, kind, what, aim in zip(axes[0], ("deletion", "insertion"), ("removed", "shown"), ("low", "high")):
        for method, color, label in zip(table.method, colors, family.mask(family.duplicated(), "_")):
            curve = curves[curves.method == method]
            ax.plot(100 * curve.share_of_area, curve[kind], CONTROL_STYLES.get(method, "-"), color=color,
                    lw=1.2, label=method if method in CONTROLS else label)
        ax.set(xlabel=f"most salient area {what} (%)", ylim=(0, 1),
               title=f"{kind.capitalize()} ({aim} is good)")
    axes[0, 0].set_ylabel("mean probability of the class")
    net = f"net_above_{control}"
    axes[1, 0].hlines(table.index, table[f"{net}_low"], table[f"{net}_high"], colors=colors)
    axes[1, 0].scatter(table[net], table.index, s=16, c=colors)
    axes[1, 0].axvline(0, color="black", lw=0.8)
    axes[1, 0].set(xlabel=f"insertion minus deletion area, above {control}")
    axes[1, 0].set_yticks(table.index, table.method)
    axes[1, 0].invert_yaxis()
    for key, marker in (("rank_correlation", "o"), ("ssim", "s")):
        axes[1, 1].scatter(pd.to_numeric(table[key], errors="coerce"), table.index, s=16, c=colors,
                           marker=marker)  # controls have none
    axes[1, 1].axvline(FAILS, color="black", lw=0.8)
    axes[1, 1].set(xlabel="similarity after randomisation\n(● rank correlation, ■ SSIM)", xlim=(-0.05, 1))
    for ax in axes.flat:
        ax.grid(True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, fontsize=10)

    tested = table[table.verdict != "control"]
    passing = tested[tested.verdict == "passes"]
    text = "No method passes both tests: do not read these maps as what the network uses."
    if len(passing):
        best = passing.iloc[0]
        text = (f"{len(passing)} of {len(tested)} methods score above the best control ({control}) and "
                f"change with what was learnt; {best.method} is best, {best[net]:.2f} "
                f"[{best[net + '_low']:.2f}, {best[net + '_high']:.2f}] above {control}.")
    if failing := ", ".join(tested.method[tested.verdict.str.contains("fails")]):
        text += (f" {failing}: the maps hardly change, both measures above {FAILS:g}, when the upper half of "
                 "the layers is re-initialised (Adebayo et al. 2018).")
    add_conclusion(figure, text)
    return figure


# ---- mean maps ---------------------------------------------------------------------------------------------


def average_maps(args, name, source, model, subjects, maps):
    """The mean map of each true class, and of its rightly and wrongly classified faces: a figure, a table."""
    from explain import regions
    from utils.figures import WIDTH, add_conclusion, plt

    (method, values), = maps.items()
    values = np.maximum(values, 0)
    mean = values.mean((1, 2), keepdims=True)
    values /= np.where(mean > 0, mean, 1)  # every face counts alike, however steep its logit
    true, visible = subjects.table.true, mean.ravel() > 0
    right = subjects.table.predicted == true
    groups = {"all": visible, "right": visible & right, "wrong": visible & ~right}
    classes = [each for each in models.class_names(model) if (true == each).any()]
    averages, rows = {}, []
    for each, group in itertools.product(classes, groups):
        members = groups[group] & (true == each)
        averages[each, group] = values[members].mean(0) if members.any() else np.zeros_like(values[0])
        rows.append([each, group, members.sum()])
    table = pd.DataFrame(rows, columns=["class", "faces", "n"])
    table = table.join(regions.shares(np.array([*averages.values()])).add_prefix("on_"))

    if not visible.all():
        print(f"Blank maps, left out: {(~visible).sum()} of {len(visible)}")
    print(f"Saliency on each part of the face (%), {source}")
    text = table[table.faces == "all"].set_index("class").filter(like="on_")
    text.columns = regions.REGIONS
    text.loc["share of the area"] = regions.areas()
    cli.print_table((100 * text).map("{:.0f}".format).reset_index())

    largest = np.percentile([averages[each, "all"] for each in classes], 99.5) or 1.0
    figure, axes = plt.subplots(4, len(classes), layout="constrained", squeeze=False, subplot_kw=IMAGE_ONLY,
                                figsize=(WIDTH, 1.1 + 4 * WIDTH / (len(classes) + 0.9)))
    for column, (each, rows) in zip(axes.T, table.groupby("class", sort=False)):
        column[0].imshow(subjects.grey[true == each].mean(0), cmap="gray")
        column[0].set_title(each, fontsize=9)
        for ax, group, n in zip(column[1:], rows.faces, rows.n):
            if n:
                ax.imshow(averages[each, group], args.colormap, vmin=0, vmax=largest,
                          alpha=0.3 if n < FEW else 1)
        for ax, n in zip(column, [(true == each).sum(), *rows.n]):
            ax.set_xlabel(f"n = {n:,}", fontsize=7, labelpad=2)
    for ax, group in zip(axes[:, 0], ["mean face", *groups]):
        ax.set_ylabel(group)
    shades = plt.cm.ScalarMappable(plt.Normalize(0, largest), args.colormap)
    figure.colorbar(shades, ax=axes, extend="max", label="saliency, times the map's mean", aspect=40)
    figure.suptitle(f"{name}: where it looks for each true class\n{method}, {source}", fontsize=10)
    add_conclusion(figure, regions.describe(regions.shares(values).add_prefix("on_"), "On average a map")
                   + f" Pale: fewer than {FEW} faces." * bool(((table.n > 0) & (table.n < FEW)).any()))
    return {".png": figure, ".csv": table[table.n > 0]}


if __name__ == "__main__":
    cli.run(main)
