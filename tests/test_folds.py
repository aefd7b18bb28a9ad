"""Folds of cross-validation, the list of experiments, leaks into the validation split, where mixing ends."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import evaluate
import train_cnn
from tests.conftest import linear_cnn, write_csv
from training import networks
from training.batches import Batches
from training.recipes import Recipe
from training.run import RunFiles, add_to_experiments, warn_about_leakage
from utils import data, evaluation, files, models
from utils.cli import UserError
from utils.sample import sample_faces

IMAGES, LABELS = sample_faces(90)
SHORT = ["--epochs", "1", "--batch-size", "16", "--precision", "float32"]


@pytest.fixture
def faces_file(workspace, monkeypatch):
    """A file of 90 drawn faces, which unlike the built-in sample counts as real data."""
    monkeypatch.setattr(networks, "report_cnn", linear_cnn)
    return str(write_csv(workspace / "faces.csv", IMAGES, label=LABELS))


def test_folds_hold_each_face_out_once_and_keep_identical_images_together():
    images = np.random.default_rng(0).integers(0, 256, (300, 48, 48), np.uint8)
    images[200:] = images[:100]
    labels = np.arange(300) % 100 % 5
    faces = data.Faces(images, labels)
    parts = data.folds(faces, 3, seed=1)
    rows = np.concatenate([held_out for _, held_out in parts])
    np.testing.assert_array_equal(np.sort(rows), np.arange(300))
    for training, held_out in parts:
        assert not set(training) & set(held_out) and len(training) + len(held_out) == 300
        inside = set(held_out.tolist())
        assert all((i in inside) == (i + 200 in inside) for i in range(100))
        assert (np.abs(np.bincount(labels[held_out]) - 20) <= 5).all()
    np.testing.assert_array_equal(parts[0][1], data.folds(faces, 3, seed=1)[0][1])
    assert not np.array_equal(parts[0][1], data.folds(faces, 3, seed=2)[0][1])
    with pytest.raises(UserError, match="2 faces cannot be split into 3 folds"):
        data.folds(faces.take([0, 1]), 3, seed=0)


def test_a_fold_is_recovered_from_the_card_which_has_its_accuracy(faces_file, monkeypatch):
    monkeypatch.setattr(evaluate, "TURN", 0.001)  # s, in which it measures speed
    card = train_cnn.main([*SHORT, "--data", faces_file, "--validation", "2/3", "--name", "second"])
    assert card == files.read_json("models/second.json")
    _, rows = data.folds(data.load_faces(faces_file), 3, 0)[1]
    held_out = evaluation.validation_faces(files.MODELS / "second.h5")
    np.testing.assert_array_equal(held_out.images, IMAGES[rows])
    assert card["split"]["validation"] == "2/3" and card["split"]["training_rows"] == 90 - len(rows)
    table = evaluate.main(["--model", "models/second.h5"])
    assert table["accuracy"][0] == pytest.approx(card["metrics"]["validation_accuracy"], abs=5e-5)
    for fold in ("4/3", "9/3"):
        with pytest.raises(UserError, match="must be one of the folds 1/3 to 3/3"):
            data.load_split(faces_file, fold)


def test_every_run_on_a_file_adds_its_row_and_keeps_those_before(faces_file):
    earlier = {"date": "2026-01-01", "name": "old, with comma", "seed": "007", "verdict": "pays"}
    pd.DataFrame([earlier]).to_csv(files.MODELS / "experiments.csv", index=False)
    spaced = str(Path(faces_file).rename("my faces.csv"))
    train_cnn.main([*SHORT, "--data", spaced, "--name", "new", "--seed", "5"])
    table = pd.read_csv(files.MODELS / "experiments.csv", dtype=str, keep_default_na=False)
    assert table.loc[0, ["name", "seed", "verdict"]].tolist() == ["old, with comma", "007", "pays"]
    card = files.read_json("models/new.json")
    assert table.command[1] == card["command"]
    assert table.loc[1, ["name", "seed", "network"]].tolist() == ["new", "5", "linear"]
    assert float(table.accuracy[1]) == card["metrics"]["validation_accuracy"]
    train_cnn.main([*SHORT, "--data", "sample", "--limit", "40", "--name", "drawn"])
    assert len(pd.read_csv(files.MODELS / "experiments.csv")) == 2  # drawn faces are no experiment
    (files.MODELS / "experiments.csv").write_text("")
    path = RunFiles("new").experiments
    assert path == files.MODELS / "experiments.csv" and add_to_experiments(card, path) == [path]
    assert len(pd.read_csv(path)) == 1
    path.write_text('"not closed')
    assert add_to_experiments(card, path) == []


def test_models_that_may_have_seen_the_validation_split_are_named(workspace, capsys):
    split = {"fingerprint": "f", "validation": "0.1", "seed": 0, "rows": 90, "training_rows": 81}
    paths = [files.MODELS / f"{name}.h5" for name in ("same", "other", "unknown")]
    for path, change in zip(paths, ({}, {"seed": 1})):
        files.write_json(models.card_path(path), {"split": split | change})
    warn_about_leakage(paths, split)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(map(str, paths[1:]))
    warn_about_leakage(paths, split | {"training_rows": 90})  # validated on another file
    assert capsys.readouterr().out == ""


def test_mixing_ends_after_the_epochs_that_are_mixed():
    batches = Batches(IMAGES, LABELS, Recipe(batch_size=30, epochs=4, mix=1.0, mix_until=0.5), 0)
    for epoch in range(4):
        batches.start_epoch(epoch)
        targets = np.concatenate([batches[step][1] for step in range(len(batches))])
        mixing = np.concatenate([batches[step][0]["mixing"] for step in range(len(batches))])
        is_plain = (mixing == [1, 0, 0, 0, 0]).all() and set(np.unique(targets)) == {0, 1}
        assert is_plain == (epoch >= 2)
