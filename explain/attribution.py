"""Where a classifier looks: gradients, class activation maps and perturbations, on logits, batched, seeded.

Every method takes a model of logits (`utils.structure`), grey faces and targets, and gives one map per face:

    maps = attribute(model, images, targets, "grad-cam")

images:  uint8 or float (n, h, w), grey, 0-255, of the model's input size (`utils.models.prepare` resizes)
targets: int (n,), the class whose logit is explained; or float (n, classes), weights of a sum of logits, as
         `contrastive` gives them
maps:    float32 (n, h, w), finite; a map of zeros only is blank (`is_blank`). Derivatives are with respect
         to the grey level, also where a network takes the face in three equal channels.

A method is a function (model, images, weights, its options) -> {name: maps} and a row of METHODS below, named
in saliency.py's docstring. weights: float32 (n, classes), of the sum of logits that is explained; options
arrive by the names of the function's parameters.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy import ndimage
from scipy.special import softmax

from explain import batch_size, receptive_field
from utils import cli, models
from utils.cli import UserError

FILLS = ("black", "mean", "blurred")


def attribute(model, images, targets, method, **options):
    """One map per face by one method, a name in METHODS or CONTROLS; see the module's docstring."""
    return attribute_all(model, images, targets, [method], **options)[method]


def attribute_all(model, images, targets, methods, **options):
    """{method: maps} for several methods; what they share (noisy gradients, one backward pass for CAMs) is
    done once. Each takes the options that it knows and passes over the others', so one set serves all."""
    images = np.asarray(images, np.float32)
    weights = target_weights(targets, model.output_shape[-1])
    maps = {}
    for function in dict.fromkeys((METHODS | CONTROLS)[method].function for method in methods):
        known = inspect.signature(function).parameters
        maps |= function(model, images, weights, **{k: v for k, v in options.items() if k in known})
    return {method: np.nan_to_num(maps[method].astype(np.float32)) for method in methods}


def strength(maps, method):
    """How much each pixel matters, for ranking and, cut at zero, for drawing: the size of maps (n, h, w), or
    the maps themselves where below zero is against the class."""
    return maps if (METHODS | CONTROLS)[method].is_evidence else np.abs(maps)


def is_blank(maps):
    """Which maps tell nothing, being equal everywhere: maps (n, h, w) -> bool (n,)."""
    return np.ptp(maps.reshape(len(maps), -1), axis=1) == 0


def problem(model, method):
    """What `model` lacks that `method` needs (convolutions or a ReLU) in one line, or ""."""
    try:
        if METHODS[method].family == "class activation":
            cam_layer(model)
        if method == "guided-backprop":
            gradient_pass(model, guided=True).get_concrete_function()
    except UserError as error:
        return str(error)
    return ""


def target_weights(targets, classes):
    """Targets as float32 (n, classes), one weight a logit: class codes become rows of one 1."""
    targets = np.asarray(targets)
    return targets.astype(np.float32) if targets.ndim == 2 else np.eye(classes, dtype=np.float32)[targets]


def contrastive(logits):
    """Targets that explain the largest logit minus the runner-up: logits -> float32, (n, classes) each."""
    first, second, *_ = np.argsort(-logits, axis=1).T
    return target_weights(first, logits.shape[1]) - target_weights(second, logits.shape[1])


def filled(images, kind):
    """What stands for "no information": images (n, h, w) -> float32 (n, h, w), one of FILLS."""
    images = np.asarray(images, np.float32)
    if kind == "black":
        return np.zeros_like(images)
    if kind == "mean":
        return np.full_like(images, images.mean((1, 2), keepdims=True))
    deviation = images.shape[2] / 8
    blurred, weight = (ndimage.gaussian_filter(x, (0, deviation, deviation), mode="constant", truncate=8)
                       for x in (images, np.ones_like(images[:1])))
    return blurred / weight  # beyond the border there is nothing, and nothing weighs nothing


def in_channels(model, grey):
    """Inside a graph: grey faces (n, h, w) in each of the model's input channels, (n, h, w, channels)."""
    return tf.repeat(grey[..., None], model.input_shape[-1], axis=-1)


def compiled(model):
    """A decorator: compile a pass over faces (n, h, w) and weights (n, classes), one graph for any n."""
    faces, weights = tf.TensorSpec((None, *model.input_shape[1:3])), tf.TensorSpec((None, None))
    # AutoGraph would turn a UserError of the pass into one of many lines
    return tf.function(jit_compile=False, autograph=False, input_signature=[faces, weights])


