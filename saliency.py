"""Question 4: where does the network look? Saliency maps, and which of them to trust.

    python saliency.py                                  the 16th training image: face, heat map, masked face
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     the faces in photos, all methods side by side
    python saliency.py --evaluate 100                   deletion, insertion, randomisation of each method
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and wrong

Methods: gradient, gradient-x-input, smoothgrad, squaregrad, vargrad, integrated-gradients, guided-backprop,
grad-cam, grad-cam++, layer-cam, hires-cam and, slow because they ask the network hundreds of times an image,
score-cam, occlusion, rise. The masked face keeps the pixels with the largest values of its map (--keep); the
others become the face's mean grey (--fill).

Writes figures/NAME_saliency*.png, NAME being the model's, and a CSV with the numbers beside each. --images
finds the faces as predict.py does and makes one figure a photo: the photo with its faces in squares, and each
face with the detector's score, its prediction and its maps. Any Keras classifier with one image input
will do. A sheet takes seconds, --evaluate minutes.
"""

import os
from pathlib import Path

import numpy as np

from utils import cli, data, files, models
from utils.cli import UserError

FACES_ON_A_SHEET = 70
PHOTO_FACES = 8  # of a photo, one below the other in its figure
PHOTO_SIDE = 1200  # pixels of the photo in the figure
FACES_RANDOMISED = 24  # the cascade makes every map again after every stage
RUNNER_UP = " - runner-up"
FAMILY_COLORS = {"gradient": "blue", "guided": "purple", "class activation": "red", "perturbation": "green",
                 "control": "grey"}
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}


def main(argv=None):
    """Returns the table that stands beside the (first) figure, a DataFrame."""
    args = parse_args(argv)
    cli.start_keras()
    model = load_model(args)
    if "guided-backprop" in args.method:
        print("Warning: guided-backprop shows the edges of the face whatever the network has learnt "
              "(Adebayo et al. 2018): --evaluate tells whether it does so here")
    mode = evaluate_methods if args.evaluate else average_maps if args.mean_maps else explain_faces
    return mode(args, model)


def parse_args(argv):
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--model", type=Path, help=".h5 or .keras (default: models/cnn.h5, else the released one)")
    option("--data", type=cli.data_path,
           help="faces (default: data/*.csv, else the sample; with --evaluate and --mean-maps the model's "
                "own validation split)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--index", type=cli.number(int, 0), nargs="+", default=[15],
                       help="training images, counted from 0")
    which.add_argument("--per-class", type=cli.number(int, 1, 10), metavar="N",
                       help="the first N images of each class")
    which.add_argument("--images", type=Path, nargs="+", metavar="PHOTO",
                       help="photos, or folders of photos, with people: a figure each")
    cli.add_photos(parser, PHOTO_FACES)
    option("--method", nargs="+", metavar="METHOD",
           help="of those above, or all (default: gradient; with --evaluate all but the slow ones)")
    option("--target", default="predicted", metavar="predicted|true|contrastive|CLASS",
           help="whose logit is explained; contrastive: the largest minus the runner-up")
    option("--keep", type=cli.number(float, 0, 100, open_low=True), default=20.0, metavar="PERCENT",
           help="share of the area that the masked face keeps")
    option("--fill", choices=("mean", "black", "blurred"), default="mean",
           help="what replaces the rest; with --evaluate always the mean")
    option("--layer", help="of the CAM methods (default: what ends the last stage of convolutions)")
    option("--baseline", choices=("black", "mean", "blurred"), default="black",
           help="of integrated gradients")
    option("--samples", type=cli.number(int, 1), default=32, help="noisy copies of smoothgrad and its kin")
    option("--seed", type=cli.number(int, 0), default=0, help="of noise, masks, controls and intervals")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--evaluate", type=cli.number(int, 2), nargs="?", const=100, metavar="N",
                         help="test the methods on N validation images (100 if not given)")
    instead.add_argument("--mean-maps", action="store_true",
                         help="the mean map of each class over the validation split")
    args = parser.parse_args(argv)
    if args.cropped and not args.images:
        raise UserError("--cropped belongs to --images")
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


