"""Several devices and several processes under JAX reach the weights of one, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import PROJECT
from utils import models

pytest.importorskip("jax")

# Stands in for train_cnn.py: a network that compiles quickly, with what could depend on the division of the
# batch. Without a bias before the normalisation: its gradient is rounding noise, which Adam would enlarge.
SCRIPT = """
import sys
import train_cnn
from utils import cli

def network(*options):
    import keras
    from training import networks
    face = networks.face_input()
    x = keras.layers.Conv2D(4, 3, strides=4, use_bias=False)(networks.rescaled(face))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(keras.layers.Dropout(0.3)(x))
    return networks.classifier(face, x, "small")

train_cnn.builder = lambda args: network
sys.argv[0] = "train_cnn.py"
cli.run(train_cnn.main)
"""
OPTIONS = "--data sample --limit 120 --validation 0.2 --batch-size 12 --precision float32 --augment --mix 0.5"


def start(folder, number=0, count=1, devices=1, slurm=False, port=0, options=()):
    """Start process `number` of `count` in the background; returns the Popen."""
    (folder / "small.py").write_text(SCRIPT)
    env = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT), "JAX_PLATFORMS": "cpu",
                        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    if count > 1 and slurm:
        env |= {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(count),
                "SLURM_PROCID": str(number), "SLURM_LOCALID": "0"}
    elif count > 1:
        env |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count), "KERAS_DISTRIBUTION_PROCESS_ID": str(number)}
    command = [sys.executable, "small.py", *OPTIONS.split(), *map(str, options)]
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def weights(folder, name):
    return models.load(folder / "models" / f"{name}.h5").get_weights()


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """A project folder in which one process with one device has trained models/one.h5."""
    from tests.conftest import Suite

    folder = Suite(tmp_path_factory.mktemp("devices")).folder
    process = start(folder, options=["--epochs", "2", "--ema", "0.9", "--name", "one"])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder


@pytest.mark.parametrize(("count", "devices", "slurm"),
                         [(1, 4, False), (2, 2, True)])
def test_the_number_of_devices_and_processes_does_not_change_the_result(one_device, count, devices, slurm):
    folder = one_device
    name, port = f"p{count}d{devices}", free_port()
    options = ["--epochs", "2", "--ema", "0.9", "--name", name]
    processes = [start(folder, number, count, devices, slurm, port, options) for number in range(count)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, outputs
    assert ["Wrote" in out for out, _ in outputs] == [number == 0 for number in range(count)]
    for ours, theirs in zip(weights(folder, name), weights(folder, "one"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_process_that_dies_ends_the_others_and_the_run_continues(one_device):
    folder = one_device
    name, port = "dies", free_port()
    options = ["--epochs", "100000", "--name", name]
    processes = [start(folder, number, 2, port=port, options=options) for number in range(2)]
    checkpoint = folder / "models" / f"{name}.checkpoint.npz"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert time.monotonic() < deadline and processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    survivor, died = processes[0], time.monotonic()
    _, errors = survivor.communicate(timeout=120)
    assert time.monotonic() - died < 60
    assert survivor.returncode == 2, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("train_cnn.py: error: another process of this run has ended"), errors
    processes[1].communicate()

    with np.load(checkpoint) as file:
        done = len(json.loads(str(file["about"]))["history"])
    again = start(folder, options=["--epochs", done + 1, "--name", name, "--resume"])
    out, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert f"resuming after epoch {done}" in out


def test_a_batch_that_cannot_be_divided_is_refused(one_device):
    folder = one_device
    process = start(folder, devices=5, options=["--epochs", "1", "--name", "refused"])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and not (folder / "models" / "refused.h5").exists()
    assert "--batch-size 12 cannot be shared by 5 devices; choose a multiple" in errors
