"""Model files: load any Keras image classifier safely, save compactly, read cards, predict."""

import io
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np

from utils.cli import UserError
from utils.data import CLASSES
from utils.files import MODELS, read_json, relative_path, replacing

RELEASED_CNN = MODELS / "fer2013-report-cnn.h5"
RELEASED_BEST = MODELS / "fer2013-compact.h5"
NETWORKS = {"report_cnn": "The homework's CNN", "report_dnn": "The homework's DNN",
            "compact_cnn": "The compact CNN", "matched_dnn": "The DNN of the CNN's size"}
OUTPUT_BYTES = 1 << 29  # of one layer's output for one batch in `predict`
LARGEST_OUTPUT = 1 << 22  # values of one layer for one image; VGG16 at 224 px has 3.2 million

CARD = {  # types of what the scripts read from a model card, where it is there; ...: every key
    "name": str, "date": str, "command": str, "network": str, "parameters": int, "multiply_adds": int,
    "saved_epoch": int, "seconds": int | float, "precision": str, "hardware": str,
    "split": {"data": str, "fingerprint": str, "validation": str | int | float, "seed": int, "rows": int,
              "training_rows": int, "validation_rows": int},
    "metrics": {...: int | float | None},
    "arguments": {"limit": int | None, "validation_labels": str | None, "labels_from": str | None,
                  "batch_size": int, "seed": int, "keep": str},
    "evaluations": {...: {"data": str, "tta": str, "rows": int, "accuracy": list}},
}


def default_model(released_path=None):
    """The model of scripts without --model: the user's own CNN, else a released one (the homework's)."""
    own, released_path = MODELS / "cnn.h5", released_path or RELEASED_CNN
    path = own if own.exists() else released_path
    if not path.exists():
        raise UserError(f"no model at {relative_path(own)}; run train_cnn.py first or name one with --model")
    mine, released = (read_card(each) or {} for each in (path, released_path))
    note = "" if path == own else " (released; train_cnn.py would make models/cnn.h5)"
    print(f"Using {relative_path(path)}{note}: {describe(mine)}")
    accuracy, known = (card.get("metrics", {}).get("validation_accuracy") for card in (mine, released))
    rows, known_rows = (card.get("split", {}).get("training_rows") for card in (mine, released))
    # A point is about what another seed or split changes
    less = ("accuracy is lower" if None not in (accuracy, known) and accuracy < known - 0.01 else
            "training faces are fewer" if None not in (rows, known_rows) and rows < known_rows / 2 else "")
    if less and mine.get("split", {}).get("data") != "built-in sample":  # whose faces are easier and fewer
        print(f"Warning: its {less} than the released model's ({describe(released)}); "
              f"to use that one: --model {relative_path(released_path)}")
    return path


def describe(card):
    """A model's accuracy, training faces and date, from its card (dict), in one phrase."""
    accuracy, split = card.get("metrics", {}).get("validation_accuracy"), card.get("split", {})
    parts = ["validation accuracy " + ("unknown" if accuracy is None else f"{100 * accuracy:.1f} %")]
    views = {each["tta"]: each["accuracy"][0] for each in card.get("evaluations", {}).values()
             if each["data"] == split.get("validation")}
    best = max(views, key=views.get, default="none")
    if best != "none":
        parts[0] += f" ({100 * views[best]:.1f} % with --tta {best})"
    if "training_rows" in split:
        parts.append(f"trained on {split['training_rows']:,} faces of {split.get('data', 'unknown data')}")
    return ", ".join(parts) + (f" on {card['date']}" if "date" in card else "")


def title(path):
    """A model's name for the title of a figure: its network's beside its file's, "The homework's CNN
    (fer2013-report-cnn)"; the file's alone where no card names a network of ours."""
    network = NETWORKS.get((read_card(path) or {}).get("network"))
    return f"{network} ({Path(path).stem})" if network else Path(path).stem


def load(path):
    """Load an HDF5 (`.h5`) or zipped (`.keras`) classifier as a functional model with one image input.

    Returns an uncompiled keras.Model without nested ones: (None, height, width, channels) in, (None, classes)
    probabilities out, whatever the file's ends in (see `structure.softmax_model`). The file may come from
    anyone: Keras' safe mode runs no code from it and reads no other file for it.
    Raises UserError when it is no such model, needs custom code, or holds weights that are not finite.
    """
    from utils import structure

    path = Path(path)
    if not path.is_file():
        raise UserError(f"model {path} does not exist")
    try:
        model = load_safely(path)
    except Exception as error:  # h5py, zipfile and Keras raise whatever a damaged file leads them to
        while "deserializ" in str(error) and error.__context__:  # Keras wraps the reason, layer by layer
            error = error.__context__
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:200]
        raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    inputs, outputs = ([tensor.shape for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if [len(shape) for shape in inputs] != [4]:
        raise UserError(f"{path} has inputs {inputs}; expected one image input (height, width, channels)")
    if inputs[0][-1] not in (1, 3):
        raise UserError(f"{path} takes images of shape {inputs[0][1:]}; expected height, width and 1 or 3 "
                        "channels, in this order")
    if [len(shape) for shape in outputs] != [2]:
        raise UserError(f"{path} has outputs {outputs}; expected one vector of class scores")
    assert_finite(model.weights, path)
    if not any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers):
        print(f"{path} has no Rescaling or Normalization layer: it gets grey values 0-255, and its classes "
              f"are taken as {', '.join(CLASSES)}; if it was trained on 0-1, put "
              "keras.layers.Rescaling(1 / 255) in front of it")
    return structure.softmax_model(model)


def load_safely(path):
    """The model in a file, unfolded. Refuses also what Keras' safe mode lets through: damage on which HDF5
    hangs, and layers far larger than the file."""
    import keras
    from keras.src.backend.common import global_state

    from utils import structure

    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = archive.read("model.weights.h5")
    check_heaps(content)
    try:  # once without allocating: weights that are not in the file are told by their shapes
        with keras.StatelessScope(initialize_variables=False), mock.patch.object(
                keras.Model, "compile_from_config"):  # Keras calls it also with compile=False
            keras.models.load_model(path, compile=False, safe_mode=True)
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])
    model = structure.flat_copy(keras.models.load_model(path, compile=False, safe_mode=True))
    if (values := structure.largest_output(model)) > LARGEST_OUTPUT:
        raise ValueError(f"a layer gives {values:,} values for one image; at most {LARGEST_OUTPUT:,}")
    return model


