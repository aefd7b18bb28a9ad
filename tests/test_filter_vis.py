"""Question 5 end to end on drawn faces with a tiny model, and what a user can get wrong."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients are TensorFlow's", allow_module_level=True)

import filter_vis
from tests.conftest import sandbox
from tests.explained import add_model, add_unusual_models, output_names

QUICK = ("--data", "sample", "--limit", 40, "--steps", 3)
TINY = ("--model", "models/tiny.keras", *QUICK)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A project with two tiny models: a CNN and a network without convolutions."""
    with sandbox(tmp_path_factory.mktemp("filter_vis")) as call:
        keras.utils.set_random_seed(0)
        image = keras.Input((48, 48, 1))
        x = layers.Conv2D(4, 3, activation="relu", name="conv1")(layers.Rescaling(1 / 255)(image))
        convolution = layers.Conv2D(6, 3, name="conv2")
        x = layers.ReLU(name="relu2")(convolution(layers.MaxPooling2D(4, name="pool")(x)))
        kernel, bias = convolution.get_weights()
        kernel[..., 5], bias[:] = 0, [0.5, 0.5, 0.5, 0.5, 0.5, -1]  # the last one is dead
        convolution.set_weights([kernel, bias])
        x = layers.Flatten(name="flatten")(x)
        add_model(call.folder, "tiny", image, layers.Dense(7, activation="softmax", name="probabilities")(x))
        add_model(call.folder, "flat", image, layers.Dense(7)(layers.Flatten(name="flatten")(image)))
        add_unusual_models(call.folder)
        yield call


def test_filters_outputs_and_patches(call, capsys):
    tables = call("filter_vis", *TINY, "--sign", "both", "--patches", 2, "--index", 3)
    out = capsys.readouterr().out
    ascended = "channel_fourier_both_steps-3_sample_limit-40"
    names = {f"tiny_{kind}.png" for layer in ("conv1", "relu2") for kind in (
        f"filters_{layer}_{ascended}", f"outputs_{layer}_sample_index-3",
        f"patches_{layer}_2_fourier_steps-3_sample_limit-40")}
    assert names <= set(call.files()) and all(name in out for name in names)
    assert "active on under 1 % of the images" in out
    summary = tables["summary"].set_index("layer")
    assert summary.dead["relu2"] == 1 and summary["unit sees"]["relu2"] == "14x14 px"
    table = pd.read_csv(call.folder / "figures" / f"tiny_filters_relu2_{ascended}.csv")
    assert list(table.sign) == ["max"] * 5 + ["min"] * 5
    assert 5 not in set(table["filter"])  # the sixth is dead
    assert list(table.eta_squared[:5]) == sorted(table.eta_squared[:5], reverse=True)
    best = tables["patches_conv1"]
    assert len(best) == 8 and float(best.activation.iloc[0]) >= float(best.activation.iloc[1])


def test_pixels_and_neurons(call):
    how = ("--objective", "neuron", "--parametrization", "pixel")
    tables = call("filter_vis", *TINY, "--layer", "conv1", *how)
    assert "tiny_filters_conv1_neuron_pixel_max_steps-3_sample_limit-40.png" in call.files()
    assert set(tables["filters_conv1"].objective) == {"neuron"}


def test_outputs_are_the_networks(call):
    from utils import data, models

    tables = call("filter_vis", *TINY, "--layer", "conv1", "--index", 7)
    network = models.load("models/tiny.keras")
    layer = network.get_layer("conv1")
    face = data.find_data("sample").images[7:8, ..., None].astype(np.float32)
    maps = np.asarray(keras.Model(network.inputs[0], layer.output)(face))[0]
    outputs = tables["outputs_conv1"].set_index("filter").sort_index()
    np.testing.assert_allclose(outputs["mean"].astype(float), maps.mean((0, 1))[outputs.index], rtol=1e-4)


def test_classes(call, capsys):
    tables = call("filter_vis", *TINY, "--classes", "--sign", "both")
    assert "surprise" in capsys.readouterr().out and len(tables["classes"]) == 14
    assert set(call("filter_vis", "--model", "models/flat.keras", *QUICK, "--classes")) == {"classes"}


