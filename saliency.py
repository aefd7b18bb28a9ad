"""Question 4: where does the network look? Saliency maps, and which of them to trust.

    python saliency.py                                  one training image: face, heat map, masked face
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     the faces in photos, all methods side by side
    python saliency.py --evaluate 100                   deletion, insertion, randomisation of each method
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and wrong

Methods: gradient, gradient-x-input, smoothgrad, squaregrad, vargrad, integrated-gradients, guided-backprop,
grad-cam, grad-cam++, layer-cam, hires-cam and, slow because they ask the network hundreds of times per image,
score-cam, occlusion, rise. The masked face keeps the pixels with the largest values of its map (--area) that
are above zero; the others become the face's mean grey (--fill).

Writes figures/MODEL_saliency_METHOD_DATA_index-N.png, other settings in the name, and a CSV with the numbers
beside each. --images finds the faces as predict.py does and makes one figure per photo: the photo with its
faces in squares, and each face with the detector's score, its prediction and its maps. Any Keras classifier
with one image input will do. A sheet takes seconds, --evaluate minutes.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, data, files, models
from utils.cli import UserError

PHOTO_FACES = 8  # of a photo
PHOTO_SIDE = 1200  # pixels of the photo in the figure
PHOTO_HEIGHT = 2.6  # inches of the photo above its faces
FACES_RANDOMIZED = 24  # the cascade makes every map again after every stage
CLEARLY = 0.05  # of probability, by which a masked face beats those of the controls
FAMILY_COLORS = {"gradient": "blue", "guided": "purple", "class activation": "red", "perturbation": "green",
                 "control": "grey"}
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}
HIDDEN = {"xticks": [], "yticks": [], "frame_on": False, "box_aspect": 1, "visible": False}  # until drawn on


def main(argv=None):
    """Returns the (first) table that is written, a DataFrame; its attrs["figures"] are the figures' paths."""
    args, changed = parse_args(argv)
    cli.start_keras()
    from utils.figures import write_results

    study = load_study(args, changed)
    mode = evaluate_methods if args.evaluate else average_maps if args.mean_maps else explain_faces
    results = mode(study)
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--index", type=cli.number(int, 0), nargs="+",
                       help="training images, counted from 0 (default: of the first 100 the one that the "
                            "network classifies correctly with the highest probability)")
    which.add_argument("--per-class", type=cli.number(int, 1, 10), metavar="N",
                       help="the first N images of each class")
    which.add_argument("--images", type=Path, nargs="+", metavar="PHOTO",
                       help="photos, or folders of photos, with people: one figure each")
    which.add_argument("--evaluate", type=cli.number(int, 2), nargs="?", const=100, metavar="N",
                       help="test the methods on N validation images (100 if not given)")
    which.add_argument("--mean-maps", action="store_true",
                       help="the mean map of each class over the validation split")
    cli.add_photos(parser, PHOTO_FACES)
    option("--method", nargs="+", metavar="METHOD",
           help="of those above, or all (default: gradient; with --evaluate all but the slow ones)")
    option("--target", default="predicted", metavar="predicted|true|contrastive|CLASS",
           help="whose logit is explained; contrastive: the largest minus the runner-up")
    option("--area", type=cli.number(float, 0, 100, open_low=True), default=20.0, metavar="PERCENT",
           help="share of the area that the masked face keeps")
    option("--fill", choices=("mean", "black", "blurred"), default="mean",
           help="what replaces the rest; --evaluate always takes the mean for it, and blurred faces for "
                "deletion and insertion")
    option("--layer", help="layer for the CAM methods (default: the last one of the last convolution stage)")
    option("--baseline", choices=("black", "mean", "blurred"), default="black",
           help="baseline of integrated gradients")
    option("--samples", type=cli.number(int, 1), default=32,
           help="noisy copies for smoothgrad, squaregrad and vargrad")
    option("--seed", type=cli.number(int, 0), default=0, help="seed of noise, masks, controls and intervals")
    cli.add_out_folder(parser)
    args = parser.parse_args(argv)
    if not args.images and (args.cropped or args.max_faces):
        raise UserError("--cropped and --max-faces belong to --images")
    if args.images and args.data:
        raise UserError("--images takes its faces from photos; leave out --data")
    if (args.labels or args.usage or args.training_data) and not (args.evaluate or args.mean_maps):
        raise UserError("--labels, --usage and --training-data belong to --evaluate and --mean-maps")
    return args, parser.changed(args, "target", "area", "fill", "layer", "baseline", "samples", "seed")


