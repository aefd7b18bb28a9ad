"""Question 5 end to end on drawn faces with a tiny model, and what a user can get wrong."""

import csv

import keras
import pytest
from keras import layers

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients are TensorFlow's", allow_module_level=True)

QUICK = ("--data", "sample", "--limit", 40, "--steps", 3)


@pytest.fixture(scope="module")
def study(shared_suite):
    """A folder with two tiny models: a CNN and a network without convolutions."""
    keras.utils.set_random_seed(0)
    cnn = keras.Sequential([
        keras.Input((48, 48, 1)), layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu", name="conv1"), layers.MaxPooling2D(4, name="pool"),
        layers.Conv2D(6, 3, name="conv2"), layers.ReLU(name="relu2"),
        layers.Flatten(name="flatten"), layers.Dense(7, activation="softmax", name="probabilities")])
    kernel, bias = cnn.get_layer("conv2").get_weights()
    kernel[..., 5], bias[:] = 0, [0.5, 0.5, 0.5, 0.5, 0.5, -1]  # the last one is dead
    cnn.get_layer("conv2").set_weights([kernel, bias])
    cnn.save(shared_suite.folder / "models" / "tiny.keras")
    keras.Sequential([keras.Input((48, 48, 1)), layers.Flatten(name="flatten"), layers.Dense(7, name="scores")]).save(
        shared_suite.folder / "models" / "flat.keras")
    return shared_suite


def read(study, name):
    with open(study.folder / "figures" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_filters_outputs_patches_and_progress(study):
    before = set(study.files())  # other tests write into the same folder
    out, error = study.run("filter_vis.py", "--model", "models/tiny.keras", *QUICK, "--sign", "both", "--patches", 2,
                           "--progress", "strip", "--index", 3)
    assert "Warning" not in error
    figures = {name.removeprefix("figures/") for name in set(study.files()) - before if name.startswith("figures/")}
    assert {f"tiny_{kind}_{layer}.png" for kind in ("filters", "outputs", "patches", "progress")
            for layer in ("conv1", "relu2")} <= figures
    assert all(name in out for name in figures)
    rows = read(study, "tiny_filters_relu2.csv")
    assert [row["sign"] for row in rows] == ["max"] * 5 + ["min"] * 5  # the sixth filter is dead
    assert all(row["filter"] != "5" for row in rows)
    eta = [float(row["eta_squared"]) for row in rows[:5]]
    assert eta == sorted(eta, reverse=True)
    best = read(study, "tiny_patches_conv1.csv")
    assert len(best) == 8 and float(best[0]["activation"]) >= float(best[1]["activation"])


def test_gif_pixels_and_neurons(study):
    study.run("filter_vis.py", "--model", "models/tiny.keras", *QUICK, "--layer", "conv1", "--objective", "neuron",
              "--parametrization", "pixel", "--tv", 0.2, "--l2", 0.1, "--jitter", 1, "--progress", "gif")
    image = pytest.importorskip("PIL.Image").open(study.folder / "figures" / "tiny_progress_conv1.gif")
    assert image.n_frames == 2
    assert {row["objective"] for row in read(study, "tiny_filters_conv1.csv")} == {"neuron"}


def test_classes_adversarial_and_kernels(study):
    out, _ = study.run("filter_vis.py", "--model", "models/tiny.keras", *QUICK, "--classes", "--adversarial", "--kernels")
    assert "DeepFool" in out and "surprise" in out
    assert len(read(study, "tiny_classes.csv")) == 7 and len(read(study, "tiny_kernels.csv")) == 36
    row = read(study, "tiny_adversarial.csv")[0]
    assert row["class"] != row["turned to"] and float(row["L2"]) > 0
    study.run("filter_vis.py", "--model", "models/flat.keras", *QUICK, "--classes", "--adversarial")
    assert (study.folder / "figures" / "flat_adversarial.png").exists()


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--layer", "conv9"], "layer conv9 does not exist; choose from rescaling"),
    (["--layer", "conv9", "--data", "nowhere.csv"], "layer conv9 does not exist"),  # said before faces are looked for
    (["--layer", "flatten"], "layer flatten gives no maps; choose from"),
    (["--index", "7000"], "--index 7000 is out of range: there are 7000 faces, 0 to 6999"),
    (["--tv", "1"], "belong to --parametrization pixel"),
    (["--model", "models/flat.keras"], "no convolution"),
    (["--model", "models/flat.keras", "--kernels"], "no convolution"),
    (["--model", "missing.h5"], "missing.h5 does not exist"),
    (["--sign", "maximum"], "invalid choice: 'maximum'"),
    (["--steps", "0"], "not a whole number of at least 1"),
])
def test_mistakes_are_one_line_and_write_nothing(study, arguments, expected):
    before = study.files()
    _, error = study.run("filter_vis.py", "--data", "sample", "--model", "models/tiny.keras", *arguments, status=2)
    assert expected in error.strip().splitlines()[-1]
    assert study.files() == before
