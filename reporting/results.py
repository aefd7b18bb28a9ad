"""The page's results as plain values, ready for JSON: read, returned by the scripts, and measured here."""

import numpy as np
import pandas as pd

from explain import attribution, faithfulness, regions
from training.figures import describe_layers
from utils import metrics, models
from utils.cli import UserError
from utils.data import CLASSES, SIZE
from utils.files import relative_path

HOMEWORK_IMAGE = 15  # the 16th training image
CENTRE, RING = 12, 4  # pixels of 48: so many outside the central square on each side; width of the outer ring
KEPT_AREA = 0.2  # share that saliency.py leaves in the masked face
# What the page needs of a model card and its parts, and of a history
CARD = ("command", "hardware", "precision", "parameters", "multiply_adds", "seconds", "saved_epoch",
        "training_accuracy", "validation_accuracy", "data", "training_rows", "validation_rows", "batch_size",
        "keep", "optimizer", "learning_rate")
HISTORY = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]


def data_results(faces, limit):
    """What the networks are trained on: labelled Faces, of which --limit takes the first (None: all)."""
    counts = pd.Series(np.bincount(faces.labels, minlength=len(CLASSES)), CLASSES)
    largest, smallest = ({"class": name, "faces": int(counts[name])}
                         for name in (counts.idxmax(), counts[counts > 0].idxmin()))
    return {"source": faces.source, "faces": len(faces), "largest": largest, "smallest": smallest,
            "is_sample": faces.source == "built-in sample", "limit": limit}


def read_network(run):
    """One network from its model card and history, a dict; run: a `training.run.RunFiles`. Raises UserError
    where one of them is missing or damaged, or the network was trained without validation."""
    card = models.read_card(run.model)
    values = card.get("arguments", {}) | card.get("split", {}) | card.get("metrics", {}) | card
    for key in CARD:
        if values.get(key) is None:
            raise UserError(f"{relative_path(run.card)}: {key} is missing; expected the card of a model "
                            "trained with --validation 0.1")
    try:
        history = pd.read_csv(run.history)[HISTORY].astype(float).astype({"epoch": int})
    except (OSError, ValueError, KeyError):
        history = pd.DataFrame()
    if history.empty or history.isna().any(axis=None):
        raise UserError(f"{relative_path(run.history)} lacks epochs or values; "
                        "train the model again with --validation 0.1")
    # Measured while training, in its precision: the stored file's accuracy counts
    history.loc[history["epoch"] == values["saved_epoch"], "val_accuracy"] = values["validation_accuracy"]
    epochs = history.to_dict("records")
    best = max(epochs, key=lambda epoch: epoch["val_accuracy"])
    source, validation = card["split"]["data"], str(card["split"].get("validation"))
    seen = {source, f"{source} Training", f"{source} {validation}", validation}  # trained or chosen on
    tests = [{key: entry[key] for key in ("data", "rows", "accuracy")}
             for entry in card.get("evaluations", {}).values() if entry["tta"] == "none"
             and entry["data"] not in seen and not entry["data"].startswith("the validation split of ")]
    return {key: values[key] for key in CARD} | {
        "name": run.model.stem, "seconds_per_epoch": card["seconds"] / len(epochs),
        "history": epochs, "start": epochs[0], "best": best,
        "lowest_loss": min(epochs, key=lambda epoch: epoch["val_loss"]),
        "end": epochs[-1] | {"gap": epochs[-1]["accuracy"] - epochs[-1]["val_accuracy"]},
        "test": tests[0] if tests else None}


def describe_network(model):
    """The architecture of a keras.Model: layers as text, how many of each kind, values that are flattened."""
    flattened = [layer.output.shape[-1] for layer in model.layers if type(layer).__name__ == "Flatten"]
    return {"layers": [describe_layers([layer]) for layer in model.layers], "layer_count": len(model.layers),
            "counts": {part: sum(part in type(layer).__name__ for layer in model.layers)
                       for part in ("Conv", "Pooling", "Dense")},
            "flattened": flattened[0] if flattened else 0}


