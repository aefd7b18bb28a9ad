"""Made-up results with figures and pictures: what the tests of words and page are shown."""

import numpy as np
import pandas as pd
from PIL import Image

from reporting import page, pictures
from reporting.text import ORIGINAL
from utils.data import CLASSES

SECTIONS = ("cnn", "dnn", "confusion", "saliency", "filters")


def interval(value):
    return [value, round(0.97 * value - 0.0003, 5), round(1.02 * value + 0.0107, 5)]


def network(name, accuracy, parameters, difference=0.0, p=1.0, learning_rate=0.001):
    """What `results.compare_networks` and `describe_network` return of one network; difference: the CNN's
    accuracy minus its."""
    paired = {"only_first_right": 901, "only_second_right": 328, "p": p, "difference": difference}
    return {
        "name": name, "command": f"python train_cnn.py --name {name} --data <a&b>",
        "parameters": parameters, "multiply_adds": 32_410_780,
        "batch_size": 80, "keep": "best", "optimizer": "adam", "learning_rate": learning_rate,
        "hardware": "two cores", "precision": "float32", "data": "data/train.csv", "training_rows": 25836,
        "validation_rows": 2873, "seconds_per_epoch": 53.92, "saved_epoch": 8,
        "training_accuracy": accuracy + 0.11, "validation_accuracy": accuracy,
        "best": {"epoch": 7, "val_accuracy": accuracy}, "lowest_loss": {"epoch": 6, "val_loss": 1.1807},
        "evaluated": interval(accuracy), "share_of_cnn": parameters / 6_615_495,
        "against_cnn": paired | {"difference": -difference}, "cnn_against": paired,
        "start": {"epoch": 1, "accuracy": 0.3263, "val_accuracy": 0.4473},
        "end": {"epoch": 10, "accuracy": accuracy + 0.18, "val_accuracy": accuracy - 0.004, "gap": 0.184,
                "val_loss": 1.2204},
        "history": [{"epoch": epoch, "accuracy": accuracy + epoch / 50, "val_accuracy": accuracy,
                     "loss": 2 / epoch, "val_loss": 1.2} for epoch in range(1, 11)],
        "test": {"data": "data/test.csv", "rows": 3589, "accuracy": interval(accuracy + 0.02)},
        "layers": [{"layer": "conv1", "kind": "Conv2D 32 filters 3×3", "output": "46×46×32",
                    "parameters": "320"}],
        "layer_count": 17, "counts": {"Conv": 3, "Pooling": 2, "Dense": 2}, "flattened": 2304,
    }


