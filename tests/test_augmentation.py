"""Augmentation against NumPy slicing, SciPy's resampling and boxes made by hand."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from training import augmentation
from training.augmentation import augmented_copies, draw, draw_mix, mix, transform
from training.recipes import Recipe

RNG = np.random.default_rng(1)
FACES = RNG.integers(0, 256, (5, 48, 48, 1), np.uint8)
STILL = Recipe(rotation=0, scale=0, shift=0, light=0)


def transformed(faces, **columns):
    """The faces after a transform with these columns, in which else nothing changes."""
    table = draw(STILL, np.random.default_rng(0), len(faces))
    for name, value in ({"FLIP": 1} | columns).items():
        table[:, getattr(augmentation, name)] = value
    return keras.ops.convert_to_numpy(transform(faces, table))


def test_flip_is_the_mirror_image_and_nothing_else_changes():
    np.testing.assert_allclose(transformed(FACES), FACES, atol=1e-3)
    np.testing.assert_allclose(transformed(FACES, FLIP=-1), FACES[:, :, ::-1], atol=1e-3)


def test_shift_repeats_the_edge():
    moved = transformed(FACES, SHIFT_Y=3, SHIFT_X=-2)
    padded = np.pad(FACES[..., 0], ((0, 0), (0, 3), (2, 0)), mode="edge")
    np.testing.assert_allclose(moved[..., 0], padded[:, 3:, :48], atol=1e-3)


@pytest.mark.parametrize(("angle", "zoom", "dy", "dx"),
                         [(10, 1, 0, 0), (-7, 1.1, 1.5, -2.25), (0, 0.9, 0, 0), (33, 0.8, 4, 4)])
def test_rotation_and_scale_agree_with_scipy(angle, zoom, dy, dx):
    smooth = ndimage.gaussian_filter(FACES[..., 0].astype(np.float32), (0, 2, 2))[..., None]
    c, s = np.cos(np.deg2rad(angle)) / zoom, np.sin(np.deg2rad(angle)) / zoom
    ours = transformed(smooth, COSINE=c, SINE=s, SHIFT_Y=dy, SHIFT_X=dx)[..., 0]
    matrix = np.array([[c, s], [-s, c]])
    offset = 23.5 - matrix @ [23.5, 23.5] + [dy, dx]
    for mine, face in zip(ours, smooth[..., 0]):
        np.testing.assert_allclose(
            mine, ndimage.affine_transform(face, matrix, offset, order=1, mode="nearest"), atol=0.05
        )


def test_light_and_erasing():
    lit = transformed(FACES, GAIN=1.2, BIAS=10)
    np.testing.assert_allclose(lit, np.clip((FACES - 127.5) * 1.2 + 137.5, 0, 255), atol=1e-2)
    erased = transformed(FACES, ERASE_Y=10, ERASE_X=20, ERASE_H=5, ERASE_W=7, ERASE_VALUE=99)
    expected = FACES.astype(np.float32)
    expected[:, 10:15, 20:27] = 99
    np.testing.assert_allclose(erased, expected, atol=1e-3)


def test_draws_are_decided_by_the_generator_and_stay_in_bounds():
    strong = Recipe(erase=0.5, rotation=20, scale=0.3, shift=6)
    a, b = (draw(strong, np.random.default_rng([7, 1, 2]), 4000) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    zoom = 1 / np.hypot(a[:, augmentation.COSINE], a[:, augmentation.SINE])
    angle = np.rad2deg(np.arctan2(a[:, augmentation.SINE], a[:, augmentation.COSINE]))
    assert zoom.min() >= 1 / 1.3 - 1e-5 and zoom.max() <= 1.3 + 1e-5
    assert np.abs(angle).max() <= 20 + 1e-3 and np.abs(a[:, augmentation.SHIFT_X]).max() <= 6
    assert (a[:, augmentation.FLIP] == -1).mean() == pytest.approx(0.5, abs=0.03)
    erased = a[:, augmentation.ERASE_H] > 0
    assert erased.mean() == pytest.approx(0.5, abs=0.03)
    area = (a[:, augmentation.ERASE_H] * a[:, augmentation.ERASE_W])[erased] / 48**2
    assert area.min() >= 0.02 - 1e-4 and area.max() <= 0.2 + 1e-4


@pytest.mark.parametrize("seed", range(12))
def test_mixed_batches_carry_the_share_of_their_pixels(seed):
    mixing, own = draw_mix(np.random.default_rng(seed), 4, probability=1.0)
    faces = np.zeros((4, 48, 48, 1), np.float32)
    faces[0] = 1
    mixed = keras.ops.convert_to_numpy(mix(faces, mixing))
    assert 0 <= own <= 1
    # What is left of its own pixels, what its neighbour got, and nothing in the others
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), [own, 1 - own, 0, 0], atol=1e-5)
    mixing, own = draw_mix(np.random.default_rng(seed), 4, probability=0.0)
    assert own == 1
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(mix(faces, mixing)), faces)


def test_copies_are_uint8_faces_of_the_same_mean_light():
    faces, rng = FACES.repeat(300, 0), np.random.default_rng(0)
    copies = augmented_copies(faces, rng, Recipe())
    assert copies.shape == (1500, 48, 48, 1) and copies.dtype == np.uint8
    assert abs(copies.mean() - FACES.mean()) < 3
    assert (copies != faces).any(axis=(1, 2, 3)).mean() > 0.99
    assert len(augmented_copies(FACES[:0], rng, Recipe())) == 0
