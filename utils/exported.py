"""Exported classifiers, run by ONNX Runtime (.onnx) and LiteRT (.tflite) as if they were Keras models.

A file may come from anyone: it must be whole in itself (no weights in other files) and use standard operators
without branches and loops. What the runtimes' own parsers make of a damaged file is theirs.
"""

import contextlib
import importlib
import logging
import os
import sys
from pathlib import Path

import numpy as np

from utils.cli import UserError

SUFFIXES = (".onnx", ".tflite")
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
    sys.stdout.flush()
    sys.stderr.flush()
    kept, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.WARNING)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in enumerate(kept, start=1):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)
        logging.disable(logging.NOTSET)


def load(path):
    """The classifier in an `.onnx` or `.tflite` file. Raises UserError, one line, when there is none."""
    path = Path(path)
    kind = OnnxModel if path.suffix == ".onnx" else LiteRTModel
    require(*kind.modules)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 30} GB")
        with quiet():
            model = kind(path.read_bytes())
    except Exception as error:  # the runtimes raise whatever a damaged file leads them to
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be loaded as an exported model: {reason}") from error
    if len(model.input_shape) != 4 or len(model.output_shape) != 2 or not all(model.input_shape[1:]):
        raise UserError(f"{path} maps {model.input_shape} to {model.output_shape}; expected one image "
                        "(height, width, channels) and one vector of class scores")
    return model


class ExportedModel:
    """What the scripts use of a keras.Model: `input_shape`, `output_shape`, `predict_on_batch`.

    Shapes are tuples with None for the batch; `layers` is empty: an exported file has none to look into.
    """

    layers = ()

    def set_signature(self, inputs, outputs):
        """inputs, outputs: lists of (shape, whether it holds float32)."""
        if len(inputs) != 1 or len(outputs) != 1 or not (inputs[0][1] and outputs[0][1]):
            raise ValueError("expected one float32 input and one float32 output")
        self.input_shape, self.output_shape = (
            (None, *(size if isinstance(size, int) and size > 0 else None for size in shape[1:]))
            for shape in (inputs[0][0], outputs[0][0]))


class OnnxModel(ExportedModel):
    modules = ("onnx", "onnxruntime")

    def __init__(self, content):
        import onnx
        import onnxruntime

        check_onnx(onnx.load_model_from_string(content))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.set_signature(*([(tensor.shape, tensor.type == "tensor(float)") for tensor in tensors]
                             for tensors in (inputs, outputs)))
        self.name = inputs[0].name

    def predict_on_batch(self, batch):
        return self.session.run(None, {self.name: np.asarray(batch, np.float32)})[0]


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


class LiteRTModel(ExportedModel):
    modules = ("ai_edge_litert.interpreter",)

    def __init__(self, content):
        from ai_edge_litert.interpreter import Interpreter

        if content[4:8] != b"TFL3":
            raise ValueError("it is no .tflite file")
        self.interpreter = Interpreter(model_content=content, num_threads=2)
        self.interpreter.allocate_tensors()  # fails on operators that are not LiteRT's own
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.set_signature(*([([int(size) for size in tensor["shape_signature"]],
                               tensor["dtype"] is np.float32) for tensor in tensors]
                             for tensors in (inputs, outputs)))
        self.input, self.output = inputs[0]["index"], outputs[0]["index"]
        self.allocated = tuple(inputs[0]["shape"])

    def predict_on_batch(self, batch):
        batch = np.asarray(batch, np.float32)
        if batch.shape != self.allocated:
            self.interpreter.resize_tensor_input(self.input, batch.shape)
            self.interpreter.allocate_tensors()
            self.allocated = batch.shape
        self.interpreter.set_tensor(self.input, batch)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)
