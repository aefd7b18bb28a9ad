"""Cross-validation by --folds, the list of experiments, and where mixing ends."""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import train_cnn
from tests.conftest import linear_cnn, write_csv
from training import networks
from training.augmentation import Augmentation
from training.batches import Batches
from utils import data, models
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


def test_out_of_fold_accuracy_is_that_of_networks_that_have_not_seen_the_face(faces_file, monkeypatch):
    argv = [*SHORT, "--data", faces_file, "--folds", "3", "--name", "cv"]
    card = train_cnn.main(argv)
    faces, right, seen = data.load_faces(faces_file), 0, []
    for fold, (_, rows) in enumerate(data.folds(faces, 3, 0), start=1):
        network = models.load(models.MODELS / f"cv-fold{fold}.h5")
        outputs = network.predict_on_batch(IMAGES[rows, :, :, None])
        right += int((outputs.argmax(1) == LABELS[rows]).sum())
        seen.extend(rows)
    assert sorted(seen) == list(range(90))
    assert card["metrics"]["validation_accuracy"] == pytest.approx(right / 90, abs=1e-4)

    experiments = pd.read_csv(models.MODELS / "experiments.csv")
    row = experiments[["name", "validation", "faces", "epochs"]].to_numpy().tolist()
    assert row == [["cv", "3 folds", 90, 1]]
    assert experiments.accuracy[0] == card["metrics"]["validation_accuracy"]

    # What is finished is not trained again; a fold without its files is
    (models.MODELS / "cv-fold2.json").unlink()
    (models.MODELS / "cv-fold3.h5").unlink()
    train, trained = train_cnn.train, []
    monkeypatch.setattr(train_cnn, "train",
                        lambda args, *rest: trained.append(args.name) or train(args, *rest))
    again = train_cnn.main([*argv, "--resume"])
    assert trained == ["cv-fold2", "cv-fold3"] and again["metrics"] == card["metrics"]
    assert len(pd.read_csv(models.MODELS / "experiments.csv")) == 1


def test_a_fold_can_be_named_and_is_recovered_from_the_card(faces_file):
    from utils import evaluation

    card = train_cnn.main([*SHORT, "--data", faces_file, "--validation", "2/3", "--name", "second"])
    _, rows = data.folds(data.load_faces(faces_file), 3, 0)[1]
    held_out = evaluation.validation_faces(models.MODELS / "second.h5")
    np.testing.assert_array_equal(held_out.images, IMAGES[rows])
    assert card["split"]["validation"] == "2/3" and card["split"]["training_rows"] == 90 - len(rows)
    with pytest.raises(UserError, match="must be one of the folds 1/3 to 3/3"):
        data.load_split(faces_file, "4/3")


def test_every_run_on_a_file_adds_its_row_and_keeps_those_before(faces_file):
    earlier = {"date": "2026-01-01", "name": "old, with comma", "seed": "007", "verdict": "pays"}
    pd.DataFrame([earlier]).to_csv(models.MODELS / "experiments.csv", index=False)
    spaced = str(Path(faces_file).rename("my faces.csv"))
    train_cnn.main([*SHORT, "--data", spaced, "--name", "new", "--seed", "5"])
    table = pd.read_csv(models.MODELS / "experiments.csv", dtype=str, keep_default_na=False)
    assert table.loc[0, ["name", "seed", "verdict"]].tolist() == ["old, with comma", "007", "pays"]
    card = json.loads((models.MODELS / "new.json").read_text())
    assert "--data 'my faces.csv'" in card["command"] and table.command[1] == card["command"]
    assert table.loc[1, ["name", "seed", "network"]].tolist() == ["new", "5", "linear"]
    assert float(table.accuracy[1]) == card["metrics"]["validation_accuracy"]
    train_cnn.main([*SHORT, "--data", "sample", "--limit", "40", "--name", "drawn"])
    assert len(pd.read_csv(models.MODELS / "experiments.csv")) == 2  # drawn faces are no experiment


def test_folds_refuse_what_contradicts_them(workspace):
    with pytest.raises(UserError, match="leave out --validation"):
        train_cnn.main(["--folds", "3", "--validation", "0.2"])
    for option in ("--start-from", "--distill"):
        with pytest.raises(UserError, match="by a network that has not seen it"):
            train_cnn.main(["--folds", "3", option, "models/cnn.h5"])
    with pytest.raises(UserError, match="--mix-until has no effect without --mix"):
        train_cnn.main(["--mix-until", "0.5"])
    (models.MODELS / "cnn-fold2.h5").mkdir()
    with pytest.raises(UserError, match=r"cnn-fold2\.h5: it is a folder"):
        train_cnn.main(["--folds", "3", "--data", "sample"])


def test_models_that_may_have_seen_the_validation_split_are_named(workspace, capsys):
    split = {"fingerprint": "f", "validation": "0.1", "seed": 0, "rows": 90, "training_rows": 81}
    for name, change in (("same", {}), ("other", {"seed": 1})):
        card = {"split": split | change, "arguments": {}}
        models.card_path(models.MODELS / f"{name}.h5").write_text(json.dumps(card))
    same, other, unknown = (models.MODELS / f"{name}.h5" for name in ("same", "other", "unknown"))
    args = argparse.Namespace(start_from=same, distill=[other, unknown])
    train_cnn.warn_of_seen_faces(args, split)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(other), str(unknown)]
    train_cnn.warn_of_seen_faces(args, split | {"training_rows": 90})  # validated on another file
    assert capsys.readouterr().out == ""


def test_mixing_ends_after_the_epochs_that_are_mixed():
    batches = Batches(IMAGES, LABELS, 30, 0, Augmentation(mix=1.0), mix_epochs=2)
    for epoch in range(4):
        batches.start_epoch(epoch)
        targets = np.concatenate([batches[step][1] for step in range(len(batches))])
        mixing = np.concatenate([batches[step][0]["mixing"] for step in range(len(batches))])
        is_plain = (mixing == [1, 0, 0, 0, 0]).all() and set(np.unique(targets)) == {0, 1}
        assert is_plain == (epoch >= 2)
