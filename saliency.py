"""Question 4: where does the network look? Saliency maps by fourteen methods, and which of them to trust.

    python saliency.py                                  the 16th training image: face, heat map, masked face
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     own photos, all methods side by side
    python saliency.py --evaluate 100                   deletion, insertion, randomisation of each method
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and wrong

Writes figures/NAME_saliency*.png, NAME being the model's, and a CSV with the numbers beside each. Any Keras
classifier with one image input will do. A sheet takes seconds, --evaluate minutes. score-cam, occlusion and
rise ask the network hundreds of times an image.
"""

import dataclasses
from pathlib import Path

from utils import cli, files
from utils.cli import UserError

METHODS = ("gradient", "gradient-x-input", "smoothgrad", "squaregrad", "vargrad", "integrated-gradients",
           "guided-backprop", "grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam", "occlusion",
           "rise")
CONTROLS = ("random", "edges", "centre")
SLOW = ("score-cam", "occlusion", "rise")
FACES_ON_A_SHEET = 70
FACES_RANDOMISED = 24  # the cascade makes every map again after every stage
SCORES = ("deletion_area", "insertion_area", "drop", "increase", "sparseness", "net")
UNITS = {"gradient": "|d logit / d grey level|", "gradient-x-input": "|gradient x grey level| (logits)",
         "smoothgrad": "|mean gradient| (logits per grey level)", "squaregrad": "mean squared gradient",
         "vargrad": "variance of the gradient", "integrated-gradients": "|share of the logit| (logits)",
         "guided-backprop": "|guided gradient|", "occlusion": "fall of the logit",
         "rise": "rise of the logit"}
RELATIVE = {"extend": "max", "location": "bottom", "shrink": 0.5, "aspect": 40,
            "label": "relative to each map's 99.5th percentile"}
CONTROL_STYLES = {"edges": "--", "centre": "-.", "random": ":"}


def main(argv=None):
    """Returns the table that stands beside the (first) figure, a DataFrame."""
    args = parse_args(argv)
    cli.start_keras()
    network = load_network(args)
    paths = output_paths(args, network)
    files.check_outputs(paths)
    if "guided-backprop" in network.methods:
        print("Warning: guided-backprop shows the edges of the face whatever the network has learnt "
              "(Adebayo et al. 2018): --evaluate tells whether it does so here")
    mode = evaluate_methods if args.evaluate else average_maps if args.mean_maps else explain_faces
    table = mode(args, network, paths)
    print("Wrote " + ", ".join(files.relative_path(path) for path in paths))
    return table


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
    which.add_argument("--images", type=Path, nargs="+", metavar="FILE", help="own photos of faces")
    option("--method", choices=(*METHODS, "all"), nargs="+", metavar="METHOD",
           help=f"one or more of {', '.join(METHODS)}, or all (default: gradient; with --evaluate all but "
                f"the slow {', '.join(SLOW)})")
    option("--target", default="predicted", metavar="predicted|true|contrastive|CLASS",
           help="whose logit is explained; contrastive: the largest minus the runner-up")
    option("--keep", type=cli.number(float, 0, 100, open_low=True), default=20.0, metavar="PERCENT",
           help="share of the area that the masked face keeps")
    option("--fill", choices=("mean", "black", "blurred"), default="mean", help="what replaces the rest")
    option("--layer", help="of the CAM methods (default: what ends the last stage of convolutions)")
    option("--baseline", choices=("black", "mean", "blurred"), default="black",
           help="of integrated gradients")
    option("--samples", type=cli.number(int, 1), default=32, help="noisy copies of smoothgrad and its kin")
    option("--seed", type=cli.number(int, 0), default=0, help="of noise, masks, controls and intervals")
    option("--evaluate", type=cli.number(int, 2), nargs="?", const=100, metavar="N",
           help="test the methods on N validation images (100 if not given)")
    option("--mean-maps", action="store_true", help="the mean map of each class over the validation split")
    args = parser.parse_args(argv)
    if args.evaluate and args.mean_maps:
        raise UserError("--evaluate and --mean-maps draw different figures; give one at a time")
    args.any_method = not args.method or "all" in args.method  # what does not suit a network is left out
    if args.evaluate and args.any_method:
        args.method = [method for method in METHODS if method not in SLOW]
    elif args.any_method:
        args.method = METHODS if args.method else ["gradient"]
    args.method = list(dict.fromkeys(args.method))
    if args.mean_maps and len(args.method) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")
    return args


