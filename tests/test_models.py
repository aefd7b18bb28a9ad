"""Any Keras classifier becomes a model of logits, and a model file from a stranger is a model or one line."""

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
from keras import layers

from tests.conftest import PROJECT
from utils import evaluation, models
from utils.cli import UserError


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sequential(last):
    return keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(3, 3, activation="relu", name="conv"),
                             layers.GlobalAveragePooling2D(name="pool"), *last])


def nested():
    base = sequential([])
    head = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="conv"), layers.Softmax(name="pool")], name="head")
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
    "layer called logits": lambda: sequential([layers.Dense(4, name="logits"), layers.Softmax(name="probabilities")]),
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
    logits = models.logits_model(model).predict_on_batch(images)
    assert logits.shape == (5, 4) and np.abs(logits.sum(1) - 1).max() > 1e-3
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)


def test_logits_stay_and_the_model_is_not_touched():
    model = sequential([layers.Dense(4)])
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    copy = models.logits_model(model)
    np.testing.assert_allclose(copy.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)
    before = [w.copy() for w in model.get_weights()]
    for weight in copy.weights:
        weight.assign(weight * 0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv").output is not None  # a second inbound node would make this ambiguous


def test_sequential_from_h5(tmp_path):
    model = sequential([layers.Dense(4, activation="softmax")])
    model.save(tmp_path / "m.h5")
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    logits = models.logits_model(models.load(tmp_path / "m.h5")).predict_on_batch(images)
    np.testing.assert_allclose(softmax(logits), model.predict_on_batch(images), atol=1e-5)


def test_nested_layers_can_be_reached():
    names = [layer.name for layer in models.logits_model(nested()).layers]
    assert "conv" in names and "head_conv" in names and "pool" in names and len(set(names)) == len(names)


def test_stock_network(tmp_path):
    base = keras.applications.MobileNetV2((48, 48, 3), alpha=0.35, weights=None, classes=7)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 48, 48, 3)).astype(np.float32)
    logits = models.logits_model(base)
    assert isinstance(logits.get_layer("Conv_1"), layers.Conv2D)
    np.testing.assert_allclose(softmax(logits.predict_on_batch(images)), base.predict_on_batch(images), atol=1e-5)


# ---- files from strangers -------------------------------------------------------------------------------------


def tiny(last=7):
    return keras.Sequential([keras.Input((12, 12, 1)), layers.Flatten(name="flat"), layers.Dense(last, name="logits"),
                             layers.Softmax()])


def saved(path, model=None):
    (model or tiny()).save(path)
    return path


def change_config(path, change):
    """Rewrite the configuration in a .h5 or .keras file: change(layers) gets the list of layer configurations."""
    if path.suffix == ".h5":
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
    config[1] |= {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "evil", "function": code}}


def set_layer(**changes):
    return lambda config: config[1].update(changes)


CONFIGS = {
    "a Lambda": (lambda_layer, "'evil' (Lambda) would run code"),
    "a Lambda inside another layer": (
        lambda c: c[1].update(class_name="TimeDistributed", config={"layer": {"class_name": "Lambda", "config": {}}}),
        "would run code"),
    "a foreign program": (set_layer(class_name="TFSMLayer", config={"name": "t", "filepath": "/tmp/x"}), "would run code"),
    "a file of words": (set_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}), "other files"),
    "a layer of its own": (set_layer(class_name="MyLayer", module=None, registered_name="mine>MyLayer"), "no stock layer"),
    "a class of another module": (set_layer(class_name="Popen", module="subprocess"), "no stock layer"),
    "a function of Keras that downloads": (set_layer(class_name="get_file", module="keras.utils"), "no stock layer"),
    "a function of another module": (
        lambda c: c[2]["config"].update(activation={"class_name": "function", "config": "system", "module": "os"}),
        "'system'"),
    "a billion units": (lambda c: c[2]["config"].update(units=10**9), "layers need 145,000,000,000 weights"),
    "an output of terabytes": (
        lambda c: c[1].update(class_name="ZeroPadding2D", config={"name": "z", "padding": 10**6, "dtype": "float32"}), ""),
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
    "external link": (lambda group: group.__setitem__("kernel", h5py.ExternalLink("/etc/passwd", "/x")), "/etc/passwd"),
    "soft link": (lambda group: group.__setitem__("kernel", h5py.SoftLink("/elsewhere")), "'/elsewhere'"),
    "values in another file": (
        lambda group: group.create_dataset("kernel", (144, 7), "f4", external=[("/etc/passwd", 0, 4032)]), "another file"),
    "virtual": (virtual, "another file"),
    "a claimed terabyte": (
        lambda group: group.create_dataset("kernel", (10**6, 250_000), "f4", chunks=(1000, 1000)), "claims shape"),
    "text": (lambda group: group.create_dataset("kernel", data=["x"] * 7), "expected numbers"),
    "a plug-in": (lambda group: group.create_dataset("kernel", (144, 7), "f4", compression="lzf"), "plug-in"),
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
    with zipfile.ZipFile(tmp_path / "good.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    np.savez(weights, kernel=np.zeros(3))
    cases = {
        "pickle.h5": (pickle.dumps(Evil()), "it is no HDF5 file"),
        "empty.h5": (b"", "it is no HDF5 file"),
        "empty.keras": (b"", "it is damaged"),
        "arrays.keras": (weights.getvalue(), "it holds kernel.npy"),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=expected):
            models.load(tmp_path / name)
    for name, changed, expected in (("more.keras", {"assets/vocabulary.txt": b"x"}, "it holds assets"),
                                    ("bomb.keras", {"config.json": b" " * (20 << 20)}, "larger than 16 MB"),
                                    ("list.keras", {"config.json": b"[]"}, "is no model"),
                                    ("deep.keras", {"config.json": b"[" * 100_000}, "is no JSON")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in (parts | changed).items():
                archive.writestr(part, content)
        with pytest.raises(UserError, match=expected):
            models.load(tmp_path / name)
    tiny().save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(UserError, match="weights without a model"):
        models.load(tmp_path / "only.weights.h5")
    assert "code was run" not in capfd.readouterr().out


def test_wrong_shapes_are_said_before_anything_is_computed(tmp_path, monkeypatch):
    vector = saved(tmp_path / "vector.h5", keras.Sequential([keras.Input((9,)), layers.Dense(7)]))
    ten = saved(tmp_path / "ten.h5", tiny(10))
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda *_: pytest.fail("computed"))
    with pytest.raises(UserError, match="expected one image input"):
        models.load(vector)
    with pytest.raises(UserError, match="tells 10 classes apart; expected the 7"):
        evaluation.load_networks([ten])


@pytest.mark.parametrize("arguments", [["--files", "40"], ["--files", "15", "--format", "keras"]])
def test_damaged_files_end_in_a_model_or_one_line_never_in_a_crash(arguments):
    done = subprocess.run([sys.executable, "-m", "tests.tools.fuzz_models", *arguments], cwd=PROJECT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0 and "refused" in done.stdout, done.stdout + done.stderr
