"""The scripts: what they write together, what a user can get wrong, and how fast they answer."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate
from tests.conftest import PROJECT, write_csv
from tests.small_models import small_cnn
from training import networks
from utils import files, models
from utils.cli import UserError
from utils.sample import sample_faces

SCRIPTS = sorted(path.stem for path in PROJECT.glob("*.py"))
TINY = ("--data", "sample", "--limit", 60, "--epochs", 1, "--batch-size", 30)
IMAGES, LABELS = sample_faces(160)


def contents():
    """{path: bytes} of every file in the current folder."""
    paths = (path for path in Path().rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {str(path): path.read_bytes() for path in paths}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """The homework's networks with a narrow hidden layer, and no time spent on measuring speed."""
    monkeypatch.setattr(networks, "DENSE_UNITS", 32)
    monkeypatch.setattr(evaluate, "TURN", 0.001)


# ---- what the scripts write --------------------------------------------------------------------------------


def test_cnn_then_both_dnns_write_what_they_promise(call, capsys):
    card = call("train_cnn", *TINY, "--oversample", "--extra-conv", 1, "--out-folder", "elsewhere")
    output = capsys.readouterr().out
    assert "oversampled" in output and "Wrote elsewhere/cnn.h5" in output
    names = ["cnn.h5", "cnn.json", "cnn_architecture.png", "cnn_curves.png", "cnn_history.csv"]
    assert sorted(contents()) == [f"elsewhere/{name}" for name in names]
    assert card == files.read_json("elsewhere/cnn.json")
    for name in ("cnn.h5", "cnn.json", "cnn_history.csv"):
        shutil.copy(f"elsewhere/{name}", "models")
    call("train_dnn", *TINY)
    assert "CNN minus DNN" in capsys.readouterr().out
    assert call.files() == ["dnn_architecture.png", "dnn_comparison.png", "dnn_curves.png"]


def test_a_dnn_alone_and_without_data_says_how_to_get_the_cnn_and_that_the_sample_stands_in(call, capsys):
    call("train_dnn", *TINY[2:], "--network", "report")
    output = capsys.readouterr().out
    assert "python train_cnn.py" in output
    assert "built-in sample" in output and "kaggle competitions download" in output


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
def test_few_faces_one_class_and_missing_classes_give_figures_without_a_warning(call, capfd):
    for name, rows in {"one": [0], "same": np.flatnonzero(LABELS == 3)[:9],
                       "three": np.flatnonzero(np.isin(LABELS, (0, 3, 6)))[:12]}.items():
        write_csv(f"{name}.csv", IMAGES[rows], label=LABELS[rows])
    models.save(small_cnn(), "eyes.h5")
    run, eyes = ("--epochs", 1, "--network", "report", "--data"), ("--model", "eyes.h5", "--data")
    commands = [
        ("train_cnn", *run, "three.csv", "--limit", 1, "--name", "single"),
        ("train_cnn", *run, "three.csv", "--limit", 2, "--name", "two"),
        ("train_dnn", *run, "same.csv", "--validation", "three.csv", "--oversample", "--augment"),
        ("train_dnn", *run, "three.csv", "--validation", "one.csv", "--name", "three"),
        *(("evaluate", *eyes, f"{name}.csv") for name in ("one", "same", "three")),
        ("plot_confusion", *eyes, "three.csv"),
        ("predict", *eyes, "one.csv"),
        ("saliency", *eyes, "one.csv", "--index", 0),
        ("filter_vis", *eyes, "one.csv", "--index", 0, "--layer", "conv", "--steps", 2)]
    for command in commands:
        before = contents()
        call(*command)
        assert contents() != before
    assert "Warning" not in capfd.readouterr().err
    for path in [*Path("models").glob("*.json"), *Path("figures").glob("*.json")]:
        text = path.read_text()
        assert "NaN" not in text and "Infinity" not in text, path  # Python's JSON alone has them
    tables = list(Path("figures").glob("eyes_accuracy_*.csv"))
    assert len(tables) == 3 and not any("nan" in path.read_text().lower() for path in tables)


