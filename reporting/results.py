"""The report's results as plain values: read, returned by the scripts, and measured here."""

import dataclasses

import numpy as np
import pandas as pd

from explain import attribution, faithfulness
from reporting.text import ORIGINAL
from training.figures import layer_text
from utils import evaluation, metrics, models, structure
from utils.cli import UserError
from utils.data import CLASSES, SIZE, Faces
from utils.files import read_json, relative_path

HOMEWORK_IMAGE = 15  # the 16th training image
FILTER_FACES = 2000  # that the filters are measured on
TOP_PAIRS = 3  # confusions that get a sentence
SALIENT_FACES = 200  # on which the maps are measured
CENTRE, RING = 12, 4  # pixels of 48: so many outside the central square on each side; width of the outer ring
KEPT_AREA = 0.2  # share that saliency.py leaves in the masked face
NUMBER = (int, float)
CARD = {  # what the report reads of a model card
    "network": str, "command": str, "hardware": str, "precision": str, "parameters": int, "saved_epoch": int,
    "multiply_adds": NUMBER, "seconds": NUMBER,
    "metrics": {"training_accuracy": NUMBER, "validation_accuracy": NUMBER},
    "split": {"data": str, "training_rows": int, "validation_rows": int},
    "arguments": {"batch_size": int, "seed": int, "keep": str},
}
EVALUATION = {"tta": str, "data": str, "rows": int, "accuracy": list}  # what evaluate.py adds to a card
HISTORY = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]


@dataclasses.dataclass
class Subject:
    """What the report is about: {role: model file}, the training Faces, the Faces that every network is
    evaluated on, whether these are no part of what the networks were trained with, and --limit."""

    paths: dict
    training: Faces
    evaluated: Faces
    on_other_data: bool
    limit: int | None

    def __post_init__(self):
        networks = {role: evaluation.load_networks([path]) for role, path in self.paths.items()}
        self.probabilities = {role: evaluation.probabilities(network, self.evaluated.images)
                              for role, network in networks.items()}
        self.cnn = networks["cnn"][0]
        self.logits = structure.logits_model(self.cnn)


def collect(subject, networks, drawn):
    """Every result of the report as plain values: nested dicts and lists, ready for JSON.

    networks: {role: what `read_network` returns}; drawn: what plot_confusion.py ("confusion"), saliency.py
    ("saliency"), filter_vis.py ("filters") and, where there are test faces, evaluate.py ("test") returned.
    """
    faces, claims = subject.training, models.FIGURES / "claims.json"
    counts = pd.Series(np.bincount(faces.labels, minlength=len(CLASSES)), CLASSES)
    largest, smallest = ({"class": name, "faces": int(counts[name])}
                         for name in (counts.idxmax(), counts[counts > 0].idxmin()))
    return {
        "data": {"source": faces.source, "faces": len(faces), "fingerprint": faces.fingerprint(),
                 "counts": counts.to_dict(), "largest": largest, "smallest": smallest,
                 "is_sample": faces.source == "built-in sample", "limit": subject.limit,
                 "is_limited": subject.limit is not None},
        "evaluated": {"source": subject.evaluated.source, "rows": len(subject.evaluated),
                      "on_other_data": subject.on_other_data},
        "original": ORIGINAL["results"],
        "models": evaluate_networks(networks, subject, drawn.get("test")),
        "confusion": confusion_results(drawn["confusion"], largest, smallest),
        "saliency": {"image": homework_image(drawn["saliency"])} | saliency_results(subject),
        "filters": [filter_results(subject, layer, drawn["filters"])
                    for layer in layers_of(drawn["filters"])],
        "claims": read_json(claims) if claims.exists() else None,
    }


# ---- networks ----------------------------------------------------------------------------------------------


def read_network(path):
    """One network from its model card and history. Raises UserError where they are missing or damaged, and
    for a network that was trained without validation."""
    card, history_path = models.read_card(path), path.with_name(f"{path.stem}_history.csv")
    if card is None or not history_path.exists():
        raise UserError(f"{relative_path(path)} has no model card or no {history_path.name} beside it; "
                        "train it again")
    card_path = relative_path(models.card_path(path))
    check_types(card, CARD, card_path)
    history = read_history(history_path)
    best, lowest, end = (history.loc[row] for row in (
        history["val_accuracy"].idxmax(), history["val_loss"].idxmin(), history.index[-1]))
    settings = {key: card[part][key] for part in ("metrics", "split", "arguments") for key in CARD[part]}
    keys = ("network", "command", "parameters", "hardware", "precision", "saved_epoch")
    return settings | {key: card[key] for key in keys} | {
        "name": path.stem, "trained_on": card["split"]["data"], "epochs": int(end.epoch),
        "million_multiply_adds": card["multiply_adds"] / 1e6,
        "seconds_per_epoch": card["seconds"] / len(history),
        "best": {"epoch": int(best.epoch), "validation_accuracy": best.val_accuracy},
        "lowest_loss": {"epoch": int(lowest.epoch), "loss": lowest.val_loss},
        "end": {"epoch": int(end.epoch), "training_accuracy": end.accuracy, "loss": end.val_loss,
                "validation_accuracy": end.val_accuracy, "gap": end.accuracy - end.val_accuracy},
        "test": recorded_test(card.get("evaluations", {}), f"{card_path}: evaluations"),
    }


