"""Does a training run survive being stopped at any moment? Each moment: start, break, look at every file,
resume, compare.

    python -m tests.tools.break_runs --fault kill --moments 100     SIGKILL
    python -m tests.tools.break_runs --fault term --moments 50      SIGTERM; --fault int: Ctrl-C
    python -m tests.tools.break_runs --fault full --moments 50      a full disk: files have a size limit

Half of the moments are drawn from the whole length of a run, half lie within 30 ms of the start of a random
write. After each: no file under a final name is partial, the model that was there before or the new one loads
whole, the loader's cache is whole or absent, and the same command (with --resume once there is a checkpoint)
ends with the weights of the uncut run, byte for byte. SIGTERM and Ctrl-C must end the process within ten
seconds with one line. Runs are forked from a process that has Keras imported (2 s a run instead of 12).
"""

import argparse
import csv
import importlib
import io
import json
import os
import random
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.conftest import copy_project

PROJECT = Path(__file__).resolve().parents[2]
FACES = "data/faces.csv"
RUN = ["train_dnn.py", "--network", "report", "--data", FACES, "--epochs", "3", "--batch-size", "50"]
FINAL = ("models/dnn.h5", "models/dnn.json", "models/dnn_history.csv",
         "figures/dnn_architecture.png", "figures/dnn_curves.png")
TEMPORARY = ("models/dnn.checkpoint.npz", "models/dnn.lock")
EXPERIMENTS = ("models/experiments.csv", "models/experiments.lock")  # one row more with each run
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
PROMPT = 10.0  # seconds from a signal to the end of the process, on a busy machine; under 1 on a quiet one


def prepare(folder):
    """Copy the suite into `folder`, go there and import what a run imports, so that children start at
    once."""
    copy_project(folder)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from utils import cli

    cli.start_keras()
    for path in [path for package in ("utils", "training") for path in (folder / package).glob("*.py")]:
        importlib.import_module(f"{path.parent.name}.{path.stem}".removesuffix(".__init__"))
    from utils import figures, sample

    assert Path(cli.__file__).parent == folder / "utils"
    images, labels = sample.sample_faces(150)
    rows = [f"{label},{' '.join(map(str, image.ravel()))}" for image, label in zip(images, labels)]
    Path(FACES).write_text("\n".join(["label,feature", *rows]))
    figure, ax = figures.plt.subplots()  # reads the fonts, once for all runs
    ax.set_title("warm")
    figure.savefig(io.BytesIO())
    figures.plt.close(figure)


def start(arguments, largest_file=None):
    """Run a script in a forked child; returns (process id, a file object that gives what it says)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, os.fdopen(reader, "rb")
    status = 70
    try:
        for number in (1, 2):
            os.dup2(writer, number)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "wb", closefd=False)) for n in (1, 2))
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def finish(child, said):
    """Wait for a child; returns (exit status, minus the signal that ended it, what it said)."""
    text = said.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), text


def contents():
    """{path: bytes} of every file under a final name."""
    return {name: Path(name).read_bytes() for name in FINAL if Path(name).exists()}


def restore(files):
    """Bring models/ and figures/ back to `files`, and empty the cache."""
    for folder in ("models", "figures", "data/.cache"):
        for path in Path(folder).glob("*"):
            path.unlink()
    for name, content in files.items():
        Path(name).write_bytes(content)


def check_files(before, after):
    """Every file under a final name is the one before or a whole new one. Raises AssertionError with the
    file's name."""
    import h5py
    import numpy as np
    from PIL import Image

    for folder in ("models", "figures"):
        for path in Path(folder).iterdir():
            is_part = path.name.startswith(".") and ".part" in path.name
            assert str(path) in FINAL + TEMPORARY + EXPERIMENTS or is_part, f"stray file {path}"
    for name, content in contents().items():
        if content == before.get(name) or (content == after[name] and name != "models/dnn.json"):
            continue
        if name.endswith(".h5"):
            with h5py.File(io.BytesIO(content)) as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
            raise AssertionError(f"{name} is neither the old nor the new model")
        if name.endswith(".json"):
            assert json.loads(content)["metrics"] == json.loads(after[name])["metrics"], name
        elif name.endswith(".csv"):
            assert without_seconds(content) == without_seconds(after[name]), name
        else:
            Image.open(io.BytesIO(content)).load()
    for path in Path("data/.cache").glob("[!.]*"):
        with np.load(path, allow_pickle=False) as file:
            assert len(file["pixels"]) == len(file["label"]) == 150, path
    if Path(TEMPORARY[0]).exists():
        with np.load(TEMPORARY[0], allow_pickle=False) as file:
            assert all(file[key] is not None for key in file.files)


