"""Question 4: where does the network look? Saliency maps by fourteen methods, and the checks that tell a good one.

    python saliency.py                                  the 16th training image: original, heat map, what is left of it
    python saliency.py --per-class 2 --method grad-cam  two images of each class on one sheet
    python saliency.py --images me.jpg --method all     own photos, all methods side by side
    python saliency.py --evaluate 100                   which method can be trusted: deletion, insertion, randomisation
    python saliency.py --mean-maps --method grad-cam    where it looks for each class, when right and when wrong

Writes figures/NAME_saliency*.png, NAME being the model's, and a CSV with the numbers beside each. Any Keras classifier with
one image input will do. A sheet takes seconds, --evaluate minutes. score-cam, occlusion and rise ask the
network hundreds of times an image.
"""

from pathlib import Path
from types import SimpleNamespace

from utils import cli, files
from utils.cli import UserError

METHODS = ("gradient", "gradient-x-input", "smoothgrad", "squaregrad", "vargrad", "integrated-gradients", "guided-backprop",
           "grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam", "occlusion", "rise")
CONTROLS = ("random", "edges", "centre")
SLOW = ("score-cam", "occlusion", "rise")
WARNING = ("guided-backprop draws the edges of the face whatever the network has learnt (Adebayo et al. 2018): "
           "--evaluate shows whether it does so here")
FACES_ON_A_SHEET = 70
FACES_RANDOMISED = 24  # the cascade draws every map again after every stage


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, help=".h5 or .keras (default: models/cnn.h5, else the released one)")
    parser.add_argument("--data", type=Path, help="faces (default: data/*.csv, else the sample; with --evaluate and "
                                                  "--mean-maps the model's own validation split)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--index", type=cli.number(int, 0), nargs="+", default=[15], help="training images, counted from 0")
    which.add_argument("--per-class", type=cli.number(int, 1, 10), metavar="N", help="the first N images of each class")
    which.add_argument("--images", type=Path, nargs="+", metavar="FILE", help="own photos of faces")
    parser.add_argument("--method", choices=(*METHODS, "all"), nargs="+", metavar="METHOD",
                        help=f"one or more of {', '.join(METHODS)}, or all (default: gradient; with --evaluate all but the "
                             f"slow {', '.join(SLOW)})")
    parser.add_argument("--target", default="predicted", metavar="predicted|true|contrastive|CLASS",
                        help="whose logit is explained; contrastive: the largest minus the runner-up")
    parser.add_argument("--keep", type=cli.number(float, 0, 100, open_low=True), default=20.0, metavar="PERCENT",
                        help="share of the area that the masked face keeps")
    parser.add_argument("--fill", choices=("mean", "black", "blurred"), default="mean", help="what replaces the rest")
    parser.add_argument("--layer", help="of the CAM methods (default: what ends the last stage of convolutions)")
    parser.add_argument("--baseline", choices=("black", "mean", "blurred"), default="black", help="of integrated gradients")
    parser.add_argument("--samples", type=cli.number(int, 1), default=32, help="noisy copies of smoothgrad and its kin")
    parser.add_argument("--seed", type=cli.number(int, 0), default=0, help="of noise, masks, controls and intervals")
    parser.add_argument("--evaluate", type=cli.number(int, 2), nargs="?", const=100, metavar="N",
                        help="judge the methods on N validation images (100 if not said)")
    parser.add_argument("--mean-maps", action="store_true", help="draw the mean map of each class over the validation split")
    args = parser.parse_args()
    every = [m for m in METHODS if m not in SLOW] if args.evaluate and not args.method else list(METHODS)
    methods = list(dict.fromkeys(args.method or (every if args.evaluate else ["gradient"])))
    unnamed = "all" in methods or not args.method
    if "all" in methods:
        methods = every
    if args.evaluate and args.mean_maps:
        raise UserError("--evaluate and --mean-maps draw different figures; give one at a time")

    cli.start_keras()
    subject = load_subject(args)
    methods = possible(subject, methods, unnamed)
    if "guided-backprop" in methods:
        print(f"Warning: {WARNING}")
    if args.evaluate:
        written = evaluate(args, subject, methods)
    elif args.mean_maps:
        written = mean_maps(args, subject, methods)
    else:
        written = draw_maps(args, subject, methods)
    print("Wrote " + ", ".join(files.shown(path) for path in written))


def load_subject(args):
    """The network to explain: path, name, logits (keras.Model), classes (names) and the methods' options."""
    import keras

    from utils import models

    if keras.backend.backend() != "tensorflow":
        raise UserError(f"saliency maps need gradients of the TensorFlow backend, and KERAS_BACKEND is "
                        f"{keras.backend.backend()}; set KERAS_BACKEND=tensorflow")
    from utils import attribution

    path = args.model or models.default_model()
    logits = attribution.logits_model(models.load(path))
    classes = models.class_names(logits)
    if args.target not in ("predicted", "true", "contrastive", *classes):
        raise UserError(f"--target {args.target!r} is none of predicted, true, contrastive, {', '.join(classes)}")
    attribution.check(logits, [], args.layer)
    options = {"seed": args.seed, "samples": args.samples, "baseline": args.baseline, "layer": args.layer}
    return SimpleNamespace(path=path, name=path.stem, logits=logits, classes=classes, options=options)


