"""Images synthesised to excite a filter or a class (Erhan et al. 2009), and the data that excite it.

Images are grey, float32, 0-255; a network with several input channels sees the grey image in each. Networks
are functional and without nested models, as `utils.structure.flat_copy` gives them.
"""

import dataclasses
import itertools

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from explain import batch_size, receptive_field
from explain.attribution import in_channels
from utils import cli, models, structure

RANGE = 255.0
DECAY = 1.5  # amplitude falls as frequency ** -DECAY: white noise (0) to smoother than a photograph (2)
BRIGHTNESS = 1.5  # bound of the mean before the sigmoid, in standard deviations: dark or bright, never blank
# Bound of the contrast's factor, either way. With 1, the contrast of photographs, the median image for the
# last filters of the homework's CNN reaches 6.8 times the data; with 2, 3 and 4, 8.0, 8.3 and 7.8 times.
CONTRAST = 3.0
LEARNING_RATE = 0.05  # of Adam, on the standardised spectrum
PIXEL_STEP = RANGE / 64  # of the plain ascent, root mean square
LEAK = 0.01  # slope below zero in the channel objective during ascent: silent units have a gradient too
LEAST_CANVAS = 24  # pixels: room for a texture to repeat, where the receptive field is smaller still
BETWEEN_MEASURES = 20  # steps
STRIPED = 0.5  # least anisotropy of stripes; at most 2 % of images of smooth noise reach it with LEAST_CYCLES
LEAST_CYCLES = 2  # of stripes along an image; with fewer it is an edge or a spot


@dataclasses.dataclass(frozen=True)
class Canvas:
    """What is optimised."""

    network: keras.Model  # that ends in maps before their ReLU or in logits
    objective: str = "channel"  # or "neuron"
    unit: tuple = (0, 0)  # of "neuron": y, x
    box: tuple = ((0, 0), (None, None))  # the pixels that this unit sees, from (y, x) to (y, x)

    @property
    def size(self):
        """Height and width of the image."""
        return self.network.input_shape[1:3]

    def crop(self, images):
        """The part of images (..., h, w) that the unit sees."""
        (top, left), (bottom, right) = self.box
        return images[..., top:bottom, left:right]


