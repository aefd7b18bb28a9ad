"""Model files: load any Keras image classifier safely, save ours compactly, and find the one to analyse."""

import os
from pathlib import Path

from utils.cli import UserError
from utils.data import CLASSES, SIZE
from utils.files import PROJECT, read_json, replacing, shown

MODELS = PROJECT / "models"
FIGURES = PROJECT / "figures"
RELEASE = "fer2013-"  # names of the tracked models, which are stored as float16
RELEASED_CNN = MODELS / f"{RELEASE}report-cnn.h5"


def default_model():
    """The model that analysis scripts use without --model: the user's own CNN, else the released one."""
    own = MODELS / "cnn.h5"
    for path in (own, RELEASED_CNN):
        if path.exists():
            print(f"Using {shown(path)}" + ("" if path == own else " (released; train_cnn.py would make models/cnn.h5)"))
            return path
    raise UserError(f"no model found at {shown(own)}; run train_cnn.py first or name one with --model")


def load(path):
    """Load a `.h5` or `.keras` classifier as a functional model with one image input.

    Returns a keras.Model (uncompiled) whose input has shape (None, height, width, channels) and whose output is
    (None, classes). Code inside the file is never run (see utils.model_safety). Raises UserError when the file is missing,
    is no model, needs custom code, holds weights that are no numbers, or has another number of inputs or dimensions.
    """
    import keras
    import numpy as np

    from utils import model_safety

    path = Path(path)
    if not path.is_file():
        released = ", ".join(sorted(shown(p) for p in MODELS.glob("*.h5"))) or "none yet"
        raise UserError(f"model {path} does not exist; at hand: {released}")
    model_safety.check(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if len(model.inputs) == len(model.outputs) == 1:  # a Sequential loaded from .h5 lacks `.output`; a wrapper has it
            model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UserError(f"{path} has input shape {model.input_shape}; expected one image input (height, width, channels)")
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise UserError(f"{path} has output shape {model.output_shape}; expected one vector of class scores")
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise UserError(f"{path} holds weights that are no numbers ({weight.path}); it is damaged or its training failed")
    return model


def save(model, path, half=False):
    """Save `model` as a compressed `.h5` that plain `keras.models.load_model` reads; a whole file or none.

    With `half` the weights are stored as float16 (2 bytes each), which Keras casts back to float32 on loading.
    """
    import io

    import h5py
    import numpy as np
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    packed = io.BytesIO()  # the HDF5 library leaves its files half open where a write fails; a plain write does not
    with (h5py.File("plain.h5", "w", driver="core", backing_store=False) as source,
          h5py.File(packed, "w", libver=("earliest", "v110")) as target):
        save_model_to_hdf5(model, source, include_optimizer=False)

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                value = item[()]
                shrink = half and value.dtype == np.float32
                packing = {"compression": "gzip", "shuffle": True} if value.ndim else {}
                made = target.create_dataset(name, data=value.astype(np.float16) if shrink else value, **packing)
            else:
                made = target.require_group(name)
            for key, attribute in item.attrs.items():
                made.attrs[key] = attribute

        for key, attribute in source.attrs.items():
            target.attrs[key] = attribute
        source.visititems(copy)
    with replacing(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def card_path(model_path):
    """The model card (JSON) beside a model file."""
    return Path(model_path).with_suffix(".json")


def read_card(model_path):
    """The model card beside a model file as a dict, or None when there is none."""
    path = card_path(model_path)
    return read_json(path) if path.exists() else None


def class_names(model):
    """Names of a model's outputs: the seven expressions when there are seven, else `class 0` and so on."""
    n = model.output_shape[-1]
    return list(CLASSES) if n == len(CLASSES) else [f"class {i}" for i in range(n)]


def prepare(images, model):
    """Faces as a model wants them.

    images: uint8 or float (n, h, w), grey, 0-255. Returns float32 (n, H, W, C) in 0-255, resized bilinearly to the
    model's input size where that is fixed and repeated over its channels.
    """
    import keras
    import numpy as np

    _, height, width, channels = model.input_shape
    batch = np.asarray(images, np.float32)[..., None]
    height, width = height or batch.shape[1], width or batch.shape[2]
    if batch.shape[1:3] != (height, width):
        batch = np.asarray(keras.ops.image.resize(batch, (height, width), interpolation="bilinear"))
    return np.repeat(batch, channels, axis=-1) if channels and channels > 1 else batch


def predict(model, images, batch_size=256):
    """Class scores of grey faces: images (n, h, w) 0-255 -> float32 (n, classes). Compiled once, batch by batch."""
    import numpy as np

    outputs = []
    for start in range(0, len(images), batch_size):
        part = prepare(images[start:start + batch_size], model)
        padding = min(batch_size, len(images)) - len(part)  # one shape, so that the graph is traced once
        padded = np.concatenate([part, np.zeros((padding, *part.shape[1:]), np.float32)]) if padding else part
        outputs.append(model.predict_on_batch(padded)[:len(part)])
    return np.concatenate(outputs) if outputs else np.zeros((0, model.output_shape[-1]), np.float32)


def flat_copy(model):
    """A copy of `model` (same weights, its own variables) with every nested model unfolded into plain layers.

    Returns a functional keras.Model whose `layers` and `get_layer` reach everything; the user's model is not touched.
    Names stay; where a nested layer's name is taken it gets the nested model's name in front.
    """
    import keras

    copies, taken = {}, {layer.name for layer in model.layers}

    def is_model(operation):
        return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))

    def copy_of(operation, outer):
        if is_model(operation) or not isinstance(operation, keras.layers.Layer):
            return operation  # an operation without state needs no copy
        if id(operation) not in copies:
            config, name = operation.get_config(), operation.name
            while outer and name in taken:
                name = f"{outer}_{name}"
            taken.add(name)
            copies[id(operation)] = operation, type(operation).from_config(config | {"name": name})
        return copies[id(operation)][1]

    def unfold(part, inputs, outer):
        def call(operation, *args, **kwargs):
            if is_model(operation):
                return unfold(operation, args[0], operation.name)
            return operation(*args, **kwargs)

        graph = keras.Model(part.inputs, part.outputs)
        outputs = graph._run_through_graph(inputs, lambda operation: copy_of(operation, outer), call)
        return outputs[0] if len(part.outputs) == 1 else outputs

    # A float input: whole numbers have no gradient. A size that was left open becomes that of a face.
    inputs = [keras.Input([size or SIZE for size in x.shape[1:]], name=x.name) for x in model.inputs]
    flat = keras.Model(inputs, unfold(model, inputs, ""), name=model.name)
    for original, copy in copies.values():
        copy.set_weights(original.get_weights())
    return flat