def load_model(args):
    """The model of logits; args.model becomes its path, args.method the methods to use. Where the user named
    none, or all, those that do not suit the network are left out."""
    from explain import attribution
    from utils import structure

    default = [method for method in attribution.METHODS if method not in attribution.SLOW]
    methods = dict.fromkeys(args.method or (default if args.evaluate else ["gradient"]))
    for method in methods:
        if method not in attribution.METHODS and method != "all":
            raise UserError(f"--method: invalid choice: {method!r} (choose from "
                            f"{', '.join(attribution.METHODS)}, all)")
    methods = list(attribution.METHODS if "all" in methods else methods)
    if args.mean_maps and len(methods) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")

    args.model = args.model or models.default_model()
    model = structure.logits_model(models.load(args.model))
    targets = ["predicted", "true", "contrastive", *models.class_names(model)]
    if args.target not in targets:
        raise UserError(f"--target {args.target!r} is none of {', '.join(targets)}")
    attribution.traced(model)  # refuses layers without a gradient
    if args.layer:
        attribution.cam_layer(model, args.layer)
    named, args.method = args.method and "all" not in args.method, []
    for method in methods:
        try:
            attribution.check(model, method)
            args.method.append(method)
        except UserError:
            if named:
                raise
    if left_out := [method for method in methods if method not in args.method]:
        print(f"Left out, as {args.model} has no convolution or no ReLU: {', '.join(left_out)}")
    return model


def chosen_faces(args):
    """The faces that --index or --per-class name, and a caption for each."""
    faces = data.training_part(data.find_data(args.data))
    rows = np.array(args.index)
    if args.per_class:
        if faces.labels is None:
            raise UserError(f"{faces.source} has no labels for --per-class; choose images with --index")
        rows = np.concatenate([np.flatnonzero(faces.labels == code)[:args.per_class]
                               for code in range(len(data.CLASSES))])
    elif rows.max() >= len(faces):
        raise UserError(f"--index {rows.max()} is out of range; "
                        f"{faces.source} has training images 0 to {len(faces) - 1}")
    if len(rows) > FACES_ON_A_SHEET:
        raise UserError(f"{len(rows)} images do not fit one sheet; choose at most {FACES_ON_A_SHEET}")
    return faces.take(rows), [f"training image {row}" for row in rows]


def validation_faces(args):
    """The faces to measure on: --data, else the model's own validation split; in random order."""
    from utils import evaluation

    faces = data.load_labelled(args.data) if args.data else evaluation.validation_faces(args.model)
    return faces.take(np.random.default_rng([args.seed, 4]).permutation(len(faces)))


def forward(args, model, faces):
    """Faces as the network sees them, what it makes of them, and what of that is explained.

    Returns grey float32 (n, h, w), 0-255; targets as `attribution.attribute` takes them; codes int (n,) of
    the classes whose probability is measured; probabilities float32 (n, classes); and a DataFrame of names:
    true ("" if not labelled), predicted, target.
    """
    import pandas as pd
    from scipy.special import softmax

    from explain import attribution

    classes, labels = np.array(models.class_names(model)), faces.labels
    if labels is not None and labels.max() >= len(classes):
        labels = None
    if labels is None and (args.target == "true" or args.mean_maps):
        have = "no labels" if faces.labels is None else f"{faces.labels.max() + 1} classes"
        raise UserError(f"{faces.source} has {have} and {args.model} tells {len(classes)} apart; "
                        "--target true and --mean-maps need labels of the model's classes")
    grey = models.prepare(faces.images, model)[..., 0]
    logits = models.predict(model, grey)
    predicted = codes = targets = logits.argmax(1)
    if args.target == "true":
        codes = targets = labels
    elif args.target == "contrastive":
        targets = attribution.contrastive(logits)
    elif args.target != "predicted":
        codes = targets = np.full(len(grey), list(classes).index(args.target))
    about = pd.DataFrame({"true": "" if labels is None else classes[labels], "predicted": classes[predicted],
                          "target": classes[codes]})
    return grey, targets, codes, softmax(logits, axis=1), about


