"""Where a classifier looks: gradients, CAMs and perturbations, all on logits, batched, compiled and seeded.

Every method takes a model of logits (`logits_model`), grey faces and targets, and gives one map a face:

    maps = attribute(model, images, targets, "grad-cam")

images:  uint8 or float (n, h, w), grey, 0-255, of the model's input size (`utils.models.prepare` resizes)
targets: int (n,), the class whose logit is explained; or float (n, classes), weights of a sum of logits, as
         `contrastive` gives them
maps:    float32 (n, h, w), finite; a map of zeros only is blank (`is_blank`). Derivatives are with respect to the grey
         level, also where a network takes the face in three equal channels.

TensorFlow only: Keras has no gradient that works on every backend.
"""

import functools
import inspect
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from utils import models
from utils.cli import Progress, UserError
from utils.feature_visualization import batch_limit

FILLS = ("black", "mean", "blurred")
POINTS = 64 * 48 * 48  # pixels in one forward and backward pass; more is no faster
BLUR = 1 / 8  # standard deviation of the blurred fill as a share of the image's width


def attribute(model, images, targets, method, **options):
    """One map a face by one method, a name in METHODS or CONTROLS; see the module's head for shapes and ranges."""
    return attribute_all(model, images, targets, [method], **options)[method]


def attribute_all(model, images, targets, methods, **options):
    """{method: maps} for several methods; what methods share (noisy gradients, one backward pass for CAMs) is done once.

    Each method takes the options that it knows and passes over the others', so that one set serves all.
    """
    images = np.asarray(images, np.float32)
    weights = target_weights(targets, model.output_shape[-1])
    found = {}
    for function in dict.fromkeys({**METHODS, **CONTROLS}[method] for method in methods):
        known = inspect.signature(function).parameters
        found |= function(model, images, weights, **{k: v for k, v in options.items() if k in known})
    return {method: np.nan_to_num(found[method].astype(np.float32)) for method in methods}


def target_weights(targets, classes):
    """Targets as float32 (n, classes), one weight a logit: class codes become rows of one 1."""
    targets = np.asarray(targets)
    return targets.astype(np.float32) if targets.ndim == 2 else np.eye(classes, dtype=np.float32)[targets]


def logits_model(model):
    """`utils.models.logits_model`, but a binary classifier's single logit z becomes two, -z/2 and z/2: their softmax is the
    sigmoid of z, and each class has a gradient."""
    logits = models.logits_model(model)
    if logits.output_shape[-1] > 1:
        return logits
    halves = [layers.Rescaling(half, name=name)(logits.outputs[0])
              for half, name in ((-0.5, "minus_half_logit"), (0.5, "half_logit"))]
    both = layers.Concatenate(name="both_logits")(halves)
    return keras.Model(logits.inputs, both, name=model.name)


def contrastive(logits):
    """Targets that explain the largest logit minus the runner-up: logits (n, classes) -> float32 (n, classes)."""
    order = np.argsort(-logits, axis=1)
    first, second = (target_weights(order[:, i], logits.shape[1]) for i in (0, 1))
    return first - second


def is_blank(maps):
    """Which maps say nothing, being equal everywhere: maps (n, h, w) -> bool (n,)."""
    return np.ptp(maps.reshape(len(maps), -1), axis=1) == 0


def filled(images, kind):
    """What stands for "no information": images (n, h, w) -> float32 (n, h, w), all black, each face's mean, or blurred."""
    images = np.asarray(images, np.float32)
    if kind == "black":
        return np.zeros_like(images)
    if kind == "mean":
        return np.broadcast_to(images.mean((1, 2), keepdims=True), images.shape).copy()

    def smoothing(size):
        x = np.arange(size)
        kernel = np.exp(-0.5 * ((x[:, None] - x) / (BLUR * images.shape[2])) ** 2)
        return (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)

    return smoothing(images.shape[1]) @ images @ smoothing(images.shape[2]).T


# ---- compiled passes ------------------------------------------------------------------------------------------


def score(model, grey, weights):
    """Inside a graph: grey (n, h, w), weights (n, classes) -> the explained sum of logits, (n,)."""
    faces = tf.repeat(grey[..., None], model.input_shape[-1], axis=-1)
    return tf.reduce_sum(tf.cast(model(faces, training=False), tf.float32) * weights, axis=-1)


