"""Feature visualisation: images synthesised to excite a filter, and the data that excite it.

Images are grey, float32, in the range of the faces given (0-255); a network with several input channels sees the grey
image in each. Gradients need the TensorFlow backend; nothing is compiled with XLA, which slows this down on a CPU.
"""

import dataclasses
import functools
import math

import keras
import numpy as np
from keras import layers

from utils import models, training
from utils.cli import UserError

DECAY = 1.5  # amplitude falls as frequency ** -DECAY: between white noise (0) and smoother than a photograph (2)
BRIGHTNESS = 1.5  # bound of the mean before the sigmoid, in standard deviations: dark or bright, never blank
LEARNING_RATE = 0.05  # of Adam, on the standardised spectrum
SCALE, DEGREES, SHIFT = 0.1, 7.0, 4.0  # the random transforms of a 48 px canvas, either way
NOISE = 0.02  # standard deviation of the noise added at each step, as a share of the image's range
LEAK = 0.01  # slope below zero in the channel objective while it is climbed: what is silent still says which way is up
LEAST_CANVAS = 24  # pixels: room for a texture to repeat, where the receptive field is smaller still
ELEMENTWISE = (layers.InputLayer, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.BatchNormalization,
               layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout,
               layers.Rescaling, layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum,
               layers.Minimum, layers.Concatenate)
CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)


def tensorflow():
    """The TensorFlow module. Raises UserError when Keras runs on another backend: gradients here are TensorFlow's."""
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"filter visualisation needs Keras on TensorFlow, not on {keras.backend.backend()}; "
                        "run it with KERAS_BACKEND=tensorflow")
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")  # a graph for each layer is meant; TensorFlow warns of the fifth
    return tensorflow