# ---- the network and the faces -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Study:
    """A network and how it is explained.

    args, changed: as `parse_args` returns them; path: of the model; name: of the model, in titles and file
    names; model: keras.Model of logits; methods: names in `attribution.METHODS`; options: of these, see
    `attribution.attribute_all`.
    """

    args: object
    changed: str
    path: Path
    name: str
    model: object
    methods: list
    options: dict

    @property
    def method_name(self):
        """The methods as they were asked for, in file names."""
        return "_".join(self.args.method or ["fast" if self.args.evaluate else "gradient"])

    def outputs(self, what, *endings):
        """FOLDER/MODEL_saliency_WHAT, settings, ending: a list of Path. Raises UserError where one may not be
        overwritten."""
        name = files.name_part(self.name, "saliency", what) + files.name_part(self.changed)
        paths = [self.args.out_folder / f"{name}{ending}" for ending in endings]
        files.check_outputs(paths)
        return paths


def load_study(args, changed):
    """The network and the methods that the options name. Raises UserError for a target, a layer or a method
    that does not exist."""
    from explain import attribution, receptive_field
    from utils import structure

    path = args.model or models.default_model()
    model = structure.logits_model(models.load(path))
    targets = ["predicted", "true", "contrastive", *models.class_names(model)]
    if args.target not in targets:
        raise UserError(f"--target {args.target!r} is none of {', '.join(targets)}")
    receptive_field.fields(model)  # refuses layers without a gradient
    if args.layer:
        attribution.cam_layer(model, args.layer)
    methods = choose_methods(model, args)
    if "guided-backprop" in methods:
        print("Warning: guided-backprop shows the edges of the face whatever the network has learnt\n"
              "(Adebayo et al. 2018): --evaluate tells whether it does so here")
    options = {option: getattr(args, option) for option in ("seed", "samples", "baseline", "layer")}
    return Study(args, changed, path, files.model_name(path), model, methods, options)


def choose_methods(model, args):
    """The methods to use: those that are named or else the default ones, without those that do not suit the
    network. Raises UserError for one that does not exist, or is named and does not suit."""
    from explain import attribution

    if unknown := set(args.method or []) - {*attribution.METHODS, "all"}:
        raise UserError(f"--method: invalid choice: {unknown.pop()!r} (choose from "
                        f"{', '.join(attribution.METHODS)}, all)")
    is_named = bool(args.method) and "all" not in args.method
    methods = list(attribution.METHODS)
    if not args.method:
        methods = [name for name in methods if name not in attribution.SLOW] if args.evaluate else methods[:1]
    elif is_named:
        methods = list(dict.fromkeys(args.method))
    if args.mean_maps and len(methods) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")
    problems = {method: attribution.problem(model, method) for method in methods}
    left_out = [method for method in methods if problems[method]]
    if left_out and is_named:
        raise UserError(problems[left_out[0]])
    if left_out:
        print(f"Left out, as the model has no convolution or no ReLU: {', '.join(left_out)}")
    return [method for method in methods if method not in left_out]