def compare_networks(networks, probabilities, labels):
    """The networks with what each reaches on the evaluated faces, beside the CNN. networks: {role: what
    `read_network` returns}; probabilities: {role: (n, 7)}; labels: int (n,)."""
    right = {role: output.argmax(axis=1) == labels for role, output in probabilities.items()}
    return {role: network | {
        "evaluated": metrics.measure(probabilities[role], labels)["accuracy"],
        "against_cnn": metrics.mcnemar(right[role], right["cnn"]),
        "cnn_against": metrics.mcnemar(right["cnn"], right[role]),
        "share_of_cnn": network["parameters"] / networks["cnn"]["parameters"],
    } for role, network in networks.items()}


def confusion_results(summary, data):
    """What plot_confusion.py returned, and what the claims need of it; data: of `data_results`."""
    recall = {name: interval for name, interval in summary["recall"].items() if interval[0] is not None}
    classes = {"best": max(recall, key=lambda name: recall[name][0]),
               "worst": min(recall, key=lambda name: recall[name][0]),
               "largest_class": data["largest"]["class"], "smallest_class": data["smallest"]["class"]}
    counts = pd.DataFrame(summary["counts"], CLASSES, CLASSES)
    wrong = counts.sum() - np.diag(counts)  # by predicted class
    errors, attracts = int(wrong.sum()), wrong.idxmax()
    mistakes = counts.mask(np.eye(len(CLASSES), dtype=bool), 0)
    most, both_ways = int(mistakes.max(axis=None)), (mistakes + mistakes.T).stack()
    pairs = [pair | {key: CLASSES[pair[key]] for key in ("true", "predicted")} for pair in summary["pairs"]]
    sad_as = {pair["predicted"]: pair["share"] for pair in pairs if pair["true"] == "sad"}
    sad_taken_for = next(({"class": name, "share": share} for name, share in sad_as.items()), None)
    if sad_as:
        sad_as.setdefault("fear", [0.0, *metrics.wilson(0, int(counts.loc["sad"].sum()))])
    return {
        **{key: summary[key] for key in ("rows", "accuracy", "macro_f1", "recall", "counts")},
        "ece": summary["ece"][0],
        **{key: {"class": name, "recall": summary["recall"][name]} for key, name in classes.items()},
        "sad_as": sad_as, "sad_taken_for": sad_taken_for,
        "errors": errors, "wrong_predictions": wrong.to_dict(),
        "attracts": {"class": attracts, "share": float(wrong[attracts]) / max(errors, 1)},
        "fear_attracts": {"share": float(wrong["fear"]) / max(errors, 1)},
        "mean_recall": float(np.mean([value for value, _, _ in recall.values()])),
        "pairs": pairs,
        "frequent": {"count": most, "pairs": [[CLASSES[i] for i in pair] for pair in
                                               np.argwhere(mistakes == most)]},
        "both_ways": {"count": int(both_ways.max()), "classes": list(both_ways.idxmax())},
    }


def filter_results(tables, faces):
    """What filter_vis.py returned of each layer with filters to show, measured on so many faces: a list."""
    results = []
    for layer in tables["summary"].itertuples() if "summary" in tables else ():
        filters, outputs = (tables[f"{kind}_{layer.layer}"] for kind in ("filters", "outputs"))
        stripes = filters[filters["stripes"]]
        direction = (stripes["orientation"] + 22.5) % 180 // 45  # 0: within 22.5 degrees of horizontal
        results.append({
            "stripes": len(stripes), "striped": len(stripes) / len(filters),
            "others": len(filters) - len(stripes), "oblique": int((direction % 2 == 1).sum()),
            "horizontal": int((direction == 0).sum()), "vertical": int((direction == 2).sum()),
            "period": float(np.nan_to_num((1 / stripes["frequency"]).median())),
            **{tone: int((filters["tone"] == tone).sum()) for tone in ("light", "dark")},
            "layer": layer.layer, "filters": layer.filters, "in_figure": layer.shown,
            "left_out": layer.filters - layer.shown, "faces": faces,
            "times_data": float(np.nan_to_num(filters["times_data"].median())),
            "eta_squared": float(filters["eta_squared"].median()),
            "most_telling": {key: filters[key].iloc[0].item() for key in ("filter", "eta_squared")},
            "image_share_active": float(outputs["share_above_zero"].mean()),
            "image_silent": int((outputs["maximum"] <= 0).sum()),
        })
    return results