def check_types(value, expected, where):
    """Raise UserError where a JSON value, or of a dict one under an expected key, is of another type."""
    if isinstance(expected, dict):
        for key, part in expected.items():
            check_types(value.get(key) if isinstance(value, dict) else None, part, f"{where}: {key}")
    elif isinstance(value, bool) or not isinstance(value, expected):
        kinds = expected if isinstance(expected, tuple) else (expected,)
        raise UserError(f"{where} is {value!r:.80}, expected {' or '.join(kind.__name__ for kind in kinds)}; "
                        "train the model again with --validation 0.1")


def read_history(path):
    """A training history as a DataFrame of floats. Raises UserError where a number is missing."""
    try:
        history = pd.read_csv(path)[HISTORY].astype(float)
    except (ValueError, KeyError):
        history = pd.DataFrame()
    if history.empty or history.isna().any(axis=None):
        raise UserError(f"{relative_path(path)} lacks epochs or values; "
                        "train the model again with --validation 0.1")
    return history


def recorded_test(evaluations, where):
    """A test result that evaluate.py wrote into a model card, or None."""
    check_types(evaluations, dict, where)
    for name, entry in evaluations.items():
        check_types(entry, EVALUATION, f"{where}: {name}")
        check_types(dict(enumerate(entry["accuracy"])), dict.fromkeys(range(3), NUMBER), f"{where}: {name}")
        if entry["tta"] == "none":
            return {"source": entry["data"], "rows": entry["rows"], "accuracy": entry["accuracy"]}
    return None


def evaluate_networks(networks, subject, test):
    """The networks with what each reaches on the evaluated faces; the CNN with its layers.

    test: DataFrame of what each model reaches on the test faces, or None.
    """
    labels, results = subject.evaluated.labels, {}
    right = {role: output.argmax(axis=1) == labels for role, output in subject.probabilities.items()}
    for role, network in networks.items():
        accuracy = metrics.measure(subject.probabilities[role], labels)["accuracy"]
        results[role] = network | {"evaluated": accuracy}
        if role == "oversampled":
            results[role]["against_cnn"] = compare_paired(right[role], right["cnn"])
        elif role != "cnn":
            results[role]["cnn_against"] = compare_paired(right["cnn"], right[role])
            results[role]["share_of_cnn"] = network["parameters"] / networks["cnn"]["parameters"]
        if test is not None:
            row = test.set_index("model").loc[network["name"]]
            accuracy = [float(row[key]) for key in ("accuracy", "accuracy_low", "accuracy_high")]
            results[role]["test"] = {"source": row["data"], "rows": int(row["rows"]), "accuracy": accuracy}
    results["cnn"]["layers"] = [
        {"name": layer.name, "kind": type(layer).__name__, "what": layer_text(layer),
         "output": "x".join(map(str, layer.output.shape[1:])), "parameters": layer.count_params()}
        for layer in subject.cnn.layers]
    return results


def compare_paired(first, second):
    """McNemar's exact test (1947) of two networks' right answers, bool (n,) each, on the same faces."""
    return {"difference": float(first.mean() - second.mean()), "only_first": int((first & ~second).sum()),
            "only_second": int((second & ~first).sum()), "p": metrics.mcnemar(first, second)}


# ---- the scripts' results ----------------------------------------------------------------------------------


def confusion_results(report, largest, smallest):
    """What plot_confusion.py measured, and what the original report's claims need of it.

    largest, smallest: the classes with the most and the fewest training faces, {"class", "faces"} each.
    """
    recall = {name: interval for name, interval in report["recall"].items() if interval[0] is not None}
    best, worst = max(recall, key=lambda name: recall[name][0]), min(recall, key=lambda name: recall[name][0])
    counts = pd.DataFrame(report["counts"], CLASSES, CLASSES)
    wrong = counts.sum() - np.diag(counts)  # by predicted class
    errors, attracts = int(wrong.sum()), wrong.idxmax()
    pairs = [pair | {key: CLASSES[pair[key]] for key in ("true", "predicted")} for pair in report["pairs"]]
    sad = {pair["predicted"]: pair["share"] for pair in pairs if pair["true"] == "sad"}  # most frequent first
    taken_for = next(iter(sad), None)
    return {
        **{key: report[key] for key in ("rows", "accuracy", "macro_f1", "ece", "recall", "counts")},
        "best": {"class": best, "recall": recall[best]}, "worst": {"class": worst, "recall": recall[worst]},
        "sad_taken_for": {"class": taken_for, "share": sad[taken_for]} if sad else None,
        "sad_taken_for_fear": {"share": sad.get("fear", [0.0, 0.0, 0.0])},
        "errors": errors, "wrong_predictions": wrong.to_dict(),
        "attracts": {"class": attracts, "share": float(wrong[attracts]) / max(errors, 1)},
        "fear_attracts": {"share": float(wrong["fear"]) / max(errors, 1)},
        "largest_class": largest | {"recall": report["recall"][largest["class"]]},
        "smallest_class": smallest | {"recall": report["recall"][smallest["class"]]},
        "mean_recall": float(np.mean([value for value, _, _ in recall.values()])),
        "pairs": pairs, "top_pairs": pairs[:TOP_PAIRS],
    }