def options(args):
    """The options of the methods, as `attribution.attribute` takes them."""
    return {"seed": args.seed, "samples": args.samples, "baseline": args.baseline, "layer": args.layer}


def output_paths(args, endings):
    """figures/NAME_saliency with each ending. Raises UserError where one may not be overwritten.

    endings: {ending: first column of a CSV, else ""}
    """
    outputs = {models.FIGURES / f"{args.model.stem}_saliency{ending}": first
               for ending, first in endings.items()}
    files.check_outputs(outputs)
    return list(outputs)


def write(paths, contents):
    """Write figures and tables to their paths, and say so."""
    from utils.figures import save_figure

    for path, content in zip(paths, contents):
        if path.suffix == ".png":
            save_figure(content, path)
        else:
            files.write_table(path, content)
    print("Wrote " + ", ".join(map(files.relative_path, paths)))


# ---- maps of single faces ----------------------------------------------------------------------------------


def explain_faces(args, model):
    """Maps of the chosen faces on one sheet, and how much of the probability the most salient area keeps."""
    import pandas as pd

    from explain import attribution, faithfulness

    ending = "" if args.method == ["gradient"] else "_" + "_".join(args.method)[:80]
    if len(args.method) == len(attribution.METHODS):
        ending = "_all"
    if args.target != "predicted":
        ending += "_" + args.target.replace(" ", "-")
    if args.images:
        paths, photo_table, faces, captions = photo_faces(args, ending)
    else:
        paths = output_paths(args, {f"{ending}.png": "", f"{ending}.csv": "image"})
        faces, captions = chosen_faces(args)
    grey, targets, codes, probabilities, about = forward(args, model, faces)
    about.insert(0, "image", captions)
    if args.target == "contrastive":
        about.target += RUNNER_UP

    # ---- Maps, and masked faces: the pixels that a map ranks first stay as they are, the rest is filled
    methods, rows = [*args.method, "random", "edges"], np.arange(len(grey))
    maps = attribution.attribute_all(model, grey, targets, methods, **options(args))
    values = {method: attribution.strength(maps[method], method) for method in methods}
    masked = {method: faithfulness.masked(grey, values[method], args.keep / 100, args.fill, args.seed)
              for method in methods}
    kept = {method: faithfulness.probabilities(model, masked[method])[rows, codes].astype(float)
            for method in methods}
    table = pd.concat(about.assign(
        method=method, p_whole=probabilities[rows, codes].astype(float), p_kept=kept[method],
        p_kept_random=kept["random"], p_kept_edges=kept["edges"],
        map_min=maps[method].min((1, 2)).astype(float), map_max=maps[method].max((1, 2)).astype(float),
        sparseness=faithfulness.sparseness(values[method]), blank=attribution.is_blank(maps[method]))
        for method in args.method).sort_index(kind="stable")  # face by face; the index is the face's number

    print(f"Probability of the class with the top {args.keep:g} % of the area kept, the rest {args.fill}")
    text = table.iloc[:, :5].assign(**{name: table[key].map("{:.3f}".format) for name, key in (
        ("whole", "p_whole"), ("kept", "p_kept"), ("random", "p_kept_random"), ("edges", "p_kept_edges"))})
    text["map's max"] = table.map_max.map("{:.3g}".format)
    text[""] = table.blank.map({True: "blank", False: ""})
    cli.print_table(text)
    if "integrated-gradients" in args.method:
        missed = attribution.completeness_error(model, grey, targets, maps["integrated-gradients"],
                                                args.baseline)
        print(f"Integrated gradients, {args.baseline} baseline: sums miss the difference of the logits by "
              f"{missed.mean():.3g} on average, {missed.max():.3g} at most")
    if args.images:
        table = table.join(photo_table)
        drawn = [draw_photo(args, photo, table.loc[rows.index], grey, probabilities, values, masked)
                 for photo, rows in photo_table.groupby("photo", sort=False)]
        write(paths, [*drawn, table])
    else:
        write(paths, [draw_sheet(args, grey, probabilities, values, masked, table), table])
    return table


