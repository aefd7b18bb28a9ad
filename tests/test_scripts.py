"""The scripts as a user runs them: what they write, what a user can get wrong, and how fast they answer."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from tests.conftest import PROJECT
from tests.one_process import write_faces
from training import networks
from utils import files, models
from utils.cli import UserError
from utils.sample import sample_faces

SCRIPTS = sorted(path.stem for path in PROJECT.glob("*.py"))
TINY = ("--data", "sample", "--limit", 60, "--epochs", 1, "--batch-size", 30)


def call(script, *arguments):
    """Call the main() of a script in this process."""
    return importlib.import_module(script).main([str(argument) for argument in arguments])


def contents():
    """{path: bytes} of every file in the current folder."""
    paths = (path for path in Path().rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path): path.read_bytes() for path in paths}


def small_cnn():
    """An untrained network that every script can read."""
    keras.config.set_dtype_policy("float32")  # whatever the run before chose
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((48, 48, 1)), keras.layers.Conv2D(4, 5, activation="relu", name="conv"),
        keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(7, name="logits"), keras.layers.Softmax()])


@pytest.fixture
def narrow(monkeypatch):
    """The report's networks with a narrow hidden layer, where the number of weights does not matter."""
    monkeypatch.setattr(networks, "DENSE_UNITS", 32)


# ---- what the training scripts write -----------------------------------------------------------------------


def test_cnn_then_both_dnns_write_what_they_promise(workspace, narrow, capsys):
    card = call("train_cnn", *TINY, "--oversample", "--extra-conv", 1)
    output = capsys.readouterr().out
    assert "oversampled" in output and "Wrote models/cnn.h5" in output
    assert sorted(contents()) == ["figures/cnn_architecture.png", "figures/cnn_curves.png",
                                  "models/cnn.h5", "models/cnn.json", "models/cnn_history.csv"]
    assert card == files.read_json("models/cnn.json")
    call("train_dnn", *TINY)
    assert "CNN minus DNN" in capsys.readouterr().out
    assert Path("figures/dnn_comparison.png").exists()
    call("train_dnn", *TINY, "--network", "report", "--name", "small")
    assert Path("models/small.h5").exists()


def test_a_dnn_alone_and_without_data_says_how_to_get_the_cnn_and_that_the_sample_stands_in(
    workspace, capsys
):
    call("train_dnn", *TINY[2:], "--network", "report")
    output = capsys.readouterr().out
    assert "python train_cnn.py" in output
    assert "built-in sample" in output and "kaggle competitions download" in output


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_very_few_faces_train_without_a_warning(workspace, limit):
    call("train_dnn", "--data", "sample", "--limit", limit, "--epochs", 1, "--network", "report")
    assert Path("models/dnn.h5").exists()


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_few_faces_one_class_and_missing_classes_give_figures_without_a_warning(workspace, narrow, capfd):
    labels = sample_faces(160)[1]
    write_faces(workspace / "one.csv", [0])
    write_faces(workspace / "same.csv", np.flatnonzero(labels == 3)[:9])
    write_faces(workspace / "three.csv", np.flatnonzero(np.isin(labels, (0, 3, 6)))[:12])
    models.save(small_cnn(), workspace / "eyes.h5")
    eyes, short, report = ("--model", "eyes.h5"), ("--epochs", "1"), ("--network", "report")
    commands = [
        ("train_cnn", "--data", "three.csv", "--limit", "1", "--name", "single", *short),
        ("train_dnn", "--data", "same.csv", "--validation", "three.csv", "--oversample", "--augment",
         *short, *report),
        ("train_dnn", "--data", "three.csv", "--validation", "one.csv", "--name", "three", *short,
         *report)]
    for name in ("one", "same", "three"):
        data = (*eyes, "--data", f"{name}.csv")
        commands.append(("evaluate", *data, "--out", f"figures/{name}.png"))
    commands += [("plot_confusion", *data, "--out", "figures/confusion.png"),
                 ("predict", *eyes, "--data", "one.csv"),
                 ("saliency", *eyes, "--data", "one.csv", "--index", "0"),
                 ("filter_vis", *eyes, "--data", "one.csv", "--index", "0", "--layer", "conv",
                  "--steps", "2")]
    for command in commands:
        call(*command)
    output, error = capfd.readouterr()
    assert output.count("Wrote ") == len(commands) and "Warning" not in error, error
    for path in [*Path("models").glob("*.json"), *Path("figures").glob("*.json")]:
        text = path.read_text()
        assert "NaN" not in text and "Infinity" not in text, path  # Python's JSON alone has them
    for name in ("one", "same", "three"):
        row = Path("figures", f"{name}.csv").read_text().splitlines()[1]
        assert "nan" not in row.lower()


# ---- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["train_cnn", "train_dnn"])
@pytest.mark.parametrize(("arguments", "expected"), [
    (["--data", "nowhere.csv"], "cannot read nowhere.csv"),
    (["--data", "x" * 300], "File name too long"),
    (["--epochs", "0"], "'0' is not a whole number of at least 1"),
    (["--seed", "2147483648"], "at most 2147483647"),
    (["--l2", "inf"], "'inf' is not a number of at least 0"),
    (["--dropout", "1.5"], "at most 0.95"),
    (["--network", "vgg"], "invalid choice: 'vgg'"),
    (["--name", "../evil"], "must be a plain file name"),
    (["--name", "n" * 300], "File name too long"),
    (["--validation", "PublicTest", "--data", "sample"], "has no Usage column"),
    (["--validation", "2", "--data", "sample"], "must be a share"),
    (["--recipe", "nothing.json"], "cannot read nothing.json"),
])
def test_mistakes_are_one_line_and_write_nothing(workspace, capsys, script, arguments, expected):
    with pytest.raises((UserError, SystemExit)) as caught:
        call(script, *arguments)
    message = str(caught.value)
    if isinstance(caught.value, SystemExit):  # argparse has printed it
        assert caught.value.code == 2
        message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(re.escape(expected), message) and len(message.splitlines()) == 1
    assert contents() == {}