def homework_image(table):
    """What saliency.py measured on the homework's image."""
    row = table.iloc[0]
    return {"number": HOMEWORK_IMAGE + 1, "index": HOMEWORK_IMAGE, "true": row.true,
            "predicted": row.predicted,
            "whole": row.p_whole, "kept": row.p_kept, "random": row.p_kept_random}


def layers_of(tables):
    """Names of the layers in which filter_vis.py had filters to visualise."""
    return tables["summary"]["layer"].tolist() if "summary" in tables else []


def filter_results(subject, layer, tables):
    """What filter_vis.py measured on a layer."""
    count = int(tables["summary"].set_index("layer")["filters"][layer])
    filters = tables[f"filters_{layer}"][["filter", "times_data", "eta_squared"]].apply(pd.to_numeric)
    outputs, eta = tables[f"outputs_{layer}"].apply(pd.to_numeric), filters["eta_squared"]
    return {
        "layer": layer, "filters": count, "in_figure": len(filters), "left_out": count - len(filters),
        "faces": min(subject.limit or FILTER_FACES, len(subject.training)),
        "times_data": float(np.nan_to_num(filters["times_data"].median())),
        "eta_squared": None if eta.isna().any() else float(eta.median()),
        "most_telling": {"filter": int(filters["filter"].iloc[0]), "eta_squared": float(eta.iloc[0])},
        "image_share_active": float(outputs["share_above_zero"].mean()),
        "image_silent": int((outputs["maximum"] <= 0).sum()),
    }


# ---- saliency ----------------------------------------------------------------------------------------------


def gradient_maps(logits, images):
    """Faces as the network sees them (n, h, w), the classes it predicts (n,) and saliency maps (n, h, w)."""
    grey = models.prepare(images, logits)[..., 0]
    codes = faithfulness.probabilities(logits, grey).argmax(1)
    return (
        grey,
        codes,
        attribution.strength(attribution.attribute(logits, grey, codes, "gradient"), "gradient"),
    )


def saliency_results(subject, seed=0):
    """Where gradient maps lie on some of the evaluated faces, and what the probability of the predicted class
    becomes when only the most salient or random pixels are kept. Means with bootstrap 95 % intervals."""
    faces, logits = subject.evaluated, subject.logits
    rows = np.random.default_rng([seed, 4]).permutation(len(faces))[:SALIENT_FACES]
    grey, codes, maps = gradient_maps(logits, faces.images[rows])
    has_map = maps.sum((1, 2)) > 0
    if not has_map.any():
        raise UserError(f"the saliency maps of {len(rows)} faces are zero everywhere: the network has not "
                        "learnt anything; train it on more faces or for longer")
    grey, codes, maps = grey[has_map], codes[has_map], maps[has_map]
    noise = np.random.default_rng([seed, 6]).uniform(size=maps.shape).astype(np.float32)
    whole, kept = faithfulness.probability_kept(logits, grey, codes, maps, KEPT_AREA, seed=seed)
    _, random = faithfulness.probability_kept(logits, grey, codes, noise, KEPT_AREA, seed=seed)

    height, width = maps.shape[1:]
    top, left, ring = CENTRE * height // SIZE, CENTRE * width // SIZE, max(RING * height // SIZE, 1)
    centre = maps[:, top:height - top, left:width - left]
    is_ring = np.ones((height, width), bool)
    is_ring[ring:height - ring, ring:width - ring] = False
    values = {"centre": centre.sum((1, 2)) / maps.sum((1, 2)), "whole": whole, "kept": kept, "random": random,
              "ring_to_centre": maps[:, is_ring].mean(1) / np.maximum(centre.mean((1, 2)), 1e-12),
              "kept_above_random": kept - random}
    return {"faces": len(maps), "kept_area": KEPT_AREA, "centre_area": centre[0].size / maps[0].size,
            "centre_pixels": centre.shape[1], "ring_width": ring,
            **{key: list(metrics.bootstrap_mean(numbers, seed)) for key, numbers in values.items()}}
