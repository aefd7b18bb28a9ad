"""The faces to explain, what a network of logits makes of them, and whose logit is explained."""

import dataclasses

import numpy as np
import pandas as pd
from scipy.special import softmax

from explain import attribution
from utils import data, models
from utils.cli import UserError


def probabilities(model, images):
    """Class probabilities of grey faces: images (n, h, w), 0-255 -> float32 (n, classes), rows sum to 1."""
    return softmax(models.predict(model, images), axis=1)


def training_faces(model, path=None, index=None):
    """The training Faces of a file (see `data.find_data`), and the rows of those to explain, int (n,): index,
    or of the first 100 faces the one that the model is surest of and, where labels are known, gets right.
    Raises UserError for a row that does not exist."""
    faces = data.training_part(data.find_data(path))
    if index is not None:
        if max(index) >= len(faces):
            raise UserError(f"--index {max(index)} is out of range; {faces.source} has training images 0 to "
                            f"{len(faces) - 1}")
        return faces, np.array(index)
    first = faces.take(slice(100))
    p = probabilities(model, first.images)
    is_right = False if first.labels is None else p.argmax(1) == first.labels
    return faces, np.array([(p.max(1) + is_right).argmax()])  # where none is right, the surest


@dataclasses.dataclass(frozen=True)
class Subjects:
    """Faces and what of each is explained. table: one row per face: true ("" where the labels are not the
    network's classes), predicted and target (names), p_predicted and p_whole (of these two, 0-1)."""

    grey: np.ndarray  # float32 (n, h, w), 0-255, as the network sees them
    targets: np.ndarray  # what `attribution.attribute` explains: class codes, or weights of the logits
    codes: np.ndarray  # int (n,), the class whose probability is measured
    table: pd.DataFrame


def choose_targets(model, faces, target="predicted", needs_labels=False):
    """Subjects of Faces. target: predicted, true, contrastive (predicted minus runner-up) or a class's name.
    Raises UserError where `target` or `needs_labels` asks for labels that there are not."""
    classes, labels = np.array(models.class_names(model)), faces.labels
    if labels is not None and labels.max() >= len(classes):
        labels = None
    if labels is None and (target == "true" or needs_labels):
        have = "no labels" if faces.labels is None else f"{faces.labels.max() + 1} classes"
        raise UserError(f"{faces.source} has {have} and {model.name} tells {len(classes)} apart; "
                        "--target true and --mean-maps need labels of the model's classes")
    grey = models.prepare(faces.images, model)[..., 0]
    logits = models.predict(model, grey)
    p, predicted = softmax(logits.astype(float), axis=1), logits.argmax(1)
    codes = labels if target == "true" else predicted
    if target in classes:
        codes = np.full(len(grey), list(classes).index(target))
    targets = attribution.contrastive(logits) if target == "contrastive" else codes
    table = pd.DataFrame({
        "true": "" if labels is None else classes[labels], "predicted": classes[predicted],
        "target": pd.Series(classes[codes]) + " - runner-up" * (target == "contrastive"),
        "p_predicted": p.max(1), "p_whole": p[np.arange(len(p)), codes]})
    return Subjects(grey, targets, codes, table)
