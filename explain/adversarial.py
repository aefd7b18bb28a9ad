"""Adversarial faces: the smallest change of an image that turns its class."""

import numpy as np
from scipy.special import softmax

from explain.attribution import gradient_pass
from utils import models
from utils.cli import UserError

LOW, HIGH = 0.0, 255.0  # grey levels that a changed face keeps to
MAX_STEPS = 80  # of DeepFool until the class turns
BISECTIONS = 18
MAX_LEVELS = 32  # that a pixel of the face in whole grey levels may be changed by
OVERSHOOT = 0.02  # of the first step; a tenth more in each, or the way to a far border never ends


def adversarial(logits, image):
    """Small changes of a grey face that turn its class: (exact, whole, fgsm), faces (h, w).

    logits: keras.Model giving logits; image: (h, w), whole numbers 0-255. exact: float32, the smallest found
    in the L2 norm: DeepFool (Moosavi-Dezfooli et al. 2016) steps over the nearest of the linearised borders,
    and bisection returns to the border. whole: uint8, the same in whole grey levels, as an image file holds
    them. fgsm: uint8, the smallest step along the sign of the gradient (Goodfellow et al. 2015), for
    comparison. The last two are None where none turns the class. Raises UserError when no border is found, as
    where all gradients vanish.
    """
    borders = Borders(logits, np.asarray(image, np.float32))
    exact = borders.bisect_to(deep_fool(borders))
    return exact, in_whole_levels(borders, exact), fgsm(borders)


class Borders:
    """The borders between the class of a face, float32 (h, w), and the other classes."""

    def __init__(self, logits, image):
        self.logits, self.image = logits, image
        self.own = self.values(image).argmax()

    def values(self, grey):
        """Logits (classes,) of a face (h, w)."""
        return models.predict(self.logits, grey[None])[0]

    def gradients(self, grey):
        """Gradients (classes, h, w) of the logits of a face (h, w)."""
        each = np.eye(self.logits.output_shape[-1], dtype=np.float32)
        return gradient_pass(self.logits)(np.repeat(grey[None], len(each), 0), each).numpy()

    def is_turned(self, grey):
        """Whether another class is ahead: by more than rounding, or another batch size turns it back."""
        values = self.values(grey)
        return np.delete(values, self.own).max() - values[self.own] > 1e-4 * np.ptp(values)

    def bisect_to(self, end):
        """The nearest turned point on the straight way from the image to `end`, which is turned."""
        inside, outside, way = 0.0, 1.0, end - self.image
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            turned = self.is_turned(self.image + middle * way)
            inside, outside = (inside, middle) if turned else (middle, outside)
        return self.image + outside * way

    def first_turned(self, faces):
        """The first of `faces` (h, w) that is turned when it has whole grey levels: uint8 (h, w), or None."""
        whole = (np.rint(face.clip(LOW, HIGH)).astype(np.uint8) for face in faces)
        return next((face for face in whole if self.is_turned(face)), None)

    def step_over(self, point, overshoot):
        """The point nearest to the image beyond the nearest border as linearised at `point`. The paper adds
        its steps up, each from the point before; here the image itself is projected anew each time."""
        values, gradients = self.values(point), self.gradients(point)
        normals = (gradients - gradients[self.own]).astype(np.float64)
        lengths = np.linalg.norm(normals, axis=(1, 2))
        gaps = values[self.own] - values + (normals * (point - self.image)).sum((1, 2))
        others = np.flatnonzero(lengths > 1e-12)
        if not len(others):
            raise UserError("the gradient of every logit is zero at this image: no way changes its class")
        nearest = others[(gaps[others] / lengths[others]).argmin()]
        distance = max(gaps[nearest] / lengths[nearest], 0) + 1e-3
        change = (1 + overshoot) * distance * normals[nearest] / lengths[nearest]
        return np.clip(self.image + change, LOW, HIGH).astype(np.float32)


def deep_fool(borders):
    """A point beyond a border, float32 (h, w), by steps over the nearest linearised one."""
    point = borders.image
    for step in range(MAX_STEPS):
        point = borders.step_over(point, OVERSHOOT * 1.1**step)
        if borders.is_turned(point):
            return point
    raise UserError(f"no change of class found within {MAX_STEPS} steps of DeepFool")


def in_whole_levels(borders, point):
    """A turned face of whole grey levels, uint8 (h, w), or None: the change to `point`, made larger until it
    survives rounding, which takes away all that is smaller than half a level."""
    change = point - borders.image
    farthest = max(2, MAX_LEVELS / np.abs(change).max())
    return borders.first_turned(borders.image + factor * change for factor in np.geomspace(1, farthest, 100))


def fgsm(borders):
    """The smallest turned step along the sign of the cross-entropy's gradient, uint8 (h, w), or None."""
    gradients, probabilities = borders.gradients(borders.image), softmax(borders.values(borders.image))
    direction = np.sign(np.tensordot(probabilities, gradients, 1) - gradients[borders.own])
    return borders.first_turned(borders.image + size * direction for size in range(1, int(HIGH) + 1))
