"""The same seed gives the same files; two backends see the same data; nothing asks the network."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from packaging.requirements import Requirement
from PIL import Image

from tests.conftest import JAX, PROJECT, Suite
from tests.one_process import run_all, write_faces
from training import networks
from utils import models

DATA = ("--data", "faces.csv")
MODEL = ("--model", "eyes.h5")
RUNS = (
    ("train_dnn.py", "--network", "report", *DATA, "--batch-size", "32", "--epochs", "2", "--augment",
     "--oversample"),
    ("plot_confusion.py", *MODEL, *DATA),
    ("saliency.py", *MODEL, *DATA, "--method", "smoothgrad", "rise", "--index", "2"),
    ("filter_vis.py", *MODEL, *DATA, "--layer", "conv", "--steps", "5", "--jitter", "2",
     "--parametrization", "pixel"),
    ("evaluate.py", *MODEL, *DATA),
    ("predict.py", *MODEL, *DATA, "--out", "figures/predictions.csv"),
)
def outputs(folder):
    """{file: SHA-256 of what must repeat}, without times and the one figure that plots them."""
    found = {}
    for path in sorted([*(folder / "models").iterdir(), *(folder / "figures").iterdir()]):
        content = path.read_bytes()
        if path.suffix == ".csv":
            content = json.dumps(without_times(list(csv.DictReader(content.decode().splitlines())))).encode()
        if path.suffix == ".json":
            content = json.dumps(without_times(json.loads(content))).encode()
        found[path.name] = hashlib.sha256(content).hexdigest()
    del found["eyes_accuracy_faces.png"]  # accuracy against milliseconds
    return found


def without_times(value):
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_times(item)
        for key, item in value.items()
        if "second" not in key and "ms_per_image" not in key
    }


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The folders of two runs of six scripts on the same faces, each in a process without a network."""
    folders = []
    for name in "ab":
        suite = Suite(tmp_path_factory.mktemp(name))
        write_faces(suite.folder / "faces.csv", slice(160))
        if folders:
            shutil.copy(folders[0] / "eyes.h5", suite.folder)
        else:
            models.save(keras.Sequential([
                keras.Input((48, 48, 1)), layers.Rescaling(1 / 255),
                layers.Conv2D(4, 5, activation="relu", name="conv"), layers.GlobalAveragePooling2D(),
                layers.Dense(7, name="logits"), layers.Softmax()]), suite.folder / "eyes.h5")
        run_all(suite, RUNS)
        folders.append(suite.folder)
    return folders


def test_two_runs_without_a_network_give_the_same_files_byte_for_byte(two_runs):
    first, second = map(outputs, two_runs)
    assert {os.path.splitext(name)[1] for name in first} == {".h5", ".csv", ".json", ".png"}
    assert len(first) > 15
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
