"""Does loading a damaged or hostile model file end in a model or in one line, and never in a crash?

    python -m tests.tools.fuzz_models --files 2000              bits flipped, bytes cut, the file truncated
    python -m tests.tools.fuzz_models --files 500 --format keras

A small classifier is saved as .h5 or .keras, damaged, and loaded in a child process, since the HDF5 library
is C and a crafted file might end the process. Each file must give a model of the same architecture with
finite weights, or a UserError of one line that names the file, within twenty seconds and 1 GB. Crashes of the
child are counted and the files kept.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import zlib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SLOWEST = 20  # seconds
MEMORY = 1 << 30  # bytes beyond what Keras itself takes
OUTCOMES = ("loaded", "refused", "WRONG MODEL", "TRACEBACK", "NOT ONE LINE", "TOO SLOW OR TOO LARGE")


def small_model(path):
    """Save a classifier of 12x12 faces, packed as ours are, to `path`; returns its configuration."""
    import keras
    from keras import layers

    from utils import models

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((12, 12, 1)), layers.Rescaling(1 / 255), layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(), layers.Flatten(), layers.Dense(7), layers.Softmax()])
    model = keras.Model(model.inputs, model.outputs)
    if path.suffix == ".keras":
        model.save(path)
    else:
        models.save(model, path)
    return shapes(model)


def shapes(model):
    return [(type(layer).__name__, [tuple(w.shape) for w in layer.weights]) for layer in model.layers]


def damage(content, draw):
    """`content` (bytes) truncated, or with some bits flipped, or with a run of bytes overwritten."""
    content = bytearray(content)
    kind = draw.randrange(5)
    if kind == 0:
        return bytes(content[:draw.randrange(len(content))])
    if kind == 1:
        at, length = draw.randrange(len(content)), draw.choice((4, 8, 64))
        content[at:at + length] = draw.choice((b"\xff", b"\x00", b"\x7f")) * length
    else:
        reach = len(content) if kind < 4 else min(len(content), 4096)  # the structure lies at the start
        for _ in range(draw.choice((1, 1, 2, 8, 32))):
            content[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    return bytes(content)


def try_file(path, architecture):
    """Load a file in this process; returns the index of its outcome in OUTCOMES."""
    from utils import models
    from utils.cli import UserError

    try:
        model = models.load(path)
    except UserError as error:
        return 1 if len(str(error).splitlines()) == 1 and str(path) in str(error) else 4
    except MemoryError:
        return 5
    except BaseException:
        return 3
    return 0 if shapes(model) == architecture else 2


def in_child(path, architecture):
    """The outcome of `try_file` in a forked child, or `CRASHED, signal n`."""
    child = os.fork()
    if not child:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        signal.alarm(SLOWEST)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        os._exit(try_file(path, architecture))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return OUTCOMES[5]
    return OUTCOMES[code] if 0 <= code < len(OUTCOMES) else f"CRASHED, status {code}"


def run(files, seed=0, suffix=".h5"):
    """Damage and load so many files; returns {outcome: count}."""
    from utils import models  # noqa: F401

    draw, counts = random.Random(seed), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        architecture = make_in_child(path)
        whole = path.read_bytes()
        for number in range(files):
            path.write_bytes(damage(whole, draw))
            outcome = in_child(path, architecture)
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome not in OUTCOMES[:2]:
                content = path.read_bytes()
                kept = Path(tempfile.gettempdir()) / f"fuzz_models_{zlib.crc32(content):08x}{suffix}"
                kept.write_bytes(content)
                print(f"file {number} (--seed {seed}): {outcome}; kept as {kept}", file=sys.stderr)
    return counts


def make_in_child(path):
    """`small_model` in a child, so that this process never computes and can be forked."""
    import json

    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, json.dumps(small_model(path)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return [(kind, [tuple(shape) for shape in sizes]) for kind, sizes in json.loads(os.fdopen(reader).read())]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--format", choices=("h5", "keras"), default="h5")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from utils import cli

    cli.start_keras()
    begun = time.monotonic()
    counts = run(args.files, args.seed, f".{args.format}")
    print(f"{args.files:,} damaged .{args.format} files, {time.monotonic() - begun:.0f} s: "
          + ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items())))
    sys.exit(any(outcome not in OUTCOMES[:2] for outcome in counts))


if __name__ == "__main__":
    main()
