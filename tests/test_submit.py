"""predict.py --submit: a stand-in for Kaggle's client says what the real one, 2.0, was heard to say."""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import predict
from tests.conftest import write_csv
from tests.small_models import random_model
from utils import cli, files

BAR = ("\n  0%|          | 0.00/29.0 [00:00<?, ?B/s]\n"
       "100%|██████████| 29.0/29.0 [00:00<00:00, 2.56kB/s]\n")
RULES = ("403 Client Error\n\nYou don't have access to this resource.\nYou may need to accept its rules at\n"
         "  https://www.kaggle.com/competitions/<competition>/rules\n")
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nProxyError: no network\n'


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Installs a client that writes its arguments to `asked`: client(stdout, stderr, status, seconds)."""
    def install(stdout="", stderr="", status=0, seconds=0):
        (tmp_path / "stdout").write_text(stdout)
        (tmp_path / "stderr").write_text(stderr)
        (tmp_path / "kaggle").write_text(f"#!/bin/sh\ncd '{tmp_path}'\nprintf '%s\\n' \"$@\" > asked\n"
                                         f"sleep {seconds}\ncat stdout; cat stderr >&2; exit {status}\n")
        (tmp_path / "kaggle").chmod(0o755)

    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # the client is looked for beside it
    return install


def refused(folder, capsys):
    """Submit in vain: returns the error's line; the file must be kept and the exact command printed."""
    path = folder / "my predictions.csv"
    files.write_table(path, pd.DataFrame({"id": range(9), "label": 3}))
    content = path.read_bytes()
    with pytest.raises(cli.UserError) as error:
        predict.submit(path, "faces-2013", "it's mine")
    assert path.read_bytes() == content and "\n" not in str(error.value)
    command = capsys.readouterr().out.strip().removeprefix("Submitting: ")
    assert shlex.split(command) == ["kaggle", "competitions", "submit", "faces-2013", "-f",
                                    files.relative_path(path), "-m", "it's mine"]
    assert "stays, and the command above sends it" in str(error.value)
    return str(error.value)


def test_from_pixels_to_kaggle(call, client, capsys):
    client("Submission ref: 7\nSuccessfully submitted", BAR)
    random_model(call.folder / "a.h5")
    write_csv(call.folder / "test.csv", [[i] * 2304 for i in range(5)], id=[9, 8, 7, 6, 5])
    call("predict", "--model", "a.h5", "--data", "test.csv", "--out", "out.csv", "--submit", "faces-2013",
         "--message", "first try: 57 % “so far”")
    assert "Successfully submitted" in capsys.readouterr().out
    assert Path("out.csv").read_text().startswith("id,label\n9,")
    assert Path("asked").read_text().splitlines() == [
        "competitions", "submit", "faces-2013", "-f", "out.csv", "-m", "first try: 57 % “so far”"]


@pytest.mark.parametrize(("stdout", "stderr", "status", "expected"), [
    ("Authentication required\n\n    kaggle auth login\n", "", 1, "required kaggle auth login;"),
    ("", RULES, 1, "https://www.kaggle.com/competitions/<competition>/rules;"),
    ("", f"{BAR}400 Client Error\n", 1, "says: 400 Client Error;"),
    ("", TRACEBACK, 1, "says: ProxyError: no network;"),
    ("Could not submit to competition\n", BAR, 0, "says: Could not submit to competition;"),
    ("", "", 1, "says: nothing;")])
def test_what_kaggle_refuses_is_one_line(client, tmp_path, capsys, stdout, stderr, status, expected):
    client(stdout, stderr, status)
    error = refused(tmp_path, capsys)
    assert error.startswith("Kaggle's client says: ") and expected in error


def test_no_answer_and_no_client(client, tmp_path, capsys, monkeypatch):
    client(seconds=2)
    monkeypatch.setattr(predict, "SUBMISSION_TIMEOUT", 1)
    assert "did not answer within 1 s" in refused(tmp_path, capsys)
    (tmp_path / "kaggle").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install -r requirements-kaggle.txt" in refused(tmp_path, capsys)


@pytest.mark.skipif(importlib.util.find_spec("kaggle") is None, reason="Kaggle's client is not installed")
def test_the_real_client_knows_the_command(tmp_path):
    env = os.environ | {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "secret", "KAGGLE_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run([Path(sys.executable).with_name("kaggle"), "competitions", "submit", "--help"],
                          env=env, capture_output=True, text=True)
    assert "-f FILE" in done.stdout and "-m MESSAGE" in done.stdout


@pytest.mark.parametrize("text", [
    "faces-2013", "https://www.kaggle.com/competitions/faces-2013", "kaggle.com/c/faces-2013/submissions?a=1",
    " https://www.kaggle.com/competitions/faces-2013/overview#rules "])
def test_a_competition_is_named_by_its_slug_or_by_a_page_of_it(text):
    assert predict.parse_args(["--submit", text, "--message", "m"]).submit == "faces-2013"


@pytest.mark.parametrize("text", [
    "https://example.org/faces-2013", "a/b", "--rules", "https://www.kaggle.com/"])
def test_what_is_no_competition_is_refused(text):
    with pytest.raises(cli.UserError, match="is no competition; expected its name"):
        predict.parse_args([f"--submit={text}", "--message", "m"])