@tf.RegisterGradient("GuidedRelu")
def guided_relu(operation, gradient):
    passed = operation.outputs[0] > 0
    if operation.type == "Relu6":
        passed &= operation.outputs[0] < 6
    return tf.where(passed & (gradient > 0), gradient, tf.zeros_like(gradient))


@functools.lru_cache(maxsize=32)
def gradient_pass(model, guided=False):
    """The gradients (n, h, w) of the weighted logits. guided: every ReLU passes back positive values only."""
    @compiled(model)
    def run(grey, weights):
        # The override acts on the operations of the graph, so no kind of ReLU layer can be missed.
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({"Relu": "GuidedRelu", "Relu6": "GuidedRelu"} if guided else {}):
            logits = model(in_channels(model, grey), training=False)
        if guided and not any(operation.type in ("Relu", "Relu6") for operation in graph.get_operations()):
            raise UserError("guided-backprop changes the gradient of ReLU; this model has none; use gradient")
        return tf.gradients(tf.cast(logits, tf.float32) * weights, grey)[0]

    return run


@functools.lru_cache(maxsize=32)
def cam_pass(model, layer):
    """The maps of `cams` in the cells of `layer`: {method: (n, rows, columns)}."""
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])

    @compiled(model)
    def run(grey, weights):
        features, logits = both(in_channels(model, grey), training=False)
        slope, = tf.gradients(tf.cast(logits, tf.float32) * weights, features, unconnected_gradients="zero")
        features, slope = tf.cast(features, tf.float32), tf.cast(slope, tf.float32)
        square = slope ** 2
        bottom = 2 * square + tf.reduce_sum(features, (1, 2), keepdims=True) * square * slope
        alpha = tf.math.divide_no_nan(square, bottom)
        channel_weights = {
            "grad-cam": tf.reduce_mean(slope, (1, 2), keepdims=True),
            "grad-cam++": tf.reduce_sum(alpha * tf.nn.relu(slope), (1, 2), keepdims=True),
            "layer-cam": tf.nn.relu(slope),
            "hires-cam": slope}
        return {method: tf.nn.relu(tf.reduce_sum(weight * features, -1))
                for method, weight in channel_weights.items()}

    return run


def in_chunks(run, images, weights, label=""):
    """A compiled pass over faces (n, h, w) and weights ([n,] classes), in batches; label: of a bar."""
    weights = np.broadcast_to(weights, (len(images), weights.shape[-1]))
    size = batch_size(images.shape[1:])
    starts = range(0, len(images), size)
    parts = [run(tf.constant(images[start:start + size]), tf.constant(weights[start:start + size]))
             for start in (cli.track(starts, label) if label else starts)]
    return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def gradient(model, images, weights):
    """`gradient`: d logit / d grey level, signed (Simonyan et al. 2014). `gradient-x-input`: the same times
    the grey level (Shrikumar et al. 2017), in logits, signed."""
    maps = in_chunks(gradient_pass(model), images, weights, "gradient")
    return {"gradient": maps, "gradient-x-input": maps * images}


def noisy_gradient(model, images, weights, samples=32, noise=0.15, seed=0):
    """Gradients at `samples` copies with Gaussian noise of a standard deviation of `noise` times the face's
    range of grey. `smoothgrad`: their mean, signed (Smilkov et al. 2017); `squaregrad`: their mean square
    (Hooker et al. 2019); `vargrad`: their variance (Adebayo et al. 2018), both >= 0."""
    mean, square = np.empty((2, *images.shape), np.float32)
    for i, face in cli.track(list(enumerate(images)), "smoothgrad"):
        change = np.random.default_rng([seed, i]).standard_normal((samples, *face.shape), np.float32)
        maps = in_chunks(gradient_pass(model), face + noise * np.ptp(face) * change, weights[i])
        mean[i], square[i] = maps.mean(0), (maps ** 2).mean(0)
    return {"smoothgrad": mean, "squaregrad": square, "vargrad": np.maximum(square - mean ** 2, 0)}


