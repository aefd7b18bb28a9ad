"""evaluate.py end to end on models whose every answer is known, and what a user can get wrong."""

import csv
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import evaluate
from benchmarks import peers
from tests.conftest import write_csv
from tests.legible import text_sizes
from tests.small_models import grey_level_model
from utils import cli, data, evaluation, files, models


def grey_level_faces(path, copies=4):
    """A labelled CSV: `copies` faces of each class, of the class's own grey level, no two alike."""
    rng = np.random.default_rng(0)
    labels = np.arange(7 * copies) % 7
    images = np.repeat(36 * labels[:, None], 2304, axis=1)
    for i, image in enumerate(images):
        image[rng.integers(2304, size=5)] += 1 + i // 7
    return write_csv(path, images, label=labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    grey_level_model(folder / "right.h5")
    grey_level_model(folder / "swaps.h5", swapped=(3,))
    grey_level_faces(folder / "faces.csv")
    return folder


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call the script's main with arguments; returns its table and what it printed."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(evaluate, "TURN", 0.001)

    def run(*arguments):
        table = evaluate.main([*map(str, arguments)])
        return table, capsys.readouterr().out

    return run


def test_two_models_an_ensemble_and_duplicates(made, call, tmp_path):
    known = tmp_path / "train.csv"
    with open(made / "faces.csv", encoding="utf-8") as file:
        known.write_text("".join(file.readlines()[:8]))  # the header and the first face of each class
    table, out = call("--model", made / "right.h5", made / "swaps.h5", "--ensemble", "--tta", "flip",
                      "--data", made / "faces.csv", "--without-duplicates-of", known,
                      "--out", tmp_path / "m.png")
    assert "28 faces" in out and "21 of them not in" in out
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    with open(tmp_path / "m.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table.columns)
    assert table["accuracy"].tolist() == [float(row["accuracy"]) for row in rows]
    assert [row["model"] for row in rows] == ["right", "swaps", "ensemble of 2"]
    assert float(rows[0]["accuracy"]) == 1 and float(rows[1]["accuracy"]) == pytest.approx(5 / 7, abs=1e-4)
    assert float(rows[1]["recall_happy"]) == 0 and float(rows[1]["recall_angry"]) == 1
    assert float(rows[1]["accuracy_without_duplicates"]) == pytest.approx(5 / 7, abs=1e-4)
    assert [int(row["parameters"]) for row in rows] == [14, 14, 28]
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["tta"] == "flip" and report["models"][0]["without_duplicates"]["rows"] == 21
    assert set(report["models"][0]["ms_per_image"]) == {"1", "64"}


def test_classes_name_the_digits_of_both_folders(made, call, tmp_path):
    for folder, greys in (("own", (0, 1, 2)), ("known", (1,))):
        for code, grey in itertools.product((0, 3), greys):
            path = tmp_path / folder / str(code) / f"{grey}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (48, 48), 36 * code + grey).save(path)
    _, out = call("--model", made / "right.h5", "--data", tmp_path / "own", "--classes", "angry,happy",
                  "--without-duplicates-of", tmp_path / "known", "--out", tmp_path / "m.png")
    assert "6 faces" in out and "4 of them not in" in out


def test_faces_are_read_in_parts(made, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 10)
    faces = data.load_faces(made / "faces.csv").take(slice(3, 28))
    whole, read = np.asarray(faces.images), []
    monkeypatch.setattr(data.Rows, "__array__", None)  # what reads all of them at once
    pick = data.Rows.__getitem__
    monkeypatch.setattr(data.Rows, "__getitem__", lambda rows, key: read.append(key) or pick(rows, key))
    network = evaluation.load_networks([made / "swaps.h5"])
    ours = evaluation.probabilities(network, faces.images)
    assert len(read) == 3
    np.testing.assert_allclose(ours, evaluation.predict_views(network[0], whole), atol=1e-6)
    assert evaluation.seen_in(faces, faces.take(slice(4))).sum() == 4


def test_the_card_keeps_what_it_had_and_one_entry_a_data_set(made, call, tmp_path):
    model = grey_level_model(tmp_path / "m.h5")
    files.write_json(models.card_path(model), {"name": "m"})
    for tta in ("none", "flip", "flip"):
        call("--model", model, "--data", made / "faces.csv", "--tta", tta, "--card",
             "--out", tmp_path / "x.png")
    card = models.read_card(model)
    assert card["name"] == "m" and set(card["evaluations"]) == {"faces.csv, none", "faces.csv, flip"}
    assert card["evaluations"]["faces.csv, flip"]["accuracy"] == [1, 0.87936, 1]  # 28 / (28 + 1.96^2)


def test_every_text_can_be_read_in_a_column(made, call, tmp_path, monkeypatch):
    sizes = text_sizes(monkeypatch)
    call("--model", made / "right.h5", made / "swaps.h5", "--ensemble", "--data", made / "faces.csv",
         "--out", tmp_path / "m.png")
    assert len(sizes) == 1 and min(sizes.values()) >= 7


@pytest.mark.parametrize(("wrong", "relation"), [(4, "not shown to be better than"), (12, "better than")])
def test_the_figure_says_whether_the_best_model_is_better(wrong, relation):
    labels = np.zeros(40, np.int64)
    best, other = np.eye(7)[labels], np.eye(7)[np.r_[np.ones(wrong, int), labels[wrong:]]]
    text = evaluate.conclude(["other", "best"], [other, best], labels)
    assert text.startswith("Most accurate: best is right on 100.0 % of the faces")
    assert f"It is {relation} the next one, other" in text and f"{wrong} against 0 faces" in text


def test_labels_in_a_file_of_their_own(made, call, tmp_path):
    pd.DataFrame({"id": range(10), "label": np.arange(10) % 7}).to_csv(tmp_path / "labels.csv", index=False)
    _, out = call("--model", made / "right.h5", "--data", made / "faces.csv",
                  "--labels", tmp_path / "labels.csv", "--out", tmp_path / "x.png")
    assert "no label for 18 of the 28 faces" in out and "\n10 faces of " in out


@pytest.mark.parametrize("card", ["[]", '"text"', "[" * 200_000, '{"evaluations": []}', '{"evaluations": 3}'])
def test_a_card_that_nothing_can_be_written_into_is_one_line_and_stays(made, call, tmp_path, card):
    model = grey_level_model(tmp_path / "m.h5")
    models.card_path(model).write_text(card)
    with pytest.raises(cli.UserError) as error:
        call("--model", model, "--data", made / "faces.csv", "--card", "--out", tmp_path / "x.png")
    assert "\n" not in str(error.value) and "m.json" in str(error.value)
    assert models.card_path(model).read_text() == card and not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--model", "nowhere.h5"], "nowhere.h5 does not exist"),
    (["--model", "right.h5"], "has no model card"),
    (["--model", "right.h5", "--labels", "faces.csv"], "belongs to a --data"),
    (["--model", "right.h5", "--data", "faces.csv", "--usage", "PublicTest"], "no row of Usage PublicTest"),
    (["--model", "right.h5", "--data", "faces.csv", "--card"], "to write into"),
    (["--model", "right.h5", "--data", "faces.csv", "--ensemble"], "at least two"),
    (["--model", "right.h5", "--data", "faces.csv", "--without-duplicates-of", "faces.csv"], "every face"),
    (["--model", "right.h5", "--data", "faces.csv", "--out", "x.pdf"], "must end in .png"),
    (["--model", "right.h5", "--data", "faces.csv", "--out", "faces.png"], "is read by this command"),
    (["--model", "right.h5", "--data", "faces.csv", "--out", "swaps.h5/x.png"], "cannot write"),
])
def test_mistakes_are_one_line_and_write_nothing(made, call, monkeypatch, arguments, expected):
    monkeypatch.chdir(made)
    before = sorted(made.iterdir())
    with pytest.raises(cli.UserError, match=expected) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    assert sorted(made.iterdir()) == before