# ---- the network and the faces -----------------------------------------------------------------------------


@dataclasses.dataclass
class Network:
    """What is explained: the model's path and name, keras.Model of logits, names of its classes, the methods
    that suit it and their options."""

    path: Path
    name: str
    logits: object
    classes: list
    methods: list
    options: dict


@dataclasses.dataclass
class Faces:
    """Grey float32 (n, h, w) 0-255 as the network sees them, labels int (n,) or None, probabilities (n,
    classes), codes of the classes explained int (n,), and targets as `attribution.attribute` takes them."""

    grey: object
    labels: object
    probabilities: object
    codes: object
    targets: object


def load_network(args):
    """The Network that the options name, without methods that do not suit it where the user named none."""
    from explain import attribution
    from utils import models, structure

    path = args.model or models.default_model()
    logits = structure.logits_model(models.load(path))
    classes = models.class_names(logits)
    if args.target not in ("predicted", "true", "contrastive", *classes):
        choices = ", ".join(["predicted", "true", "contrastive", *classes])
        raise UserError(f"--target {args.target!r} is none of {choices}")
    attribution.check(logits, [], args.layer)
    left_out = []
    for method in args.method:
        try:
            attribution.check(logits, [method])
        except UserError:
            if not args.any_method:
                raise
            left_out.append(method)
    if left_out:
        print(f"Left out, as {path} has no convolution or no ReLU: {', '.join(left_out)}")
    methods = [method for method in args.method if method not in left_out]
    options = {"seed": args.seed, "samples": args.samples, "baseline": args.baseline, "layer": args.layer}
    return Network(path, path.stem, logits, classes, methods, options)


def output_paths(args, network):
    """The files that the command will write: figures, each with its tables after it."""
    from utils import models

    methods = network.methods
    if args.evaluate:
        endings = ["_evaluation.png", "_evaluation.csv", "_curves.csv", "_randomisation.png",
                   "_randomisation.csv"]
    elif args.mean_maps:
        endings = [f"_mean_{methods[0]}.png", f"_mean_{methods[0]}.csv"]
    else:
        which = "_all" if len(methods) == len(METHODS) else "_" + "_".join(methods)[:80]
        which = "" if methods == ["gradient"] else which
        which += "" if args.target == "predicted" else "_" + args.target.replace(" ", "-")
        endings = [which + ".png", which + ".csv"]
    return [models.FIGURES / f"{network.name}_saliency{ending}" for ending in endings]


def seen_by(network, faces, args):
    """`utils.data.Faces` as the `Faces` that the network sees, with the class to explain of each."""
    from explain import attribution, faithfulness
    from utils import models

    grey = models.prepare(faces.images, network.logits)[..., 0]
    probabilities = faithfulness.probabilities(network.logits, grey)
    codes, labels = probabilities.argmax(1), faces.labels
    if labels is not None and labels.max() >= len(network.classes):
        if args.target == "true" or args.mean_maps:
            raise UserError(f"{faces.source} has {labels.max() + 1} classes and {network.path} tells "
                            f"{len(network.classes)} apart; expected a model of the same classes")
        labels = None
    if args.target == "true" and labels is None:
        raise UserError(f"--target true needs labels, and {faces.source} has none; "
                        f"choose predicted, contrastive or one of {', '.join(network.classes)}")
    if args.target == "true":
        codes = labels
    elif args.target in network.classes:
        codes = codes * 0 + network.classes.index(args.target)
    targets = codes
    if args.target == "contrastive":
        targets = attribution.contrastive(models.predict(network.logits, grey))
    return Faces(grey, labels, probabilities, codes, targets)


def chosen_faces(args):
    """The faces that --index, --per-class or --images name, and a caption for each."""
    import numpy as np

    from utils import data

    if args.images:
        for path in args.images:
            if path.exists() and not path.is_file():
                raise UserError(f"{path} is a folder, pipe or device; expected a JPEG or PNG of a face")
        faces = data.Faces(np.stack([data.read_image(path) for path in args.images]), source="--images")
        return faces, [path.name for path in args.images]
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


