"""Question 3: which expressions does the model confuse?

    python plot_confusion.py        the model's own validation split, recovered from its card
    python plot_confusion.py --model models/a.h5 --compare models/b.h5
    python plot_confusion.py --data data/test.csv --labels data/test_public_labels.csv --tta ten-crop

Writes figures/MODEL_confusion_DATA.png (confusion matrices, rows are true classes), and with its name in
front: _reliability.png (how far confidence can be trusted), _gallery.png (the most confident mistakes of the
most-confused pairs), with --compare _comparison.png; a CSV beside each, _classes.csv and everything as .json.
Brackets are 95 % intervals: Wilson's of proportions, the bootstrap's (2,000 resamples) of F1 and of
differences.
"""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, files, models
from utils.data import CLASSES

FACES_DRAWN = 8  # of each pair of classes
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
    cli.add_out_folder(parser)
    return parser.parse_args(argv)


def main(argv=None):
    """Draw the confusions; returns what is written as JSON (dict), and "figures", the paths of the PNGs."""
    args = parse_args(argv)
    paths = [args.model or models.default_model()] + ([args.compare] if args.compare else [])
    outputs = output_paths(args, paths)
    files.check_outputs(outputs.values())
    cli.start_keras()
    from utils import evaluation, metrics
    from utils.figures import add_conclusion, faces_name, save_figure

    # ---- Predictions
    networks, titles = evaluation.load_networks(paths), list(map(models.title, paths))
    faces = evaluation.faces_to_evaluate(paths, args.data, args.labels, args.usage, args.training_data)
    labels = faces.labels
    probabilities = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    names = [path.stem for path in paths]
    for name, output in zip(names, probabilities):
        evaluation.warn_about_predictions(name, output, labels)
    source = faces_name(faces, args.tta)

    # ---- Scores: of all faces, of each class, of each cell of the confusion matrix
    estimates = metrics.estimates(probabilities[0], labels)
    counts = metrics.confusion(labels, probabilities[0].argmax(axis=1))
    classes = pd.DataFrame({"class": CLASSES, "support": counts.sum(axis=1),
                            **{key: estimates[key] for key in SCORES}})
    cells = cell_table("share", estimates["share"])
    cells.insert(2, "faces", counts.ravel())
    pairs = confused_pairs(cells)
    summary = {"model": names[0], "data": faces.source, "fingerprint": faces.fingerprint(), "tta": args.tta,
               "rows": len(faces), **{key: estimates[key] for key in ("accuracy", "macro_f1", "ece")},
               "recall": dict(zip(CLASSES, estimates["recall"])), "counts": counts.tolist(),
               "classes": classes.to_dict("records"), "pairs": pairs}

    # ---- Print
    accuracy, macro_f1, ece = (metrics.percent(summary[key]) for key in ("accuracy", "macro_f1", "ece"))
    print(f"{names[0]}, {source}\naccuracy {accuracy} %, macro-F1 {macro_f1} %, calibration error {ece} %\n")
    printed = classes.assign(**{key: classes[key].map(metrics.percent) for key in SCORES})
    cli.print_table(printed.rename(columns=SCORES))
    print("\n" + "\n".join([pair["text"] for pair in pairs[:10]] or [NO_PAIR]))

    # ---- Figures, each with the table that it is drawn from
    title = f"{titles[0]}: accuracy {accuracy} %\n{source}"
    number = "row, counted from 0" if faces.ids is None else "id in the file"
    caption = f"probability of the wrong class, and image ({number})" if pairs else NO_PAIR
    drawn = {"": (title, *draw_matrices(cells, pairs, summary["recall"])),
             "_reliability": (title, *draw_reliability(probabilities[0], labels, ece)),
             "_gallery": (f"{titles[0]}: mistakes\n{source}\n{caption}",
                          *draw_gallery(probabilities[0], faces, pairs[:6]))}
    if args.compare:
        first, second = titles
        a, b = (output.argmax(axis=1) == labels for output in probabilities)
        test = metrics.mcnemar(a, b)
        text = (f"A is right on {100 * a.mean():.1f} % of the faces and B on {100 * b.mean():.1f} %; "
                f"{test['only_first_right']:,} only A gets right, {test['only_second_right']:,} only B: "
                f"{'' if test['p'] < 0.05 else 'no '}more than chance explains (McNemar's exact test, "
                f"{metrics.p_text(test['p'])}).")
        print(f"\nA: {first}\nB: {second}\n" + textwrap.fill(text, 100))
        summary["comparison"] = {"models": names, "accuracy": [a.mean().item(), b.mean().item()], **test,
                                 "text": text}
        drawn["_comparison"] = (f"A: {first}\nB: {second}\n{source}",
                                *draw_comparison(probabilities, labels), text)
    for part, (title, figure, table, conclusion) in drawn.items():
        lines = [textwrap.fill(line, 80) for line in title.splitlines()]  # a long path would make it wider
        figure.suptitle("\n".join(lines), fontsize=10)
        add_conclusion(figure, conclusion)
        save_figure(figure, outputs[f"{part}.png"])
        files.write_table(outputs[f"{part}.csv"], table)
    table = classes[["class", "support"]].copy()
    for key in SCORES:
        table[[key, f"{key}_low", f"{key}_high"]] = classes[key].tolist()
    files.write_table(outputs["_classes.csv"], table)
    files.write_json(outputs[".json"], summary)
    print()
    cli.print_written(outputs.values())
    return summary | {"figures": [str(path) for path in outputs.values() if path.suffix == ".png"]}


