"""Any Keras classifier becomes a model of logits, and a model file from a stranger is a model or one line."""

import functools
import io
import json
import pickle
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import scipy
from keras import layers
from keras.src.applications import mobilenet_v3

import predict
from explain import subjects
from tests.conftest import PROJECT
from training import networks
from utils import cli, evaluation, files, models, structure
from utils.cli import UserError

softmax = functools.partial(scipy.special.softmax, axis=1)


def sequential(last):
    return keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(3, 3, activation="relu", name="conv"),
                             layers.GlobalAveragePooling2D(name="pool"), *last])


def nested():
    base = sequential([])
    head = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, name="conv"), layers.Softmax(name="pool")], name="head")
    image = keras.Input((12, 12, 1))
    return keras.Model(image, head(base(layers.Rescaling(1 / 255)(image), training=False)))


def convolutional():
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(4, 12, activation="softmax")(image)
    return keras.Model(image, layers.Dropout(0.1)(layers.Flatten()(x)))


def operation():
    image = keras.Input((12, 12, 1))
    x = layers.Dense(4)(keras.ops.relu(layers.Flatten()(image)))
    return keras.Model(image, keras.ops.softmax(x))


PROBABILITIES = {
    "softmax layer": lambda: sequential([layers.Dense(4), layers.Softmax()]),
    "softmax activation layer": lambda: sequential([layers.Dense(4), layers.Activation("softmax")]),
    "softmax dense": lambda: sequential([layers.Dense(4, activation="softmax")]),
    "layer called logits": lambda: sequential([layers.Dense(4, name="logits"), layers.Softmax(name="p")]),
    "logits with a softmax": lambda: sequential([layers.Dense(4, activation="softmax", name="logits")]),
    "nested": nested, "convolutional": convolutional, "operation": operation,
}


@pytest.mark.parametrize("make", PROBABILITIES.values(), ids=PROBABILITIES)
def test_softmax_of_the_logits_is_the_model(make):
    model = make()
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.4, weight.shape))
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    expected = model.predict_on_batch(images)
    logits = structure.logits_model(model).predict_on_batch(images)
    assert logits.shape == (5, 4) and np.abs(logits.sum(1) - 1).max() > 1e-3
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)
    names = [layer.name for layer in structure.logits_model(model).layers]  # each can be reached by its own
    assert len(set(names)) == len(names) and ("head_conv" in names) == (make is nested)


@pytest.mark.parametrize("kind", [{"activation": "sigmoid"}, {}])
def test_a_binary_classifier_gets_a_logit_for_each_class(kind):
    model = sequential([layers.Dense(1, **kind)])
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    expected = model.predict_on_batch(images)[:, 0]
    if not kind:
        expected = 1 / (1 + np.exp(-expected))
    logits = structure.logits_model(model).predict_on_batch(images)
    assert logits.shape == (5, 2)
    np.testing.assert_allclose(softmax(logits)[:, 1], expected, atol=1e-6)


