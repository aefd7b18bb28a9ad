"""Training batches: order and augmentation of an epoch are drawn from (seed, epoch, step)."""

import keras
import numpy as np

from training import augmentation
from training.recipes import Recipe
from utils.data import CLASSES


class Batches(keras.utils.PyDataset):
    """The batches of an epoch: ({"image", "transforms", "mixing"}, labels).
    image: uint8 (b, 48, 48, 1), 0-255; transforms: float32 (b, 12) and mixing: float32 (b, 5), present where
    the recipe augments and mixes, as `augmentation.transform` and `augmentation.mix` take them; labels:
    float32 (b, 7). The last, smaller batch of an epoch is left out, so that every step has the same shape.

    images: uint8 (n, 48, 48); labels: int (n,), or float32 (n, 7), the share of each class;
    recipe: training.recipes.Recipe; copied_rows: rows that come once more in each epoch, as augmented copies
    """

    def __init__(self, images, labels, recipe, seed, copied_rows=()):
        super().__init__()
        self.copied_rows = np.array(copied_rows, np.int64)
        if len(self.copied_rows):  # else the images are not copied
            images = np.concatenate([images, images[self.copied_rows]])
        self.faces = images[..., None]
        shares = labels if labels.ndim == 2 else np.eye(len(CLASSES), dtype=np.float32)[labels]
        self.labels = np.concatenate([shares, shares[self.copied_rows]])
        self.recipe, self.seed = recipe, seed
        self.batch_size = min(recipe.batch_size, len(self.labels))
        self.start_epoch(0)

    def start_epoch(self, epoch):
        """Set the epoch whose batches come next: its order, and new augmented copies of the copied rows."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))
        if len(self.copied_rows):
            rng = np.random.default_rng([self.seed, 3, epoch])
            copies = augmentation.augmented_copies(self.faces[self.copied_rows], rng, Recipe())
            self.faces[-len(copies):] = copies
        # JAX has them on the device, so that only rows and labels travel each step
        self.images = keras.ops.array(self.faces) if keras.backend.backend() == "jax" else self.faces

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, step):
        recipe, rows = self.recipe, self.order[step * self.batch_size:(step + 1) * self.batch_size]
        x, y = {"image": self.images[rows]}, self.labels[rows]
        rng = np.random.default_rng([self.seed, self.epoch, step])
        if recipe.augment:
            x["transforms"] = augmentation.draw(recipe, rng, len(rows))
        if recipe.mix:
            is_mixed = self.epoch < round(recipe.mix_until * recipe.epochs)
            x["mixing"], share = augmentation.draw_mix(rng, len(rows), recipe.mix if is_mixed else 0.0)
            y = np.float32(share) * y + np.float32(1 - share) * np.roll(y, 1, axis=0)
        return x, y

    def for_fit(self):
        """What to give to `fit`: these batches, under TensorFlow as a tf.data.Dataset without autotuning. The
        tuning thread of Keras' own prefetch(AUTOTUNE) holds up the end of an epoch for up to a minute."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        signature = keras.tree.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), self[0])
        dataset = tf.data.Dataset.from_generator(
            lambda: (self[step] for step in range(len(self))), output_signature=signature)
        options = tf.data.Options()
        options.autotune.enabled = False
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        return dataset.prefetch(2).with_options(options)


def rows_to_copy(labels, seed):
    """Rows, int64, drawn with replacement, whose copies give each class as many images as the largest."""
    rng = np.random.default_rng([seed, 3])
    counts = np.bincount(labels, minlength=len(CLASSES))
    return np.concatenate([rng.choice(np.flatnonzero(labels == code), counts.max() - count)
                           for code, count in enumerate(counts) if count])
