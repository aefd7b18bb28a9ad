"""Metrics against scikit-learn, SciPy and values by hand; views against manual shifts; splits from cards."""

import warnings

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.calibration
import sklearn.metrics

from tests.conftest import write_csv
from utils import data, evaluation, files, metrics, models
from utils.cli import UserError


@pytest.fixture(autouse=True)
def no_warnings(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def network(crop=None, softmax=True, seed=0, classes=7):
    keras.utils.set_random_seed(seed)
    face = keras.Input((48, 48, 1))
    x = keras.layers.CenterCrop(crop, crop)(face) if crop else face
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Dense(classes, name="logits")(keras.layers.Flatten()(x))
    return keras.Model(face, keras.layers.Softmax()(x) if softmax else x)


def faces(n=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 48, 48), np.uint8)


def random_scores(n=400, seed=1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, n)
    return metrics.to_probabilities(rng.normal(size=(n, 7)) + 1.5 * np.eye(7)[labels]), labels


# ---- probabilities -----------------------------------------------------------------------------------------


def test_logits_and_probabilities_give_the_same():
    soft, raw = network(), network(softmax=False)
    raw.set_weights(soft.get_weights())
    ours = evaluation.probabilities([raw], faces())
    np.testing.assert_allclose(ours, evaluation.probabilities([soft], faces()), atol=1e-6)
    np.testing.assert_allclose(ours.sum(axis=1), 1)


def test_ensembles_and_mirror_images_are_averaged():
    a, b, images = network(seed=1), network(seed=2), faces()
    for networks, tta, parts in (([a, b], "none", [(a, images), (b, images)]),
                                 ([a], "flip", [(a, images), (a, images[:, :, ::-1])])):
        mean = sum(models.predict(*part) for part in parts) / 2
        np.testing.assert_allclose(evaluation.probabilities(networks, images, tta), mean, atol=1e-6)


@pytest.mark.parametrize("crop", [40, 44])
def test_ten_crop_sees_the_corners_and_the_centre(crop):
    cropping, inner = network(crop), network(crop)
    head = keras.Sequential([keras.Input((crop, crop, 1)), *inner.layers[2:]])
    head.set_weights(cropping.get_weights())
    far, middle = 48 - crop, (48 - crop) // 2
    seen = []
    for y, x in [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]:
        part = faces()[:, y:y + crop, x:x + crop, None].astype(np.float32)
        # a mirrored face's corner is the mirror image of the opposite corner
        seen += [head.predict_on_batch(part), head.predict_on_batch(part[:, :, ::-1])]
    ours = evaluation.probabilities([cropping], faces(), "ten-crop")
    np.testing.assert_allclose(ours, np.mean(seen, axis=0), atol=1e-5)


def test_a_shift_repeats_the_edge():
    image = np.arange(9).reshape(1, 3, 3)
    views = [view[0].tolist() for view in evaluation.views(image, "ten-crop", 1)]
    assert len(views) == 10 and views[0] == image[0].tolist()
    assert [[1, 2, 2], [1, 2, 2], [4, 5, 5]] in views  # down and to the left by one pixel
    assert [[2, 2, 1], [2, 2, 1], [5, 5, 4]] in views  # the same, mirrored


def test_multi_scale_sees_three_sizes_about_the_centre():
    ramp = np.add.outer(5.0 * np.arange(48), 0.1 * np.arange(48))[None]  # linear: interpolation is exact
    views = list(evaluation.views(ramp, "multi-scale", 4))
    assert len(views) == 30
    pixels = np.arange(10, 38) - 23.5  # no edge
    expected = [np.add.outer(5 * (pixels / size + 23.5 + y), 0.1 * (pixels / size + 23.5 + x))
                for size in (1, 0.92, 1.08) for y, x in ((0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2))]
    np.testing.assert_allclose([view[0, 10:38, 10:38] for view in views[::2]], expected, rtol=1e-5)
    for view, mirrored in zip(views[::2], views[1::2]):
        np.testing.assert_array_equal(mirrored, view[:, :, ::-1])


def test_the_shift_follows_the_crop():
    shifts = [evaluation.crop_shift(network(crop)) for crop in (40, 44, 48, None)]
    assert shifts == [4, 2, 0, 4]


