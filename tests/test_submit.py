"""predict.py --submit: Kaggle's real client hands the file to a stub of Kaggle's server on this machine."""

import base64
import importlib.util
import json
import os
import shlex
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

import predict
from tests.conftest import write_csv
from tests.small_models import random_model
from utils import cli, files

SERVICE = "/api/v1/competitions.CompetitionApiService/"
client = pytest.mark.skipif(importlib.util.find_spec("kaggle") is None,
                            reason="Kaggle's client is not installed")


class Stub(ThreadingHTTPServer):
    """Plays the submission protocol (StartSubmissionUpload, PUT, CreateSubmission) and records it.

    The client can be told to use http://localhost, without a port; the stub is its HTTP proxy, so that
    any free port will do.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls, self.uploaded, self.fail, self.delay = {}, None, {}, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.rpartition("/")[2]
        self.server.calls[name] = self.path, json.loads(body), self.headers["Authorization"]
        time.sleep(self.server.delay)
        upload = {"token": "the-token", "createUrl": f"{self.server.url}/upload/1"}
        answers = {"StartSubmissionUpload": upload,
                   "CreateSubmission": {"message": "Successfully submitted to the stub", "ref": 7}}
        status = self.server.fail.get(name, 200 if name in answers else 404)
        failure = {"code": status, "message": f"{status} Client Error"}
        self.answer(status, answers[name] if status == 200 else failure)

    def do_PUT(self):
        self.server.uploaded = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(self.server.fail.get("upload", 200), {})

    def answer(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """The stub, running, and the client's environment set to use it."""
    server = Stub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if "KAGGLE" in name or "PROXY" in name.upper()]:
        monkeypatch.delenv(name)
    settings = {"HOME": tmp_path / "home", "KAGGLE_CONFIG_DIR": tmp_path / "home",
                "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": server.url,
                "KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "secret"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def predicted(tmp_path):
    """A file of predictions as predict.py writes it."""
    files.write_table(tmp_path / "my predictions.csv", pd.DataFrame({"id": range(7178), "label": 3}))
    return tmp_path / "my predictions.csv"


@client
def test_from_pixels_to_kaggle(stub, tmp_path, monkeypatch, capsys):
    random_model(tmp_path / "a.h5")
    images = np.random.default_rng(0).integers(0, 256, (5, 2304))
    write_csv(tmp_path / "test.csv", images, id=9 - np.arange(5))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("utils.data.CACHE", tmp_path / "cache")
    predict.main(["--model", "a.h5", "--data", "test.csv", "--out", "out.csv", "--submit", "faces-2013",
                  "--message", "first try: 57 % “so far”"])
    out = capsys.readouterr().out
    assert "Successfully submitted to the stub" in out
    content = (tmp_path / "out.csv").read_bytes()
    assert stub.uploaded == content and content.startswith(b"id,label\n9,")
    path, started, authorization = stub.calls["StartSubmissionUpload"]
    assert path == f"http://localhost{SERVICE}StartSubmissionUpload"
    assert (started["competitionName"], started["fileName"]) == ("faces-2013", "out.csv")
    assert int(started["contentLength"]) == len(content)
    assert authorization == "Basic " + base64.b64encode(b"ada:secret").decode()
    _, created, _ = stub.calls["CreateSubmission"]
    assert created["competitionName"] == "faces-2013" and created["blobFileTokens"] == "the-token"
    assert created["submissionDescription"] == "first try: 57 % “so far”"


def refused(path, capsys, slug="faces-2013"):
    """Submit in vain: returns the error's line; the file must be kept and the exact command printed."""
    content = path.read_bytes()
    with pytest.raises(cli.UserError) as error:
        predict.submit(path, slug, "it's mine")
    assert path.read_bytes() == content and "\n" not in str(error.value)
    command = capsys.readouterr().out.strip().removeprefix("Submitting: ")
    assert shlex.split(command) == ["kaggle", "competitions", "submit", slug, "-f", files.relative_path(path),
                                    "-m", "it's mine"]
    assert "stays, and the command above sends it" in str(error.value) and "secret" not in str(error.value)
    return str(error.value)


@client
@pytest.mark.parametrize(("fail", "expected"), [
    ({"StartSubmissionUpload": 401}, "Authentication required"),
    ({"StartSubmissionUpload": 403}, "https://www.kaggle.com/competitions/<competition>/rules"),
    ({"StartSubmissionUpload": 404}, "404 Client Error"), ({"CreateSubmission": 429}, "been rate limited"),
    ({"CreateSubmission": 400}, "400 Client Error"), ({"upload": 403}, "Could not submit")])
def test_what_kaggle_refuses_is_one_line(stub, predicted, capsys, fail, expected):
    stub.fail = fail
    error = refused(predicted, capsys)
    assert error.startswith("Kaggle's client says: ") and expected in error


@pytest.mark.parametrize("text", [
    "faces-2013", "https://www.kaggle.com/competitions/faces-2013", "kaggle.com/c/faces-2013/submissions?a=1",
    " https://www.kaggle.com/competitions/faces-2013/overview#rules "])
def test_a_competition_is_named_by_its_slug_or_by_a_page_of_it(text):
    assert predict.parse_args(["--submit", text, "--message", "m"]).submit == "faces-2013"


@pytest.mark.parametrize("text", [
    "https://example.org/faces-2013", "a/b", "--rules", "https://www.kaggle.com/"])
def test_what_is_no_competition_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        predict.parse_args([f"--submit={text}", "--message", "m"])
    assert "is no competition; expected its name" in capsys.readouterr().err


@client
def test_without_credentials(stub, predicted, capsys, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    assert "kaggle auth login" in refused(predicted, capsys)
    assert stub.uploaded is None


@client
@pytest.mark.parametrize("token", [None, "a-token"])
def test_without_a_network(stub, predicted, capsys, monkeypatch, token):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    if token:
        monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    assert "Max retries exceeded" in refused(predicted, capsys)


@client
def test_when_kaggle_does_not_answer(stub, predicted, capsys, monkeypatch):
    stub.delay = 3
    monkeypatch.setattr(predict, "SUBMISSION_TIMEOUT", 1)
    assert "did not answer within 1 s" in refused(predicted, capsys)


def test_without_the_client(predicted, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "pip install -r requirements-kaggle.txt" in refused(predicted, capsys)
