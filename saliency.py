"""Question 4: where does the network look? Saliency maps, and which of them to trust.

    python saliency.py                                  one training image: face, heat map, masked face
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     the faces in photos, all methods side by side
    python saliency.py --evaluate 100                   deletion, insertion, randomisation of each method
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and wrong

Methods: gradient, gradient-x-input, smoothgrad, squaregrad, vargrad, integrated-gradients, guided-backprop,
grad-cam, grad-cam++, layer-cam, hires-cam and, slow because they ask the network hundreds of times an image,
score-cam, occlusion, rise. The masked face keeps the pixels with the largest values of its map (--keep) that
are above zero; the others become the face's mean grey (--fill).

Writes figures/MODEL_saliency_METHOD_DATA_index-N.png, other settings in the name, and a CSV with the numbers
beside each. --images finds the faces as predict.py does and makes one figure a photo: the photo with its
faces in squares, and each face with the detector's score, its prediction and its maps. Any Keras classifier
with one image input will do. A sheet takes seconds, --evaluate minutes.
"""

import os
from pathlib import Path

import numpy as np

from utils import cli, data, files, models
from utils.cli import UserError

MOST_FACES = 70
PHOTO_FACES = 8  # of a photo, one below the other in its figure
PHOTO_SIDE = 1200  # pixels of the photo in the figure
FACES_RANDOMISED = 24  # the cascade makes every map again after every stage
CLEARLY = 0.05  # of probability, by which a masked face beats those of the controls
RUNNER_UP = " - runner-up"
FAMILY_COLORS = {"gradient": "blue", "guided": "purple", "class activation": "red", "perturbation": "green",
                 "control": "grey"}
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}


