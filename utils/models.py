"""Model files: load any Keras image classifier safely, save ours compactly, and find the one to analyse."""

import os
from pathlib import Path

from utils.cli import UserError
from utils.data import CLASSES
from utils.files import PROJECT, read_json, replacing, shown

MODELS = PROJECT / "models"
FIGURES = PROJECT / "figures"
RELEASED_CNN = MODELS / "fer2013-report-cnn.h5"


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
    (None, classes). Code inside the file is never run. Raises UserError when the file is missing, is no model,
    needs custom code, or has another number of inputs or dimensions.
    """
    import keras

    path = Path(path)
    if not path.is_file():
        released = ", ".join(sorted(shown(p) for p in MODELS.glob("*.h5"))) or "none yet"
        raise UserError(f"model {path} does not exist; at hand: {released}")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        # A Sequential loaded from .h5 has no `.output`; a functional wrapper always has.
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UserError(f"{path} has input shape {model.input_shape}; expected one image input (height, width, channels)")
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise UserError(f"{path} has output shape {model.output_shape}; expected one vector of class scores")
    return model


def save(model, path, half=False):
    """Save `model` as a compressed `.h5` that plain `keras.models.load_model` reads; a whole file or none.

    With `half` the weights are stored as float16 (2 bytes each), which Keras casts back to float32 on loading.
    """
    import absl.logging
    import h5py
    import numpy as np

    absl.logging.set_verbosity(absl.logging.ERROR)  # Keras calls .h5 legacy at each save; the format is the task's
    with replacing(path) as temporary:
        plain = temporary.with_name(temporary.name + ".plain.h5")
        try:
            model.save(plain, include_optimizer=False)
            with h5py.File(plain, "r") as source, h5py.File(temporary, "w", libver=("earliest", "v110")) as target:

                def copy(name, item):
                    if isinstance(item, h5py.Dataset):
                        value = item[()]
                        shrink = half and value.dtype == np.float32
                        packing = {"compression": "gzip", "shuffle": True} if value.ndim else {}
                        made = target.create_dataset(
                            name, data=value.astype(np.float16) if shrink else value, **packing)
                    else:
                        made = target.require_group(name)
                    for key, attribute in item.attrs.items():
                        made.attrs[key] = attribute

                for key, attribute in source.attrs.items():
                    target.attrs[key] = attribute
                source.visititems(copy)
        finally:
            plain.unlink(missing_ok=True)


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