def without_seconds(content):
    return [row[:-1] for row in csv.reader(content.decode().splitlines())]


def is_writing():
    folders = [folder for folder in ("models", "figures", "data/.cache") if os.path.isdir(folder)]
    return any(".part" in entry.name for folder in folders for entry in os.scandir(folder))


def wait_for_moment(child, length, draw):
    """Sleep until the moment to strike: anywhere in the run, or just after the k-th write has begun."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, length))
        return "anywhere"
    wanted, seen, was = draw.randint(1, 8), 0, False
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        now = is_writing()
        seen, was = seen + (now and not was), now
        if seen >= wanted:
            break
        time.sleep(0.0005)
    time.sleep(draw.choice((0, draw.uniform(0, 0.03))))
    return "in a write"


def strike(fault, length, draw):
    """Start a run and break it: (where, exit status, output, seconds to stop). It may have ended before."""
    if fault == "full":
        child, said = start(RUN, largest_file=round(10 ** draw.uniform(1, 6.5)))
        return "in a write", *finish(child, said), 0.0
    child, said = start(RUN)
    where = wait_for_moment(child, length, draw)
    os.kill(child, SIGNALS[fault])
    struck = time.monotonic()
    status, text = finish(child, said)
    took = time.monotonic() - struck
    assert fault == "kill" or took < PROMPT, f"took {took:.1f} s to stop"
    return where, status, text, took


def check_ending(fault, status, text):
    """The exit status and the last words that belong to a fault; returns whether the run was broken off."""
    if status == 0:
        return False
    expected = {"kill": -9, "term": 143, "int": 130, "full": 2}[fault]
    if fault in ("term", "int") and status == -SIGNALS[fault]:
        return True  # struck before the script had begun
    assert status == expected, f"exit status {status}: {text[-300:]}"
    assert "Traceback" not in text, text[-600:]
    if fault == "full":
        assert "cannot write" in text.splitlines()[-1], text
    elif fault != "kill":
        assert "train_dnn.py: stopped" in text.splitlines()[-1], text
    return True


def run(fault, moments, seed):
    """Break `moments` runs; returns {what happened: count}. Raises AssertionError with the moment at the
    first failure."""
    draw = random.Random(seed)
    status, text = finish(*start([*RUN, "--seed", "1"]))
    assert status == 0, f"exit status {status}: {text}"
    before = contents()
    restore({})
    begun = time.monotonic()
    status, text = finish(*start(RUN))
    length = time.monotonic() - begun
    assert status == 0, f"exit status {status}: {text}"
    after = contents()
    assert set(before) == set(after) == set(FINAL) and before["models/dnn.h5"] != after["models/dnn.h5"]
    counts = {"broken off": 0, "in a write": 0, "left a temporary file": 0, "resumed": 0, "started again": 0}
    slowest = 0.0
    for moment in range(moments):
        restore(before)
        try:
            where, status, text, took = strike(fault, length, draw)
            slowest = max(slowest, took)
            broken = check_ending(fault, status, text)
            check_files(before, after)
            counts["broken off"] += broken
            counts["in a write"] += broken and where == "in a write"
            counts["left a temporary file"] += is_writing()
            resume = ["--resume"] if Path(TEMPORARY[0]).exists() else []
            counts["resumed" if resume else "started again"] += broken
            if broken:
                status, text = finish(*start([*RUN, *resume]))
                assert status == 0, f"exit status {status}: {text}"
                check_files(before, after)
            now = contents()
            for name in (FINAL[0], FINAL[3], FINAL[4]):
                assert now[name] == after[name], f"{name} differs from the uncut run's"
            assert without_seconds(now[FINAL[2]]) == without_seconds(after[FINAL[2]])
            assert not any(Path(name).exists() for name in TEMPORARY)
        except AssertionError as error:
            raise AssertionError(f"moment {moment} (--seed {seed}): {error}") from error
        print(f"\r{moment + 1}/{moments}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return counts, slowest


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--fault", choices=(*SIGNALS, "full"), default="kill")
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        begun = time.monotonic()
        counts, slowest = run(args.fault, args.moments, args.seed)
        print(f"{args.fault}: {args.moments} moments, {time.monotonic() - begun:.0f} s: "
              + ", ".join(f"{count} {what}" for what, count in counts.items())
              + f"; slowest stop {slowest:.1f} s; 0 failures")
        os.chdir(PROJECT)


if __name__ == "__main__":
    main()
