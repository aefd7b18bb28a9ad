"""Model files: load any Keras image classifier safely, save compactly, read cards, predict, take apart."""

import io
import math
from pathlib import Path

import numpy as np

from utils.cli import UserError
from utils.data import CLASSES, SIZE
from utils.files import PROJECT, read_json, relative_path, replacing

MODELS = PROJECT / "models"
FIGURES = PROJECT / "figures"
RELEASED_CNN = MODELS / "fer2013-report-cnn.h5"
OUTPUT_BYTES = 1 << 29  # of one layer's output for one batch in `predict`

CARD = {  # types of what the scripts read from a model card, where it is there; ...: every key
    "name": str, "command": str, "network": str, "parameters": int, "multiply_adds": int, "saved_epoch": int,
    "seconds": int | float, "precision": str, "hardware": str,
    "split": {"data": str, "fingerprint": str, "validation": str | int | float, "seed": int, "rows": int,
              "training_rows": int, "validation_rows": int},
    "metrics": {...: int | float | None},
    "arguments": {"limit": int | None, "validation_labels": str | None, "batch_size": int, "seed": int,
                  "keep": str},
    "evaluations": {...: {"data": str, "tta": str, "rows": int, "accuracy": list}},
}


# ---- load --------------------------------------------------------------------------------------------------


def default_model():
    """The model that analysis scripts use without --model: the user's own CNN, else the released one."""
    own = MODELS / "cnn.h5"
    for path in (own, RELEASED_CNN):
        if path.exists():
            note = "" if path == own else " (released; train_cnn.py would make models/cnn.h5)"
            print(f"Using {relative_path(path)}{note}")
            return path
    raise UserError(f"no model at {relative_path(own)}; run train_cnn.py first or name one with --model")


