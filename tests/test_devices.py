"""Several devices under JAX reach the weights of one."""

import numpy as np
import pytest

from tests.conftest import JAX, Suite
from utils import models

pytest.importorskip("jax")

# Stands in for train_cnn.py: each argument holds the options of one run, so that JAX starts once. A run with
# --name stopped ends after its first epoch. The network compiles quickly and has what could depend on the
# division of the batch. Without a bias before the normalisation: its gradient is rounding noise, which Adam
# would enlarge.
SCRIPT = """
import contextlib, functools, sys
import train_cnn
from utils import cli

def network(*options):
    face = keras.Input((48, 48, 1), name="face")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(face)
    x = keras.layers.Conv2D(4, 3, strides=4, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(keras.layers.Dropout(0.3)(x))
    return networks.classifier(face, x, "small")

def save_and_stop(self, epoch, logs=None):
    save(self, epoch, logs)
    if self.path.name.startswith("stopped") and epoch == 0:
        raise cli.UserError("stopped")

runs, sys.argv = sys.argv[1:], ["train_cnn.py"]
cli.start_keras()
import keras
from training import callbacks, figures, networks
networks.report_cnn = network
figures.draw_architecture = lambda model, path: path
save, callbacks.Checkpoint.on_epoch_end = callbacks.Checkpoint.on_epoch_end, save_and_stop
for options in runs:
    with contextlib.suppress(SystemExit):
        cli.run(functools.partial(train_cnn.main, options.split()))
"""
OPTIONS = ("--data sample --limit 120 --validation 0.2 --precision float32 --augment --mix 0.5 --ema 0.9 "
           "--keep last --epochs 2 --name {} --batch-size {}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What two processes did, the first with four devices, the second with one: (models/, what the first
    wrote to stdout and stderr, the second to stdout)."""
    suite = Suite(tmp_path_factory.mktemp("devices"))
    (suite.folder / "small.py").write_text(SCRIPT)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    output, errors = suite.run("small.py", OPTIONS.format("refused", 10), OPTIONS.format("four", 12),
                               OPTIONS.format("stopped", 12), env=JAX | flags)
    resumed, _ = suite.run("small.py", OPTIONS.format("one", 12), OPTIONS.format("stopped", 12) + " --resume",
                           env=JAX)
    return suite.folder / "models", output, errors, resumed


@pytest.mark.parametrize("name", ["four", "stopped"])
def test_the_number_of_devices_does_not_change_the_result(runs, name):
    folder, output, _, resumed = runs
    assert output.count("4 devices share each batch of 12 faces") == 2 and "devices share" not in resumed
    assert "resuming after epoch 1" in resumed
    ours, one = (models.load(folder / f"{name}.h5").get_weights() for name in (name, "one"))
    for weights, expected in zip(ours, one, strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_that_cannot_be_divided_is_refused(runs):
    folder, _, errors, _ = runs
    assert errors.splitlines()[0] == (
        "train_cnn.py: error: a batch of 10 faces cannot be shared by 4 devices; choose a --batch-size that "
        "is a multiple of 4")
    assert not (folder / "refused.h5").exists()
