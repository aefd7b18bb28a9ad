"""The training loop: resumed runs equal uncut ones, averages and schedules follow their formulas, files load anywhere."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import augmentation, data, models, networks, training
from utils.cli import UserError
from utils.sample import sample_faces

TINY = ("--data", "sample", "--limit", 160, "--batch-size", 32)
COMPACT = (*TINY, "--network", "compact", "--mix", 0.5, "--precision", "float32")


def weights(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_weights(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_killed_run_resumed_equals_the_uncut_run_bit_for_bit(suite):
    suite.run("train_cnn.py", *COMPACT, "--epochs", 4, "--name", "uncut")
    command = [sys.executable, "train_cnn.py", *map(str, COMPACT), "--epochs", "4", "--name", "cut"]
    checkpoint = suite.folder / "models" / "cut.checkpoint.npz"
    process = subprocess.Popen(command, cwd=suite.folder, stdout=subprocess.DEVNULL)
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (suite.folder / "models" / "cut.h5").exists()
    out, _ = suite.run("train_cnn.py", *COMPACT, "--epochs", 4, "--name", "cut", "--resume")
    assert "resuming after epoch" in out
    assert_same_weights(suite.folder / "models" / "uncut.h5", suite.folder / "models" / "cut.h5")
    histories = [(suite.folder / "models" / f"{name}_history.csv").read_text().splitlines() for name in ("uncut", "cut")]
    for uncut, cut in zip(*histories):
        assert uncut.split(",")[:-1] == cut.split(",")[:-1]  # the last column is seconds
    assert not checkpoint.exists()


def test_resume_refuses_another_run_and_nothing(suite):
    _, error = suite.run("train_cnn.py", *TINY, "--epochs", 1, "--resume", status=2)
    assert "nothing to resume" in error
    process = subprocess.Popen([sys.executable, "train_cnn.py", *map(str, TINY), "--epochs", "60"], cwd=suite.folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (suite.folder / "models" / "cnn.checkpoint.npz").exists():
        time.sleep(0.02)
    _, error = suite.run("train_cnn.py", *TINY, "--epochs", 2, status=2)
    assert "another run" in error
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert re.fullmatch(r"\ntrain_cnn.py: stopped; the same command with --resume continues after epoch \d+\n", said)
    _, error = suite.run("train_cnn.py", *TINY, "--epochs", 60, "--seed", 5, "--resume", status=2)
    assert "other options" in error


def test_a_saved_model_loads_with_plain_keras_and_takes_raw_faces(suite):
    suite.run("train_cnn.py", *TINY, "--epochs", 1, "--dropconnect", 0.5, "--l2", 1e-4, "--name", "plain")
    code = ("import keras, numpy as np, sys; m = keras.models.load_model('plain.h5');"
            "p = m.predict(np.full((3, 48, 48, 1), 200, 'uint8'), verbose=0);"
            "assert p.shape == (3, 7) and abs(p.sum(1) - 1).max() < 1e-5 and p.dtype == 'float32';"
            "assert not any(type(l).__module__.startswith('utils') for l in m.layers)")
    done = subprocess.run([sys.executable, "-c", code], cwd=suite.folder / "models", capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": ""}, check=False)
    assert done.returncode == 0, done.stderr
    card = json.loads((suite.folder / "models" / "plain.json").read_text())
    assert card["parameters"] == 6_615_495 and card["arguments"]["dropconnect"] == 0.5
    assert card["split"]["training_rows"] + card["split"]["validation_rows"] == 160
    faces = data.Faces(*sample_faces()).take(np.arange(160))  # the split is found again from the card alone
    assert faces.fingerprint() == card["split"]["fingerprint"]
    _, validation = data.split(faces, float(card["split"]["validation"]), card["split"]["seed"])
    model = models.load(suite.folder / "models" / "plain.h5")
    loss, accuracy = training.score(model, faces.take(validation))
    assert accuracy == pytest.approx(card["metrics"]["validation_accuracy"], abs=1e-4)
    assert loss == pytest.approx(card["metrics"]["validation_loss"], abs=2e-4)


def test_recipe_repeats_a_run(suite):
    suite.run("train_cnn.py", *TINY, "--epochs", 1, "--learning-rate", 0.002, "--seed", 9, "--name", "first")
    suite.run("train_cnn.py", "--recipe", "models/first.json", "--data", "sample", "--name", "second")
    assert_same_weights(suite.folder / "models" / "first.h5", suite.folder / "models" / "second.h5")


def test_distilling_needs_seven_classes_and_follows_its_teacher(suite):
    suite.run("train_cnn.py", *TINY, "--epochs", 2, "--name", "teacher")
    suite.run("train_cnn.py", *COMPACT, "--epochs", 1, "--distill", "models/teacher.h5", "--name", "student")
    card = json.loads((suite.folder / "models" / "student.json").read_text())
    assert card["arguments"]["distill"] == ["models/teacher.h5"]


def test_a_second_cycle_starts_from_the_weights_it_is_given(suite):
    suite.run("train_cnn.py", *COMPACT, "--epochs", 1, "--name", "first")
    suite.run("train_cnn.py", *COMPACT, "--epochs", 1, "--name", "second", "--learning-rate", 1e-9,
              "--start-from", "models/first.h5", "--distill", "models/first.h5")  # its own teacher: layers of the same names
    first, second = (keras.models.load_model(suite.folder / "models" / f"{name}.h5", compile=False)
                     for name in ("first", "second"))
    for before, after in zip(first.trainable_weights, second.trainable_weights):
        np.testing.assert_allclose(after, before, atol=1e-6)
    _, error = suite.run("train_dnn.py", *TINY, "--network", "report", "--start-from", "models/first.h5", status=2)
    assert "is another network than report_dnn" in error


def test_distillation_loss_by_hand():
    keras.utils.set_random_seed(0)
    student, teacher = networks.report_dnn(), networks.report_dnn()
    learner = training.Learner(student, [teacher], weight=0.7, temperature=2.0)
    learner.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    faces, labels = sample_faces(7)
    x, y = {"image": faces[..., None]}, np.eye(7, dtype=np.float32)[labels]
    logits = np.asarray(learner(x, training=False))
    ours = float(learner.compute_loss(x, y, keras.ops.convert_to_tensor(logits), None))

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    target = softmax(np.log(np.asarray(teacher(faces[..., None].astype(np.float32)))) / 2)
    hard = -(y * np.log(softmax(logits))).sum(1).mean()
    soft = (target * np.log(target / softmax(logits / 2))).sum(1).mean()
    assert ours == pytest.approx(0.3 * hard + 0.7 * 4 * soft, rel=1e-4)


def test_averaged_weights_follow_their_recurrence():
    keras.utils.set_random_seed(0)
    network = networks.report_dnn(dropout=0.0)
    learner = training.Learner(network)
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    learner.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    faces, labels = sample_faces(32)
    x, y = {"image": faces[..., None]}, np.eye(7, dtype=np.float32)[labels]
    expected = None
    for _ in range(4):
        learner.train_on_batch(x, y)
        now = [np.array(w) for w in network.get_weights()]
        expected = now if expected is None else [0.9 * e + 0.1 * w for e, w in zip(expected, now)]
    for ours, hand in zip(training.averaged_weights(network, optimizer, 0.9), expected):
        np.testing.assert_allclose(ours, hand, rtol=1e-4, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(shape=st.sampled_from(["constant", "linear", "cosine"]), steps=st.integers(2, 500), warmup=st.floats(0, 0.5))
def test_schedule_rises_to_its_peak_and_ends_at_zero(shape, steps, warmup):
    schedule = training.Schedule(shape, 0.1, steps, warmup)
    rates = np.array([float(schedule(step)) for step in (0, *range(0, steps, max(steps // 7, 1)), steps - 1)])
    assert (rates >= -1e-7).all() and rates.max() <= 0.1 + 1e-6
    assert float(schedule(schedule.warmup - 1)) == pytest.approx(0.1, rel=1e-5)
    if shape != "constant" and schedule.warmup < steps:
        assert rates[-1] == pytest.approx(0, abs=1e-7)


def test_norm_statistics_are_those_of_the_training_batches():
    keras.utils.set_random_seed(0)
    faces, labels = sample_faces(96)
    network = networks.compact_cnn()
    batches = training.Batches(faces, labels, 32, 0)
    training.recompute_norms(network, batches, training.Learner(network))
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
    before = keras.Model(network.inputs[0], first.input)
    maps = [np.asarray(before(batches[i][0]["image"].astype(np.float32))) for i in range(3)]
    np.testing.assert_allclose(first.moving_mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first.moving_variance, np.mean([m.var((0, 1, 2)) for m in maps], 0), rtol=1e-3)
    assert first.momentum == 0.9


def test_oversampling_evens_out_the_classes_and_touches_training_faces_only():
    faces = data.Faces(*sample_faces(700))
    train, validation = (faces.take(rows) for rows in data.split(faces, 0.1, 0))
    copied = training.rows_to_copy(train.labels, seed=0)
    batches = training.Batches(train.images, train.labels, 32, seed=0, copied=copied)
    counts = batches.labels.sum(axis=0)
    assert (counts == np.bincount(train.labels).max()).all()
    np.testing.assert_array_equal(batches.images[:len(train), ..., 0], train.images)
    first = batches.images[len(train):]
    originals = {image.tobytes() for image in validation.images}
    assert not any(image.tobytes() in originals for image in first)
    batches.start(1)
    assert (batches.images[len(train):] != first).any(axis=(1, 2, 3)).mean() > 0.99  # drawn anew
    batches.start(0)
    np.testing.assert_array_equal(batches.images[len(train):], first)  # as a resumed run draws them


def test_batches_visit_every_face_once_an_epoch_in_an_order_of_their_own():
    faces, labels = sample_faces(64)
    batches = training.Batches(faces, labels, 16, seed=0, augment=augmentation.Augmentation())
    orders = []
    for epoch in (0, 1, 0):
        batches.start(epoch)
        orders.append(np.concatenate([batches[i][0]["image"] for i in range(len(batches))]))
    assert {image.tobytes() for image in orders[0]} == {image.tobytes() for image in faces[..., None]}
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(batches[1][0]["draws"], batches[1][0]["draws"])
    assert (batches[0][0]["draws"] != batches[1][0]["draws"]).any()


def test_half_precision_file_is_smaller_and_predicts_alike(tmp_path):
    keras.utils.set_random_seed(0)
    network = networks.report_dnn()
    models.save(network, tmp_path / "full.h5")
    models.save(network, tmp_path / "half.h5", half=True)
    assert (tmp_path / "half.h5").stat().st_size < 0.6 * (tmp_path / "full.h5").stat().st_size
    faces = sample_faces(64)[0]
    full, half = (models.predict(models.load(tmp_path / f"{name}.h5"), faces) for name in ("full", "half"))
    assert full.shape == (64, 7)
    np.testing.assert_allclose(full, models.predict(network, faces), atol=1e-6)
    np.testing.assert_allclose(half, full, atol=2e-3)
    assert all(w.dtype == "float32" for w in models.load(tmp_path / "half.h5").weights)


def test_a_loss_that_is_no_number_stops_the_run(suite):
    _, error = suite.run("train_cnn.py", *TINY, "--epochs", 3, "--optimizer", "sgd", "--learning-rate", 1e30, status=2)
    assert "the loss became" in error and "no epoch was finished" in error and "lower --learning-rate" in error
    assert suite.files() == []


def test_training_part_needs_labels(tmp_path):
    (tmp_path / "t.csv").write_text("pixels\n" + " ".join(["1"] * 2304) + "\n")
    args = SimpleNamespace(data=tmp_path / "t.csv", limit=None, validation="0.1", validation_labels=None, seed=0)
    with pytest.raises(UserError, match="no labels to train on"):
        training.training_and_validation(args)
