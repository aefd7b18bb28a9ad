"""Question 3: which expressions does the model take for which?

    python plot_confusion.py        the model's own validation split, recovered from its card
    python plot_confusion.py --model models/a.h5 --compare models/b.h5
    python plot_confusion.py --data data/test.csv --labels data/test_public_labels.csv --tta ten-crop

Writes, under the name of --out: NAME.png (confusion matrices, rows are true classes), NAME_reliability.png
(how far confidence can be trusted), NAME_gallery.png (the most confident mistakes of the most-confused
pairs), with --compare NAME_comparison.png; a CSV beside each, NAME_classes.csv and everything as NAME.json.
Brackets are bootstrap 95 % intervals (2,000 resamples).
"""

import math
from pathlib import Path

from utils import cli, files
from utils.cli import UserError

PAIRS_PRINTED, PAIRS_DRAWN, FACES_DRAWN = 10, 6, 8
NO_PAIR = "No class is taken for another."
SCORES = {"precision": "precision %", "recall": "recall %", "f1": "F1 %"}
FIRST_COLUMNS = {"": "true", "_reliability": "from", "_gallery": "id", "_comparison": "true"}  # of the CSVs


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    parser.add_argument("--compare", type=Path, metavar="OTHER.h5",
                        help="a second model to test on the same faces")
    cli.add_evaluation_data(parser)
    cli.add_tta(parser)
    parser.add_argument("--out", type=Path, default=Path("figures/confusion.png"),
                        help="PNG; all other names follow from it")
    args = parser.parse_args(argv)
    if args.out.suffix != ".png":
        raise UserError(f"--out {args.out} must end in .png")
    return args


def main(argv=None):
    """Draw the confusions; returns what is written as JSON (dict)."""
    args = parse_args(argv)
    parts = [part for part in FIRST_COLUMNS if args.compare or part != "_comparison"]

    def path(ending):
        return args.out.with_name(args.out.stem + ending)

    outputs = {path(f"{part}.png"): "" for part in parts}
    outputs |= {path(f"{part}.csv"): FIRST_COLUMNS[part] for part in parts}
    outputs |= {path("_classes.csv"): "class", path(".json"): "model"}
    files.check_outputs(outputs)
    cli.start_keras()
    import pandas as pd

    from utils import evaluation, metrics, models
    from utils.figures import save_figure
    from utils.metrics import percent

    # ---- Predictions
    paths = [args.model or models.default_model()] + ([args.compare] if args.compare else [])
    networks = evaluation.load_networks(paths)
    faces = evaluation.faces_to_evaluate(
        paths, args.data, args.labels, args.usage, args.training_data, args.classes)
    answers = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    names = [path.stem for path in paths]
    source = f"{len(faces):,} faces of {faces.source}, tta {args.tta}"

    # ---- Scores: of all faces, of each class, of each cell of the confusion matrix
    result = metrics.measure(answers[0], faces.labels)
    estimates = metrics.estimates(answers[0], faces.labels)
    counts = metrics.confusion(faces.labels, answers[0].argmax(axis=1))
    classes = pd.DataFrame({"class": metrics.CLASSES, "support": counts.sum(axis=1),
                            **{key: estimates[key] for key in SCORES}})
    cells = cell_table("share", estimates["share"])
    cells.insert(2, "faces", counts.ravel())
    pairs = confused_pairs(cells)
    accuracy, macro_f1, ece = (percent(result[key]) for key in ("accuracy", "macro_f1", "ece"))
    print(f"{names[0]}: {source}\naccuracy {accuracy} %, macro-F1 {macro_f1} %, calibration error {ece} %\n")
    printed = classes.assign(**{key: classes[key].map(percent) for key in SCORES})
    cli.print_table(printed.rename(columns=SCORES))
    print("\n" + "\n".join([pair["text"] for pair in pairs[:PAIRS_PRINTED]] or [NO_PAIR]))
    report = {"model": names[0], "data": faces.source, "fingerprint": faces.fingerprint(), "tta": args.tta,
              **result, "counts": counts.tolist(), "classes": classes.to_dict("records"), "pairs": pairs}

    # ---- Figures, each with the table that it is drawn from
    title = f"{names[0]}\n{source}\nexpected calibration error {ece} %"
    drawn = {"": draw_matrices(cells, f"{names[0]}: accuracy {accuracy} %, {source}"),
             "_reliability": draw_reliability(answers[0], faces.labels, title),
             "_gallery": draw_gallery(answers[0], faces, pairs[:PAIRS_DRAWN], names[0])}
    if args.compare:
        report["comparison"] = compare(names, answers, faces.labels)
        print("\n" + report["comparison"]["text"])
        drawn["_comparison"] = draw_comparison(answers, faces.labels, report["comparison"])
    for part, (figure, table) in drawn.items():
        save_figure(figure, path(f"{part}.png"))
        files.write_table(path(f"{part}.csv"), table)
    files.write_table(path("_classes.csv"), pd.DataFrame(map(metrics.interval_columns, report["classes"])))
    files.write_json(path(".json"), report)
    print("\nWrote " + ", ".join(map(files.relative_path, outputs)))
    return report


