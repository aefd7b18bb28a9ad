"""The pictures of the page's interactive parts, ready for JSON."""

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from explain import faithfulness
from reporting.results import HOMEWORK_IMAGE, gradient_maps
from utils.data import CLASSES, image_groups

FACES_IN_A_CELL = 16
SHARES = range(5, 101, 5)  # per cent of the area, the slider's positions


def to_base64(data):
    """Bytes or an array's bytes as base64."""
    return base64.b64encode(data).decode()


def confusion_cells(probabilities, faces):
    """The faces of each cell of the confusion matrix of which the network is surest, identical images once.

    probabilities: (n, 7); faces: labelled Faces. Returns {"TRUE-PREDICTED" codes: {"count", "strip": the
    faces side by side as PNG, "confidence": per cent of each}}.
    """
    answers = pd.DataFrame({"true": faces.labels, "predicted": probabilities.argmax(axis=1),
                            "image": image_groups(faces.images), "confidence": probabilities.max(axis=1)})
    cells = {}
    for (true, predicted), answers_of_cell in answers.groupby(["true", "predicted"]):
        distinct = answers_of_cell.drop_duplicates("image")
        surest = distinct.sort_values("confidence", ascending=False, kind="stable").head(FACES_IN_A_CELL)
        strip = io.BytesIO()
        Image.fromarray(np.hstack(faces.images[surest.index])).save(strip, "PNG", optimize=True)
        cells[f"{true}-{predicted}"] = {
            "count": len(answers_of_cell), "strip": to_base64(strip.getvalue()),
            "confidence": np.rint(100 * surest["confidence"]).astype(int).tolist()}
    return cells


def saliency_faces(logits, faces):
    """The homework's training image and the first of each class, for the slider: a list of dicts.

    number: of the training image, counted from 1; label: class; target: the predicted class; grey: uint8 (48,
    48); strength: uint8, 255 the most salient; rank: uint16, 0 the most salient; kept: {per cent of the area
    kept: probability of the target}. logits: keras.Model; faces: the training faces.
    """
    rows = [HOMEWORK_IMAGE]
    for code in range(len(CLASSES)):
        rows += [row for row in np.flatnonzero(faces.labels == code)[:2] if row not in rows][:1]
    grey, codes, maps = gradient_maps(logits, faces.images[rows])
    kept = {share: faithfulness.probability_kept(logits, grey, codes, maps, share / 100)[1]
            for share in SHARES}
    ranks = faithfulness.ranks(maps).astype("<u2")
    scaled = 255 * maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30)
    return [{"number": int(row) + 1, "label": CLASSES[faces.labels[row]], "target": CLASSES[codes[i]],
             "grey": to_base64(grey[i].round().astype(np.uint8)), "rank": to_base64(ranks[i]),
             "strength": to_base64(scaled[i].astype(np.uint8)),
             "kept": {share: round(float(p[i]), 3) for share, p in kept.items()}}
            for i, row in enumerate(rows)]
