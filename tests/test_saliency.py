"""saliency.py as a user runs it, on a tiny network and the built-in sample, and what a user can get wrong."""

import csv

import pytest

import saliency

TINY = """
import keras
from keras import layers
keras.utils.set_random_seed(0)
image = keras.Input((48, 48, 1))
x = layers.Rescaling(1 / 255)(image)
x = layers.MaxPooling2D(4)(layers.ReLU(name="relu1")(layers.Conv2D(4, 3, name="conv1")(x)))
x = layers.ReLU(name="relu2")(layers.Conv2D(6, 3, name="conv2")(x))
x = layers.Dense(7, name="logits")(layers.Flatten()(x))
keras.Model(image, layers.Softmax()(x), name="tiny").save("models/tiny.keras")
flat = layers.Dense(7)(layers.Flatten()(image))
keras.Model(image, flat, name="plain").save("models/plain.keras")
x = layers.Flatten()(layers.MaxPooling2D(4)(layers.Conv2D(3, 5, activation="relu")(layers.Rescaling(1 / 255)(image))))
keras.Model(image, layers.Dense(1, activation="sigmoid")(x), name="binary").save("models/binary.keras")
"""


@pytest.fixture(scope="module")
def tiny(shared_suite):
    (shared_suite.folder / "make.py").write_text(TINY)
    shared_suite.run("make.py")
    return shared_suite


def read(suite, name):
    with open(suite.folder / "figures" / name, newline="") as file:
        return list(csv.DictReader(file))


def test_the_scripts_methods_are_the_modules():
    from utils import attribution

    assert tuple(attribution.METHODS) == saliency.METHODS and tuple(attribution.CONTROLS) == saliency.CONTROLS


def test_the_sixteenth_training_image_is_the_default(tiny):
    out, error = tiny.run("saliency.py", "--model", "models/tiny.keras")
    assert "training image 15" in out and "Wrote figures/tiny_saliency.png, figures/tiny_saliency.csv" in out and not error
    row, = read(tiny, "tiny_saliency.csv")
    assert row["method"] == "gradient" and 0 <= float(row["p_kept"]) <= 1 and row["blank"] == "False"
    assert (tiny.folder / "figures/tiny_saliency.png").stat().st_size > 10_000


def test_all_methods_side_by_side_with_completeness_and_a_warning(tiny):
    out, _ = tiny.run("saliency.py", "--model", "models/tiny.keras", "--method", "all", "--index", 3, 8, "--target", "happy")
    assert "sums miss the difference of the logits by" in out and out.count("Warning: guided-backprop") == 1
    rows = read(tiny, "tiny_saliency_all_happy.csv")
    assert {row["method"] for row in rows} == set(saliency.METHODS) and len(rows) == 2 * len(saliency.METHODS)
    assert {row["target"] for row in rows} == {"happy"}


def test_one_sheet_of_each_class_and_of_own_photos(tiny):
    from PIL import Image

    out, _ = tiny.run("saliency.py", "--model", "models/tiny.keras", "--per-class", 1, "--method", "grad-cam",
                      "--target", "contrastive")
    assert len(read(tiny, "tiny_saliency_grad-cam_contrastive.csv")) == 7 and "- runner-up" in out
    Image.new("RGB", (200, 120), "grey").save(tiny.folder / "me.png")
    out, _ = tiny.run("saliency.py", "--model", "models/tiny.keras", "--images", "me.png", "--layer", "relu1",
                      "--method", "layer-cam")
    assert read(tiny, "tiny_saliency_layer-cam.csv")[0]["true"] == ""


def test_evidence(tiny):
    out, _ = tiny.run("saliency.py", "--model", "models/tiny.keras", "--data", "sample", "--evaluate", 6,
                      "--method", "gradient", "grad-cam", "guided-backprop", "--seed", 1)
    assert "verdict" in out and "control" in out
    rows = {row["method"]: row for row in read(tiny, "tiny_saliency_evaluation.csv")}
    assert set(rows) == {"gradient", "grad-cam", "guided-backprop", *saliency.CONTROLS}
    for row in rows.values():
        assert float(row["deletion_area_low"]) <= float(row["deletion_area"]) <= float(row["deletion_area_high"])
    redrawn = read(tiny, "tiny_saliency_randomisation.csv")
    assert [row["redrawn_down_to"] for row in redrawn[:3]] == ["logits", "conv2", "conv1"]
    assert len(read(tiny, "tiny_saliency_curves.csv")) == 6 * 17


