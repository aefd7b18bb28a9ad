"""Models of faces that need no training: one whose every answer is known, and random ones."""

import keras
import numpy as np

from utils import models


def grey_level_model(path, swapped=()):
    """A model that answers class k for a face of grey level 36 k, with k and k + 1 `swapped`."""
    face = keras.Input((48, 48, 1))
    logits = keras.layers.Dense(7, name="logits")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0)(face))
    model = keras.Model(face, keras.layers.Softmax()(logits(x)))
    levels, order = 36.0 * np.arange(7), list(range(7))
    for k in swapped:
        order[k], order[k + 1] = k + 1, k
    # the nearest level wins: -(v - c)^2 is linear in v once the common v^2 is dropped
    logits.set_weights([2 * levels[None, order] / 400, -levels[order]**2 / 400])
    models.save(model, path)
    return path


def random_model(path, seed=0):
    """A linear classifier with random weights."""
    keras.utils.set_random_seed(seed)
    face = keras.Input((48, 48, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(face))
    models.save(keras.Model(face, keras.layers.Dense(7, activation="softmax", name="logits")(x)), path)
    return path


def small_cnn():
    """An untrained convolution of 5x5, `conv`, and `logits`, which every script can read."""
    keras.config.set_dtype_policy("float32")  # whatever the run before chose
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((48, 48, 1)), keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 5, activation="relu", name="conv"), keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(7, name="logits"), keras.layers.Softmax()])
