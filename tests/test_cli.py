"""The command line: option types, paths that cannot be read, tables, JSON of the wrong shape."""

import argparse
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import PROJECT
from utils import cli, files
from utils.cli import UserError


def run_code(code, folder, *arguments, env=None):
    """A Python process that runs `code` with utils.cli at hand; modules in `folder` come before others."""
    code = f"import sys; sys.path[:0] = sys.argv[1:3]; from utils import cli; {code}"
    return subprocess.run([sys.executable, "-c", code, str(folder), str(PROJECT), *arguments],
                          capture_output=True, text=True, env=env)


@pytest.mark.parametrize(("kind", "text", "expected"), [
    (int, "2147483648", "a whole number of at least 0 and at most 2147483647$"),
    (int, "1.5", "a whole number"), (int, "", "whole number"),
    (int, "9" * 5000, "a whole number"), (int, "-1", "at least 0$"), (float, "inf", "a number of at least 0"),
    (float, "nan", "a number"), (float, "1e999", "a number"), (float, "-0.1", "at least 0"),
])
def test_numbers_out_of_range_are_refused(kind, text, expected):
    with pytest.raises(argparse.ArgumentTypeError, match=expected):
        cli.number(kind, 0)(text)


def test_numbers_within_range_are_read():
    assert cli.number(int, 0)("2147483647") == 2 ** 31 - 1
    assert cli.number(float, 0, 1)("1") == 1.0
    with pytest.raises(argparse.ArgumentTypeError, match="above 0 and at most 1"):
        cli.number(float, 0, 1, open_low=True)("0")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000])
def test_a_path_that_no_file_can_have_is_one_line(tmp_path, name):
    done = run_code("cli.run(lambda: cli.Path(sys.argv[3]).stat())", tmp_path, name)
    assert done.returncode == 2 and done.stderr.endswith(": File name too long\n")
    assert len(done.stderr.splitlines()) == 1


def test_names_that_are_no_text_are_written(tmp_path):
    name = "caf\udce9"  # Latin-1 on a disk where names are UTF-8
    files.write_json(tmp_path / f"{name}.json", {"data": name})
    files.write_table(tmp_path / f"{name}.csv", pd.DataFrame({"image": [name]}))
    assert files.read_json(tmp_path / f"{name}.json") == {"data": name}
    assert r"caf\udce9" in (tmp_path / f"{name}.csv").read_text()


@pytest.mark.parametrize(("content", "expected"), [
    (b"[" * 200_000, "is not JSON"), (b'{"a": ' * 200_000, "is not JSON"), (b"{", "is not JSON"),
    (b"\xff", "is not JSON"), (b"[1]", "list where a JSON object was expected"), (b'"text"', "holds str"),
])
def test_json_that_cannot_be_a_card_is_one_line(tmp_path, content, expected):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        files.read_json(tmp_path / "card.json")


def test_a_table_is_aligned_and_shows_brackets_as_they_are(capsys):
    cli.print_table(pd.DataFrame({"class": ["angry", "[bold]fear"], "faces": ["1,234", "7"]}))
    header, rule, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["class", "faces"] and len(set(rule)) == 1
    assert first.startswith("angry ") and second.startswith("[bold]fear ")
    assert len(first) == len(second) == len(header) and first.endswith(" 1,234") and second.endswith("     7")


def test_a_wide_table_is_folded_at_100_columns(capsys):
    frame = pd.DataFrame({"photo": ["holiday/" * 12 + "me.jpg"], "class": ["happy"], "probability": ["0.81"]})
    cli.print_table(frame)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and "happy" in lines[2] and lines[2].endswith("0.81")
    assert "".join(line.split()[0] for line in lines[2:]) == frame["photo"][0]


def test_long_file_names_say_their_beginning_and_end_and_differ():
    models = ["fer2013-report-cnn", "fer2013-matched-dnn", "fer2013-compact", "fer2013-report-dnn"]
    names = [files.name_part(*order, "accuracy", "test_public_labels") for order in (models, models[:2] * 2)]
    assert len(set(names)) == 2 and max(map(len, names)) <= 100
    for name in names:
        assert name.startswith("fer2013-report-cnn_fer2013-matched-dnn")
        assert name.endswith("_accuracy_test_public_labels")
    assert len({files.name_part("x" * n) for n in range(101, 200)}) == 99
    assert files.name_part("/", "a b", "") == "a-b"


def test_progress_is_silent_without_a_terminal(capfd):
    assert list(cli.track([1, 2, 3], "counting")) == [1, 2, 3]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("keras", "env", "advice"), [
    (None, {"KERAS_BACKEND": "nonsense"}, "KERAS_BACKEND is nonsense; expected tensorflow or jax"),
    ("raise ModuleNotFoundError(\"No module named 'keras'\")", {},
     "No module named 'keras'; install requirements.txt (for JAX requirements-jax.txt), or activate")])
def test_a_keras_that_does_not_start_is_one_line(tmp_path, keras, env, advice):
    if keras:
        (tmp_path / "keras.py").write_text(keras)
    done = run_code("cli.run(cli.start_keras)", tmp_path, env={"KERAS_HOME": str(tmp_path)} | env)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and advice in done.stderr