@pytest.mark.parametrize("name", ["x" * 300 + ".h5", "loop.h5", "x" * 5000 + ".h5"])
@pytest.mark.parametrize("option", ["--model", "--data", "--labels", "--without-duplicates-of"])
def test_names_that_no_file_can_have_are_one_line(made, call, monkeypatch, tmp_path, option, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    with pytest.raises((cli.UserError, OSError)) as error:
        call("--model", made / "right.h5", "--data", made / "faces.csv", option, name)
    assert "\n" not in str(error.value) and getattr(error.value, "filename", name) == name  # see cli.run


def test_as_a_user_runs_it_on_the_validation_split_of_the_card(workspace, capsys):
    model = grey_level_model(workspace / "models" / "cnn.h5")
    _, _, split = data.load_split("sample", "0.1", 0, 120)
    files.write_json(models.card_path(model), {"split": split, "arguments": {"limit": 120}})
    evaluate.main(["--card"])
    assert "faces of the validation split of built-in sample" in capsys.readouterr().out
    written = {path.name for path in (workspace / "figures").iterdir()}
    assert written == {f"cnn_accuracy_validation.{kind}" for kind in ("png", "csv", "json")}
    assert list(models.read_card(model)["evaluations"]) == ["the validation split of built-in sample, none"]


def test_a_network_of_another_package_answers_in_our_order_of_classes(monkeypatch, tmp_path):
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
    answers = evaluation.probabilities([network], np.zeros((3, 48, 48), np.uint8)).argmax(axis=1)
    assert [data.CLASSES[answer] for answer in answers] == ["neutral"] * 3
