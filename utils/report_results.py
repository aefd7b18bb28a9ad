"""The report's results as plain values, from the model cards and the files that the scripts wrote, and measured here."""

import csv
import math
from pathlib import Path

import numpy as np

from utils import attribution, attribution_checks, evaluation, figures, models
from utils.cli import UserError
from utils.data import CLASSES, SIZE
from utils.files import read_json, shown

ORIGINAL = {  # what the original report states
    "seconds": [200, 300], "kaggle": 0.55, "kaggle_oversampled": 0.58, "dnn_parameters": 156_263,
    "best": {"class": "surprise", "recall": 0.92}, "worst": {"class": "sad", "recall": 0.42}, "sad_taken_for_fear": 0.37,
    "largest": {"class": "happy", "faces": 7215},
}
PAIRS = 3  # the most frequent confusions, in sentences
SALIENT_FACES = 200  # on which the maps are measured
CENTRE, RING = 12, 4  # pixels: the central square leaves so many on each side; the outer ring is so wide
KEPT = 0.2  # share of the area that saliency.py leaves in the masked face


def nearest_none(value):
    """A float for JSON, None for nan."""
    return None if value is None or math.isnan(value) else float(value)


# ---- models ----------------------------------------------------------------------------------------------------


def model_result(path):
    """One network from its model card and history. Raises UserError where either is missing or there was no validation."""
    path = Path(path)
    card, curve = models.read_card(path), path.with_name(f"{path.stem}_history.csv")
    if not isinstance(card, dict) or not curve.exists():
        raise UserError(f"{shown(path)} has no model card or no {curve.name} beside it; train it again")
    history, metrics, options = figures.read_history(curve), card["metrics"], card["arguments"]
    validation = history["val_accuracy"]
    if metrics["validation_accuracy"] is None or any(math.isnan(value) for value in validation):
        raise UserError(f"{shown(path)} was trained without a validation split; train it again with --validation 0.1")
    best, lowest = int(np.argmax(validation)), int(np.argmin(history["val_loss"]))
    return {
        "file": shown(path), "name": path.stem, "network": card["network"], "command": card["command"],
        "parameters": card["parameters"], "million_multiply_adds": card["multiply_adds"] / 1e6,
        "epochs": len(validation), **{key: options[key] for key in ("batch_size", "seed", "keep")},
        "hardware": card["hardware"], "precision": card["precision"],
        "trained_on": card["split"]["data"], "training_rows": card["split"]["training_rows"],
        "validation_rows": card["split"]["validation_rows"], "seconds_per_epoch": card["seconds"] / len(validation),
        "saved_epoch": card["saved_epoch"], **{key: metrics[key] for key in ("training_accuracy", "validation_accuracy")},
        "best": {"epoch": best + 1, "validation_accuracy": validation[best]},
        "lowest_loss": {"epoch": lowest + 1, "loss": history["val_loss"][lowest]},
        "end": {"epoch": len(validation), "training_accuracy": history["accuracy"][-1], "validation_accuracy": validation[-1],
                "gap": history["accuracy"][-1] - validation[-1], "loss": history["val_loss"][-1]},
        "test": recorded_test(card),
    }


def recorded_test(card):
    """A test result that evaluate.py wrote into the model card, or None."""
    for found in (card.get("evaluations") or {}).values():
        if found["tta"] == "none":
            return {"source": found["data"], "rows": found["rows"], "accuracy": found["accuracy"]}
    return None


def test_results(path):
    """The results of evaluate.py by model name, from the JSON that it wrote."""
    report = read_json(path)
    return {r["model"]: {"source": report["data"], "rows": r["rows"], "accuracy": r["accuracy"]} for r in report["models"]}


def layers_of(path):
    """The layers of a model: a list of {"name", "kind", "what", "output", "parameters"}."""
    return [{"name": layer.name, "kind": type(layer).__name__, "what": figures.layer_text(layer),
             "output": "x".join(map(str, layer.output.shape[1:])), "parameters": layer.count_params()}
            for layer in models.load(path).layers]


def paired(first, second, labels):
    """Two networks' probabilities (n, 7) on the same faces: McNemar's exact test (1947), as a dict."""
    from scipy.stats import binomtest

    right = [output.argmax(axis=1) == labels for output in (first, second)]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    p = float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0
    return {"difference": float(right[0].mean() - right[1].mean()), "only_first": only[0], "only_second": only[1], "p": p}


def judge(found, outputs, labels):
    """Add to each network's result what it reaches on the judged faces, alone and against the CNN."""
    for role, output in outputs.items():
        found[role]["judged"] = evaluation.measure(output, labels)["accuracy"]
        if role == "oversampled":
            found[role]["against_cnn"] = paired(output, outputs["cnn"], labels)
        elif role != "cnn":
            found[role]["cnn_against"] = paired(outputs["cnn"], output, labels)
            found[role]["share_of_cnn"] = found[role]["parameters"] / found["cnn"]["parameters"]


# ---- confusion -------------------------------------------------------------------------------------------------