def test_logits_stay_and_the_model_is_not_touched():
    model = sequential([layers.Dense(4)])
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    copy = structure.logits_model(model)
    np.testing.assert_allclose(copy.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)
    before = [w.copy() for w in model.get_weights()]
    for weight in copy.weights:
        weight.assign(weight * 0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv").output is not None  # a second inbound node would make this ambiguous


# ---- files from strangers ----------------------------------------------------------------------------------


def tiny(last=7):
    return keras.Sequential([keras.Input((12, 12, 1)), layers.Flatten(name="flat"),
                             layers.Dense(last, name="logits"), layers.Softmax()])


def saved(path, model=None):
    (model or tiny()).save(path)
    return path


def change_config(path, change):
    """Rewrite the configuration in a model file: change(layers) gets the list of layer configurations."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config["config"]["layers"])
            file.attrs["model_config"] = json.dumps(config)
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config["config"]["layers"])
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def lambda_layer(config):
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    config[1] |= {"class_name": "Lambda", "module": "keras.layers",
                  "config": {"name": "evil", "function": code}}


def set_layer(**changes):
    return lambda config: config[1].update(changes)


CONFIGS = {
    "a Lambda": (lambda_layer, "`Lambda` layer"),
    "a Lambda inside another layer": (
        lambda c: c[1].update(class_name="TimeDistributed",
                              config={"layer": {"class_name": "Lambda", "config": {}}}),
        "'Lambda'"),
    "a foreign program": (
        set_layer(class_name="TFSMLayer", config={"name": "t", "filepath": "/tmp/x"}), "TFSMLayer"),
    "a file of words": (
        set_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}), "vocabulary file"),
    "a layer of its own": (
        set_layer(class_name="MyLayer", module=None, registered_name="mine>MyLayer"), "'MyLayer'"),
    "a class of another module": (set_layer(class_name="Popen", module="subprocess"), "'Popen'"),
    "a function of Keras that downloads": (
        set_layer(class_name="get_file", module="keras.utils"), "not a modeling function"),
    "a Lambda under another spelling": (
        set_layer(class_name="layers.Lambda", module="keras", config={}), ""),
    "an image of terabytes": (lambda c: c[0]["config"].update(batch_shape=[None, 10**6, 10**6, 1]), ""),
    "a function of another module": (
        lambda c: c[2]["config"].update(
            activation={"class_name": "function", "config": "system", "module": "os"}), "'system'"),
    "a billion units": (lambda c: c[2]["config"].update(units=10**9), ""),
    "an output of terabytes": (
        lambda c: c[1].update(
            class_name="ZeroPadding2D", config={"name": "z", "padding": 10**6, "dtype": "float32"}), ""),
    "no layer": (lambda c: c.clear(), ""),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_that_is_more_than_stock_layers_is_refused(tmp_path, kind, suffix):
    path = saved(tmp_path / f"m{suffix}")
    assert models.load(path).count_params() == 1015
    change, expected = CONFIGS[kind]
    change_config(path, change)
    with pytest.raises(UserError) as caught:
        models.load(path)
    assert str(caught.value).startswith(f"{path} cannot be loaded as a Keras model: ")
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1
    tiny()  # of a refused giant nothing is left that Keras would fill when it builds the next model


def replace_kernel(path, make):
    """Delete the dense layer's kernel and let make(group) put something else in its place."""
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda _, item: found.append(item.parent) if item.name.endswith("/kernel") else None)
        del found[0]["kernel"]
        make(found[0])


def virtual(group):
    layout = h5py.VirtualLayout((144, 7), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "kernel", (144, 7))
    group.create_virtual_dataset("kernel", layout)


LINKS = {
    "external link": (
        lambda group: group.__setitem__("kernel", h5py.ExternalLink("/etc/passwd", "/x")), "ExternalLink"),
    "soft link": (lambda group: group.__setitem__("kernel", h5py.SoftLink("/elsewhere")), "SoftLink"),
    "values in another file": (
        lambda group: group.create_dataset("kernel", (144, 7), "f4", external=[("/etc/passwd", 0, 4032)]),
        "external"),
    "virtual": (virtual, "virtual Dataset"),
    "a claimed terabyte": (
        lambda group: group.create_dataset("kernel", (10**6, 250_000), "f4", chunks=(1000, 1000)),
        "declares 931"),
    "text": (lambda group: group.create_dataset("kernel", data=np.full((144, 7), "x", object)), ""),
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_file_that_reaches_out_or_claims_too_much_is_refused(tmp_path, kind):
    path = saved(tmp_path / "m.h5")
    make, expected = LINKS[kind]
    replace_kernel(path, make)
    with pytest.raises(UserError) as caught:
        models.load(path)
    assert expected in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_heap_that_would_hold_the_library_for_ever_is_refused(tmp_path, suffix):
    path = tmp_path / "m.h5"
    saved(path)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "x" * 40  # a text of variable length lies in the heap
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16:heap + 32] = bytes(16)  # the first block: number 0, length 0
    path.write_bytes(content)
    if suffix == ".keras":
        inside, path = path, saved(tmp_path / "m.keras")
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, inside.read_bytes() if name.endswith(".h5") else part)
    with pytest.raises(UserError, match=r"damaged \(the heap of its texts has an empty block at byte \d+\)"):
        models.load(path)


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_other_files_under_a_models_name_are_refused(tmp_path, capfd):
    weights = io.BytesIO()
    tiny().save(tmp_path / "good.keras")
    np.savez(weights, kernel=np.zeros(3))
    cases = {"pickle.h5": pickle.dumps(Evil()), "empty.h5": b"", "empty.keras": b"",
             "cut.keras": (tmp_path / "good.keras").read_bytes()[:2000], "arrays.keras": weights.getvalue()}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be loaded as a Keras model: .") as caught:
            models.load(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    tiny().save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match="No model config found"):
        models.load(tmp_path / "only.weights.h5")
    assert "code was run" not in capfd.readouterr().out