# ---- the network's graph ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a map's units look, per axis (y, x): unit i sees pixels [start + i * jump, start + i * jump + size).

    origin and extent: first pixel and size of what a central crop leaves of the image (0 and all of it without one).
    """

    size: tuple
    jump: tuple
    start: tuple
    origin: tuple
    extent: tuple

    def box(self, unit):
        """Pixels that `unit` (y, x) sees, borders included: ((top, left), (bottom, right))."""
        low = tuple(s + u * j for s, u, j in zip(self.start, unit, self.jump))
        return low, tuple(a + n for a, n in zip(low, self.size))


@dataclasses.dataclass
class Node:
    """One call of a layer: symbolic input tensors, output, the value before its ReLU, and its Field (None: whole image)."""

    layer: keras.layers.Layer
    inputs: list
    output: object
    before: object
    field: Field | None


def trace(model, size, targets=(), cropped=False):
    """Lay a model's graph open for an input of `size` (height, width), nested models included.

    Returns the symbolic input (None, height, width, channels) and {layer name: Node} in order of computation; `flat_copy`
    names the layers of nested models. Of the layers in `targets`, a ReLU inside the layer is split off, so that `before`
    is known. cropped: leave central crops out, for a canvas cut to fit.
    """
    model = unfolded(model)
    image = keras.Input((*size, model.input_shape[-1] or 1), name="canvas")
    nodes, fields = {}, {id(image): Field((1, 1), (1, 1), (0, 0), (0, 0), tuple(size))}

    def call(layer, *args, **kwargs):
        inputs = [x for x in keras.tree.flatten([args, kwargs]) if isinstance(x, keras.KerasTensor)]
        name = layer.name
        if cropped and isinstance(layer, layers.CenterCrop):
            output = before = inputs[0]
        elif name in targets and getattr(layer, "activation", None) is keras.activations.relu and layer.weights:
            linear = type(layer).from_config(layer.get_config() | {"activation": "linear"})
            linear.build(inputs[0].shape)
            linear.set_weights(layer.get_weights())
            before = linear(*args, **kwargs)
            output = keras.ops.relu(before)
        else:
            output = layer(*args, **kwargs)
            before = inputs[0] if is_relu(layer) else output
        field = field_after(layer, inputs, output, [fields.get(id(x)) for x in inputs]) if inputs else None
        if isinstance(output, keras.KerasTensor):
            fields[id(output)] = fields[id(before)] = field
            nodes[name] = Node(layer, inputs, output, before, field)
        return output

    model._run_through_graph([image], operation_fn=lambda layer: functools.partial(call, layer))
    return image, nodes


def unfolded(model):
    """The model itself where it is a plain functional one, else a functional copy of it without nested models."""
    if any(isinstance(layer, keras.Model) for layer in model.layers):
        return models.flat_copy(model)
    return model if hasattr(model, "_run_through_graph") else keras.Model(model.inputs, model.outputs, name=model.name)


def is_relu(layer):
    """Whether a layer is a rectifier and nothing else."""
    return isinstance(layer, (layers.ReLU, layers.LeakyReLU)) or (
        isinstance(layer, layers.Activation) and layer.activation in (keras.activations.relu, keras.activations.relu6))


def field_after(layer, inputs, output, before):
    """The Field of a layer's output from those of its inputs (Araujo et al. 2019), or None when it may see the whole image."""
    if not before or None in before or len(getattr(output, "shape", ())) != 4 or isinstance(layer, layers.PReLU):
        return None
    field = before[0]
    ins, outs = inputs[0].shape[1:3], output.shape[1:3]
    if isinstance(layer, ELEMENTWISE):
        if any(other.jump != field.jump or other.origin != field.origin or x.shape[1:3] != outs
               for x, other in zip(inputs, before)) or getattr(layer, "axis", -1) not in (-1, 3):
            return None
        start = tuple(min(f.start[i] for f in before) for i in (0, 1))
        end = tuple(max(f.start[i] + f.size[i] for f in before) for i in (0, 1))
        return dataclasses.replace(field, start=start, size=tuple(e - s for s, e in zip(start, end)))
    if isinstance(layer, layers.CenterCrop):
        if field.size != (1, 1) or any(o > i for i, o in zip(ins, outs)):
            return None
        start = tuple((i - o) // 2 for i, o in zip(ins, outs))
        return dataclasses.replace(field, start=start, origin=start, extent=outs)
    if isinstance(layer, layers.ZeroPadding2D):
        start = tuple(s - p[0] * j for s, p, j in zip(field.start, layer.padding, field.jump))
        return dataclasses.replace(field, start=start)
    if isinstance(layer, CONVOLUTIONS + POOLINGS):
        kernel = layer.pool_size if isinstance(layer, POOLINGS) else layer.kernel_size
        kernel = tuple((k - 1) * d + 1 for k, d in zip(kernel, getattr(layer, "dilation_rate", (1, 1))))
        strides, same = layer.strides, layer.padding == "same"
        padding = tuple(max((o - 1) * s + k - i, 0) // 2 if same else 0 for i, o, s, k in zip(ins, outs, strides, kernel))
        return dataclasses.replace(
            field, size=tuple(n + (k - 1) * j for n, k, j in zip(field.size, kernel, field.jump)),
            jump=tuple(j * s for j, s in zip(field.jump, strides)),
            start=tuple(a - p * j for a, p, j in zip(field.start, padding, field.jump)))
    return None


def feature_layers(nodes):
    """Names of the layers that give maps (n, h, w, channels): what can be visualised."""
    return [name for name, node in nodes.items() if len(node.output.shape) == 4]


def first_convolution(nodes):
    """The first convolution of a traced network, a Keras layer. Raises UserError without any."""
    for node in nodes.values():
        if isinstance(node.layer, CONVOLUTIONS):
            return node.layer
    raise UserError(f"the model has no convolution; its layers are {', '.join(nodes)}")


def stage_activations(nodes):
    """Names of the layers that end each convolution stage: the last rectified map before a pooling or stride, and the last.

    A stage is a run of maps that no layer has shrunk to two thirds or less; it needs a convolution to count. Where a stage
    has no activation, its last convolution or normalisation stands for it. Raises UserError without any convolution.
    """
    stages, size, found = [], None, None
    for name, node in nodes.items():
        if len(node.output.shape) != 4 or node.output.shape[1] == 1:
            continue
        if size is None or node.output.shape[1] * 3 <= size * 2:
            size, found = node.output.shape[1], {}
            stages.append(found)
        found["size"] = size
        if isinstance(node.layer, CONVOLUTIONS) or "convolution" in found:
            inside = getattr(node.layer, "activation", None) not in (None, keras.activations.linear)
            if isinstance(node.layer, (*CONVOLUTIONS, layers.BatchNormalization)):
                found["convolution"] = name
            if inside or is_relu(node.layer) or isinstance(node.layer, (layers.ELU, layers.PReLU)):
                found["activation"] = name
    ends = [stage.get("activation", stage["convolution"]) for stage in stages if "convolution" in stage]
    if not ends:
        raise UserError(f"the model has no convolution; its layers are {', '.join(nodes)}")
    return ends


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What is optimised for a layer: the truncated network, its input's size, the unit aimed at and the pixels it sees."""

    network: keras.Model
    size: tuple
    unit: tuple
    box: tuple


def canvas(model, size, name, objective):
    """The part of a model that a layer's objective needs, on an input no larger than it needs.

    size: (height, width) of the model's input; objective: "neuron" needs the receptive field of the layer's middle unit,
    "channel" three times that, and at least 24 px. The network ends before the layer's ReLU. A unit's value on its canvas
    is exactly its value on the whole image, because the canvas starts on the grid of the strides and keeps their remainder.
    """
    image, nodes = trace(model, size, (name,))
    node = nodes[name]
    network = keras.Model(image, node.before)
    unit = tuple(n // 2 for n in node.before.shape[1:3])
    field = node.field
    if field is None:
        return Canvas(network, tuple(size), unit, ((0, 0), tuple(size)))
    low, high = field.box(unit)
    starts, lengths = [], []
    for a, b, origin, extent, jump, width in zip(low, high, field.origin, field.extent, field.jump, field.size):
        start = max(origin + (a - origin) // jump * jump, origin)
        need = b - start if objective == "neuron" else max(3 * width, LEAST_CANVAS)
        length = need + (extent - need) % jump
        if length >= extent or (objective == "neuron" and start + length > origin + extent):
            start, length = origin, extent
        starts.append(start)
        lengths.append(length)
    image, nodes = trace(network, lengths, cropped=True)
    output = list(nodes.values())[-1].output
    if objective == "channel":
        unit = tuple(n // 2 for n in output.shape[1:3])
        box = ((0, 0), tuple(lengths))
    else:
        unit = tuple(u - (s - o) // j for u, s, o, j in zip(unit, starts, field.origin, field.jump))
        box = (tuple(max(a - s, 0) for a, s in zip(low, starts)),
               tuple(min(b - s, n) for b, s, n in zip(high, starts, lengths)))
    return Canvas(keras.Model(image, output), tuple(lengths), unit, box)


# ---- activation maximisation -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Ascent:
    """What gradient ascent found: images float32 (n, h, w) in the value range, the activation (n,) that each reaches,
    and snapshots float32 (k, n, h, w) on the way, taken after `steps` (k,) steps; each image is its best snapshot."""

    images: np.ndarray
    activations: np.ndarray
    snapshots: np.ndarray
    steps: list


def activation(features, channels, objective, sign=1, unit=(0, 0), climbing=False):
    """The number that is maximised: tensor (n,), one for each image.

    features: (n, h, w, c) before the ReLU, or logits (n, c); channels: int (n,). "channel" is the mean over the map of what
    a ReLU would pass (of sign * features), "neuron" the value at `unit`; of logits, the value. sign -1 asks for the minimum.
    climbing: give "channel" a slope where the ReLU has none. A map that is silent everywhere counts by its strongest unit,
    or a filter that fires on few images never starts: its mean is highest where all units stay just below zero.
    """
    tf = tensorflow()
    features = tf.cast(features, tf.float32)
    pick = tf.one_hot(channels, features.shape[-1])
    if len(features.shape) == 2:
        return sign * tf.reduce_sum(features * pick, -1)
    values = sign * tf.reduce_sum(features * pick[:, None, None, :], -1)
    if objective == "neuron":
        return values[:, unit[0], unit[1]]
    if not climbing:
        return tf.reduce_mean(tf.nn.relu(values), (1, 2))
    strongest = tf.reduce_max(values, (1, 2))
    return tf.where(strongest > 0, tf.reduce_mean(tf.maximum(values, LEAK * values), (1, 2)), strongest)


def transforms(steps, n, size, seed, shift=None, degrees=DEGREES, scale=SCALE):
    """Random affine transforms about the centre, one an image and step: float32 (steps, n, 8), as TensorFlow takes them.

    They grow with the canvas: `SHIFT` pixels either way at 48.
    """
    rng = np.random.default_rng([seed, 1])
    shift = [SHIFT * length / 48 for length in size] if shift is None else [shift, shift]
    angle = np.deg2rad(rng.uniform(-degrees, degrees, (steps, n)))
    zoom = rng.uniform(1 - scale, 1 + scale, (steps, n))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    middle = [(length - 1) / 2 for length in size]
    move = [rng.uniform(-s, s, (steps, n)) + m for s, m in zip(shift, middle)]
    rows = [cos, -sin, move[1] - cos * middle[1] + sin * middle[0],
            sin, cos, move[0] - sin * middle[1] - cos * middle[0], 0 * cos, 0 * cos]
    return np.stack(rows, -1).astype(np.float32)


def fourier_decoder(size, value_range):
    """A function from spectra (n, h, w // 2 + 1, 2) to grey images (n, h, w) of fixed contrast (Olah et al. 2017)."""
    tf = tensorflow()
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    scale = (1 / np.maximum(frequency, 1 / max(size)) ** DECAY).astype(np.complex64)
    low, high = value_range

    def decode(spectrum):
        image = tf.signal.irfft2d(tf.complex(spectrum[..., 0], spectrum[..., 1]) * scale, [height, width])
        mean, variance = tf.nn.moments(image, (1, 2), keepdims=True)
        brightness = BRIGHTNESS * tf.tanh(spectrum[:, :1, :1, 0] / 4)
        return low + (high - low) * tf.sigmoid((image - mean) * tf.math.rsqrt(variance + 1e-12) + brightness)

    return decode


def ascend(network, channels, size, value_range, objective="channel", sign=1, unit=(0, 0), parametrization="fourier",
           steps=200, seed=0, every=20, total_variation=0.0, l2=0.0, jitter=0, batch_size=None, report=None):
    """Images that drive each of `channels` to its maximum (sign 1) or minimum (-1) by gradient ascent (Erhan et al. 2009).

    network:         keras.Model from (n, h, w, c) to maps or logits
    channels:        int sequence (n,); all are climbed in one batch of at most `batch_size` (None: what 1 GB allows)
    size:            (h, w) of the canvas; value_range: (low, high) of the pixels
    parametrization: "fourier" climbs a spectrum by Adam under random transforms, which keeps out high-frequency noise (Olah et
                     al. 2017); "pixel" climbs the pixels themselves by normalised steps of 1/64 of the range, as the homework
                     does, less `total_variation` and `l2` times the (normalised) gradients of those penalties
                     (Mahendran & Vedaldi 2015, Simonyan et al. 2014), shifted by up to `jitter` pixels at each step
    report:          called as report(steps done) after every `every` steps of a batch

    Returns Ascent, its activations measured without transforms, of the right sign. Seeded. Where the processor multiplies
    bfloat16 natively the climb is in bfloat16, nearly twice as fast; what is measured and returned is float32 everywhere.
    """
    tf = tensorflow()
    climbed = in_bfloat16(network) if training.has_native_bfloat16() else network
    channels = np.asarray(channels, np.int32)
    batch_size = batch_size or batch_limit(network, len(channels))
    low, high = value_range
    depth = network.input_shape[-1]
    fourier = parametrization == "fourier"
    decode = fourier_decoder(size, value_range) if fourier else lambda pixels: pixels
    score = functools.partial(activation, objective=objective, unit=tuple(unit))

    def rms(x):
        return tf.sqrt(tf.reduce_mean(tf.square(x), tuple(range(1, len(x.shape))), keepdims=True)) + 1e-12

    def spread(image):
        return tf.repeat(image[..., None], depth, -1) if depth > 1 else image[..., None]

    def body(step, state, first, second, chosen, moves, last):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(state)
            image = decode(state)
            moved = tf.raw_ops.ImageProjectiveTransformV3(
                images=image[..., None], transforms=moves[step], output_shape=list(size), fill_value=0.0,
                interpolation="BILINEAR", fill_mode="REFLECT")[..., 0]
            noise = tf.random.stateless_normal(tf.shape(moved), tf.stack([seed, step]))
            moved += noise * (NOISE * (high - low) if fourier else 0.0)
            value = score(climbed(spread(moved), training=False), chosen, sign=sign, climbing=True)
        gradient = tape.gradient(value, state)
        gradient /= rms(gradient)
        if not fourier:
            if total_variation:
                gradient -= total_variation * normalised(variation_gradient(state))
            if l2:
                gradient -= l2 * normalised(state - (low + high) / 2)
            state = tf.clip_by_value(state + (high - low) / 64 * gradient, low, high)
            return step + 1, state, first, second, chosen, moves, last
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient ** 2
        power = tf.cast(step + 1, tf.float32)
        state += LEARNING_RATE * first / (1 - 0.9 ** power) / (tf.sqrt(second / (1 - 0.999 ** power)) + 1e-8)
        return step + 1, state, first, second, chosen, moves, last

    def normalised(x):
        return x / rms(x)

    @tf.function
    def climb(step, state, first, second, chosen, moves, last):
        return tf.while_loop(lambda step, *rest: step < rest[-1], body, (step, state, first, second, chosen, moves, last))[1:4]

    @tf.function
    def measure(state, chosen):
        image = decode(state)
        return image, sign * score(network(spread(image), training=False), chosen, sign=sign)

    rng = np.random.default_rng(seed)
    shape = (len(channels), size[0], size[1] // 2 + 1, 2) if fourier else (len(channels), *size)
    start = rng.standard_normal(shape, np.float32)
    if fourier:
        start[:, 0, 0] = 0  # mid-grey
    start = start if fourier else np.clip((low + high) / 2 + (high - low) * 0.1 * start, low, high)
    motion = {} if fourier else {"shift": jitter, "degrees": 0, "scale": 0}
    moves = transforms(steps, len(channels), size, seed, **motion)
    parts = []
    for begin in range(0, len(channels), batch_size):
        rows = np.arange(begin, begin + batch_size).clip(max=len(channels) - 1)  # one shape: one graph
        chosen, state = tf.constant(channels[rows]), tf.constant(start[rows])
        first, second, part_moves = tf.zeros_like(state), tf.zeros_like(state), tf.constant(moves[:, rows])
        taken, marks = [measure(state, chosen)], [0]
        for step in range(0, steps, every):
            last = min(step + every, steps)
            state, first, second = climb(tf.constant(step), state, first, second, chosen, part_moves, tf.constant(last))
            taken.append(measure(state, chosen))
            marks.append(last)
            if report:
                report(last - step)
        kept = min(batch_size, len(channels) - begin)
        parts.append([np.stack(column)[:, :kept] for column in zip(*taken)])
    snapshots, reached = (np.concatenate(column, 1) for column in zip(*parts))
    best = len(reached) - 1 - (sign * reached)[::-1].argmax(0), np.arange(len(channels))  # of equals, the last
    return Ascent(snapshots[best], reached[best], snapshots, marks)


def in_bfloat16(network):
    """A copy of a functional model that computes in bfloat16 with weights in float32."""

    def copy_of(layer):
        return type(layer).from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})

    copy = keras.models.clone_model(network, clone_function=copy_of)
    copy.set_weights(network.get_weights())
    return copy


def variation_gradient(image):
    """The gradient of total variation, the sum of absolute differences of neighbours: tensor (n, h, w), piecewise constant."""
    tf = tensorflow()
    down, across = tf.sign(image[:, 1:] - image[:, :-1]), tf.sign(image[:, :, 1:] - image[:, :, :-1])
    return tf.pad(down, [[0, 0], [1, 0], [0, 0]]) - tf.pad(down, [[0, 0], [0, 1], [0, 0]]) + \
        tf.pad(across, [[0, 0], [0, 0], [1, 0]]) - tf.pad(across, [[0, 0], [0, 0], [0, 1]])


def batch_limit(network, count):
    """How many of `count` images fit in 1 GB in a forward and backward pass, at every layer's output thrice in float32."""
    values = sum(math.prod(n or 1 for n in layer.output.shape[1:]) for layer in network.layers
                 if isinstance(getattr(layer, "output", None), keras.KerasTensor))
    return max(1, min(count, 2 ** 30 // (12 * max(values, 1))))


# ---- what the data do ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Responses:
    """What each filter answers to each image: float32 (images, filters), except the last three.

    mean and low_mean: over the map, of the parts above and below zero (the first is the mean activation after a ReLU)
    peak, low_peak:    largest and smallest value of the map; at: int64, its flat position in a map `width` wide
    rectified:         whether these are the values before a ReLU that ends the layer
    """

    mean: np.ndarray
    low_mean: np.ndarray
    peak: np.ndarray
    low_peak: np.ndarray
    at: np.ndarray
    width: int
    rectified: bool


def responses(model, size, names, images, batch_size=64, report=None):
    """Responses of every filter of the layers `names` to images (n, h, w) 0-255, in one pass: {name: Responses}."""
    tf = tensorflow()
    canvas_input, nodes = trace(model, size, names)
    network = keras.Model(canvas_input, [nodes[name].before for name in names])
    batch_size = batch_limit(network, min(batch_size, len(images)))

    @tf.function
    def reduce(batch):
        found = []
        for features in keras.tree.flatten(network(batch, training=False)):
            maps = tf.cast(tf.reshape(features, (batch_size, -1, features.shape[-1])), tf.float32)
            found.append((tf.reduce_mean(tf.maximum(maps, 0), 1), tf.reduce_mean(tf.minimum(maps, 0), 1),
                          tf.reduce_max(maps, 1), tf.reduce_min(maps, 1), tf.argmax(maps, 1)))
        return found

    parts = {name: [] for name in names}
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, start + batch_size).clip(max=len(images) - 1)
        kept = min(batch_size, len(images) - start)
        for name, found in zip(names, reduce(models.prepare(images[rows], model))):
            parts[name].append([x.numpy()[:kept] for x in found])
        if report:
            report(kept)
    return {name: Responses(*(np.concatenate(column) for column in zip(*found)), nodes[name].before.shape[2],
                            nodes[name].before is not nodes[name].output
                            and not isinstance(nodes[name].layer, layers.LeakyReLU)) for name, found in parts.items()}


def eta_squared(values, labels):
    """The share of a filter's variance that the classes explain (one-way analysis of variance): float64 (filters,), 0-1.

    values: float (images, filters); labels: int (images,). Between-class over total sum of squares; 0 where constant.
    """
    values = np.asarray(values, np.float64)
    centred = values - values.mean(0)
    total = (centred ** 2).sum(0)
    between = sum((labels == c).sum() * centred[labels == c].mean(0) ** 2 for c in np.unique(labels))
    return np.divide(between, total, out=np.zeros_like(total), where=total > 1e-12 * max(total.max(), 1e-300))


def dead_filters(found):
    """Filters that answer the same to everything: boolean (filters,). Never above zero where the layer ends in a ReLU, which
    passes nothing then; elsewhere one value at every place of every image."""
    above = found.peak.max(0) - (0 if found.rectified else found.low_peak.min(0))
    return above <= 1e-6 * max(above.max(), 1e-30)


def starved_filters(found):
    """Filters that are not dead, but let through something of less than 1 % of the images: boolean (filters,)."""
    return found.rectified & ~dead_filters(found) & ((found.peak > 0).mean(0) < 0.01)


def top_patches(found, channel, count, field, images, groups=None):
    """The `count` patches of different images that excite a filter most, in falling order.

    images: float (n, h, w) or a function row -> (h, w); groups: int (n,), equal for identical images, of which one is shown.
    Returns rows int (count,), values (count,) and patches: a list of float32 arrays cropped to the unit's receptive field,
    NaN where it reaches over the border; the whole image where field is None.
    """
    order = np.argsort(-found.peak[:, channel], kind="stable")
    if groups is not None:
        _, first = np.unique(groups[order], return_index=True)
        order = order[np.sort(first)]
    order = order[:count]
    patches = []
    for row in order:
        image = np.asarray(images(row) if callable(images) else images[row], np.float32)
        if field is None:
            patches.append(image)
            continue
        (top, left), (bottom, right) = field.box(divmod(int(found.at[row, channel]), found.width))
        patch = np.full((bottom - top, right - left), np.nan, np.float32)
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, image.shape[0]), min(right, image.shape[1])
        patch[y0 - top:y1 - top, x0 - left:x1 - left] = image[y0:y1, x0:x1]
        patches.append(patch)
    return order, found.peak[order, channel], patches