def check_heaps(content):
    """Refuse HDF5 (bytes) whose heap of texts has a free block of no length: HDF5 1.14 never ends on it.

    Global heap collections (HDF5 File Format Specification, III.E) are signature, version and reserved bytes,
    size; then blocks of number, references, size, content.
    """
    at = -1
    while (at := content.find(b"GCOL\x01\0\0\0", at + 1)) >= 0:
        block, end = at + 16, min(at + int.from_bytes(content[at + 8:at + 16], "little"), len(content))
        while block + 16 <= end:
            number = int.from_bytes(content[block:block + 2], "little")
            size = int.from_bytes(content[block + 8:block + 16], "little")
            if number == size == 0:
                raise ValueError(f"it is damaged (the heap of its texts has an empty block at byte {block})")
            block += 16 + -(-size // 8) * 8 if number else size


def assert_finite(weights, what):
    """Raise UserError if any of `weights` (Keras variables or arrays) of `what` holds NaN or infinity."""
    for number, weight in enumerate(weights):
        if not np.isfinite(np.asarray(weight)).all():
            name = getattr(weight, "path", f"array {number}")
            raise UserError(f"{what} holds weights that are not finite ({name}): "
                            "its training diverged or it is damaged")


def save(model, path, half=False):
    """Save `model` as a compressed `.h5` that plain `keras.models.load_model` reads; a whole file or none.
    half: store weights as float16, which Keras casts back to float32 on loading. Raises UserError, with
    nothing written, when a weight is not finite in the type in which it is stored."""
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, which the check finds
        stored = [weight.astype(np.float16 if half else weight.dtype) for weight in model.get_weights()]
    assert_finite(stored, f"the model for {path}")
    packed = io.BytesIO()  # where a write fails, the HDF5 library leaves its file half open
    with h5py.File.in_memory() as source, h5py.File(packed, "w", libver=("earliest", "v110")) as target:
        save_model_to_hdf5(model, source, include_optimizer=False)

        def copy(name, item):
            if isinstance(item, h5py.Group):
                target.require_group(name)
            else:
                dtype = np.float16 if half and item.dtype == np.float32 else item.dtype
                packing = {"compression": "gzip", "shuffle": True} if item.ndim else {}
                target.create_dataset(name, data=item[()].astype(dtype), **packing)
            target[name].attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    with replacing(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def card_path(model_path):
    """The model card (JSON) beside a model file."""
    return Path(model_path).with_suffix(".json")


def read_card(model_path):
    """The model card beside a model file as a dict, or None when there is none; UserError when it is no JSON
    or holds something of another type than CARD says."""
    path = card_path(model_path)
    return checked(read_json(path), CARD, f"model card {path}") if path.exists() else None


def checked(value, expected, where):
    """`value`; UserError unless it is of type `expected` or, for a dict of types, its values are."""
    kind = dict if isinstance(expected, dict) else expected
    if not isinstance(value, kind):
        raise UserError(f"{where} is {str(value)[:40]!r}; expected {getattr(kind, '__name__', kind)}")
    if kind is dict:
        for key in value if ... in expected else expected.keys() & value.keys():
            checked(value[key], expected.get(key, expected.get(...)), f"{where}: {key}")
    return value


def class_names(model):
    """Names of a model's outputs: the seven expressions when there are seven, else `class 0` and so on."""
    n = model.output_shape[-1]
    return list(CLASSES) if n == len(CLASSES) else [f"class {i}" for i in range(n)]


def prepare(images, model):
    """Grey faces (n, h, w), 0-255, as a model wants them: float32 (n, H, W, C), 0-255, resized bilinearly to
    the model's input size where that is fixed, and repeated over its channels."""
    import keras

    _, height, width, channels = model.input_shape
    batch = np.asarray(images, np.float32)[..., None]
    if height and batch.shape[1:3] != (height, width):
        batch = np.asarray(keras.ops.image.resize(batch, (height, width), interpolation="bilinear"))
    return np.repeat(batch, channels or 1, axis=-1)


def predict(model, images, batch_size=256):
    """Class scores of grey faces: images (n, h, w), 0-255 -> float32 (n, classes). Batches are smaller where
    the model's largest layer would take more than half a gigabyte."""
    from utils import structure

    if not len(images):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    size = min(batch_size, len(images), max(1, OUTPUT_BYTES // (4 * structure.largest_output(model))))
    outputs = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)  # one shape, so that the graph is traced once
        outputs.append(model.predict_on_batch(prepare(images[rows], model)))
    return np.concatenate(outputs)[:len(images)]