def test_wrong_shapes_are_said_before_anything_is_computed(tmp_path, monkeypatch):
    vector = saved(tmp_path / "vector.h5", keras.Sequential([keras.Input((9,)), layers.Dense(7)]))
    ten = saved(tmp_path / "ten.h5", tiny(10))
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda *_: pytest.fail("computed"))
    with pytest.raises(UserError, match="expected one image input"):
        models.load(vector)
    with pytest.raises(UserError, match="has 10 classes; expected the 7"):
        evaluation.load_networks([ten])


def test_axes_that_do_not_fit_are_refused_and_what_is_assumed_of_a_strangers_model_is_said(tmp_path, capsys):
    for shape in ((1, 48, 48), (3, 48, 48), (48, 48, 2)):
        model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(7)])
        with pytest.raises(UserError, match=r"takes images of shape \(.*; expected height, width and 1 or 3"):
            models.load(saved(tmp_path / "m.keras", model))
    models.load(saved(tmp_path / "bare.h5"))
    line, = capsys.readouterr().out.splitlines()
    for words in ("bare.h5 has no Rescaling", "0-255", "angry, disgust", "keras.layers.Rescaling(1 / 255)"):
        assert words in line
    ranged = keras.Sequential([keras.Input((12, 12, 1)), layers.Rescaling(1 / 255), tiny()])
    models.load(saved(tmp_path / "ranged.h5", ranged))
    assert capsys.readouterr().out == ""


def averaged():
    image = keras.Input((12, 12, 1))
    heads = [layers.Dense(7, activation="softmax")(layers.Flatten()(image)) for _ in range(2)]
    return keras.Model(image, layers.Average()(heads))


ENDS = {  # a model, and what its probabilities must be: of its outputs and its logits by hand
    "sigmoids": (lambda: sequential([layers.Dense(7, activation="sigmoid")]), None),
    "sigmoid layer": (lambda: sequential([layers.Dense(7), layers.Activation("sigmoid")]), None),
    "hard sigmoids": (lambda: sequential([layers.Dense(7, activation="hard_sigmoid")]), None),
    "hard sigmoid operation": (lambda: with_operation(keras.ops.hard_sigmoid), None),
    "logits": (lambda: sequential([layers.Dense(7), layers.Dropout(0.1)]), None),
    "log softmax": (lambda: sequential([layers.Dense(7, activation="log_softmax")]), None),
    "average of softmaxes": (averaged, "outputs"),
    "softmax": (lambda: sequential([layers.Dense(7, activation="softmax"), layers.Dropout(0.1)]), "outputs"),
}


