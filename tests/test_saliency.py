"""saliency.py on a tiny network and the built-in sample, and what a user can get wrong."""

import sys

import keras
import matplotlib.cbook
import numpy as np
import pandas as pd
import pytest
from keras import layers
from matplotlib import pyplot as plt
from PIL import Image

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients are TensorFlow's", allow_module_level=True)

import saliency
from explain import attribution
from tests.conftest import sandbox
from tests.explained import add_model, add_unusual_models, output_names
from utils import cli

imshow = plt.Axes.imshow
TINY = ("--model", "models/tiny.keras", "--data", "sample")


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("saliency")) as call:
        keras.utils.set_random_seed(0)
        image = keras.Input((48, 48, 1))
        x = layers.Rescaling(1 / 255)(image)
        x = layers.MaxPooling2D(4)(layers.ReLU(name="relu1")(layers.Conv2D(4, 3, name="conv1")(x)))
        x = layers.Flatten()(layers.ReLU(name="relu2")(layers.Conv2D(6, 3, name="conv2")(x)))
        add_model(call.folder, "tiny", image, layers.Softmax()(layers.Dense(7, name="logits")(x)))
        add_model(call.folder, "plain", image, layers.Dense(7)(layers.Flatten()(image)))
        x = layers.Conv2D(3, 5, activation="relu")(layers.Rescaling(1 / 255)(image))
        x = layers.Dense(1, activation="sigmoid")(layers.Flatten()(layers.MaxPooling2D(4)(x)))
        add_model(call.folder, "binary", image, x)
        add_unusual_models(call.folder)
        (call.folder / "text.png").write_text("no image")
        for place in ("public/test", "several/test", "several/train"):
            (call.folder / place / "happy").mkdir(parents=True)
            Image.new("L", (48, 48)).save(call.folder / place / "happy" / "1.png")
        yield call


def read(call, name):
    """A table that the script wrote, text as it stands there."""
    return pd.read_csv(call.folder / "figures" / name, dtype=str, keep_default_na=False)


def test_the_help_names_every_method():
    words = saliency.__doc__.replace(",", " ").replace(".", " ").split()
    assert set(attribution.METHODS) <= set(words)


def test_the_default_is_the_surest_right_one_of_the_first_faces(call, capsys):
    from utils import data, models

    faces = data.find_data("sample").take(slice(100))
    scores = models.predict(models.load("models/tiny.keras"), faces.images)
    index = max(np.flatnonzero(scores.argmax(1) == faces.labels), key=lambda row: scores[row].max())
    table = call("saliency", *TINY)
    out, name = capsys.readouterr().out, f"tiny_saliency_gradient_sample_index-{index}"
    assert f"index {index} " in out and f"Wrote figures/{name}.png\nWrote figures/{name}.csv\n" in out
    assert (call.folder / f"figures/{name}.png").stat().st_size > 10_000
    assert table.attrs["figures"] == [str(call.folder / "figures" / f"{name}.png")]
    row, = read(call, f"{name}.csv").to_dict("records")
    assert row["true"] == row["predicted"]
    assert row["method"] == "gradient" and 0 <= float(row["p_kept"]) <= 1 and row["blank"] == "False"
    np.testing.assert_allclose(table.p_kept, float(row["p_kept"]))


def test_each_setting_has_figures_of_its_own(call):
    settings = [(), ("--index", 2), ("--index", 2, 4), ("--target", "happy"), ("--area", 10), ("--seed", 1),
                ("--fill", "black"), ("--layer", "relu1"), ("--baseline", "mean"), ("--method", "grad-cam"),
                ("--per-class", 1), ("--index", *range(20, 60)), ("--index", *range(19, 59)),
                ("--mean-maps",), ("--mean-maps", "--method", "grad-cam"), ("--evaluate",), ("--evaluate", 6),
                ("--evaluate", 6, "--method", "gradient"),
                ("--evaluate", "--data", "several", "--usage", "Training"),
                ("--evaluate", "--data", "several", "--usage", "PrivateTest")]
    outputs = [output_names(call, "saliency", *TINY, *setting) for setting in settings]
    assert len(frozenset.union(*outputs)) == sum(map(len, outputs))


def test_the_probability_kept_is_that_of_the_masked_face(call):
    from utils import data, models, structure

    table = call("saliency", *TINY, "--index", 3, "--area", 10, "--fill", "black", "--target", "happy")
    network = models.load("models/tiny.keras")
    face = data.find_data("sample").images[3].astype(np.float32)
    kernel = np.abs(attribution.attribute(structure.logits_model(network), face[None], np.array([3]),
                                          "gradient")[0])
    masked = np.where(kernel >= np.sort(kernel.ravel())[-230], face, 0)
    assert table.area_kept[0] == 230 / 48 ** 2
    whole, kept = (network.predict_on_batch(x[None, ..., None])[0, 3] for x in (face, masked))
    np.testing.assert_allclose([table.p_whole[0], table.p_kept[0]], [whole, kept], rtol=1e-4)