def output_paths(args, paths):
    """{ending: path} of everything that is written; their common name says models, data and --tta."""
    first, *other = map(files.model_name, paths)
    name = files.name_part(first, "confusion", *cli.data_name(args), *(f"vs_{model}" for model in other))
    parts = ["", "_reliability", "_gallery"] + ["_comparison"] * len(other)
    endings = [f"{part}.{kind}" for kind in ("png", "csv") for part in parts] + ["_classes.csv", ".json"]
    return {ending: args.out_folder / f"{name}{ending}" for ending in endings}


def cell_table(name, estimates):
    """7x7 lists of [value, low, high] as a DataFrame, a row per cell: true, predicted, `name`, low, high."""
    cells = pd.MultiIndex.from_product([CLASSES, CLASSES], names=["true", "predicted"])
    values = np.array(estimates, float).reshape(-1, 3)
    return pd.DataFrame(values, cells, [name, "low", "high"]).reset_index()


def confused_pairs(cells):
    """Every pair of classes that is confused, the largest share of the true class first: a list of dicts."""
    support = cells.groupby("true")["faces"].sum()
    wrong = cells[(cells["true"] != cells["predicted"]) & (cells["faces"] > 0)]
    pairs = []
    for cell in wrong.sort_values("share", ascending=False, kind="stable").itertuples():
        text = (f"{cell.true.capitalize()} is taken for {cell.predicted} in "
                f"{whole_percent(cell.share)} % of its images ({cell.faces:,} of {support[cell.true]:,}; "
                f"95 % interval {whole_percent(cell.low)} to {whole_percent(cell.high)} %).")
        pairs.append({"true": CLASSES.index(cell.true), "predicted": CLASSES.index(cell.predicted),
                      "count": cell.faces, "share": [cell.share, cell.low, cell.high], "text": text})
    return pairs


def whole_percent(share, sign=""):
    """A share 0-1 in whole per cent, up to a half with one decimal, so that 2 of 400 are not 0: "0.5"."""
    if abs(share) < 0.0005:
        return "0"  # neither -0 nor +0
    return f"{100 * share:{sign}.{1 if abs(share) <= 0.005 else 0}f}"


# ---- figures, each with the table of what it shows and a conclusion ---------------------------------------


def draw_matrices(cells, pairs, recall):
    """The row-normalised matrix and the counts. recall: {class: [value, low, high]}."""
    from utils.figures import WIDTH, plt

    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.5), sharey=True, layout="constrained")
    draw_matrix(axes[0], cells["share"], cell_texts(cells), "% of the true class,\n95 % interval below",
                limits=(0, 1))
    draw_matrix(axes[1], cells["faces"], cells["faces"].map("{:,}".format), "faces")
    axes[1].set_ylabel("")
    known = {name: estimate for name, estimate in recall.items() if estimate[0] is not None}
    best, worst = ("{} ({} %, 95 % interval {} to {} %)".format(name, *map(whole_percent, known[name]))
                   for name in (max(known, key=known.get), min(known, key=known.get)))
    conclusion = f"Recognised best is {best}, worst {worst}. {pairs[0]['text'] if pairs else NO_PAIR}"
    return figure, cells, conclusion


def draw_matrix(ax, values, texts, title, cmap="Blues", limits=(0, None)):
    """A 7x7 matrix of 49 values, rows true, with their texts, a second line in small; returns the image."""
    values = np.nan_to_num(np.reshape(values, (7, 7)))
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    is_dark = image.to_rgba(image.get_array())[..., :3] @ (0.299, 0.587, 0.114) < 0.5
    for (i, j), text in zip(np.ndindex(values.shape), texts):
        large, _, small = text.partition("\n")
        style = {"ha": "center", "va": "center", "color": "white" if is_dark[i, j] else "black"}
        ax.text(j, i - 0.16 * bool(small), large, fontsize=9, **style)
        ax.text(j, i + 0.23, small, fontsize=7, **style)
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(CLASSES)), CLASSES)
    ax.set(xlabel="predicted class", ylabel="true class", title=title)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return image


def cell_texts(table, sign="", to="–"):
    """`42` over `37–47`, in %, for each row of a table that ends in value, low and high; `-` for nan."""
    return ["-" if np.isnan(value) else
            f"{whole_percent(value, sign)}\n{whole_percent(low, sign)}{to}{whole_percent(high, sign)}"
            for value, low, high in table.iloc[:, -3:].to_numpy()]


