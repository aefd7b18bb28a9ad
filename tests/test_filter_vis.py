"""Question 5 end to end on drawn faces with a tiny model, and what a user can get wrong."""

from types import SimpleNamespace

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
    settings = "sample_sign-both_steps-3_index-3_patches-2_limit-40"
    names = {f"tiny_{kind}_{layer}_{settings}.png" for layer in ("conv1", "relu2")
             for kind in ("filters", "outputs", "patches")}
    assert names <= set(call.files()) and all(name in out for name in names)
    assert "rare: active on under 1 %" in out
    summary = tables["summary"].set_index("layer")
    assert summary.dead["relu2"] == 1 and summary["unit sees"]["relu2"] == "14×14 px"
    table = pd.read_csv(call.folder / "figures" / f"tiny_filters_relu2_{settings}.csv")
    assert list(table.sign) == ["max"] * 5 + ["min"] * 5
    assert 5 not in set(table["filter"])  # the sixth is dead
    assert list(table.eta_squared[:5]) == sorted(table.eta_squared[:5], reverse=True)
    best = tables["patches_conv1"]
    assert len(best) == 8 and float(best.activation.iloc[0]) >= float(best.activation.iloc[1])


def test_pixels_and_neurons(call):
    how = ("--objective", "neuron", "--parametrization", "pixel")
    tables = call("filter_vis", *TINY, "--layer", "conv1", *how)
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
    from utils import data

    tables = call("filter_vis", *TINY, "--classes", "--sign", "both")
    assert "surprise" in capsys.readouterr().out
    assert list(tables["classes"]["class"]) == list(np.repeat(data.CLASSES, 2))
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


@pytest.fixture
def sheets(monkeypatch):
    """The title, cells and conclusion of every sheet that is drawn."""
    drawn, draw = [], filter_vis.draw_sheet

    def record(title, cells, captions, conclusion, **style):
        drawn.append((title, cells, conclusion))
        return draw(title, cells, captions, conclusion, **style)

    monkeypatch.setattr(filter_vis, "draw_sheet", record)
    return drawn


