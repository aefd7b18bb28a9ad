"""Training speed: this project beside plain Keras `fit` and PyTorch, with the same network and batch.

    python -m benchmarks.train [--network report|compact] [--images 4000] [--rounds 3]

Every competitor runs in a process of its own, because the threads of two libraries in one process slow each
other down; they train one epoch in turn, so that a drift of the machine's speed meets all of them. PyTorch
takes part where requirements-benchmarks.txt is installed: channels last, Adam in one kernel, eager and
torch.compile.

Prints images/s (median over rounds), GFLOP/s (3 x 2 x multiply-adds per image: forward, and backward to
inputs and weights) and the share of the matrix-product rate measured in the same run. Quote the ratios of one
run.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
import time

from utils import cli, files

BATCH = {"report": 80, "compact": 128}


def main(argv=None):
    args = parse_args(argv)
    if args.way:
        return run_one(args)
    ways = [way for way in WAYS if importlib.util.find_spec("torch") or not way.startswith("PyTorch")]
    if len(ways) < len(WAYS):
        print("without PyTorch: pip install -r requirements-benchmarks.txt adds it")
    speeds, facts = alternate(args, ways)
    results = summary(speeds, facts)
    print(f"{args.network} network, batch {BATCH[args.network]}, {args.rounds} rounds of "
          f"{args.images:,} images")
    cli.print_table(results)
    rates = [f"{kind} {rate / 1e9:.0f} GFLOP/s" for kind, rate in facts["rates"].items()]
    print("matrix product: " + ", ".join(rates))
    if args.json:
        files.write_json(args.json, {"images_per_second": speeds, **facts})
    return results


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--network", choices=tuple(BATCH), default="report", help="which network")
    parser.add_argument("--images", type=cli.number(int, 500), default=4000, help="per round")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each competitor")
    parser.add_argument("--json", help="also write the results to this file")
    parser.add_argument("--way", choices=tuple(WAYS), help="only this one, controlled through standard input")
    return parser.parse_args(argv)


# ---- the competitors, each in a process of its own ---------------------------------------------------------


def run_one(args):
    """Warm up, then train one epoch for every line on standard input; print the seconds of each."""
    if args.way.startswith("PyTorch"):
        # With its compiler, before TensorFlow: in the other order triton ends in a segmentation fault
        importlib.import_module("torch._dynamo")
    cli.start_keras()
    import keras

    from training import networks
    from utils import structure
    from utils.sample import sample_faces

    keras.utils.set_random_seed(0)
    policy = "mixed_bfloat16" if "bfloat16" in args.way else "float32"
    keras.config.set_dtype_policy("float32" if args.way.startswith("PyTorch") else policy)
    network = networks.report_cnn() if args.network == "report" else networks.compact_cnn()
    images, labels = sample_faces(args.images)
    epoch = WAYS[args.way](network, images, labels, BATCH[args.network], policy)
    epoch()  # traces, compiles
    rates = {kind: matmul_rate(kind) for kind in ("float32", "bfloat16")}
    print(json.dumps({"multiply_adds": structure.multiply_adds(network), "rates": rates}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        epoch()
        print(time.perf_counter() - start, flush=True)


def plain_fit(network, images, labels, batch, policy):
    """Keras as its examples use it: stock layers, float arrays, fit()."""
    import keras
    import numpy as np

    from utils import structure

    model = structure.flat_copy(network, dtype="float32")
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    faces, targets = images[..., None].astype(np.float32), keras.utils.to_categorical(labels, 7)
    return lambda: model.fit(faces, targets, batch_size=batch, epochs=1, verbose=0)


def ours(network, images, labels, batch, policy, **augmentation):
    """As train_cnn.py trains, with the report's Adam."""
    import keras

    from training import recipes
    from training.batches import Batches
    from training.model import TrainingModel, make_optimizer

    model = TrainingModel(network)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    recipe = recipes.Recipe(batch_size=batch, **augmentation)
    model.compile(make_optimizer(recipe, 1), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    batches = Batches(images, labels, recipe, 0).for_fit()
    return lambda: model.fit(batches, epochs=1, verbose=0, shuffle=False)


def ours_augmented(*arguments):
    return ours(*arguments, augment=True, erase=0.25)


def pytorch(network, images, labels, batch, policy, compiled=False):
    from benchmarks import torch_twin
    from utils import structure

    copy = structure.flat_copy(network, dtype="float32")
    return torch_twin.trainer(copy, images, labels, batch, policy != "float32", compiled)


def pytorch_compiled(*arguments):
    return pytorch(*arguments, compiled=True)


WAYS = {
    "plain float32 fit": plain_fit,
    "ours, float32": ours,
    "ours, bfloat16": ours,
    "ours, bfloat16, augmented": ours_augmented,
    "PyTorch, float32": pytorch,
    "PyTorch, bfloat16": pytorch,
    "PyTorch, compiled, bfloat16": pytorch_compiled,
}


def matmul_rate(kind, size=2048, rounds=8):
    """The machine's matrix-product rate in FLOP/s: the best of `rounds` products of size x size matrices."""
    import keras

    a = keras.random.normal((size, size), dtype=kind)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        float(keras.ops.cast(keras.ops.matmul(a, a)[0, 0], "float32"))  # waits for the product
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


# ---- turns, results ----------------------------------------------------------------------------------------


def alternate(args, ways):
    """Train an epoch with each of `ways` in turn: ({way: median images/s}, multiply-adds and rates)."""
    command = [sys.executable, "-m", "benchmarks.train", "--network", args.network,
               "--images", str(args.images)]
    processes, facts, seconds = {}, [], {way: [] for way in ways}
    try:
        for way in ways:  # one after the other, so that warming up disturbs nobody
            processes[way] = subprocess.Popen([*command, "--way", way], stdin=subprocess.PIPE,
                                              stdout=subprocess.PIPE, text=True)
            facts.append(json.loads(answer(processes[way], way)))
        for _, way in cli.track([(i, way) for i in range(args.rounds) for way in ways], "training"):
            processes[way].stdin.write("\n")
            processes[way].stdin.flush()
            seconds[way].append(float(answer(processes[way], way)))
    finally:
        for process in processes.values():
            process.kill()
    images = args.images // BATCH[args.network] * BATCH[args.network]
    return {way: images / statistics.median(times) for way, times in seconds.items()}, facts[0]


def answer(process, way):
    """The next line that a competitor prints. Raises UserError when its process has ended."""
    line = process.stdout.readline()
    if not line:
        raise cli.UserError(f"{way} ended with exit status {process.wait()}; its messages are above")
    return line


def summary(speeds, facts):
    """The table of results, a DataFrame of strings."""
    import pandas as pd

    speed, flops = pd.Series(speeds), 6 * facts["multiply_adds"]
    rate = pd.Series({way: facts["rates"]["bfloat16" if "bfloat16" in way else "float32"] for way in speeds})
    return pd.DataFrame({
        "": speed.index,
        "images/s": speed.map("{:.0f}".format),
        "ratio": (speed / speed["plain float32 fit"]).map("{:.2f}x".format),
        "GFLOP/s": (speed * flops / 1e9).map("{:.0f}".format),
        "of matrix rate": (100 * speed * flops / rate).map("{:.0f} %".format),
    })


if __name__ == "__main__":
    cli.run(main)
