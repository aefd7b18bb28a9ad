"""A made-up report, every number different, with figures and pictures: what the tests of words and page are
shown."""

import numpy as np
import pandas as pd
from PIL import Image

from reporting import page, pictures
from reporting.text import ORIGINAL
from utils.data import CLASSES


def triple(rng, value):
    down, up = map(float, rng.uniform(0.01, 0.03, 2))
    return [round(value, 5), round(value - down, 5), round(value + up, 5)]


def network(rng, name, accuracy, parameters):
    return {
        "name": name, "network": name, "command": f"python train_cnn.py --name {name} --data <a&b>",
        "parameters": parameters, "million_multiply_adds": 32.41, "batch_size": 80, "seed": 0,
        "keep": "best", "hardware": "two cores", "precision": "float32", "data": "data/train.csv",
        "training_rows": 25836, "validation_rows": 2873, "seconds_per_epoch": 53.92, "saved_epoch": 8,
        "training_accuracy": accuracy + 0.11, "validation_accuracy": accuracy,
        "best": {"epoch": 7, "val_accuracy": accuracy}, "lowest_loss": {"epoch": 6, "val_loss": 1.1807},
        "evaluated": triple(rng, accuracy),
        "end": {"epoch": 10, "accuracy": accuracy + 0.18, "val_accuracy": accuracy - 0.004, "gap": 0.184,
                "val_loss": 1.2204},
        "history": [{"epoch": epoch, "accuracy": accuracy + epoch / 50, "val_accuracy": accuracy,
                     "loss": 2 / epoch, "val_loss": 1.2} for epoch in range(1, 11)],
        "test": {"data": "data/test.csv", "rows": 3589, "accuracy": triple(rng, accuracy + 0.02)},
    }


def results():
    """Results as report.py measures them."""
    rng = np.random.default_rng(0)
    models = {"cnn": network(rng, "cnn", 0.5687, 6_615_495),
              "oversampled": network(rng, "cnn-oversampled", 0.5764, 6_615_495),
              "dnn": network(rng, "dnn", 0.369, 6_617_735),
              "report_dnn": network(rng, "dnn-report", 0.2698, 156_263)}
    models["cnn"]["layers"] = [{"layer": "conv1", "kind": "Conv2D 32 filters 3x3", "output": "46x46x32",
                                "parameters": "320"}]
    models["dnn"]["layers"] = [{"layer": "dense1", "kind": "Dense 1664 units", "output": "1664",
                                "parameters": "3,835,520"}]
    models["oversampled"]["against_cnn"] = {
        "difference": 0.0077, "only_first_right": 342, "only_second_right": 320, "p": 0.41}
    for role, difference in (("dnn", 0.1994), ("report_dnn", 0.2989)):
        models[role]["cnn_against"] = {
            "difference": difference, "only_first_right": 901, "only_second_right": 328, "p": 3.1e-63}
        models[role]["share_of_cnn"] = models[role]["parameters"] / models["cnn"]["parameters"]
    shares = (0.445, 0.1136, 0.3488, 0.8366, 0.4897, 0.7066, 0.4879)
    recall = {name: triple(rng, value) for name, value in zip(CLASSES, shares)}
    counts = np.full((7, 7), 9)
    counts[:, 6] = 0
    wrong = {"angry": 201, "disgust": 17, "fear": 168, "happy": 222, "sad": 300, "surprise": 101,
             "neutral": 231}
    pairs = [{"true": "fear", "predicted": "sad", "count": 93, "share": triple(rng, 0.2268)},
             {"true": "neutral", "predicted": "sad", "count": 94, "share": triple(rng, 0.1875)},
             {"true": "sad", "predicted": "neutral", "count": 79, "share": triple(rng, 0.1632)}]
    claims = [{"key": key, "claim": claim["en"], "configuration": "train_cnn.py --oversample",
               "baseline": "train_cnn.py", "mean": 0.571, "sd": 0.0042, "baseline_mean": 0.559,
               "baseline_sd": 0.0031, "difference": 0.012, "low": 0.004, "high": 0.02, "verdict": verdict}
              for (key, claim), verdict in zip(ORIGINAL["claims"].items(), ["holds", "fails", "open"] * 4)]
    return {
        "data": {"source": "data/train.csv", "faces": 28709, "fingerprint": "abc",
                 "counts": dict.fromkeys(CLASSES, 1), "largest": {"class": "happy", "faces": 7215},
                 "smallest": {"class": "disgust", "faces": 436}, "is_sample": False, "limit": 500},
        "evaluated": {"source": "the validation split of data/train.csv", "rows": 2873,
                      "on_other_data": False},
        "original": ORIGINAL["results"],
        "models": models,
        "confusion": {
            "rows": 2873, "accuracy": triple(rng, 0.5684), "macro_f1": triple(rng, 0.4944),
            "ece": triple(rng, 0.0519), "recall": recall, "counts": counts.tolist(),
            "best": {"class": "happy", "recall": recall["happy"]},
            "worst": {"class": "disgust", "recall": recall["disgust"]},
            "sad_taken_for": {"class": "neutral", "share": pairs[2]["share"]}, "wrong_predictions": wrong,
            "sad_as": {"neutral": pairs[2]["share"], "fear": triple(rng, 0.0931)}, "errors": 1240,
            "attracts": {"class": "sad", "share": 0.2419}, "fear_attracts": {"share": 0.1355},
            "largest_class": {"class": "happy", "recall": recall["happy"]},
            "smallest_class": {"class": "disgust", "recall": recall["disgust"]},
            "mean_recall": 0.4897, "pairs": pairs},
        "saliency": {
            "image": {"number": 16, "index": 15, "true": "fear", "predicted": "surprise", "p_whole": 0.52,
                      "p_kept": 0.46, "p_kept_random": 0.07},
            "faces": 200, "kept_area": 0.2, "centre": triple(rng, 0.383), "centre_area": 0.25,
            "centre_pixels": 24, "ring_width": 4, "ring_to_centre": triple(rng, 0.219),
            "whole": triple(rng, 0.536), "kept": triple(rng, 0.297), "random": triple(rng, 0.183),
            "kept_above_random": [0.114, 0.09, 0.14]},
        "filters": [{"layer": "conv2_relu", "filters": 32, "in_figure": 32, "left_out": 0, "faces": 2000,
                     "times_data": 5.61, "eta_squared": 0.036,
                     "most_telling": {"filter": 20, "eta_squared": 0.058},
                     "image_share_active": 0.241, "image_silent": 0},
                    {"layer": "conv3_relu", "filters": 64, "in_figure": 61, "left_out": 3, "faces": 2000,
                     "times_data": 8.52, "eta_squared": 0.038,
                     "most_telling": {"filter": 7, "eta_squared": 0.247},
                     "image_share_active": 0.076, "image_silent": 8}],
        "sweep": {
            "command": "python train_cnn.py --batch-size 40 --augment", "trials": 41, "finished": 12,
            "search": "python sweep.py --trials 40", "validation_accuracy": 0.5873,
            "confirmed": {"seeds": 3, "own": [0.5, 0.51, 0.52], "best": [0.52, 0.52, 0.53],
                          "difference": [0.0133, -0.001, 0.0277]},
            "effects": [{"option": "--dropout", "value": None, "trials": 5, "accuracy": 0.55,
                         "difference": None},
                        {"option": "--dropout", "value": 0.5, "trials": 7, "accuracy": 0.56,
                         "difference": [0.01, -0.012, 0.032]}]},
        "claims": {"data": "data/train.csv", "rows": 28709, "seeds": 3, "margin_points": 1.0, "level": 0.95,
                   "score": "validation", "evaluated": "the validation split of data/train.csv",
                   "evaluated_rows": 2873, "claims": claims},
    }


