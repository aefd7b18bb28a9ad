"""Shared by the tests: the project on the path, quiet TensorFlow, and a private copy of the suite to run scripts in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))


class Suite:
    """A copy of the scripts in a folder of its own, so that a test's models and figures touch nobody's."""

    def __init__(self, folder):
        self.folder = folder
        for script in PROJECT.glob("*.py"):
            shutil.copy(script, folder)
        shutil.copytree(PROJECT / "utils", folder / "utils", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("data", "models", "figures"):
            (folder / name).mkdir()

    def run(self, script, *arguments, status=0, env=None, timeout=300):
        """Run a script as a user would; checks the exit status and returns (stdout, stderr)."""
        done = subprocess.run([sys.executable, script, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              env=os.environ | (env or {}), timeout=timeout)
        assert done.returncode == status, f"{script} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        if status == 2:
            last = done.stderr.strip().splitlines()[-1]
            assert "error: " in last and "Traceback" not in done.stderr, done.stderr
        return done.stdout, done.stderr

    def files(self):
        return sorted(str(p.relative_to(self.folder)) for d in ("models", "figures") for p in (self.folder / d).iterdir())


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path)


@pytest.fixture(scope="session")
def shared_suite(tmp_path_factory):
    """One copy for all tests that only read what others wrote."""
    return Suite(tmp_path_factory.mktemp("suite"))