def cut_canvas(model, layer, objective):
    """The part of a model that a layer's objective needs, on an input no larger than it needs: a Canvas.

    On whole faces a channel of the report's CNN takes 2.6 times as long, a unit 5.5 times. "channel" needs
    three times the layer's receptive field; "neuron" what its middle unit sees, whose value there is exactly
    that on the whole image. An axis of a layer with padding that sees 7 pixels, 4 from unit to unit (jump):

        image     0 . . . 4 . . . 8 . . . 12. . . 16. . . 20. . . 24. . .     extent 27
        sees                                        17. . . . . 23            low 17, high 24
        canvas                                    16. . . . . . . . . 26      starts on the jumps' grid,
                                                                              length 11 = 27 modulo 4
    """
    network = receptive_field.split_relu(model, [layer])
    field, middle = receptive_field.fields(model)[layer], np.array(network.outputs[0].shape[1:3]) // 2
    if not field.is_local:
        return Canvas(keras.Model(network.inputs, network.outputs[0]), objective, tuple(middle))
    origin, extent = np.rint(field.low + 0.5).astype(int), np.rint(field.high - field.low).astype(int)
    jump, (low, high) = np.rint(field.jump).astype(int), field.box(middle)
    start = np.maximum(origin + (low - origin) // jump * jump, origin)
    needed = high - start if objective == "neuron" else np.maximum(3 * (high - low), LEAST_CANVAS)
    length = needed + (extent - needed) % jump
    is_whole = (length >= extent) | ((objective == "neuron") & (start + length > origin + extent))
    start, length = np.where(is_whole, origin, start), np.where(is_whole, extent, length)

    def without_crops(layer, *args, **kwargs):
        return args[0] if isinstance(layer, receptive_field.CROPS) else layer(*args, **kwargs)

    image = keras.Input((*map(int, length), network.input_shape[-1]), name="canvas")
    part = keras.models.clone_model(network, image, clone_function=lambda layer: layer,
                                    call_function=without_crops)
    part = keras.Model(image, part.outputs[0])
    if objective == "channel":
        return Canvas(part)
    box = tuple(np.maximum(low - start, 0)), tuple(high - start)
    return Canvas(part, objective, tuple(middle - (start - origin) // jump), box)


def activation(features, channels, objective, sign=1, unit=(0, 0), ascending=False):
    """The number that is maximised: tensor (n,), one for each image. features: (n, h, w, c) before the ReLU,
    or logits (n, c), then their value; channels: int (n,). "channel" is the mean over the map of what a ReLU
    would pass (of sign * features), "neuron" the value at `unit`. ascending: give "channel" a slope where the
    ReLU has none; a map that is silent everywhere counts by its strongest unit, or its mean would be highest
    where all units stay just below zero."""
    features = tf.cast(features, tf.float32)
    values = sign * tf.einsum("n...c,nc->n...", features, tf.one_hot(channels, features.shape[-1]))
    if len(values.shape) == 1:
        return values
    if objective == "neuron":
        return values[:, unit[0], unit[1]]
    if not ascending:
        return tf.reduce_mean(tf.nn.relu(values), (1, 2))
    strongest = tf.reduce_max(values, (1, 2))
    return tf.where(strongest > 0, tf.reduce_mean(tf.maximum(values, LEAK * values), (1, 2)), strongest)


class Fourier:
    """Spectra, improved by Adam under random transforms, which keeps out high-frequency noise (Olah et al.
    2017). State: float32 (n, h, w // 2 + 1, 2), real and imaginary parts in units of the usual amplitude."""

    # Standard deviation of the noise; random transforms on 48 px, either way
    noise, degrees, scale, shift = 0.02 * RANGE, 7.0, 0.1, 4.0

    def start(self, rng, n, size):
        state = rng.standard_normal((n, size[0], size[1] // 2 + 1, 2), np.float32)
        state[:, 0, 0] = 0  # mid-grey
        return state

    def image(self, state, size):
        """Images (n, h, w), 0-255, of states."""
        frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
        amplitude = (1 / np.maximum(frequency, 1 / max(size)) ** DECAY).astype(np.complex64)
        image = tf.signal.irfft2d(tf.complex(state[..., 0], state[..., 1]) * amplitude, size)
        mean, variance = tf.nn.moments(image, (1, 2), keepdims=True)
        # At frequency zero the real part is free, as the mean is taken off, and the imaginary part unused.
        brightness, contrast = tf.unstack(tf.tanh(state[:, :1, :1] / 4), axis=-1)
        image = (image - mean) * tf.math.rsqrt(variance + 1e-12) + BRIGHTNESS * brightness
        return RANGE * tf.sigmoid(CONTRAST ** contrast * image)

    def step(self, number, state, mean, square, gradient):
        """State and Adam's two moments, mean and square, after step `number`, from 0."""
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient ** 2
        power = tf.cast(number + 1, tf.float32)
        scale = tf.sqrt(square / (1 - 0.999 ** power)) + 1e-8
        return state + LEARNING_RATE * mean / (1 - 0.9 ** power) / scale, mean, square


class Pixel:
    """The pixels themselves, float32 (n, h, w), 0-255, improved by normalised steps as in the homework."""

    noise, degrees, scale, shift = 0.0, 0.0, 0.0, 0.0

    def start(self, rng, n, size):
        return np.clip(RANGE / 2 + RANGE * 0.1 * rng.standard_normal((n, *size), np.float32), 0, RANGE)

    def image(self, state, size):
        return state

    def step(self, number, state, mean, square, gradient):
        return tf.clip_by_value(state + PIXEL_STEP * gradient, 0, RANGE), mean, square


def random_transforms(rng, steps, n, size, parametrization):
    """Random affine transforms about the centre, as TensorFlow takes them: float32 (steps, n, 8)."""
    angle = np.deg2rad(rng.uniform(-parametrization.degrees, parametrization.degrees, (steps, n)))
    zoom = rng.uniform(1 - parametrization.scale, 1 + parametrization.scale, (steps, n))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    middle = [(length - 1) / 2 for length in size]
    shift = [parametrization.shift * length / 48 for length in size]  # grows with the canvas
    down, across = (rng.uniform(-most, most, (steps, n)) + m for most, m in zip(shift, middle))
    rows = [cos, -sin, across - cos * middle[1] + sin * middle[0],
            sin, cos, down - sin * middle[1] - cos * middle[0], 0 * cos, 0 * cos]
    return np.stack(rows, -1).astype(np.float32)


def ascend(canvas, channels, sign=1, parametrization=None, steps=200, seed=0, precision="float32",
           label="ascent"):
    """Images that drive each of `channels` (int, n) to its maximum (sign 1) or minimum (-1) on a Canvas.
    parametrization: `Fourier` (the default) or `Pixel`; precision: of the steps; "mixed_bfloat16" takes half
    the time on a processor that multiplies it natively. Returns images float32 (n, h, w), 0-255, each the
    best measured on its way, and the activations (n,) that they reach, in float32 without transforms."""
    parametrization = parametrization or Fourier()
    channels, count = np.asarray(channels, np.int32), len(channels)
    run_steps, measure = compiled_ascent(canvas, parametrization, sign, seed, precision)
    start = parametrization.start(np.random.default_rng(seed), count, canvas.size)
    transforms = random_transforms(np.random.default_rng([seed, 1]), steps, count, canvas.size,
                                   parametrization)
    marks = [*range(0, steps, BETWEEN_MEASURES), steps]
    size, parts = min(batch_size(canvas.size), count), []
    for begin in range(0, count, size):
        rows = np.arange(begin, begin + size).clip(max=count - 1)  # one shape: one graph
        chosen, state = tf.constant(channels[rows]), tf.constant(start[rows])
        mean, square, (images, reached) = tf.zeros_like(state), tf.zeros_like(state), measure(state, chosen)
        for first, last in cli.track(list(itertools.pairwise(marks)), label):
            state, mean, square = run_steps(tf.constant(first), tf.constant(last), state, mean, square,
                                            chosen, transforms[:, rows])
            later, value = measure(state, chosen)
            is_better = sign * value >= sign * reached
            images = tf.where(is_better[:, None, None], later, images)
            reached = tf.where(is_better, value, reached)
        parts.append([array[:count - begin] for array in (images, reached)])
    return tuple(map(np.concatenate, zip(*parts)))


def compiled_ascent(canvas, parametrization, sign, seed, precision):
    """Compiled functions: steps `first` to `last` of ascent, and the images and activations of a state."""
    network = canvas.network
    if precision != "float32":
        network = structure.flat_copy(network, dtype=precision)

    @tf.function(autograph=False)  # which cannot read the source of Python 3.13
    def run_steps(first, last, state, mean, square, chosen, transforms):
        def step(number, state, mean, square):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(state)
                image = tf.raw_ops.ImageProjectiveTransformV3(
                    images=parametrization.image(state, canvas.size)[..., None],
                    transforms=transforms[number], fill_value=0.0, output_shape=canvas.size,
                    interpolation="BILINEAR", fill_mode="REFLECT")[..., 0]
                noise = tf.random.stateless_normal(tf.shape(image), tf.stack([seed, number]))
                image += parametrization.noise * noise
                features = network(in_channels(network, image), training=False)
                value = activation(features, chosen, canvas.objective, sign, canvas.unit, ascending=True)
            gradient = tape.gradient(value, state)
            size = tf.sqrt(tf.reduce_mean(gradient ** 2, range(1, len(gradient.shape)), keepdims=True))
            return number + 1, *parametrization.step(number, state, mean, square, gradient / (size + 1e-12))

        return tf.while_loop(lambda number, *_: number < last, step, (first, state, mean, square))[1:]

    @tf.function(autograph=False)
    def measure(state, chosen):
        image = parametrization.image(state, canvas.size)
        features = canvas.network(in_channels(canvas.network, image), training=False)
        return image, sign * activation(features, chosen, canvas.objective, sign, canvas.unit)

    return run_steps, measure


@dataclasses.dataclass
class Responses:
    """How each filter responds to each image: float32 (images, filters), except the last three."""

    mean: np.ndarray  # over the map, of the part above zero (the mean after a ReLU)
    low_mean: np.ndarray  # of the part below zero
    peak: np.ndarray  # largest value of the map
    low_peak: np.ndarray  # smallest
    at: np.ndarray  # int64, the flat position of the largest in a map `width` wide
    width: int
    rectified: bool  # whether these are the values before a ReLU that ends the layer


def measure_responses(model, names, images):
    """{name: Responses} of every filter of the layers `names` to images (n, h, w), 0-255, in one pass."""
    network = receptive_field.split_relu(model, names)

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]))])
    def summarise(batch):
        summaries = []
        for features in keras.tree.flatten(network(batch, training=False)):
            height, width, channels = features.shape[1:]
            maps = tf.cast(tf.reshape(features, (-1, height * width, channels)), tf.float32)
            summaries.append((tf.reduce_mean(tf.maximum(maps, 0), 1), tf.reduce_mean(tf.minimum(maps, 0), 1),
                              tf.reduce_max(maps, 1), tf.reduce_min(maps, 1), tf.argmax(maps, 1)))
        return summaries

    size = batch_size(model.input_shape[1:3])
    batches = [summarise(models.prepare(images[start:start + size], model))
               for start in cli.track(range(0, len(images), size), "responses")]
    return {name: Responses(*map(np.concatenate, zip(*parts)), width=before.shape[2],
                            rectified=before is not model.get_layer(name).output)
            for name, before, parts in zip(names, network.outputs, zip(*batches))}


