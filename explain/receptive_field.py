"""Which pixels of the image the units of a feature map see (Araujo et al. 2019).

Networks are functional and without nested models, as `utils.structure.flat_copy` gives them. Along one axis,
a 3-pixel convolution without padding, then pooling over 2:

    pixels            0  1  2  3  4  5  6  7  8  9
    unit 0 of conv    [.. .. ..]                      centre 1,   jump 1, size 3
    unit 1 of conv       [.. .. ..]
    unit 0 of pool    [.. .. .. ..]                   centre 1.5, jump 2, size 4
    unit 1 of pool          [.. .. .. ..]
"""

import dataclasses
import itertools

import keras
import numpy as np
from keras import layers

from utils import structure
from utils.cli import UserError

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)
CROPS = (layers.CenterCrop, layers.Cropping2D)
ACTIVATIONS = (layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU)
RECTIFIERS = (keras.activations.relu, keras.activations.relu6)
# Layers and operations between layers each of whose outputs depends on one place of the inputs
ELEMENTWISE = {"Activation", "ReLU", "LeakyReLU", "ELU", "Relu", "Relu6", "HardSigmoid", "HardSwish",
               "Rescaling", "BatchNormalization", "Dropout", "SpatialDropout2D", "GaussianNoise",
               "GaussianDropout", "AlphaDropout", "Add", "Subtract", "Multiply", "Divide", "TrueDivide",
               "Average", "Maximum", "Minimum", "Concatenate"}
EVERYTHING = np.full(2, np.inf)  # size of a field that may be the whole image


@dataclasses.dataclass(frozen=True)
class Field:
    """Where the units of a map look, in pixels of the network's input: float64 (2,) each, for y and x."""

    centre: np.ndarray  # of unit (0, 0)
    jump: np.ndarray  # from one unit to the next
    size: np.ndarray  # of what a unit sees, inf where that may be everything
    low: np.ndarray  # the edges of what crops leave of the image, -0.5
    high: np.ndarray  # and its length - 0.5 without any

    @property
    def is_local(self):
        """Whether it is known that a unit sees only a part of the image, and which."""
        return bool(np.isfinite(self.size).all())

    def box(self, unit):
        """Pixels that `unit` (y, x) of a local field sees, also beyond the border: from (y, x) to (y, x)."""
        start = self.centre + np.multiply(unit, self.jump) - (self.size - 1) / 2
        return np.rint(start).astype(int), np.rint(start + self.size).astype(int)


def fields(model):
    """{layer name: Field} of every layer that gives a map (n, h, w, channels), from input to output. Raises
    UserError for layers with channels first."""
    of_tensor, of_layer = {}, {}
    for node in structure.nodes(model):
        layer, output = node.operation, node.outputs[0]
        if getattr(layer, "data_format", None) == "channels_first":
            raise UserError(f"layer {layer.name} expects channels first; TensorFlow has gradients of such "
                            "layers on accelerators only; build the model with data_format channels_last")
        maps = [(x.shape[1:3], of_tensor[id(x)]) for x in node.input_tensors if id(x) in of_tensor]
        if node.is_input:
            one, size = np.ones(2), np.array(output.shape[1:3])
            of_tensor[id(output)] = Field(0 * one, one, one, -0.5 * one, size - 0.5)
        elif maps and len(output.shape) == 4:
            of_tensor[id(output)] = field = field_after(layer, maps, output.shape[1:3])
            if isinstance(layer, layers.Layer):
                of_layer[layer.name] = field
    return of_layer


def field_after(layer, maps, after):
    """The Field of a layer's output of size `after` from its inputs: a list of (size, Field)."""
    # Where branches meet, one that was pooled to a single unit tells nothing about place.
    before, field = max(maps, key=lambda pair: pair[0])
    before, after = np.array(before), np.array(after)
    if isinstance(layer, CONVOLUTIONS + POOLINGS):
        kernel = np.array(layer.pool_size if isinstance(layer, POOLINGS) else layer.kernel_size)
        reach = (kernel - 1) * getattr(layer, "dilation_rate", (1, 1))
        strides = np.array(layer.strides)
        overhang = np.maximum((after - 1) * strides + reach + 1 - before, 0)
        padding = overhang // 2 if layer.padding == "same" else 0  # before the first unit
        return dataclasses.replace(field, centre=field.centre + (reach / 2 - padding) * field.jump,
                                   jump=field.jump * strides, size=field.size + reach * field.jump)
    if isinstance(layer, layers.ZeroPadding2D):
        return dataclasses.replace(field, centre=field.centre - np.array(layer.padding)[:, 0] * field.jump)
    if isinstance(layer, CROPS) and (after <= before).all():
        is_central = isinstance(layer, layers.CenterCrop)
        cut = (before - after) // 2 if is_central else np.array(layer.cropping)[:, 0]
        centre = field.centre + cut * field.jump
        is_image = (field.size == 1).all() and (field.jump == 1).all()  # stays local: a canvas needs no crop
        return dataclasses.replace(field, centre=centre, size=field.size if is_image else EVERYTHING,
                                   low=np.maximum(field.low, centre - field.jump / 2),
                                   high=np.minimum(field.high, centre + (after - 0.5) * field.jump))
    if type(layer).__name__ in ELEMENTWISE and all(tuple(after) == size for size, _ in maps):
        return union([field for _, field in maps], field)
    ratio = before / after  # equal sizes, or stretched as a whole
    return dataclasses.replace(field, centre=field.centre + (ratio - 1) / 2 * field.jump,
                               jump=ratio * field.jump, size=EVERYTHING)


