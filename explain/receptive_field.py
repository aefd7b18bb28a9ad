"""Which pixels of the image the units of a feature map see (Araujo et al. 2019).

Networks are functional and without nested models, as `utils.structure.flat_copy` gives them.
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
RECTIFIERS = (keras.activations.relu, keras.activations.relu6)
# Names of layers, and of operations between layers, each of whose outputs depends on one place of the inputs.
ELEMENTWISE = {"Activation", "ReLU", "LeakyReLU", "ELU", "Relu", "Relu6", "HardSigmoid", "HardSwish",
               "Rescaling", "BatchNormalization", "Dropout", "SpatialDropout2D", "GaussianNoise",
               "GaussianDropout", "AlphaDropout", "Add", "Subtract", "Multiply", "Divide", "TrueDivide",
               "Average", "Maximum", "Minimum", "Concatenate"}


@dataclasses.dataclass(frozen=True)
class Field:
    """Where the units of a map look, in pixels of the network's input: float64 (2,) each, for y and x.

    centre: of unit (0, 0); jump: from one unit to the next; size: of what a unit sees, inf where that may be
    everything; low, high: the edges of what crops leave of the image, -0.5 and its length - 0.5 without any.
    """

    centre: np.ndarray
    jump: np.ndarray
    size: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def is_local(self):
        """Whether it is known that a unit sees only a part of the image, and which."""
        return bool(np.isfinite(self.size).all())

    def box(self, unit):
        """Pixels that `unit` (y, x) of a local field sees, also beyond the border: from (y, x) to (y, x)."""
        start = self.centre + np.multiply(unit, self.jump) - (self.size - 1) / 2
        return np.rint(start).astype(int), np.rint(start + self.size).astype(int)


@dataclasses.dataclass
class Node:
    """One call of a layer: its symbolic output, that before the ReLU that ends it, and the Field of a map."""

    layer: keras.Operation
    output: keras.KerasTensor
    before: keras.KerasTensor
    field: Field | None


def trace(model, size=None, split=(), keep_crops=True):
    """Call a functional network's layers again, on an input of `size` (height, width; default: its own).

    Returns the symbolic input (None, height, width, channels) and {layer name: Node}, from input to output.
    Of the layers named in `split` a ReLU inside the layer is split off, so that `before` is known.
    keep_crops: False leaves crops out, for a canvas that is cut to fit. Raises UserError for layers with
    channels first.
    """
    size = np.array(model.input_shape[1:3] if size is None else size)
    image = keras.Input((*map(int, size), model.input_shape[-1]), name="canvas")
    one = np.ones(2)
    nodes, fields = {}, {id(image): Field(0 * one, one, one, -0.5 * one, size - 0.5)}

    def call(layer, *args, **kwargs):
        inputs = [x for x in keras.tree.flatten([args, kwargs]) if isinstance(x, keras.KerasTensor)]
        if getattr(layer, "data_format", None) == "channels_first":
            raise UserError(f"layer {layer.name} expects channels first; TensorFlow has gradients of such "
                            "layers on accelerators only; build the model with data_format channels_last")
        if not keep_crops and isinstance(layer, CROPS):
            return inputs[0]
        if layer.name in split:
            before, output = split_activation(layer, *args, **kwargs)
        else:
            before = output = layer(*args, **kwargs)
        if isinstance(output, keras.KerasTensor):
            field = propagate(layer, inputs, output, [fields.get(id(x)) for x in inputs])
            fields[id(output)] = fields[id(before)] = field
            nodes[layer.name] = Node(layer, output, before, field)
        return output

    inputs = keras.tree.map_structure(lambda _: image, model.input)
    keras.models.clone_model(model, inputs, clone_function=lambda layer: layer, call_function=call)
    return image, nodes


def split_activation(layer, *args, **kwargs):
    """Call a layer: its output before a ReLU that ends it (or is all of it), and its output."""
    activation = getattr(layer, "activation", None)
    if isinstance(layer, layers.ReLU) or (activation in RECTIFIERS and not layer.weights):
        return args[0], layer(*args, **kwargs)
    if activation is not keras.activations.relu:
        return (layer(*args, **kwargs),) * 2
    linear = structure.stock_copy(layer, activation="linear")
    linear.build(args[0].shape)
    linear.set_weights(layer.get_weights())
    before = linear(*args, **kwargs)
    return before, keras.ops.relu(before)


def propagate(layer, inputs, output, fields):
    """The Field of a layer's output from those of its inputs; None where it is no map (n, h, w, channels)."""
    maps = [(x.shape[1:3], field) for x, field in zip(inputs, fields) if field is not None]
    if len(output.shape) != 4 or not maps:
        return None
    # Where branches meet, one that was pooled to a single unit tells nothing about place.
    before, field = max(maps, key=lambda pair: pair[0])
    before, after = np.array(before), np.array(output.shape[1:3])
    if isinstance(layer, CONVOLUTIONS + POOLINGS):
        kernel = np.array(layer.pool_size if isinstance(layer, POOLINGS) else layer.kernel_size)
        reach = (kernel - 1) * getattr(layer, "dilation_rate", (1, 1))
        strides = np.array(layer.strides)
        overhang = np.maximum((after - 1) * strides + reach + 1 - before, 0)
        padding = overhang // 2 if layer.padding == "same" else 0
        return dataclasses.replace(field, centre=field.centre + (reach / 2 - padding) * field.jump,
                                   jump=field.jump * strides, size=field.size + reach * field.jump)
    if isinstance(layer, layers.ZeroPadding2D):
        return dataclasses.replace(field, centre=field.centre - np.array(layer.padding)[:, 0] * field.jump)
    if isinstance(layer, CROPS) and (after <= before).all():
        return after_crop(layer, before, after, field)
    if type(layer).__name__ in ELEMENTWISE and all(tuple(after) == shape for shape, _ in maps):
        return after_merge([field for _, field in maps], field)
    ratio = before / after  # equal sizes, or stretched as a whole
    return dataclasses.replace(field, centre=field.centre + (ratio - 1) / 2 * field.jump,
                               jump=ratio * field.jump, size=np.full(2, np.inf))


