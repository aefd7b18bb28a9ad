"""Every training script end to end as a user runs it, and what a user can get wrong."""

import json
import subprocess
import sys
import time

import pytest

TINY = ("--data", "sample", "--limit", 150, "--epochs", 1, "--batch-size", 50)


def test_cnn_then_both_dnns_write_what_they_promise(suite):
    out, _ = suite.run("train_cnn.py", *TINY, "--oversample", "--extra-conv", 1)
    assert "oversampled" in out and "Wrote models/cnn.h5" in out
    made = ["figures/cnn_architecture.png", "figures/cnn_curves.png",
            "models/cnn.h5", "models/cnn.json", "models/cnn_history.csv"]
    assert suite.files() == made
    out, _ = suite.run("train_dnn.py", *TINY)
    assert "CNN minus DNN" in out
    assert "figures/dnn_comparison.png" in suite.files()
    suite.run("train_dnn.py", *TINY, "--network", "report", "--name", "small")
    assert "models/small.h5" in suite.files()


def test_a_dnn_alone_says_how_to_get_the_cnn(suite):
    out, _ = suite.run("train_dnn.py", *TINY, "--network", "report")
    assert "python train_cnn.py" in out


def test_without_data_the_sample_stands_in_and_says_so(suite):
    out, _ = suite.run("train_dnn.py", *TINY[2:], "--network", "report")
    assert "built-in sample" in out and "kaggle competitions download" in out


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_very_few_faces_train_without_a_warning(suite, limit):
    _, error = suite.run("train_dnn.py", "--data", "sample", "--limit", limit, "--epochs", 1, "--network", "report")
    assert "Warning" not in error


@pytest.mark.parametrize("script", ["train_cnn.py", "train_dnn.py"])
@pytest.mark.parametrize(("arguments", "expected"), [
    (["--data", "nowhere.csv"], "cannot read nowhere.csv"),
    (["--epochs", "0"], "'0' is not a whole number of at least 1"),
    (["--dropout", "1.5"], "at most 0.95"),
    (["--network", "vgg"], "invalid choice: 'vgg'"),
    (["--name", "../evil"], "must be a plain file name"),
    (["--validation", "PublicTest", "--data", "sample"], "has no Usage column"),
    (["--validation", "2", "--data", "sample"], "must be a share"),
    (["--recipe", "nothing.json"], "cannot read nothing.json"),
])
def test_mistakes_are_one_line_and_write_nothing(suite, script, arguments, expected):
    _, error = suite.run(script, *arguments, status=2)
    assert expected in error.strip().splitlines()[-1]
    assert suite.files() == []


@pytest.mark.parametrize("script", ["train_cnn.py", "train_dnn.py"])
def test_help_answers_at_once(suite, script):
    took = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run([sys.executable, script, "--help"], cwd=suite.folder, capture_output=True, text=True, check=True)
        took.append(time.monotonic() - start)
    assert "Question" in done.stdout and "--network" in done.stdout
    assert min(took) < 0.5
    modules = subprocess.run([sys.executable, "-X", "importtime", script, "--help"], cwd=suite.folder, capture_output=True,
                             text=True, check=True).stderr
    assert "tensorflow" not in modules and "keras" not in modules


def test_training_runs_on_jax_where_tensorflow_is_absent(suite):
    pytest.importorskip("jax")
    (suite.folder / "absent").mkdir()
    (suite.folder / "absent" / "tensorflow.py").write_text("raise ImportError('TensorFlow is not installed')\n")
    env = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(suite.folder / "absent")}
    suite.run("train_cnn.py", "--network", "compact", *TINY, "--augment", "--mix", 0.5, "--name", "there", env=env)
    card = json.loads((suite.folder / "models" / "there.json").read_text())
    assert card["versions"]["backend"] == "jax" and "tensorflow" not in card["versions"]
    out, _ = suite.run("train_dnn.py", *TINY, "--network", "report", "--cnn", "models/there.h5")  # read on TensorFlow
    assert "CNN minus DNN" in out