def test_rows_stay_in_order_over_chunks(monkeypatch):
    monkeypatch.setattr(evaluation, "VIEWS_AT_ONCE", 7)
    model = network()
    ours = evaluation.probabilities([model], faces())
    np.testing.assert_allclose(ours, models.predict(model, faces()), atol=1e-6)
    assert evaluation.probabilities([model], faces(0)).shape == (0, 7)


def test_other_models_are_refused_in_one_line(tmp_path):
    models.save(network(classes=5), tmp_path / "five.h5")
    with pytest.raises(UserError, match="has 5 classes; expected the 7"):
        evaluation.load_networks([tmp_path / "five.h5"])
    with pytest.raises(UserError, match="weights are damaged"):
        metrics.to_probabilities(np.full((2, 7), np.nan))


# ---- metrics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [None, 1])
def test_metrics_agree_with_scikit_learn(absent):
    probabilities, labels = random_scores()
    if absent is not None:
        keep = labels != absent
        probabilities, labels = probabilities[keep], labels[keep]
    predicted = probabilities.argmax(axis=1)
    counts = metrics.confusion(labels, predicted)
    assert counts.sum() == len(labels) and counts[3, 4] == ((labels == 3) & (predicted == 4)).sum()
    ours = metrics.scores(counts)
    assert ours["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert ours["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, predicted, average="macro"))
    theirs = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=range(7),
                                                             zero_division=np.nan)
    for key, values in zip(("precision", "recall", "f1"), theirs):
        np.testing.assert_allclose(ours[key], values)


def test_calibration_error_by_hand():
    p = np.full((4, 7), 0.0)
    p[:, 0], p[:, 1] = [0.9, 0.9, 0.7, 0.7], [0.1, 0.1, 0.3, 0.3]
    bins, gaps = metrics.calibration(p, np.array([0, 1, 0, 0]))
    # bin of 0.9: confidence 0.9, accuracy 0.5, gap 0.4; bin of 0.7: confidence 0.7, accuracy 1, gap 0.3
    assert metrics.ece(bins, gaps) == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)
    assert metrics.calibration(np.eye(7), np.arange(7))[0].tolist() == [metrics.BINS - 1] * 7


def test_bootstrap_intervals_are_as_wide_as_theory_says():
    probabilities, labels = random_scores(2000)
    counts = metrics.bootstrap(probabilities, labels)
    low, high = metrics.interval(metrics.scores(counts)["accuracy"])
    value = (probabilities.argmax(axis=1) == labels).mean()
    expected = 1.96 * (value * (1 - value) / 2000) ** 0.5
    assert low < value < high
    assert high - low == pytest.approx(2 * expected, rel=0.08)
    assert metrics.measure(probabilities, labels) == metrics.measure(probabilities, labels)


def test_proportions_have_wilson_intervals():
    labels = np.repeat([0, 3], [44, 10])
    predicted = np.r_[np.zeros(40, int), np.full(4, 3), np.full(10, 3)]
    found = metrics.estimates(np.eye(7)[predicted], labels)
    for estimate, hits, n in ((found["accuracy"], 50, 54), (found["recall"][0], 40, 44),
                              (found["precision"][3], 10, 14), (found["share"][0][1], 0, 44)):
        expected = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert estimate == pytest.approx([hits / n, *expected], abs=1e-5)
    assert found["recall"][1] == [None] * 3


def test_every_interval_holds_its_estimate():
    result = metrics.measure(*random_scores(150))
    for value, low, high in [result["accuracy"], result["macro_f1"], *result["recall"].values()]:
        assert 0 <= low <= value <= high <= 1
    assert result["ece"][1:] == [None, None]  # a resample's is biased upwards


def test_one_face_is_enough_and_a_missing_class_is_undefined():
    result = metrics.measure(np.eye(7)[[3]], np.array([3]))
    assert result["accuracy"] == result["recall"]["happy"] == [1, 0.20654931, 1]  # 1 / (1 + 1.96^2)
    assert result["recall"]["sad"] == [None] * 3 and metrics.percent(result["recall"]["sad"]) == "-"
    with pytest.raises(UserError, match="no face is left"):
        metrics.measure(np.zeros((0, 7)), np.zeros(0, np.int64))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_of_values_has_the_interval_of_its_bootstrap(seed):
    values = np.random.default_rng(5).exponential(size=400)
    mean, low, high = metrics.bootstrap_mean(values, seed)
    reference = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=seed)
    assert mean == pytest.approx(values.mean())
    np.testing.assert_allclose([low, high], reference.confidence_interval, rtol=0.02)


