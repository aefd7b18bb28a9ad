"""The weight gradient of a 3x3 convolution: TensorFlow's kernel beside nine shifted matrix products.

    python -m benchmarks.weight_gradient

Milliseconds at batch 128, the fastest of 20 turns; `training.networks.SmallMapConv2D` takes the products
where they are faster on every processor measured.
"""

import time

from utils import cli

SHAPES = ((5, 128, 256), (5, 256, 256), (10, 64, 128), (10, 128, 128), (20, 64, 64))  # side, channels in, out
TURNS = 20


def main(argv=None):
    cli.Parser(__doc__).parse_args(argv)
    cli.start_keras()
    import pandas as pd
    import tensorflow as tf

    from training.networks import shifted_products

    def stock(maps, upstream):
        shape = (3, 3, maps.shape[-1], upstream.shape[-1])
        return tf.raw_ops.Conv2DBackpropFilter(input=maps, filter_sizes=shape, out_backprop=upstream,
                                               strides=[1] * 4, padding="SAME")

    rows = []
    for precision in ("bfloat16", "float32"):
        for side, channels, filters in SHAPES:
            maps, upstream = (tf.cast(tf.random.normal((128, side, side, depth)), precision)
                              for depth in (channels, filters))
            ways = [tf.function(way) for way in (stock, shifted_products)]
            seconds = [[], []]
            for _ in range(TURNS):
                for way, times in zip(ways, seconds):
                    start = time.perf_counter()
                    way(maps, upstream).numpy()
                    times.append(time.perf_counter() - start)
            kernel, products = (1000 * min(times) for times in seconds)
            rows.append({"precision": precision, "map": f"{side}x{side}", "channels": f"{channels}-{filters}",
                         "kernel ms": f"{kernel:.1f}", "products ms": f"{products:.1f}",
                         "ratio": f"{products / kernel:.2f}"})
    table = pd.DataFrame(rows)
    cli.print_table(table)
    return table


if __name__ == "__main__":
    cli.run(main)