def draw_comparison(probabilities, labels):
    """Two models' matrices, and the second minus the first in points, resampled on the same faces."""
    from utils import metrics
    from utils.figures import WIDTH, plt

    shares = [metrics.scores(metrics.confusion(labels, output.argmax(axis=1)))["share"]
              for output in probabilities]
    samples = [metrics.scores(metrics.bootstrap(output, labels))["share"] for output in probabilities]
    difference = metrics.with_interval(shares[1] - shares[0], metrics.interval(samples[1] - samples[0]))
    table = cell_table("difference", difference)
    limit = max(table["difference"].abs().max(), 0.01)
    figure = plt.figure(figsize=(WIDTH, 8.6), layout="constrained")
    axes = figure.subplot_mosaic("AB;CC", height_ratios=(3, 4.4))
    for name, share in zip("AB", shares):
        texts = ["-" if np.isnan(value) else whole_percent(value) for value in share.flat]
        draw_matrix(axes[name], share, texts, f"{name}: % of the true class", limits=(0, 1))
    axes["B"].set_ylabel("")
    image = draw_matrix(axes["C"], table["difference"], cell_texts(table, "+", " to "),
                        "B minus A: percentage points, 95 % interval below", "PuOr", (-limit, limit))
    figure.colorbar(image, ax=axes["C"], label="orange: A says so more often; purple: B",
                    format=lambda value, _: whole_percent(value, "+").replace("-", "\N{MINUS SIGN}"))
    return figure, table


def draw_reliability(probabilities, labels, ece):
    """Accuracy against confidence in bins, how many faces each holds, and whether the model is too sure."""
    from sklearn.calibration import CalibrationDisplay

    from utils import metrics
    from utils.figures import COLORS, VALIDATION, WIDTH, plt

    table = metrics.reliability(probabilities, labels)
    figure, (ax, below) = plt.subplots(2, 1, figsize=(WIDTH, 5.2), height_ratios=(3.2, 1), sharex=True,
                                       layout="constrained")
    CalibrationDisplay(table["accuracy"], table["confidence"], probabilities.max(axis=1)).plot(
        ax=ax, name="model, 95 % interval", color=VALIDATION, marker="o", markersize=4, linestyle="none")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)  # inside, the intervals would cross it
    ax.vlines(table["confidence"], table["low"], table["high"], color=VALIDATION)
    below.bar(table["from"], table["faces"], table["to"] - table["from"], align="edge", color=COLORS["sky"],
              edgecolor="white")
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="", ylabel="accuracy (%)")
    below.set(xlabel="confidence: the largest probability (%)", ylabel="faces")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    ax.grid(True)
    figure.align_ylabels()

    _, gaps = metrics.calibration(probabilities, labels)
    gap, low, high = (100 * number for number in metrics.bootstrap_mean(gaps))
    verdict = ("The model is too sure" if low > 0 else "The model is not sure enough" if high < 0
               else "On average the model is neither too sure nor too unsure")
    return figure, table, (
        f"{verdict}: mean confidence minus accuracy is {gap:+z.1f} points, 95 % interval {low:+z.1f} to "
        f"{high:+z.1f}. Expected calibration error: {ece} %. Each point is the mean of at least "
        f"{metrics.LEAST} faces.")


def draw_gallery(probabilities, faces, pairs):
    """The faces of each pair that the model is most confident of and wrong about, identical images once."""
    from utils.evaluation import surest_predictions
    from utils.figures import WIDTH, plt
    from utils.metrics import wilson

    surest = surest_predictions(probabilities, faces)
    surest.insert(0, "id", surest["row"] if faces.ids is None else faces.ids[surest["row"]])
    surest = surest.groupby(["true", "predicted"])
    figure, axes = plt.subplots(max(len(pairs), 1), FACES_DRAWN, squeeze=False, layout="constrained",
                                figsize=(WIDTH, 0.6 + 1.05 * max(len(pairs), 1)),
                                subplot_kw={"xticks": [], "yticks": [], "frame_on": False})
    drawn = [surest.head(0)]
    for line, pair in zip(axes, pairs):
        mistakes = surest.get_group((pair["true"], pair["predicted"])).head(FACES_DRAWN)
        true, predicted = CLASSES[pair["true"]], CLASSES[pair["predicted"]]
        line[0].set_ylabel(f"{true}\ntaken for\n{predicted}\n({100 * pair['share'][0]:.0f} %)", rotation=0,
                           ha="right", va="center", fontsize=8, labelpad=4)
        for ax, face in zip(line, mistakes.itertuples()):
            ax.imshow(faces.images[face.row], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"{100 * face.confidence:.0f} %\nimage {face.id}", fontsize=7.5, pad=2)
        drawn.append(mistakes.assign(true=true, predicted=predicted))

    sure = probabilities.max(axis=1) >= 0.9
    wrong = int((probabilities.argmax(axis=1) != faces.labels)[sure].sum())
    conclusion = "The model gives no class a probability of 90 % or more."
    if sure.any():
        low, high = (100 * end for end in wilson(wrong, int(sure.sum())))
        conclusion = (f"Of the {sure.sum():,} predictions with a probability of 90 % or more, {wrong:,} are "
                      f"wrong: {100 * wrong / sure.sum():.1f} %, 95 % interval {low:.1f} to {high:.1f} %.")
    return figure, pd.concat(drawn), conclusion


if __name__ == "__main__":
    cli.run(main)
