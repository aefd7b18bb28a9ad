"""How good are the models, and what do they cost? Accuracy, macro-F1, recall, calibration, size and speed.

    python evaluate.py --data data/fer2013.csv --usage PublicTest
    python evaluate.py --model models/a.h5 models/b.h5 --ensemble --tta ten-crop \\
        --data data/test.csv --labels data/test_public_labels.csv --without-duplicates-of data/train.csv

Without --data: on the validation split that the model card names. Brackets are 95 % intervals: Wilson's of
accuracy and recall, the bootstrap's (2,000 resamples of the faces) of F1; the calibration error
(ECE) has none, because that of a resample is biased upwards.
ms/image is one forward pass (Keras' predict_on_batch, 64 images) on this machine, now; --tta flip takes 2,
ten-crop 10, multi-scale 30. Writes figures/MODELS_accuracy_DATA.png (accuracy against cost), and its numbers
as .csv and .json.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, data, files, models
from utils.cli import UserError

TURN = 0.15  # seconds in which a model's speed is measured once


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    cli.add_evaluation_data(parser)
    parser.add_argument("--without-duplicates-of", type=Path, metavar="TRAIN.csv",
                        help="measure also without the faces that occur there byte for byte")
    cli.add_tta(parser)
    parser.add_argument("--ensemble", action="store_true",
                        help="add a row for the models' averaged probabilities")
    cli.add_out_folder(parser)
    args = parser.parse_args(argv)
    if args.ensemble and len(args.model or []) < 2:
        raise UserError("--ensemble averages several models; name at least two with --model")
    return args


def main(argv=None):
    """Evaluate the models; returns the table that is written as CSV (pandas.DataFrame, one row per model)."""
    args = parse_args(argv)
    paths = args.model or [models.default_model()]
    name = files.name_part(*map(files.model_name, paths), "accuracy", "ensemble" * args.ensemble,
                           *cli.data_name(args), "without-duplicates" * bool(args.without_duplicates_of))
    outputs = [args.out_folder / f"{name}{suffix}" for suffix in (".png", ".csv", ".json")]
    files.check_outputs(outputs)
    cli.start_keras()
    from utils import evaluation, figures, machine, metrics, structure

    # ---- Models and faces
    networks = evaluation.load_networks(paths)
    faces = evaluation.faces_to_evaluate(paths, args.data, args.labels, args.usage, args.training_data)
    new = None  # bool (n,), the faces that --without-duplicates-of leaves
    if args.without_duplicates_of:
        new = ~evaluation.seen_in(faces, data.load_faces(args.without_duplicates_of))
        if not new.any():
            raise UserError(f"every face of {faces.source} occurs in {args.without_duplicates_of}; "
                            "choose other data")
    print(figures.faces_name(faces, args.tta)
          + (f"; {new.sum():,} of them not in {args.without_duplicates_of}" if new is not None else ""))

    # ---- Measure
    names = [path.stem for path in paths]
    probabilities = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    for name_of, output in zip(names, probabilities):
        evaluation.warn_about_predictions(name_of, output, faces.labels)
    sizes = [(network.count_params(), structure.multiply_adds(network)) for network in networks]
    times = forward_times(networks, faces.images)
    if args.ensemble:  # which costs as much as its members together
        names.append(f"ensemble of {len(names)}")
        probabilities.append(sum(probabilities) / len(probabilities))
        sizes.append([sum(column) for column in zip(*sizes)])
        times.append(pd.DataFrame(times).sum().round(4).to_dict())
    results = []  # a dict per model, as it goes into the JSON file
    for model, output, (parameters, multiply_adds), ms in zip(names, probabilities, sizes, times):
        results.append({"model": model, "parameters": parameters, "multiply_adds": multiply_adds,
                        "ms_per_image": ms, **metrics.measure(output, faces.labels)})
        if new is not None:
            results[-1]["without_duplicates"] = metrics.measure(output[new], faces.labels[new])

    # ---- Print
    flat = pd.json_normalize(results, sep="_")
    shown = pd.DataFrame({"model": names, "accuracy %": flat["accuracy"].map(metrics.percent)})
    if new is not None:
        shown["no duplicates %"] = flat["without_duplicates_accuracy"].map(metrics.percent)
    shown["macro-F1 %"] = flat["macro_f1"].str[0].map(metrics.percent)
    shown["ms/image"] = flat["ms_per_image_64"].map("{:.2f}".format)
    cli.print_table(shown)
    print("\nRecall % of each class")
    recall = {name: flat[f"recall_{name}"].str[0].map(metrics.percent) for name in data.CLASSES}
    cli.print_table(pd.DataFrame({"model": names, **recall}))

    # ---- Write
    figure_path, table_path, summary_path = outputs
    titles = [*map(models.title, paths), *names[len(paths):]]
    figure = draw(results, titles, figures.faces_name(faces, args.tta), args.tta)
    figures.add_conclusion(figure, conclude(titles, probabilities, faces.labels))
    table = flat.assign(data=faces.source, tta=args.tta)[
        ["model", "data", "tta", "rows", "parameters", "multiply_adds", "ms_per_image_1", "ms_per_image_64"]]
    for score in ("accuracy", "macro_f1"):
        table[[score, f"{score}_low", f"{score}_high"]] = flat[score].tolist()
    table["ece"] = flat["ece"].str[0].astype(float)
    table = table.join(flat.filter(regex="^recall_").map(lambda estimate: estimate[0]))
    if new is not None:
        table["accuracy_without_duplicates"] = flat["without_duplicates_accuracy"].str[0]
    figures.write_results({figure_path: figure, table_path: table})
    files.write_json(summary_path, {"data": faces.source, "fingerprint": faces.fingerprint(), "tta": args.tta,
                                    "hardware": machine.hardware(), "models": results})
    cli.print_written(outputs)
    return table


def forward_times(networks, images):
    """Milliseconds per image of each network's forward pass, the median of 7 turns: [{batch size: ms}]."""
    times = [{"1": [], "64": []} for _ in networks]
    turns = [(network, row, size) for network, row in zip(networks, times) for size in (1, 64)]
    for network, row, size in cli.track(7 * turns, "timing"):
        batch = models.prepare(images[np.arange(size) % len(images)], network)
        network.predict_on_batch(batch)  # the first call traces the graph
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < TURN:
            network.predict_on_batch(batch)
            calls += 1
        row[str(size)].append(1000 * (time.perf_counter() - start) / calls / size)
    return [{size: round(float(np.median(ms)), 4) for size, ms in row.items()} for row in times]