def photo_faces(args, ending):
    """The faces in the photos of --images.

    Returns the paths to write (a figure a photo with faces, a CSV), a DataFrame of the faces (photo and what
    `photos.find_faces` tells of each), Faces, and a caption for each.
    """
    from utils import photos

    found = photos.find_photos(args.images)
    figures = photos.figure_paths(found, f"{args.model.stem}_saliency{ending}")
    files.check_outputs(dict.fromkeys(figures.values(), ""))
    csv_path, = output_paths(args, {f"{ending}_photos.csv": "image"})
    table, images = photos.load_faces(found, args.cropped, args.max_faces)
    table = table.rename(columns={"image": "photo"})
    captions = table["photo"].map(os.path.basename) + ", face " + table["face"].astype(str)
    paths = [*(figures[photo] for photo in table["photo"].unique()), csv_path]
    return paths, table, data.Faces(images, source="--images"), list(captions)


def draw_photo(args, path, table, grey, probabilities, values, masked):
    """A photo with its faces in squares and, for each face, its crop, its maps and, of a single method, the
    masked face."""
    from utils import photos
    from utils.figures import draw_boxes, plt

    single, faces = len(args.method) == 1, table.groupby(level=0)
    columns = min(1 + len(args.method) + single, 5)
    lines = -(-(1 + len(args.method) + single) // columns)  # of a face
    photo, scale = photos.shrink(photos.read_photo(path), PHOTO_SIDE)
    width, height = 1.45 * columns, 1.95 * lines * len(faces)
    tall = min(3 * photo.shape[0] / photo.shape[1], 5)
    figure = plt.figure(figsize=(3 + width, max(height, tall) + 0.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, width])
    ax = left.subplots()
    draw_boxes(ax, photo, scale, table[~table.index.duplicated()])
    ax.set_anchor("N" if len(faces) > 2 else "C")  # not half a page down
    axes = right.subplots(lines * len(faces), columns, squeeze=False, subplot_kw={
        "xticks": [], "yticks": [], "frame_on": False, "box_aspect": 1, "visible": False})
    for line, (i, rows) in enumerate(faces):
        crop, *others = axes[lines * line:lines * (line + 1)].flat
        row = rows.iloc[0]
        draw_face(crop, grey[i])
        crop.set_title(f"face {row.face}", fontsize=8.5)
        score = "" if np.isnan(row.score) else f"\ndetector's score {row.score:.2f}"
        tilt = f"\ntilted by {row.tilt:.0f}°" if row.tilt else ""
        crop.set_xlabel(f"{row.predicted} {probabilities[i].max():.2f}{score}{tilt}", fontsize=7.5)
        for ax, one in zip(others, rows.itertuples()):
            draw_map(ax, values[one.method][i], one.blank)
            ax.set_title(one.method, fontsize=8.5 if len(one.method) < 16 else 7)
            ax.set_xlabel(f"for {one.target}", fontsize=7.5)
        if single:
            draw_face(others[1], masked[row.method][i])
            others[1].set_title(f"top {args.keep:g} % kept", fontsize=8.5)
            others[1].set_xlabel(f"p({row.target.removesuffix(RUNNER_UP)}): {row.p_kept:.2f}\n"
                                 f"random instead: {row.p_kept_random:.2f}", fontsize=7.5)
    figure.suptitle(f"Saliency of {args.model.stem}: {os.path.basename(path)}", fontsize=10)
    return figure


def draw_sheet(args, grey, probabilities, values, masked, table):
    """A block of panels for each face: the face, its map by each method and, of a single method, the masked
    face."""
    from explain.attribution import METHODS
    from utils.figures import COLORS, plt

    n, single = len(grey), len(args.method) == 1
    alone = single and n == 1
    panels = 1 + len(args.method) + single
    columns = min(panels, 8)
    lines = -(-panels // columns)  # of a block
    across = 1 if n <= 4 or not single else 2 if n <= 16 else 3
    down = -(-n // across)
    size, gap, large, small = (2.1, 0.3, 9, 7.5) if columns * across < 5 else (1.3, 0.45, 7.5, 6)
    width, height = size * columns * across + 0.9, (size + gap) * lines * down + (0.35 if alone else 1)
    figure, axes = image_axes(lines * down, (columns + 1) * across - 1, figsize=(width, height),
                              width_ratios=([*columns * [1], 0.12] * across)[:-1])  # a gap between blocks
    for i, rows in table.groupby(level=0):
        top, left = lines * (i % down), (columns + 1) * (i // down)
        original, *others = axes[top:top + lines, left:left + columns].flat
        for ax, row in zip(others, rows.itertuples()):
            image = draw_map(ax, values[row.method][i], row.blank)
            guided = row.method == "guided-backprop"
            ax.set_title(row.method + " †" * guided, fontsize=large,
                         color=COLORS["red"] if guided else "black")
        draw_face(original, grey[i])
        true = f"true: {row.true}\n" if row.true else ""
        original.set_title(row.image, fontsize=large)
        predicted = f"predicted: {row.predicted} ({probabilities[i].max():.2f})"
        original.set_xlabel(true + predicted, fontsize=small)
        others[0].set_xlabel(f"for {row.target}", fontsize=small)
        if single:
            draw_face(others[1], masked[row.method][i])
            others[1].set_title(f"top {args.keep:g} %, rest {args.fill}", fontsize=large)
            others[1].set_xlabel(f"p({row.target.removesuffix(RUNNER_UP)}): {row.p_whole:.2f} whole, "
                                 f"{row.p_kept:.2f} kept\ninstead: random {row.p_kept_random:.2f}, "
                                 f"edges {row.p_kept_edges:.2f}", fontsize=small)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if alone:
        figure.colorbar(image, ax=others[0], extend="max", label=METHODS[row.method].unit)
    else:
        figure.colorbar(plt.cm.ScalarMappable(cmap="jet"), ax=axes, extend="max", location="bottom",
                        shrink=0.5, aspect=40, label="relative to each map's 99.5th percentile")
    method = args.method[0] if single else f"{len(args.method)} methods"
    target = {"predicted": "predicted class", "true": "true class",
              "contrastive": "predicted class minus runner-up"}.get(args.target, f"class {args.target}")
    title = f"Saliency of {args.model.stem}: {method}, {target}"
    if "guided-backprop" in args.method:
        title += "\n† shows edges whatever was learnt (Adebayo et al. 2018)"
    figure.suptitle(title, fontsize=10.5)
    return figure


def image_axes(down, across, **options):
    """A figure and axes (down, across) without ticks and frames, invisible until something is drawn."""
    from utils.figures import plt

    bare = {"xticks": [], "yticks": [], "frame_on": False, "box_aspect": 1, "visible": False}
    return plt.subplots(down, across, layout="constrained", squeeze=False, subplot_kw=bare, **options)


def draw_face(ax, face):
    ax.set_visible(True)
    ax.imshow(face, cmap="gray", vmin=0, vmax=255)


def draw_map(ax, value, blank):
    """One map in jet up to its 99.5th percentile, so that a single pixel does not hide the rest."""
    ax.set_visible(True)
    value = np.maximum(value, 0)
    if blank:
        ax.annotate("blank", (0.5, 0.5), xycoords="axes fraction", color="white", ha="center", va="center",
                    fontsize=8)
    return ax.imshow(value, cmap="jet", vmin=0, vmax=np.percentile(value, 99.5) or value.max() or 1.0)


# ---- evidence ----------------------------------------------------------------------------------------------


def evaluate_methods(args, model):
    """Test the methods: one table with intervals and verdicts, two figures with their numbers."""
    from explain import attribution, faithfulness

    paths = output_paths(args, {"_evaluation.png": "", "_evaluation.csv": "method", "_curves.csv": "method",
                                "_randomisation.png": "", "_randomisation.csv": "method"})
    faces, few = validation_faces(args).take(slice(args.evaluate)), slice(FACES_RANDOMISED)
    if len(faces) < 2:
        raise UserError(f"{faces.source} has {len(faces)} faces; expected at least 2")
    grey, targets, codes, *_ = forward(args, model, faces)
    methods = [*args.method, *attribution.CONTROLS]
    maps = attribution.attribute_all(model, grey, targets, methods, **options(args))
    values = {method: attribution.strength(maps[method], method) for method in methods}
    scores, curves = faithfulness.evaluate(model, grey, codes, values, args.keep / 100, args.seed)
    cascade = faithfulness.cascade(model, grey[few], targets[few], args.method, **options(args))
    table, control = table_of_evidence(scores, cascade, args.seed)

    print(f"{len(grey)} faces of {faces.source}; brackets are bootstrap 95 % intervals.\n"
          "Deletion should be low, insertion high; net is insertion minus deletion, against "
          f"{control}, the best control.\n"
          f"Drop and increase of the probability with the top {args.keep:g} % kept.\n"
          "Correlation and SSIM: of maps before and after randomisation, mean over the upper half of its "
          f"{cascade.redrawn_down_to.nunique()} stages;\n"
          f"a method fails when both stay above {faithfulness.FAILS:g}.")
    print_evidence(table)
    figures = draw_evidence(args, table, curves, len(grey)), draw_cascade(args, cascade, table)
    write(paths, [figures[0], table, curves, figures[1], cascade])
    return table


def table_of_evidence(scores, cascade, seed):
    """Means with intervals and a verdict for each method, best first, and the name of the best control.

    scores, cascade: as `faithfulness.evaluate` and `faithfulness.cascade` give them.
    """
    import pandas as pd

    from explain import faithfulness
    from explain.attribution import CONTROLS
    from utils import metrics

    scores = scores.assign(net=scores.insertion_area - scores.deletion_area)
    order = scores.groupby("method").net.mean().sort_values(ascending=False)
    control = order[list(CONTROLS)].idxmax()
    net, net_of_control = f"net_above_{control}", scores.net[scores.method == control]
    scores[net] = scores.net - net_of_control[scores.index].to_numpy()  # face by face
    by_method, similar = scores.groupby("method"), faithfulness.upper_half(cascade)
    rows = []
    for method in order.index:
        row = {"method": method}
        for key in ("deletion_area", "insertion_area", "drop", "increase", "sparseness", net):
            numbers = by_method.get_group(method)[key]
            row |= zip((key, f"{key}_low", f"{key}_high"), metrics.bootstrap_mean(numbers, seed))
        for key in ("rank_correlation", "ssim"):
            row[key] = "-" if method in CONTROLS else f"{similar.at[method, key]:.3f}"
        row["blank"] = int(by_method.get_group(method).blank.sum())
        remarks = {"control": method in CONTROLS,
                   "fails randomisation": method not in CONTROLS and similar.at[method, "fails"],
                   f"not above {control}": method not in CONTROLS and row[f"{net}_low"] <= 0,
                   f"{row['blank']} blank": row["blank"]}
        row["verdict"] = "; ".join(remark for remark, holds in remarks.items() if holds) or "passes"
        rows.append(row)
    return pd.DataFrame(rows), control


def print_evidence(table):
    text = table[["method"]].copy()
    net = next(name for name in table.columns if name.startswith("net_above"))
    for key in ("deletion_area", "insertion_area", net):
        text[key.replace("_", " ")] = ["{:.3f} [{:.3f}, {:.3f}]".format(*numbers)
                                       for numbers in table[[key, f"{key}_low", f"{key}_high"]].to_numpy()]
    for name, key in (("drop %", "drop"), ("increase %", "increase"), ("sparse %", "sparseness")):
        text[name] = (100 * table[key]).map("{:.0f}".format)
    cli.print_table(text.assign(correlation=table.rank_correlation, SSIM=table.ssim, verdict=table.verdict))


def draw_evidence(args, table, curves, n):
    """Deletion and insertion curves, each family's best bold, above all areas with intervals."""
    from explain.attribution import CONTROLS, METHODS
    from utils.figures import COLORS, plt

    family = table.method.map(lambda method: (METHODS | CONTROLS)[method].family)
    table = table.assign(family=family, color=family.map(FAMILY_COLORS).map(COLORS))
    height = 0.2 * len(table) + 0.4
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 3.3 + height), layout="constrained",
                                height_ratios=[2.6, height])
    for ax, axis, kind, low_is_good in zip(axes[0], axes[1], ("deletion", "insertion"), (True, False)):
        ranked = table.sort_values(f"{kind}_area", ascending=low_is_good)
        best = {*ranked.drop_duplicates("family").method, *CONTROLS}
        for row in ranked.itertuples():
            curve, bold = curves[curves.method == row.method], row.method in best
            ax.plot(100 * curve.share_of_area, curve[kind], CONTROL_STYLES.get(row.method, "-"),
                    color=row.color, lw=1.8 if bold else 0.7, alpha=1 if bold else 0.5,
                    label=row.method if bold else None)
        ax.set(xlabel=f"most salient area {'removed' if low_is_good else 'shown'} (%)", ylim=(0, 1),
               title=f"{kind.capitalize()} ({'low' if low_is_good else 'high'} is good)")
        ax.legend(loc="best", ncols=2, columnspacing=1, handlelength=2.4, fontsize=7, frameon=True,
                  edgecolor="none")
        area = table[f"{kind}_area"]
        errors = [area - table[f"{kind}_area_low"], table[f"{kind}_area_high"] - area]
        for y, color in enumerate(table.color):
            axis.errorbar(area[y], -y, xerr=[[error[y]] for error in errors], fmt="o", ms=4, capsize=2,
                          color=color)
        axis.set(xlabel=f"area under the {kind} curve", yticks=-table.index)
        for each in (ax, axis):
            each.grid(True)
            each.set_axisbelow(True)
    fails = table.verdict.str.contains("fails")
    axes[0, 0].set_ylabel("mean probability of the class")
    axes[1, 0].set_yticklabels(table.method + fails.map({True: " †", False: ""}))
    axes[1, 1].set_yticklabels([])
    failing = "\n† fails: nearly the same map without what was learnt" if fails.any() else ""
    figure.suptitle(f"Do the maps of {args.model.stem} find what the network uses? {n} faces, 95 % intervals"
                    f"{failing}", fontsize=10.5)
    return figure


def draw_cascade(args, cascade, table):
    """Rank correlation and structural similarity of each method's maps as weights are lost from the top."""
    from utils.figures import COLORS, plt

    methods = cascade.groupby("method").rank_correlation.mean().sort_values(kind="stable").index
    fails = table.set_index("method").verdict.str.contains("fails")[methods]
    stages = cascade.redrawn_down_to.unique()
    figure, axes = plt.subplots(1, 2, figsize=(2.6 + 0.75 * len(stages), 1.8 + 0.27 * len(methods)),
                                layout="constrained", sharey=True)
    titles = {"rank_correlation": "rank correlation of |map|", "ssim": "structural similarity"}
    for ax, (key, title) in zip(axes, titles.items()):
        grid = cascade.pivot(index="method", columns="redrawn_down_to", values=key).loc[methods, stages]
        image = ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".")
            color = "black" if value > 0.5 else "white"
            ax.text(x, y, text, ha="center", va="center", fontsize=6.5, color=color)
        ax.set_xticks(range(len(stages)), stages, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_title(title)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_yticks(range(len(methods)), [f"fails: {m}" if fails[m] else m for m in methods])
    for label, failed in zip(axes[0].get_yticklabels(), fails):
        label.set(color=COLORS["red"] if failed else "black", fontweight="bold" if failed else "normal")
    figure.supxlabel("layers re-initialised, from the output down to", fontsize=9)
    figure.colorbar(image, ax=axes, label="1: unchanged map", aspect=30)
    figure.suptitle(f"Do the maps of {args.model.stem} change as its weights are lost? (Adebayo et al. 2018)",
                    fontsize=10.5)
    return figure


# ---- mean maps ---------------------------------------------------------------------------------------------


def average_maps(args, model):
    """The mean map of each true class, and of its rightly and wrongly classified faces."""
    import pandas as pd

    from explain import attribution

    method, = args.method
    paths = output_paths(args, {f"_mean_{method}.png": "", f"_mean_{method}.csv": "class"})
    faces = validation_faces(args)
    grey, targets, *_, about = forward(args, model, faces)
    maps = attribution.attribute(model, grey, targets, method, **options(args))
    values = np.maximum(attribution.strength(maps, method), 0)
    mean = values.mean((1, 2), keepdims=True)
    values /= np.where(mean > 0, mean, 1)  # every face counts alike, however steep its logit
    visible, right = mean.ravel() > 0, about.predicted == about.true
    mean_faces, averages, rows = {}, {}, []
    for name in [name for name in models.class_names(model) if name in set(about.true)]:
        mean_faces[name] = grey[about.true == name].mean(0)
        own = visible & (about.true == name)
        for group, members in (("all", own), ("right", own & right), ("wrong", own & ~right)):
            if members.any():
                averages[name, group] = average = values[members].mean(0)
                thirds = [float(part.sum() / average.sum()) for part in np.array_split(average, 3)]
                rows.append([name, group, int(members.sum()), *thirds])
    table = pd.DataFrame(rows, columns=["class", "faces", "n", "upper_third", "middle_third", "lower_third"])

    if not visible.all():
        print(f"Blank maps, left out: {(~visible).sum()} of {len(visible)}")
    print(f"Share of the saliency in each third of the image, {len(visible):,} faces of {faces.source}")
    shares = (100 * table.filter(like="_third")).map("{:.0f}".format)
    text = table.assign(n=table.n.map("{:,}".format), **shares).rename(columns={"class": "true class"})
    cli.print_table(text.rename(columns=lambda name: name.replace("_third", " %")))
    title = f"Where {args.model.stem} looks: {method}, mean of each true class, {len(grey):,} faces"
    write(paths, [draw_averages(mean_faces, averages, table, title), table])
    return table


def draw_averages(mean_faces, averages, table, title):
    """Mean face and mean maps of each class: {class: face (h, w)}, {(class, group): map (h, w)}."""
    from utils.figures import plt

    counts, groups = table.set_index(["class", "faces"]).n, ("all", "right", "wrong")
    top = np.percentile(list(averages.values()), 99.5) if averages else 1.0
    colors = plt.cm.ScalarMappable(plt.Normalize(0, top), "inferno")
    figure, axes = image_axes(4, len(mean_faces), figsize=(1.05 * len(mean_faces) + 0.9, 5.4))
    for column, (name, face) in zip(axes.T, mean_faces.items()):
        draw_face(column[0], face)
        column[0].set_title(name)
        for ax, group in zip(column[1:], groups):
            ax.set_visible(True)
            ax.set_xlabel(f"n = {counts.get((name, group), 0):,}", fontsize=7, labelpad=2)
            if (name, group) in averages:
                ax.imshow(averages[name, group], colors.cmap, colors.norm)
    for ax, text in zip(axes[:, 0], ("mean face", *groups)):
        ax.set_ylabel(text)
    figure.colorbar(colors, ax=axes[1:], extend="max", label="saliency, times the map's mean", aspect=30)
    figure.suptitle(title, fontsize=10.5)
    return figure


if __name__ == "__main__":
    cli.run(main)
