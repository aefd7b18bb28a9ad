"""Question 3: which expressions does the model take for which?

    python plot_confusion.py                             the model's own validation split, recovered from its card
    python plot_confusion.py --model models/a.h5 --compare models/b.h5
    python plot_confusion.py --data data/test.csv --labels data/test_public_labels.csv --tta ten-crop

Writes, under the name of --out: NAME.png (confusion matrices, rows are true classes), NAME_reliability.png (how far confidence
can be trusted), NAME_gallery.png (the most confident mistakes of the most-confused pairs), with --compare NAME_comparison.png;
a CSV beside each, NAME_classes.csv and everything as NAME.json. Brackets are bootstrap 95 % intervals (2,000 resamples).
"""

from pathlib import Path

from utils import cli, evaluation
from utils.cli import UserError
from utils.files import shown, write_csv, write_json

PAIRS_SAID, PAIRS_SHOWN, FACES_SHOWN = 10, 6, 8


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, metavar="MODEL.h5", help="default: models/cnn.h5, else the released one")
    parser.add_argument("--compare", type=Path, metavar="OTHER.h5", help="a second model to test against on the same faces")
    evaluation.add_data(parser)
    evaluation.add_tta(parser)
    parser.add_argument("--out", type=Path, default=Path("figures/confusion.png"), help="PNG; all other names follow from it")
    args = parser.parse_args()
    if args.out.suffix != ".png":
        raise UserError(f"--out {args.out} must end in .png")

    cli.start_keras()
    from utils import models

    path = args.model or models.default_model()
    paths = [path] + ([args.compare] if args.compare else [])
    networks = evaluation.load_networks(paths)
    faces = evaluation.faces_to_judge(args, paths)
    outputs = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    names = [evaluation.name_of(p) for p in paths]
    where = f"{len(faces):,} faces of {faces.source}, tta {args.tta}"

    counts = evaluation.confusion(faces.labels, outputs[0].argmax(axis=1))
    samples = evaluation.bootstrap(outputs[0], faces.labels)[0]
    result = evaluation.measure(outputs[0], faces.labels)
    classes, pairs = by_class(counts, samples), confused_pairs(counts, samples)
    percent = evaluation.percent
    print(f"{names[0]}: {where}\naccuracy {percent(result['accuracy'])} %, macro-F1 {percent(result['macro_f1'])} %, "
          f"calibration error {percent(result['ece'])} %\n")
    print(cli.table([[c["class"], *(percent(c[key]) for key in ("precision", "recall", "f1")), c["support"]] for c in classes],
                    ["class", "precision %", "recall %", "F1 %", "support"]))
    print("\n" + ("\n".join(pair["words"] for pair in pairs[:PAIRS_SAID]) or "No class is taken for another."))

    report = {"model": names[0], "data": faces.source, "fingerprint": faces.fingerprint(), "tta": args.tta, **result,
              "counts": counts.tolist(), "classes": classes, "pairs": pairs}
    title = f"{names[0]}: accuracy {percent(result['accuracy'])} %, {where}"
    written = write_matrices(args.out, counts, samples, title)
    written += write_reliability(sibling(args.out, "reliability"), outputs[0], faces.labels, result, f"{names[0]}\n{where}")
    written += write_gallery(sibling(args.out, "gallery"), outputs[0], faces, pairs[:PAIRS_SHOWN], names[0])
    if args.compare:
        report["comparison"] = compared(names, outputs, faces.labels)
        print("\n" + report["comparison"]["words"])
        written += write_comparison(sibling(args.out, "comparison"), outputs, faces.labels, report["comparison"])
    keys = ("precision", "recall", "f1")
    table = args.out.with_name(f"{args.out.stem}_classes.csv")
    write_csv(table, ["class", "support", *(f"{key}{end}" for key in keys for end in ("", "_low", "_high"))],
              [[c["class"], c["support"], *(number for key in keys for number in c[key])] for c in classes])
    write_json(args.out.with_suffix(".json"), report)
    print("\nWrote " + ", ".join(shown(p) for p in [*written, table, args.out.with_suffix(".json")]))


def sibling(out, part):
    """figures/confusion.png -> figures/confusion_PART.png"""
    return out.with_name(f"{out.stem}_{part}.png")


# ---- numbers --------------------------------------------------------------------------------------------------


def by_class(counts, samples):
    """Precision, recall, F1 ([value, low, high] each) and support of each class, a list of dicts."""
    value, resampled = evaluation.scores(counts), evaluation.scores(samples)
    columns = {key: evaluation.triples(value[key], *evaluation.interval(resampled[key]))
               for key in ("precision", "recall", "f1")}
    return [{"class": name, **{key: column[i] for key, column in columns.items()}, "support": int(counts[i].sum())}
            for i, name in enumerate(evaluation.CLASSES)]


