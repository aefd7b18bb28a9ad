"""Augmentation in the training graph: one resampling for all geometry, then light and erasing.

The random numbers are drawn in NumPy from (seed, epoch, step), so a step sees the same ones on every backend
and after a resume; the graph only applies them. Nothing of this is part of a saved model.
"""

import numpy as np
from keras import ops

from utils.data import SIZE

# Columns of the transform parameters: one row per image, float32.
COSINE, SINE, FLIP, SHIFT_Y, SHIFT_X, GAIN, BIAS, ERASE_Y, ERASE_X, ERASE_H, ERASE_W, ERASE_VALUE = range(12)


def draw(recipe, rng, n):
    """Random parameters for `n` faces: float32 (n, 12), columns as named above.

    recipe: training.recipes.Recipe, whose options say how strongly to augment; 0 switches a part off. `erase`
        is random erasing (Zhong et al. 2020): a rectangle of 2-20 % of the area in one grey level.
    """
    u = rng.uniform(-1, 1, (n, 12)).astype(np.float32)
    angle, zoom = np.deg2rad(recipe.rotation) * u[:, 0], np.exp2(np.log2(1 + recipe.scale) * u[:, 1])
    area = SIZE * SIZE * (0.11 + 0.09 * u[:, 8])
    aspect = np.exp(np.log(3) * u[:, 9])
    height, width = np.sqrt(area * aspect), np.sqrt(area / aspect)
    erased = (u[:, 10] + 1) / 2 < recipe.erase
    columns = {
        COSINE: np.cos(angle) / zoom, SINE: np.sin(angle) / zoom,
        FLIP: np.where((u[:, 2] + 1) / 2 < 0.5, -1, 1),
        SHIFT_Y: recipe.shift * u[:, 3], SHIFT_X: recipe.shift * u[:, 4],
        GAIN: 1 + recipe.light * u[:, 5], BIAS: 100 * recipe.light * u[:, 6],
        ERASE_Y: SIZE / 2 * (1 + u[:, 7]) - height / 2, ERASE_X: SIZE / 2 * (1 + u[:, 11]) - width / 2,
        ERASE_H: height * erased, ERASE_W: width * erased, ERASE_VALUE: rng.uniform(0, 255, n),
    }
    return np.stack([columns[i] for i in range(12)], axis=1).astype(np.float32)


def transform(images, parameters):
    """Transformed faces, bilinear, outside the image its edge repeated: float32 (n, h, w, 1), 0-255;
    images: (n, h, w, 1), any number type, 0-255; parameters: (n, 12), see `draw`."""
    _, height, width, _ = images.shape
    parameters = ops.cast(parameters, "float32")
    cosine, sine, flip, shift_y, shift_x, gain, bias, top, left, erased_h, erased_w, value = (
        parameters[:, i] for i in range(12))
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2

    # Where each pixel of the result comes from: x' = a x + b y + c, y' = d x + e y + f, about the middle of
    # the image.
    a, b, d, e = flip * cosine, -flip * sine, sine, cosine
    c, f = middle_x + shift_x - a * middle_x - b * middle_y, middle_y + shift_y - d * middle_x - e * middle_y
    affine = ops.stack([a, b, c, d, e, f, 0 * a, 0 * a], axis=1)
    faces = ops.image.affine_transform(ops.cast(images, "float32"), affine, fill_mode="nearest",
                                       data_format="channels_last")

    def column(values):
        return values[:, None, None, None]

    faces = ops.clip(column(gain) * faces + column(127.5 - 127.5 * gain + bias), 0, 255)
    y = ops.arange(height, dtype="float32")[None, :, None, None]
    x = ops.arange(width, dtype="float32")[None, None, :, None]
    rows = (y >= column(top)) & (y < column(top + erased_h))
    columns = (x >= column(left)) & (x < column(left + erased_w))
    return ops.where(rows & columns, column(value), faces)


def mix(images, mixing):
    """Mix every face with its neighbour in the batch.

    mixing (n, 5): weight, top, left, bottom, right, the same in all rows;
    images float32 (n, h, w, 1) -> the same. Pixels inside the box come from the neighbour (CutMix); the rest
    is weight * own + (1 - weight) * neighbour (mixup). Weight 1 and an empty box leave the batch as it is.
    """
    neighbour = ops.roll(images, 1, axis=0)
    weight, top, left, bottom, right = (mixing[:, i][:, None, None, None] for i in range(5))
    y = ops.arange(images.shape[1], dtype="float32")[None, :, None, None]
    x = ops.arange(images.shape[2], dtype="float32")[None, None, :, None]
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return ops.where(inside, neighbour, weight * images + (1 - weight) * neighbour)


def draw_mix(rng, n, probability):
    """Mixing for one batch: (mixing float32 (n, 5) as `mix` takes it, share of the own label, 0-1). Half of
    the mixed batches are mixed by mixup (Zhang et al. 2018), half by CutMix (Yun et al. 2019)."""
    kind, share = rng.uniform(), rng.beta(1.0, 1.0)
    mixing = np.tile(np.array([1, 0, 0, 0, 0], np.float32), (n, 1))
    if kind >= probability:
        return mixing, 1.0
    if kind < probability / 2:
        mixing[:, 0] = share
        return mixing, share
    side = SIZE * np.sqrt(1 - share)
    cy, cx = rng.uniform(0, SIZE, 2)
    box = np.clip(np.round([cy - side / 2, cx - side / 2, cy + side / 2, cx + side / 2]), 0, SIZE)
    mixing[:, 1:] = box
    return mixing, 1 - (box[2] - box[0]) * (box[3] - box[1]) / SIZE**2


def augmented_copies(images, rng, recipe):
    """Augmented copies of faces, outside any graph: uint8 (n, h, w, 1) -> the same. For oversampling."""
    parts = np.array_split(images, range(1024, len(images), 1024))
    copies = (transform(part, draw(recipe, rng, len(part))) for part in parts)
    return np.concatenate([np.round(ops.convert_to_numpy(faces)).astype(np.uint8) for faces in copies])
