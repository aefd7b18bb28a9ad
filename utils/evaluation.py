"""Faces to evaluate on, and the predictions of models on them."""

import dataclasses
import itertools
import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy import ndimage

from utils import cli, data, models
from utils.cli import UserError
from utils.files import PROJECT
from utils.metrics import to_probabilities

SCALES, SCALED_SHIFT = (1, 0.92, 1.08), 2  # of multi-scale; chosen on PublicTest, see models/README.md
VIEWS = {"none": 1, "flip": 2, "ten-crop": 10, "multi-scale": 30}  # of a face, by --tta
VIEWS_AT_ONCE = 4096  # between two steps of the progress bar
SPLIT_ARGUMENTS = ("limit", "validation_labels", "labels_from")  # in a model card


def faces_to_evaluate(paths, source=None, labels=None, usage=None, training_data=None):
    """The labelled faces to evaluate the models at `paths` on, by the options of `cli.add_evaluation_data`:
    Faces. Without `source` and `usage` the validation split of all the models; UserError without one."""
    if source is None and labels is not None:
        raise UserError(f"--labels {labels} belongs to a --data; name the file of faces too")
    if source is None and usage is None:
        splits = list(map(split_of, paths))
        keys = ["fingerprint", "validation", "validation_labels"]  # that say which faces are left out
        keys += ["seed"] * data.is_drawn(splits[0]["validation"])
        for path, split in zip(paths, splits):
            if any(split[key] != splits[0][key] for key in keys):
                raise UserError(f"{path} was trained on another split than {paths[0]} and may have seen "
                                "these faces; name faces that neither has seen with --data")
        return validation_faces(paths[0], training_data)
    faces = data.load_labelled(source, labels) if source else data.find_data()
    if faces.labels is None:
        raise UserError(f"{faces.source} has no labels; name labelled faces with --data")
    usages = [] if faces.usage is None else sorted(set(faces.usage))
    if usage is None and len(usages) < 2:
        return faces
    if usage not in usages:
        raise UserError(f"{faces.source} has rows of Usage {', '.join(usages) or '(none)'}; "
                        "name a file of one Usage, or one of these with --usage")
    return dataclasses.replace(faces.take(faces.usage == usage), source=f"{faces.source} {usage}")


def split_of(model_path):
    """How a model's data was split (see `data.load_split`): a dict; UserError when no card says so."""
    card, advice = models.read_card(model_path), "name labelled faces with --data"
    if card is None:
        raise UserError(f"{model_path} has no model card that names its validation split; {advice}")
    split = card.get("split", {})
    if not {"data", "fingerprint", "validation", "seed"} <= split.keys() or split["seed"] < 0:
        raise UserError(f"{models.card_path(model_path)} does not say how the data was split; {advice}")
    return split | {key: card.get("arguments", {}).get(key) for key in SPLIT_ARGUMENTS}


def place_of(split):
    """Where the data of a `split_of` are: Path or "sample", None where they are not where the card says."""
    if split["data"] == "built-in sample":
        return data.SAMPLE
    return next(filter(os.path.exists, (Path(split["data"]), PROJECT / split["data"])), None)


def validation_faces(model_path, training_data=None):
    """The faces on which a model was validated: Faces, by its card, from `training_data` (default: where the
    card says, else what `data.find_data` finds); UserError for data of another fingerprint."""
    split = split_of(model_path)
    validation = str(split["validation"])
    _, faces, used = data.load_split(training_data or place_of(split), validation, split["seed"],
                                     *(split[key] for key in SPLIT_ARGUMENTS))
    if used["fingerprint"] != split["fingerprint"]:
        raise UserError(f"{used['data']} ({used['rows']:,} faces) is not the data that {model_path} was "
                        f"trained on ({split['data']}, {split.get('rows', '?')} faces); name that with "
                        "--training-data, or other faces with --data")
    if not len(faces):
        raise UserError(f"{model_path} was trained without a validation split; name faces with --data")
    if validation in data.USAGES:
        faces.source += f" {validation}"
    elif used["training_rows"] + len(faces) == used["rows"]:
        faces.source = f"the validation split of {faces.source}"
    return faces


def seen_in(faces, training):
    """Which faces occur byte for byte among the training faces (rows of Usage Training if any): bool (n,)."""
    known = data.image_bytes(data.training_part(training).images)
    return np.isin(data.image_bytes(faces.images), known)