def main(argv=None):
    """Returns the (first) table that is written, a DataFrame; its attrs["figures"] are the figures' paths."""
    args = parse_args(argv)
    cli.start_keras()
    model = load_model(args)
    if "guided-backprop" in args.method:
        print("Warning: guided-backprop shows the edges of the face whatever the network has learnt\n"
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
    which.add_argument("--index", type=cli.number(int, 0), nargs="+",
                       help="training images, counted from 0 (default: of the first 100 the one that the "
                            "network is surest of and gets right)")
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
    args.settings = parser.changed(args, "target", "keep", "fill", "layer", "baseline", "samples", "seed")
    if args.cropped and not args.images:
        raise UserError("--cropped belongs to --images")
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


def load_model(args):
    """The model of logits; args.model becomes its path, args.method the methods to use and args.method_name
    what files call them. Where the user named none, or all, those that do not suit the network are left
    out."""
    from explain import attribution
    from utils import structure

    methods = methods_to_use(args)
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


def methods_to_use(args):
    """The methods that --method names, or the default ones; sets args.method_name."""
    from explain import attribution

    default = [method for method in attribution.METHODS if method not in attribution.SLOW]
    methods = dict.fromkeys(args.method or (default if args.evaluate else ["gradient"]))
    for method in methods:
        if method not in attribution.METHODS and method != "all":
            raise UserError(f"--method: invalid choice: {method!r} (choose from "
                            f"{', '.join(attribution.METHODS)}, all)")
    methods = list(attribution.METHODS if "all" in methods else methods)
    args.method_name = {tuple(attribution.METHODS): "all", tuple(default): "fast"}.get(
        tuple(methods), "_".join(methods))
    if args.mean_maps and len(methods) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")
    return methods


def chosen_faces(args, model):
    """The faces that --index or --per-class name, a caption for each, and all of it for a file name."""
    from explain import faithfulness

    faces = data.training_part(data.find_data(args.data))
    rows = np.array(args.index or [faithfulness.surest_face(model, faces)])
    which = "index-" + "-".join(map(str, rows))
    if args.per_class:
        if faces.labels is None:
            raise UserError(f"{faces.source} has no labels for --per-class; choose images with --index")
        rows = np.concatenate([np.flatnonzero(faces.labels == code)[:args.per_class]
                               for code in range(len(data.CLASSES))])
        which = f"per-class-{args.per_class}"
    elif rows.max() >= len(faces):
        raise UserError(f"--index {rows.max()} is out of range; "
                        f"{faces.source} has training images 0 to {len(faces) - 1}")
    if len(rows) > MOST_FACES:
        raise UserError(f"{len(rows)} images are too many to look at; choose at most {MOST_FACES}")
    return faces.take(rows), [f"index {row}" for row in rows], f"{faces.name}_{which}"


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


def output_paths(args, what, endings):
    """figures/MODEL_saliency_WHAT, settings, ending. Raises UserError where one may not be overwritten.

    endings: {ending: first column of a CSV, else ""}
    """
    name = files.name_part(args.model.stem, "saliency", what) + files.name_part(args.settings)
    outputs = {models.FIGURES / f"{name}{ending}": first for ending, first in endings.items()}
    files.check_outputs(outputs)
    return list(outputs)


def write(paths, contents):
    """Write figures and tables to their paths, and say so; returns the first table."""
    from utils.figures import save_figure

    for path, content in zip(paths, contents):
        if path.suffix == ".png":
            save_figure(content, path)
        else:
            files.write_table(path, content)
    print("Wrote " + ", ".join(map(files.relative_path, paths)))
    table = next(content for path, content in zip(paths, contents) if path.suffix == ".csv")
    table.attrs["figures"] = [str(path) for path in paths if path.suffix == ".png"]
    return table


# ---- maps of single faces ----------------------------------------------------------------------------------


def explain_faces(args, model):
    """Maps of the chosen faces, and how much of the probability the most salient area keeps."""
    import pandas as pd

    from explain import attribution

    if args.images:
        paths, photo_table, faces, captions = photo_faces(args)
    else:
        faces, captions, which = chosen_faces(args, model)
        pages = np.array_split(np.arange(len(faces)), -(-len(faces) // faces_on_a_page(args)))
        endings = [f"{f'_page-{number}' * (len(pages) > 1)}.png" for number in range(1, len(pages) + 1)]
        paths = output_paths(
            args, f"{args.method_name}_{which}", dict.fromkeys(endings, "") | {".csv": "image"})
    grey, targets, codes, probabilities, about = forward(args, model, faces)
    about.insert(0, "image", captions)
    if args.target == "contrastive":
        about.target += RUNNER_UP

    # ---- Maps, and masked faces: the pixels that a map ranks first stay as they are, the rest is filled
    maps = attribution.attribute_all(model, grey, targets, [*args.method, "random", "edges"], **options(args))
    values = {method: attribution.strength(each, method) for method, each in maps.items()}
    masked, kept = {}, {}
    for method in args.method:
        masked[method], kept[method] = keep_most_salient(args, model, grey, codes, values, method)
    table = pd.concat(about.assign(
        method=method, p_whole=probabilities[np.arange(len(grey)), codes].astype(float), **kept[method],
        map_min=maps[method].min((1, 2)).astype(float), map_max=maps[method].max((1, 2)).astype(float),
        blank=attribution.is_blank(maps[method])) for method in args.method)
    table = table.sort_index(kind="stable")  # face by face; the index is the face's number

    print(f"p: probability of the target, of the whole face and with the top {args.keep:g} % of the map kept "
          f"where it is above\nzero, the rest {args.fill}; random, edges: with as much area of these kept")
    text = table.iloc[:, :5].assign(**{name: table[key].map("{:.3f}".format) for name, key in (
        ("p whole", "p_whole"), ("kept", "p_kept"), ("random", "p_kept_random"), ("edges", "p_kept_edges"))})
    text["area %"] = (100 * table.area_kept).map("{:.0f}".format)
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
    else:
        drawn = [draw_sheet(args, grey, probabilities, values, masked, table.loc[page]) for page in pages]
    return write(paths, [*drawn, table])


def keep_most_salient(args, model, grey, codes, values, method):
    """Faces (n, h, w) with nothing but what a map marks, and columns of the table about them."""
    from explain import faithfulness

    def masked_faces(name, share):
        keep = faithfulness.most_salient(values[name], share, args.seed)
        masked = faithfulness.masked(grey, keep, args.fill)
        p = faithfulness.probabilities(model, masked)[np.arange(len(grey)), codes]
        return masked, keep.mean((1, 2)), p.astype(float)

    masked, area, p_kept = masked_faces(method, args.keep / 100)
    controls = {f"p_kept_{name}": masked_faces(name, area)[2] for name in ("random", "edges")}  # as much area
    return masked, {"area_kept": area, "sparseness": faithfulness.sparseness(values[method]),
                    "p_kept": p_kept, **controls}


def faces_on_a_page(args):
    """How many faces fit a page of A4: of one method in two columns, of several in lines of five panels."""
    return 12 if len(args.method) == 1 else max(1, 6 // -(-(1 + len(args.method)) // 5))


def photo_faces(args):
    """The faces in the photos of --images.

    Returns the paths to write (a figure a photo with faces, a CSV), a DataFrame of the faces (photo and what
    `photos.load_faces` tells of each), Faces, and a caption for each.
    """
    from utils import photos

    found = photos.find_photos(args.images)
    csv_path, = output_paths(args, f"{args.method_name}_photos", {".csv": "image"})
    figures = photos.figure_paths(found, csv_path.stem)
    files.check_outputs(dict.fromkeys(figures.values(), ""))
    table, images = photos.load_faces(found, args.cropped, args.max_faces)
    table = table.rename(columns={"image": "photo"})
    captions = table["photo"].map(os.path.basename) + ", face " + table["face"].astype(str)
    paths = [*(figures[photo] for photo in table["photo"].unique()), csv_path]
    return paths, table, data.Faces(images, source="--images"), list(captions)


def draw_photo(args, path, table, grey, probabilities, values, masked):
    """A photo with its faces in squares and, for each face, its crop, its maps and, of a single method, the
    masked face."""
    from utils import photos
    from utils.figures import WIDTH, add_conclusion, draw_boxes, plt

    single, faces = len(args.method) == 1, table.groupby(level=0)
    columns = 3 if single else min(1 + len(args.method), 5)
    lines = -(-(1 + len(args.method)) // columns)  # of a face
    photo, scale = photos.shrink(photos.read_photo(path), PHOTO_SIDE)
    beside = 2.2 if single else 0  # inches of the photo beside the faces; else it is above them
    height = ((WIDTH - beside) / columns + (0.75 if single else 0.35)) * lines * len(faces)
    if single:
        figure = plt.figure(figsize=(WIDTH, max(height, 2.5) + 0.4), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[beside, WIDTH - beside])
    else:
        figure = plt.figure(figsize=(WIDTH, height + 3), layout="constrained")
        left, right = figure.subfigures(2, 1, height_ratios=[2.6, height])
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
            ax.set_title(one.method + " †" * (one.method == "guided-backprop"),
                         fontsize=8.5 if len(one.method) < 16 else 7)
            ax.set_xlabel(f"for {one.target}", fontsize=7.5)
        if single:
            draw_face(others[1], masked[row.method][i])
            others[1].set_title(f"{100 * row.area_kept:.0f} % kept", fontsize=8.5)
            others[1].set_xlabel(f"p({row.target.removesuffix(RUNNER_UP)}): {row.p_kept:.2f}\n"
                                 f"random instead: {row.p_kept_random:.2f}", fontsize=7.5)
    figure.suptitle(f"Saliency of {args.model.stem}: {os.path.basename(path)}", fontsize=10)
    add_conclusion(figure, conclusion_of_sheet(args, table))
    return figure


def draw_sheet(args, grey, probabilities, values, masked, table):
    """A block of panels for each face: the face, its map by each method and, of a single method, the masked
    face."""
    from explain.attribution import METHODS
    from utils.figures import COLORS, WIDTH, add_conclusion, plt

    n, single = table.index.nunique(), len(args.method) == 1
    large, alone = single and n <= 3, single and n == 1
    across = 2 if single and not large else 1
    columns = 3 if single else min(1 + len(args.method), 5)
    lines, down = -(-(1 + len(args.method)) // columns), -(-n // across)  # of a block; of blocks
    title_size, size, new = (9, 8, " ") if large else (7.5, 7, "\n")
    height = (WIDTH / columns / across + (0.6 if single else 0.3)) * lines * down + 0.6
    figure, axes = image_axes(lines * down, (columns + 1) * across - 1, figsize=(WIDTH, height),
                              width_ratios=([*columns * [1], 0.12] * across)[:-1])  # a gap between blocks
    for position, (i, rows) in enumerate(table.groupby(level=0)):
        top, left = lines * (position % down), (columns + 1) * (position // down)
        original, *others = axes[top:top + lines, left:left + columns].flat
        for ax, row in zip(others, rows.itertuples()):
            image = draw_map(ax, values[row.method][i], row.blank)
            guided = row.method == "guided-backprop"
            ax.set_title(row.method + " †" * guided, fontsize=title_size,
                         color=COLORS["red"] if guided else "black")
        draw_face(original, grey[i])
        original.set_title(row.image, fontsize=title_size)
        predicted = f"predicted:{new}{row.predicted} {probabilities[i].max():.2f}"
        original.set_xlabel(f"true: {row.true}\n" * bool(row.true) + predicted, fontsize=size)
        others[0].set_xlabel(f"for{new}{row.target}", fontsize=size)
        if single:
            draw_face(others[1], masked[row.method][i])
            others[1].set_title(f"{100 * row.area_kept:.0f} % kept", fontsize=title_size)
            others[1].set_xlabel(f"p {row.p_whole:.2f}, kept {row.p_kept:.2f}\n"
                                 f"random {row.p_kept_random:.2f},{new}edges {row.p_kept_edges:.2f}",
                                 fontsize=size)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if alone:
        figure.colorbar(image, ax=others[0], extend="max", label=METHODS[row.method].unit)
    else:
        figure.colorbar(plt.cm.ScalarMappable(cmap="jet"), ax=axes, extend="max", location="bottom",
                        shrink=0.6, aspect=40, label="relative to each map's 99.5th percentile")
    method = args.method[0] if single else f"{len(args.method)} methods"
    target = {"predicted": "predicted class", "true": "true class",
              "contrastive": "predicted class minus runner-up"}.get(args.target, f"class {args.target}")
    figure.suptitle(f"Saliency of {args.model.stem}\n{method}, {target}", fontsize=10)
    add_conclusion(figure, conclusion_of_sheet(args, table))
    return figure


def conclusion_of_sheet(args, table):
    """What the masked faces say about the maps."""
    columns = ["p_kept", "p_kept_random", "p_kept_edges", "p_whole", "area_kept"]
    means = table.groupby("method")[columns].mean()
    kept, random, edges, whole, area = means.loc[means.p_kept.idxmax()]
    numbers = (f"keep the probability at {kept:.2f} (whole face: {whole:.2f}); the same area of random "
               f"pixels gives {random:.2f}, of the strongest edges {edges:.2f}.")
    compared = means if len(args.method) > 1 else table
    wins = (compared.p_kept - compared[["p_kept_random", "p_kept_edges"]].max(axis=1) >= CLEARLY).sum()
    if len(args.method) > 1:
        text = (f"{means.p_kept.idxmax()} does best: the {100 * area:.0f} % of the area that it marks "
                f"{numbers} {wins} of {len(means)} methods do clearly better than both.")
    elif len(table) > 1:
        text = (f"On average the {100 * area:.0f} % of the area that a map marks {numbers} The maps do "
                f"clearly better than both for {wins} of {len(table)} faces.")
    else:
        text = f"The {100 * area:.0f} % of the area that the map marks {numbers} " + (
            "So the map shows what the network uses here." if wins else
            "So the map is no clearly better guide to what the network uses here.")
    if "guided-backprop" in args.method:
        text += " † Shows edges whatever was learnt (Adebayo et al. 2018)."
    return text


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

    faces, few = validation_faces(args).take(slice(args.evaluate)), slice(FACES_RANDOMISED)
    paths = output_paths(args, f"evaluation_{args.method_name}_{faces.name}_{args.evaluate}", {
        ".png": "", ".csv": "method", "_curves.csv": "method",
        "_randomisation.png": "", "_randomisation.csv": "method"})
    if len(faces) < 2:
        raise UserError(f"{faces.source} has {len(faces)} faces; expected at least 2")
    grey, targets, codes, *_ = forward(args, model, faces)
    methods = [*args.method, *attribution.CONTROLS]
    maps = attribution.attribute_all(model, grey, targets, methods, **options(args))
    values = {method: attribution.strength(maps[method], method) for method in methods}
    scores, curves = faithfulness.evaluate(model, grey, codes, values, args.keep / 100, args.seed)
    cascade = faithfulness.cascade(model, grey[few], targets[few], args.method, **options(args))
    table, control = faithfulness.verdicts(scores, cascade, args.seed)

    print(f"{len(grey)} faces of {faces.source}; brackets are bootstrap 95 % intervals.\n"
          "The area under the deletion curve should be low, under the insertion curve high; net is the\n"
          f"second minus the first, above that of {control}, the best control. Correlation and SSIM: of\n"
          "maps before and after randomisation, mean over the upper half of its "
          f"{cascade.redrawn_down_to.nunique()} stages; a method\nfails when both stay above "
          f"{faithfulness.FAILS:g}.\n"
          f"What the top {args.keep:g} % of the area keep of the probability is in the CSV.")
    print_evidence(table, control)
    figures = draw_evidence(args, table, curves, control, len(grey)), draw_cascade(args, cascade, table)
    return write(paths, [figures[0], table, curves, figures[1], cascade])


def print_evidence(table, control):
    """The table in at most 100 columns."""
    text = table[["method"]].copy()
    for name, key in (("delete", "deletion_area"), ("insert", "insertion_area")):
        text[name] = table[key].map("{:.3f}".format)
    net = f"net_above_{control}"
    text[f"net above {control}"] = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers)
                                    for numbers in table[[net, f"{net}_low", f"{net}_high"]].to_numpy()]
    text[["corr.", "SSIM", "verdict"]] = table[["rank_correlation", "ssim", "verdict"]]
    cli.print_table(text)
    for row in table[table.blank > 0].itertuples():
        print(f"{row.method}: {row.blank} of the maps are blank")


def draw_evidence(args, table, curves, control, n):
    """Deletion and insertion curves, each family's best bold, above all areas with intervals."""
    from explain.attribution import CONTROLS, METHODS
    from utils.figures import COLORS, WIDTH, add_conclusion, plt

    family = table.method.map(lambda method: (METHODS | CONTROLS)[method].family)
    table = table.assign(family=family, color=family.map(FAMILY_COLORS).map(COLORS))
    best = {*table.drop_duplicates("family").method, *CONTROLS}  # the table is sorted
    height = 0.2 * len(table) + 0.4
    figure, axes = plt.subplot_mosaic([["deletion", "insertion"], ["legend"] * 2, ["areas", "more areas"]],
                                      figsize=(WIDTH, 4 + height), layout="constrained",
                                      height_ratios=[2.6, 0.6, height])
    for kind, areas, low_is_good in (("deletion", "areas", True), ("insertion", "more areas", False)):
        ax, axis = axes[kind], axes[areas]
        for row in table.itertuples():
            curve, bold = curves[curves.method == row.method], row.method in best
            ax.plot(100 * curve.share_of_area, curve[kind], CONTROL_STYLES.get(row.method, "-"),
                    color=row.color, lw=1.8 if bold else 0.7, alpha=1 if bold else 0.5,
                    label=row.method if bold else None)
        ax.set(xlabel=f"most salient area {'removed' if low_is_good else 'shown'} (%)", ylim=(0, 1),
               title=f"{kind.capitalize()} ({'low' if low_is_good else 'high'} is good)")
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
    axes["deletion"].set_ylabel("mean probability of the class")
    axes["areas"].set_yticklabels(table.method + fails.map({True: " †", False: ""}))
    axes["more areas"].set_yticklabels([])
    axes["legend"].set_axis_off()
    axes["legend"].legend(*axes["deletion"].get_legend_handles_labels(), loc="center", ncols=4,
                          title="thick: the best method of each family, and the controls")
    figure.suptitle(f"Do the maps of {args.model.stem} find what the network uses?\n"
                    f"{n} faces, 95 % intervals", fontsize=10)
    add_conclusion(figure, conclusion_of_evidence(table, control))
    return figure


def conclusion_of_evidence(table, control):
    """Which methods to believe."""
    methods = table[~table.verdict.str.contains("control")]
    passing, net = methods[methods.verdict == "passes"], f"net_above_{control}"
    text = "No method passes both tests: take no map of this network for what it uses."
    if len(passing):
        best = passing.iloc[0]
        text = (f"{len(passing)} of {len(methods)} methods find more than {control} and change with what was "
                f"learnt; {best.method} is best, {best[net]:.2f} [{best[net + '_low']:.2f}, "
                f"{best[net + '_high']:.2f}] above {control}.")
    failing = methods.method[methods.verdict.str.contains("fails")]
    return text + " † Fails: nearly the same map without what was learnt." * bool(len(failing))


def draw_cascade(args, cascade, table):
    """Rank correlation and structural similarity of each method's maps as weights are lost from the top."""
    from utils.figures import COLORS, WIDTH, add_conclusion, plt

    methods = cascade.groupby("method").rank_correlation.mean().sort_values(kind="stable").index
    fails = table.set_index("method").verdict.str.contains("fails")[methods]
    stages = cascade.redrawn_down_to.unique()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2 + 0.27 * len(methods)), layout="constrained",
                                sharey=True)
    titles = {"rank_correlation": "rank correlation of |map|", "ssim": "structural similarity"}
    for ax, (key, title) in zip(axes, titles.items()):
        grid = cascade.pivot(index="method", columns="redrawn_down_to", values=key).loc[methods, stages]
        image = ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".").replace("1.00", "1")
            color = "black" if value > 0.5 else "white"
            ax.text(x, y, text, ha="center", va="center", fontsize=7, color=color)
        ax.set_xticks(range(len(stages)), stages, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_title(title, fontsize=9)
        ax.tick_params(length=0, labelsize=7.5)
        ax.spines[:].set_visible(False)
    axes[0].set_yticks(range(len(methods)), [f"fails: {m}" if fails[m] else m for m in methods])
    for label, failed in zip(axes[0].get_yticklabels(), fails):
        label.set(color=COLORS["red"] if failed else "black", fontweight="bold" if failed else "normal")
    figure.supxlabel("layers re-initialised, from the output down to", fontsize=9)
    figure.colorbar(image, ax=axes, label="1: unchanged map", aspect=30)
    figure.suptitle(f"Do the maps of {args.model.stem} change as its weights are lost?\n"
                    "(Adebayo et al. 2018)", fontsize=10)
    failing = ", ".join(methods[fails])
    add_conclusion(figure, f"Without the upper half of the layers the maps of {failing} stay much the same: "
                           "they do not show what was learnt." if failing else
                           "Every method's maps change once the upper half of the layers is lost.")
    return figure


# ---- mean maps ---------------------------------------------------------------------------------------------


def average_maps(args, model):
    """The mean map of each true class, and of its rightly and wrongly classified faces."""
    import pandas as pd

    from explain import attribution

    faces = validation_faces(args)
    paths = output_paths(args, f"mean_{args.method_name}_{faces.name}", {".png": "", ".csv": "class"})
    grey, targets, *_, about = forward(args, model, faces)
    maps = attribution.attribute(model, grey, targets, args.method[0], **options(args))
    values = np.maximum(attribution.strength(maps, args.method[0]), 0)
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
    title = (f"Where {args.model.stem} looks: {args.method[0]},\n"
             f"mean of each true class, {len(grey):,} faces of {faces.source}")
    return write(paths, [draw_averages(mean_faces, averages, table, title), table])


def draw_averages(mean_faces, averages, table, title):
    """Mean face and mean maps of each class: {class: face (h, w)}, {(class, group): map (h, w)}."""
    from utils.figures import WIDTH, add_conclusion, plt

    counts, groups = table.set_index(["class", "faces"]).n, ("all", "right", "wrong")
    top = np.percentile(list(averages.values()), 99.5) if averages else 1.0
    colors = plt.cm.ScalarMappable(plt.Normalize(0, top), "inferno")
    figure, axes = image_axes(4, len(mean_faces), figsize=(WIDTH, 1.1 + 4 * WIDTH / (len(mean_faces) + 0.9)))
    for column, (name, face) in zip(axes.T, mean_faces.items()):
        draw_face(column[0], face)
        column[0].set_title(name, fontsize=9)
        for ax, group in zip(column[1:], groups):
            ax.set_visible(True)
            ax.set_xlabel(f"n = {counts.get((name, group), 0):,}", fontsize=7, labelpad=2)
            if (name, group) in averages:
                ax.imshow(averages[name, group], colors.cmap, colors.norm)
    for ax, text in zip(axes[:, 0], ("mean face", *groups)):
        ax.set_ylabel(text)
    figure.colorbar(colors, ax=axes[1:], extend="max", label="saliency, times the map's mean", aspect=30)
    figure.suptitle(title, fontsize=10)
    if averages:
        thirds = table[table.faces == "all"].set_index("class").filter(like="_third")
        top, bottom = thirds.upper_third.idxmax(), thirds.lower_third.idxmax()
        middle = thirds.middle_third
        add_conclusion(figure, f"The middle third of the image holds {100 * middle.min():.0f} to "
                       f"{100 * middle.max():.0f} % of the saliency. The upper third holds most for {top} "
                       f"({100 * thirds.upper_third[top]:.0f} %), the lower third for {bottom} "
                       f"({100 * thirds.lower_third[bottom]:.0f} %).")
    return figure


if __name__ == "__main__":
    cli.run(main)