def possible(subject, methods, unnamed):
    """The methods that suit the network: UserError for one that does not, unless the user named none; then it is left out."""
    from utils import attribution

    left_out = []
    for method in methods:
        try:
            attribution.check(subject.logits, [method])
        except UserError:
            if not unnamed:
                raise
            left_out.append(method)
    if left_out:
        print(f"Left out, as {subject.path} has no convolution or no ReLU: {', '.join(left_out)}")
    return [method for method in methods if method not in left_out]


def look(args, subject, faces):
    """Faces as the network sees them, and what it says: grey, labels, p (probabilities), codes (the class explained, int
    (n,)) and targets (as `attribution.attribute` takes them)."""
    from utils import attribution, attribution_checks, models

    grey = models.prepare(faces.images, subject.logits)[..., 0]
    p = attribution_checks.probabilities(subject.logits, grey)
    codes, labels = p.argmax(1), faces.labels
    if labels is not None and labels.max() >= len(subject.classes):
        if args.target == "true" or args.mean_maps:
            raise UserError(f"{faces.source} has {labels.max() + 1} classes and {subject.path} tells "
                            f"{len(subject.classes)} apart; expected a model of the same classes")
        labels = None
    if args.target == "true":
        if labels is None:
            raise UserError(f"--target true needs labels, and {faces.source} has none; "
                            f"choose predicted, contrastive or one of {', '.join(subject.classes)}")
        codes = labels
    elif args.target in subject.classes:
        codes = codes * 0 + subject.classes.index(args.target)
    targets = attribution.contrastive(models.predict(subject.logits, grey)) if args.target == "contrastive" else codes
    return SimpleNamespace(grey=grey, labels=labels, p=p, codes=codes, targets=targets)


def target_words(args, subject, codes):
    """The explained class of each face in words."""
    return [subject.classes[code] + (" - runner-up" if args.target == "contrastive" else "") for code in codes]


# ---- maps of single faces -------------------------------------------------------------------------------------


def chosen_faces(args):
    """The faces that --index, --per-class or --images name, and a caption for each."""
    import numpy as np

    from utils import data

    if args.images:
        faces = data.Faces(np.stack([data.read_image(path) for path in args.images]), source="--images")
        return faces, [path.name for path in args.images]
    faces = data.training_part(data.find_data(args.data))
    if args.per_class:
        if faces.labels is None:
            raise UserError(f"{faces.source} has no labels for --per-class; choose images with --index")
        rows = np.concatenate([np.flatnonzero(faces.labels == code)[:args.per_class] for code in range(len(data.CLASSES))])
    else:
        rows = np.array(args.index)
        if rows.max() >= len(faces):
            raise UserError(f"--index {rows.max()} is out of range; {faces.source} has training images 0 to {len(faces) - 1}")
    if len(rows) > FACES_ON_A_SHEET:
        raise UserError(f"{len(rows)} images do not fit one sheet; choose at most {FACES_ON_A_SHEET}")
    return faces.take(rows), [f"training image {row}" for row in rows]