def test_methods_that_a_network_does_not_allow_are_left_out_unless_named(tiny):
    out, _ = tiny.run("saliency.py", "--model", "models/plain.keras", "--data", "sample", "--evaluate", 4)
    assert "Left out, as models/plain.keras has no convolution or no ReLU: guided-backprop, grad-cam, grad-cam++" in out
    assert "smoothgrad" in {row["method"] for row in read(tiny, "plain_saliency_evaluation.csv")}


def test_a_binary_classifier_explains_both_its_classes(tiny):
    arguments = ("--model", "models/binary.keras", "--method", "gradient", "grad-cam")
    out, _ = tiny.run("saliency.py", *arguments, "--target", "class 0", "--index", 3, 8)
    assert len(read(tiny, "binary_saliency_gradient_grad-cam_class-0.csv")) == 4 and "class 1" in out
    _, error = tiny.run("saliency.py", *arguments[:3], "gradient", "--mean-maps", "--data", "sample", status=2)
    assert "has 7 classes and models/binary.keras tells 2 apart" in error


def test_mean_maps(tiny):
    tiny.run("saliency.py", "--model", "models/tiny.keras", "--data", "sample", "--mean-maps")
    rows = read(tiny, "tiny_saliency_mean_gradient.csv")
    assert sum(int(row["n"]) for row in rows if row["faces"] == "all") == 7000
    assert abs(sum(float(rows[0][third]) for third in ("upper_third", "middle_third", "lower_third")) - 1) < 1e-6


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--index", "7000"], "--index 7000 is out of range; built-in sample has training images 0 to 6999"),
    (["--method", "lime"], "invalid choice: 'lime' (choose from"),
    (["--target", "joy"], "--target 'joy' is none of predicted, true, contrastive, angry, disgust"),
    (["--layer", "conv9", "--method", "grad-cam"], "no layer 'conv9' with feature maps; choose one of conv1, relu1,"),
    (["--model", "models/plain.keras", "--method", "grad-cam"], "no convolutions, so no class activation maps; methods"),
    (["--model", "models/none.h5"], "model models/none.h5 does not exist; at hand:"),
    (["--images", "make.py"], "make.py is no readable image"),
    (["--images", "nowhere.png"], "nowhere.png is no readable image"),
    (["--images", "make.py", "--index", "3"], "not allowed with argument"),
    (["--keep", "0"], "is not a number above 0"),
    (["--evaluate"], "has no model card"),
    (["--mean-maps", "--evaluate"], "give one at a time"),
    (["--mean-maps", "--data", "sample", "--method", "gradient", "rise"], "--mean-maps draws one method"),
    (["--layer", "conv9", "--data", "nowhere.csv"], "no layer 'conv9' with feature maps"),
    (["--model", "models/plain.keras", "--method", "guided-backprop", "--data", "nowhere.csv"], "this model has none"),
    (["--per-class", "10", "--data", "nowhere.csv"], "cannot read nowhere.csv"),
])
def test_mistakes_are_one_line_and_write_nothing(tiny, arguments, expected):
    before = tiny.files()
    chosen = arguments if "--model" in arguments else ["--model", "models/tiny.keras", *arguments]
    _, error = tiny.run("saliency.py", *chosen, status=2)
    assert expected in error.strip().splitlines()[-1]
    assert tiny.files() == before


def test_another_backend_is_refused_in_one_line(tiny):
    pytest.importorskip("jax")
    _, error = tiny.run("saliency.py", "--model", "models/tiny.keras", status=2, env={"KERAS_BACKEND": "jax"})
    assert "set KERAS_BACKEND=tensorflow" in error.strip().splitlines()[-1]