def eta_squared(values, labels):
    """The share of a filter's variance that the classes explain (one-way analysis of variance): float64
    (filters,), 0-1; 0 where it is constant. values: float (images, filters); labels: int (images,)."""
    values = pd.DataFrame(np.asarray(values, np.float64))
    total, between = values.var(ddof=0), values.groupby(labels).transform("mean").var(ddof=0)
    return (between / total).where(total > 1e-12 * total.max(), 0).to_numpy()


def dead_and_rare(responses):
    """Two boolean (filters,). Dead filters respond alike to everything: never above zero where the layer ends
    in a ReLU, elsewhere by one value at every place of every image. Rare ones respond, after a ReLU, to less
    than 1 % of the images."""
    above = responses.peak.max(0) - (0 if responses.rectified else responses.low_peak.min(0))
    dead = above <= 1e-6 * max(above.max(), 1e-30)
    return dead, responses.rectified & ~dead & ((responses.peak > 0).mean(0) < 0.01)


def best_images(responses, channel, count, groups):
    """The `count` different images that excite a filter most, in falling order: their rows, int (count,), and
    the units (y, x) that respond, int (count, 2). groups: int (n,), equal for identical images."""
    order = np.argsort(-responses.peak[:, channel], kind="stable")
    rows = order[np.sort(np.unique(groups[order], return_index=True)[1])][:count]
    return rows, np.stack(np.divmod(responses.at[rows, channel], responses.width), 1)