def test_mcnemar_by_hand():
    a = np.array([1] * 1 + [0] * 7 + [1] * 4, bool)
    b = np.array([0] * 1 + [1] * 7 + [1] * 4, bool)
    assert metrics.mcnemar(a, b) == {
        "difference": -0.5, "only_first_right": 1, "only_second_right": 7,
        "p": pytest.approx(2 * (1 + 8) / 256)}  # 2 (C(8,0) + C(8,1)) / 2^8
    assert metrics.mcnemar(b, a)["only_first_right"] == 7
    assert metrics.mcnemar(a, a) == {"difference": 0, "only_first_right": 0, "only_second_right": 0, "p": 1}


def test_wilson_takes_arrays_and_knows_nothing_of_no_faces():
    low, high = metrics.wilson([[0, 5], [0, 0]], [[44], [0]])
    assert low.shape == (2, 2) and low[0, 0] == 0 and high[0, 0] == pytest.approx(0.0803, abs=1e-4)
    assert np.isnan(low[1]).all() and np.isnan(high[1]).all()


def test_bins_of_confidence_are_those_of_scikit_learn():
    probabilities, labels = random_scores(1000)
    bins, gaps = metrics.calibration(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, mean = sklearn.calibration.calibration_curve(right, confidence, n_bins=metrics.BINS)
    np.testing.assert_allclose([confidence[bins == i].mean() for i in np.unique(bins)], mean)
    np.testing.assert_allclose([gaps[bins == i].mean() for i in np.unique(bins)], mean - accuracy)


# ---- faces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "expected"), [
    ({3: 4, 4: 20, 8: 30}, [(3, 5, 24), (8, 9, 30)]),  # few faces go to the next bin
    ({4: 20, 9: 6, 14: 3}, [(4, 15, 29)]),  # and the last ones to the one before
    ({4: 20, 9: 6, 14: 4}, [(4, 5, 20), (9, 15, 10)]), ({2: 3}, [(2, 3, 3)])])
def test_bins_of_few_faces_are_merged(counts, expected):
    confidence = np.repeat([(number + 0.5) / metrics.BINS for number in counts], list(counts.values()))
    p = np.column_stack([confidence, *[(1 - confidence) / 6] * 6])  # the first class is right now and then
    labels = np.arange(len(p)) % 2
    table = metrics.reliability(np.where(confidence[:, None] < 1 / 7, p[:, ::-1], p), labels)
    bins = (table[["from", "to"]] * metrics.BINS).round().astype(int)
    assert list(zip(bins["from"], bins["to"], table["faces"])) == expected
    first = slice(0, expected[0][2])
    assert table["confidence"][0] == pytest.approx(confidence[first].mean(), abs=1e-5)
    assert table["accuracy"][0] == pytest.approx((labels[first] == 0).mean(), abs=1e-5)


def written_csv(path, usage=True, n=60):
    usages = {"Usage": [data.USAGES[i % 3] for i in range(n)]} if usage else {}
    return write_csv(path, faces(n, seed=5), "pixels", emotion=np.arange(n) % 7, **usages)


def written_card(path, source, validation="0.2", limit=None, labels=None, seed=3):
    _, held_out, split = data.load_split(source, validation, seed, limit, labels)
    files.write_json(models.card_path(path), {"split": split | {"data": str(source)},
                                              "arguments": {"limit": limit, "validation_labels": labels}})
    return held_out


@pytest.mark.parametrize(("validation", "limit"), [("0.2", None), ("0.5", 11), ("PublicTest", None),
                                                   ("PrivateTest", 9), ("2/3", None), ("own.csv", None)])
def test_the_validation_faces_come_back_from_the_card(tmp_path, monkeypatch, validation, limit):
    monkeypatch.chdir(tmp_path)
    written_csv(tmp_path / "own.csv", usage=False, n=20)
    source = written_csv(tmp_path / "faces.csv")
    held_out = written_card(tmp_path / "m.h5", source, validation, limit)
    recovered = evaluation.validation_faces(tmp_path / "m.h5")
    np.testing.assert_array_equal(recovered.images, held_out.images)
    np.testing.assert_array_equal(recovered.labels, held_out.labels)
    moved = source.rename(tmp_path / "moved.csv")
    assert evaluation.validation_faces(tmp_path / "m.h5", moved).fingerprint() == held_out.fingerprint()