def interactive():
    """What `reporting.pictures.all_pictures` returns, of noise."""
    rng = np.random.default_rng(1)
    strip = pictures.to_png(rng.integers(0, 256, (48, 96), np.uint8))
    face = {"number": 16, "label": "fear", "target": "surprise",
            "grey": pictures.to_base64(rng.integers(0, 256, (48, 48), np.uint8)),
            "strength": pictures.to_base64(rng.integers(0, 256, (48, 48), np.uint8)),
            "rank": pictures.to_base64(rng.permutation(2304).astype("<u2")),
            "kept": {share: share / 100 for share in pictures.SHARES}}
    cell = {"count": 9, "strip": strip, "confidence": [93, 71]}
    history = pd.DataFrame(results()["models"]["cnn"]["history"])
    curves = [pictures.curves({"CNN": history}, "en", is_thumbnail) for is_thumbnail in (False, True)]
    charts, thumbnails = (dict.fromkeys(("cnn", "dnn", "confusion"), one) for one in curves)
    tile = pictures.to_png(rng.integers(0, 256, (10, 10), np.uint8))
    tiles = [{"filter": number, "times": "2.5", "eta": "0.04", "image": tile, "output": tile,
              "patches": [tile] * 5} for number in range(20)]
    return {"pictures": {"confusion": {f"{i}-{j}": cell for i in range(7) for j in range(6)},
                         "saliency": [face, face | {"number": 3, "label": "happy"}]},
            "charts": charts, "thumbnails": thumbnails | {"saliency": tile, "filters": tile},
            "filters": {"conv2_relu": tiles, "conv3_relu": tiles}}


def report(folder, language):
    """A report as report.py writes it; its one figure lies in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "a figure.png"
    Image.new("L", (900, 400), 200).save(path)
    figure = {"path": path, "label": "A <figure> & its label", "alt": "Best is \"happy\" & <worst> disgust",
              "command": "python plot_confusion.py --data <a&b>"}
    commands = {"cnn": "python train_cnn.py", "dnn": "python train_cnn.py",
                **dict.fromkeys(("confusion", "saliency", "filters"), "python plot_confusion.py")}
    return page.compose(results(), commands, {}, language) | {"figures": {
        **{section: [figure] for section in ("cnn", "dnn", "confusion", "saliency", "filters")},
        "data": [], "sweep": [], "claims": []}}
