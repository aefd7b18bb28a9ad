"""Adversarial faces: the smallest change of an image that turns its class."""

import dataclasses

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from utils.cli import UserError

LOW, HIGH = 0.0, 255.0  # grey levels that a changed face keeps to
CANDIDATES = 10  # likeliest classes whose borders are tried
MAX_STEPS = 50  # of DeepFool until the class turns
REFINEMENTS = 20  # steps along the border towards the image
BISECTIONS = 18
OVERSHOOT = 0.02


@dataclasses.dataclass
class Adversarial:
    """An image on the other side of the nearest class border: float32 (h, w), and the probabilities (k,)
    before and after.

    fgsm: the smallest sign-of-gradient step that turns the class, float32 (h, w), or None when none within
    the range does.
    """

    image: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fgsm: np.ndarray | None


class Borders:
    """The borders between a face's class and the others: logits, their gradients, and the ways over a
    border."""

    def __init__(self, logits, image):
        self.image = np.asarray(image, np.float32)
        depth = logits.input_shape[-1]

        @tf.function(reduce_retracing=True)
        def values_and_gradients(grey, classes):
            batch = tf.repeat(grey[None], tf.shape(classes)[0], 0)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(batch)
                values = tf.cast(logits(tf.repeat(batch[..., None], depth, -1), training=False), tf.float32)
                picked = tf.reduce_sum(values * tf.one_hot(classes, values.shape[-1]))
            return values[0], tape.gradient(picked, batch)

        self.values_and_gradients = values_and_gradients
        self.classes = np.zeros(1, np.int32)
        self.classes = np.argsort(-self.forward(self.image)[0]).astype(np.int32)[:CANDIDATES]
        self.own = int(self.classes[0])

    def forward(self, grey):
        """Logits (k,) of a face (h, w), and the gradients (candidates, h, w) of the candidates' logits."""
        values, gradients = self.values_and_gradients(tf.constant(grey), tf.constant(self.classes))
        return values.numpy(), gradients.numpy()

    def probabilities(self, grey):
        return softmax(self.forward(grey)[0].astype(np.float64))

    def is_turned(self, grey):
        """Whether another class is ahead: by more than rounding, or another batch size turns it back."""
        values = self.forward(grey)[0]
        return np.delete(values, self.own).max() - values[self.own] > 1e-4 * (values.max() - values.min())

    def bisect(self, path):
        """The nearest turned point of path(t), 0 < t <= 1, whose end is turned."""
        inside, outside = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if self.is_turned(path(middle)) else (middle, outside)
        return path(outside)

    def bisect_to(self, end):
        """The nearest turned point on the straight way from the image to `end`."""
        return self.bisect(lambda t: (self.image + t * (end - self.image)).astype(np.float32))

    def step_over(self, point, overshoot):
        """The point nearest to the image beyond the nearest border as linearised at `point` (the paper's
        equation 8)."""
        values, gradients = self.forward(point)
        best = np.inf, None
        for other, slope in zip(self.classes[1:], gradients[1:]):
            normal = (slope - gradients[0]).astype(np.float64)
            length = np.linalg.norm(normal)
            gap = float(values[self.own] - values[other]) + float((normal * (point - self.image)).sum())
            if length > 1e-12 and gap / length < best[0]:
                best = gap / length, normal / length
        distance, direction = best
        if direction is None:
            raise UserError("the gradient of every logit is zero at this image: no way changes its class")
        change = (1 + overshoot) * (max(distance, 0) + 1e-3) * direction
        return np.clip(self.image + change, LOW, HIGH).astype(np.float32)


def adversarial(logits, image):
    """The smallest change of a grey image that turns its class, in the L2 norm.

    logits: keras.Model giving logits; image: float (h, w), 0-255. DeepFool (Moosavi-Dezfooli et al. 2016)
    steps over the nearest of the linearised borders to the likeliest classes; bisection then returns to the
    border, and steps along it towards the image keep what is nearer (as in Croce & Hein 2020). FGSM
    (Goodfellow et al. 2015) is bisected likewise, for comparison. Returns Adversarial. Raises UserError when
    no border is found, as where all gradients vanish.
    """
    borders = Borders(logits, image)
    best = refined(borders, deep_fool(borders))
    before = borders.probabilities(borders.image)
    return Adversarial(best, before, borders.probabilities(best), fgsm(borders, before[borders.classes]))


def deep_fool(borders):
    """A point beyond a border, float32 (h, w), by steps over the nearest linearised one."""
    point = borders.image
    for step in range(MAX_STEPS):
        point = borders.step_over(point, OVERSHOOT * (step + 1))
        if borders.is_turned(point):
            return point
    raise UserError(f"no change of class found within {MAX_STEPS} steps of DeepFool")


def refined(borders, point):
    """The nearest point of the border, float32 (h, w), by steps along it from a turned point while they come
    nearer."""
    image, best = borders.image, borders.bisect_to(point)
    for _ in range(REFINEMENTS):
        point = borders.step_over(best, OVERSHOOT)
        if not borders.is_turned(point):
            point = (image + (point - image) * 1.1).clip(LOW, HIGH).astype(np.float32)
            if not borders.is_turned(point):
                break
        point = borders.bisect_to(point)
        if np.linalg.norm(point - image) > 0.9999 * np.linalg.norm(best - image):
            break
        best = point
    return best


def fgsm(borders, shares):
    """The smallest turned step along the sign of the cross-entropy's gradient, or None; shares: the
    candidates'."""
    gradients = borders.forward(borders.image)[1]
    direction = np.sign(np.tensordot(shares, gradients, 1) - gradients[0]).astype(np.float32)

    def step(size):
        return (borders.image + size * direction).clip(LOW, HIGH).astype(np.float32)

    reach = next((size for size in 2.0 ** np.arange(-6, 9) if borders.is_turned(step(size))), None)
    return None if reach is None else borders.bisect(lambda t: step(t * reach))