def with_operation(operation):
    base = sequential([layers.Dense(7, name="dense")])
    return keras.Model(base.inputs, operation(base.outputs[0]))


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])  # 30: sigmoids are exactly 0 or 1 in float32
@pytest.mark.parametrize(("make", "expected"), ENDS.values(), ids=ENDS)
def test_predictions_and_explanations_have_one_set_of_probabilities(tmp_path, make, expected, scale):
    keras.utils.set_random_seed(1)
    model = make()
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    for layer in dense:
        layer.kernel.assign(layer.kernel * scale)
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12)).astype(np.float32)
    if expected is None:  # the softmax of what the last dense layer sums up, whatever follows
        before = keras.Model(model.inputs, dense[-1].input).predict_on_batch(images[..., None])
        expected = softmax(before.astype(float) @ np.array(dense[-1].kernel, float))
    else:
        expected = model.predict_on_batch(images[..., None])
    loaded = models.load(saved(tmp_path / "m.keras", model))
    for rows in (slice(None), slice(0, 1)):  # nor do they depend on the other images
        predicted = evaluation.predict_views(loaded, images[rows])
        explained = subjects.probabilities(structure.logits_model(loaded), images[rows])
        np.testing.assert_allclose(predicted, expected[rows], atol=1e-5)
        np.testing.assert_allclose(explained, expected[rows], atol=1e-5)


