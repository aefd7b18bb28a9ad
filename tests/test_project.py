"""The project's own files: requirements are what is imported, `make` names the Pythons that it takes, and the
README and its pages are short and name what exists."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import PACKAGES, PROJECT
from tests.tools.readme_commands import PAGES, commands

MODULES = {  # requirement: what is imported
    "scikit-learn": "sklearn", "pillow": "PIL", "dlib-bin": "dlib", "ai-edge-litert": "ai_edge_litert"}


def requirements(name):
    """{package: requirement} of a requirements file, without what it includes."""
    lines = (line.split("#")[0].strip() for line in (PROJECT / name).read_text().splitlines())
    return {line.split(">=")[0].split("[")[0]: line for line in lines if line and not line.startswith("-r")}


def imported():
    """Top-level modules of others that the scripts and packages import."""
    names, folders = set(), [PROJECT, *(PROJECT / package for package in PACKAGES)]
    for path in (path for folder in folders for path in folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES) - {path.stem for path in PROJECT.glob("*.py")}


def test_requirements_are_what_the_scripts_import():
    needed = {MODULES.get(name, name) for name in requirements("requirements.txt")}
    export = {MODULES.get(name, name) for name in requirements("requirements-export.txt")}
    optional = {"jax", "cv2", "optuna", "sqlalchemy"}  # requirements-jax.txt, -video.txt and -sweep.txt
    assert imported() - optional - export == needed
    assert export - {"tf2onnx", "onnx"} <= imported()  # which Keras and ONNX Runtime import


def test_the_requirements_for_cuda_and_jax_differ_in_the_backend_only():
    ours = requirements("requirements.txt")
    assert requirements("requirements-cuda.txt").keys() == {"tensorflow"}
    tensorflow = requirements("requirements-cuda.txt")["tensorflow"]
    assert tensorflow == ours["tensorflow"].replace("tensorflow", "tensorflow[and-cuda]")
    jax = requirements("requirements-jax.txt")
    assert jax.pop("jax") == requirements("requirements-dev.txt")["jax"]
    assert jax == {name: line for name, line in ours.items() if name != "tensorflow"}


def test_this_python_is_one_that_the_project_takes():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert (3, 11) <= sys.version_info[:2] < (3, 14)


@pytest.mark.parametrize(("version", "accepted"), [
    ((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_make_on_another_python_is_one_line(tmp_path, version, accepted):
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    (tmp_path / "requirements.txt").write_text("")
    python = tmp_path / "python"  # reports the version, and ends where `make` goes on to `-m venv`
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || {{ echo "goes on" >&2; exit 1; }}\n'
                      f'exec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n')
    python.chmod(0o755)
    done = subprocess.run(["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode
    first = done.stderr.splitlines()[0]
    assert first == "goes on" if accepted else f"error: {python} is not Python 3.11, 3.12 or 3.13" in first
    assert not (tmp_path / ".venv").exists()


def test_the_readme_is_one_screen():
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 90
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_exists(page):
    text = (PROJECT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)|src=\"([^\"]+)\"", text)
    paths = [(PROJECT / page).parent / "".join(link) for link in links if "://" not in "".join(link)]
    assert [path for path in paths if not path.exists()] == []
    assert [path for path in paths if path.suffix == ".png" and path.stat().st_size > 150_000] == []


def test_commands_on_the_pages_have_scripts_and_options_that_exist(capsys):
    used, known = {}, {}
    for page in PAGES:
        for line, command, _ in commands(PROJECT / page):
            words = shlex.split(command, comments=True)
            script = next((word for word in words if "/" not in word and word.endswith(".py")), None)
            for word in words[words.index(script) + 1:] if script else ():
                if word.startswith("--"):
                    used.setdefault(script.removesuffix(".py"), {})[word.split("=")[0]] = f"{page}:{line}"
    assert {"train_cnn", "plot_confusion", "predict"} <= used.keys()
    for script in used:
        with pytest.raises(SystemExit):
            importlib.import_module(script).main(["--help"])
        known[script] = set(re.findall(r"--[a-z0-9-]+", capsys.readouterr().out))
    assert {(script, option, place) for script, options in used.items()
            for option, place in options.items() if option not in known[script]} == set()


def test_a_pages_commands_are_found_in_order_with_the_files_behind_them(tmp_path):
    (tmp_path / "page.md").write_text("""# Title

First `make
all`, not `make` or `x.py`.

```
n=3
python a.py \\
    --n $n  # 1 min: b.png
ls
```

| 3 | `python c.py --x` | `d/*.csv`, 1 min |
""")
    assert commands(tmp_path / "page.md") == [
        (3, "make all", []), (8, "n=3; python a.py --n $n", ["b.png"]), (10, "n=3; ls", []),
        (13, "python c.py --x", ["d/*.csv"])]