# ---- tables ------------------------------------------------------------------------------------------------


def cell_table(name, estimates):
    """7x7 lists of [value, low, high] as a DataFrame, a row a cell: true, predicted, `name`, low, high."""
    import numpy as np
    import pandas as pd

    from utils.metrics import CLASSES

    cells = pd.MultiIndex.from_product([CLASSES, CLASSES], names=["true", "predicted"])
    values = np.array(estimates, float).reshape(-1, 3)
    return pd.DataFrame(values, cells, [name, "low", "high"]).reset_index()


def confused_pairs(cells):
    """Every pair of classes that is confused, the largest share of the true class first: a list of dicts."""
    from utils.metrics import CLASSES

    support = cells.groupby("true")["faces"].sum()
    wrong = cells[(cells["true"] != cells["predicted"]) & (cells["faces"] > 0)]
    pairs = []
    for cell in wrong.sort_values("share", ascending=False, kind="stable").itertuples():
        text = (f"{cell.true.capitalize()} is taken for {cell.predicted.capitalize()} in "
                f"{100 * cell.share:.0f} % of its images ({cell.faces:,} of {support[cell.true]:,}; "
                f"95 % interval {100 * cell.low:.0f} to {100 * cell.high:.0f} %).")
        pairs.append({"true": CLASSES.index(cell.true), "predicted": CLASSES.index(cell.predicted),
                      "count": cell.faces, "share": [cell.share, cell.low, cell.high], "text": text})
    return pairs


def compare(names, answers, labels):
    """McNemar's exact test (1947) of two models on the same faces, with a sentence on the result: a dict."""
    from utils.metrics import mcnemar

    a, b = (probabilities.argmax(axis=1) == labels for probabilities in answers)
    p, only_a, only_b = mcnemar(a, b)
    verdict = "more than chance explains" if p < 0.05 else "no more than chance explains"
    text = (f"{names[1]} is right on {100 * b.mean():.1f} % and {names[0]} on {100 * a.mean():.1f} %; "
            f"{only_a:,} faces only {names[0]} gets right, {only_b:,} only {names[1]}: {verdict} "
            f"(McNemar's exact test, p = {p:.2g}).")
    return {"models": names, "accuracy": [float(a.mean()), float(b.mean())], "only_first_right": only_a,
            "only_second_right": only_b, "p": p, "text": text}


# ---- figures: each function returns the figure and the table of what it shows ------------------------------


def draw_matrix(ax, values, texts, title, label, cmap="Blues", limits=(0, None)):
    """One 7x7 matrix, rows true, columns predicted, and its colour bar; returns the image.

    values: float (7, 7); texts: of the 49 cells, a second line is written small; label: of the colour bar;
    limits: of the colours.
    """
    import numpy as np

    from utils.metrics import CLASSES

    image = ax.imshow(np.nan_to_num(values), cmap=cmap, vmin=limits[0], vmax=limits[1])
    is_dark = image.to_rgba(image.get_array())[..., :3] @ (0.299, 0.587, 0.114) < 0.5
    for (i, j), text in zip(np.ndindex(values.shape), texts):
        large, _, small = text.partition("\n")
        style = {"ha": "center", "va": "center", "color": "white" if is_dark[i, j] else "black"}
        ax.text(j, i - 0.13 * bool(small), large, fontsize=9, **style)
        ax.text(j, i + 0.25, small, fontsize=6, **style)
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(CLASSES)), CLASSES)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, shrink=0.75, label=label)
    return image


def cell_texts(table, form="{:.0f}"):
    """`42` over `37 to 47`, in %, for each row of a table that ends in value, low and high; `-` for nan."""

    def percent(number):
        return form.format(100 * number) if abs(number) >= 0.005 else "0"  # neither -0 nor +0

    return ["-" if math.isnan(value) else f"{percent(value)}\n{percent(low)} to {percent(high)}"
            for value, low, high in table.iloc[:, -3:].to_numpy()]


def draw_matrices(cells, title):
    """The row-normalised matrix and the counts."""
    from utils.figures import plt

    share, counts = (cells[key].to_numpy(float).reshape(7, 7) for key in ("share", "faces"))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    draw_matrix(axes[0], 100 * share, cell_texts(cells), "Share of the true class (%), 95 % interval below",
                "% of the true class", limits=(0, 100))
    draw_matrix(axes[1], counts, cells["faces"].map("{:,}".format), "Faces", "faces")
    figure.suptitle(title, fontsize=10.5)
    return figure, cells


