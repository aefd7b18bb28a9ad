"""export.py on a small network, the files run by ONNX Runtime and LiteRT."""

import keras
import numpy as np
import pytest
from keras import layers

import export
from utils import models
from utils.cli import UserError
from utils.sample import sample_faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with what went wrong in exports: a CenterCrop, whose call() trains by default, before a batch
    normalisation whose learnt statistics are far from those of any batch."""
    keras.utils.set_random_seed(0)
    face = keras.Input((48, 48, 1))
    x = layers.CenterCrop(40, 40)(face)
    x = layers.Rescaling(1 / 64, offset=-2)(x)
    x = layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    normalization = layers.BatchNormalization()
    x = layers.ReLU()(normalization(layers.MaxPooling2D(2)(x)))
    x = layers.Dense(7, name="logits")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(face, layers.Softmax()(x))
    normalization.set_weights([np.full(4, value, np.float32) for value in (3, 1, -2, 9)])
    path = tmp_path_factory.mktemp("export") / "small.h5"
    models.save(model, path)
    return path


@pytest.fixture
def export_small(call, small):
    """Call export.py on the small model and 64 of the drawn faces, with more arguments; its table."""
    return lambda *arguments: call("export", "--model", small, "--limit", 64, *arguments)


@pytest.mark.parametrize("kind", export.SUFFIXES)
def test_the_exported_file_gives_the_models_probabilities(export_small, call, small, capfd, kind):
    export_small("--format", kind)
    assert call.files("models") == [f"small{export.SUFFIXES[kind]}"]
    written = capfd.readouterr()
    assert len(written.out.splitlines()) == 6 and len(written.err.splitlines()) < 3  # of the exporters
    faces = sample_faces()[0][100:170, ..., None].astype(np.float32)
    expected = np.asarray(keras.models.load_model(small, compile=False)(faces, training=False))
    assert np.ptp(expected, axis=0).max() > 0.01  # else a constant would do
    run = export.load_exported(call.folder / f"models/small{export.SUFFIXES[kind]}")
    assert run(faces) == pytest.approx(expected, abs=1e-5)
    assert run(faces[:1]) == pytest.approx(expected[:1], abs=1e-5)


@pytest.mark.parametrize("kind", export.SUFFIXES)
def test_int8_files_store_8_bits_and_agree(export_small, call, kind):
    table = export_small("--format", kind, "--int8")
    path = call.folder / f"models/small-int8{export.SUFFIXES[kind]}"
    assert float(table["same class %"][1]) >= 90
    if kind == "onnx":
        types = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
        assert onnx.TensorProto.INT8 in types
    else:
        details = Interpreter(model_path=str(path)).get_tensor_details()
        assert any(tensor["dtype"] is np.int8 and tensor["shape"].tolist() == [4, 3, 3, 1]
                   for tensor in details)


def test_a_file_that_disagrees_is_not_kept(export_small, call, monkeypatch):
    load = export.load_exported
    monkeypatch.setattr(export, "load_exported", lambda path: lambda batch: load(path)(255 - batch))
    with pytest.raises(UserError, match="does not agree"):
        export_small("--format", "litert")
    assert not call.files("models")


def test_an_int8_file_may_lose_little():
    labels = np.arange(100) % 7
    expected = np.eye(7)[labels]
    for wrong, agrees in ((2, True), (3, False)):
        exported = np.r_[np.eye(7)[(labels[:wrong] + 1) % 7], expected[wrong:]]
        assert export.compare(expected, exported, labels, int8=True)[1] == agrees
        assert not export.compare(expected, exported, labels, int8=False)[1]


def test_mistakes_are_one_line(call, capsys, small, monkeypatch):
    assert "must end in .onnx" in call.error(capsys, "export", "--out", "model.tflite")
    (call.folder / "small.onnx").mkdir()
    assert "it is a folder" in call.error(capsys, "export", "--model", small, "--out", "small.onnx")
    monkeypatch.setitem(export.PACKAGES, "onnx", ("no_such_package",))
    error = call.error(capsys, "export", "--model", small)
    assert "no_such_package" in error and "requirements-export.txt" in error