def load(path):
    """Load an HDF5 (`.h5`) or zipped (`.keras`) classifier as a functional model with one image input.

    Returns an uncompiled keras.Model: (None, height, width, channels) in, (None, classes) out. A height or
    width that the file leaves open becomes that of a face. Code inside the file is never run (see
    utils.model_safety). Raises UserError when the file is missing, is no model, needs custom code, holds
    weights that are not finite, or has another number of inputs or dimensions.
    """
    import keras

    from utils import model_safety

    path = Path(path)
    if not path.is_file():
        released = ", ".join(sorted(relative_path(p) for p in MODELS.glob("*.h5"))) or "none yet"
        raise UserError(f"model {path} does not exist; at hand: {released}")
    model = model_safety.load(path)
    inputs, outputs = ([tensor.shape for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if [len(shape) for shape in inputs] != [4]:
        raise UserError(f"{path} has inputs {inputs}; expected one image input (height, width, channels)")
    if [len(shape) for shape in outputs] != [2]:
        raise UserError(f"{path} has outputs {outputs}; expected one vector of class scores")
    assert_finite(model.weights, path)
    if None in inputs[0][1:]:
        return flat_copy(model)
    return keras.Model(model.inputs, model.outputs[0], name=model.name)  # a Sequential of .h5 has no `output`


def assert_finite(weights, what):
    """Raise UserError if any of `weights` (Keras variables or arrays) of `what` holds NaN or infinity."""
    import keras

    for number, weight in enumerate(weights):
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            name = getattr(weight, "path", f"array {number}")
            raise UserError(f"{what} holds weights that are not finite ({name}): "
                            "its training diverged or it is damaged")


# ---- save --------------------------------------------------------------------------------------------------


def save(model, path, half=False):
    """Save `model` as a compressed `.h5` that plain `keras.models.load_model` reads; a whole file or none.

    half: store weights as float16 (2 bytes each), which Keras casts back to float32 on loading.
    Raises UserError, with nothing written, when a weight is not finite in the type in which it is stored.
    """
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, which the check finds
        stored = [weight.astype(np.float16 if half else weight.dtype) for weight in model.get_weights()]
    assert_finite(stored, f"the model for {path}")
    packed = io.BytesIO()  # where a write fails, the HDF5 library leaves its file half open
    with h5py.File.in_memory() as source, h5py.File(packed, "w", libver=("earliest", "v110")) as target:
        save_model_to_hdf5(model, source, include_optimizer=False)

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                dtype = np.float16 if half and item.dtype == np.float32 else item.dtype
                packing = {"compression": "gzip", "shuffle": True} if item.ndim else {}
                target.create_dataset(name, data=item[()].astype(dtype), **packing)
            else:
                target.require_group(name)
            target[name].attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    with replacing(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def export(model, dtype="float32"):
    """The network to save: a copy of `model` in stock layers that compute in `dtype`, with the same weights.

    model: functional or Sequential, nested or not, in any precision. Layers of our own classes become the
    Keras layers that they extend (see stock_copy). dtype: "float32" or "mixed_bfloat16"; the weights are
    float32 in both.
    """
    import keras

    def convert(layer):
        return stock_copy(layer, dtype=dtype)

    exported = keras.models.clone_model(model, clone_function=convert, recursive=True)
    exported.set_weights(model.get_weights())
    return exported


# ---- cards -------------------------------------------------------------------------------------------------


def card_path(model_path):
    """The model card (JSON) beside a model file."""
    return Path(model_path).with_suffix(".json")


def read_card(model_path):
    """The model card beside a model file as a dict, or None when there is none.

    Raises UserError when it is no JSON or holds something of another type than CARD says.
    """
    path = card_path(model_path)
    if not path.exists():
        return None
    card = read_json(path)
    check_types(card, CARD, f"model card {path}")
    return card


def check_types(value, expected, where):
    """Raise UserError unless `value` is of type `expected` or, for a dict of types, its values are."""
    kind = dict if isinstance(expected, dict) else expected
    if not isinstance(value, kind):
        raise UserError(f"{where} is {str(value)[:40]!r}; expected {getattr(kind, '__name__', kind)}")
    if kind is dict:
        for key in value if ... in expected else expected.keys() & value.keys():
            check_types(value[key], expected.get(key, expected.get(...)), f"{where}: {key}")


# ---- predict -----------------------------------------------------------------------------------------------


def class_names(model):
    """Names of a model's outputs: the seven expressions when there are seven, else `class 0` and so on."""
    n = model.output_shape[-1]
    return list(CLASSES) if n == len(CLASSES) else [f"class {i}" for i in range(n)]


def prepare(images, model):
    """Faces as a model wants them.

    images: uint8 or float (n, h, w), grey, 0-255. Returns float32 (n, H, W, C) in 0-255, resized bilinearly
    to the model's input size where that is fixed and repeated over its channels.
    """
    import keras

    _, height, width, channels = model.input_shape
    batch = np.asarray(images, np.float32)[..., None]
    height, width = height or batch.shape[1], width or batch.shape[2]
    if batch.shape[1:3] != (height, width):
        batch = np.asarray(keras.ops.image.resize(batch, (height, width), interpolation="bilinear"))
    return np.repeat(batch, channels, axis=-1) if channels and channels > 1 else batch


def predict(model, images, batch_size=256):
    """Class scores of grey faces: images (n, h, w), 0-255 -> float32 (n, classes).

    A batch is smaller than `batch_size` where the model's largest layer would take more than half a gigabyte.
    """
    batch_size = min(batch_size, max(1, OUTPUT_BYTES // (4 * largest_output(model))))
    outputs = []
    for start in range(0, len(images), batch_size):
        part = prepare(images[start:start + batch_size], model)
        padding = min(batch_size, len(images)) - len(part)  # one shape, so that the graph is traced once
        padded = np.concatenate([part, np.zeros((padding, *part.shape[1:]), np.float32)]) if padding else part
        outputs.append(model.predict_on_batch(padded)[:len(part)])
    return np.concatenate(outputs) if outputs else np.zeros((0, model.output_shape[-1]), np.float32)


# ---- structure ---------------------------------------------------------------------------------------------


def is_model(operation):
    """Whether a step of a graph is itself a functional or Sequential model."""
    import keras

    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def stock_copy(layer, **changes):
    """A new layer like `layer`, of its nearest class in Keras, with `changes` to its configuration.

    A layer class of our own, used in training only, thus becomes the stock layer that it extends. Weights are
    not copied. An operation without state, such as keras.ops.relu, is returned as it is.
    """
    import keras

    if not isinstance(layer, keras.layers.Layer):
        return layer
    stock = next(kind for kind in type(layer).__mro__ if kind.__module__.split(".")[0] == "keras")
    if stock in (keras.layers.Layer, keras.Model):
        raise TypeError(f"{type(layer).__name__} extends no layer of Keras that could stand for it")
    return stock.from_config(stock.get_config(layer) | changes)


def flat_copy(model):
    """A copy of `model` (same weights, its own variables) with every nested model unfolded into plain layers.

    Returns a functional keras.Model whose `layers` and `get_layer` reach everything; `model` is not changed.
    Names stay; where a nested layer's name is taken it gets the nested model's name in front. A height or
    width that is open becomes that of a face.
    """
    flat, copies = unfold(model)
    for original, copy in copies:
        copy.set_weights(original.get_weights())
    return flat


def unfold(model):
    """`flat_copy` with fresh weights; also a list of (layer of `model`, its copy)."""
    import keras

    copies, taken = {}, {layer.name for layer in model.layers}

    def copy_of(operation, outer):
        if is_model(operation) or not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in copies:
            name = operation.name
            while outer and name in taken:
                name = f"{outer}_{name}"
            taken.add(name)
            copies[id(operation)] = operation, stock_copy(operation, name=name)
        return copies[id(operation)][1]

    def run(part, inputs, outer):
        def call(operation, *args, **kwargs):
            if is_model(operation):
                return run(operation, args[0], operation.name)
            return operation(*args, **kwargs)

        graph = keras.Model(part.inputs, part.outputs)
        outputs = graph._run_through_graph(inputs, lambda operation: copy_of(operation, outer), call)
        return outputs[0] if len(part.outputs) == 1 else outputs

    # A float input: whole numbers have no gradient.
    shapes = [[*(side or SIZE for side in x.shape[1:-1]), x.shape[-1] or 1] for x in model.inputs]
    inputs = [keras.Input(shape, name=x.name) for shape, x in zip(shapes, model.inputs)]
    return keras.Model(inputs, run(model, inputs, ""), name=model.name), list(copies.values())


def logits_model(model):
    """A copy of a classifier that ends in logits: images as `model` takes them -> float32 (n, classes).

    The layer named `logits` where there is one; else the last layer without its softmax or sigmoid, whether
    that is a layer or the activation of one, in the model or in a nested one; a model that ends in logits
    stays as it is. A binary classifier's single logit z becomes two, -z/2 and z/2, whose softmax is the
    sigmoid of z, so that each class has a gradient. Unfolded as `flat_copy` says, so every layer can be
    reached by name.
    """
    import keras
    from keras import layers

    flat = flat_copy(model)
    named = next((layer for layer in flat.layers if layer.name == "logits" and not squashes(layer)), None)
    if named is not None and named.output.shape == flat.outputs[0].shape:
        logits = named.output
    else:
        logits = without_softmax(flat.outputs[0])
    if logits.shape[-1] == 1:
        halves = {"minus_half_logit": -0.5, "half_logit": 0.5}
        logits = layers.Concatenate(name="both_logits")(
            [layers.Rescaling(half, name=name)(logits) for name, half in halves.items()])
    return keras.Model(flat.inputs, logits, name=model.name)


def squashes(operation):
    """Whether a step of a graph ends in a softmax or sigmoid."""
    import keras

    activation = getattr(operation, "activation", None)
    return (type(operation).__name__ in ("Softmax", "Sigmoid")
            or activation in (keras.activations.softmax, keras.activations.sigmoid))


def without_softmax(tensor):
    """The symbolic output `tensor` before the softmax or sigmoid that ends its graph; itself without one."""
    import keras
    from keras import layers

    operation, node, _ = tensor._keras_history
    before = operation._inbound_nodes[node].input_tensors
    if squashes(operation):
        if not getattr(operation, "weights", None):
            return before[0]
        linear = stock_copy(operation, activation="linear")
        logits = linear(before[0])
        linear.set_weights(operation.get_weights())
        return logits
    passes = isinstance(operation, (layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity)) or (
        isinstance(operation, layers.Activation) and operation.activation is keras.activations.linear)
    if not passes:
        return tensor
    logits = without_softmax(before[0])
    return tensor if logits is before[0] else operation(logits)


def largest_output(model):
    """Values of the largest output of any step of a model, nested ones included, for one image: int."""
    import keras

    def sizes(part):
        for operation in keras.Model(part.inputs, part.outputs).operations:
            for node in operation._inbound_nodes:
                for output in node.output_tensors:
                    yield math.prod(size or SIZE for size in output.shape[1:])
            if is_model(operation):
                yield from sizes(operation)

    return max(sizes(model))


def multiply_adds(model):
    """Multiply-adds of one forward pass on one image: convolutions and dense layers, an int."""
    from keras import layers

    total = 0
    for layer in unfold(model)[0].layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
            for node in layer._inbound_nodes:  # one for each use of the layer
                total += math.prod(node.output_tensors[0].shape[1:-1]) * math.prod(layer.kernel.shape)
    return total
