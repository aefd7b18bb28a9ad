"""Is a model file safe to load? Looked at before Keras sees it: no code, no links to other files, no claimed giants.

A `.h5` file may link to other files on the disk, declare terabytes that are not there, or name layers that run code
(Lambda), read files (StringLookup) or load foreign programs (TFSMLayer). A `.keras` file is a zip of JSON and such an .h5.
Each refusal is a UserError of one line.
"""

import io
import json
import math
import mmap
import sys
import zipfile
from pathlib import Path

from utils.cli import UserError

CONFIG_BYTES = 16 << 20  # EfficientNet-B7's takes half a megabyte
UNPACKED_BYTES = 4 << 30  # of all weights together
PACKING = 1100  # deflate makes at most one byte of 1032
LARGEST_LAYER = 1 << 28  # values of one layer's output for one image
FILTERS = {1, 2, 3}  # of HDF5: deflate, shuffle, Fletcher-32; others are plug-ins, that is, code
RUNS_CODE = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
READS_FILES = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}
PLAIN_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__tuple__", "__slice__", "slice"}
PARTS = {"metadata.json", "config.json", "model.weights.h5"}


def check(path):
    """Raise UserError unless the `.h5` or `.keras` file at `path` holds nothing but stock layers and their weights."""
    path = Path(path)
    try:
        config, weights = (read_keras if path.suffix == ".keras" else read_h5)(path)
    except UserError:
        raise
    except Exception as error:  # h5py and zipfile raise whatever a damaged file leads them to
        raise refusal(path, f"it is damaged ({(str(error).splitlines() or [type(error).__name__])[0][:120]})") from error
    check_config(config, path)
    check_size(config, weights, path)


def refusal(path, reason):
    return UserError(f"{path} cannot be loaded as a Keras model: {reason}")


# ---- files ----------------------------------------------------------------------------------------------------