@pytest.mark.parametrize(("script", "arguments", "expected"), [
    ("predict", ["--data", "mytest.csv", "--out", "mytest.csv"], "mytest.csv is read by this command"),
    ("predict", ["--data", "mytest.csv", "--out", "link.csv"], "link.csv is read by this command"),
    ("predict", ["--data", "mytest.csv", "--out", "models/mine.h5"], "models/mine.h5 is read by"),
    ("predict", ["--data", "mytest.csv", "--out", "other.h5"], "other.h5 exists and is not"),
    ("predict", ["--data", "mytest.csv", "--out", "train.csv"], "train.csv exists and is not"),
    ("predict", ["--data", "mytest.csv", "--out", ""], "it is a folder"),
    ("predict", ["--data", "mytest.csv", "--out", "."], "it is a folder"),
    ("predict", ["--data", "mytest.csv", "--out", "/"], "it is a folder"),
    ("predict", ["--data", "mytest.csv", "--out", "/dev/null"], "a device or pipe"),
    ("evaluate", ["--data", "train.csv", "--out", "train.png"], "train.csv is read by this command"),
    ("evaluate", ["--data", "mytest.csv", "--out", "train.png"], "train.csv exists and is not"),
    ("evaluate", ["--data", "mytest.csv", "--out", "labels.png"], "labels.csv exists and is not a"),
    ("evaluate", ["--data", "mytest.csv", "--out", "folder.png"], "it is a folder"),
    ("plot_confusion", ["--data", "mytest.csv", "--out", "models/mine.png"], "mine.json exists and is not"),
    ("plot_confusion", ["--data", "mytest.csv", "--out", "other.png"], "other.json exists and is not"),
])
def test_an_output_that_would_destroy_something_is_refused(workspace, script, arguments, expected):
    models.save(small_cnn(), "models/mine.h5")
    models.save(small_cnn(), "other.h5")
    card = {"name": "mine", "network": "report", "arguments": {}}
    Path("models/mine.json").write_text(json.dumps(card))
    Path("other.json").write_text(json.dumps(card))
    Path("folder.png").mkdir()
    for name in ("mytest.csv", "train.csv"):
        write_faces(Path(name), slice(0, 14))
    Path("link.csv").symlink_to("mytest.csv")
    pd.DataFrame({"id": [0], "label": [0]}).to_csv("labels.csv", index=False)
    before = contents()
    with pytest.raises(UserError, match=expected) as caught:
        call(script, "--model", "models/mine.h5", *arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert contents() == before


def test_a_report_replaces_no_page_of_others(workspace):
    Path("README.md").write_text("# My thesis\n")
    before = contents()
    with pytest.raises(UserError, match=r"README\.md exists and is not"):
        call("report", "--data", "sample", "--limit", 20, "--out", "README.html")
    assert contents() == before


def test_a_run_may_not_overwrite_the_model_that_it_starts_from(workspace):
    call("train_dnn", *TINY, "--network", "report", "--name", "mine")
    call("train_dnn", *TINY, "--network", "report", "--name", "mine")  # the same again may
    before = contents()
    for option, source in (("--start-from", "models/mine.h5"), ("--recipe", "models/mine.json")):
        with pytest.raises(UserError, match=r"is read by this command.*choose another"):
            call("train_dnn", *TINY, "--network", "report", "--name", "mine", option, source)
        assert contents() == before


def test_a_dnn_may_not_overwrite_the_cnn_that_it_is_compared_with(workspace):
    card = {"name": "cnn", "network": "small", "parameters": 200_000, "seconds": 1, "metrics": {},
            "split": {}}
    files.write_json("models/cnn.json", card)
    Path("models/cnn_history.csv").write_text("epoch\n1\n")
    Path("models/cnn.h5").write_bytes(b"\x89HDF")
    before = contents()
    with pytest.raises(UserError, match=r"models/cnn\.h5 is read by this command.*choose another"):
        call("train_dnn", *TINY, "--name", "cnn")
    assert contents() == before


def test_results_are_added_to_the_card_that_is_read(workspace):
    models.save(small_cnn(), "models/dnn.h5")
    files.write_json("models/dnn.json", {"name": "dnn", "network": "small", "arguments": {}})
    write_faces(Path("faces.csv"), slice(0, 30))
    for _ in range(2):
        call("evaluate", "--model", "models/dnn.h5", "--data", "faces.csv", "--card")
    assert len(files.read_json("models/dnn.json")["evaluations"]) == 1


# ---- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_at_once(shared_suite, script):
    command, before = [sys.executable, "-X", "importtime", f"{script}.py", "--help"], os.times()
    done = subprocess.run(command, cwd=shared_suite.folder, capture_output=True, text=True, check=True)
    after = os.times()  # of the processor: other work on the machine does not count
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < seconds < 0.5
    assert "usage" in done.stdout and "--data" in done.stdout
    slow = r"\| +(tensorflow|keras|pandas|matplotlib|sklearn|scipy|dlib|PIL)$"
    assert not re.search(slow, done.stderr, re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_option_is_one_line_and_status_2(shared_suite, script):
    _, error = shared_suite.run(f"{script}.py", "--nonsense", status=2)
    assert error.splitlines()[-1] == f"{script}.py: error: unrecognized arguments: --nonsense"
