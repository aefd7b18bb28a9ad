"""Several devices and several processes under JAX reach the weights of one, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import JAX, Suite
from training import devices
from utils import models
from utils.cli import UserError

pytest.importorskip("jax")

# Stands in for train_cnn.py: each argument holds the options of one run, so that a process starts JAX once.
# The network compiles quickly and has what could depend on the division of the batch. Without a bias before
# the normalisation: its gradient is rounding noise, which Adam would enlarge.
SCRIPT = """
import contextlib, functools, sys
from unittest.mock import patch
import train_cnn
from utils import cli

def network(*options):
    import keras
    face = keras.Input((48, 48, 1), name="face")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(face)
    x = keras.layers.Conv2D(4, 3, strides=4, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(keras.layers.Dropout(0.3)(x))
    return networks.classifier(face, x, "small")

runs, sys.argv = sys.argv[1:], ["train_cnn.py"]
cli.start_keras()
from training import devices, figures, networks
networks.report_cnn = network
figures.draw_architecture = lambda model, path: path
devices.join = functools.cache(devices.join)
for options in map(str.split, runs):
    one_device = patch("jax.device_count", return_value=1)
    with one_device if "one" in options else contextlib.nullcontext(), contextlib.suppress(SystemExit):
        cli.run(functools.partial(train_cnn.main, options))
"""
COMMON = "--data sample --limit 120 --validation 0.2 --precision float32 --augment --mix 0.5 --batch-size"
SHORT = f"{COMMON} 12 --epochs 2 --ema 0.9 --name"


def start(folder, *runs, devices, env):
    """Start a process that does the `runs` (options as text) on so many devices; returns the Popen."""
    env = os.environ | JAX | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"} | env
    return subprocess.Popen([sys.executable, "small.py", *runs], cwd=folder, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What three processes did: two of Slurm with two devices each, one of which dies in their second run,
    and one with four devices, which continues that run."""
    folder = Suite(tmp_path_factory.mktemp("devices")).folder
    (folder / "small.py").write_text(SCRIPT)
    slurm = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
             "SLURM_LOCALID": "0"}
    survivor, dying = pair = [
        start(folder, f"{SHORT} two", f"{COMMON} 12 --epochs 100000 --name dies", devices=2,
              env=slurm | {"SLURM_PROCID": number}) for number in "01"]
    checkpoint = folder / "models" / "dies.checkpoint.npz"
    deadline = time.monotonic() + 600
    try:
        while not checkpoint.exists():
            assert time.monotonic() < deadline and survivor.poll() is None
            time.sleep(0.01)
        dying.send_signal(signal.SIGKILL)
        died = time.monotonic()
        told = survivor.communicate(timeout=120)
        seconds = time.monotonic() - died
    finally:
        for process in pair:
            process.kill()
    with np.load(checkpoint) as file:
        done = len(json.loads(str(file["about"]))["history"])

    job = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}",
           "KERAS_DISTRIBUTION_NUM_PROCESSES": "1", "KERAS_DISTRIBUTION_PROCESS_ID": "0"}
    process = start(folder, f"{COMMON} 10 --epochs 1 --name refused", f"{SHORT} one", f"{SHORT} four",
                    f"{COMMON} 12 --epochs {done + 1} --name dies --resume", devices=4, env=job)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return SimpleNamespace(models=folder / "models", survivor=(survivor.returncode, *told), seconds=seconds,
                           dying=dying.communicate(), done=done, output=output, errors=errors)


@pytest.mark.parametrize("name", ["two", "four"])
def test_the_number_of_devices_and_processes_does_not_change_the_result(runs, name):
    ours, one = (models.load(runs.models / f"{name}.h5").get_weights() for name in (name, "one"))
    for weights, expected in zip(ours, one, strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_the_first_process_alone_prints_and_writes(runs):
    assert "Wrote models/two.h5" in runs.survivor[1]
    ours = {line for line in runs.survivor[1].splitlines() if line and "Gloo" not in line}
    assert len(ours) > 3  # the other one has lines of Gloo only, of which two may be mixed up
    assert ours.isdisjoint(runs.dying[0].splitlines()) and "epoch" not in runs.dying[0]


def test_a_process_that_dies_ends_the_others_and_the_run_continues(runs):
    status, _, errors = runs.survivor
    assert status == 2 and runs.seconds < 60
    last = errors.splitlines()[-1]
    assert last.startswith("train_cnn.py: error: another process of this run has ended"), errors
    assert f"resuming after epoch {runs.done}" in runs.output and (runs.models / "dies.h5").exists()


def test_an_error_on_one_device_is_not_kept_back_by_another_that_waits(monkeypatch):
    """As on loss of a partner: device 0 waits for device 1, which has failed."""
    released, start = threading.Event(), time.monotonic()

    def fail():
        raise ValueError("Gloo")

    shards = [SimpleNamespace(data=SimpleNamespace(block_until_ready=ready))
              for ready in (lambda: released.wait(20), fail)]
    logs = {"loss": SimpleNamespace(addressable_shards=shards)}
    monkeypatch.setattr(devices, "processes", lambda: (0, 2))
    monkeypatch.setattr("jax.local_device_count", lambda: 2)
    with pytest.raises(ValueError, match="Gloo"):
        devices.waiting_for_all(lambda state, iterator: (logs, state))(None, None)
    assert time.monotonic() - start < 10
    released.set()


def test_a_batch_that_cannot_be_divided_is_refused(runs):
    assert runs.errors == ("train_cnn.py: error: --batch-size 10 cannot be shared by 4 devices; "
                           "choose a multiple\n")
    assert not (runs.models / "refused.h5").exists()


@pytest.mark.parametrize("variables", [{"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
                                       {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}])
def test_several_processes_need_jax(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    with pytest.raises(UserError, match="several processes need KERAS_BACKEND=jax"):
        devices.join()