def union(fields, largest):
    """The Field of a value that depends on one unit of each of `fields`."""
    in_step = all((field.jump == largest.jump).all() and (field.low == largest.low).all() for field in fields)
    if not in_step or not all(field.is_local for field in fields):
        return dataclasses.replace(largest, size=EVERYTHING)
    start = np.min([field.centre - field.size / 2 for field in fields], axis=0)
    end = np.max([field.centre + field.size / 2 for field in fields], axis=0)
    return dataclasses.replace(largest, centre=(start + end) / 2, size=end - start)


def split_relu(model, names):
    """A keras.Model with a list of outputs: the maps of the layers `names` before the ReLU that ends the
    layer or is all of it; the layer's own output where there is none."""
    outputs = []
    for layer in map(model.get_layer, names):
        activation = getattr(layer, "activation", None)
        if isinstance(layer, layers.ReLU) or (activation in RECTIFIERS and not layer.weights):
            outputs.append(layer.input)
        elif activation is keras.activations.relu:  # of a convolution, say
            linear = structure.stock_copy(layer, activation="linear", name=f"{layer.name}_before_relu")
            outputs.append(linear(layer.input))
            linear.set_weights(layer.get_weights())
        else:
            outputs.append(layer.output)
    return keras.Model(model.inputs[0], outputs)


def interpolation(field, cells, pixels, axis):
    """Weights of a map's rows (axis 0) or columns (1) in the image's pixels: float32 (pixels, cells), linear
    between the centres of units, zero where a crop removes the pixel. A map that is simply stretched to the
    whole face lies askew where a network crops its input or convolves without padding."""
    position = np.arange(pixels)
    exact = (position - field.centre[axis]) / field.jump[axis]
    nearest = np.clip(exact, 0, cells - 1)
    weights = np.maximum(1 - np.abs(nearest[:, None] - np.arange(cells)), 0)
    fade = np.clip(1.5 - np.abs(exact - nearest), 0, 1)  # beyond its own width the outermost cell tells less
    inside = (position >= field.low[axis]) & (position <= field.high[axis])
    return (weights * (fade * inside)[:, None]).astype(np.float32)


def upsample(maps, field, size):
    """Maps (n, rows, columns) at their places over an image: float32 (n, *size), size (height, width)."""
    rows, columns = (interpolation(field, maps.shape[axis + 1], size[axis], axis) for axis in (0, 1))
    return rows @ maps @ columns.T


def patch(image, field, unit):
    """What `unit` (y, x) sees of an image (h, w): float32, NaN beyond its border; all where not local."""
    image = np.asarray(image, np.float32)
    if not field.is_local:
        return image
    (top, left), (bottom, right) = field.box(unit)
    margin = max(0, -top, -left, bottom - image.shape[0], right - image.shape[1])
    padded = np.pad(image, margin, constant_values=np.nan)
    return padded[top + margin:bottom + margin, left + margin:right + margin]


def stage_ends(model):
    """Names of the layers that end each convolution stage: its last activation, else its last convolution or
    normalisation. A stage is a run of maps, with a convolution, that no layer has shrunk to two thirds or
    less. Raises UserError without any convolution."""
    stages, height = [], np.inf
    for layer in map(model.get_layer, fields(model)):
        rows = layer.output.shape[1]
        if rows == 1:
            continue
        if rows * 3 <= height * 2:
            height = rows
            stages.append([])
        stages[-1].append(layer)
    ends = []
    for stage in stages:
        stage = list(itertools.dropwhile(lambda layer: not isinstance(layer, CONVOLUTIONS), stage))
        activations = [layer for layer in stage if isinstance(layer, ACTIVATIONS) or getattr(
            layer, "activation", None) not in (None, keras.activations.linear)]
        others = [layer for layer in stage if isinstance(layer, (*CONVOLUTIONS, layers.BatchNormalization))]
        ends += (activations or others)[-1:]
    if not ends:
        raise UserError(f"{model.name} has no convolution; its layers are "
                        f"{', '.join(layer.name for layer in model.layers)}")
    return [layer.name for layer in ends]
