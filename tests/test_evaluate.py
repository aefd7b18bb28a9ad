"""evaluate.py end to end on models whose every answer is known, and what a user can get wrong."""

import csv
import json

import keras
import numpy as np
import pytest

import evaluate
from utils import cli, data, files, models


def grey_level_model(path, swapped=()):
    """A model that answers class k for a face of grey level 36 k, with k and k + 1 `swapped`."""
    face = keras.Input((48, 48, 1))
    logits = keras.layers.Dense(7, name="logits")
    model = keras.Model(face, keras.layers.Softmax()(logits(keras.layers.GlobalAveragePooling2D()(face))))
    levels = 36.0 * np.arange(7)
    # the nearest level wins: -(v - c)^2 is linear in v once the common v^2 is dropped
    order = list(range(7))
    for k in swapped:
        order[k], order[k + 1] = k + 1, k
    logits.set_weights([2 * levels[None, order] / 400, -levels[order]**2 / 400])
    models.save(model, path)
    return path


def grey_level_faces(path, copies=4):
    """A labelled CSV: `copies` faces of each class, of the class's own grey level, no two alike."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(7 * copies):
        image = np.full(2304, 36 * (i % 7))
        image[rng.integers(2304, size=5)] += 1 + i // 7
        rows.append([i % 7, " ".join(map(str, image))])
    files.write_csv(path, ["label", "feature"], rows)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    grey_level_model(folder / "right.h5")
    grey_level_model(folder / "swaps.h5", swapped=(3,))
    grey_level_faces(folder / "faces.csv")
    return folder


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call the script's main with arguments; returns what it printed."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(evaluate, "TURN", 0.001)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["evaluate.py", *map(str, arguments)])
        evaluate.main()
        return capsys.readouterr().out

    return run


def test_two_models_an_ensemble_and_duplicates(made, call, tmp_path):
    known = tmp_path / "train.csv"
    with open(made / "faces.csv", encoding="utf-8") as file:
        known.write_text("".join(file.readlines()[:8]))  # the header and the first face of each class
    out = call("--model", made / "right.h5", made / "swaps.h5", "--ensemble", "--tta", "flip", "--data", made / "faces.csv",
               "--without-duplicates-of", known, "--out", tmp_path / "m.png")
    assert "28 faces" in out and "21 of them not in" in out
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    with open(tmp_path / "m.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["right", "swaps", "ensemble of 2"]
    assert float(rows[0]["accuracy"]) == 1 and float(rows[1]["accuracy"]) == pytest.approx(5 / 7, abs=1e-4)
    assert float(rows[1]["recall_happy"]) == 0 and float(rows[1]["recall_angry"]) == 1
    assert float(rows[1]["accuracy_without_duplicates"]) == pytest.approx(5 / 7, abs=1e-4)
    assert [int(row["parameters"]) for row in rows] == [14, 14, 28]
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["tta"] == "flip" and report["models"][0]["without_duplicates"]["rows"] == 21
    assert set(report["models"][0]["ms_per_image"]) == {"1", "64"}


def test_the_card_keeps_what_it_had_and_one_entry_a_data_set(made, call, tmp_path):
    model = grey_level_model(tmp_path / "m.h5")
    files.write_json(models.card_path(model), {"name": "m"})
    for tta in ("none", "flip", "flip"):
        call("--model", model, "--data", made / "faces.csv", "--tta", tta, "--card", "--out", tmp_path / "x.png")
    card = models.read_card(model)
    assert card["name"] == "m" and set(card["evaluations"]) == {"faces.csv, none", "faces.csv, flip"}
    assert card["evaluations"]["faces.csv, flip"]["accuracy"] == [1, 1, 1]


def test_labels_in_a_file_of_their_own(made, call, tmp_path):
    files.write_csv(tmp_path / "labels.csv", ["id", "label"], [[i, i % 7] for i in range(10)])
    out = call("--model", made / "right.h5", "--data", made / "faces.csv", "--labels", tmp_path / "labels.csv",
               "--out", tmp_path / "x.png")
    assert out.startswith("10 faces")


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--model", "nowhere.h5"], "nowhere.h5 does not exist"),
    (["--model", "right.h5"], "has no model card"),
    (["--model", "right.h5", "--labels", "faces.csv"], "belongs to a --data"),
    (["--model", "right.h5", "--data", "faces.csv", "--usage", "PublicTest"], "no row of Usage PublicTest"),
    (["--model", "right.h5", "--data", "faces.csv", "--card"], "to write into"),
    (["--model", "right.h5", "--data", "faces.csv", "--ensemble"], "at least two"),
    (["--model", "right.h5", "--data", "faces.csv", "--without-duplicates-of", "faces.csv"], "every face"),
    (["--model", "right.h5", "--data", "faces.csv", "--out", "x.pdf"], "must end in .png"),
])
def test_mistakes_are_one_line_and_write_nothing(made, call, monkeypatch, arguments, expected):
    monkeypatch.chdir(made)
    before = sorted(made.iterdir())
    with pytest.raises(cli.UserError, match=expected) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    assert sorted(made.iterdir()) == before


def test_as_a_user_runs_it_on_the_split_of_a_fresh_model(suite):
    suite.run("train_dnn.py", "--data", "sample", "--limit", 120, "--epochs", 1, "--network", "report")
    out, error = suite.run("evaluate.py", "--model", "models/dnn.h5", "--card")
    assert "the validation split of built-in sample" in out and "Warning" not in error
    assert {"figures/models.png", "figures/models.csv", "figures/models.json"} <= set(suite.files())
    _, error = suite.run("evaluate.py", "--model", "models/dnn.h5", "--data", "nowhere.csv", status=2)
    assert "cannot read nowhere.csv" in error and len(error.strip().splitlines()) == 1