def test_all_methods_side_by_side_with_a_warning(call, capsys):
    table = call("saliency", *TINY, "--method", "all", "--index", 3, 8, "--target", "happy")
    assert capsys.readouterr().out.count("Warning: guided-backprop") == 1
    name = "tiny_saliency_all_sample_index-3-8_target-happy"
    assert f"{name}.csv" in call.files() and f"{name}.png" in call.files()
    assert list(table.method) == 2 * list(attribution.METHODS) and set(table.target) == {"happy"}
    assert list(table.image) == [f"index {i}" for i in (3, 8) for _ in attribution.METHODS]


def test_one_sheet_of_each_class_and_of_own_photos(call):
    table = call("saliency", *TINY, "--per-class", 1, "--method", "grad-cam", "--target", "contrastive")
    assert sorted(table.true) == sorted(set(table.true)) and len(table) == 7
    assert table.target.str.endswith("- runner-up").all()
    Image.new("RGB", (200, 120), "grey").save(call.folder / "me.png")
    table = call("saliency", *TINY[:2], "--images", "me.png", "--cropped", "--layer", "relu1",
                       "--method", "layer-cam")
    assert list(table.true) == [""]


def test_the_faces_of_photos_get_a_figure_each_photo(call, capsys):
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        image.save(call.folder / "portrait.png")
        two = np.hstack([np.asarray(image.convert("RGB"))] * 2)
    Image.fromarray(two).save(call.folder / "two.png")
    Image.new("RGB", (200, 120), "grey").save(call.folder / "wall.png")
    photos = ("portrait.png", "wall.png", "two.png")
    table = call("saliency", *TINY[:2], "--images", *photos, "--method", "grad-cam")
    assert list(table.photo) == ["portrait.png", "two.png", "two.png"] and list(table.face) == [1, 1, 2]
    assert (table.score > 0.1).all() and (table.width > 150).all()
    assert "no face found in wall.png" in capsys.readouterr().out
    written = call.files()
    name = "tiny_saliency_grad-cam_photos"
    assert {f"{name}_portrait_png.png", f"{name}_two_png.png", f"{name}.csv"} <= set(written)
    assert f"{name}_wall_png.png" not in written
    with pytest.raises(cli.UserError, match=r"no face found in wall\.png"):
        call("saliency", *TINY[:2], "--images", "wall.png")


def test_evidence(call, capsys):
    table = call("saliency", *TINY, "--evaluate", 6, "--method", "gradient", "grad-cam", "guided-backprop",
                       "--seed", cli.LARGEST_INT)
    out = capsys.readouterr().out
    assert "verdict" in out and "of 6 faces before and after" in out
    assert max(map(len, out.partition("\nWrote")[0].splitlines())) <= 100
    assert set(table.method) == {"gradient", "grad-cam", "guided-backprop", *attribution.CONTROLS}
    name = f"tiny_saliency_evaluation_gradient_grad-cam_guided-backprop_sample_6_seed-{cli.LARGEST_INT}"
    written = read(call, f"{name}.csv")
    assert list(written.columns) == list(table.columns)
    assert (table.deletion_area_low <= table.deletion_area).all()
    assert (table.deletion_area <= table.deletion_area_high).all()
    controls = table[table.method.isin(attribution.CONTROLS)]
    assert controls.verdict.str.startswith("control").all() and set(controls.rank_correlation) == {"-"}
    stages = read(call, f"{name}_randomisation.csv").randomized_down_to
    assert list(stages[:3]) == ["logits", "conv2", "conv1"]
    curves = read(call, f"{name}_curves.csv")
    assert len(curves) == 6 * 17
    area = curves[curves.method == "gradient"].deletion.astype(float)
    expected = table.set_index("method").deletion_area["gradient"]
    np.testing.assert_allclose(np.trapezoid(area, dx=1 / 16), expected, rtol=1e-5)


def test_methods_that_a_network_does_not_allow_are_left_out_unless_named(call, capsys):
    table = call("saliency", "--model", "models/plain.keras", "--data", "sample", "--evaluate", 4)
    left_out = "the model has no convolution or no ReLU: guided-backprop, grad-cam, grad-cam++"
    assert f"Left out, as {left_out}" in capsys.readouterr().out
    assert "smoothgrad" in set(table.method) and "grad-cam" not in set(table.method)


def test_a_binary_classifier_explains_both_its_classes(call, capsys):
    arguments = ("--model", "models/binary.keras", "--data", "sample", "--method", "gradient")
    table = call("saliency", *arguments, "grad-cam", "--target", "class 0", "--index", 3, 8)
    assert len(table) == 4 and set(table.target) == {"class 0"}
    error = call.error(capsys, "saliency", *arguments, "--mean-maps")
    assert "has 7 classes and binary tells 2 apart" in error


