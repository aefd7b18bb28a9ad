"""Training speed: this project beside plain float32 `fit` on float arrays, the same network, batch and machine.

    python -m benchmarks.train [--network report|compact] [--images 4000] [--rounds 3]

PyTorch stands beside it where requirements-benchmarks.txt is installed: the same network with the same weights, channels
last, Adam in one kernel.

Prints images/s (median over interleaved rounds), GFLOP/s (3 x 2 x multiply-adds an image: forward, and backward to inputs
and weights) and the share of the matrix-product rate measured in the same run. Timings drift on shared machines; ratios of
one run are what to quote.
"""

import os
import statistics
import time

from utils import cli


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--network", choices=("report", "compact"), default="report", help="which network")
    parser.add_argument("--images", type=cli.number(int, 500), default=4000, help="a round")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each way")
    parser.add_argument("--json", help="also write the results to this file")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cli.start_keras()
    import keras
    import numpy as np

    from utils import files, networks, training
    from utils.augmentation import Augmentation
    from utils.sample import sample_faces

    images, labels = sample_faces(args.images)
    batch = 80 if args.network == "report" else 128

    def build(fused=False):
        keras.utils.set_random_seed(0)
        return networks.report_cnn() if args.network == "report" else networks.compact_cnn(fused=fused)

    def plain():
        keras.config.set_dtype_policy("float32")
        model = build()
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        floats, targets = images[..., None].astype(np.float32), np.eye(7, dtype=np.float32)[labels]
        return lambda: model.fit(floats, targets, batch_size=batch, epochs=1, verbose=0)

    def ours(policy, augment=None):
        keras.config.set_dtype_policy(policy)
        learner = training.Learner(build(fused=True))
        learner.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        batches = training.Batches(images, labels, batch, 0, augment)
        return lambda: learner.fit(batches, epochs=1, verbose=0, shuffle=False)

    ways = {"plain float32 fit": plain(), "ours, float32": ours("float32")}
    if training.has_native_bfloat16():
        ways["ours, bfloat16"] = ours("mixed_bfloat16")
        ways["ours, bfloat16, augmented"] = ours("mixed_bfloat16", Augmentation(erase=0.25))
    else:
        ways["ours, float32, augmented"] = ours("float32", Augmentation(erase=0.25))
    try:
        from benchmarks import torch_twin
    except ImportError:
        print("without PyTorch: pip install -r requirements-benchmarks.txt adds it")
    else:
        keras.config.set_dtype_policy("float32")
        print(f"PyTorch's logits differ by {torch_twin.difference(build(), images[:8]):.1g} at most")
        ways["PyTorch, float32"] = torch_twin.trainer(build(), images, labels, batch, bfloat16=False)
        ways["PyTorch, bfloat16"] = torch_twin.trainer(build(), images, labels, batch, bfloat16=True)
    for fit in ways.values():
        fit()  # trace, compile, warm up
    speeds = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, fit in ways.items():
            start = time.perf_counter()
            fit()
            speeds[way].append(args.images // batch * batch / (time.perf_counter() - start))
    middle = {way: statistics.median(found) for way, found in speeds.items()}
    rates = {kind: matmul_rate(kind) for kind in ("float32", "bfloat16")}
    flops = 6 * networks.multiply_adds(build())
    rows = []
    for way, speed in middle.items():
        rate = rates["bfloat16" if "bfloat16" in way else "float32"]
        rows.append([way, f"{speed:.0f}", f"{speed / middle['plain float32 fit']:.2f}x", f"{speed * flops / 1e9:.0f}",
                     f"{100 * speed * flops / rate:.0f} %"])
    print(f"{args.network} network, batch {batch}, {args.rounds} rounds of {args.images:,} images")
    print(cli.table(rows, ["", "images/s", "ratio", "GFLOP/s", "of matrix rate"]))
    print("matrix product: " + ", ".join(f"{kind} {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items()))
    augmented = next(way for way in middle if way.endswith("augmented"))
    unaugmented = augmented.removesuffix(", augmented")
    print(f"augmentation costs {100 * (1 - middle[augmented] / middle[unaugmented]):.1f} % of the images/s")
    if args.json:
        files.write_json(args.json, {"images_per_second": middle, "matrix_rate": rates})


def matmul_rate(kind, size=2048, rounds=8):
    """The machine's matrix-product rate in FLOP/s: the best of `rounds` products of two size x size matrices."""
    import keras

    a = keras.random.normal((size, size), dtype=kind)
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        float(keras.ops.cast(keras.ops.matmul(a, a)[0, 0], "float32"))  # waits for the product
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken)


if __name__ == "__main__":
    cli.run(main)