def confused_pairs(counts, samples):
    """Every pair of classes that is confused, most frequent first by share of the true class; dicts that end in words."""
    share = evaluation.scores(counts)["share"]
    low, high = evaluation.interval(evaluation.scores(samples)["share"])
    pairs = []
    for true, row in enumerate(counts):
        for taken, count in enumerate(row):
            if count and true != taken:
                a, b = (evaluation.CLASSES[code].capitalize() for code in (true, taken))
                triple = evaluation.triples(share[true, taken], low[true, taken], high[true, taken])
                pairs.append({"true": true, "predicted": taken, "count": int(count), "share": triple, "words": (
                    f"{a} is taken for {b} in {100 * triple[0]:.0f} % of its images ({count:,} of {row.sum():,}; "
                    f"95 % interval {100 * triple[1]:.0f} to {100 * triple[2]:.0f} %).")})
    return sorted(pairs, key=lambda pair: -pair["share"][0])


def compared(names, outputs, labels):
    """McNemar's exact test (1947) of two models on the same faces, with what it means in words: a dict."""
    from scipy.stats import binomtest

    right = [output.argmax(axis=1) == labels for output in outputs]
    first, second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    accuracies = [100 * float(r.mean()) for r in right]
    verdict = "more than chance explains" if p < 0.05 else "no more than chance explains"
    return {"models": names, "accuracy": [a / 100 for a in accuracies], "only_first_right": first, "only_second_right": second,
            "p": p, "words": (
                f"{names[1]} is right on {accuracies[1]:.1f} % and {names[0]} on {accuracies[0]:.1f} %; {first:,} faces only "
                f"{names[0]} gets right, {second:,} only {names[1]}: {verdict} (McNemar's exact test, p = {p:.2g}).")}


# ---- figures --------------------------------------------------------------------------------------------------