def draw_maps(args, subject, methods):
    """Maps of the chosen faces: prints and writes the numbers, draws the sheet; returns the paths."""
    from utils import attribution, attribution_figures, models
    from utils import attribution_checks as checks

    faces, captions = chosen_faces(args)
    seen = look(args, subject, faces)
    maps = attribution.attribute_all(subject.logits, seen.grey, seen.targets, [*methods, *CONTROLS], **subject.options)
    values = {method: attribution.strength(made, method) for method, made in maps.items()}
    kept = {method: checks.kept(subject.logits, seen.grey, seen.codes, value, args.keep / 100, args.fill, args.seed)
            for method, value in values.items()}
    words = target_words(args, subject, seen.codes)
    rows = []
    for i, caption in enumerate(captions):
        for method in methods:
            before, after = (float(p[i]) for p in kept[method])
            rows.append([caption, "" if seen.labels is None else subject.classes[seen.labels[i]],
                         subject.classes[seen.p[i].argmax()], words[i], method, before, after,
                         *(float(kept[control][1][i]) for control in ("random", "edges")),
                         float(maps[method][i].min()), float(maps[method][i].max()),
                         float(checks.sparseness(values[method][i:i + 1])[0]), bool(attribution.is_blank(maps[method])[i])])
    print(f"Probability of the class with the top {args.keep:g} % of the area kept, the rest {args.fill}")
    print(cli.table([[*row[:5], *(f"{p:.3f}" for p in row[5:9]), f"{row[10]:.3g}", "blank" if row[12] else ""]
                     for row in rows],
                    ["image", "true", "predicted", "target", "method", "whole", "kept", "random", "edges", "map's max", ""]))
    if "integrated-gradients" in methods:
        missed = attribution.completeness_error(subject.logits, seen.grey, seen.targets, maps["integrated-gradients"],
                                                args.baseline)
        print(f"Integrated gradients, {args.baseline} baseline: sums miss the difference of the logits by {missed.mean():.3g} "
              f"on average, {missed.max():.3g} at most")
    blank = {method: int(attribution.is_blank(maps[method]).sum()) for method in methods}
    if any(blank.values()):
        print("Blank maps (zero everywhere): " + ", ".join(f"{m} {k} of {len(captions)}" for m, k in blank.items() if k))

    ending = "" if methods == ["gradient"] else "_all" if len(methods) == len(METHODS) else "_" + "_".join(methods)[:80]
    ending += "" if args.target == "predicted" else "_" + args.target.replace(" ", "-")
    path = models.FIGURES / f"{subject.name}_saliency{ending}.png"
    first = methods[0]
    left = checks.masked(seen.grey, checks.keep_top(values[first], args.keep / 100, args.seed), args.fill)
    sheet = SimpleNamespace(
        name=subject.name, target=args.target, keep=args.keep, captions=captions, words=words, grey=seen.grey, left=left,
        values=values, kept=kept, blank={method: attribution.is_blank(maps[method]) for method in methods},
        said=[said(subject, seen, i) for i in range(len(captions))], explained=[subject.classes[code] for code in seen.codes])
    if len(methods) == 1:
        attribution_figures.triptychs(sheet, first, path)
    else:
        attribution_figures.side_by_side(sheet, methods, path)
    files.write_csv(path.with_suffix(".csv"), ["image", "true", "predicted", "target", "method", "p_whole", "p_kept",
                    "p_kept_random", "p_kept_edges", "map_min", "map_max", "sparseness", "blank"], rows)
    return [path, path.with_suffix(".csv")]


def said(subject, seen, i):
    """True and predicted class of face i in words, one line each."""
    best = seen.p[i].argmax()
    true = "" if seen.labels is None else f"true: {subject.classes[seen.labels[i]]}\n"
    return f"{true}predicted: {subject.classes[best]} ({seen.p[i, best]:.2f})"


# ---- evidence -------------------------------------------------------------------------------------------------


def validation_faces(args, subject, least=1):
    """The faces to judge on: --data, else the model's own validation split; in random order."""
    import numpy as np

    from utils import data, evaluation

    faces = data.load_labelled(args.data) if args.data else evaluation.validation_faces(subject.path)
    if len(faces) < least:
        raise UserError(f"{faces.source} has {len(faces)} faces; expected at least {least}")
    return faces.take(np.random.default_rng([args.seed, 4]).permutation(len(faces)))