@functools.lru_cache(maxsize=32)
def gradient_pass(model):
    @tf.function(jit_compile=False)
    def run(grey, weights):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(grey)
            total = score(model, grey, weights)
        return tape.gradient(total, grey)

    return run


@tf.RegisterGradient("GuidedRelu")
def guided_relu(operation, gradient):
    open_ = operation.outputs[0] > 0
    if operation.type == "Relu6":
        open_ &= operation.outputs[0] < 6
    return tf.where(open_ & (gradient > 0), gradient, tf.zeros_like(gradient))


@functools.lru_cache(maxsize=32)
def guided_pass(model):
    maps, several = tf.TensorSpec((None, *model.input_shape[1:3])), tf.TensorSpec((None, None))

    @tf.function(jit_compile=False, input_signature=[maps, several])
    def run(grey, weights):
        # The override acts on the operations of the graph, so no kind of ReLU layer and no nesting can be missed.
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({"Relu": "GuidedRelu", "Relu6": "GuidedRelu"}):
            total = score(model, grey, weights)
        if not any(operation.type in ("Relu", "Relu6") for operation in graph.get_operations()):
            raise UserError("guided-backprop changes the gradient of ReLU, and this model has none; use gradient")
        return tf.gradients(total, grey)[0]

    return run


@functools.lru_cache(maxsize=32)
def cam_pass(model, layer):
    """The maps of `cams` in the cells of `layer`, four of (n, rows, columns)."""
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.outputs[0]])

    @tf.function(jit_compile=False)
    def run(grey, weights):
        faces = tf.repeat(grey[..., None], model.input_shape[-1], axis=-1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(faces)
            features, logits = both(faces, training=False)
            total = tf.reduce_sum(tf.cast(logits, tf.float32) * weights)
        slope = tape.gradient(total, features, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        features, slope = tf.cast(features, tf.float32), tf.cast(slope, tf.float32)
        square = slope**2
        bottom = 2 * square + tf.reduce_sum(features, (1, 2), keepdims=True) * square * slope
        alpha = tf.math.divide_no_nan(square, bottom)
        weighted = (tf.reduce_mean(slope, (1, 2), keepdims=True) * features,
                    tf.reduce_sum(alpha * tf.nn.relu(slope), (1, 2), keepdims=True) * features,
                    tf.nn.relu(slope) * features,
                    slope * features)
        return tuple(tf.nn.relu(tf.reduce_sum(maps, -1)) for maps in weighted)

    return run


@functools.lru_cache(maxsize=32)
def masked_pass(model):
    """Scores of pairs (face, mask) given by their numbers, so that a pass may hold the masks of several faces."""
    maps, several = tf.TensorSpec((None, *model.input_shape[1:3])), tf.TensorSpec((None,), tf.int64)

    @tf.function(jit_compile=False, input_signature=[several, several, maps, maps, maps, tf.TensorSpec((None, None))])
    def run(face, mask, faces, fills, masks, weights):
        shown = tf.gather(fills, face) + tf.gather(masks, mask) * tf.gather(faces - fills, face)
        return score(model, shown, tf.gather(weights, face))

    return run


@functools.lru_cache(maxsize=32)
def features_pass(model, layer):
    features = keras.Model(model.inputs, model.get_layer(layer).output)

    @tf.function(jit_compile=False, input_signature=[tf.TensorSpec((None, *model.input_shape[1:3]))])
    def run(grey):
        faces = tf.repeat(grey[..., None], model.input_shape[-1], axis=-1)
        return tf.cast(features(faces, training=False), tf.float32)

    return run


@functools.lru_cache(maxsize=32)
def channel_pass(model):
    """Scores of pairs (face, channel): the face seen through that channel's feature map, stretched over it and scaled to
    0-1; also whether the stretched map varies at all. rows and columns: as `placement` gives them."""
    maps, several, matrix = (tf.TensorSpec((None,) * 3), tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, None)))

    @tf.function(jit_compile=False, input_signature=[several, several, tf.TensorSpec((None,) * 4), maps, maps, *[matrix] * 3])
    def run(face, channel, features, faces, fills, weights, rows, columns):
        chosen = tf.gather_nd(tf.transpose(features, (0, 3, 1, 2)), tf.stack([face, channel], 1))
        stretched = tf.einsum("ph,nhw,qw->npq", rows, chosen, columns)
        low = tf.reduce_min(stretched, (1, 2), keepdims=True)
        span = tf.reduce_max(stretched, (1, 2), keepdims=True) - low
        mask = tf.math.divide_no_nan(stretched - low, span)
        shown = tf.gather(fills, face) + mask * tf.gather(faces - fills, face)
        shown = tf.ensure_shape(shown, (None, *model.input_shape[1:3]))
        return score(model, shown, tf.gather(weights, face)), span[:, 0, 0] > 0

    return run