def chosen_faces(study):
    """The faces that --index or --per-class name: Faces; a DataFrame, one row per face, with the caption
    `image`; the figures to write, {path: rows of its faces}; and the path of the CSV."""
    from explain import subjects

    per_class, methods = study.args.per_class, len(study.methods)
    faces, rows = subjects.training_faces(study.model, study.args.data, study.args.index)
    which = "index-" + "-".join(map(str, rows))
    if per_class:
        if faces.labels is None:
            raise UserError(f"{faces.source} has no labels for --per-class; choose images with --index")
        rows = np.concatenate([np.flatnonzero(faces.labels == code)[:per_class]
                               for code in range(len(data.CLASSES))])
        which = f"per-class-{per_class}"
    # A page of A4 holds six lines: of two faces by one method, or of a face and the maps of four methods
    faces_on_a_page = 12 if methods == 1 else max(1, 6 // -(-(1 + methods) // 5))
    pages = np.array_split(np.arange(len(rows)), -(-len(rows) // faces_on_a_page))
    endings = [f"_page-{number}.png" for number in range(1, len(pages) + 1)] if len(pages) > 1 else [".png"]
    *figures, csv_path = study.outputs(f"{study.method_name}_{faces.name}_{which}", *endings, ".csv")
    captions = pd.DataFrame({"image": [f"index {row}" for row in rows]})
    return faces.take(rows), captions, dict(zip(figures, pages)), csv_path


def photo_faces(study):
    """The same of --images, one figure per photo; the DataFrame has also the photo's path and what
    `photos.reading.load_faces` tells of each face."""
    from photos import reading

    args, photos = study.args, reading.find_photos(study.args.images)
    csv_path, = study.outputs(f"{study.method_name}_photos", ".csv")
    figures = {str(photo): reading.figure_path(photo, args.out_folder, csv_path.stem) for photo in photos}
    files.check_outputs(figures.values())
    table, images = reading.load_faces(photos, args.cropped, args.max_faces or PHOTO_FACES)
    table = table.rename(columns={"image": "photo"})
    table.insert(0, "image", table["photo"].map(os.path.basename) + ", face " + table["face"].astype(str))
    sheets = {figures[photo]: rows.index for photo, rows in table.groupby("photo", sort=False)}
    return data.Faces(images, source="--images"), table, sheets, csv_path


def validation_faces(args, path):
    """The labelled faces to measure the model at `path` on, in random order."""
    from utils import evaluation

    faces = evaluation.faces_to_evaluate([path], args.data, args.labels, args.usage, args.training_data)
    return faces.take(np.random.default_rng([args.seed, 4]).permutation(len(faces)))


def make_maps(study, subjects, controls=()):
    """How much each pixel of `explain.subjects.Subjects` matters: {method or control: float32 (n, h, w)}."""
    from explain import attribution

    maps = attribution.attribute_all(study.model, subjects.grey, subjects.targets,
                                     [*study.methods, *controls], **study.options)
    return {method: attribution.strength(each, method) for method, each in maps.items()}


# ---- maps of single faces ----------------------------------------------------------------------------------


def explain_faces(study):
    """Maps of the chosen faces, and how much of the probability the most salient area keeps: {path: figure or
    DataFrame}."""
    from explain import attribution
    from explain.subjects import choose_targets

    args = study.args
    faces, captions, sheets, csv_path = photo_faces(study) if args.images else chosen_faces(study)
    subjects = choose_targets(study.model, faces, args.target)
    values = make_maps(study, subjects, ["random", "edges"])
    masked, tables = {}, []
    for method in study.methods:
        masked[method], kept = keep_most_salient(study, subjects, values, method)
        tables.append(captions.join(subjects.table).assign(
            method=method, **kept, map_max=values[method].max((1, 2)),
            blank=attribution.is_blank(values[method])))
    table = pd.concat(tables).sort_index(kind="stable")  # face by face; the index is the face's number

    print(f"p: probability of the target, of the whole face and with the top {args.area:g} % of the map kept "
          f"where it is above\nzero, the rest {args.fill}; random, edges: with as much area of these kept")
    numbers = {"p_whole": "p whole", "p_kept": "kept", "p_kept_random": "random", "p_kept_edges": "edges",
               "area_kept": "area"}
    text = table[["image", "true", "predicted", "target", "method"]].copy()
    text[list(numbers.values())] = table[list(numbers)].map("{:.3f}".format)
    text[""] = table.blank.map({True: "blank", False: ""})
    cli.print_table(text)
    if "integrated-gradients" in study.methods:
        missed = attribution.completeness_error(study.model, subjects.grey, subjects.targets,
                                                values["integrated-gradients"], args.baseline)
        print(f"Integrated gradients, {args.baseline} baseline: sums miss the difference of the logits by "
              f"{missed.mean():.3g} on average, {missed.max():.3g} at most")
    drawn = {path: draw_sheet(study, subjects.grey, values, masked, table.loc[rows])
             for path, rows in sheets.items()}
    return {**drawn, csv_path: table}


def keep_most_salient(study, subjects, values, method):
    """Faces (n, h, w) with nothing but what a map ranks first, the rest filled; and columns of the table: the
    area kept and what probability it keeps, and as much area of the controls."""
    from explain import faithfulness

    def keep(name, share):
        pixels = faithfulness.most_salient(values[name], share, study.args.seed)
        faces = faithfulness.masked(subjects.grey, pixels, study.args.fill)
        p = faithfulness.probabilities(study.model, faces)[np.arange(len(faces)), subjects.codes]
        return faces, p.astype(float), pixels.mean((1, 2))

    faces, p, area = keep(method, study.args.area / 100)
    return faces, {"area_kept": area, "sparseness": faithfulness.sparseness(values[method]), "p_kept": p,
                   "p_kept_random": keep("random", area)[1], "p_kept_edges": keep("edges", area)[1]}


def draw_sheet(study, grey, values, masked, table):
    """The face, its map by each method and, of a single method, the masked face; above them the photo that
    the faces come from, if any. A face starts a new line, unless two by a single method share it:

        face map masked face map masked         face map map map map
        face map masked face map masked         map  map map
    """
    from explain.attribution import METHODS
    from photos.detect import shrink
    from photos.drawing import draw_boxes
    from photos.reading import read_photo
    from utils.figures import WIDTH, add_conclusion, plt

    n, methods, photo = table.index.nunique(), len(study.methods), table.get("photo")
    columns, panels = (3 if n == 1 else 6), 3  # of the sheet, of a face
    if methods > 1:
        columns = min(1 + methods, 5)
        panels = -(-(1 + methods) // columns) * columns
    lines = -(-n * panels // columns)
    height = (WIDTH / columns + (0.6 if methods == 1 else 0.3)) * lines + 0.6
    figure = below = plt.figure(figsize=(WIDTH, height + PHOTO_HEIGHT * (photo is not None)),
                                layout="constrained")
    if photo is not None:
        above, below = figure.subfigures(2, 1, height_ratios=[PHOTO_HEIGHT, height])
        picture, scale = shrink(read_photo(photo.iloc[0]), PHOTO_SIDE)
        draw_boxes(above.subplots(), picture, scale, table[~table.index.duplicated()])
    axes = below.subplots(lines, columns, squeeze=False, subplot_kw=HIDDEN)
    for (original, *others), (i, rows) in zip(axes.reshape(-1, panels), table.groupby(level=0)):
        for ax, row in zip(others, rows.itertuples()):
            image = draw_map(ax, values[row.method][i], row.blank)
            ax.set_title(row.method, fontsize=7.5)
        draw_face(original, grey[i])
        original.set_title(row.image if photo is None else f"face {row.face}", fontsize=7.5)
        original.set_xlabel(face_text(row), fontsize=7)
        others[0].set_xlabel(f"for\n{row.target}", fontsize=7)
        if methods == 1:
            draw_face(others[1], masked[row.method][i])
            others[1].set_title(f"{100 * row.area_kept:.0f} % kept", fontsize=7.5)
            others[1].set_xlabel(f"p {row.p_whole:.2f}, kept {row.p_kept:.2f}\n"
                                 f"random {row.p_kept_random:.2f},\nedges {row.p_kept_edges:.2f}", fontsize=7)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if methods == n == 1:
        below.colorbar(image, ax=others[0], extend="max", label=METHODS[row.method].unit)
    else:
        below.colorbar(plt.cm.ScalarMappable(cmap="jet"), ax=axes, extend="max", location="bottom",
                       shrink=0.6, aspect=40, label="relative to each map's 99.5th percentile")
    method = study.methods[0] if methods == 1 else f"{methods} methods"
    of_photo = "" if photo is None else f": {os.path.basename(photo.iloc[0])}"
    figure.suptitle(f"Saliency of {study.name}{of_photo}\n{method}, target: {study.args.target}", fontsize=10)
    add_conclusion(figure, conclusion_of_sheet(table))
    return figure


def face_text(row):
    """What is known of a face, a row of the table: its prediction, its label, the detector's score."""
    lines = [f"predicted:\n{row.predicted} {row.p_predicted:.2f}"]
    if row.true:
        lines.append(f"true: {row.true}")
    if not np.isnan(getattr(row, "score", np.nan)):
        lines.append(f"score {row.score:.2f}" + f", tilt {row.tilt:.0f}°" * bool(row.tilt))
    return "\n".join(lines)


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


def conclusion_of_sheet(table):
    """What the masked faces say about the maps."""
    columns = ["p_kept", "p_kept_random", "p_kept_edges", "p_whole", "area_kept"]
    means, faces = table.groupby("method")[columns].mean(), table.index.nunique()
    best = means.p_kept.idxmax()
    kept, random, edges, whole, area = means.loc[best]
    compared, what = (means, "methods") if len(means) > 1 else (table, "faces")
    wins = (compared.p_kept - compared[["p_kept_random", "p_kept_edges"]].max(axis=1) >= CLEARLY).sum()
    share = f"For {wins} of {len(compared)} {what} the map does" if len(table) > 1 else (
        f"That is{'' if wins else ' not'}")
    return (f"{'On average the' if faces > 1 else 'The'} {100 * area:.0f} % of the area that {best} marks "
            f"keep the probability at {kept:.2f} (whole face: {whole:.2f}); the same area of random pixels "
            f"gives {random:.2f}, of the strongest edges {edges:.2f}. {share} better than both by "
            f"{CLEARLY:g} or more.")


# ---- evidence ----------------------------------------------------------------------------------------------


def evaluate_methods(study):
    """Test the methods: a figure and, first, a table with intervals and verdicts; likewise by path."""
    from explain import attribution, faithfulness
    from explain.subjects import choose_targets

    args, few = study.args, slice(FACES_RANDOMIZED)
    faces = validation_faces(args, study.path).take(slice(args.evaluate))
    paths = study.outputs(f"evaluation_{study.method_name}_{faces.name}_{args.evaluate}", ".png", ".csv",
                          "_curves.csv", "_randomisation.csv")
    if len(faces) < 2:
        raise UserError(f"{faces.source} has {len(faces)} faces; expected at least 2")
    subjects = choose_targets(study.model, faces, args.target)
    values, grey = make_maps(study, subjects, attribution.CONTROLS), subjects.grey
    scores, curves = faithfulness.evaluate(study.model, grey, subjects.codes, values, args.area / 100,
                                           args.seed)
    cascade = faithfulness.cascade(study.model, grey[few], subjects.targets[few], study.methods,
                                   **study.options)
    table, control = faithfulness.verdicts(scores, cascade, args.seed)

    stages = cascade.randomized_down_to.nunique()
    print(f"{len(grey)} faces of {faces.source}. Areas under the curves: of deletion low is good, of\n"
          f"insertion high; net: their difference above that of {control}, the best control, with bootstrap\n"
          f"95 % interval. Correlation and SSIM: of maps of {len(grey[few])} faces before and after each of\n"
          f"the upper half of {stages} stages is re-initialised; a method fails when both are above "
          f"{faithfulness.FAILS:g}.")
    print_evidence(table, control)
    title = f"Which maps of {study.name} show what it uses?\n{len(grey)} faces, 95 % intervals"
    figure = draw_evidence(title, table, curves, control)
    return dict(zip(paths, (figure, table, curves, cascade)))


def print_evidence(table, control):
    """The table in at most 100 columns."""
    net = f"net_above_{control}"
    cli.print_table(pd.DataFrame({
        "method": table.method, "delete": table.deletion_area.map("{:.3f}".format),
        "insert": table.insertion_area.map("{:.3f}".format),
        f"net above {control}": ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*numbers)
                                 for numbers in table[[net, f"{net}_low", f"{net}_high"]].to_numpy()],
        "corr.": table.rank_correlation, "SSIM": table.ssim, "verdict": table.verdict}))
    for row in table[table.blank > 0].itertuples():
        print(f"{row.method}: {row.blank} of the maps are blank")


def draw_evidence(title, table, curves, control):
    """Deletion and insertion curves, and what the two verdicts of each method rest on, with intervals."""
    from explain.attribution import CONTROLS, METHODS
    from explain.faithfulness import FAILS
    from utils.figures import COLORS, WIDTH, add_conclusion, plt

    family = table.method.map(lambda method: (METHODS | CONTROLS)[method].family)
    colors, height = family.map(FAMILY_COLORS).map(COLORS), 0.2 * len(table) + 0.4
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 3.8 + height), layout="constrained", sharey="row",
                                height_ratios=[2.6, height])
    for ax, kind, what, aim in zip(axes[0], ("deletion", "insertion"), ("removed", "shown"), ("low", "high")):
        for method, color, name in zip(table.method, colors, family.mask(family.duplicated(), "_")):
            curve = curves[curves.method == method]
            ax.plot(100 * curve.share_of_area, curve[kind], CONTROL_STYLES.get(method, "-"), color=color,
                    lw=1.2, label=method if method in CONTROLS else name)
        ax.set(xlabel=f"most salient area {what} (%)", ylim=(0, 1),
               title=f"{kind.capitalize()} ({aim} is good)")
    axes[0, 0].set_ylabel("mean probability of the class")
    net = f"net_above_{control}"
    axes[1, 0].hlines(table.index, table[f"{net}_low"], table[f"{net}_high"], colors=colors)
    axes[1, 0].scatter(table[net], table.index, s=16, c=colors)
    axes[1, 0].axvline(0, color="black", lw=0.8)
    axes[1, 0].set(xlabel=f"insertion minus deletion area, above {control}", yticks=table.index)
    axes[1, 0].set_yticklabels(table.method)
    axes[1, 0].invert_yaxis()
    for key, marker in (("rank_correlation", "o"), ("ssim", "s")):
        axes[1, 1].scatter(pd.to_numeric(table[key], errors="coerce"), table.index, s=16, c=colors,
                           marker=marker)  # controls have none
    axes[1, 1].axvline(FAILS, color="black", lw=0.8)
    axes[1, 1].set(xlabel="similarity after randomisation\n(● rank correlation, ■ SSIM)", xlim=(-0.05, 1))
    for ax in axes.flat:
        ax.grid(True)
        ax.set_axisbelow(True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, fontsize=10)
    add_conclusion(figure, conclusion_of_evidence(table, control))
    return figure


def conclusion_of_evidence(table, control):
    """Which methods to believe."""
    from explain.faithfulness import FAILS

    methods = table[table.verdict != "control"]
    passing, net = methods[methods.verdict == "passes"], f"net_above_{control}"
    text = "No method passes both tests: do not read these maps as what the network uses."
    if len(passing):
        best = passing.iloc[0]
        text = (f"{len(passing)} of {len(methods)} methods score above the best control ({control}) and "
                f"change with what was learnt; {best.method} is best, {best[net]:.2f} "
                f"[{best[net + '_low']:.2f}, {best[net + '_high']:.2f}] above {control}.")
    failing = ", ".join(methods.method[methods.verdict.str.contains("fails")])
    return text + (f" {failing}: the maps hardly change, both measures above {FAILS:g}, when the upper half "
                   "of the layers is re-initialised (Adebayo et al. 2018)." if failing else "")


# ---- mean maps ---------------------------------------------------------------------------------------------


def average_maps(study):
    """The mean map of each true class, and of its rightly and wrongly classified faces; likewise by path."""
    from explain.subjects import choose_targets

    faces, method = validation_faces(study.args, study.path), study.methods[0]
    paths = study.outputs(f"mean_{method}_{faces.name}", ".png", ".csv")
    subjects = choose_targets(study.model, faces, study.args.target, needs_labels=True)
    values = np.maximum(make_maps(study, subjects)[method], 0)
    mean = values.mean((1, 2), keepdims=True)
    values /= np.where(mean > 0, mean, 1)  # every face counts alike, however steep its logit
    true, visible = subjects.table.true, mean.ravel() > 0
    right = subjects.table.predicted == true
    groups = {"all": visible, "right": visible & right, "wrong": visible & ~right}
    columns, rows = {}, []  # of the figure, of the table
    for name in [name for name in models.class_names(study.model) if (true == name).any()]:
        columns[name] = {"mean face": subjects.grey[true == name].mean(0)}
        for group, members in groups.items():
            members = members & (true == name)
            average = values[members].mean(0) if members.any() else np.zeros_like(values[0])
            columns[name][f"{group}\nn = {members.sum():,}"] = average
            thirds = [part.sum() / max(average.sum(), 1e-30) for part in np.array_split(average, 3)]
            rows.append([name, group, members.sum(), *map(float, thirds)])
    table = pd.DataFrame(rows, columns=["class", "faces", "n", "upper_third", "middle_third", "lower_third"])
    table = table[table.n > 0]

    if not visible.all():
        print(f"Blank maps, left out: {(~visible).sum()} of {len(visible)}")
    print(f"Share of the saliency in each third of the image, {len(visible):,} faces of {faces.source}")
    shares = (100 * table.filter(like="_third")).map("{:.0f}".format)
    text = table.assign(n=table.n.map("{:,}".format), **shares).rename(columns={"class": "true class"})
    cli.print_table(text.rename(columns=lambda name: name.replace("_third", " %")))
    title = (f"Where {study.name} looks\n{method}, target: {study.args.target}\n"
             f"mean of each true class, {len(faces):,} faces of {faces.source}")
    middle = 100 * table.middle_third[table.faces == "all"]
    conclusion = (f"The middle third of the image holds {middle.min():.0f} to {middle.max():.0f} % of the "
                  "saliency of a class.")
    return dict(zip(paths, (draw_averages(columns, title, conclusion), table)))


def draw_averages(classes, title, conclusion):
    """Mean face and mean maps of each class: {class: {what: image (h, w)}}, the face first."""
    from utils.figures import WIDTH, add_conclusion, plt

    maps = [image for images in classes.values() for image in list(images.values())[1:]]
    colors = plt.cm.ScalarMappable(plt.Normalize(0, np.percentile(maps, 99.5) or 1.0), "inferno")
    figure, axes = plt.subplots(4, len(classes), layout="constrained", squeeze=False, subplot_kw=HIDDEN,
                                figsize=(WIDTH, 1.1 + 4 * WIDTH / (len(classes) + 0.9)))
    for column, (name, images) in zip(axes.T, classes.items()):
        for ax, (what, image) in zip(column, images.items()):
            ax.set_visible(True)
            ax.imshow(image, colors.cmap, colors.norm)
            ax.set_xlabel(what, fontsize=7, labelpad=2)
        draw_face(column[0], images["mean face"])
        column[0].set_title(name, fontsize=9)
    figure.colorbar(colors, ax=axes[1:], extend="max", label="saliency, times the map's mean", aspect=30)
    figure.suptitle(title, fontsize=10)
    add_conclusion(figure, conclusion)
    return figure


if __name__ == "__main__":
    cli.run(main)