def integrated_gradients(model, images, weights, baseline="black", steps=64, most_steps=1024):
    """`integrated-gradients`: mean gradient on the way from a baseline (one of FILLS) times the way, by the
    midpoint rule; in logits, signed (Sundararajan et al. 2017). The points, `steps`, are doubled up to
    `most_steps` until a map's sum is within 5 % of the difference of the logits, to which it must add up."""
    bases = filled(images, baseline)
    there, base = (models.predict(model, faces) for faces in (images, bases))
    differences = ((there - base) * weights).sum(1)
    maps = np.empty_like(images)
    for i, face in cli.track(list(enumerate(images)), "integrated gradients"):
        way = face - bases[i]
        points, missed = steps, np.inf
        while missed > 0.05 * abs(differences[i]) and points <= max(steps, most_steps):
            shares = ((np.arange(points, dtype=np.float32) + 0.5) / points)[:, None, None]
            maps[i] = in_chunks(gradient_pass(model), bases[i] + shares * way, weights[i]).mean(0) * way
            missed, points = abs(maps[i].sum() - differences[i]), 2 * points
    return {"integrated-gradients": maps}


def guided_backprop(model, images, weights):
    """`guided-backprop`: the gradient with every ReLU passing back positive values only (Springenberg et al.
    2015), signed. It gives the face's edges whatever the network has learnt (Adebayo et al. 2018; Nie et al.
    2018): compare, do not conclude. Raises UserError for a model without ReLU."""
    run = gradient_pass(model, guided=True)
    return {"guided-backprop": in_chunks(run, images, weights, "guided-backprop")}


def cam_layer(model, name=None):
    """Name of the layer that CAMs use: `name`, else what ends the last convolution stage; or UserError."""
    maps = itertools.dropwhile(lambda layer: not isinstance(layer, receptive_field.CONVOLUTIONS),
                               map(model.get_layer, receptive_field.fields(model)))
    names = [layer.name for layer in maps if 1 not in layer.output.shape[1:3]]
    if not names:
        others = [name for name, method in METHODS.items() if method.family != "class activation"]
        raise UserError(f"{model.name} has no convolutions, so no class activation maps; "
                        f"methods for any model: {', '.join(others)}")
    if name is not None and name not in names:
        raise UserError(f"{model.name} has no layer {name!r} with feature maps; "
                        f"choose one of {', '.join(names)}")
    return name or receptive_field.stage_ends(model)[-1]


def cams(model, images, weights, layer=None):
    """`grad-cam` (Selvaraju et al. 2017), `grad-cam++` (Chattopadhyay et al. 2018), `layer-cam` (Jiang et al.
    2021) and `hires-cam` (Draelos and Carin 2020) from one pass back to `layer`: >= 0 (ReLU), upsampled."""
    layer = cam_layer(model, layer)
    several = in_chunks(cam_pass(model, layer), images, weights, "grad-cam")
    field, size = receptive_field.fields(model)[layer], images.shape[1:]
    return {method: receptive_field.upsample(maps, field, size) for method, maps in several.items()}


def score_cam(model, images, weights, layer=None, fill="mean"):
    """`score-cam`: feature maps weighted by the softmax over channels of the logit with only that map's
    pixels left, >= 0 (Wang et al. 2020). Channels that are constant have no map and no weight."""
    layer = cam_layer(model, layer)
    features = keras.Model(model.inputs[0], model.get_layer(layer).output)
    fills, field, result = filled(images, fill), receptive_field.fields(model)[layer], np.zeros_like(images)
    for i, face in cli.track(list(enumerate(images)), "score-cam"):
        channels = np.moveaxis(models.predict(features, face[None])[0], -1, 0)
        maps = receptive_field.upsample(channels, field, face.shape)
        low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
        # Of the channels themselves: upsampled, a constant one differs from the zeros of the margins
        varies = (np.ptp(channels, axis=(1, 2)) > 0) & (high > low)[:, 0, 0]
        if varies.any():
            masks = (maps[varies] - low[varies]) / (high - low)[varies]
            shares = softmax(masked_scores(model, face, fills[i], masks, weights[i]))
            result[i] = np.maximum(np.tensordot(shares, maps[varies], 1), 0)
    return {"score-cam": result}


def masked_scores(model, face, fill, masks, weight):
    """Weighted logits of a face (h, w) through masks (m, h, w), 1 face, 0 `fill` (h, w): float32 (m,)."""
    return models.predict(model, fill + masks * (face - fill)) @ weight