def validation_faces(args, network, least=1):
    """The faces to measure on: --data, else the model's own validation split; in random order."""
    import numpy as np

    from utils import data, evaluation

    faces = data.load_labelled(args.data) if args.data else evaluation.validation_faces(network.path)
    if len(faces) < least:
        raise UserError(f"{faces.source} has {len(faces)} faces; expected at least {least}")
    return faces.take(np.random.default_rng([args.seed, 4]).permutation(len(faces)))


def make_maps(network, faces):
    """Maps of the network's methods and the controls, and their strengths: two dicts of float32 (n, h, w)."""
    from explain import attribution

    methods = [*network.methods, *CONTROLS]
    maps = attribution.attribute_all(network.logits, faces.grey, faces.targets, methods, **network.options)
    return maps, {method: attribution.strength(maps[method], method) for method in methods}


# ---- maps of single faces ----------------------------------------------------------------------------------


def explain_faces(args, network, paths):
    """Maps of the chosen faces on one sheet, and how much of the probability the most salient area keeps."""
    from explain import attribution, faithfulness

    chosen, captions = chosen_faces(args)
    faces = seen_by(network, chosen, args)
    maps, values = make_maps(network, faces)
    table = table_of_maps(args, network, faces, captions, maps, values)

    print(f"Probability of the class with the top {args.keep:g} % of the area kept, the rest {args.fill}")
    text = table.iloc[:, :5].assign(**{name: table[key].map("{:.3f}".format) for name, key in (
        ("whole", "p_whole"), ("kept", "p_kept"), ("random", "p_kept_random"), ("edges", "p_kept_edges"))})
    text["map's max"] = table.map_max.map("{:.3g}".format)
    text[""] = table.blank.map({True: "blank", False: ""})
    cli.print_table(text)
    if "integrated-gradients" in network.methods:
        missed = attribution.completeness_error(network.logits, faces.grey, faces.targets,
                                                maps["integrated-gradients"], args.baseline)
        print(f"Integrated gradients, {args.baseline} baseline: sums miss the difference of the logits by "
              f"{missed.mean():.3g} on average, {missed.max():.3g} at most")

    if len(network.methods) == 1:
        keep = faithfulness.keep_top(values[network.methods[0]], args.keep / 100, args.seed)
        masked = faithfulness.masked(faces.grey, keep, args.fill)
        draw_triptychs(args, network, faces, values, table, masked, paths[0])
    else:
        draw_methods(network, faces, values, table, paths[0])
    files.write_table(paths[1], table)
    return table


def table_of_maps(args, network, faces, captions, maps, values):
    """A DataFrame with a row for each face and method, face by face; its index is the face's number."""
    import numpy as np
    import pandas as pd

    from explain import attribution, faithfulness

    whole, kept = {}, {}
    for method, value in values.items():
        p = faithfulness.probability_kept(network.logits, faces.grey, faces.codes, value, args.keep / 100,
                                          args.fill, args.seed)
        whole[method], kept[method] = (x.astype(float) for x in p)
    names = np.array(network.classes)
    contrast = " - runner-up" if args.target == "contrastive" else ""
    tables = [pd.DataFrame({
        "image": captions, "true": "" if faces.labels is None else names[faces.labels],
        "predicted": names[faces.probabilities.argmax(1)],
        "target": [name + contrast for name in names[faces.codes]], "method": method,
        "p_whole": whole[method], "p_kept": kept[method],
        "p_kept_random": kept["random"], "p_kept_edges": kept["edges"],
        "map_min": maps[method].min((1, 2)).astype(float), "map_max": maps[method].max((1, 2)).astype(float),
        "sparseness": faithfulness.sparseness(values[method]), "blank": attribution.is_blank(maps[method])})
        for method in network.methods]
    return pd.concat(tables).sort_index(kind="stable")


def image_axes(down, across, **options):
    """A figure and axes (down, across) without ticks and frames, invisible until something is drawn."""
    from utils.figures import plt

    figure, axes = plt.subplots(down, across, layout="constrained", squeeze=False, **options)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], visible=False)
        ax.set_box_aspect(1)
        ax.spines[:].set_visible(False)
    return figure, axes


def draw_face(ax, face):
    ax.set_visible(True)
    ax.imshow(face, cmap="gray", vmin=0, vmax=255)


def draw_map(ax, value, blank, relative=True):
    """One map in jet up to its 99.5th percentile, so that a single pixel does not hide the rest."""
    import numpy as np

    ax.set_visible(True)
    value = np.maximum(value, 0)
    top = np.percentile(value, 99.5) or value.max() or 1.0
    if blank:
        ax.annotate("blank", (0.5, 0.5), xycoords="axes fraction", color="white", ha="center", va="center",
                    fontsize=8)
    return ax.imshow(value / top if relative else value, cmap="jet", vmin=0, vmax=1 if relative else top)