def draw_matrix(ax, values, texts, title, cmap, limits):
    """One 7x7 matrix with a text in each cell, rows true, columns predicted; returns the image for a colour bar."""
    import numpy as np

    image = ax.imshow(np.ma.masked_invalid(values), cmap=cmap, vmin=limits[0], vmax=limits[1])
    for i, j in np.ndindex(*values.shape):
        rgb = image.cmap(image.norm(values[i, j]))[:3] if np.isfinite(values[i, j]) else (1, 1, 1)
        dark = np.dot(rgb, (0.299, 0.587, 0.114)) < 0.5
        big, _, small = texts[i][j].partition("\n")
        ax.text(j, i - (0.13 if small else 0), big, ha="center", va="center", fontsize=9, color="white" if dark else "black")
        ax.text(j, i + 0.25, small, ha="center", va="center", fontsize=6, color="white" if dark else "#333333")
    ax.set_xticks(range(len(values)), evaluation.CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(values)), evaluation.CLASSES)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.set_title(title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return image


def cell_texts(values, low, high, form="{:.0f}"):
    """`42` over `37 to 47` for each cell, `-` where undefined; a list of lists."""

    def text(number):
        return form.format(number) if abs(number) >= 0.5 else "0"  # neither -0 nor +0

    return [["-" if v != v else f"{text(v)}\n{text(a)} to {text(b)}" for v, a, b in zip(*rows)]  # only nan differs from itself
            for rows in zip(values, low, high)]


def write_matrices(out, counts, samples, title):
    """The row-normalised and the count matrix as one PNG, all cells as CSV; returns both paths."""
    from utils.figures import plt, save_figure

    share = 100 * evaluation.scores(counts)["share"]
    low, high = evaluation.interval(100 * evaluation.scores(samples)["share"])
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    image = draw_matrix(axes[0], share, cell_texts(share, low, high), "Share of the true class (%), 95 % interval below",
                        "Blues", (0, 100))
    figure.colorbar(image, ax=axes[0], shrink=0.75, label="% of the true class")
    image = draw_matrix(axes[1], counts.astype(float), [[f"{c:,}" for c in row] for row in counts], "Faces", "Blues",
                        (0, max(counts.max(), 1)))
    figure.colorbar(image, ax=axes[1], shrink=0.75, label="faces")
    figure.suptitle(title, fontsize=10.5)
    rows = [[a, b, counts[i, j], *evaluation.triples(share[i, j] / 100, low[i, j] / 100, high[i, j] / 100)]
            for i, a in enumerate(evaluation.CLASSES) for j, b in enumerate(evaluation.CLASSES)]
    write_csv(out.with_suffix(".csv"), ["true", "predicted", "faces", "share", "low", "high"], rows)
    return [save_figure(figure, out), out.with_suffix(".csv")]


def write_reliability(out, probabilities, labels, result, title):
    """Accuracy against confidence in bins, with Wilson 95 % intervals, and how many faces each bin holds."""
    import numpy as np
    from scipy.stats import binomtest

    from utils.figures import COLORS, plt, save_figure

    bins, _ = evaluation.calibration(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows = []
    for i in range(evaluation.BINS):
        inside, n = bins == i, int((bins == i).sum())
        if n:
            interval = binomtest(int(right[inside].sum()), n).proportion_ci(method="wilson")
            rows.append([i / evaluation.BINS, (i + 1) / evaluation.BINS, n, *(
                round(float(x), 5) for x in (confidence[inside].mean(), right[inside].mean(), interval.low, interval.high))])
    _, _, sizes, mean, accuracy, low, high = (np.array(column) for column in zip(*rows))
    figure, (ax, below) = plt.subplots(2, 1, figsize=(4.6, 5.1), height_ratios=(3.2, 1), sharex=True, layout="constrained")
    ax.plot([0, 100], [0, 100], "--", color=COLORS["grey"], lw=1, label="perfect calibration")
    ax.errorbar(100 * mean, 100 * accuracy, 100 * np.array([np.maximum(accuracy - low, 0), np.maximum(high - accuracy, 0)]),
                fmt="o", color=COLORS["blue"], capsize=2.5, markersize=4, label="model, 95 % interval")
    ax.set(xlim=(0, 102), ylim=(0, 102), ylabel="accuracy (%)")
    ax.set_title(f"{title}\nexpected calibration error {evaluation.percent(result['ece'])} %", fontsize=9)
    ax.grid(True)
    ax.legend(loc="lower right")
    below.bar([100 * (row[0] + row[1]) / 2 for row in rows], sizes, 100 / evaluation.BINS * 0.92, color=COLORS["sky"])
    below.set(xlabel="confidence: the largest probability (%)", ylabel="faces")
    figure.align_ylabels()
    write_csv(out.with_suffix(".csv"), ["from", "to", "faces", "confidence", "accuracy", "low", "high"], rows)
    return [save_figure(figure, out), out.with_suffix(".csv")]


def write_gallery(out, probabilities, faces, pairs, name):
    """The faces of each pair that the model is most sure of and wrong about, one pair a row, identical images once."""
    import numpy as np

    from utils.data import image_groups
    from utils.figures import plt, save_figure

    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    groups = image_groups(faces.images)
    figure, axes = plt.subplots(max(len(pairs), 1), FACES_SHOWN, squeeze=False, layout="constrained",
                                figsize=(7.2, 0.4 + 1.0 * max(len(pairs), 1)))
    rows = []
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for line, pair in zip(axes, pairs):
        wrong = np.flatnonzero((faces.labels == pair["true"]) & (predicted == pair["predicted"]))
        wrong = wrong[np.unique(groups[wrong], return_index=True)[1]]
        true, taken = (evaluation.CLASSES[pair[key]] for key in ("true", "predicted"))
        line[0].set_ylabel(f"{true}\ntaken for\n{taken}\n({100 * pair['share'][0]:.0f} %)", rotation=0, ha="right",
                           va="center", fontsize=8, labelpad=4)
        for ax, row in zip(line, sorted(wrong, key=lambda row: -confidence[row])[:FACES_SHOWN]):
            ax.imshow(faces.images[row], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"{100 * confidence[row]:.0f} %", fontsize=7.5, pad=2)
            rows.append([row if faces.ids is None else faces.ids[row], row, true, taken, f"{confidence[row]:.5f}"])
    words = "wrong, and how sure of it (probability of the wrong class)" if pairs else "no face is taken for another class"
    figure.suptitle(f"{name}: {words}", fontsize=10)
    write_csv(out.with_suffix(".csv"), ["id", "row", "true", "predicted", "confidence"], rows)
    return [save_figure(figure, out), out.with_suffix(".csv")]


def write_comparison(out, outputs, labels, comparison):
    """Second model minus first, in points of each true class; intervals from resampling both on the same faces."""
    from utils.figures import plt, save_figure

    value = [100 * evaluation.scores(evaluation.confusion(labels, output.argmax(axis=1)))["share"] for output in outputs]
    samples = [100 * evaluation.scores(evaluation.bootstrap(output, labels)[0])["share"] for output in outputs]  # same draws
    difference, (low, high) = value[1] - value[0], evaluation.interval(samples[1] - samples[0])
    limit = max(abs(difference[difference == difference]).max(), 1)  # nan is not equal to itself
    figure, ax = plt.subplots(figsize=(5.6, 4.9), layout="constrained")
    first, second = comparison["models"]
    title = (f"{second}\nminus {first}\nright where the other is wrong: {comparison['only_second_right']:,} against "
             f"{comparison['only_first_right']:,} faces, McNemar p = {comparison['p']:.2g}")
    image = draw_matrix(ax, difference, cell_texts(difference, low, high, "{:+.0f}"), title, "PuOr", (-limit, limit))
    figure.colorbar(image, ax=ax, shrink=0.75, label="difference (points of the true class)")
    rows = [[a, b, *evaluation.triples(difference[i, j] / 100, low[i, j] / 100, high[i, j] / 100)]
            for i, a in enumerate(evaluation.CLASSES) for j, b in enumerate(evaluation.CLASSES)]
    write_csv(out.with_suffix(".csv"), ["true", "predicted", "difference", "low", "high"], rows)
    return [save_figure(figure, out), out.with_suffix(".csv")]


if __name__ == "__main__":
    cli.run(main)
