"""Shared by the tests: the project on the path, quiet TensorFlow, and two sandboxes for scripts.

`call` calls a script in this process, in an empty project folder: call("predict", "--data", path). `suite` is
a copy of the scripts, which run as a user's processes do.
"""

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the scripts do
PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
PACKAGES = ("utils", "training", "explain", "photos", "reporting")
COLUMN = min((210 - 2 * 16) / 25.4, 700 / 96)  # inches of a figure: in A4 within its margins, and in 700 px
SMALLEST = 7  # points of text there
JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # of a process


def copy_project(folder):
    """Copy the scripts and the packages that they import to `folder`, with empty data/, models/ and
    figures/."""
    for script in PROJECT.glob("*.py"):
        shutil.copy(script, folder)
    for package in PACKAGES:
        if (PROJECT / package).is_dir():
            shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "models", "figures"):
        (folder / name).mkdir(exist_ok=True)


def project_modules():
    """Every script and every module of the packages, imported."""
    names = [path.stem for path in PROJECT.glob("*.py")]
    for package in PACKAGES:
        names += [f"{package}.{path.stem}" for path in (PROJECT / package).glob("*.py")]
    return [importlib.import_module(name.removesuffix(".__init__")) for name in sorted(names)]


class Suite:
    """A copy of the scripts in a folder of its own, so that a test's models and figures touch nobody's."""

    def __init__(self, folder):
        self.folder = folder
        copy_project(folder)

    def run(self, script, *arguments, status=0, env=None, timeout=300):
        """Run a script as a user would; checks the exit status and returns (stdout, stderr)."""
        command = [sys.executable, script, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=timeout,
                              env=os.environ | (env or {}))
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        if status == 2:
            last = done.stderr.strip().splitlines()[-1]
            assert "error: " in last and "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    def files(self):
        paths = [*(self.folder / "models").iterdir(), *(self.folder / "figures").iterdir()]
        return sorted(str(path.relative_to(self.folder)) for path in paths)


class Caller:
    """Calls scripts in this process, in a project folder of their own: `call("predict", "--data", path)`."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, script, *arguments):
        """What main() of a script returns."""
        return importlib.import_module(script).main([str(argument) for argument in arguments])

    def error(self, capsys, script, *arguments):
        """The one line that a mistake ends with; nothing may have been written."""
        from utils.cli import UserError

        before = self.files()
        with pytest.raises((UserError, SystemExit)) as caught:
            self(script, *arguments)
        assert self.files() == before
        text = str(caught.value) if caught.type is UserError else capsys.readouterr().err.splitlines()[-1]
        assert len(text.splitlines()) == 1
        return text

    def files(self, folder="figures"):
        return sorted(path.name for path in (self.folder / folder).iterdir())


@contextlib.contextmanager
def sandbox(folder):
    """A block in which `folder` is the project: yields a Caller. Figures must have readable text there."""
    savefig = Figure.savefig

    def save_readable(figure, path, **options):
        width = figure.get_tightbbox().width + 0.2  # with savefig.pad_inches on both sides
        for text in figure.findobj(Text):
            shown = text.get_fontsize() * min(1, COLUMN / width)
            assert not text.get_text().strip() or not text.get_visible() or shown >= SMALLEST, (path, text)
        return savefig(figure, path, **options | {"dpi": 60})  # which is faster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_readable)
        yield Caller(move_project(folder, patch))
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")  # a run that trains chooses its own


@pytest.fixture
def call(tmp_path):
    """A `Caller` in an empty project folder."""
    with sandbox(tmp_path) as caller:
        yield caller


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path)


@pytest.fixture(scope="session")
def shared_suite(tmp_path_factory):
    """One copy for all tests that only read what others wrote."""
    return Suite(tmp_path_factory.mktemp("suite"))


def move_project(folder, patch):
    """Make `folder` the project of the scripts that are called in this process; returns it.

    Every constant of the project's modules that names a place in the project (files.PROJECT, models.MODELS,
    data.CACHE, ...) names the same place below `folder`, which is the current folder, too.
    """
    for module in project_modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Path) and value.is_relative_to(PROJECT):
                patch.setattr(module, name, folder / value.relative_to(PROJECT))
    for name in ("data", "models", "figures"):
        (folder / name).mkdir(exist_ok=True)
    patch.chdir(folder)
    return folder


def linear_cnn(*options):
    """Stands in for the report's CNN where a test is about the training around it."""
    import keras

    from training import networks

    face = keras.Input((48, 48, 1), name="face")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(face)
    return networks.classifier(face, keras.layers.Flatten()(x), "linear")


def write_csv(path, images, pixels="feature", **columns):
    """Write faces, (n, 48, 48) or (n, 2304), as the last column of a CSV, after `columns`; its path."""
    texts = [" ".join(map(str, np.ravel(image))) for image in images]
    pd.DataFrame(columns | {pixels: texts}).to_csv(path, index=False)
    return path


@pytest.fixture
def workspace(call):
    """The empty project folder of `call`; its path."""
    return call.folder