def load_networks(paths):
    """Load models of the seven expressions: a list of keras.Model; UserError for any other model."""
    networks = [models.load(path) for path in paths]
    for path, network in zip(paths, networks):
        if network.output_shape[-1] != len(data.CLASSES):
            raise UserError(f"{path} has {network.output_shape[-1]} classes; expected the 7 expressions "
                            + ", ".join(data.CLASSES))
    return networks


def probabilities(networks, images, tta="none"):
    """Class probabilities of faces, uint8 (n, 48, 48), averaged over networks, a list of keras.Model, and the
    views of test-time augmentation (Krizhevsky et al. 2012): float64 (n, 7), rows sum to 1."""
    count = -(-len(images) * VIEWS[tta] // VIEWS_AT_ONCE)
    parts = np.array_split(images, max(count, 1))  # even: two batch shapes are traced
    outputs = [predict_views(network, part, tta)
               for network, part in cli.track([*itertools.product(networks, parts)], "predicting")]
    return np.concatenate(outputs).reshape(len(networks), len(images), len(data.CLASSES)).mean(axis=0)


def predict_views(network, images, tta="none"):
    """The same of one network, without a progress bar: float64 (n, 7)."""
    return np.mean([to_probabilities(models.predict(network, view))
                    for view in views(images, tta, crop_shift(network))], axis=0)


def crop_shift(network):
    """By how many pixels of a 48x48 face ten-crop shifts: what the network's crop cuts off each side, so that
    one that sees the centre also sees the four corners; 4 for a network without a crop."""
    size = network.input_shape[1]
    for layer in network.layers:
        if isinstance(layer, (keras.layers.Cropping2D, keras.layers.CenterCrop)):
            return round((size - layer.output.shape[1]) / 2 * data.SIZE / size)
    return 4


def views(images, tta, shift):
    """Yield the views of test-time augmentation, arrays like `images` (n, h, w), the unchanged ones first.

    ten-crop: also shifted to the four corners by `shift` pixels; multi-scale: enlarged about the centre by
    SCALES, and shifted by SCALED_SHIFT pixels. Edges are repeated; except with tta none, also mirrored.
    """
    scales, shift = (SCALES, SCALED_SHIFT) if tta == "multi-scale" else ((1,), shift)
    corners = itertools.product((-shift, shift), repeat=2) if tta in ("ten-crop", "multi-scale") else ()
    middle = (np.array(images.shape[1:]) - 1) / 2
    for scale, corner in itertools.product(scales, [(0, 0), *corners]):
        view = images
        if scale != 1 or any(corner):
            first = middle - middle / scale + corner  # where in the image the view's first pixel lies
            view = ndimage.affine_transform(images.astype(np.float32), (1, 1 / scale, 1 / scale), (0, *first),
                                            order=1, mode="nearest")
        yield view
        if tta != "none":
            yield view[:, :, ::-1]


def warn_about_predictions(name, probabilities, labels):
    """Print a warning where nearly all faces get one class, or fewer are right than by chance: the range of
    the input or the order of the classes may be another than this suite's."""
    predicted = probabilities.argmax(axis=1)
    counts, true = np.bincount(predicted, minlength=7), np.bincount(labels, minlength=7)
    right = np.mean(predicted == labels)
    advice = "is its input 0-255, and are its classes in our order?"
    if counts.max() >= 0.9 * len(labels) > true.max():
        print(f"Warning: {name} takes {counts.max():,} of {len(labels):,} faces for "
              f"{data.CLASSES[counts.argmax()]}; {advice}")
    elif right < 1 / len(data.CLASSES):
        print(f"Warning: {name} is right on {100 * right:.1f} %, less than by chance; {advice}")


def surest_predictions(probabilities, faces):
    """Predictions (n, 7) of labelled Faces, the surest first, identical images of one label once: a DataFrame
    of row (of the face), true, predicted (codes) and confidence (0-1)."""
    table = pd.DataFrame({"row": range(len(faces)), "true": faces.labels,
                          "predicted": probabilities.argmax(axis=1),
                          "confidence": probabilities.max(axis=1).round(5),
                          "image": data.image_groups(faces.images)})
    table = table.sort_values("confidence", ascending=False, kind="stable")
    return table.drop_duplicates(["image", "true"]).drop(columns="image")