def results():
    """Results as report.py measures them."""
    shares = (0.445, 0.1136, 0.3488, 0.8366, 0.4897, 0.7066, 0.4879)
    recall = {name: interval(value) for name, value in zip(CLASSES, shares)}
    counts = np.full((7, 7), 9)
    counts[:, 6] = 0
    wrong = dict(zip(CLASSES, (201, 17, 168, 222, 300, 101, 231)))
    pairs = [{"true": "fear", "predicted": "sad", "count": 93, "share": interval(0.2268)},
             {"true": "sad", "predicted": "neutral", "count": 79, "share": interval(0.1632)}]
    claims = [{"key": key, "configuration": claim["command"], "baseline": "train_cnn.py", "mean": 0.571,
               "sd": 0.0042, "baseline_mean": 0.559, "difference": 0.012, "low": 0.004, "high": 0.02,
               "verdict": verdict}
              for (key, claim), verdict in zip(ORIGINAL["claims"].items(), ["holds", "fails", "open"] * 4)]
    parts = [{"region": region, "share": interval(0.17), "area": 0.095, "density": 1.79}
             for region in ("mouth", "eyes", "nose", "brows", "cheeks", "forehead", "chin", "border")]
    layer = {"faces": 2000, "filters": 64, "times_data": 8.52, "eta_squared": 0.038,
             "most_telling": {"filter": 7, "eta_squared": 0.247}, "image_share_active": 0.076,
             "horizontal": 12, "vertical": 6, "oblique": 14, "period": 4.37, "light": 5, "dark": 7}
    return {
        "data": {"source": "data/train.csv", "faces": 28709, "largest": {"class": "happy", "faces": 7215},
                 "smallest": {"class": "disgust", "faces": 436}, "is_sample": False, "limit": 500},
        "evaluated": {"source": "the validation split of data/train.csv", "rows": 2873,
                      "on_other_data": False},
        "original": ORIGINAL["results"],
        "models": {"cnn": network("cnn", 0.5687, 6_615_495),
                   "oversampled": network("cnn-oversampled", 0.5764, 6_615_495, -0.0077, 0.41),
                   "dnn": network("dnn", 0.369, 6_617_735, 0.1994, 3.1e-63, learning_rate=0.0001),
                   "report_dnn": network("dnn-report", 0.2698, 156_263, 0.2989, 4.2e-98)},
        "confusion": {
            "rows": 2873, "accuracy": interval(0.5684), "macro_f1": interval(0.4944),
            "ece": 0.0519, "recall": recall, "counts": counts.tolist(),
            "best": {"class": "happy", "recall": recall["happy"]},
            "worst": {"class": "disgust", "recall": recall["disgust"]},
            "sad_taken_for": {"class": "neutral", "share": pairs[1]["share"]}, "wrong_predictions": wrong,
            "sad_as": {"neutral": [0.1632, 0.15, 0.19], "fear": [0.0931, 0.08, 0.11]}, "errors": 1240,
            "attracts": {"class": "sad", "share": 0.2419}, "fear_attracts": {"share": 0.1355},
            "largest_class": {"class": "happy", "recall": recall["happy"]},
            "smallest_class": {"class": "disgust", "recall": recall["disgust"]},
            "mean_recall": 0.4897, "pairs": pairs,
            "frequent": {"count": 93, "pairs": [["fear", "sad"], ["neutral", "sad"]]},
            "both_ways": {"count": 172, "classes": ["sad", "neutral"]}},
        "saliency": {
            "image": {"number": 16, "index": 15, "true": "fear", "predicted": "surprise", "p_whole": 0.52,
                      "blank": False, "p_kept": 0.46, "p_kept_random": 0.07, "p_kept_edges": 0.21,
                      "densest": {"region": "eyes", "share": 0.125, "area": 0.052}},
            "regions": parts, "focus": {"share": 0.61, "area": 0.183},
            "kept_above_random": [0.121, 0.099, 0.146], "kept_above_edges": [-0.033, -0.061, -0.005],
            "faces": 200, "kept_area": 0.2, "centre": interval(0.383), "centre_area": 0.25,
            "centre_pixels": 24, "ring_width": 4, "ring_to_centre": interval(0.219),
            "whole": interval(0.536), "kept": interval(0.297), "random": interval(0.183),
            "edges": interval(0.171),
            "kept_above_controls": [0.114, 0.09, 0.14]},
        "filters": [layer | {"layer": "conv2_relu", "in_figure": 64, "left_out": 0, "image_silent": 0,
                             "stripes": 64, "others": 0, "striped": 1.0},
                    layer | {"layer": "conv3_relu", "in_figure": 61, "left_out": 3, "image_silent": 8,
                             "stripes": 25, "others": 36, "striped": 0.41}],
        "sweep": {
            "name": "sweep", "command": "python train_cnn.py --batch-size 40 --augment", "trials": 41,
            "finished": 12, "search": "python sweep.py --trials 40", "validation_accuracy": 0.5873,
            "confirmed": {"seeds": 3, "difference": [0.0133, -0.001, 0.0277]}},
        "claims": {"data": "data/train.csv", "rows": 28709, "seeds": 3, "margin_points": 1.0, "level": 0.95,
                   "evaluated": "the validation split of data/train.csv", "evaluated_rows": 2873,
                   "claims": claims},
    }


def drawings():
    """What `reporting.pictures.all_pictures` returns, of noise."""
    rng = np.random.default_rng(1)
    strip = pictures.to_png(rng.integers(0, 256, (48, 96), np.uint8))
    face = {"number": 16, "label": "fear", "target": "surprise",
            "grey": pictures.to_base64(rng.integers(0, 256, (48, 48), np.uint8)),
            "heat": pictures.to_png(rng.uniform(size=(48, 48)), pictures.HEAT),
            "rank": pictures.to_base64(rng.permutation(2304).astype("<u2")),
            "kept": {share: share / 100 for share in pictures.SHARES}}
    cell = {"count": 9, "strip": strip, "confidence": [93, 71]}
    history = pd.DataFrame(results()["models"]["cnn"]["history"])
    curves = [pictures.curves({"CNN": history}, key, "en") for key in ("accuracy", "loss")]
    small = pictures.curves({"CNN": history}, "accuracy", "en", is_thumbnail=True)
    tile = pictures.to_png(rng.integers(0, 256, (10, 10), np.uint8))
    tiles = [{"filter": number, "times": "2.5", "activation": "0.537", "image": tile, "output": tile,
              "patches": [tile] * 5} for number in range(20)]
    return {"pictures": {"confusion": {f"{i}-{j}": cell for i in range(7) for j in range(6)},
                         "saliency": [face, face | {"number": 3, "label": "happy"}]},
            "charts": dict.fromkeys(SECTIONS[:3], curves),
            "thumbnails": (dict.fromkeys(SECTIONS[:3], small)
                           | dict.fromkeys(("saliency", "filters", "scale"), tile)),
            "filters": {"conv2_relu": tiles, "conv3_relu": tiles}}


def html(folder, language, **head):
    """A page as report.py writes it (str); its one figure lies in `folder`. head: author and student_id."""
    path = folder / "figure.png"
    Image.new("L", (900, 400), 200).save(path)
    figure = {"path": path, "label": "A <figure> & its label",
              "command": "python plot_confusion.py --data <a&b>"}
    contents = page.compose(results(), dict.fromkeys(SECTIONS, "python train_cnn.py"), {}, language)
    figures = {section: [figure] * (section in SECTIONS) for section in contents["sections"]}
    head = {"author": None, "student_id": None} | head
    return page.render(contents | {"figures": figures} | head, drawings())
