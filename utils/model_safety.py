"""Load a model file from anyone: no code from it, no other file through it, no false sizes.

Keras' safe mode refuses classes and functions that are not its own, links, and values kept in other files. It
does not refuse layers that run code or read files, models far larger than their file, or a damaged heap that
the HDF5 library reads for ever; this module does. The content of a file, not its name, decides what it is:
HDF5 (the legacy `.h5`) or a zip (`.keras`) of JSON and HDF5 weights.
"""

import contextlib
import io
import json
import math
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
from keras.src.backend.common import global_state
from keras.src.legacy.saving import legacy_h5_format, saving_options, saving_utils
from keras.src.saving import serialization_lib

from utils import structure
from utils.cli import UserError

CONFIG_BYTES = 16 << 20  # EfficientNet-B7's takes half a megabyte
WEIGHTS_BYTES = 4 << 30
PACKING = 1100  # deflate makes at most 1032 bytes of one
LARGEST_OUTPUT = 1 << 22  # values of one layer for one image; VGG16 at 224 px has 3.2 million
UNSAFE = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper",
          "StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}


def load(path):
    """The model in a file, uncompiled and without nested models (see `structure.flat_copy`).

    Raises UserError, one line, when it is no model or not safe.
    """
    try:
        config, weights, is_zip = read(Path(path))
        with allocating_nothing():
            check_weights(build(config, is_zip), weights)
        model = build(config, is_zip)
        load_weights(model, weights, is_zip)
        model = structure.flat_copy(model)
        if (values := structure.largest_output(model)) > LARGEST_OUTPUT:
            raise ValueError(f"a layer gives {values:,} values for one image; at most {LARGEST_OUTPUT:,}")
        return model
    except Exception as error:  # h5py, zipfile and Keras raise whatever a damaged file leads them to
        while "deserializ" in str(error) and error.__context__:  # Keras wraps the reason, layer by layer
            error = error.__context__
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:200]
        raise UserError(f"{path} cannot be loaded as a Keras model: {reason}") from error


def build(config, is_zip):
    """A model with fresh weights from its configuration (JSON)."""
    try:
        config = json.loads(config, object_hook=check_layer)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("its configuration is no JSON") from error
    if not isinstance(config, dict):
        raise ValueError("its configuration is no model")
    with serialization_lib.SafeModeScope(True):
        if is_zip:
            with serialization_lib.ObjectSharingScope():
                return keras.saving.deserialize_keras_object(config)
        with saving_options.keras_option_scope(use_legacy_config=True):
            return saving_utils.model_from_config(config)


def check_layer(item):
    """A dict of a configuration, without how its model was compiled. Refuses layers that run code."""
    item.pop("compile_config", None)
    kind, inside = str(item.get("class_name")).split(".")[-1], item.get("config")
    if kind in UNSAFE:
        name = inside.get("name", "") if isinstance(inside, dict) else ""
        raise ValueError(f"layer {name!r} ({kind}) would run code from the file or read other files")
    return item


def load_weights(model, weights, is_zip):
    """Give `model` its weights from HDF5 content (bytes)."""
    if is_zip:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.weights.h5"
            file.write_bytes(weights)
            model.load_weights(file)
    else:
        with h5py.File.in_memory(weights) as file:
            legacy_h5_format.load_weights_from_hdf5_group(file["model_weights"], model)


def read(path):
    """The configuration (JSON) and the weights (HDF5, bytes) in a model file, and whether it is a zip."""
    if path.stat().st_size > WEIGHTS_BYTES:
        raise ValueError(f"it is larger than {WEIGHTS_BYTES >> 30} GB")
    content = path.read_bytes()
    is_zip = content.startswith(b"PK\3\4")
    if is_zip:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            config = read_member(archive, "config.json", CONFIG_BYTES)
            content = read_member(archive, "model.weights.h5", WEIGHTS_BYTES)
    elif not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise ValueError("it is neither HDF5 (.h5) nor a zip (.keras)")
    check_heaps(content)
    if not is_zip:
        with h5py.File.in_memory(content) as file:
            if "model_config" not in file.attrs:
                raise ValueError("it holds weights without a model; save the whole model with model.save()")
            config = file.attrs["model_config"]
    return config, content, is_zip


def read_member(archive, name, limit):
    """The content (bytes) of a file in a zip. Raises ValueError when it is longer than `limit`."""
    with archive.open(name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"its {name} is larger than {limit >> 20} MB")
    return content


def check_heaps(content):
    """Refuse a heap of texts with a free block of no length: HDF5 1.14 never ends, and holds Python's lock.

    `content` is searched for global heap collections, laid out as in section III.E of the HDF5 File Format
    Specification: signature, version and reserved bytes, size; then blocks of number, references, size,
    content.
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


def check_weights(model, weights):
    """Refuse a model with more weights than are in its file (HDF5, bytes), and values kept elsewhere."""
    links, held = [], 0
    with h5py.File.in_memory(weights) as file:
        file.visititems_links(lambda *link: links.append(link))  # raising in there would upset the library
        for name, link in links:
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{name!r} is a link to {str(getattr(link, 'filename', link.path))[:80]!r}")
            item = file[name]
            if isinstance(item, h5py.Dataset):
                values, stored = math.prod(item.shape or ()), item.id.get_storage_size()
                if values * item.dtype.itemsize > PACKING * min(stored, len(weights)):
                    raise ValueError(f"{name!r} claims shape {item.shape} and stores {stored:,} bytes")
                held += values
    needed = sum(math.prod(v.shape) for v in model.variables if "seed_generator" not in v.path)
    if needed > held:
        raise ValueError(f"its layers need {needed:,} weights and the file holds {held:,}")


@contextlib.contextmanager
def allocating_nothing():
    """Models built in the block have shapes alone: Keras forgets the variables that it would fill later."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])