def draw(results, titles, source, tta):
    """Accuracy with 95 % interval against the time of an image at the larger batch and against parameters."""
    from utils.evaluation import VIEWS
    from utils.figures import NETWORK_COLORS, WIDTH, plt

    costs = {"ms per image": [result["ms_per_image"]["64"] * VIEWS[tta] for result in results],
             "parameters (millions)": [result["parameters"] / 1e6 for result in results]}
    height = 3.2 + 0.18 * len(results)  # of which the legend takes more with each model
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, height), sharey=True, layout="constrained")
    for ax, (label, cost) in zip(axes, costs.items()):
        for i, (x, result, title) in enumerate(zip(cost, results, titles)):
            value, low, high = (100 * number for number in result["accuracy"])
            style = {"fmt": "osv^P"[i // 5 % 5], "color": NETWORK_COLORS[i % 5]}
            if result["model"].startswith("ensemble of"):
                style = {"fmt": "D", "color": "black"}
            ax.errorbar(x, value, [[value - low], [high - value]], **style, capsize=3, markersize=5,
                        label=f"{title}: {value:.1f} %")
        ax.set(xlabel=label, xlim=(0, 1.25 * max(cost)), axisbelow=True)
        if max(cost) > 5 * min(cost):
            ax.set(xscale="log", xlim=(min(cost) / 1.6, max(cost) * 1.6))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        ax.grid(True)
    axes[0].set_ylabel("accuracy (%), 95 % interval")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center")
    figure.suptitle(f"Accuracy against cost\n{source}", fontsize=10)
    return figure


def conclude(names, probabilities, labels):
    """The most accurate model, and whether it beats the second by McNemar's test on the same faces."""
    from utils.metrics import mcnemar, p_text, wilson

    right = [output.argmax(axis=1) == labels for output in probabilities]
    best, *others = sorted(range(len(names)), key=lambda i: -right[i].sum())
    low, high = (100 * end for end in wilson(int(right[best].sum()), len(labels)))
    text = (f"{names[best]} is right on {100 * right[best].mean():.1f} % of the faces "
            f"(95 % interval {low:.1f} to {high:.1f} %).")
    if not others:
        return text
    test = mcnemar(right[best], right[others[0]])
    relation = "better" if test["p"] < 0.05 else "not shown to be better"
    return (f"Most accurate: {text} Second: {names[others[0]]}. The first is {relation} (McNemar's exact "
            f"test, {test['only_first_right']:,} against {test['only_second_right']:,} faces, "
            f"{p_text(test['p'])}).")


if __name__ == "__main__":
    cli.run(main)
