"""What the page's interactive parts show, ready for JSON: faces of confusion cells, saliency maps, patches of filters."""

import base64
import io

import numpy as np

from utils import attribution, attribution_checks, evaluation, models
from utils import feature_visualization as fv
from utils.data import CLASSES, SIZE, image_groups
from utils.report_results import read_rows

FACES_IN_A_CELL = 16
SHARES = range(5, 101, 5)  # per cent of the area, the slider's positions
ZOOM = 48  # pixels that a filter's tile and patches are at least enlarged to


def picture(strip):
    """Grey pixels (h, w), 0-255, as a data URI of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.clip(np.round(strip), 0, 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def packed(array):
    """An array's bytes, little-endian, as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def confusion_cells(probabilities, faces):
    """{"true-predicted" codes: {"count", "strip": faces side by side as a data URI, "confidence": per cent of each}}.

    The faces of a cell that the network is surest of, identical images once. probabilities: (n, 7); faces: labelled Faces.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    groups, cells = image_groups(faces.images), {}
    for true in range(len(CLASSES)):
        for taken in range(len(CLASSES)):
            rows = np.flatnonzero((faces.labels == true) & (predicted == taken))
            if not len(rows):
                continue
            first = rows[np.unique(groups[rows], return_index=True)[1]]
            best = first[np.argsort(-confidence[first], kind="stable")][:FACES_IN_A_CELL]
            cells[f"{true}-{taken}"] = {"count": len(rows), "strip": picture(np.hstack(faces.images[best])),
                                        "confidence": [round(100 * float(c)) for c in confidence[best]]}
    return cells


def saliency_faces(logits, faces, first=15):
    """The homework's training image and the first of each class, for the slider: a list of dicts.

    number: of the training image, counted from 1; label: class; target: the predicted class; grey: base64 uint8 (48, 48);
    strength: base64 uint8, 255 the most salient; rank: base64 uint16, 0 the most salient; kept: {per cent of the area kept:
    probability of the target}. logits: keras.Model; faces: the training faces.
    """
    rows = [first]
    for code in range(len(CLASSES)):
        rows += [row for row in np.flatnonzero(faces.labels == code)[:2] if row not in rows][:1]
    grey = models.prepare(faces.images[rows], logits)[..., 0]
    codes = attribution_checks.probabilities(logits, grey).argmax(1)
    values = attribution.strength(attribution.attribute(logits, grey, codes, "gradient"), "gradient")
    kept = {share: attribution_checks.kept(logits, grey, codes, values, share / 100)[1] for share in SHARES}
    ranks = attribution_checks.ranks(values).astype("<u2")
    size = {"height": grey.shape[1], "width": grey.shape[2]}
    return [size | {"number": int(row) + 1, "label": CLASSES[faces.labels[row]], "target": CLASSES[codes[i]],
                    "grey": packed(grey[i].round().astype(np.uint8)), "rank": packed(ranks[i]),
                    "strength": packed((255 * values[i] / max(values[i].max(), 1e-30)).astype(np.uint8)),
                    "kept": {share: round(float(p[i]), 3) for share, p in kept.items()}} for i, row in enumerate(rows)]


def enlarged(patch):
    """A patch (h, w) by whole pixels to at least ZOOM and on a square; what lies outside the face is mid-grey."""
    times = -(-ZOOM // max(patch.shape))
    big = np.nan_to_num(patch, nan=128.0).repeat(times, 0).repeat(times, 1)
    room = np.full((max(big.shape),) * 2, 128.0)
    top, left = ((len(room) - n) // 2 for n in big.shape)
    room[top:top + big.shape[0], left:left + big.shape[1]] = big
    return room


def filter_tiles(path, layers, faces):
    """Of each layer, the filters that filter_vis.py's patches show: [{"layer", "tiles": [{"filter", "tile", "patches",
    "activations"}]}]. tile: the image synthesised for the filter's middle unit; patches: the data's best, side by side."""
    model, found = fv.unfolded(models.load(path)), []
    size = model.input_shape[1] or SIZE, model.input_shape[2] or SIZE
    _, nodes = fv.trace(model, size)
    for layer in layers:
        best = {}
        sheet = models.FIGURES / f"{path.stem}_patches_{layer}.csv"
        for row in read_rows(sheet) if sheet.exists() else []:
            best.setdefault(int(row["filter"]), []).append(row)
        if not best:
            continue
        canvas = fv.canvas(model, size, layer, "neuron")
        ascent = fv.ascend(canvas.network, list(best), canvas.size, (0.0, 255.0), "neuron", 1, canvas.unit)
        (top, left), (bottom, right) = canvas.box
        tiles = []
        for image, (channel, rows) in zip(ascent.images, best.items()):
            patches = [patch_of(faces.images[int(row["face"])], nodes[layer].field, (int(row["y"]), int(row["x"])), model)
                       for row in rows]
            tiles.append({"filter": channel, "tile": picture(enlarged(image[top:bottom, left:right])),
                          "patches": picture(np.hstack([enlarged(patch) for patch in patches])), "count": len(patches),
                          "activations": [round(float(row["activation"]), 2) for row in rows]})
        found.append({"layer": layer, "tiles": tiles})
    return found


def patch_of(image, field, unit, model):
    """The part of a face (h, w) that a unit sees, NaN outside the face; all of it where `field` is None."""
    face = models.prepare(image[None], model)[0, ..., 0]
    if field is None:
        return face
    (top, left), (bottom, right) = field.box(unit)
    padded = np.full((bottom - top, right - left), np.nan, np.float32)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, face.shape[0]), min(right, face.shape[1])
    padded[y0 - top:y1 - top, x0 - left:x1 - left] = face[y0:y1, x0:x1]
    return padded


def own_probabilities(path, faces):
    """Class probabilities of the model at `path` for faces: float64 (n, 7)."""
    return evaluation.probabilities(evaluation.load_networks([path]), faces.images)
