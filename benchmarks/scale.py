"""How training speeds up with the number of processes under JAX, and what they send each other.

    python -m benchmarks.scale [--network report|compact|large] [--processes 1 2] [--images 960] [--rounds 3]

All processes share each batch, which stays the same. On Linux each has one core of its own, as each would
have one GPU. Prints images/s (median over rounds), the efficiency (speed-up divided by processes), the bytes
that the compiled training step sums over the processes (its all-reduce operations), and from these, on paper,
how long the fastest exchange (a ring) takes on several networks. Needs requirements-jax.txt.
"""

import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli

BATCH = {"report": 80, "compact": 128, "large": 256}
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8, "pred": 1}
BITS_A_SECOND = {"1 Gbit/s": 1e9, "10 Gbit/s": 1e10, "100 Gbit/s": 1e11, "900 GB/s (NVLink)": 7.2e12}
COUNTS = (2, 8, 64)


def main(argv=None):
    args = parse_args(argv)
    if args.number is not None:
        return run_one(args)
    import pandas as pd

    speeds, sent = {}, 0
    for count in cli.track(args.processes, "training"):
        speeds[count], reduced = train(args, count)
        sent = max(sent, reduced)
    first = next(iter(speeds))
    print(f"{args.network} network, float32, batch {BATCH[args.network]}, {args.rounds} rounds of "
          f"{args.images:,} images")
    cli.print_table(pd.DataFrame([{
        "processes": count, "images/s": f"{speed:.0f}", "speed-up": f"{speed / speeds[first]:.2f}x",
        "efficiency": f"{100 * speed * first / speeds[first] / count:.0f} %"}
        for count, speed in speeds.items()]))
    if sent:
        print(f"summed over the processes in each step: {sent:,} bytes; milliseconds of a ring, on paper:")
        cli.print_table(exchange_times(sent))
    return speeds, sent


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--network", choices=tuple(BATCH), default="report", help="which network")
    parser.add_argument("--processes", type=cli.number(int, 1, 64), nargs="+", default=[1, 2],
                        help="how many, one measurement each")
    parser.add_argument("--images", type=cli.number(int, 80), default=960, help="per round")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="epochs that are measured")
    parser.add_argument("--number", type=cli.number(int, 0), help="be this one of several processes")
    args = parser.parse_args(argv)
    if any(BATCH[args.network] % count for count in args.processes):
        raise cli.UserError(f"--processes must divide the batch of {BATCH[args.network]}")
    return args


def train(args, count):
    """Train with `count` processes: (images/s of all together, bytes that each step sums over them)."""
    with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.close()
        env = os.environ | {
            "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train.*"}
        if count > 1:
            env |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
                    "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count)}
        command = [sys.executable, "-m", "benchmarks.scale", "--network", args.network, "--images",
                   str(args.images), "--rounds", str(args.rounds), "--number"]
        processes = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True,
                                      env=env | {"KERAS_DISTRIBUTION_PROCESS_ID": str(number)})
                     for number in range(count)]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise cli.UserError(f"a run of {count} processes failed; its messages are above")
        steps = args.images // BATCH[args.network]
        seconds = json.loads(outputs[0].splitlines()[-1])  # behind Gloo's lines
        speed = steps * BATCH[args.network] / statistics.median(seconds)
        return speed, max(map(summed_bytes, Path(folder).glob("*after_optimizations.txt")), default=0)


def run_one(args):
    """One of the processes: train a first epoch, then print the seconds of each of `--rounds` epochs."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[args.number % len(cores)]})
    cli.start_keras()
    import keras

    from training import devices, networks
    from training.batches import Batches
    from training.model import TrainingModel
    from training.recipes import Recipe
    from utils.sample import sample_faces

    devices.join()
    batches = Batches(*sample_faces(args.images), Recipe(batch_size=BATCH[args.network]), 0)
    devices.share_batches(batches.batch_size)
    keras.utils.set_random_seed(0)
    model = TrainingModel(getattr(networks, f"{args.network}_cnn")())
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=True)
    seconds = []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        model.fit(batches, epochs=1, verbose=0, shuffle=False)
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[1:]))


def summed_bytes(path):
    """The bytes that the all-reduce operations of a compiled module (XLA's text) give."""
    results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", path.read_text())
    shapes = [shape for result in results for shape in re.findall(r"(\w+)\[([\d,]*)\]", result)]
    return sum(BYTES[kind] * math.prod(int(size) for size in sizes.split(",") if size)
               for kind, sizes in shapes)


def exchange_times(sent):
    """Milliseconds (DataFrame) of a ring all-reduce, in which each sends 2 (n - 1) / n of the bytes."""
    import pandas as pd

    return pd.DataFrame([{"network": name} | {
        f"{count} processes": f"{1e3 * 8 * sent * 2 * (count - 1) / count / rate:.3g}" for count in COUNTS}
        for name, rate in BITS_A_SECOND.items()])


if __name__ == "__main__":
    cli.run(main)