def draw_reliability(probabilities, labels, title):
    """Accuracy against confidence in bins, with Wilson 95 % intervals, and how many faces each bin holds."""
    import pandas as pd
    from scipy.stats import binomtest
    from sklearn.calibration import CalibrationDisplay

    from utils.figures import COLORS, plt
    from utils.metrics import BINS, calibration

    bins, _ = calibration(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    groups = pd.DataFrame({"confidence": confidence, "right": right}).groupby(bins)
    table = groups.agg(faces=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean"))
    table[["low", "high"]] = [binomtest(int(hits), int(n)).proportion_ci(method="wilson")
                              for hits, n in zip(groups["right"].sum(), table["faces"])]
    table = table.round(5)
    table.insert(0, "from", table.index / BINS)
    table.insert(1, "to", (table.index + 1) / BINS)

    figure, (ax, below) = plt.subplots(2, 1, figsize=(4.6, 5.1), height_ratios=(3.2, 1), sharex=True,
                                       layout="constrained")
    CalibrationDisplay(table["accuracy"], table["confidence"], confidence).plot(
        ax=ax, name="model, 95 % interval", color=COLORS["blue"], marker="o", markersize=4, linestyle="none")
    ax.vlines(table["confidence"], table["low"], table["high"], color=COLORS["blue"])
    below.bar((table["from"] + table["to"]) / 2, table["faces"], 0.92 / BINS, color=COLORS["sky"])
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="", ylabel="accuracy (%)")
    below.set(xlabel="confidence: the largest probability (%)", ylabel="faces")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    ax.set_title(title, fontsize=9)
    ax.grid(True)
    figure.align_ylabels()
    return figure, table


def draw_gallery(probabilities, faces, pairs, name):
    """The faces of each pair that the model is most confident of and wrong about, identical images once."""
    import pandas as pd

    from utils.data import CLASSES, image_groups
    from utils.figures import plt

    rows = range(len(faces))
    answers = pd.DataFrame({"id": rows if faces.ids is None else faces.ids, "row": rows, "true": faces.labels,
                            "predicted": probabilities.argmax(axis=1), "image": image_groups(faces.images),
                            "confidence": probabilities.max(axis=1).round(5)})
    surest = answers.sort_values("confidence", ascending=False, kind="stable")
    surest = surest.drop_duplicates(["image", "true"]).drop(columns="image").groupby(["true", "predicted"])
    figure, axes = plt.subplots(max(len(pairs), 1), FACES_DRAWN, squeeze=False, layout="constrained",
                                figsize=(7.2, 0.4 + 1.0 * max(len(pairs), 1)))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    drawn = [surest.head(0)]
    for line, pair in zip(axes, pairs):
        mistakes = surest.get_group((pair["true"], pair["predicted"])).head(FACES_DRAWN)
        true, predicted = CLASSES[pair["true"]], CLASSES[pair["predicted"]]
        line[0].set_ylabel(f"{true}\ntaken for\n{predicted}\n({100 * pair['share'][0]:.0f} %)", rotation=0,
                           ha="right", va="center", fontsize=8, labelpad=4)
        for ax, row, confidence in zip(line, mistakes["row"], mistakes["confidence"]):
            ax.imshow(faces.images[row], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"{100 * confidence:.0f} %", fontsize=7.5, pad=2)
        drawn.append(mistakes.assign(true=true, predicted=predicted))
    caption = "mistakes with the probability of the wrong class" if pairs else NO_PAIR.lower()
    figure.suptitle(f"{name}: {caption}", fontsize=10)
    return figure, pd.concat(drawn)


def draw_comparison(answers, labels, comparison):
    """Second model minus first in points of each true class; both are resampled on the same faces."""
    from utils import metrics
    from utils.figures import plt

    shares, samples = [], []
    for probabilities in answers:
        counts = metrics.confusion(labels, probabilities.argmax(axis=1))
        shares.append(metrics.scores(counts)["share"])
        samples.append(metrics.scores(metrics.bootstrap(probabilities, labels)[0])["share"])
    table = cell_table("difference",
                       metrics.with_interval(shares[1] - shares[0], samples[1] - samples[0]))
    values = 100 * table["difference"].to_numpy().reshape(7, 7)
    limit = max(100 * table["difference"].abs().max(), 1)
    figure, ax = plt.subplots(figsize=(5.6, 4.9), layout="constrained")
    title = (f"{comparison['models'][1]}\nminus {comparison['models'][0]}\nright where the other is wrong: "
             f"{comparison['only_second_right']:,} against {comparison['only_first_right']:,} faces, "
             f"McNemar p = {comparison['p']:.2g}")
    draw_matrix(ax, values, cell_texts(table, "{:+.0f}"), title, "difference (points of the true class)",
                "PuOr", (-limit, limit))
    return figure, table


if __name__ == "__main__":
    cli.run(main)
