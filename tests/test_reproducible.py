"""The same seed gives the same files, byte for byte, without a network; the lock file pins what is asked."""

import csv
import hashlib
import json
import os
import re
import shutil

import pytest
from packaging.requirements import Requirement
from PIL import Image

from tests.conftest import PROJECT, Suite, write_csv
from tests.small_models import small_cnn
from utils import models
from utils.sample import sample_faces

SHARED = ("--model", "eyes.h5", "--data", "faces.csv")
RUNS = (
    ("train_dnn.py", "--network", "report", "--data", "faces.csv", "--batch-size", "32", "--epochs", "2",
     "--augment", "--oversample"),
    ("plot_confusion.py", *SHARED),
    ("saliency.py", *SHARED, "--method", "smoothgrad", "rise", "--samples", "100", "--index", "2"),
    ("filter_vis.py", *SHARED, "--layer", "conv", "--steps", "5", "--parametrization", "pixel"),
    ("predict.py", *SHARED, "--out", "figures/predictions.csv"),
)
DRIVER = """
import json, runpy, socket, sys, warnings
warnings.simplefilter("error", RuntimeWarning)  # NumPy's: division by zero, mean of nothing
def refuse(*_, **__):
    raise RuntimeError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = socket.getaddrinfo = refuse
try:
    socket.create_connection(("localhost", 9))
except RuntimeError:
    print("refused")
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""


def outputs(folder):
    """{file: SHA-256 of what must repeat}, without times."""
    found = {}
    for path in sorted([*(folder / "models").iterdir(), *(folder / "figures").iterdir()]):
        content = path.read_bytes()
        if path.suffix == ".csv":
            content = json.dumps(without_times(list(csv.DictReader(content.decode().splitlines())))).encode()
        if path.suffix == ".json":
            content = json.dumps(without_times(json.loads(content))).encode()
        found[path.name] = hashlib.sha256(content).hexdigest()
    return found


def without_times(value):
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: without_times(item) for key, item in value.items() if "second" not in key}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The folders of two runs of five scripts on the same faces, each in a process without a network."""
    folders = []
    for name in "ab":
        suite = Suite(tmp_path_factory.mktemp(name))
        images, labels = sample_faces(90)
        write_csv(suite.folder / "faces.csv", images, label=labels)
        if folders:
            shutil.copy(folders[0] / "eyes.h5", suite.folder)
        else:
            models.save(small_cnn(), suite.folder / "eyes.h5")
        (suite.folder / "driver.py").write_text(DRIVER)
        # Keras' limits, set in the second one, would shorten a run behind its card's back
        limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"} if folders else {}
        output, errors = suite.run("driver.py", json.dumps(RUNS), env=limits)
        assert output.startswith("refused\n") and output.count("Wrote ") >= len(RUNS), output
        # TensorFlow notices that one process builds several models, which users' processes do not
        assert not [line for line in errors.splitlines() if "retracing" not in line], errors
        folders.append(suite.folder)
    return folders


def test_two_runs_without_a_network_give_the_same_files_byte_for_byte(two_runs):
    first, second = map(outputs, two_runs)
    assert {os.path.splitext(name)[1] for name in first} == {".h5", ".csv", ".json", ".png"}
    assert len(first) > 12
    assert first == second


def test_no_figure_says_when_or_by_what_it_was_drawn(two_runs):
    figures = sorted((two_runs[0] / "figures").glob("*.png"))
    assert len(figures) >= 6
    for path in figures:
        with Image.open(path) as image:
            assert not {"Software", "Creation Time", "date:create"} & set(image.info), path


def test_the_lock_file_pins_each_requirement_within_its_range_by_hash_and_names_no_host():
    text = (PROJECT / "requirements.lock").read_text()
    pins = {}
    for block in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        name, version = re.match(r"([a-z0-9._-]+)==(\S+)", block).groups()
        pins[name] = version
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)
    asked = [
        line.split("#")[0].strip()
        for path in ("requirements.txt", *(f"requirements-{part}.txt" for part in (
            "dev", "kaggle", "export", "sweep")))
        for line in (PROJECT / path).read_text().splitlines()
    ]
    asked = [Requirement(line) for line in asked if line and not line.startswith("-r ")]
    assert len(asked) > 15
    for requirement in asked:
        assert requirement.specifier.contains(pins[requirement.name]), requirement