def test_every_figure_of_a_command_goes_to_the_folder_that_it_names(call):
    models.save(small_cnn(), "eyes.h5")
    rows = slice(0, 30)
    write_csv("faces.csv", IMAGES[rows], label=LABELS[rows])
    for script, *options in (("evaluate",), ("plot_confusion",), ("saliency", "--index", 0),
                             ("filter_vis", "--layer", "conv", "--steps", 2)):
        call(script, "--model", "eyes.h5", "--data", "faces.csv", "--out-folder", f"to/{script}", *options)
        assert list(Path("to", script).glob("*.png")) and not call.files()


# ---- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["train_cnn", "train_dnn"])
@pytest.mark.parametrize(("arguments", "expected"), [
    (["--data", "nowhere.csv"], "nowhere.csv does not exist"),
    (["--data", "x" * 300], "xxx does not exist"),
    (["--epochs", "0"], "'0' is not a whole number of at least 1"),
    (["--seed", "2147483648"], "at most 2147483647"),
    (["--l2", "inf"], "'inf' is not a number of at least 0"),
    (["--dropout", "1.5"], "at most 0.95"),
    (["--network", "vgg"], "invalid choice: 'vgg'"),
    (["--name", "../evil"], "must be a plain file name"),
    (["--name", "n" * 300], "File name too long"),
    (["--validation", "PublicTest", "--data", "sample"], "has no row of Usage PublicTest"),
    (["--validation", "2", "--data", "sample"], "is no share"),
    (["--start-from", "nothing.h5", "--data", "sample"], "nothing.h5 does not exist"),
])
def test_mistakes_are_one_line_and_write_nothing(call, capsys, script, arguments, expected):
    assert expected in call.error(capsys, script, *arguments)
    assert contents() == {}


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--out", "mytest.csv"], "cannot write mytest.csv: this command reads it"),
    (["--out", "link.csv"], "cannot write link.csv: this command reads it"),
    (["--out", "models/mine.h5"], "cannot write models/mine.h5: this command reads it"),
    (["--out", "."], "it is a folder"),
    (["--out", "/dev/null"], "a device or pipe"),
])
def test_an_output_that_would_destroy_something_is_refused(call, capsys, arguments, expected):
    models.save(small_cnn(), "models/mine.h5")
    write_csv("mytest.csv", IMAGES[:14], label=LABELS[:14])
    Path("link.csv").symlink_to("mytest.csv")
    before = contents()
    assert expected in call.error(
        capsys, "predict", "--model", "models/mine.h5", "--data", "mytest.csv", *arguments)
    for script in ("evaluate", "plot_confusion"):
        assert "mytest.csv" in call.error(capsys, script, "--model", "models/mine.h5", "--data", "mytest.csv",
                                          "--out-folder", "mytest.csv")
    assert contents() == before


def test_a_run_may_not_overwrite_the_model_that_it_starts_from(call, capsys):
    for _ in range(2):  # the same again may
        call("train_dnn", *TINY, "--network", "report", "--name", "mine")
    before = contents()
    for option in ("--start-from", "--distill"):
        error = call.error(capsys, "train_dnn", *TINY, "--name", "mine", option, "models/mine.h5")
        assert "this command reads it; choose another" in error
        assert contents() == before


def test_a_dnn_may_not_overwrite_the_cnn_that_it_is_compared_with(call):
    files.write_json("models/cnn.json", {"name": "cnn", "network": "small", "parameters": 200_000,
                                         "seconds": 1, "metrics": {}, "split": {}})
    Path("models/cnn_history.csv").write_text("epoch\n1\n")
    Path("models/cnn.h5").write_bytes(b"\x89HDF")
    before = contents()
    with pytest.raises(UserError, match=r"models/cnn\.h5: this command reads it; choose another"):
        call("train_dnn", *TINY, "--name", "cnn")
    assert contents() == before