def gradient_maps(logits, images):
    """Faces as the network sees them (n, h, w), the classes it predicts (n,) and saliency maps (n, h, w)."""
    grey = models.prepare(images, logits)[..., 0]
    codes = models.predict(logits, grey).argmax(1)
    return grey, codes, np.abs(attribution.attribute(logits, grey, codes, "gradient"))


def saliency_results(logits, faces, table):
    """What saliency.py returned of the homework's image; where gradient maps lie on some of the faces, and
    what the probability of the predicted class becomes when only the most salient pixels are kept, random
    ones or the strongest edges: means with bootstrap 95 % intervals."""
    image = {"number": HOMEWORK_IMAGE + 1, "index": HOMEWORK_IMAGE} | table.to_dict("records")[0]
    rows = np.random.default_rng([0, 4]).permutation(len(faces))[:200]
    grey, codes, maps = gradient_maps(logits, faces.images[rows])
    has_map = maps.sum((1, 2)) > 0
    if not has_map.any():
        raise UserError(f"the saliency maps of {len(rows)} faces are zero everywhere: the network has not "
                        "learnt anything; train it on more faces or for longer")
    grey, codes, maps = grey[has_map], codes[has_map], maps[has_map]
    whole = faithfulness.probabilities(logits, grey)[np.arange(len(grey)), codes]
    random, _ = faithfulness.random_kept(logits, grey, codes, np.full(len(grey), KEPT_AREA))
    edge_maps = attribution.attribute(logits, grey, codes, "edges")
    kept, edges = (faithfulness.salient_kept(logits, grey, codes, values, KEPT_AREA)[1]
                   for values in (maps, edge_maps))

    centre = maps[:, CENTRE:-CENTRE, CENTRE:-CENTRE]
    is_ring = np.pad(np.zeros((SIZE - 2 * RING, SIZE - 2 * RING), bool), RING, constant_values=True)
    values = {"centre": centre.sum((1, 2)) / maps.sum((1, 2)), "whole": whole, "kept": kept, "random": random,
              "edges": edges,
              "ring_to_centre": maps[:, is_ring].mean(1) / np.maximum(centre.mean((1, 2)), 1e-12),
              "kept_above_random": kept - random, "kept_above_edges": kept - edges,
              "kept_above_controls": kept - np.maximum(random, edges)}
    areas, shares = regions.areas(*maps.shape[1:]), regions.shares(maps)
    densest = max(areas, key=lambda name: image[f"on_{name}"] / areas[name])
    image["densest"] = {"region": densest, "share": image[f"on_{densest}"], "area": areas[densest]}
    order = (shares.mean() / pd.Series(areas)).sort_values(ascending=False).index  # densest first
    parts = [{"region": name, "area": areas[name], "share": list(metrics.bootstrap_mean(shares[name])),
              "density": float(shares[name].mean() / areas[name])} for name in order]
    return {"image": image, "faces": len(maps), "kept_area": KEPT_AREA, "ring_width": RING,
            "centre_area": centre[0].size / maps[0].size, "centre_pixels": centre.shape[1], "regions": parts,
            "focus": {"share": sum(part["share"][0] for part in parts[:3]),
                      "area": sum(part["area"] for part in parts[:3])},
            **{key: list(metrics.bootstrap_mean(numbers)) for key, numbers in values.items()}}