@pytest.mark.parametrize(("counts", "most", "expected"), [
    ([2] * 7, 12, [8, 6]),  # four classes and three
    ([1] * 7, 12, [7]), ([3, 3, 3], 4, [3, 3, 3]), ([5, 1], 2, [2, 2, 1, 1])])
def test_pages_break_between_classes(counts, most, expected):
    classes = pd.Series(np.repeat(list("abcdefg")[:len(counts)], counts))
    pages = saliency.split_pages(classes, most)
    assert [len(page) for page in pages] == expected and np.concatenate(pages).tolist() == [*classes.index]


def test_several_pages_have_one_conclusion_at_the_end(call, monkeypatch):
    from utils import figures

    drawn = []
    monkeypatch.setattr(figures, "add_conclusion", lambda figure, text: drawn.append((figure, text)))
    table = call("saliency", *TINY, "--per-class", 2)
    assert len(table.attrs["figures"]) == 2 and len(drawn) == 1
    assert "On average of the 14 faces the gradient map is densest on the" in drawn[0][1]


def test_maps_are_drawn_in_the_colours_that_are_asked_for(call, monkeypatch):
    drawn = []
    monkeypatch.setattr(plt.Axes, "imshow", lambda ax, image, cmap=None, **options: (
        drawn.append(cmap), imshow(ax, image, cmap, **options))[1])
    call("saliency", *TINY, "--index", 3)
    call("saliency", *TINY, "--index", 3, "--colormap", "jet")
    assert drawn.count("inferno") == drawn.count("jet") == 1


def test_mean_maps(call):
    table = call("saliency", *TINY, "--mean-maps")
    assert table.n[table.faces == "all"].sum() == 3500
    np.testing.assert_allclose(table.filter(like="on_").sum(axis=1), 1, rtol=1e-6)
    assert "tiny_saliency_mean_gradient_sample.png" in call.files()


def test_unusual_networks_work_or_are_refused_in_one_line(call, capsys):
    for name in ("open", "mobile"):
        model = ("--model", f"models/{name}.keras", *TINY[2:])
        assert np.isfinite(call("saliency", *model, "--method", "gradient", "grad-cam").map_max).all()
    assert "in this order" in call.error(capsys, "saliency", "--model", "models/first.keras", *TINY[2:])


def test_a_network_works_whatever_order_of_channels_the_users_keras_prefers(call):
    keras.config.set_image_data_format("channels_first")
    try:
        table = call("saliency", *TINY, "--method", "gradient", "grad-cam")
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(table.p_whole, call("saliency", *TINY).p_whole[0], rtol=1e-6)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--index", "3500"], "--index 3500 is out of range; built-in sample has training images 0 to 3499"),
    (["--method", "lime"], "invalid choice: 'lime' (choose from"),
    (["--target", "joy"], "--target 'joy' is none of predicted, true, contrastive, angry, disgust"),
    (["--colormap", "virdis"], "matplotlib has no 'virdis'; did you mean viridis"),
    (["--model", "models/plain.keras", "--method", "grad-cam"],
     "no convolutions, so no class activation maps; methods"),
    (["--model", "models/none.h5"], "models/none.h5 does not exist"),
    (["--cropped"], "--cropped and --max-faces belong to --images"),
    (["--images", "text.png"], "--images takes its faces from photos; leave out --data"),
    (["--usage", "PublicTest"], "--usage and --training-data belong to --evaluate and --mean-maps"),
    (["--data", "public"], "public has no row of Usage Training"),
    (["--evaluate", "--data", "several"], "several has rows of Usage PrivateTest, Training; name a file of"),
    (["--evaluate", "2", "--seed", "4294967295"], "is not a whole number of at least 0 and at most"),
    (["--mean-maps", "--method", "gradient", "rise"], "--mean-maps draws one method"),
    (["--layer", "conv9"],
     "no layer 'conv9' with feature maps; choose one of conv1, relu1,"),
    (["--model", "models/plain.keras", "--method", "guided-backprop"],
     "this model has none"),
])
def test_mistakes_are_one_line_and_write_nothing(call, capsys, arguments, expected):
    assert expected in call.error(capsys, "saliency", *TINY, *arguments)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--images", "text.png"], "text.png is no readable image"), (["--evaluate"], "has no model card")])
def test_mistakes_without_data_are_one_line(call, capsys, arguments, expected):
    assert expected in call.error(capsys, "saliency", *TINY[:2], *arguments)


def test_another_backend_is_refused_in_one_line(call, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "explain"]:
        monkeypatch.delitem(sys.modules, name)  # to be imported again
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert "set KERAS_BACKEND=tensorflow" in call.error(capsys, "saliency", *TINY)
