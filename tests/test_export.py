"""export.py on small networks, the files run by ONNX Runtime and LiteRT; and exported files as --model."""

import keras
import numpy as np
import pytest
from keras import layers

import evaluate
import export
import predict
from utils import evaluation, exported, models
from utils.cli import UserError
from utils.sample import sample_faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}


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
def call(small, monkeypatch, workspace):
    """Call export.main on the small model and 64 of the drawn faces, with more arguments; its table."""
    monkeypatch.setattr(evaluate, "TURN", 0.001)
    monkeypatch.setattr(evaluate, "ROUNDS", 1)

    def run(*arguments):
        return export.main([*map(str, ("--model", small, "--limit", 64, *arguments))])

    return run


@pytest.mark.parametrize("kind", SUFFIXES)
def test_the_exported_file_gives_the_models_probabilities(call, small, workspace, kind):
    call("--format", kind)
    path = workspace / "models" / f"small{SUFFIXES[kind]}"
    images = sample_faces()[0][100:170]
    faces = images[..., None].astype(np.float32)
    expected = np.asarray(keras.models.load_model(small, compile=False)(faces, training=False))
    assert np.ptp(expected, axis=0).max() > 0.01  # else a constant would do
    assert models.predict(exported.load(path), images) == pytest.approx(expected, abs=1e-5)
    assert models.predict(exported.load(path), images[:1]) == pytest.approx(expected[:1], abs=1e-5)


@pytest.mark.parametrize(("kind", "name"), [
    ("keras", "small.keras"), ("saved_model", "small_saved_model"), ("openvino", "small.xml")])
def test_other_formats_agree_and_lie_whole_in_their_place(call, workspace, kind, name):
    if kind == "openvino":
        pytest.importorskip("openvino")
    table = call("--format", kind)
    assert float(table["largest difference"][1]) < 1e-5
    expected = {name, "small.bin"} if kind == "openvino" else {name}
    assert {path.name for path in (workspace / "models").iterdir()} == expected
    if kind == "saved_model":
        with pytest.raises(UserError, match="exists already"):
            call("--format", kind)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_evaluate_and_predict_read_exported_files(call, small, workspace, kind, capsys):
    call("--format", kind)
    path = workspace / "models" / f"small{SUFFIXES[kind]}"
    table = evaluate.main(["--model", str(small), str(path), "--data", "sample", "--ensemble"])
    assert list(table["model"]) == ["small", path.name, "ensemble of 2"]
    assert table["accuracy"][0] == table["accuracy"][1]
    assert len(list((workspace / "figures").glob("small_small*_accuracy_ensemble_sample.png"))) == 1
    predicted = [predict.main(["--model", str(model), "--data", "sample", "--out", str(workspace / "p.csv")])
                 for model in (small, path)]
    assert predicted[0].equals(predicted[1])
    with pytest.raises(UserError, match=r"without a model card; leave out --card"):
        evaluate.main(["--model", str(path), "--data", "sample", "--card"])
    with pytest.raises(UserError, match=r"exported file, which only evaluate.py"):
        models.load(path)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_int8_files_store_8_bits_and_agree(call, workspace, kind):
    table = call("--format", kind, "--int8")
    path = workspace / "models" / f"small-int8{SUFFIXES[kind]}"
    assert float(table["same class %"][1]) >= 90
    if kind == "onnx":
        types = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
        assert onnx.TensorProto.INT8 in types
    else:
        details = Interpreter(model_path=str(path)).get_tensor_details()
        assert any(tensor["dtype"] is np.int8 and tensor["shape"].tolist() == [4, 3, 3, 1]
                   for tensor in details)


def test_a_file_that_disagrees_is_not_kept(call, workspace, monkeypatch):
    real = export.export

    def wrong(network, path, args):
        kernel = network.get_layer("logits").get_weights()
        network.get_layer("logits").set_weights([-kernel[0], kernel[1]])
        real(network, path, args)
        network.get_layer("logits").set_weights(kernel)

    monkeypatch.setattr(export, "export", wrong)
    with pytest.raises(UserError, match=r"does not agree .* a probability differs by"):
        call("--format", "litert")
    assert not list((workspace / "models").iterdir())


def test_other_files_are_left_alone(call, workspace):
    path = workspace / "notes.onnx"
    path.write_text("my notes")
    with pytest.raises(UserError, match="not an earlier output of this kind"):
        call("--format", "onnx", "--out", path)
    assert path.read_text() == "my notes"


@pytest.mark.parametrize(("arguments", "message"), [
    (["--format", "keras", "--int8"], "--int8 goes with --format onnx or litert"),
    (["--format", "onnx", "--out", "model.tflite"], "must end in .onnx"),
    (["--format", "onnx", "--calibration", "sample"], "--calibration belongs to --int8")])
def test_wrong_options_are_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        export.parse_args(arguments)


def test_a_missing_package_names_the_requirements():
    with pytest.raises(UserError, match=r"no_such_package is not installed; .*requirements-export.txt"):
        exported.require("no_such_package")


# ---- files from anyone -------------------------------------------------------------------------------------


def onnx_file(path, node, weights=()):
    """An ONNX file of one operator, faces in, (n, 7) out."""
    shapes = [("face", ["n", 48, 48, 1]), ("out", ["n", 7])]
    face, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                 for name, shape in shapes)
    graph = onnx.helper.make_graph([node], "graph", [face], [out], list(weights))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_another_file_are_refused(tmp_path):
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1, 7],
                              data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("MatMul", ["face", "w"], ["out"])
    with pytest.raises(UserError, match="its weights 'w' are in another file"):
        exported.load(onnx_file(tmp_path / "a.onnx", node, [weight]))


def test_foreign_operators_and_loops_are_refused(tmp_path):
    foreign = onnx.helper.make_node("Anything", ["face"], ["out"], domain="someone.else")
    with pytest.raises(UserError, match=r"operator Anything of someone\.else is not a standard one"):
        exported.load(onnx_file(tmp_path / "a.onnx", foreign))
    body = onnx.helper.make_graph([], "body", [], [])
    loop = onnx.helper.make_node("Loop", ["", ""], ["out"], body=body)
    with pytest.raises(UserError, match="operator Loop has branches or loops"):
        exported.load(onnx_file(tmp_path / "b.onnx", loop))


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_what_is_no_model_is_one_line(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    with pytest.raises(UserError, match="does not exist"):
        evaluation.load_networks([path])
    for content in (b"", b"\x08\x07 some bytes", b"\x1c\0\0\0TFL3" + bytes(range(200))):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be loaded as an exported model"):
            evaluation.load_networks([path])
