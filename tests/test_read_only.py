"""A project folder that cannot be written (an input of a Kaggle notebook, a share): every script says in one
line which option helps, and with --out-folder writes everything there."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from tests.conftest import write_csv
from tests.small_models import small_cnn
from utils import models
from utils.sample import sample_faces

RUN = ("--data", "data/faces.csv", "--epochs", "1", "--limit", "60")
EYES = ("--model", "models/eyes.h5", "--data", "data/faces.csv")
COMMANDS = (
    ("train_cnn", *RUN), ("train_dnn", *RUN, "--network", "report"), ("sweep", *RUN, "--trials", "1"),
    ("predict", *EYES), ("predict", *EYES, "--tta", "flip"),  # over its own file, though not over another's
    ("export", *EYES), ("evaluate", *EYES), ("plot_confusion", *EYES), ("saliency", *EYES, "--index", "0"),
    ("filter_vis", *EYES, "--layer", "conv", "--steps", "2"))
MADE = {  # by each, at least
    *(f"cnn{end}" for end in (".h5", ".json", "_history.csv", "_architecture.png", "_curves.png")),
    "experiments.csv", "dnn.h5", "dnn_comparison.png", "sweep.json", "sweep.db", "sweep_history.png",
    "predictions.csv", "eyes.onnx", "eyes_accuracy_faces.png", "eyes_confusion_faces.csv",
    "eyes_saliency_gradient_faces_index-0.png", "eyes_filters_conv_faces_steps-2.png"}
DRIVER = """
import contextlib, importlib, io, json, sys
sys.path.insert(0, "")
from utils import cli
cli.prepare_process()
cli.start_keras()
import evaluate
from training import networks
networks.DENSE_UNITS, evaluate.TURN = 32, 0.001
said = []
for script, *words in json.loads(sys.argv[1]):
    sys.argv[0] = f"{script}.py"
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            importlib.import_module(script).main(words)
            said.append("")
        except cli.UserError as error:
            said.append(str(error))
print(json.dumps(said))
"""


@pytest.fixture
def call_read_only(suite):
    """A function that calls scripts in a project where not even root may write; returns what each ended
    with."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    images, labels = sample_faces(120)
    write_csv(suite.folder / "data" / "faces.csv", images, label=labels)
    Image.fromarray(images[0]).save(suite.folder / "face.png")
    models.save(small_cnn(), suite.folder / "models" / "eyes.h5")
    before = sorted(suite.folder.rglob("*"))

    def call(commands):
        mount = 'mount --bind -o ro "$0" "$0" && cd "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mount, suite.folder, sys.executable, "-c", DRIVER]
        done = subprocess.run([*command, json.dumps(commands)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(suite.folder.rglob("*")) == before
        return json.loads(done.stdout)

    return call


def test_the_line_names_the_option_that_helps(call_read_only):
    commands = [*COMMANDS, ("report", "--data", "sample"), ("predict", *EYES[:2], "--images", "face.png")]
    for (script, *_), line in zip(commands, call_read_only(commands), strict=True):
        assert line.startswith("cannot write "), (script, line)
        assert line.endswith(" is write-protected; choose another --out-folder"), (script, line)


def test_everything_goes_to_the_folder_that_is_named(call_read_only, tmp_path_factory, monkeypatch):
    out = tmp_path_factory.mktemp("out")
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))  # of the loader's cache
    commands = [(*command, "--out-folder", str(out)) for command in COMMANDS]
    assert call_read_only(commands) == [""] * len(commands)
    made = {path.name for path in out.iterdir()}
    assert made >= MADE, MADE - made
    assert not [name for name in made if name.endswith((".lock", ".npz")) or ".part" in name]
    assert len(pd.read_csv(out / "experiments.csv")) == 2
