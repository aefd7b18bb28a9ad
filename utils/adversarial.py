"""Adversarial faces: the smallest change of an image that turns its class."""

import dataclasses

import numpy as np

from utils.cli import UserError
from utils.feature_visualization import tensorflow


@dataclasses.dataclass
class Adversarial:
    """An image on the other side of the nearest class border: float32 (h, w), and the probabilities (k,) before and after.

    fgsm: the smallest sign-of-gradient step that turns the class, float32 (h, w), or None when none within the range does.
    """

    image: np.ndarray
    before: np.ndarray
    after: np.ndarray
    fgsm: np.ndarray | None


def adversarial(logits, image, value_range, candidates=10, max_steps=50, refinements=20):
    """The smallest change of a grey image that turns its class, in the L2 norm.

    logits: keras.Model giving logits; image: float (h, w); value_range: (low, high), which the changed image keeps to.
    DeepFool (Moosavi-Dezfooli et al. 2016) steps over the nearest of the linearised borders to the `candidates` likeliest
    classes; bisection then returns to the border, and steps along it towards the image keep what is nearer (as in Croce &
    Hein 2020). FGSM (Goodfellow et al. 2015) is bisected likewise, for comparison. Returns Adversarial. Raises UserError
    when no border is found, as where all gradients vanish.
    """
    tf = tensorflow()
    low, high = value_range
    image = np.asarray(image, np.float32)
    depth = logits.input_shape[-1]

    @tf.function(reduce_retracing=True)
    def values_and_gradients(grey, classes):
        batch = tf.repeat(grey[None], tf.shape(classes)[0], 0)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            values = tf.cast(logits(tf.repeat(batch[..., None], depth, -1), training=False), tf.float32)
            picked = tf.reduce_sum(values * tf.one_hot(classes, values.shape[-1]))
        return values[0], tape.gradient(picked, batch)

    def look(grey):
        values, gradients = values_and_gradients(tf.constant(grey), tf.constant(classes))
        return values.numpy(), gradients.numpy()

    def turned(grey):
        values = look(grey)[0]
        ahead = np.delete(values, own).max() - values[own]
        return ahead > 1e-4 * (values.max() - values.min())  # by more than rounding, or another batch size turns it back

    def probabilities(grey):
        values = np.exp((lambda v: v - v.max())(look(grey)[0].astype(np.float64)))
        return values / values.sum()

    def to_border(path, steps=18):
        """The nearest turned point of path(t), 0 < t <= 1, whose end is turned."""
        inside, outside = 0.0, 1.0
        for _ in range(steps):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if turned(path(middle)) else (middle, outside)
        return path(outside)

    def over_border(point, overshoot):
        """The point nearest to the image beyond the nearest border as linearised at `point` (the paper's equation 8)."""
        values, gradients = look(point)
        best = None
        for k in range(1, len(classes)):
            normal = (gradients[k] - gradients[0]).astype(np.float64)
            gap = float(values[own] - values[classes[k]]) + float((normal * (point - image)).sum())
            length = np.sqrt((normal ** 2).sum())
            if length > 1e-12 and (best is None or gap / length < best[0]):
                best = gap / length, normal / length
        if best is None:
            raise UserError("the gradient of every logit is zero at this image: no direction changes its class")
        return np.clip(image + (1 + overshoot) * (max(best[0], 0) + 1e-3) * best[1], low, high).astype(np.float32)

    classes = np.zeros(1, np.int32)
    classes = np.argsort(-look(image)[0]).astype(np.int32)[:candidates]
    own, point = int(classes[0]), image
    for step in range(max_steps):
        point = over_border(point, 0.02 * (step + 1))
        if turned(point):
            break
    else:
        raise UserError(f"no change of class found within {max_steps} steps of DeepFool")

    def straight(end):
        return lambda t: (image + t * (end - image)).astype(np.float32)

    best = to_border(straight(point))
    for _ in range(refinements):
        point = over_border(best, 0.02)
        if not turned(point):
            point = (image + (point - image) * 1.1).clip(low, high).astype(np.float32)
            if not turned(point):
                break
        point = to_border(straight(point))
        if np.linalg.norm(point - image) > 0.9999 * np.linalg.norm(best - image):
            break
        best = point
    gradients = look(image)[1]
    shares = probabilities(image)[classes]
    direction = np.sign(np.tensordot(shares, gradients, 1) - gradients[0]).astype(np.float32)  # of the cross-entropy
    reach = next((e for e in 2.0 ** np.arange(-6, 9) if turned((image + e * direction).clip(low, high))), None)
    fgsm = None if reach is None else to_border(lambda t: (image + t * reach * direction).clip(low, high).astype(np.float32))
    return Adversarial(best, probabilities(image), probabilities(best), fgsm)
