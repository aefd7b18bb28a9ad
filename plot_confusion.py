"""Question 3: which expressions does the model take for which?

    python plot_confusion.py        the model's own validation split, recovered from its card
    python plot_confusion.py --model models/a.h5 --compare models/b.h5
    python plot_confusion.py --data data/test.csv --labels data/test_public_labels.csv --tta ten-crop

Writes, under the name of --out: NAME.png (confusion matrices, rows are true classes), NAME_reliability.png
(how far confidence can be trusted), NAME_gallery.png (the most confident mistakes of the most-confused
pairs), with --compare NAME_comparison.png; a CSV beside each, NAME_classes.csv and everything as NAME.json.
Brackets are bootstrap 95 % intervals (2,000 resamples).
"""

import itertools
from pathlib import Path

from utils import cli, files
from utils.cli import UserError

PAIRS_PRINTED, PAIRS_DRAWN, FACES_DRAWN = 10, 6, 8
NO_PAIR = "No class is taken for another."
SCORES = {"precision": "precision %", "recall": "recall %", "f1": "F1 %"}


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
    parts = ["", "_reliability", "_gallery"] + ["_comparison"] * bool(args.compare)
    figures = [args.out.with_name(f"{args.out.stem}{part}.png") for part in parts]
    tables = [figure.with_suffix(".csv") for figure in figures]
    classes_path = args.out.with_name(f"{args.out.stem}_classes.csv")
    report_path = args.out.with_suffix(".json")
    first_columns = dict(zip(tables, ("true", "from", "id", "true"))) | {classes_path: "class"}
    files.check_outputs({**dict.fromkeys(figures, ""), **first_columns, report_path: "model"})
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
    outputs = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    predicted, names = outputs[0].argmax(axis=1), [path.stem for path in paths]
    source = f"{len(faces):,} faces of {faces.source}, tta {args.tta}"

    # ---- Scores: of all faces, of each class, of each cell of the confusion matrix
    result = metrics.measure(outputs[0], faces.labels)
    counts = metrics.confusion(faces.labels, predicted)
    samples = metrics.scores(metrics.bootstrap(outputs[0], faces.labels)[0])
    classes = class_table(faces.labels, predicted, samples)
    cells = cell_table("share", metrics.scores(counts)["share"], samples["share"], faces=counts)
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
    drawn = [draw_matrices(cells, f"{names[0]}: accuracy {accuracy} %, {source}"),
             draw_reliability(outputs[0], faces.labels, title),
             draw_gallery(outputs[0], faces, pairs[:PAIRS_DRAWN], names[0])]
    if args.compare:
        report["comparison"] = compare(names, outputs, faces.labels)
        print("\n" + report["comparison"]["text"])
        drawn.append(draw_comparison(outputs, faces.labels, report["comparison"]))
    for (figure, table), figure_path, table_path in zip(drawn, figures, tables):
        save_figure(figure, figure_path)
        files.write_table(table_path, table)
    files.write_table(classes_path, pd.DataFrame(map(metrics.interval_columns, report["classes"])))
    files.write_json(report_path, report)
    print("\nWrote " + ", ".join(map(files.relative_path, [*figures, *tables, classes_path, report_path])))
    return report


# ---- tables ------------------------------------------------------------------------------------------------


def class_table(labels, predicted, samples):
    """Support, precision, recall and F1 of each class, the scores as [value, low, high]: a DataFrame.

    labels, predicted: int (n,); samples: `metrics.scores` of bootstrap replicates.
    """
    import numpy as np
    import pandas as pd
    from sklearn.metrics import precision_recall_fscore_support

    from utils.metrics import CLASSES, CODES, with_interval

    *values, support = precision_recall_fscore_support(labels, predicted, labels=CODES, zero_division=np.nan)
    scores = {key: with_interval(value, samples[key]) for key, value in zip(SCORES, values)}
    return pd.DataFrame({"class": CLASSES, "support": support, **scores})


def cell_table(name, values, samples, **columns):
    """A 7x7 matrix as a DataFrame of its cells, row by row: true, predicted, `columns`, `name`, low, high.

    values: float (7, 7); samples: its bootstrap replicates (n, 7, 7); columns: further matrices (7, 7).
    """
    import numpy as np
    import pandas as pd

    from utils.metrics import CLASSES, with_interval

    estimates = np.array(with_interval(values, samples), float).reshape(-1, 3)
    table = pd.DataFrame(itertools.product(CLASSES, CLASSES), columns=["true", "predicted"])
    columns = {key: column.ravel() for key, column in columns.items()}
    return table.assign(**columns, **dict(zip((name, "low", "high"), estimates.T)))


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


def compare(names, outputs, labels):
    """McNemar's exact test (1947) of two models on the same faces, with a sentence on the result: a dict."""
    from utils.metrics import mcnemar

    a, b = (output.argmax(axis=1) == labels for output in outputs)
    p, only_a, only_b = mcnemar(a, b), int((a & ~b).sum()), int((b & ~a).sum())
    verdict = "more than chance explains" if p < 0.05 else "no more than chance explains"
    text = (f"{names[1]} is right on {100 * b.mean():.1f} % and {names[0]} on {100 * a.mean():.1f} %; "
            f"{only_a:,} faces only {names[0]} gets right, {only_b:,} only {names[1]}: {verdict} "
            f"(McNemar's exact test, p = {p:.2g}).")
    return {"models": names, "accuracy": [float(a.mean()), float(b.mean())], "only_first_right": only_a,
            "only_second_right": only_b, "p": p, "text": text}


# ---- figures: each function returns the figure and the table of what it shows ------------------------------