def test_more_than_sixteen_filters_take_a_second_sheet(call):
    keras.utils.set_random_seed(1)
    image = keras.Input((48, 48, 1))
    x = layers.Conv2D(20, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(image))
    add_model(call.folder, "wide", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    tables = call("filter_vis", "--model", "models/wide.keras", *QUICK, "--layer", "conv")
    for kind in ("filters_conv", "outputs_conv"):
        first, whole = map(Image.open, tables[kind].attrs["figures"])
        assert whole.height > first.height and whole.filename.endswith("_all.png")


def test_the_figure_says_which_filters_stay_below_the_data_and_why(call):
    from types import SimpleNamespace

    args = SimpleNamespace(steps=200, parametrization="fourier")
    study = SimpleNamespace(args=args, faces=range(40))
    table = pd.DataFrame({"filter": [7, 8, 9], "sign": ["max", "max", "min"], "activation": [4.0, 1, -3],
                          "data_extreme": [2.0, 2, -2], "times_data": [2, 0.5, 1.5]})
    text = filter_vis.beyond_data(study, table)
    assert "1.5 times" in text and "1 of 3 stay below the data (8): " in text and "contrast" in text
    text = filter_vis.beyond_data(study, table[::2])
    assert "each goes beyond every face" in text
    text = filter_vis.beyond_data(study, table.assign(data_extreme=[2, -1, -2], times_data=[2, np.nan, 1.5]))
    assert "1.8 times" in text and "1 of 3 have no ratio: no face goes above zero; each other goes" in text


def test_there_is_no_ratio_to_data_of_the_other_sign(call, monkeypatch):
    from types import SimpleNamespace

    from explain import activation_maximization

    study = SimpleNamespace(options={}, faces=range(40), args=SimpleNamespace())
    monkeypatch.setattr(activation_maximization, "ascend", lambda *_, **__: SimpleNamespace(
        images=np.zeros((3, 2, 2)), activations=np.array([4.0, 2, -1])))
    extremes = {"max": np.array([2.0, -4, 0]), "min": np.array([0.0, 1, 0])}
    _, table = filter_vis.ascend_channels(study, None, np.arange(3), ["max", "min"], extremes, "")
    np.testing.assert_array_equal(table.times_data, [2, *5 * [np.nan]])
    text = filter_vis.beyond_data(study, table[3:])
    assert text == ("None of 40 faces reaches a value below zero here, so no ratio is given; 1 of 3 "
                    "synthesised images reach one.")
    monkeypatch.undo()
    tables = call("filter_vis", *TINY, "--layer", "pool", "--sign", "min")  # a mean of what a ReLU passes
    assert tables["filters_pool"].times_data.isna().all()
    assert list(tables["summary"]["median of data"]) == ["-"]


def test_each_setting_has_figures_of_its_own(call):
    layer = ("--layer", "conv1", "--index", 5, "--patches", 2)
    settings = [layer, ("--layer", "relu2"), *([*layer, *more] for more in (
        ("--sign", "min"), ("--objective", "neuron"), ("--parametrization", "pixel"), ("--seed", 1),
        ("--filters", 3), ("--steps", 4), ("--limit", 30), ("--index", 2), ("--patches", 3)))]
    outputs = [output_names(call, "filter_vis", *TINY, *setting) for setting in settings]
    assert len(set(outputs)) == len(settings)
    filters = [frozenset(name for name in names if "_filters_" in name) for names in outputs]
    filters = filters[:-2]  # --index and --patches do not change them
    assert len(frozenset.union(*filters)) == sum(map(len, filters))


def test_unusual_networks_work_or_are_refused_in_one_line(call, capsys, monkeypatch):
    from utils import machine

    monkeypatch.setattr(machine, "has_native_bfloat16", lambda: True)
    for name in ("mobile", "open"):
        tables = call("filter_vis", "--model", f"models/{name}.keras", *QUICK, "--filters", 2)
        assert len(tables["summary"]) >= 1
    assert "channels first" in call.error(capsys, "filter_vis", "--model", "models/first.keras", *QUICK)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--layer", "conv9"], "no layer 'conv9' with feature maps; choose from rescaling"),
    (["--layer", "conv9", "--data", "nowhere.csv"], "no layer 'conv9'"),  # before faces are loaded
    (["--layer", "flatten"], "no layer 'flatten' with feature maps"),
    (["--index", "3500"], "--index 3500 is out of range; built-in sample has training images 0 to 3499"),
    (["--classes", "--patches"], "--patches is about filters; give --layer too"),
    (["--model", "models/flat.keras"], "no convolution"),
    (["--model", "missing.h5"], "missing.h5 does not exist"),
    (["--sign", "maximum"], "invalid choice: 'maximum'"),
    (["--steps", "0"], "not a whole number of at least 1"),
])
def test_mistakes_are_one_line_and_write_nothing(call, capsys, arguments, expected):
    assert expected in call.error(capsys, "filter_vis", *TINY, *arguments)