def occlusion(model, images, weights, patch=8, stride=4, fill="mean"):
    """`occlusion`: how far the logit falls where a patch is filled, mean over the patches on a pixel; in
    logits, signed (Zeiler and Fergus 2014). Patches start every `stride` pixels (at most `patch`), the last
    ones flush with the edge, so each hides the same area."""
    _, height, width = images.shape
    sides = []
    for pixels in (height, width):
        starts = np.union1d(np.arange(0, pixels - patch, stride), max(pixels - patch, 0))[:, None]
        sides.append((np.arange(pixels) >= starts) & (np.arange(pixels) < starts + patch))
    hidden = sides[0][:, None, :, None] & sides[1][None, :, None, :]
    hidden = hidden.reshape(-1, height, width).astype(np.float32)
    masks = np.concatenate([np.ones((1, height, width), np.float32), 1 - hidden])
    fills, maps = filled(images, fill), np.empty_like(images)
    for i, face in cli.track(list(enumerate(images)), "occlusion"):
        whole, *scores = masked_scores(model, face, fills[i], masks, weights[i])
        maps[i] = np.tensordot(whole - scores, hidden, 1) / hidden.sum(0)
    return {"occlusion": maps}


def rise(model, images, weights, masks=1000, cells=6, seed=0, fill="mean"):
    """`rise`: how the logit varies with a pixel's being seen through random masks of `cells` x `cells`, half
    open; signed (after Petsiuk et al. 2018). Not their mean logit where the pixel is seen, but the slope of
    the logit over the mask's value there (covariance by variance): near zero where that does not matter."""
    size = images.shape[1:]
    rng, random = np.random.default_rng([seed, 1]), np.empty((masks, *size), np.float32)
    for mask in random:
        grid = (rng.uniform(size=(cells + 2, cells + 2)) < 0.5).astype(np.float32)
        at = [(np.arange(pixels) * cells / pixels + rng.uniform())[:, None] for pixels in size]
        rows, columns = (np.maximum(1 - np.abs(x - np.arange(cells + 2)), 0).astype(np.float32) for x in at)
        mask[:] = rows @ grid @ columns.T
    centred = (random - random.mean(0)) / np.maximum(random.var(0), 1e-6) / masks
    fills, maps = filled(images, fill), np.empty_like(images)
    for i, face in cli.track(list(enumerate(images)), "rise"):
        scores = masked_scores(model, face, fills[i], random, weights[i])
        maps[i] = np.tensordot(scores - scores.mean(), centred, 1)
    return {"rise": maps}


def controls(model, images, weights, seed=0):
    """Maps that know nothing of the network, which any method must beat, >= 0: `random` uniform in [0, 1),
    `edges`, the size of the Sobel gradient, and `centre`, a Gaussian of a quarter of the width."""
    _, height, width = images.shape
    noise = [np.random.default_rng([seed, 2, i]).uniform(size=(height, width)) for i in range(len(images))]
    edges = [np.hypot(*(ndimage.sobel(face, axis, mode="nearest") for axis in (0, 1))) for face in images]
    y, x = np.linspace(-2, 2, height)[:, None], np.linspace(-2, 2, width)
    centre = np.broadcast_to(np.exp(-(y ** 2 + x ** 2) / 2), images.shape)
    return {"random": np.array(noise), "edges": np.array(edges), "centre": centre}


class Method(NamedTuple):
    """A row of METHODS or CONTROLS."""

    function: Callable
    family: str  # gradient, guided, class activation, perturbation or control
    unit: str = ""  # of the colours of a drawn map
    is_evidence: bool = False  # below zero is against the class, and so neither drawn nor kept by a mask


METHODS = {
    "gradient": Method(gradient, "gradient", "|d logit / d grey level|"),
    "gradient-x-input": Method(gradient, "gradient", "gradient x grey level (logits)", True),
    "smoothgrad": Method(noisy_gradient, "gradient", "|mean gradient| (logits per grey level)"),
    "squaregrad": Method(noisy_gradient, "gradient", "mean squared gradient"),
    "vargrad": Method(noisy_gradient, "gradient", "variance of the gradient"),
    "integrated-gradients": Method(integrated_gradients, "gradient", "share of the logit (logits)", True),
    "guided-backprop": Method(guided_backprop, "guided", "|guided gradient|"),
    "grad-cam": Method(cams, "class activation", "weighted activation"),
    "grad-cam++": Method(cams, "class activation", "weighted activation"),
    "layer-cam": Method(cams, "class activation", "weighted activation"),
    "hires-cam": Method(cams, "class activation", "weighted activation"),
    "score-cam": Method(score_cam, "class activation", "weighted activation"),
    "occlusion": Method(occlusion, "perturbation", "fall of the logit", True),
    "rise": Method(rise, "perturbation", "rise of the logit", True),
}
SLOW = ("score-cam", "occlusion", "rise")  # they ask the network hundreds of times a face
CONTROLS = {name: Method(controls, "control") for name in ("random", "edges", "centre")}
