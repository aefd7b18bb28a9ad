"""--labels-from: the votes of FER+ as labels, from the file to the batches, the loss and the model card."""

import numpy as np
import pytest

import evaluate
from tests.conftest import linear_cnn, write_csv
from training import networks
from training.batches import Batches
from training.recipes import Recipe
from utils import data
from utils.cli import UserError
from utils.sample import sample_faces

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def votes_file(path, rows):
    """A file in the form of fer2013new.csv. rows: (Usage, ten numbers in the order of HEADER)."""
    lines = [f"{usage},fer{number:07}.png,{','.join(map(str, votes))}"
             for number, (usage, votes) in enumerate(rows)]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def faces(n, usage=None):
    images, labels = sample_faces(n)
    return data.Faces(images, labels, usage=None if usage is None else np.array(usage), source="faces.csv")


def test_votes_become_shares_of_our_classes_in_our_order(tmp_path, capsys):
    path = votes_file(tmp_path / "fer2013new.csv", [
        ("Training", [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]),
        ("Training", [0, 0, 0, 0, 0, 0, 0, 6, 4, 0]),      # contempt and unknown alone: left out
        ("Training", [0, 1, 0, 0, 0, 0, 3, 6, 0, 0]),      # contempt does not count
        ("PublicTest", [0, 0, 9, 0, 0, 0, 0, 0, 0, 1])])
    given = faces(4, ["Training", "Training", "Training", "PublicTest"])
    voted = data.with_votes(given, path)
    # angry, disgust, fear, happy, sad, surprise, neutral
    assert voted.soft == pytest.approx(np.array([
        [0.3, 0.2, 0, 0, 0.1, 0, 0.4], [0, 0, 0.75, 0.25, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]]))
    assert voted.labels.tolist() == [6, 2, 5] and (voted.images == given.images[[0, 2, 3]]).all()
    assert "1 of 4 faces have no vote for angry" in capsys.readouterr().out
    assert voted.fingerprint() != data.Faces(voted.images, voted.labels).fingerprint()


def test_training_faces_without_usage_take_the_rows_of_training(tmp_path):
    one = [0] * 9 + [0]
    rows = [("PublicTest", [9, *one[1:]]), ("Training", [0, 9, *one[2:]]), ("Training", [0, 0, 9, *one[3:]])]
    assert data.with_votes(faces(2), votes_file(tmp_path / "v.csv", rows)).labels.tolist() == [3, 5]


@pytest.mark.parametrize(("number", "usage", "first", "message"), [
    (3, None, 0, r"v.csv has 2 rows and faces.csv 3 faces; expected as many, in the order of fer2013.csv"),
    (2, ["Training", "PublicTest"], 0, r"v.csv row 3 has Usage Training where faces.csv has PublicTest"),
    (2, None, "-1", r"row 3: '-1' votes; expected a whole number")])
def test_votes_of_other_faces_and_wrong_votes_are_refused(tmp_path, number, usage, first, message):
    rows = [("Training", [9] + [0] * 9), ("Training", [first, 9] + [0] * 8)]
    with pytest.raises(UserError, match=message):
        data.with_votes(faces(number, usage), votes_file(tmp_path / "v.csv", rows))


def test_batches_hold_the_shares_and_copies_of_them():
    given = faces(8)
    soft = np.random.default_rng(0).dirichlet(np.ones(7), 8).astype(np.float32)
    batches = Batches(given.images, soft, Recipe(batch_size=10), 0, copied_rows=[3, 5])
    assert (batches[0][1] == np.concatenate([soft, soft[[3, 5]]])[batches.order]).all()


def test_a_network_learns_the_votes_and_is_evaluated_on_them(call, monkeypatch):
    """Votes that all say one class: the network learns it, whatever the drawn faces' own labels are."""
    monkeypatch.setattr(networks, "report_cnn", linear_cnn)
    monkeypatch.setattr(evaluate, "TURN", 0.001)  # s, in which it measures speed
    images, labels = sample_faces(100)
    write_csv("faces.csv", images, label=labels)
    path = votes_file(call.folder / "v.csv", [("Training", [1, 0, 9] + [0] * 7)] * 100)
    card = call("train_cnn", "--data", "faces.csv", "--labels-from", path, "--epochs", 4, "--name", "v",
                "--precision", "float32", "--batch-size", 20)
    assert card["metrics"]["validation_accuracy"] == 1
    table = call("evaluate", "--model", "models/v.h5")
    assert table["accuracy"][0] == 1 and table["rows"][0] == card["split"]["validation_rows"]