def logits_model(model):
    """A copy of a classifier that ends in logits: keras.Model, images as `model` takes them -> float32 (n, classes).

    The layer named `logits` where there is one; else the last layer without its softmax (or sigmoid), whether that is a
    layer of its own or the activation of a Dense or convolution, in the model or in a nested one; a model that ends in
    logits stays as it is. The copy is unfolded as `flat_copy` says, so every layer can be reached by name.
    """
    import keras
    from keras import layers

    def squashes(operation):
        kind = getattr(operation, "activation", None)
        return (isinstance(operation, layers.Softmax) or kind in (keras.activations.softmax, keras.activations.sigmoid)
                or type(operation).__name__ in ("Softmax", "Sigmoid"))

    flat = flat_copy(model)
    named = next((layer for layer in flat.layers if layer.name == "logits" and not squashes(layer)), None)
    if named is not None and named.output.shape == flat.outputs[0].shape:
        return keras.Model(flat.inputs, named.output, name=model.name)
    tensor, behind = flat.outputs[0], []
    while True:
        operation, node, _ = tensor._keras_history
        before = operation._inbound_nodes[node].input_tensors
        if squashes(operation):
            break
        passes = isinstance(operation, (layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity)) or (
            isinstance(operation, layers.Activation) and operation.activation is keras.activations.linear)
        if not passes:
            return flat
        behind.append(operation)
        tensor = before[0]
    if isinstance(operation, (layers.Softmax, layers.Activation)) or not isinstance(operation, layers.Layer):
        logits = before[0]
    else:
        linear = type(operation).from_config(operation.get_config() | {"activation": "linear"})
        logits = linear(before[0])
        linear.set_weights(operation.get_weights())
    for operation in reversed(behind):
        logits = operation(logits)
    return keras.Model(flat.inputs, logits, name=model.name)


def one_line_versions():
    """Versions that decide a result, for the model card."""
    import platform

    import keras
    import numpy as np

    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__,
                "backend": keras.backend.backend()}
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        versions["tensorflow"] = tensorflow.__version__
    elif keras.backend.backend() == "jax":
        import jax

        versions["jax"] = jax.__version__
    return versions


def hardware():
    """One line on the machine: processor and number of cores that this process may use."""
    import platform

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