def draw_matrix(ax, values, texts, title, cmap, limits):
    """One 7x7 matrix, rows true, columns predicted; returns the image for a colour bar.

    values: float (7, 7); texts: of the 49 cells, a second line is written small; limits: of the colours.
    """
    import numpy as np
    from sklearn.metrics import ConfusionMatrixDisplay

    from utils.metrics import CLASSES

    display = ConfusionMatrixDisplay(np.nan_to_num(values), display_labels=CLASSES)
    display.plot(ax=ax, cmap=cmap, colorbar=False, im_kw={"vmin": limits[0], "vmax": limits[1]})
    colors = display.im_.cmap(display.im_.norm(display.confusion_matrix))[..., :3]
    for ((i, j), cell), text in zip(np.ndenumerate(display.text_), texts):
        large, _, small = text.partition("\n")
        color = "white" if colors[i, j] @ (0.299, 0.587, 0.114) < 0.5 else "black"
        cell.set(text=large, y=i - 0.13 * bool(small), fontsize=9, color=color)
        ax.text(j, i + 0.25, small, ha="center", va="center", fontsize=6, color=color)
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return display.im_


def cell_texts(table, form="{:.0f}"):
    """`42` over `37 to 47`, in %, for each row of a table that ends in value, low and high; `-` for nan."""

    def percent(number):
        return form.format(100 * number) if abs(number) >= 0.005 else "0"  # neither -0 nor +0

    estimates = table.iloc[:, -3:]
    texts = [f"{percent(value)}\n{percent(low)} to {percent(high)}"
             for value, low, high in estimates.to_numpy()]
    return ["-" if undefined else text for undefined, text in zip(estimates.isna().any(axis=1), texts)]


def draw_matrices(cells, title):
    """The row-normalised matrix and the counts."""
    from utils.figures import plt

    share, counts = (cells[key].to_numpy(float).reshape(7, 7) for key in ("share", "faces"))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    image = draw_matrix(axes[0], 100 * share, cell_texts(cells),
                        "Share of the true class (%), 95 % interval below", "Blues", (0, 100))
    figure.colorbar(image, ax=axes[0], shrink=0.75, label="% of the true class")
    texts = cells["faces"].map("{:,}".format)
    image = draw_matrix(axes[1], counts, texts, "Faces", "Blues", (0, counts.max()))
    figure.colorbar(image, ax=axes[1], shrink=0.75, label="faces")
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
    groups = pd.DataFrame({"bin": bins, "confidence": confidence, "right": right}).groupby("bin")
    bin_number = groups["right"].size().index
    table = pd.DataFrame({"from": bin_number / BINS, "to": (bin_number + 1) / BINS, "faces": groups.size(),
                          "confidence": groups["confidence"].mean().round(5),
                          "accuracy": groups["right"].mean().round(5)})
    for i, hits in groups["right"].sum().items():
        interval = binomtest(int(hits), int(table.at[i, "faces"])).proportion_ci(method="wilson")
        table.loc[i, ["low", "high"]] = round(interval.low, 5), round(interval.high, 5)

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
    answers = answers.sort_values("confidence", ascending=False, kind="stable")
    mistakes = answers.drop_duplicates(["image", "true"]).drop(columns="image").groupby(["true", "predicted"])
    figure, axes = plt.subplots(max(len(pairs), 1), FACES_DRAWN, squeeze=False, layout="constrained",
                                figsize=(7.2, 0.4 + 1.0 * max(len(pairs), 1)))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    drawn = [answers.drop(columns="image")[:0]]
    for line, pair in zip(axes, pairs):
        chosen = mistakes.get_group((pair["true"], pair["predicted"])).head(FACES_DRAWN)
        true, predicted = CLASSES[pair["true"]], CLASSES[pair["predicted"]]
        line[0].set_ylabel(f"{true}\ntaken for\n{predicted}\n({100 * pair['share'][0]:.0f} %)", rotation=0,
                           ha="right", va="center", fontsize=8, labelpad=4)
        for ax, mistake in zip(line, chosen.itertuples()):
            ax.imshow(faces.images[mistake.row], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"{100 * mistake.confidence:.0f} %", fontsize=7.5, pad=2)
        drawn.append(chosen.assign(true=true, predicted=predicted))
    caption = "mistakes with the probability of the wrong class" if pairs else NO_PAIR.lower()
    figure.suptitle(f"{name}: {caption}", fontsize=10)
    return figure, pd.concat(drawn)


def draw_comparison(outputs, labels, comparison):
    """Second model minus first in points of each true class; both are resampled on the same faces."""
    from utils import metrics
    from utils.figures import plt

    counts = [metrics.confusion(labels, output.argmax(axis=1)) for output in outputs]
    first, second = (metrics.scores(matrix)["share"] for matrix in counts)
    samples = [metrics.scores(metrics.bootstrap(output, labels)[0])["share"] for output in outputs]
    table = cell_table("difference", second - first, samples[1] - samples[0])
    values = 100 * table["difference"].to_numpy().reshape(first.shape)
    limit = max(100 * table["difference"].abs().max(), 1)
    figure, ax = plt.subplots(figsize=(5.6, 4.9), layout="constrained")
    title = (f"{comparison['models'][1]}\nminus {comparison['models'][0]}\nright where the other is wrong: "
             f"{comparison['only_second_right']:,} against {comparison['only_first_right']:,} faces, "
             f"McNemar p = {comparison['p']:.2g}")
    image = draw_matrix(ax, values, cell_texts(table, "{:+.0f}"), title, "PuOr", (-limit, limit))
    figure.colorbar(image, ax=ax, shrink=0.75, label="difference (points of the true class)")
    return figure, table


if __name__ == "__main__":
    cli.run(main)
