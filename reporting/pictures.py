"""The pictures of the page's interactive parts, ready for JSON."""

import base64
import io

import numpy as np
from PIL import Image

from explain import faithfulness
from explain.activation_maximization import ascend, canvas
from explain.receptive_field import patch, trace
from reporting.results import HOMEWORK_IMAGE, gradient_maps, layers_of
from utils import models
from utils.data import CLASSES, image_groups

FACES_IN_A_CELL = 16
SHARES = range(5, 101, 5)  # per cent of the area, the slider's positions
TILE = 48  # pixels that a filter's image and patches are at least enlarged to
MID_GREY = 128.0


def collect(subject, tables):
    """The pictures of all interactive parts of the page: {"confusion", "saliency", "filters"}.

    subject: `reporting.results.Subject`; tables: what filter_vis.py returned.
    """
    nodes = trace(subject.cnn)[1]
    return {"confusion": confusion_cells(subject.probabilities["cnn"], subject.evaluated),
            "saliency": saliency_faces(subject.logits, subject.training),
            "filters": [{"layer": layer, "tiles": filter_tiles(subject, layer, nodes[layer].field, tables)}
                        for layer in layers_of(tables)]}


def picture(pixels):
    """Grey pixels (h, w), 0-255, as a data URI of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def to_base64(array):
    """An array's bytes as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def confusion_cells(probabilities, faces):
    """The faces of each cell of the confusion matrix of which the network is surest, identical images once.

    probabilities: (n, 7); faces: labelled Faces. Returns {"TRUE-PREDICTED" codes: {"count", "strip": the
    faces side by side, "confidence": per cent of each}}.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    groups, cells = image_groups(faces.images), {}
    for true, code in np.ndindex(len(CLASSES), len(CLASSES)):
        rows = np.flatnonzero((faces.labels == true) & (predicted == code))
        if len(rows):
            distinct = rows[np.unique(groups[rows], return_index=True)[1]]
            surest = distinct[np.argsort(-confidence[distinct], kind="stable")][:FACES_IN_A_CELL]
            cells[f"{true}-{code}"] = {"count": len(rows), "strip": picture(np.hstack(faces.images[surest])),
                                       "confidence": np.rint(100 * confidence[surest]).astype(int).tolist()}
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
    kept = {
        share: faithfulness.probability_kept(logits, grey, codes, maps, share / 100)[1] for share in SHARES
    }
    ranks = faithfulness.ranks(maps).astype("<u2")
    scaled = 255 * maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30)
    return [{"height": grey.shape[1], "width": grey.shape[2], "number": int(row) + 1,
             "label": CLASSES[faces.labels[row]], "target": CLASSES[codes[i]],
             "grey": to_base64(grey[i].round().astype(np.uint8)), "rank": to_base64(ranks[i]),
             "strength": to_base64(scaled[i].astype(np.uint8)),
             "kept": {share: round(float(p[i]), 3) for share, p in kept.items()}}
            for i, row in enumerate(rows)]


def filter_tiles(subject, layer, field, tables):
    """Each filter of filter_vis.py's patches: its number, the image synthesised for its middle unit ("tile"),
    the data's best patches side by side and their activations."""
    best = tables[f"patches_{layer}"].groupby("filter", sort=False)
    place, tiles = canvas(subject.cnn, layer, "neuron"), []
    images = place.crop(ascend(place, list(best.groups)).images)
    for image, (channel, rows) in zip(images, best):
        faces = models.prepare(subject.training.images[rows["face"]], subject.cnn)[..., 0]
        units = rows[["y", "x"]].to_numpy()
        patches = [enlarge(patch(face, field, unit)) for face, unit in zip(faces, units)]
        tiles.append({"filter": int(channel), "tile": picture(enlarge(image)),
                      "patches": picture(np.hstack(patches)),
                      "activations": rows["activation"].astype(float).round(2).tolist()})
    return tiles


def enlarge(pixels):
    """Grey pixels (h, w) enlarged by a whole factor to at least TILE, on a square; NaN becomes mid-grey."""
    factor = -(-TILE // max(pixels.shape))
    large = np.nan_to_num(pixels, nan=MID_GREY).repeat(factor, 0).repeat(factor, 1)
    missing = [max(large.shape) - length for length in large.shape]
    return np.pad(large, [(n // 2, n - n // 2) for n in missing], constant_values=MID_GREY)
