"""The drawn sample is reproducible, has FER2013's format and imbalance, and carries a signal to learn."""

import numpy as np
import pytest

from utils import sample
from utils.sample import sample_faces


@pytest.fixture(scope="module")
def faces():
    return sample_faces(1500, seed=1)


def test_format(faces):
    images, labels = faces
    assert images.shape == (1500, 48, 48) and images.dtype == np.uint8
    assert labels.shape == (1500,) and labels.dtype == np.int64
    assert set(labels) == set(range(7))


def test_same_seed_same_faces_and_a_small_sample_is_the_head_of_a_large_one(faces):
    images, labels = sample_faces(70, seed=1)
    np.testing.assert_array_equal(images, faces[0][:70])
    np.testing.assert_array_equal(labels, faces[1][:70])


def test_other_seed_other_faces(faces):
    images, labels = sample_faces(70, seed=2)
    assert (images != faces[0][:70]).any(axis=(1, 2)).all()
    assert (labels != faces[1][:70]).any()


def test_no_face_is_drawn_twice(faces):
    assert len(np.unique(faces[0].reshape(1500, -1), axis=0)) == 1500


@pytest.mark.parametrize("seed", range(5))
def test_seven_faces_show_seven_classes(seed):
    assert sorted(sample_faces(7, seed)[1]) == list(range(7))


@pytest.mark.parametrize("n", [0, 1, 6])
def test_fewer_faces_than_classes(n):
    images, labels = sample_faces(n)
    assert images.shape == (n, 48, 48) and len(set(labels)) == n


def test_proportions_are_those_of_fer2013(faces):
    share = np.array(sample.TRAINING_COUNTS) / sum(sample.TRAINING_COUNTS)
    four_sigma = 4 * np.sqrt(share * (1 - share) / 1500)
    assert (np.abs(np.bincount(faces[1], minlength=7) / 1500 - share) < four_sigma).all()


def test_images_use_the_range(faces):
    images = faces[0]
    assert images.min() == 0 and images.max() == 255
    assert 90 < images.mean() < 165 and images.std() > 40
    assert np.median(images.std(axis=(1, 2))) > 20  # most faces stand out from a flat grey


def nearest_centroid_recall(train, train_labels, test, test_labels):
    mean, sd = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / sd, (test - mean) / sd
    centroids = np.stack([train[train_labels == c].mean(0) for c in range(7)])
    predicted = ((test[:, None] - centroids) ** 2).sum(-1).argmin(1)
    return np.mean([(predicted[test_labels == c] == c).mean() for c in range(7)])


def test_moves_separate_the_classes_but_not_perfectly():
    rng, labels = np.random.default_rng(0), np.arange(2100) % 7
    moves = sample._moves(rng, labels)
    assert moves.shape == (2100, len(sample.MOVES)) and (moves >= sample.LEAST).all()
    assert 0.6 < nearest_centroid_recall(moves[:1400], labels[:1400], moves[1400:], labels[1400:]) < 0.95


def test_a_linear_model_reads_the_classes_from_the_pixels_above_chance():
    labels = np.arange(1680) % 7
    images = np.concatenate([sample._draw(np.random.default_rng([3, i]), labels[i:i + 35])
                             for i in range(0, 1680, 35)]).astype(np.float32)
    images = images.reshape(-1, 24, 2, 24, 2).mean((2, 4)).reshape(-1, 576)  # the camera's noise averages out
    images = (images - images.mean(1, keepdims=True)) / images.std(1, keepdims=True)
    train, test = images[:1260], images[1260:]
    one_hot = np.eye(7)[labels[:1260]]
    weights = np.linalg.solve(train.T @ train + 300 * np.eye(576), train.T @ (one_hot - 1 / 7))
    accuracy = ((test @ weights).argmax(1) == labels[1260:]).mean()
    assert accuracy > 0.3  # chance is 0.143 with a standard deviation of 0.017
