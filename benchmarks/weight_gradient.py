"""The speed of a 3x3 convolution and its gradients, and of the weight gradient as nine matrix products.

    python -m benchmarks.weight_gradient

GFLOP/s at batch 128, the fastest of 20 turns that the ways take in turn, beside a matrix product of the same
data type. `training.networks.SmallMapConv2D` takes the nine products where they are faster on every processor
measured.
"""

import time

from utils import cli

SHAPES = ((40, 32, 32), (20, 64, 64), (10, 64, 128), (10, 128, 128), (5, 128, 256), (5, 256, 256))
TURNS = 20  # SHAPES: side of the map, channels, filters


def main(argv=None):
    cli.Parser(__doc__).parse_args(argv)
    cli.start_keras()
    import pandas as pd
    import tensorflow as tf

    from training import machine

    rows = []
    for precision in ("bfloat16", "float32") if machine.has_native_bfloat16() else ("float32",):
        square = tf.cast(tf.random.normal((1536, 1536)), precision)
        product = fastest({"product": lambda square=square: tf.matmul(square, square)})["product"]
        for side, channels, filters in SHAPES:
            operations = 2 * 9 * 128 * side**2 * channels * filters
            speeds = {name: f"{operations / seconds / 1e9:.0f}"
                      for name, seconds in fastest(ways(side, channels, filters, precision)).items()}
            rows.append({"precision": precision, "map": f"{side}x{side}", "channels": f"{channels}-{filters}",
                         **speeds, "matrix product": f"{2 * 1536**3 / product / 1e9:.0f}"})
    table = pd.DataFrame(rows)
    cli.print_table(table)
    return table


def ways(side, channels, filters, precision):
    """Functions without arguments: a convolution of random maps, its two gradients, and the nine products."""
    import tensorflow as tf

    from training.networks import shifted_products

    maps, upstream = (tf.cast(tf.random.normal((128, side, side, depth)), precision)
                      for depth in (channels, filters))
    kernel = tf.cast(tf.random.normal((3, 3, channels, filters)), precision)
    options = {"strides": [1] * 4, "padding": "SAME"}
    return {
        "forward": lambda: tf.nn.conv2d(maps, kernel, **options),
        "gradient of the maps": lambda: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=maps.shape, filter=kernel, out_backprop=upstream, **options),
        "of the weights": lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=maps, filter_sizes=kernel.shape, out_backprop=upstream, **options),
        "of the weights as products": lambda: shifted_products(maps, upstream)}


def fastest(functions):
    """Seconds of the fastest of TURNS turns of each function, compiled: {name: seconds}."""
    import tensorflow as tf

    compiled = {name: tf.function(function) for name, function in functions.items()}
    seconds = {name: [] for name in functions}
    for _ in range(TURNS):
        for name, function in compiled.items():
            start = time.perf_counter()
            function().numpy()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


if __name__ == "__main__":
    cli.run(main)
