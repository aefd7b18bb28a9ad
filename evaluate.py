"""How good are the models, and what do they cost? Accuracy, macro-F1, recall, calibration, size and speed in one table.

    python evaluate.py --data data/fer2013.csv --usage PublicTest
    python evaluate.py --model models/a.h5 models/b.h5 --ensemble --tta ten-crop \\
        --data data/test.csv --labels data/test_public_labels.csv --without-duplicates-of data/train.csv

Without --data: on the validation split that the model card tells. Brackets are bootstrap 95 % intervals (2,000 resamples of
the faces). ms/image is one forward pass (Keras' predict_on_batch) on this machine, now; --tta flip takes 2, ten-crop 10.
Writes figures/models.png (accuracy against cost), and models.csv and models.json beside it.
"""

import re
import time
from pathlib import Path

from utils import cli, evaluation
from utils.cli import UserError
from utils.files import shown, write_csv, write_json

BATCHES = (1, 64)
ROUNDS = 7  # each model's speed is the median of so many turns, the models taking turns
TURN = 0.15  # seconds


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    evaluation.add_data(parser)
    parser.add_argument("--without-duplicates-of", type=Path, metavar="TRAIN.csv",
                        help="measure also without the faces that occur there byte for byte")
    evaluation.add_tta(parser)
    parser.add_argument("--ensemble", action="store_true", help="add a row for the models' averaged probabilities")
    parser.add_argument("--card", action="store_true", help="write each model's results into its model card")
    parser.add_argument("--out", type=Path, default=Path("figures/models.png"), help="PNG; the CSV and JSON go beside it")
    args = parser.parse_args()
    if args.out.suffix != ".png":
        raise UserError(f"--out {args.out} must end in .png")
    if args.ensemble and len(args.model or []) < 2:
        raise UserError("--ensemble averages several models; name at least two with --model")

    cli.start_keras()
    from utils import data, models

    paths = args.model or [models.default_model()]
    networks = evaluation.load_networks(paths)
    cards = [own_card(path) for path in paths] if args.card else []
    faces = evaluation.faces_to_judge(args, paths)
    fresh = None
    if args.without_duplicates_of:
        fresh = ~evaluation.seen_in(faces, data.load_faces(args.without_duplicates_of))
        if not fresh.any():
            raise UserError(f"every face of {faces.source} occurs in {args.without_duplicates_of}; choose other data")
    print(f"{len(faces):,} faces of {faces.source}, tta {args.tta}"
          + (f"; {fresh.sum():,} of them not in {shown(args.without_duplicates_of)}" if fresh is not None else ""))

    alone = [evaluation.probabilities([network], faces.images, args.tta) for network in networks]
    results = [judge(evaluation.name_of(path), network, p, faces.labels, fresh)
               for path, network, p in zip(paths, networks, alone)]
    for result, speed in zip(results, forward_times(networks, faces.images)):
        result["ms_per_image"] = speed
    if args.ensemble:
        results.append(together(results, sum(alone) / len(alone), faces.labels, fresh))
    show(results, fresh is not None)

    where = {"data": faces.source, "fingerprint": faces.fingerprint(), "tta": args.tta, "hardware": models.hardware()}
    for path, card, result in zip(paths, cards, results):
        card.setdefault("evaluations", {})[f"{re.sub(r'[^ ]*/', '', faces.source)}, {args.tta}"] = where | {
            key: value for key, value in result.items() if key not in ("model", "parameters", "multiply_adds")}
        write_json(models.card_path(path), card)
    written = write(args.out, where, results)
    print("Wrote " + ", ".join(shown(path) for path in written + [models.card_path(path) for path in paths if cards]))


def own_card(path):
    """The model card that --card adds to. Raises UserError when there is none."""
    from utils import models

    card = models.read_card(path)
    if not isinstance(card, dict):
        raise UserError(f"{path} has no model card ({models.card_path(path).name}) to write into; leave out --card")
    return card


def judge(name, network, probabilities, labels, fresh):
    """One model's row: a dict of its size and of the metrics as in `evaluation.measure`."""
    from utils.networks import multiply_adds

    return {"model": name, "parameters": network.count_params(), "multiply_adds": multiply_adds(network),
            **metrics(probabilities, labels, fresh)}


def together(results, probabilities, labels, fresh):
    """The ensemble's row: it costs the sum of its members."""
    return {"model": f"ensemble of {len(results)}",
            **{key: sum(result[key] for result in results) for key in ("parameters", "multiply_adds")},
            **metrics(probabilities, labels, fresh),
            "ms_per_image": {str(size): round(sum(r["ms_per_image"][str(size)] for r in results), 4) for size in BATCHES}}


def metrics(probabilities, labels, fresh):
    """`evaluation.measure` on all faces and, where `fresh` (bool (n,)) marks some, on those too."""
    result = evaluation.measure(probabilities, labels)
    if fresh is not None:
        result["without_duplicates"] = evaluation.measure(probabilities[fresh], labels[fresh])
    return result