def test_what_is_written_under_a_sheet_is_about_the_filters_on_it(call, sheets):
    keras.utils.set_random_seed(1)
    image = keras.Input((48, 48, 1))
    x = layers.Conv2D(20, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(image))
    add_model(call.folder, "wide", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    tables = call("filter_vis", "--model", "models/wide.keras", *QUICK, "--layer", "conv")
    texts = {("outputs" in title, len(cells)): text for title, cells, text in sheets}
    filters, outputs = tables["filters_conv"], tables["outputs_conv"]
    assert set(texts) == {(kind, count) for kind in (True, False) for count in (16, len(filters))}
    for count in (16, len(filters)):
        part = filters[:count]
        stripes, light, dark = map(sum, (part.stripes, part.brightness > 170, part.brightness < 85))
        assert texts[False, count].startswith(f"{stripes} of {count} images are stripes of one direction")
        assert f"; {light} are light, {dark} dark." in texts[False, count]
        assert f"reaches {part.times_data.median():.1f} times" in texts[False, count]
        best = outputs["filter"][outputs["mean"][:count].idxmax()]
        assert f"Filter {best} has the highest mean" in texts[True, count]
    assert list(tables["summary"].stripes) == [f"{stripes} of {len(filters)}"]
    np.testing.assert_allclose(filters.brightness, tables["images_conv"][:, 0].mean((1, 2)), rtol=1e-5)


def test_only_patches_that_reach_beyond_the_face_are_said_to_be_blue(call, sheets):
    keras.utils.set_random_seed(0)
    image = keras.Input((48, 48, 1))
    x = layers.Conv2D(3, 9, padding="same", activation="relu", name="same")(layers.Rescaling(1 / 255)(image))
    add_model(call.folder, "padded", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    call("filter_vis", "--model", "models/padded.keras", *QUICK, "--layer", "same", "--patches", 5)
    call("filter_vis", *TINY, "--layer", "conv1", "--patches", 2)
    assert {(np.isnan(cells).any(), "blue" in text) for _, cells, text in sheets} == {
        (True, True), (False, False)}


def test_where_units_see_all_faces_are_shown_whole(call, sheets):
    from utils import data

    keras.utils.set_random_seed(0)
    image = keras.Input((48, 48, 1))
    x = layers.AveragePooling2D(4)(layers.CenterCrop(40, 40)(layers.Rescaling(1 / 255)(image)))
    x = layers.Conv2D(3, 13, padding="same", activation="relu", name="all")(x)
    add_model(call.folder, "broad", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    tables = call("filter_vis", "--model", "models/broad.keras", *QUICK, "--layer", "all", "--patches", 1)
    faces = data.find_data("sample").images[:, 4:44, 4:44]  # all, of which some are measured
    cells = next(cells for title, cells, _ in sheets if "patches" in title)
    np.testing.assert_array_equal(cells[:, 1], faces[tables["patches_all"]["index"].astype(int)])


def test_the_best_face_of_a_class_is_a_training_image(call):
    from utils import data, models, structure

    table = call("filter_vis", *TINY, "--classes")["classes"]
    path = TINY[TINY.index("--model") + 1]
    logits = models.predict(structure.logits_model(models.load(path)), data.find_data("sample").images)
    reached = logits[table.best_index.astype(int), range(len(table))]
    np.testing.assert_allclose(reached, table.its_logit.astype(float), rtol=1e-4)


def test_the_figure_says_how_many_filters_stay_below_the_data(call):
    study = SimpleNamespace(faces=range(40))
    table = pd.DataFrame({"filter": [7, 8, 9], "times_data": [2, 0.5, 1.5]})
    text = filter_vis.beyond_data(study, table)
    assert "1.5 times" in text and "1 of 3 stay below the data" in text
    assert "stay below" not in filter_vis.beyond_data(study, table[::2])
    text = filter_vis.beyond_data(study, table.assign(times_data=[2, np.nan, 1.5]))
    assert "1.8 times" in text and "1 of 3 have no ratio, as no face goes beyond zero" in text
    assert filter_vis.beyond_data(study, table.assign(times_data=np.nan)).startswith("3 of 3 have no ratio")


def test_there_is_no_ratio_to_data_of_the_other_sign(call):
    tables = call("filter_vis", *TINY, "--layer", "pool", "--sign", "min")  # a mean of what a ReLU passes
    assert tables["filters_pool"].times_data.isna().all()
    assert list(tables["summary"]["times the data"]) == ["-"]


def test_each_setting_has_figures_of_its_own(call):
    layer = ("--layer", "conv1", "--index", 5, "--patches", 2)
    settings = [layer, ("--layer", "relu2"), *([*layer, *more] for more in (
        ("--sign", "min"), ("--objective", "neuron"), ("--parametrization", "pixel"), ("--seed", 1),
        ("--filters", 3), ("--steps", 4), ("--limit", 30), ("--index", 2), ("--patches", 3)))]
    names = [output_names(call, "filter_vis", *TINY, *setting) for setting in settings]
    assert len(frozenset.union(*names)) == sum(map(len, names))


def test_unusual_networks_work_or_are_refused_in_one_line(call, capsys, monkeypatch):
    from utils import machine

    monkeypatch.setattr(machine, "has_native_bfloat16", lambda: True)
    for name in ("mobile", "open"):
        tables = call("filter_vis", "--model", f"models/{name}.keras", *QUICK, "--filters", 2)
        assert len(tables["summary"]) >= 1
    assert "in this order" in call.error(capsys, "filter_vis", "--model", "models/first.keras", *QUICK)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--layer", "conv9"], "no layer 'conv9' with feature maps; choose from rescaling"),
    (["--layer", "flatten"], "no layer 'flatten' with feature maps"),
    (["--index", "3500"], "--index 3500 is out of range; built-in sample has training images 0 to 3499"),
    (["--classes", "--patches"], "--patches is about filters; give --layer too"),
    (["--model", "models/flat.keras"], "no convolution"),
    (["--model", "missing.h5"], "missing.h5 does not exist"),
])
def test_mistakes_are_one_line_and_write_nothing(call, capsys, arguments, expected):
    assert expected in call.error(capsys, "filter_vis", *TINY, *arguments)
