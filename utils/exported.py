"""Exported classifiers, run by ONNX Runtime (.onnx) and LiteRT (.tflite) as if they were Keras models.

A file may come from anyone: it must be whole in itself (no weights in other files) and use standard operators
without branches and loops. What the runtimes' own parsers make of a damaged file is theirs.
"""

import contextlib
import dataclasses
import importlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from utils import cli
from utils.cli import UserError

MODULES = {".onnx": ("onnx", "onnxruntime"), ".tflite": ("ai_edge_litert.interpreter",)}
SUFFIXES = tuple(MODULES)
LARGEST = 1 << 30  # bytes of a file


def require(*modules):
    """Import modules of requirements-export.txt, a list. Raises UserError when one is not installed."""
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise UserError(f"{error.name or modules[0]} is not installed; "
                        "python -m pip install -r requirements-export.txt") from error


@contextlib.contextmanager
def quiet():
    """A block in which nothing is printed: the libraries report each step on both streams."""
    logging.disable(logging.WARNING)
    try:
        with cli.muted(1, 2):
            yield
    finally:
        logging.disable(logging.NOTSET)


@dataclasses.dataclass
class ExportedModel:
    """What the scripts use of a keras.Model. Shapes are tuples with None for the batch."""

    input_shape: tuple
    output_shape: tuple
    predict_on_batch: Callable  # float32 (n, height, width, channels) -> float32 (n, classes)
    layers: tuple = ()  # an exported file has none to look into


def load(path):
    """The classifier in an `.onnx` or `.tflite` file. Raises UserError, one line, when there is none."""
    path = Path(path)
    run = run_onnx if path.suffix == ".onnx" else run_litert
    require(*MODULES[path.suffix])
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 30} GB")
        with quiet():
            inputs, outputs, predict = run(path.read_bytes())
        if len(inputs) != 1 or len(outputs) != 1 or not (inputs[0][1] and outputs[0][1]):
            raise ValueError("expected one float32 input and one float32 output")
    except Exception as error:  # the runtimes raise whatever a damaged file leads them to
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be loaded as an exported model: {reason}") from error
    shapes = [(None, *(size if isinstance(size, int) and size > 0 else None for size in tensors[0][0][1:]))
              for tensors in (inputs, outputs)]
    if len(shapes[0]) != 4 or len(shapes[1]) != 2 or not all(shapes[0][1:]):
        raise UserError(f"{path} maps {shapes[0]} to {shapes[1]}; expected one image "
                        "(height, width, channels) and one vector of class scores")
    return ExportedModel(*shapes, predict)


# ---- runtimes: each function returns inputs and outputs, (shape, is float32?) of each, and predict(batch) --


def run_onnx(content):
    import onnx
    import onnxruntime

    check_onnx(onnx.load_model_from_string(content))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([(tensor.shape, tensor.type == "tensor(float)") for tensor in tensors]
                       for tensors in (session.get_inputs(), session.get_outputs()))
    name = session.get_inputs()[0].name
    return inputs, outputs, lambda batch: session.run(None, {name: np.asarray(batch, np.float32)})[0]


def check_onnx(model):
    """Refuse what reaches outside an ONNX file (onnx.ModelProto) or may run for ever."""
    from onnx import AttributeProto, TensorProto

    if model.functions or len(model.graph.sparse_initializer):
        raise ValueError("it defines functions or sparse weights of its own")
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"operator {node.op_type} of {node.domain} is not a standard one")
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise ValueError(f"operator {node.op_type} has branches or loops")
            tensors += [attribute.t, *attribute.tensors]
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(f"its weights {tensor.name[:60]!r} are in another file")


def run_litert(content):
    from ai_edge_litert.interpreter import Interpreter

    if content[4:8] != b"TFL3":
        raise ValueError("it is no .tflite file")
    interpreter = Interpreter(model_content=content, num_threads=2)
    interpreter.allocate_tensors()  # fails on operators that are not LiteRT's own
    details = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = ([(tensor["shape_signature"].tolist(), tensor["dtype"] is np.float32)
                        for tensor in tensors] for tensors in details)
    source, target = (tensors[0]["index"] for tensors in details)

    def predict(batch):
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(source, batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source, np.asarray(batch, np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return inputs, outputs, predict