def in_chunks(function, arrays, size, label=""):
    """Run `function` over the rows of `arrays`, `size` at a time, the last chunk padded so that one graph serves all."""
    results = []
    size = min(size, len(arrays[0]))
    for start in Progress(range(0, len(arrays[0]), max(size, 1)), label):
        parts = [array[start:start + size] for array in arrays]
        real = len(parts[0])
        parts = [np.concatenate([part, np.repeat(part[-1:], size - real, axis=0)]) for part in parts]
        made = function(*(tf.constant(part) for part in parts))
        results.append([m.numpy()[:real] for m in (made if isinstance(made, tuple) else (made,))])
    results = [np.concatenate(column) for column in zip(*results)]
    return results[0] if len(results) == 1 else results


def chunk(model):
    """How many faces fit one forward and backward pass through `model`: POINTS pixels, and 1 GB of what its layers hold."""
    return batch_limit(model, max(1, POINTS // math.prod(model.input_shape[1:3])))


def gradients_at(model, points, weights):
    """Gradients at several points a face: points (n, s, h, w), weights (n, classes) -> (n, s, h, w)."""
    flat = points.reshape(-1, *points.shape[2:])
    made = in_chunks(gradient_pass(model), [flat, np.repeat(weights, points.shape[1], axis=0)], chunk(model))
    return made.reshape(points.shape)


# ---- gradients ------------------------------------------------------------------------------------------------


def gradient(model, images, weights):
    """`gradient`: d logit / d grey level, signed (Simonyan et al. 2014). `gradient-x-input`: the same times the grey level
    (Shrikumar et al. 2017), in logits, signed."""
    made = in_chunks(gradient_pass(model), [images, weights], chunk(model), "gradient")
    return {"gradient": made, "gradient-x-input": made * images}


def noisy_gradient(model, images, weights, samples=32, noise=0.15, seed=0):
    """Gradients at `samples` copies with Gaussian noise, whose standard deviation is `noise` times the face's range of grey.

    `smoothgrad`: their mean, signed (Smilkov et al. 2017); `squaregrad`: mean square (Hooker et al. 2019); `vargrad`:
    variance (Adebayo et al. 2018), both >= 0.
    """
    together = max(1, chunk(model) // samples)
    mean, square = np.empty_like(images), np.empty_like(images)
    for start in Progress(range(0, len(images), together), "smoothgrad"):
        part = images[start:start + together]
        draws = np.stack([np.random.default_rng([seed, start + i]).standard_normal((samples, *face.shape), np.float32)
                          for i, face in enumerate(part)])
        spread = noise * np.ptp(part, axis=(1, 2))
        made = gradients_at(model, part[:, None] + spread[:, None, None, None] * draws, weights[start:start + together])
        mean[start:start + together], square[start:start + together] = made.mean(1), (made**2).mean(1)
    return {"smoothgrad": mean, "squaregrad": square, "vargrad": np.maximum(square - mean**2, 0)}


def check(model, methods, layer=None):
    """Raise UserError where `model` cannot be explained by one of `methods`, before any face is looked at: class activation
    maps need convolutions (and `layer`, if named, among them), guided-backprop a ReLU."""
    if layer or any(METHODS[method] in (cams, score_cam) for method in methods):
        cam_layer(model, layer)
    if "guided-backprop" in methods:
        guided_pass(model).get_concrete_function()


def integrated_gradients(model, images, weights, steps=64, baseline="black"):
    """`integrated-gradients`: mean gradient on the way from a baseline times the way (Sundararajan et al. 2017).

    Midpoint rule with `steps` points; baseline as in FILLS. In logits, signed; `completeness_error` says how exact.
    """
    start_from = filled(images, baseline)
    along = ((np.arange(steps, dtype=np.float32) + 0.5) / steps)[None, :, None, None]
    together = max(1, chunk(model) // steps)
    maps = np.empty_like(images)
    for start in Progress(range(0, len(images), together), "integrated gradients"):
        rows = slice(start, start + together)
        base, way = start_from[rows, None], (images[rows] - start_from[rows])[:, None]
        maps[rows] = gradients_at(model, base + along * way, weights[rows]).mean(1) * way[:, 0]
    return {"integrated-gradients": maps}


def completeness_error(model, images, targets, maps, baseline="black"):
    """How far integrated gradients miss the difference of the logits that they must add up to: float (n,), in logits."""
    images = np.asarray(images, np.float32)
    weights = target_weights(targets, model.output_shape[-1])
    there, base = (models.predict(model, faces) for faces in (images, filled(images, baseline)))
    return np.abs(maps.sum((1, 2)) - ((there - base) * weights).sum(1))


def guided_backprop(model, images, weights):
    """`guided-backprop`: the gradient with every ReLU passing back positive values only (Springenberg et al. 2015), signed.

    It draws the face's edges whatever the network has learnt (Adebayo et al. 2018; Nie et al. 2018): compare, do not
    conclude. Raises UserError for a model without ReLU.
    """
    return {"guided-backprop": in_chunks(guided_pass(model), [images, weights], chunk(model), "guided-backprop")}


# ---- class activation maps ------------------------------------------------------------------------------------


def spatial_layers(model):
    """Names of the layers whose outputs are feature maps of a convolution, from input to output."""
    names, seen = [], False
    for layer in model.layers:
        seen = seen or "Conv" in type(layer).__name__
        shape = getattr(layer.output, "shape", ())
        if seen and len(shape) == 4 and shape[1] != 1 and shape[2] != 1:
            names.append(layer.name)
    return names


def cam_layer(model, name=None):
    """The layer that CAMs look at: `name`, else what ends the last stage of convolutions, after its normalisation and ReLU.

    Raises UserError, listing the choices, for a layer that does not exist and for a model without convolutions.
    """
    names = spatial_layers(model)
    if not names:
        raise UserError(f"{model.name} has no convolutions, so no class activation maps; methods for any model: "
                        + ", ".join(m for m in METHODS if METHODS[m] not in (cams, score_cam)))
    if name is not None:
        if name not in names:
            raise UserError(f"{model.name} has no layer {name!r} with feature maps; choose one of {', '.join(names)}")
        return name
    passing = ("Pooling", "Dropout", "Padding", "Crop", "Reshape", "Permute", "Identity", "UpSampling")
    ends = [n for n in names if not any(word in type(model.get_layer(n)).__name__ for word in passing)]
    return ends[-1]


@functools.lru_cache(maxsize=32)
def placement(model, layer, axis):
    """Where the feature maps of `layer` lie in the face: float32 (pixels, cells), rows interpolate cells linearly to pixels.

    Feature maps that are stretched to the whole face lie askew by several pixels where a network crops its input or
    convolves without padding. Pixels that a crop removes get rows of zeros. axis: 1 (height) or 2 (width).
    """
    size = model.inputs[0].shape[axis]
    known = {id(model.inputs[0]): (0.0, 1.0, -0.5, size - 0.5)}  # first cell's centre, distance of cells, first and last edge
    for operation in model.operations:
        for node in operation._inbound_nodes:
            inputs = [x for x in node.input_tensors if id(x) in known and len(x.shape) == 4]
            if not inputs:
                continue
            # Where branches meet, one that was pooled to a single cell tells nothing about place.
            before = max(inputs, key=lambda x: x.shape[axis])
            for after in node.output_tensors if hasattr(node, "output_tensors") else node.outputs:
                if len(after.shape) == 4:
                    known[id(after)] = moved(operation, before.shape[axis], after.shape[axis], known[id(before)], axis)
    output = model.get_layer(layer).output
    start, step, low, high = known[id(output)]
    cells, pixels = output.shape[axis], np.arange(size)
    exact = (pixels - start) / step
    at = np.clip(exact, 0, cells - 1)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0)
    fade = np.clip(1.5 - np.abs(exact - at), 0, 1)  # beyond its own width the outermost cell says less and less
    return (weights * (fade * (pixels >= low) * (pixels <= high))[:, None]).astype(np.float32)


def moved(operation, size, new_size, place, axis):
    """The place of a layer's output cells, as in `placement`, from that of its input cells."""
    start, step, low, high = place
    config = operation.get_config() if isinstance(operation, layers.Layer) else {}
    kernel, one = config.get("kernel_size") or config.get("pool_size"), axis - 1
    if kernel and "Transpose" not in type(operation).__name__ and "Global" not in type(operation).__name__:
        stride = (config["strides"] or kernel)[one]
        width = (kernel[one] - 1) * config.get("dilation_rate", (1, 1))[one] + 1
        padding = max((new_size - 1) * stride + width - size, 0) // 2 if config["padding"] == "same" else 0
        return start + ((width - 1) / 2 - padding) * step, stride * step, low, high
    if isinstance(operation, layers.ZeroPadding2D):
        return start - operation.padding[one][0] * step, step, low, high
    if isinstance(operation, (layers.CenterCrop, layers.Cropping2D)) and new_size <= size:
        cut = (size - new_size) // 2 if isinstance(operation, layers.CenterCrop) else operation.cropping[one][0]
        start += cut * step
        return start, step, max(low, start - step / 2), min(high, start + (new_size - 0.5) * step)
    ratio = size / new_size  # equal sizes, or stretched as a whole
    return start + (ratio - 1) / 2 * step, ratio * step, low, high


def cams(model, images, weights, layer=None):
    """`grad-cam` (Selvaraju et al. 2017), `grad-cam++` (Chattopadhyay et al. 2018), `layer-cam` (Jiang et al. 2021) and
    `hires-cam` (Draelos and Carin 2020) from one backward pass to `layer`: >= 0, after the final ReLU, interpolated."""
    layer = cam_layer(model, layer)
    rows, columns = placement(model, layer, 1), placement(model, layer, 2)
    made = in_chunks(cam_pass(model, layer), [images, weights], chunk(model), "grad-cam")
    return {name: rows @ maps @ columns.T for name, maps in zip(("grad-cam", "grad-cam++", "layer-cam", "hires-cam"), made)}


# ---- perturbations --------------------------------------------------------------------------------------------


def masked_scores(model, images, masks, weights, fill, label):
    """Scores of each face (n, h, w) seen through each mask (m, h, w) in [0, 1], `fill` where they are 0: float32 (n, m)."""
    known = [tf.constant(x) for x in (images, filled(images, fill), masks, weights)]
    run, pairs = masked_pass(model), np.divmod(np.arange(len(images) * len(masks)), len(masks))
    scores = in_chunks(lambda face, mask: run(face, mask, *known), pairs, 2 * chunk(model), label)
    return scores.reshape(len(images), len(masks))


def score_cam(model, images, weights, layer=None, fill="mean"):
    """`score-cam`: feature maps weighted by the softmax over channels of the logit with only that map's pixels left, >= 0
    (Wang et al. 2020). One forward pass a channel; channels that are constant have no map and no weight."""
    layer = cam_layer(model, layer)
    rows, columns = placement(model, layer, 1), placement(model, layer, 2)
    maps, together = np.zeros_like(images), chunk(model)
    for start in Progress(range(0, len(images), together), "score-cam"):
        part = slice(start, start + together)
        features = features_pass(model, layer)(tf.constant(images[part])).numpy()
        shares = channel_shares(model, features, images[part], filled(images[part], fill), weights[part], rows, columns)
        maps[part] = np.maximum(rows @ np.einsum("nhwc,nc->nhw", features, shares) @ columns.T, 0)
    return {"score-cam": maps}


def channel_shares(model, features, *known):
    """Softmax over channels of the scores that `channel_pass` gives, 0 for channels without a map: float (n, channels)."""
    pairs = np.nonzero(features.any((1, 2)))  # a channel that is silent on a face needs no pass
    shares = np.zeros((len(features), features.shape[-1]))
    if len(pairs[0]):
        run, known = channel_pass(model), [tf.constant(x) for x in (features, *known)]
        scores, varies = in_chunks(lambda face, channel: run(face, channel, *known), pairs, 2 * chunk(model))
        scored = np.full_like(shares, -np.inf)
        scored[pairs] = np.where(varies, scores, -np.inf)
        rows = np.isfinite(scored).any(1)
        shares[rows] = np.exp(scored[rows] - scored[rows].max(1, keepdims=True))
        shares[rows] /= shares[rows].sum(1, keepdims=True)
    return shares


def occlusion(model, images, weights, patch=8, stride=4, fill="mean"):
    """`occlusion`: how far the logit falls where a patch is filled, mean over the patches on a pixel; in logits, signed
    (Zeiler and Fergus 2014). Patches start every `stride` pixels (at most `patch`), the last ones flush with the edge, so
    each hides the same area."""
    _, height, width = images.shape
    y, x = np.arange(height), np.arange(width)
    tops, lefts = (np.union1d(np.arange(0, n - patch, stride), max(n - patch, 0)) for n in (height, width))
    on_row = (y >= tops[:, None]) & (y < tops[:, None] + patch)
    on_column = (x >= lefts[:, None]) & (x < lefts[:, None] + patch)
    hidden = (on_row[:, None, :, None] & on_column[None, :, None, :]).reshape(-1, height, width).astype(np.float32)
    masks = np.concatenate([np.ones((1, height, width), np.float32), 1 - hidden])
    scores = masked_scores(model, images, masks, weights, fill, "occlusion")
    return {"occlusion": np.tensordot(scores[:, :1] - scores[:, 1:], hidden, 1) / hidden.sum(0)}


def rise(model, images, weights, masks=1000, cells=6, seed=0, fill="mean"):
    """`rise`: how the logit varies with a pixel's being seen through random masks of `cells` x `cells`, half open; signed
    (Petsiuk et al. 2018). The mean score is taken off first, so a pixel that does not matter is near zero."""
    _, height, width = images.shape
    rng, drawn = np.random.default_rng([seed, 1]), np.empty((masks, height, width), np.float32)
    for mask in drawn:
        grid = (rng.uniform(size=(cells + 2, cells + 2)) < 0.5).astype(np.float32)
        sides = []
        for size in (height, width):
            at = np.arange(size) * cells / size + rng.uniform()
            sides.append(np.maximum(1 - np.abs(at[:, None] - np.arange(cells + 2)), 0).astype(np.float32))
        mask[:] = sides[0] @ grid @ sides[1].T
    centred = (drawn - drawn.mean(0)) / np.maximum(drawn.var(0), 1e-6) / masks
    scores = masked_scores(model, images, drawn, weights, fill, "rise")
    return {"rise": np.tensordot(scores - scores.mean(1, keepdims=True), centred, 1)}


# ---- controls -------------------------------------------------------------------------------------------------


def controls(model, images, weights, seed=0):
    """Maps that know nothing of the network, which any method must beat: `random` uniform in [0, 1), `edges`, the size of the
    Sobel gradient, and `centre`, a Gaussian in the middle with a quarter of the width as standard deviation. All >= 0."""
    _, height, width = images.shape
    noise = np.stack([np.random.default_rng([seed, 2, i]).uniform(size=(height, width)) for i in range(len(images))])
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    edges = np.hypot(smooth[:, 2:] - smooth[:, :-2], down[:, :, 2:] - down[:, :, :-2])
    y, x = np.linspace(-2, 2, height)[:, None], np.linspace(-2, 2, width)
    centre = np.broadcast_to(np.exp(-(y**2 + x**2) / 2), images.shape)
    return {"random": noise, "edges": edges, "centre": centre}


METHODS = {
    "gradient": gradient, "gradient-x-input": gradient, "smoothgrad": noisy_gradient, "squaregrad": noisy_gradient,
    "vargrad": noisy_gradient, "integrated-gradients": integrated_gradients, "guided-backprop": guided_backprop,
    "grad-cam": cams, "grad-cam++": cams, "layer-cam": cams, "hires-cam": cams, "score-cam": score_cam,
    "occlusion": occlusion, "rise": rise,
}
CONTROLS = {"random": controls, "edges": controls, "centre": controls}
FOR_THE_CLASS = ("occlusion", "rise")  # below zero speaks against the class; of the other signed maps the size counts


def strength(maps, method):
    """How much each pixel matters, for ranking and, cut at zero, for drawing: the size of a map, but the map itself where
    a negative value speaks against the class. Maps (n, h, w) -> float32 (n, h, w)."""
    return maps if method in FOR_THE_CLASS else np.abs(maps)