def description(row, faces):
    """True and predicted class of a row of the table, one line each."""
    true = f"true: {row.true}\n" if row.true else ""
    return f"{true}predicted: {row.predicted} ({faces.probabilities[row.Index].max():.2f})"


def draw_triptychs(args, network, faces, values, table, masked, path):
    """Original, heat map and masked face of each image, several beside each other when there are many."""
    from utils.figures import save_figure

    n, method = len(table), network.methods[0]
    across = 1 if n <= 4 else 2 if n <= 16 else 3
    down = -(-n // across)
    width, height = {1: (7.2, 2.35 * down + 1), 2: (9.2, 1.85 * down + 1.1),
                     3: (12.4, 1.75 * down + 1.1)}[across]
    figure, axes = image_axes(down, 4 * across - 1, figsize=(width, 2.75 if n == 1 else height),
                              width_ratios=([1, 1, 1, 0.12] * across)[:-1])
    large, small = (9, 7.5) if across == 1 else (7.5, 6)
    for i, row in enumerate(table.itertuples()):
        original, heat, rest = axes[i % down, 4 * (i // down):4 * (i // down) + 3]
        draw_face(original, faces.grey[i])
        image = draw_map(heat, values[method][i], row.blank, relative=n > 1)
        draw_face(rest, masked[i])
        original.set_title(row.image, fontsize=large)
        original.set_xlabel(description(row, faces), fontsize=small)
        heat.set_xlabel(f"for {row.target}", fontsize=small)
        name = network.classes[faces.codes[i]]
        rest.set_xlabel(f"p({name}): {row.p_whole:.2f} whole, {row.p_kept:.2f} kept\ninstead: "
                        f"random {row.p_kept_random:.2f}, edges {row.p_kept_edges:.2f}", fontsize=small)
        if i % down == 0:
            heat.set_title(method, fontsize=large)
            rest.set_title(f"top {args.keep:g} % of the area", fontsize=large)
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.08)
    if n == 1:
        figure.colorbar(image, ax=heat, extend="max", label=UNITS.get(method, "weighted activation"))
    else:
        figure.colorbar(image, ax=axes, **RELATIVE)
    target = {"predicted": "predicted class", "true": "true class",
              "contrastive": "predicted class minus runner-up"}.get(args.target, f"class {args.target}")
    note = ""
    if method == "guided-backprop":
        note = "\nguided-backprop: edges, not evidence (Adebayo et al. 2018)"
    figure.suptitle(f"Saliency of {network.name}: {method}, {target}{note}", fontsize=10.5)
    save_figure(figure, path)


def draw_methods(network, faces, values, table, path):
    """Several methods for each face: a grid for one face, else a row a face or, of many methods, several."""
    from utils.figures import COLORS, save_figure

    methods, n = network.methods, len(faces.grey)
    alone = n == 1  # of several faces the first column holds nothing but the face
    columns = min(5 if alone else 8, len(methods) + 1)
    lines = -(-(len(methods) + 1) // columns) if alone else -(-len(methods) // (columns - 1))
    size, titled = (1.5, True) if alone else (0.95, lines > 1)
    height = (size + (size / 5 if titled else 0.05)) * n * lines + 1.3
    figure, axes = image_axes(n * lines, columns, figsize=(size * columns + 0.9, height))
    cells = [axes[i * lines:(i + 1) * lines] for i in range(n)]
    cells = [block.flat[1:] if alone else block[:, 1:].flat for block in cells]
    for row in table.itertuples():
        i, k, original = row.Index, methods.index(row.method), axes[row.Index * lines, 0]
        if k == 0:
            draw_face(original, faces.grey[i])
            text = description(row, faces)
        if k == 0 and alone:
            original.set_title(text, fontsize=7)
        elif k == 0:
            original.set_ylabel(f"{row.image}\n{text}", fontsize=6, rotation=0, ha="right", va="center")
        image = draw_map(cells[i][k], values[row.method][i], row.blank)
        if i == 0 or titled:
            guided = row.method == "guided-backprop"
            title = row.method + (" †" if guided else "")
            title = title if alone else title.replace("-gradients", "\ngradients").replace("-x-", "\nx ")
            cells[i][k].set_title(title, fontsize=8 if alone else 6.5, pad=3,
                                  color=COLORS["red"] if guided else "black")
    figure.get_layout_engine().set(h_pad=0.05)
    figure.colorbar(image, ax=axes, **RELATIVE)
    note = "\n† shows edges whatever was learnt (Adebayo et al. 2018)" if "guided-backprop" in methods else ""
    which = f", {table.image.iloc[0]}, for {table.target.iloc[0]}" if alone else ""
    figure.suptitle(f"Saliency of {network.name}{which}{note}", fontsize=10)
    save_figure(figure, path)


# ---- evidence ----------------------------------------------------------------------------------------------


def evaluate_methods(args, network, paths):
    """Test the methods: one table with intervals and verdicts, two figures with their numbers."""
    import numpy as np
    import pandas as pd

    from explain import attribution, faithfulness

    chosen = validation_faces(args, network, least=2)
    faces = seen_by(network, chosen.take(np.arange(min(args.evaluate, len(chosen)))), args)
    maps, values = make_maps(network, faces)
    logits, few = network.logits, slice(0, FACES_RANDOMISED)
    results = faithfulness.evaluate(logits, faces.grey, faces.codes, values, args.keep / 100, args.seed)
    stages, similar = faithfulness.cascade(logits, faces.grey[few], faces.targets[few], network.methods,
                                           **network.options)
    blank = {method: int(attribution.is_blank(made).sum()) for method, made in maps.items()}
    table, control = table_of_evidence(args, results, similar, blank)
    curves = pd.DataFrame([{"method": method, "share_of_area": k / faithfulness.STEPS} | {
        kind: float(result[kind][:, k].mean()) for kind in ("deletion", "insertion")}
        for method, result in results.items() for k in range(faithfulness.STEPS + 1)])
    cascade = pd.DataFrame([{"method": method, "redrawn_down_to": stage,
                             "rank_correlation": float(ranks[k].mean()), "ssim": float(ssim[k].mean())}
                            for method, (ranks, ssim) in similar.items() for k, stage in enumerate(stages)])

    upper = len(faithfulness.upper(stages))
    print(f"{len(faces.grey)} faces of {chosen.source}; brackets are bootstrap 95 % intervals.\n"
          "Deletion should be low, insertion high; net is insertion minus deletion, against "
          f"{control}, the best control.\n"
          f"Drop and increase of the probability with the top {args.keep:g} % kept.\n"
          "Correlation and SSIM: of maps before and after randomisation, mean over the upper "
          f"{upper} of {len(stages)} stages;\na method fails when both stay above {faithfulness.FAILS:g}.")
    print_evidence(table, control)
    draw_evidence(network.name, table, curves, len(faces.grey), paths[0])
    draw_cascade(network.name, cascade, table, paths[3])
    table = table.rename(columns=lambda name: name.replace("net", f"net_above_{control}"))
    for path, frame in zip((paths[1], paths[2], paths[4]), (table, curves, cascade)):
        files.write_table(path, frame)
    return table


def table_of_evidence(args, results, similar, blank):
    """Means with intervals and a verdict for each method, best first, and the name of the best control.

    results: as `faithfulness.evaluate` gives them; similar: {method: (correlations, similarities)}, of the
    cascade; blank: {method: number of blank maps}.
    """
    import pandas as pd

    from explain import faithfulness
    from utils import metrics

    net = {method: result["insertion_area"] - result["deletion_area"] for method, result in results.items()}
    control = max(CONTROLS, key=lambda method: net[method].mean())
    rows = []
    for method in sorted(results, key=lambda method: -net[method].mean()):
        row = {"method": method}
        for key in SCORES:
            numbers = net[method] - net[control] if key == "net" else results[method][key]
            row |= zip((key, f"{key}_low", f"{key}_high"), metrics.bootstrap_mean(numbers, seed=args.seed))
        means = [f"{faithfulness.upper(kind).mean():.3f}" for kind in similar.get(method, ())] or ["-", "-"]
        remarks = {"control": method in CONTROLS,
                   "fails randomisation": method in similar and faithfulness.fails(*similar[method]),
                   f"not above {control}": method not in CONTROLS and row["net_low"] <= 0,
                   f"{blank[method]} blank": blank[method]}
        verdict = "; ".join(remark for remark, holds in remarks.items() if holds) or "passes"
        rows.append(row | {"rank_correlation": means[0], "ssim": means[1], "blank": blank[method],
                           "verdict": verdict})
    return pd.DataFrame(rows), control


def print_evidence(table, control):
    text = table[["method"]].copy()
    for name, key in (("deletion area", "deletion_area"), ("insertion area", "insertion_area"),
                      (f"net above {control}", "net")):
        text[name] = ["{:.3f} [{:.3f}, {:.3f}]".format(*numbers)
                      for numbers in table[[key, f"{key}_low", f"{key}_high"]].to_numpy()]
    for name, key in (("drop %", "drop"), ("increase %", "increase"), ("sparse %", "sparseness")):
        text[name] = (100 * table[key]).map("{:.0f}".format)
    cli.print_table(text.assign(correlation=table.rank_correlation, SSIM=table.ssim, verdict=table.verdict))


def family(method):
    """The name and colour of a method's family; the controls are grey."""
    from utils.figures import COLORS

    if method in CONTROLS:
        return "control", COLORS["grey"]
    if method == "guided-backprop":
        return "guided", COLORS["purple"]
    if "-cam" in method:
        return "class activation", COLORS["red"]
    return ("perturbation", COLORS["green"]) if method in SLOW else ("gradient", COLORS["blue"])


def draw_evidence(name, table, curves, n, path):
    """Deletion and insertion curves, each family's best bold, above all areas with intervals."""
    from utils.figures import plt, save_figure

    height = 0.2 * len(table) + 0.4
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 3.3 + height), layout="constrained",
                                height_ratios=[2.6, height])
    marked = table.verdict.str.contains("fails randomisation")
    for ax, axis, kind, low_is_good in zip(axes[0], axes[1], ("deletion", "insertion"), (True, False)):
        best = {}
        for method in table.sort_values(f"{kind}_area", ascending=low_is_good).method:
            curve = curves[curves.method == method]
            group, color = family(method)
            bold = group == "control" or best.setdefault(group, method) == method
            ax.plot(100 * curve.share_of_area, curve[kind], CONTROL_STYLES.get(method, "-"), color=color,
                    lw=1.8 if bold else 0.7, alpha=1 if bold else 0.5, label=method if bold else None)
        ax.set(xlabel=f"most salient area {'removed' if low_is_good else 'shown'} (%)", ylim=(0, 1),
               title=f"{kind.capitalize()} ({'low' if low_is_good else 'high'} is good)")
        ax.legend(loc="best", ncols=2, columnspacing=1, handlelength=2.4, fontsize=7, frameon=True,
                  edgecolor="none")
        for y, row in zip(range(len(table))[::-1], table.to_dict("records")):
            value, low, high = (row[f"{kind}_area{end}"] for end in ("", "_low", "_high"))
            axis.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", ms=4, capsize=2,
                          color=family(row["method"])[1])
        axis.set(xlabel=f"area under the {kind} curve", yticks=range(len(table)))
        for each in (ax, axis):
            each.grid(True)
            each.set_axisbelow(True)
    axes[0, 0].set_ylabel("mean probability of the class")
    axes[1, 0].set_yticklabels((table.method + marked.map({True: " †", False: ""}))[::-1])
    axes[1, 1].set_yticklabels([])
    failing = "\n† fails: nearly the same map without what was learnt" if marked.any() else ""
    figure.suptitle(f"Do the maps of {name} find what the network uses? {n} faces, 95 % intervals{failing}",
                    fontsize=10.5)
    save_figure(figure, path)