def after_crop(layer, before, after, field):
    """The Field after a crop. One of the image itself stays local: a canvas does without it."""
    cut = (before - after) // 2 if isinstance(layer, layers.CenterCrop) else np.array(layer.cropping)[:, 0]
    centre = field.centre + cut * field.jump
    of_the_image = (field.size == 1).all() and (field.jump == 1).all()
    return dataclasses.replace(field, centre=centre, size=field.size if of_the_image else np.full(2, np.inf),
                               low=np.maximum(field.low, centre - field.jump / 2),
                               high=np.minimum(field.high, centre + (after - 0.5) * field.jump))


def after_merge(fields, largest):
    """The Field of a value that depends on one unit of each of `fields`: what they see together."""
    in_step = all((field.jump == largest.jump).all() and (field.low == largest.low).all() for field in fields)
    if not in_step or not all(field.is_local for field in fields):
        return dataclasses.replace(largest, size=np.full(2, np.inf))
    start = np.min([field.centre - field.size / 2 for field in fields], axis=0)
    end = np.max([field.centre + field.size / 2 for field in fields], axis=0)
    return dataclasses.replace(largest, centre=(start + end) / 2, size=end - start)


# ---- maps over the image -----------------------------------------------------------------------------------


def interpolation(field, cells, pixels, axis):
    """Weights of a map's rows (axis 0) or columns (1) in the image's pixels: float32 (pixels, cells).

    Linear between the centres of units. A map that is simply stretched to the whole face lies askew by
    several pixels where a network crops its input or convolves without padding. Pixels that a crop removes
    get zeros.
    """
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


# ---- which layers to look at -------------------------------------------------------------------------------


def feature_layers(nodes):
    """Names of the layers that give maps (n, h, w, channels): what can be visualised."""
    return [name for name, node in nodes.items() if len(node.output.shape) == 4]


def first_convolution(nodes):
    """The first convolution of a traced network, a Keras layer. Raises UserError without any."""
    for node in nodes.values():
        if isinstance(node.layer, CONVOLUTIONS):
            return node.layer
    raise UserError(f"the model has no convolution; its layers are {', '.join(nodes)}")


def stage_ends(nodes):
    """Names of the layers that end each convolution stage: the last activation before a pooling or stride,
    and the last.

    A stage is a run of maps that no layer has shrunk to two thirds or less; it needs a convolution to count.
    Where a stage has no activation, its last convolution or normalisation stands for it. Raises UserError
    without any convolution.
    """
    stages, height = [], np.inf
    for name in feature_layers(nodes):
        rows = nodes[name].output.shape[1]
        if rows * 3 <= height * 2 and rows > 1:
            height = rows
            stages.append([])
        if rows > 1:
            stages[-1].append((name, nodes[name].layer))
    ends = []
    for stage in stages:
        stage = list(itertools.dropwhile(lambda pair: not isinstance(pair[1], CONVOLUTIONS), stage))
        activations = [name for name, layer in stage if has_activation(layer)]
        others = [name for name, layer in stage
                  if isinstance(layer, (*CONVOLUTIONS, layers.BatchNormalization))]
        ends += (activations or others)[-1:]
    return ends or [first_convolution(nodes).name]  # which says what is missing


def has_activation(layer):
    """Whether a layer is or ends in an activation function."""
    return isinstance(layer, (layers.ReLU, layers.LeakyReLU, layers.ELU, layers.PReLU)) or (
        getattr(layer, "activation", None) not in (None, keras.activations.linear))