def test_damaged_files_end_in_a_model_or_one_line_never_in_a_crash():
    code = """
from tests.tools import fuzz_models
from utils import cli
cli.start_keras()
for counts in (fuzz_models.run(12), fuzz_models.run(5, suffix=".keras")):
    assert counts["refused"] and counts.keys() <= set(fuzz_models.OUTCOMES[:2]), counts
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what is saved -----------------------------------------------------------------------------------------


class ScaledDense(layers.Dense):
    """A layer of a training network: an argument and configuration of its own, the weights of Dense."""

    def __init__(self, units, strength, **kwargs):
        super().__init__(units, **kwargs)
        self.strength = strength

    def get_config(self):
        return super().get_config() | {"strength": self.strength}

    def call(self, inputs, training=None):
        return super().call(inputs) * (self.strength if training else 1)


def training_network(name="trained"):
    image = keras.Input((12, 12, 1), name="face")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = networks.FusedBatchNormalization(momentum=0.9, epsilon=1e-4, name="norm")(x)
    x = layers.Flatten()(layers.ReLU()(x))
    x = networks.DropConnectDense(8, 0.5, activation="relu", kernel_regularizer="l2", name="dense")(x)
    x = ScaledDense(7, 3.0, name="logits", dtype="float32")(x)
    return keras.Model(image, layers.Softmax(dtype="float32")(x), name=name)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_export_of_a_training_network_is_stock_float32_and_computes_the_same(tmp_path, policy):
    images = np.random.default_rng(0).normal(size=(5, 12, 12, 1)).astype(np.float32)
    keras.config.set_dtype_policy(policy)
    try:
        network = training_network()
        for weight in network.weights:
            size = 1 if "norm" in weight.path else 0.02
            weight.assign(size * np.random.default_rng(1).uniform(0.5, 1.5, weight.shape))
        exported = structure.flat_copy(network, dtype="float32")
        doubled = keras.Sequential([keras.Input((12, 12, 1)), network, layers.Rescaling(2.0)])
        nested_copy = structure.flat_copy(doubled, dtype="float32")
    finally:
        keras.config.set_dtype_policy("float32")
    assert [type(layer) for layer in exported.layers] == [
        layers.InputLayer, layers.Conv2D, layers.BatchNormalization, layers.ReLU, layers.Flatten,
        layers.Dense, layers.Dense, layers.Softmax]
    assert [layer.name for layer in exported.layers] == [layer.name for layer in network.layers]
    assert exported.name == "trained" and exported.get_layer("norm").epsilon == 1e-4
    assert "bfloat16" not in exported.to_json()
    reference = training_network()  # in float32, whatever the policy above was
    reference.set_weights(network.get_weights())
    reference = reference.predict_on_batch(images)
    np.testing.assert_allclose(exported.predict_on_batch(images), reference, atol=1e-6)
    np.testing.assert_allclose(nested_copy.predict_on_batch(images), 2 * reference, atol=1e-6)
    models.save(exported, tmp_path / "m.h5")
    plain = keras.models.load_model(tmp_path / "m.h5", compile=False)  # nothing of ours is named in the file
    np.testing.assert_allclose(plain.predict_on_batch(images), exported.predict_on_batch(images), atol=1e-6)
    kernel = network.get_layer("conv").kernel
    kernel.assign(kernel * 0)  # the copy has weights of its own
    np.testing.assert_array_equal(exported.predict_on_batch(images), plain.predict_on_batch(images))


def test_a_layer_that_no_keras_layer_can_stand_for_is_not_exported():
    class Doubled(layers.Layer):
        def call(self, x):
            return 2 * x

    with pytest.raises(TypeError, match="Doubled extends no layer"):
        structure.flat_copy(keras.Sequential([keras.Input((3,)), Doubled()]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, value):
    path = saved(tmp_path / "m.h5")
    before = path.read_bytes()
    model = tiny()
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.where(np.arange(7) == 3, value, kernel))
    with pytest.raises(UserError, match="not finite") as caught:
        models.save(model, path)
    assert path.read_bytes() == before and str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.h5"]
    damaged = saved(tmp_path / "damaged.h5", model)
    with pytest.raises(UserError, match="logits/kernel"):
        models.load(damaged)


def test_a_weight_too_large_for_float16_is_not_saved_as_infinity(tmp_path):
    model = tiny()
    model.get_layer("logits").kernel.assign(np.full((144, 7), 1e5))
    models.save(model, tmp_path / "whole.h5")
    with pytest.raises(UserError, match="not finite"):
        models.save(model, tmp_path / "half.h5", half=True)
    assert models.load(tmp_path / "whole.h5").get_weights()[0].max() == np.float32(1e5)


# ---- every model of Keras ----------------------------------------------------------------------------------


def scores(model, faces):
    """What a model gives for grey faces, computed layer by layer: no graph is compiled."""
    return keras.ops.convert_to_numpy(model(models.prepare(faces, model), training=False))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_compiled_and_trained_model_loads(tmp_path, suffix):
    model = tiny()
    model.compile("adam", "categorical_crossentropy", metrics=[keras.metrics.CategoricalAccuracy()])
    images = np.random.default_rng(0).uniform(0, 255, (6, 12, 12)).astype(np.float32)
    model.fit(images[..., None], np.eye(7)[:6], verbose=0)
    outer = keras.Sequential([keras.Input((12, 12, 1)), layers.Rescaling(0.5), model])  # compiled inside, too
    for name, network in (("one", model), ("two", outer)):
        loaded = models.load(saved(tmp_path / f"{name}{suffix}", network))
        assert not any(isinstance(layer, keras.Model) for layer in loaded.layers)  # nested ones are unfolded
        np.testing.assert_allclose(models.predict(loaded, images), scores(network, images), atol=1e-6)


def test_an_open_image_size_becomes_that_of_a_face(tmp_path):
    model = keras.Sequential([
        keras.Input((None, None, 1)), layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.GlobalMaxPooling2D(), layers.Dense(7, activation="softmax")])
    faces = np.random.default_rng(0).uniform(0, 255, (3, 48, 48)).astype(np.float32)
    for suffix in (".h5", ".keras"):
        loaded = models.load(saved(tmp_path / f"m{suffix}", model))
        assert loaded.input_shape == (None, 48, 48, 1)
        assert loaded.get_layer("conv").output.shape == (None, 46, 46, 4)
        np.testing.assert_allclose(models.predict(loaded, faces), scores(model, faces), atol=1e-6)
        assert structure.multiply_adds(loaded) == 46 * 46 * 3 * 3 * 4 + 4 * 7
        np.testing.assert_allclose(softmax(models.predict(structure.logits_model(loaded), faces)),
                                   models.predict(loaded, faces), atol=1e-6)


def test_mobilenet_v3_whose_graph_holds_plain_operations_can_be_taken_apart(tmp_path):
    def two_blocks(x, kernel, activation, se_ratio):
        x = mobilenet_v3._inverted_res_block(x, 1, 16, 3, 2, se_ratio, mobilenet_v3.relu, 0)
        return mobilenet_v3._inverted_res_block(x, 4, 16, kernel, 1, se_ratio, activation, 1)

    model = mobilenet_v3.MobileNetV3(two_blocks, 64, (48, 48, 3), model_type="small", weights=None, classes=7)
    loaded = models.load(saved(tmp_path / "m.keras", model))
    faces = np.random.default_rng(0).uniform(0, 255, (2, 48, 48)).astype(np.float32)
    expected = scores(model, faces)
    np.testing.assert_allclose(scores(loaded, faces), expected, atol=1e-6)
    np.testing.assert_allclose(scores(structure.flat_copy(loaded), faces), expected, atol=1e-6)
    logits = structure.logits_model(loaded)
    np.testing.assert_allclose(softmax(scores(logits, faces)), expected, atol=1e-6)
    part = keras.Model(logits.inputs, logits.get_layer("conv").output)
    half = scores(structure.flat_copy(part, dtype="mixed_bfloat16"), faces)
    np.testing.assert_allclose(half.astype(np.float32), scores(part, faces), atol=0.05)


def test_the_image_format_of_the_users_keras_json_does_not_matter(tmp_path):
    model = keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(2, 3), layers.MaxPooling2D(),
                              layers.Flatten(), layers.Dense(7)])
    path, faces = saved(tmp_path / "m.h5", model), np.ones((2, 24, 24), np.float32)
    expected = models.predict(model, faces)
    keras.config.set_image_data_format("channels_first")
    try:
        cli.start_keras()
        np.testing.assert_allclose(models.predict(models.load(path), faces), softmax(expected), atol=1e-6)
    finally:
        keras.config.set_image_data_format("channels_last")


# ---- size --------------------------------------------------------------------------------------------------


def enlarging(*factors):
    x = image = keras.Input((48, 48, 1))
    for factor in factors:
        x = layers.UpSampling2D(factor)(x)
    return keras.Model(image, layers.Dense(7, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(("factors", "suffix"), [((100,), ".h5"), ((10, 10), ".keras")])
@pytest.mark.parametrize("nested_in", ["", "a Sequential", "an open size"])
def test_a_layer_that_would_fill_the_memory_is_refused(tmp_path, factors, suffix, nested_in):
    model = enlarging(*factors)
    if nested_in == "a Sequential":
        model = keras.Sequential([keras.Input((48, 48, 1)), model, layers.Rescaling(1.0)])
    if nested_in == "an open size":
        enlarge = [layers.UpSampling2D(factor) for factor in factors]
        model = keras.Sequential([keras.Input((None, None, 1)), *enlarge, layers.GlobalAveragePooling2D(),
                                  layers.Dense(7)])
    with pytest.raises(UserError, match=r"a layer gives [\d,]+ values for one image") as caught:
        models.load(saved(tmp_path / f"m{suffix}", model))
    assert len(str(caught.value).splitlines()) == 1


def test_the_batch_shrinks_with_the_largest_layer(monkeypatch):
    faces = np.random.default_rng(0).uniform(0, 255, (5, 48, 48)).astype(np.float32)
    model = enlarging(4)
    expected = model.predict_on_batch(faces[..., None])
    sizes, plain = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda batch: sizes.append(len(batch)) or plain(batch))
    monkeypatch.setattr(models, "OUTPUT_BYTES", 2 * 4 * 192 * 192)
    np.testing.assert_allclose(models.predict(model, faces), expected, atol=1e-6)
    assert sizes == [2, 2, 2]


# ---- cards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "expected"), [
    ({"metrics": []}, "metrics is '[]'; expected dict"),
    ({"metrics": {"validation_accuracy": "high"}},
     "validation_accuracy is 'high'; expected int | float | None"),
    ({"split": {"seed": None}}, "split: seed is 'None'; expected int"),
    ({"arguments": {"limit": [1]}}, "arguments: limit is '[1]'"),
    ({"evaluations": {"test": {"accuracy": "x"}}}, "evaluations: test: accuracy is 'x'; expected list"),
])
def test_a_card_with_a_value_of_the_wrong_type_is_refused_in_one_line(tmp_path, change, expected):
    (tmp_path / "m.json").write_text(json.dumps({"name": "m"} | change))
    with pytest.raises(UserError) as caught:
        models.read_card(tmp_path / "m.h5")
    assert str(tmp_path / "m.json") in str(caught.value) and expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_released_card_is_read_and_a_missing_one_is_none(tmp_path):
    cards = [models.read_card(path) for path in sorted((PROJECT / "models").glob("fer2013-*.h5"))]
    assert [card["network"] for card in cards] == [
        "compact_cnn", "matched_dnn", "report_cnn", "report_cnn", "report_dnn"]
    assert models.read_card(tmp_path / "none.h5") is None


# ---- the model that scripts use without --model ------------------------------------------------------------


def card(path, accuracy, rows, **more):
    path.with_suffix(".h5").write_bytes(b"")
    files.write_json(path.with_suffix(".json"), {
        "name": path.stem, "metrics": {"validation_accuracy": accuracy},
        "split": {"data": "train.csv", "training_rows": rows}, **more})


def test_predict_takes_the_best_released_model_and_names_its_views(workspace, capsys):
    measured = ("none", "test.csv", 0.703), ("multi-scale", "test.csv", 0.719), ("flip", "other.csv", 0.9)
    views = {tta: {"data": data, "tta": tta, "rows": 9, "accuracy": [accuracy, 0, 1]}
             for tta, data, accuracy in measured}
    card(workspace / "models" / "fer2013-compact", 0.703, 28709, evaluations=views)
    path = workspace / "models" / "fer2013-compact.json"
    path.write_text(path.read_text().replace('"training_rows"', '"validation": "test.csv", "training_rows"'))
    with pytest.raises(UserError, match="cannot be loaded"):  # the stand-in for its file is empty
        predict.main(["--data", "sample"])
    assert "Using models/fer2013-compact.h5 (released; train_cnn.py would make models/cnn.h5): validation " \
           "accuracy 70.3 % (71.9 % with --tta multi-scale)" in capsys.readouterr().out


@pytest.mark.parametrize(("accuracy", "rows", "warns"), [
    (0.31, 25836, True), (0.56, 25836, False), (0.6, 25836, False), (0.99, 900, True), (None, 25836, False)])
def test_the_default_model_says_what_it_is_and_warns_below_the_released_one(
        workspace, capsys, accuracy, rows, warns):
    card(workspace / "models" / "fer2013-report-cnn", 0.5687, 25836)
    assert models.default_model() == models.RELEASED_CNN
    assert capsys.readouterr().out == (
        "Using models/fer2013-report-cnn.h5 (released; train_cnn.py would make models/cnn.h5): "
        "validation accuracy 56.9 %, trained on 25,836 faces of train.csv\n")
    card(workspace / "models" / "cnn", accuracy, rows, date="2026-11-28")
    assert models.default_model() == models.MODELS / "cnn.h5"
    first, *warning = capsys.readouterr().out.splitlines()
    known = "unknown" if accuracy is None else f"{100 * accuracy:.1f} %"
    assert first == (f"Using models/cnn.h5: validation accuracy {known}, "
                     f"trained on {rows:,} faces of train.csv on 2026-11-28")
    reason = "accuracy is lower" if accuracy == 0.31 else "training faces are fewer"
    assert [line.startswith(f"Warning: its {reason} than the released model's") and "56.9 %" in line
            for line in warning] == [True] * warns
    card(workspace / "models" / "cnn", accuracy, rows,
         split={"data": "built-in sample", "training_rows": rows})
    models.default_model()
    assert capsys.readouterr().out.count("\n") == 1  # another task: nothing to warn of


def test_a_title_has_a_networks_name_for_people_and_no_path(tmp_path):
    path = tmp_path / "mine.h5"
    assert models.title(path) == "mine"
    for network, expected in (("vgg", "mine"), ("report_cnn", "The homework's CNN (mine)")):
        path.with_suffix(".json").write_text(json.dumps({"network": network}))
        assert models.title(path) == expected
    built = (networks.report_cnn(), networks.report_dnn(), networks.compact_cnn(), networks.matched_dnn(9999))
    assert {network.name for network in built} == set(models.NETWORKS)
