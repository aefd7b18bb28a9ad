"""evaluate.py end to end on models whose every prediction is known, and what a user can get wrong."""

import json

import numpy as np
import pandas as pd
import pytest

import evaluate
from benchmarks import peers
from tests.conftest import write_csv
from tests.small_models import grey_level_model
from utils import data, files, models


def grey_level_faces(path, copies=4):
    """A labelled CSV: `copies` faces of each class, of the class's own grey level, no two alike."""
    rng = np.random.default_rng(0)
    labels = np.arange(7 * copies) % 7
    images = np.repeat(36 * labels[:, None], 2304, axis=1)
    for i, image in enumerate(images):
        image[rng.integers(2304, size=5)] += 1 + i // 7
    return write_csv(path, images, label=labels)


@pytest.fixture
def made(call, monkeypatch):
    """The `call` fixture with faces.csv, models/right.h5, and models/swaps.h5, which mistakes two classes."""
    monkeypatch.setattr(evaluate, "TURN", 0.001)
    grey_level_model(call.folder / "models/right.h5")
    grey_level_model(call.folder / "models/swaps.h5", swapped=(3,))
    grey_level_faces(call.folder / "faces.csv")
    return call


def test_two_models_an_ensemble_and_duplicates(made, capsys):
    lines = (made.folder / "faces.csv").read_text().splitlines(keepends=True)
    (made.folder / "train.csv").write_text("".join(lines[:8]))  # the header and the first face of each class
    table = made("evaluate", "--model", "models/right.h5", "models/swaps.h5", "--ensemble", "--tta", "flip",
                 "--data", "faces.csv", "--without-duplicates-of", "train.csv")
    name = "right_swaps_accuracy_ensemble_faces_flip_without-duplicates"
    assert made.files() == [f"{name}.{kind}" for kind in ("csv", "json", "png")]
    assert table.attrs["figures"] == [str(made.folder / f"figures/{name}.png")]
    pd.testing.assert_frame_equal(pd.read_csv(made.folder / f"figures/{name}.csv"), table)
    assert table["model"].tolist() == ["right", "swaps", "ensemble of 2"]
    assert table["accuracy"].tolist()[:2] == [1, pytest.approx(5 / 7, abs=1e-4)]
    assert (table["recall_happy"][1], table["recall_angry"][1]) == (0, 1)
    assert table["accuracy_without_duplicates"][1] == pytest.approx(5 / 7, abs=1e-4)
    assert table["parameters"].tolist() == [14, 14, 28]
    summary = json.loads((made.folder / f"figures/{name}.json").read_text())
    assert summary["tta"] == "flip" and summary["models"][0]["without_duplicates"]["rows"] == 21
    assert set(summary["models"][0]["ms_per_image"]) == {"1", "64"}
    out = capsys.readouterr().out
    assert "28 faces" in out and "21 of them not in" in out and max(map(len, out.splitlines())) <= 100, out


def test_models_of_one_name_do_not_replace_each_others_figures(made):
    grey_level_model(made.folder / "models/teachers/right.h5")
    for path in ("models/right.h5", "models/teachers/right.h5"):
        made("evaluate", "--model", path, "--data", "faces.csv", "--out-folder", "results")
    expected = {f"{name}_accuracy_faces.{kind}" for name in ("right", "teachers-right")
                for kind in ("png", "csv", "json")}
    assert {path.name for path in (made.folder / "results").iterdir()} == expected and not made.files()


def test_without_options_it_takes_the_validation_split_of_the_card(made, capsys):
    model = (made.folder / "models/right.h5").rename(made.folder / "models/cnn.h5")
    _, _, split = data.load_split("sample", "0.1", 0, 120)
    files.write_json(models.card_path(model), {"split": split, "arguments": {"limit": 120}})
    made("evaluate")
    assert "faces of the validation split of built-in sample" in capsys.readouterr().out
    assert made.files() == [f"cnn_accuracy_validation.{kind}" for kind in ("csv", "json", "png")]


@pytest.mark.parametrize(("wrong", "relation"), [(4, "not shown to be better"), (12, "better")])
def test_the_figure_says_whether_the_best_model_is_better(wrong, relation):
    labels = np.zeros(40, np.int64)
    best, other = np.eye(7)[labels], np.eye(7)[np.r_[np.ones(wrong, int), labels[wrong:]]]
    text = evaluate.conclude(["other", "best"], [other, best], labels)
    assert text.startswith("Most accurate: best is right on 100.0 % of the faces")
    assert f"Second: other. The first is {relation} (" in text and f"{wrong} against 0 faces" in text


@pytest.mark.parametrize(("arguments", "expected"), [
    (["nowhere.h5"], "nowhere.h5 does not exist"),
    (["models/right.h5"], "has no model card"),
    (["models/right.h5", "--labels", "faces.csv"], "belongs to a --data"),
    (["models/right.h5", "--data", "faces.csv", "--usage", "PublicTest"], "has rows of Usage (none)"),
    (["models/right.h5", "--data", "faces.csv", "--ensemble"], "at least two"),
    (["models/right.h5", "--data", "faces.csv", "--without-duplicates-of", "faces.csv"], "every face"),
    (["models/right.h5", "--data", "faces.csv", "--out-folder", "faces.csv"], "cannot write")])
def test_mistakes_are_one_line_and_write_nothing(made, capsys, arguments, expected):
    assert expected in made.error(capsys, "evaluate", "--model", *arguments)


def test_an_output_is_never_the_data(made, capsys):
    (made.folder / "faces.csv").rename(made.folder / "right_accuracy_faces.csv")
    (made.folder / "faces.csv").symlink_to("right_accuracy_faces.csv")
    error = made.error(capsys, "evaluate", "--model", "models/right.h5", "--data", "faces.csv",
                       "--out-folder", made.folder)
    assert "this command reads it" in error


@pytest.mark.parametrize("name", ["x" * 300 + ".h5", "loop.h5", "x" * 5000 + ".h5"])
@pytest.mark.parametrize("option", ["--model", "--data", "--labels", "--without-duplicates-of"])
def test_names_that_no_file_can_have_are_one_line(made, option, name):
    (made.folder / "loop.h5").symlink_to("loop.h5")
    with pytest.raises((evaluate.UserError, OSError)) as error:
        made("evaluate", "--model", "models/right.h5", "--data", "faces.csv", option, name)
    assert "\n" not in str(error.value) and getattr(error.value, "filename", name) == name  # see cli.run


def test_a_network_of_another_package_predicts_in_our_order_of_classes(monkeypatch, tmp_path):
    (tmp_path / "some_peer").mkdir()

    class Installed:
        version = "1.2"
        locate_file = staticmethod(tmp_path.joinpath)

    monkeypatch.setattr(peers.importlib.metadata, "distribution", {"some-peer": Installed}.get)
    theirs = ("anger", "disgust", "fear", "happy", "neutral", "sadness", "surprised")
    peer = peers.Peer("net", "some-peer==1.0", "not stated", lambda folder: (
        lambda batch: np.eye(7)[[4] * len(batch)], len(list(folder.parent.iterdir()))), theirs)
    cells, network = peer.load()
    assert cells == ["net", "some-peer 1.2", "not stated", "1"]
    predicted = network.probabilities(np.zeros((3, 48, 48), np.uint8)).argmax(axis=1)
    assert [data.CLASSES[code] for code in predicted] == ["neutral"] * 3