def evaluate(args, subject, methods):
    """Judge the methods: prints one table, writes two figures with their numbers; returns the paths."""
    import numpy as np

    from utils import attribution, attribution_figures, models
    from utils import attribution_checks as checks

    faces = validation_faces(args, subject, least=2)
    faces = faces.take(np.arange(min(args.evaluate, len(faces))))
    seen = look(args, subject, faces)
    everything = [*methods, *CONTROLS]
    maps = attribution.attribute_all(subject.logits, seen.grey, seen.targets, everything, **subject.options)
    values = {method: attribution.strength(made, method) for method, made in maps.items()}
    found = checks.judge(subject.logits, seen.grey, seen.codes, values, args.keep / 100, args.seed)
    rows = slice(0, FACES_RANDOMISED)
    stages, randomised = checks.cascade(subject.logits, seen.grey[rows], seen.targets[rows], methods, **subject.options)

    def mean(numbers):
        return checks.bootstrap(numbers, seed=args.seed)

    net = {method: result["insertion area"] - result["deletion area"] for method, result in found.items()}
    control = max(CONTROLS, key=lambda name: net[name].mean())
    keys = ("deletion area", "insertion area", "drop", "increase", "sparseness")
    order, table, results, marked = {}, [], [], []
    for method in sorted(everything, key=lambda name: -net[name].mean()):
        order[method] = {key: mean(found[method][key]) for key in keys} | {"net": mean(net[method] - net[control])}
        alike, blank = ("-", "-"), int(attribution.is_blank(maps[method]).sum())
        remarks = ["control"] if method in CONTROLS else []
        if method in methods:
            alike = [f"{checks.upper(kind).mean():.3f}" for kind in randomised[method]]
            marked += [method] if checks.fails(*randomised[method]) else []
            remarks += ["fails randomisation"] if method in marked else []
            remarks += [f"not above {control}"] if order[method]["net"][1] <= 0 else []
        verdict = "; ".join(remarks + ([f"{blank} blank"] if blank else [])) or "passes"
        cells = order[method].values()
        table.append([method, *("{:.3f} [{:.3f}, {:.3f}]".format(*order[method][key]) for key in (*keys[:2], "net")),
                      *(f"{100 * order[method][key][0]:.0f}" for key in keys[2:]), *alike, verdict])
        results.append([method, *(number for triple in cells for number in triple), *alike, blank, verdict])
    print(f"{len(faces)} faces of {faces.source}; brackets are bootstrap 95 % intervals. Deletion should be low, insertion "
          f"high; net is\ninsertion minus deletion, against {control}, the best control. Drop and increase of the probability "
          f"with the top {args.keep:g} % kept.\nCorrelation and SSIM: of maps before and after randomisation, mean over the "
          f"upper {len(checks.upper(stages))} of {len(stages)} stages; a method fails when both stay above {checks.FAILS:g}.")
    print(cli.table(table, ["method", "deletion area", "insertion area", f"net above {control}", "drop %", "increase %",
                            "sparse %", "correlation", "SSIM", "verdict"]))

    stem = models.FIGURES / f"{subject.name}_saliency"
    evaluation, curves, redrawn = (
        stem.with_name(f"{stem.name}_{word}.png") for word in ("evaluation", "curves", "randomisation"))
    written = [evaluation, *(path.with_suffix(".csv") for path in (evaluation, curves)), redrawn, redrawn.with_suffix(".csv")]
    attribution_figures.evaluation(subject.name, found, order, marked, len(faces), evaluation)
    attribution_figures.randomisation(subject.name, stages, randomised, redrawn)
    ends = [key.replace(" ", "_") + end for key in (*keys, f"net_above_{control}") for end in ("", "_low", "_high")]
    files.write_csv(written[1], ["method", *ends, "rank_correlation", "ssim", "blank", "verdict"], results)
    files.write_csv(written[2], ["method", "share_of_area", "deletion", "insertion"], [
        [method, k / checks.STEPS, *(float(found[method][kind][:, k].mean()) for kind in ("deletion", "insertion"))]
        for method in everything for k in range(checks.STEPS + 1)])
    files.write_csv(written[4], ["method", "redrawn_down_to", "rank_correlation", "ssim"], [
        [method, stage, *(float(kind[k].mean()) for kind in randomised[method])]
        for method in methods for k, stage in enumerate(stages)])
    return written


def mean_maps(args, subject, methods):
    """The mean map of each true class, and of its rightly and wrongly classified faces; returns the paths."""
    import numpy as np

    from utils import attribution, attribution_figures, models

    if len(methods) > 1:
        raise UserError("--mean-maps draws one method; name one with --method")
    faces = validation_faces(args, subject)
    seen = look(args, subject, faces)
    maps = attribution.attribute(subject.logits, seen.grey, seen.targets, methods[0], **subject.options)
    values = np.maximum(attribution.strength(maps, methods[0]), 0)
    mean = values.mean((1, 2), keepdims=True)
    drawn, right = mean.ravel() > 0, seen.p.argmax(1) == seen.labels
    values /= np.where(mean > 0, mean, 1)  # every face counts alike, however steep its logit
    present = {subject.classes[code]: seen.labels == code for code in np.unique(seen.labels)}
    averages, rows = {}, []
    for name, own in present.items():
        for group, members in (("all", drawn & own), ("right", drawn & own & right), ("wrong", drawn & own & ~right)):
            average = values[members].mean(0) if members.any() else None
            averages[name, group] = int(members.sum()), average
            if members.any():
                thirds = [float(part.sum() / average.sum()) for part in np.array_split(average, 3)]
                rows.append([name, group, int(members.sum()), *thirds])
    if not drawn.all():
        print(f"Blank maps, left out: {(~drawn).sum()} of {len(faces)}")
    print(f"Share of the saliency in each third of the image, {len(faces):,} faces of {faces.source}")
    print(cli.table([[*row[:2], f"{row[2]:,}", *(f"{100 * share:.0f}" for share in row[3:])] for row in rows],
                    ["true class", "faces", "n", "upper %", "middle %", "lower %"]))
    path = models.FIGURES / f"{subject.name}_saliency_mean_{methods[0]}.png"
    means = {name: seen.grey[own].mean(0) for name, own in present.items()}
    attribution_figures.mean_maps(subject.name, methods[0], list(present), means, averages, len(faces), path)
    files.write_csv(path.with_suffix(".csv"), ["class", "faces", "n", "upper_third", "middle_third", "lower_third"], rows)
    return [path, path.with_suffix(".csv")]


if __name__ == "__main__":
    cli.run(main)
