"""Ctrl-C and SIGTERM end every script in one line, whatever it is doing: each is started as a process without
a shell, and gets the signal once it has read its faces, in the middle of minutes of work."""

import concurrent.futures
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import PROJECT, Suite, write_csv
from tests.small_models import small_cnn
from utils import models
from utils.sample import sample_faces

EYES, VIEWS = ("--model", "models/eyes.h5"), ("--tta", "multi-scale")
WORK = {
    "train_cnn": ("--epochs", "999"), "train_dnn": ("--epochs", "999", "--network", "report"),
    "sweep": ("--trials", "999"), "report": ("--epochs", "999"), "export": (*EYES, "--format", "litert"),
    "evaluate": (*EYES, *VIEWS), "plot_confusion": (*EYES, *VIEWS), "predict": (*EYES, *VIEWS),
    "saliency": (*EYES, "--evaluate", "--method", "rise"), "filter_vis": (*EYES, "--steps", "99999")}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
SIGNALS = [*((script, signal.SIGINT) for script in WORK), ("saliency", signal.SIGTERM)]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How each of SIGNALS ended its script: {(script, signal): (exit status, stderr)}."""
    images, labels = (np.tile(part.T, 6).T for part in sample_faces(500))  # enough for minutes, soon made
    network = small_cnn()

    def end(run):
        script, number = run
        suite = Suite(tmp_path_factory.mktemp(script))
        write_csv(suite.folder / "faces.csv", images, label=labels)
        models.save(network, suite.folder / "models" / "eyes.h5")
        command = [sys.executable, f"{script}.py", "--data", "faces.csv", *WORK[script]]
        process = subprocess.Popen(command, cwd=suite.folder, text=True, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        while process.poll() is None and not list((suite.folder / "data").glob(".cache/*.npz")):
            time.sleep(0.02)
        process.send_signal(number)
        return process.communicate(timeout=60)[1], process.returncode

    tmp_path_factory.getbasetemp()  # not by two threads at once
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of `pytest &` would ignore it
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return dict(zip(SIGNALS, pool.map(end, SIGNALS)))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("script", "number"), SIGNALS)
def test_a_signal_ends_every_script_in_one_line(ends, script, number):
    said, status = ends[script, number]
    assert status == STATUS[number], said
    assert said.startswith(f"\n{script}.py: stopped; ") and len(said.splitlines()) == 2, said


def test_no_script_is_forgotten():
    assert WORK.keys() == {path.stem for path in PROJECT.glob("*.py")}
