"""Augmentation speed: one resampling in the graph beside Keras' random layers and the old ImageDataGenerator.

    python -m benchmarks.augment [--images 2560] [--rounds 5]

The same work each: flip, rotation, scale, shift, contrast, brightness, erasing (ImageDataGenerator has no
    contrast and no erasing). Keras' layers are timed as their documentation uses them, in a compiled graph.
    Prints images/s (median over interleaved rounds) and ratios.
"""

import statistics
import time

from utils import cli


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--images", type=cli.number(int, 128), default=2560, help="a round")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=5, help="of each way")
    parser.add_argument("--batch-size", type=cli.number(int, 1), default=128, help="images a call")
    args = parser.parse_args()
    cli.start_keras()
    import pandas as pd

    from utils.sample import sample_faces

    images = sample_faces(args.images)[0][..., None]
    batches = [
        images[i : i + args.batch_size] for i in range(0, args.images - args.batch_size + 1, args.batch_size)
    ]
    ways = {
        "ours, one resampling": ours(),
        "Keras random layers": keras_layers(),
        "ImageDataGenerator": generator(),
    }
    for augment in ways.values():
        augment(batches[0])  # traces the graph
    speeds = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, augment in ways.items():
            start = time.perf_counter()
            for batch in batches:
                augment(batch)
            speeds[way].append(len(batches) * args.batch_size / (time.perf_counter() - start))
    middle = {way: statistics.median(found) for way, found in speeds.items()}
    fastest = middle["ours, one resampling"]
    print(f"{args.rounds} rounds of {len(batches) * args.batch_size:,} images, batch {args.batch_size}")
    rows = [[way, f"{speed:,.0f}", f"{fastest / speed:.1f}x"] for way, speed in middle.items()]
    cli.print_table(pd.DataFrame(rows, columns=["", "images/s", "ours is faster by"]))


def ours():
    """Draw on the host, as training does, and apply in the graph: uint8 (n, 48, 48, 1) -> float32."""
    import numpy as np
    import tensorflow as tf

    from training.augmentation import draw, transform
    from training.recipes import Recipe

    recipe, rng, graph = Recipe(erase=0.25), np.random.default_rng(0), tf.function(transform)
    return lambda batch: graph(tf.constant(batch), tf.constant(draw(recipe, rng, len(batch)))).numpy()


def keras_layers():
    """The same transforms as Keras' own layers, one resampling each."""
    import keras
    import tensorflow as tf
    from keras import layers

    pipeline = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(12 / 360, fill_mode="nearest"),
            layers.RandomZoom(0.12, fill_mode="nearest"),
            layers.RandomTranslation(4 / 48, 4 / 48, fill_mode="nearest"),
            layers.RandomContrast(0.2, value_range=(0, 255)),
            layers.RandomBrightness(20 / 255, value_range=(0, 255)),
            layers.RandomErasing(0.25, scale=(0.02, 0.2), value_range=(0, 255)),
        ]
    )
    graph = tf.function(lambda batch: pipeline(batch, training=True))
    return lambda batch: graph(tf.cast(batch, tf.float32)).numpy()


def generator():
    """The way of most older FER2013 scripts: SciPy on the host, image by image."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    made = ImageDataGenerator(
        rotation_range=12,
        zoom_range=0.12,
        width_shift_range=4 / 48,
        height_shift_range=4 / 48,
        horizontal_flip=True,
        brightness_range=(0.9, 1.1),
        fill_mode="nearest",
    )
    return lambda batch: next(made.flow(batch, batch_size=len(batch), shuffle=False))


if __name__ == "__main__":
    cli.run(main)