def forward_times(networks, images):
    """Milliseconds an image of each network's forward pass: a list of {batch size: ms}. Medians over rounds."""
    import numpy as np

    from utils import models

    times = [{size: [] for size in BATCHES} for _ in networks]
    rounds = [(network, row, size) for _ in range(ROUNDS) for network, row in zip(networks, times) for size in BATCHES]
    for network, row, size in cli.Progress(rounds, "timing"):
        batch = models.prepare(images[np.arange(size) % len(images)], network)
        network.predict_on_batch(batch)  # the first call traces the graph
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < TURN:
            network.predict_on_batch(batch)
            calls += 1
        row[size].append(1000 * (time.perf_counter() - start) / calls / size)
    return [{str(size): round(float(np.median(row[size])), 4) for size in BATCHES} for row in times]


def show(results, has_fresh):
    """Print the two tables: the models, and their recall of each class."""
    percent = evaluation.percent
    rows = [[r["model"], f"{r['parameters']:,}", f"{r['multiply_adds'] / 1e6:,.1f} M",
             *(f"{ms:.2f}" for ms in r["ms_per_image"].values()), percent(r["accuracy"]),
             *([percent(r["without_duplicates"]["accuracy"])] if has_fresh else []), percent(r["macro_f1"]), percent(r["ece"])]
            for r in results]
    print(cli.table(rows, ["model", "parameters", "mult-adds", *(f"ms/image at {size}" for size in BATCHES), "accuracy %",
                           *(["without duplicates %"] if has_fresh else []), "macro-F1 %", "calibration error %"]))
    classes = list(results[0]["recall"])
    print("\nRecall % of each class")
    print(cli.table([[name, *(percent(r["recall"][name]) for r in results)] for name in classes],
                    ["class", *(r["model"] for r in results)]))


def write(out, where, results):
    """Write figure, CSV (one row a model) and JSON; returns their paths."""
    from utils.figures import save_figure

    keys = ("accuracy", "macro_f1", "ece")
    header = ["model", "data", "tta", "rows", "parameters", "multiply_adds", *(f"ms_per_image_{size}" for size in BATCHES),
              *(f"{key}{end}" for key in keys for end in ("", "_low", "_high")),
              *(f"recall_{name}" for name in results[0]["recall"]), "accuracy_without_duplicates"]
    rows = [[r["model"], where["data"], where["tta"], r["rows"], r["parameters"], r["multiply_adds"],
             *r["ms_per_image"].values(), *(number for key in keys for number in r[key]),
             *(triple[0] for triple in r["recall"].values()), r.get("without_duplicates", {}).get("accuracy", [None])[0]]
            for r in results]
    figure = save_figure(draw(where, results), out)
    write_csv(out.with_suffix(".csv"), header, rows)
    write_json(out.with_suffix(".json"), where | {"models": results})
    return [figure, out.with_suffix(".csv"), out.with_suffix(".json")]


def draw(where, results):
    """Accuracy against the time of one image at the larger batch and against parameters; bars are the 95 % intervals."""
    from utils.figures import COLORS, plt

    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True, layout="constrained")
    costs = ([r["ms_per_image"][str(BATCHES[-1])] * {"none": 1, "flip": 2, "ten-crop": 10}[where["tta"]] for r in results],
             [r["parameters"] / 1e6 for r in results])
    labels = (f"ms per image, batch {BATCHES[-1]}, tta {where['tta']}", "parameters (millions)")
    handles = []
    for ax, cost, label in zip(axes, costs, labels):
        for i, (x, result) in enumerate(zip(cost, results)):
            value, low, high = (100 * number for number in result["accuracy"])
            color = list(COLORS.values())[i % len(COLORS)]
            marker = "D" if result["model"].startswith("ensemble of") else "osv^P"[i // len(COLORS) % 5]
            bars = ax.errorbar(x, value, [[value - low], [high - value]], fmt=marker, color=color, capsize=3, markersize=5,
                               label=f"{result['model']}: {value:.1f} %")
            handles.append(bars)
        if max(cost) > 5 * min(cost):
            ax.set_xscale("log")
            ax.set_xlim(min(cost) / 1.6, max(cost) * 1.6)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        else:
            ax.set_xlim(0, 1.25 * max(cost))
        ax.set_xlabel(label)
        ax.grid(True)
        ax.set_axisbelow(True)
    axes[0].set_ylabel("accuracy (%), 95 % interval")
    figure.legend(handles=handles[:len(results)], loc="outside lower center", ncols=min(len(results), 3))
    figure.suptitle(f"Accuracy against cost: {results[0]['rows']:,} faces of {where['data']}", fontsize=10)
    return figure


if __name__ == "__main__":
    cli.run(main)