def confusion_result(report, training_counts):
    """plot_confusion.py's JSON and what the original report's claims need of it.

    training_counts: {class: faces in the training data}.
    """
    recall = report["recall"]
    known = sorted((name for name in CLASSES if recall[name][0] is not None), key=lambda name: recall[name][0])
    counts = np.array(report["counts"])
    errors = counts - np.diag(np.diag(counts))
    called = {name: int(errors[:, code].sum()) for code, name in enumerate(CLASSES)}
    attracts = max(called, key=called.get)
    total = max(int(errors.sum()), 1)
    present = [name for name in CLASSES if training_counts[name]]
    largest, smallest = (pick(present, key=training_counts.get) for pick in (max, min))
    pairs = [pair | {"true": CLASSES[pair["true"]], "predicted": CLASSES[pair["predicted"]]} for pair in report["pairs"]]
    sad = [pair for pair in pairs if pair["true"] == "sad"]
    for_fear = next((pair for pair in sad if pair["predicted"] == "fear"), {"count": 0, "share": [0.0, 0.0, 0.0]})
    return {
        **{key: report[key] for key in ("model", "data", "rows", "accuracy", "macro_f1", "ece", "recall", "counts")},
        "support": {entry["class"]: entry["support"] for entry in report["classes"]},
        "best": {"class": known[-1], "recall": recall[known[-1]]}, "worst": {"class": known[0], "recall": recall[known[0]]},
        "sad_taken_for": {"class": sad[0]["predicted"], "share": sad[0]["share"]} if sad else None,
        "sad_taken_for_fear": {"count": for_fear["count"], "share": for_fear["share"]},
        "errors": int(errors.sum()), "called": called,
        "attracts": {"class": attracts, "errors": called[attracts], "share": called[attracts] / total},
        "fear_attracts": {"errors": called["fear"], "share": called["fear"] / total},
        "largest_class": {"class": largest, "faces": training_counts[largest], "recall": recall[largest]},
        "smallest_class": {"class": smallest, "faces": training_counts[smallest], "recall": recall[smallest]},
        "mean_recall": float(np.mean([recall[name][0] for name in known])), "pairs": pairs, "top_pairs": pairs[:PAIRS],
    }


# ---- saliency --------------------------------------------------------------------------------------------------


def saliency_result(sheet, index, logits, faces, seed=0):
    """saliency.py's CSV of one training image, and where gradient maps lie on a random part of the judged faces.

    sheet: the CSV's path, its first row that of training image `index`; logits: keras.Model; faces: Faces. Shares and
    probabilities with bootstrap 95 % intervals.
    """
    row = read_rows(sheet)[0]
    pick = np.random.default_rng([seed, 4]).permutation(len(faces))[:SALIENT_FACES]
    grey = models.prepare(faces.images[pick], logits)[..., 0]
    codes = attribution_checks.probabilities(logits, grey).argmax(1)
    values = attribution.strength(attribution.attribute(logits, grey, codes, "gradient"), "gradient")
    drawn = values.reshape(len(values), -1).sum(1) > 0
    if not drawn.any():
        raise UserError(f"the saliency maps of {len(pick)} faces are zero everywhere: the network has not learnt anything; "
                        "train it on more faces or for longer")
    grey, codes, values = grey[drawn], codes[drawn], values[drawn]
    before, after = attribution_checks.kept(logits, grey, codes, values, KEPT, seed=seed)
    noise = np.random.default_rng([seed, 6]).uniform(size=values.shape).astype(np.float32)
    _, random = attribution_checks.kept(logits, grey, codes, noise, KEPT, seed=seed)
    height, width = values.shape[1:]
    top, left, edge = CENTRE * height // SIZE, CENTRE * width // SIZE, max(RING * height // SIZE, 1)
    centre = values[:, top:height - top, left:width - left]
    inside = values[:, edge:height - edge, edge:width - edge]
    total = values.sum((1, 2))
    ring_pixels = height * width - inside[0].size
    ratio = (total - inside.sum((1, 2))) / ring_pixels / np.maximum(centre.mean((1, 2)), 1e-12)

    def mean(numbers):
        return list(attribution_checks.bootstrap(numbers, seed=seed))

    return {
        "image": {"number": index + 1, "index": index, "true": row["true"], "predicted": row["predicted"],
                  **{name: float(row[column]) for name, column in (
                      ("whole", "p_whole"), ("kept", "p_kept"), ("random", "p_kept_random"), ("sparseness", "sparseness"))}},
        "faces": len(values), "kept_area": KEPT, "centre": mean(centre.sum((1, 2)) / total),
        "centre_area": centre[0].size / values[0].size, "centre_pixels": centre.shape[1], "ring_width": edge,
        "ring_area": ring_pixels / values[0].size, "ring_to_centre": mean(ratio), "whole": mean(before), "kept": mean(after),
        "random": mean(random), "kept_above_random": mean(after - random),
    }


# ---- filters ---------------------------------------------------------------------------------------------------


def filter_results(name, layers, width_of, faces):
    """filter_vis.py's CSVs of each layer: name of the model, its layers, {layer: number of filters}, faces measured on."""
    found = []
    for layer in layers:
        sheets = {kind: models.FIGURES / f"{name}_{kind}_{layer}.csv" for kind in ("filters", "outputs")}
        if not all(path.exists() for path in sheets.values()):
            continue  # every filter of the layer is dead, and filter_vis.py has said so
        rows, outputs = read_rows(sheets["filters"]), read_rows(sheets["outputs"])
        times = [nearest_none(float(row["times_data"])) for row in rows]
        eta = [nearest_none(float(row["eta_squared"])) for row in rows]
        found.append({
            "layer": layer, "filters": width_of[layer], "shown": len(rows), "left_out": width_of[layer] - len(rows),
            "faces": faces, "times_data": float(np.median([value for value in times if value is not None] or [0.0])),
            "eta_squared": None if None in eta else float(np.median(eta)),
            "most_telling": {"filter": int(rows[0]["filter"]), "eta_squared": eta[0]},
            "image_share_active": float(np.mean([float(row["share_above_zero"]) for row in outputs])),
            "image_silent": sum(float(row["maximum"]) <= 0 for row in outputs),
            "table": [{"filter": int(row["filter"]), "activation": float(row["activation"]), "times_data": t, "eta_squared": e}
                      for row, t, e in zip(rows, times, eta)]})
    return found


def read_rows(path):
    """A CSV as a list of dicts of text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