@pytest.mark.parametrize(("command", "expected"), [
    (("evaluate", "--data", "data/test.csv"), "data/test.csv does not exist; did you mean data/test.csv.gz?"),
    (("evaluate", "--data", "test.csv"), "did you mean data/test.csv.gz?"),
    (("evaluate", "--data", "dta/test.csv.gz"), "dta/test.csv.gz does not exist; did you mean data?"),
    (("saliency", "--model", "mime.h5"), "did you mean models/mine.h5?"),
    (("predict", "--image", "a/long/way/to.png"), "--image a/long/way/to.png; did you mean --images"),
    (("predict", "--modle=m.h5"), "did you mean --model"),
    (("train_cnn", "--validation", "publictest"), "did you mean PublicTest?"),
    (("train_dnn", "--validation", "data/test.cvs.gz"), "did you mean data/test.csv.gz?")])
def test_what_is_misspelt_is_said_with_what_is_there(call, capsys, command, expected):
    for path in ("data/test.csv.gz", "models/mine.h5"):
        Path(path).write_bytes(b"")
    assert expected in call.error(capsys, *command)
    assert capsys.readouterr() == ("", "")


# ---- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_at_once_and_a_wrong_option_is_one_line(call, capsys, shared_suite, script):
    command, before = [sys.executable, "-X", "importtime", f"{script}.py", "--help"], os.times()
    done = subprocess.run(command, cwd=shared_suite.folder, capture_output=True, text=True, check=True)
    after = os.times()  # of the processor: other work on the machine does not count
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < seconds < 0.8  # under 0.5 where the other core is idle
    assert "usage" in done.stdout and "--data" in done.stdout
    slow = r"\| +(tensorflow|keras|matplotlib|sklearn|scipy|cv2|jax|optuna)$"
    assert not re.search(slow, done.stderr, re.MULTILINE)
    assert call.error(capsys, script, "--nonsense=1").startswith("unrecognized arguments: --nonsense")


def test_a_script_works_whatever_the_surroundings_say_of_drawing_and_keras(suite):
    write_csv(suite.folder / "data" / "-dash.csv", IMAGES[:40], label=LABELS[:40])
    (suite.folder / "keras.json").write_text('{"backend": "torch", "image_data_format": "channels_first"}')
    (suite.folder / "matplotlibrc").write_text("text.usetex: true\nsavefig.format: pdf\nfont.size: 40\n")
    models.save(small_cnn(), suite.folder / "models" / "eyes.h5")
    shutil.copy(PROJECT / "hw3_test.sh", suite.folder)
    env = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "KERAS_MAX_EPOCHS": "1",
                        "KERAS_HOME": str(suite.folder), "PYTHON": sys.executable}
    env.pop("KERAS_BACKEND", None)
    for command in ("$PYTHON plot_confusion.py --model models/eyes.h5 --data data/-dash.csv <&- >&- 2>&-",
                    "$PYTHON train_dnn.py --network report --data data/-dash.csv --epochs 2 2>&-",
                    "cd data && ../hw3_test.sh -dash.csv ../out.csv --model ../models/eyes.h5"):
        done = subprocess.run(["sh", "-c", command], cwd=suite.folder, env=env, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert files.read_json(suite.folder / "models" / "dnn.json")["saved_epoch"] in (1, 2)
    assert len((suite.folder / "models" / "dnn_history.csv").read_text().splitlines()) == 3
    assert list((suite.folder / "figures").glob("*confusion*.png")) and (suite.folder / "out.csv").exists()


def test_a_missing_file_is_said_before_tensorflow_starts_and_without_usage_lines(shared_suite):
    for options, expected in ((("--data", "nowhere.csv"), "nowhere.csv does not exist"),
                              (("--data", "a\x1b[2Jb.csv"), "a?[2Jb.csv does not exist")):
        done = subprocess.run([sys.executable, "-X", "importtime", "evaluate.py", *options], text=True,
                              cwd=shared_suite.folder, capture_output=True)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        assert len(lines) == 1 and expected in lines[0] and done.returncode == 2 and not done.stdout
        assert not re.search(r"\| +(tensorflow|keras)$", done.stderr, re.MULTILINE)