def test_other_data_than_the_cards_is_refused(tmp_path):
    written_card(tmp_path / "m.h5", written_csv(tmp_path / "faces.csv"))
    other = written_csv(tmp_path / "other.csv", n=40)
    with pytest.raises(UserError, match="is not the data that"):
        evaluation.validation_faces(tmp_path / "m.h5", other)
    written_card(tmp_path / "all.h5", tmp_path / "faces.csv", "0")
    with pytest.raises(UserError, match="without a validation split"):
        evaluation.validation_faces(tmp_path / "all.h5")
    with pytest.raises(UserError, match="has no model card"):
        evaluation.validation_faces(tmp_path / "none.h5")


def test_a_second_model_must_share_the_split(tmp_path):
    source = written_csv(tmp_path / "faces.csv")
    for name, share in (("a", "0.2"), ("b", "0.2"), ("c", "0.5")):
        written_card(tmp_path / f"{name}.h5", source, share)
    assert len(evaluation.faces_to_evaluate([tmp_path / "a.h5", tmp_path / "b.h5"]))
    with pytest.raises(UserError, match="may have seen these faces"):
        evaluation.faces_to_evaluate([tmp_path / "a.h5", tmp_path / "c.h5"])
    for validation in ("PublicTest", str(written_csv(tmp_path / "own.csv", usage=False, n=9))):
        for seed in (3, 4):  # which decides nothing here
            written_card(tmp_path / f"{seed}.h5", source, validation, seed=seed)
        assert len(evaluation.faces_to_evaluate([tmp_path / "3.h5", tmp_path / "4.h5"]))


def test_predictions_that_look_like_another_range_or_order_are_said(capsys):
    labels = np.arange(70) % 7
    for predicted, expected in ((np.full(70, 3), "takes 70 of 70 faces for happy"), (labels, None),
                                ((labels + 1) % 7, "is right on 0.0 %, less than by chance")):
        evaluation.warn_about_predictions("m.h5", np.eye(7)[predicted], labels)
        assert (expected or "") in (out := capsys.readouterr().out) and bool(out) == bool(expected)
    evaluation.warn_about_predictions("m.h5", np.eye(7)[[3] * 9], np.full(9, 3))
    assert capsys.readouterr().out == ""


def test_one_of_several_usages_must_be_chosen(tmp_path):
    source = written_csv(tmp_path / "faces.csv")
    assert len(evaluation.faces_to_evaluate([], source, usage="PublicTest")) == 20
    for usage in (None, "Public"):
        with pytest.raises(UserError, match="has rows of Usage PrivateTest, PublicTest, Training; "):
            evaluation.faces_to_evaluate([], source, usage=usage)


SPLIT = {"data": "sample", "fingerprint": "0", "validation": "0.1", "seed": 0}


@pytest.mark.parametrize("card", [
    {}, {"split": []}, {"split": {"data": "sample"}}, {"split": SPLIT, "arguments": 7},
    *({"split": SPLIT | change} for change in ({"data": ["a"]}, {"seed": "0"}, {"seed": -1},
                                               {"validation": None}, {"data": "x" * 5000})),
    *({"split": SPLIT, "arguments": change} for change in ({"limit": "many"}, {"validation_labels": 3}))])
def test_a_card_with_values_of_the_wrong_type_is_one_line(tmp_path, monkeypatch, card):
    others = data.Faces(faces(9), np.zeros(9, np.int64), source="nine faces")
    monkeypatch.setattr(data, "find_data", lambda *args: others)
    files.write_json(models.card_path(tmp_path / "m.h5"), card)
    with pytest.raises(UserError, match=r"m[.]json|is not the data that") as error:
        evaluation.validation_faces(tmp_path / "m.h5")
    assert "\n" not in str(error.value)


def test_duplicates_are_found_byte_for_byte():
    images = faces(6)
    nearly = images.copy()
    nearly[1, 0, 0] ^= 1
    usage = np.array(["Training", "Training", "PublicTest", "Training"])
    seen = evaluation.seen_in(data.Faces(images), data.Faces(nearly[:4], usage=usage))
    assert seen.tolist() == [True, False, False, True, False, False]