def describe(images):
    """What images (n, h, w), 0-255, look like: a DataFrame with one row each. All but the brightness are of
    the Fourier power spectrum under a Hann window.

    orientation: of the stripes, degrees counter-clockwise from horizontal, 0-180
    anisotropy:  0 (equal power in all directions, or a blank image) to 1 (in one): the mean resultant length
                 of the doubled angles, weighted by power (Mardia and Jupp 2000)
    frequency:   cycles per pixel below which half of the power lies; cycles: the same, per shorter side
    brightness:  mean, 0-255; tone: "dark" in the lowest third of the range, "light" in the highest, or "grey"
    stripes:     whether these are stripes of one direction (bool)
    """
    size, padded = images.shape[1:], [4 * length for length in images.shape[1:]]  # finer steps of frequency
    window = np.multiply.outer(*(np.hanning(length + 2)[1:-1] for length in size))
    varying = images - ((images * window).sum((1, 2), keepdims=True) / window.sum())
    power = np.abs(np.fft.fft2(varying * window, padded)).reshape(len(images), -1) ** 2
    y, x = (axis.ravel() for axis in np.meshgrid(*map(np.fft.fftfreq, padded), indexing="ij"))
    doubled = power @ np.exp(2j * np.arctan2(y, x)) / np.maximum(power.sum(1), 1e-6)
    order = np.argsort(np.hypot(y, x))
    below = power[:, order].cumsum(1)
    frequency = np.hypot(y, x)[order][(below < below[:, -1:] / 2).sum(1)]
    table = pd.DataFrame({  # y points down, and stripes run across the direction in which grey levels change
        "orientation": (90 - np.degrees(np.angle(doubled)) / 2) % 180, "anisotropy": np.abs(doubled),
        "frequency": frequency, "cycles": frequency * min(size), "brightness": images.mean((1, 2))})
    tones = pd.cut(table.brightness, [0, RANGE / 3, 2 * RANGE / 3, RANGE], labels=["dark", "grey", "light"],
                   include_lowest=True)
    return table.assign(tone=tones.astype(str), stripes=(table.anisotropy >= STRIPED)
                        & (table.cycles >= LEAST_CYCLES))