def read_h5(path):
    """The configuration (dict) in a legacy .h5 model, and how many weights the file holds."""
    import h5py

    with open(path, "rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise refusal(path, "it is no HDF5 file; expected a .h5 or .keras model")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_heaps(content, path)
    with h5py.File(path, "r") as file:
        weights = check_h5(file, path, path.stat().st_size)
        if "model_config" not in file.attrs:
            raise refusal(path, "it holds weights without a model; save the whole model with model.save()")
        return parse_config(file.attrs["model_config"], path), weights


def read_keras(path):
    """The configuration (dict) in a .keras model, and how many weights the file holds."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if set(names) != PARTS or len(names) != len(PARTS):
            raise refusal(path, f"it holds {', '.join(sorted(names))[:80]}; expected {', '.join(sorted(PARTS))}")
        for entry in entries:
            if entry.file_size > min(UNPACKED_BYTES, PACKING * entry.compress_size):
                raise refusal(path, f"{entry.filename} claims {entry.file_size:,} bytes")
        if max(archive.getinfo(name).file_size for name in ("config.json", "metadata.json")) > CONFIG_BYTES:
            raise refusal(path, f"its configuration is larger than {CONFIG_BYTES >> 20} MB")
        weights_file = archive.read("model.weights.h5")
        check_heaps(weights_file, path)
        with h5py.File(io.BytesIO(weights_file), "r") as file:
            weights = check_h5(file, path, archive.getinfo("model.weights.h5").file_size)
        return parse_config(archive.read("config.json"), path), weights


def check_heaps(content, path):
    """Refuse a heap of texts with a free block of no length: HDF5 1.14 would step over it for ever, and hold Python's lock.

    `content` (bytes or mmap) is searched for global heap collections, laid out as in section III.E of the HDF5 File Format
    Specification: signature, version and reserved bytes, size; then blocks of number, references, size and content.
    """
    at = -1
    while (at := content.find(b"GCOL\x01\0\0\0", at + 1)) >= 0:
        block, end = at + 16, min(at + int.from_bytes(content[at + 8:at + 16], "little"), len(content))
        while block + 16 <= end:
            number, size = (int.from_bytes(content[block + i:block + j], "little") for i, j in ((0, 2), (8, 16)))
            if number == size == 0:
                raise refusal(path, f"it is damaged (the heap of its texts has an empty block at byte {block})")
            block += 16 + -(-size // 8) * 8 if number else size


def check_h5(file, path, size):
    """Refuse links out of the file and shapes that it cannot fill; returns the number of values in its datasets."""
    import h5py

    links = []
    file.visititems_links(lambda name, link: links.append((name, link)))  # raising in there would upset the library
    for name, link in links:
        if not isinstance(link, h5py.HardLink):
            target = getattr(link, "filename", None) or link.path
            raise refusal(path, f"{name!r} is a link to {str(target)[:80]!r}, which a model may not have")
    total = values = 0
    for name in ("/", *(name for name, _ in links)):
        item = file[name]
        check_attributes(item, name, path, size)
        if isinstance(item, h5py.Dataset):
            needed = check_dataset(item, name, path, size)
            total, values = total + needed, values + math.prod(item.shape or ())
            if total > UNPACKED_BYTES:
                raise refusal(path, f"its weights claim more than {UNPACKED_BYTES >> 30} GB")
    return values


def check_dataset(item, name, path, size):
    """Refuse values that are no numbers, lie elsewhere, need a plug-in or claim more than is stored; returns their bytes."""
    needed, stored = math.prod(item.shape or ()) * item.dtype.itemsize, item.id.get_storage_size()
    if item.external or item.is_virtual:
        raise refusal(path, f"{name!r} keeps its values in another file")
    if item.dtype.kind not in "fiubV" or item.dtype.hasobject:
        raise refusal(path, f"{name!r} holds {item.dtype}; expected numbers")
    filters = item.id.get_create_plist()
    if any(filters.get_filter(i)[0] not in FILTERS for i in range(filters.get_nfilters())):
        raise refusal(path, f"{name!r} is packed by a plug-in; expected gzip or nothing")
    if needed > PACKING * min(stored, size):
        raise refusal(path, f"{name!r} claims shape {item.shape}, {needed:,} bytes, and stores {stored:,}")
    return needed


def check_attributes(item, name, path, size):
    """Refuse attributes that are larger than the file."""
    for key in item.attrs:
        attribute = item.attrs.get_id(key)
        if math.prod(attribute.shape or ()) * attribute.dtype.itemsize > size:
            raise refusal(path, f"attribute {key!r} of {name!r} claims shape {attribute.shape}")


def parse_config(text, path):
    if len(text) > CONFIG_BYTES:
        raise refusal(path, f"its configuration is larger than {CONFIG_BYTES >> 20} MB")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refusal(path, "its configuration is no JSON") from error
    if not isinstance(config, dict):
        raise refusal(path, "its configuration is no model")
    return config


# ---- configuration --------------------------------------------------------------------------------------------


def check_config(config, path):
    """Refuse a configuration that names anything but stock layers, initializers, activations and operations of Keras."""
    stock, functions = stock_classes(), stock_functions()
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if not isinstance(item, dict):
            continue
        waiting += item.values()
        if "class_name" not in item:
            continue
        kind, module = item["class_name"], item.get("module")
        inside = item.get("config")
        label = f"layer {inside['name']!r} ({kind})" if isinstance(inside, dict) and "name" in inside else str(kind)
        label = " ".join(label[:100].split())
        if kind in RUNS_CODE or kind == "__lambda__":
            raise refusal(path, f"{label} would run code from the file")
        if kind in READS_FILES:
            raise refusal(path, f"{label} may read other files")
        if kind == "function":
            if not isinstance(inside, str) or inside not in functions or not from_keras(module, ("builtins",)):
                raise refusal(path, f"function {str(inside)[:60]!r} of {str(module)[:60]} is none of Keras' activations")
        elif not isinstance(kind, str) or not from_keras(module) or not (
                kind in stock or kind in PLAIN_VALUES or is_operation(kind, module)):
            raise refusal(path, f"{label} is no stock layer of Keras; it needs code of its own")


def from_keras(module, others=()):
    return module is None or module in others or (isinstance(module, str) and module.split(".")[0] == "keras")


def stock_classes():
    """Names of all classes a configuration may ask for: a set of str."""
    import keras

    homes = (keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies)
    names = {name for home in homes for name, value in vars(home).items() if isinstance(value, type)}
    return (names | {"Functional", "Model", "Sequential", "DTypePolicy"}) - RUNS_CODE - READS_FILES


def stock_functions():
    """Names of the activations, which configurations name as functions: a set of str."""
    import keras

    return {name for name, value in vars(keras.activations).items() if callable(value)} - {"get", "deserialize", "serialize"}


def is_operation(kind, module):
    """Whether `module.kind` is an operation such as `keras.ops.relu`, which functional models record as layers."""
    import keras

    home = sys.modules.get(module) if str(module).startswith("keras.src.ops.") else None
    found = getattr(home, kind, None)
    return isinstance(found, type) and issubclass(found, keras.Operation)


def check_size(config, weights, path):
    """Refuse a configuration whose weights are not in the file: building it could fill the memory.

    The model is built inside a scope in which Keras notes shapes and allocates nothing.
    """
    import keras
    from keras.src.legacy.saving import saving_utils

    build = saving_utils.model_from_config if path.suffix != ".keras" else keras.saving.deserialize_keras_object
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = build(config)
            shapes = [tuple(variable.shape) for variable in model.variables if "seed_generator" not in variable.path]
            outputs = [output.shape[1:] for layer in getattr(model, "layers", ()) for output in symbolic_outputs(layer)]
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise refusal(path, reason) from error
    needed = sum(math.prod(shape) for shape in shapes)
    if needed > weights:
        raise refusal(path, f"its layers need {needed:,} weights and the file holds {weights:,}")
    if any(math.prod(size or 1 for size in shape) > LARGEST_LAYER for shape in outputs):
        raise refusal(path, f"one of its layers gives more than {LARGEST_LAYER:,} values an image")


def symbolic_outputs(layer):
    """The symbolic tensors that a layer gives, as a list; empty where it was never called."""
    import keras

    try:
        return keras.tree.flatten(layer.output)
    except AttributeError:
        return []