def draw_cascade(name, cascade, table, path):
    """Rank correlation and structural similarity of each method's maps as weights are lost from the top."""
    import numpy as np

    from utils.figures import COLORS, plt, save_figure

    means = cascade.groupby("method").rank_correlation.mean().sort_values(kind="stable")
    failing = [table.verdict[table.method == method].str.contains("fails").any() for method in means.index]
    stages = cascade.redrawn_down_to.unique()
    figure, axes = plt.subplots(1, 2, figsize=(2.6 + 0.75 * len(stages), 1.8 + 0.27 * len(means)),
                                layout="constrained", sharey=True)
    titles = {"rank_correlation": "rank correlation of |map|", "ssim": "structural similarity"}
    for ax, (key, title) in zip(axes, titles.items()):
        grid = cascade.pivot(index="method", columns="redrawn_down_to", values=key).loc[means.index, stages]
        image = ax.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".")
            color = "black" if value > 0.5 else "white"
            ax.text(x, y, text, ha="center", va="center", fontsize=6.5, color=color)
        ax.set_xticks(range(len(stages)), stages, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_title(title)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    labels = [f"fails: {method}" if failed else method for method, failed in zip(means.index, failing)]
    axes[0].set_yticks(range(len(means)), labels)
    for label, failed in zip(axes[0].get_yticklabels(), failing):
        label.set(color=COLORS["red"] if failed else "black", fontweight="bold" if failed else "normal")
    figure.supxlabel("layers re-initialised, from the output down to", fontsize=9)
    figure.colorbar(image, ax=axes, label="1: unchanged map", aspect=30)
    figure.suptitle(f"Do the maps of {name} change as its weights are lost? (Adebayo et al. 2018)",
                    fontsize=10.5)
    save_figure(figure, path)


# ---- mean maps ---------------------------------------------------------------------------------------------


def average_maps(args, network, paths):
    """The mean map of each true class, and of its rightly and wrongly classified faces."""
    import numpy as np
    import pandas as pd

    from explain import attribution

    method, chosen = network.methods[0], validation_faces(args, network)
    faces = seen_by(network, chosen, args)
    maps = attribution.attribute(network.logits, faces.grey, faces.targets, method, **network.options)
    values = np.maximum(attribution.strength(maps, method), 0)
    mean = values.mean((1, 2), keepdims=True)
    values /= np.where(mean > 0, mean, 1)  # every face counts alike, however steep its logit
    visible, right = mean.ravel() > 0, faces.probabilities.argmax(1) == faces.labels
    averages, rows = {}, []
    for code in np.unique(faces.labels):
        name, own = network.classes[code], visible & (faces.labels == code)
        for group, members in (("all", own), ("right", own & right), ("wrong", own & ~right)):
            if members.any():
                averages[name, group] = average = values[members].mean(0)
                thirds = [float(part.sum() / average.sum()) for part in np.array_split(average, 3)]
                rows.append([name, group, int(members.sum()), *thirds])
    table = pd.DataFrame(rows, columns=["class", "faces", "n", "upper_third", "middle_third", "lower_third"])

    if not visible.all():
        print(f"Blank maps, left out: {(~visible).sum()} of {len(visible)}")
    print(f"Share of the saliency in each third of the image, {len(visible):,} faces of {chosen.source}")
    shares = (100 * table.filter(like="_third")).map("{:.0f}".format)
    text = table.assign(n=table.n.map("{:,}".format), **shares).rename(columns={"class": "true class"})
    cli.print_table(text.rename(columns=lambda name: name.replace("_third", " %")))
    draw_averages(network, faces, averages, table, paths[0])
    files.write_table(paths[1], table)
    return table


def draw_averages(network, faces, averages, table, path):
    """Mean face and mean maps of each class; averages: {(class, group): map (h, w)}."""
    import numpy as np

    from utils.figures import save_figure

    groups, codes = ("all", "right", "wrong"), np.unique(faces.labels)
    counts = table.set_index(["class", "faces"]).n
    top = np.percentile(list(averages.values()), 99.5) if averages else 1.0
    figure, axes = image_axes(4, len(codes), figsize=(1.05 * len(codes) + 0.9, 5.4))
    image = None
    for column, code in zip(axes.T, codes):
        name = network.classes[code]
        draw_face(column[0], faces.grey[faces.labels == code].mean(0))
        column[0].set_title(name)
        for ax, group in zip(column[1:], groups):
            ax.set_visible(True)
            ax.set_xlabel(f"n = {counts.get((name, group), 0):,}", fontsize=7, labelpad=2)
            if (name, group) in averages:
                image = ax.imshow(averages[name, group], cmap="inferno", vmin=0, vmax=top)
    for ax, text in zip(axes[:, 0], ("mean face", *groups)):
        ax.set_ylabel(text)
    if image is not None:
        figure.colorbar(image, ax=axes[1:], extend="max", label="saliency, times the map's mean", aspect=30)
    figure.suptitle(f"Where {network.name} looks: {network.methods[0]}, mean of each true class, "
                    f"{len(faces.grey):,} faces", fontsize=10.5)
    save_figure(figure, path)


if __name__ == "__main__":
    cli.run(main)
