"""Attribution maps are what their papers say, on networks small enough to know the answer."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import explain
from explain import attribution, receptive_field, subjects
from explain import faithfulness as checks
from utils import models, structure
from utils.cli import UserError

SIZE = 16
rng = np.random.default_rng(0)
FACES = rng.uniform(0, 255, (5, SIZE, SIZE)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 1, 0])
CHANNEL_WEIGHTING = ("grad-cam", "grad-cam++", "score-cam")  # as a whole: the place is the channel's own


def small(seed=0, relu="layer", nested=False, channels=1):
    """A trained-looking classifier: biases are not zero, so that no identity holds by accident."""
    keras.utils.set_random_seed(seed)
    activation = None if relu == "layer" else relu
    first, second = ([layers.ReLU()] if relu == "layer" else [] for _ in range(2))
    body = keras.Sequential([
        keras.Input((SIZE, SIZE, channels)), layers.Conv2D(4, 3, name="conv1", activation=activation), *first,
        layers.MaxPooling2D(2), layers.Conv2D(6, 3, name="conv2", activation=activation), *second],
        name="body")
    image = keras.Input((SIZE, SIZE, channels))
    x = layers.Rescaling(1 / 255)(image)
    if nested:
        x = body(x)
    else:
        for layer in body.layers:
            x = layer(x)
    x = layers.Dense(8, activation="relu" if relu == "relu" else None)(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    for weight in model.weights:
        if "bias" in weight.name:
            weight.assign(np.random.default_rng(seed).normal(0, 0.1, weight.shape))
    return model


def one_corner(channels=1):
    """A classifier that sees rows 2-5 and columns 9-12 only, by weights that are zero elsewhere."""
    image = keras.Input((SIZE, SIZE, channels))
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(x)))
    kernel = np.eye(9)[4].reshape(3, 3, 1, 1) * np.ones((3, 3, channels, 2)) / channels
    model.get_layer("conv").set_weights([kernel, np.zeros(2)])
    kernel = np.zeros((SIZE, SIZE, 2, 3))
    kernel[2:6, 9:13, 0] = [1, -1, 0.2]
    kernel[2:6, 9:13, 1] = [1, -0.2, 0.1]
    model.get_layer("logits").set_weights([kernel.reshape(-1, 3), np.zeros(3)])
    return model


@pytest.fixture(scope="module")
def logits():
    return structure.logits_model(small())


def score(model, images, targets):
    return models.predict(model, images)[np.arange(len(images)), targets]


@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_is_the_finite_difference(channels):
    model = structure.logits_model(small(channels=channels))
    made = attribution.attribute(model, FACES, TARGETS, "gradient")
    assert made.shape == FACES.shape and made.dtype == np.float32
    way = np.random.default_rng(1).normal(size=FACES.shape).astype(np.float32)
    up, down = (score(model, FACES + step * way, TARGETS) for step in (0.25, -0.25))
    np.testing.assert_allclose((made * way).sum((1, 2)), (up - down) / 0.5, rtol=0.03, atol=2e-3)


def test_gradient_x_input_and_contrastive_targets(logits):
    np.testing.assert_allclose(attribution.attribute(logits, FACES, TARGETS, "gradient-x-input"),
                               FACES * attribution.attribute(logits, FACES, TARGETS, "gradient"), rtol=1e-5)
    targets = attribution.contrastive(np.array([[3.0, 1, 2]]))
    np.testing.assert_array_equal(targets, [[1, 0, -1]])
    first, third = (attribution.attribute(logits, FACES[:1], np.array([c]), "gradient") for c in (0, 2))
    np.testing.assert_allclose(attribution.attribute(logits, FACES[:1], targets, "gradient"), first - third,
                               atol=1e-6)


@pytest.mark.parametrize("baseline", attribution.FILLS)
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(logits, baseline):
    maps = attribution.attribute(logits, FACES, TARGETS, "integrated-gradients", baseline=baseline, steps=256)
    base = attribution.filled(FACES, baseline)
    difference = score(logits, FACES, TARGETS) - score(logits, base, TARGETS)
    np.testing.assert_allclose(maps.sum((1, 2)), difference, rtol=0.02, atol=0.02)
    error = attribution.completeness_error(logits, FACES, TARGETS, maps, baseline)
    np.testing.assert_allclose(error, np.abs(maps.sum((1, 2)) - difference), atol=1e-5)
    wrong = attribution.completeness_error(logits, FACES, TARGETS, maps + 1, baseline)
    assert (wrong > error).all()


def test_noisy_gradients_are_moments_of_gradients_and_do_not_depend_on_the_batch(logits):
    three = ["smoothgrad", "squaregrad", "vargrad"]
    made = attribution.attribute_all(logits, FACES, TARGETS, three, samples=10, seed=3)
    np.testing.assert_allclose(made["vargrad"], made["squaregrad"] - made["smoothgrad"] ** 2, atol=1e-6)
    again = attribution.attribute(logits, FACES[:2], TARGETS[:2], "smoothgrad", samples=10, seed=3)
    np.testing.assert_allclose(again, made["smoothgrad"][:2], atol=1e-6)
    quiet = attribution.attribute_all(logits, FACES, TARGETS, three, samples=4, noise=0)
    np.testing.assert_allclose(quiet["smoothgrad"], attribution.attribute(logits, FACES, TARGETS, "gradient"),
                               atol=1e-6)
    assert np.abs(quiet["vargrad"]).max() < 1e-10


def test_chunks_change_nothing(logits, monkeypatch):
    methods = ["gradient", "integrated-gradients", "grad-cam", "score-cam", "occlusion", "rise"]
    whole = attribution.attribute_all(logits, FACES, TARGETS, methods, steps=7, masks=9)
    monkeypatch.setattr(explain, "PIXELS", 2 * SIZE * SIZE)
    parts = attribution.attribute_all(logits, FACES, TARGETS, methods, steps=7, masks=9)
    for method in methods:
        np.testing.assert_allclose(parts[method], whole[method], atol=1e-4)


@pytest.mark.parametrize("kind", [{"relu": "layer"}, {"relu": "relu"}, {"relu": "layer", "nested": True},
                                  {"relu": "relu", "nested": True}, {"relu": "relu6"}], ids=str)
def test_guided_backprop_is_not_the_gradient_whatever_the_relu(kind):
    model = structure.logits_model(small(**kind))
    guided, plain = (attribution.attribute(model, FACES, TARGETS, m) for m in ("guided-backprop", "gradient"))
    assert np.abs(guided - plain).max() > 0.05 * np.abs(plain).max()
    np.testing.assert_array_equal(plain, attribution.attribute(model, FACES, TARGETS, "gradient"))


def test_guided_backprop_by_hand():
    image = keras.Input((2, 2, 1))
    x = layers.ReLU()(layers.Dense(2, use_bias=False, name="hidden")(layers.Flatten()(image)))
    model = keras.Model(image, layers.Dense(2, use_bias=False, name="logits")(x))
    model.get_layer("hidden").set_weights([np.array([[1, 2], [3, -1], [0, 1], [1, 1.0]])])
    model.get_layer("logits").set_weights([np.array([[1, 0], [-1, 1.0]])])
    face, target = np.ones((1, 2, 2), np.float32), np.array([0])
    np.testing.assert_allclose(attribution.attribute(model, face, target, "gradient"), [[[-1, 4], [-1, 0]]])
    np.testing.assert_allclose(attribution.attribute(model, face, target, "guided-backprop"),
                               [[[1, 3], [0, 1]]])


def test_cams_by_hand():
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 1, use_bias=False, name="conv")(image)
    model = keras.Model(image, layers.Dense(2, use_bias=False, name="logits")(layers.Flatten()(x)))
    model.get_layer("conv").set_weights([np.array([[[[1.0, -0.5]]]])])
    kernel = np.random.default_rng(2).normal(size=(4, 4, 2, 2))
    model.get_layer("logits").set_weights([kernel.reshape(-1, 2)])
    face = np.random.default_rng(3).uniform(0, 9, (1, 4, 4)).astype(np.float32)
    features = face[0, ..., None] * np.array([1, -0.5])
    slope = kernel[..., 1]
    alpha = slope**2 / (2 * slope**2 + features.sum((0, 1)) * slope**3)
    expected = {"grad-cam": (slope.mean((0, 1)) * features).sum(-1),
                "grad-cam++": ((alpha * np.maximum(slope, 0)).sum((0, 1)) * features).sum(-1),
                "layer-cam": (np.maximum(slope, 0) * features).sum(-1),
                "hires-cam": (slope * features).sum(-1)}
    made = attribution.attribute_all(model, face, np.array([1]), list(expected))
    for method, by_hand in expected.items():
        np.testing.assert_allclose(made[method][0], np.maximum(by_hand, 0), rtol=1e-4, atol=1e-4)


def test_score_cam_by_hand(logits):
    layer = attribution.cam_layer(logits)
    made = attribution.attribute(logits, FACES[:1], TARGETS[:1], "score-cam", fill="black")
    features = keras.Model(logits.inputs,
                           logits.get_layer(layer).output).predict_on_batch(FACES[:1, ..., None])[0]
    field = receptive_field.fields(logits)[layer]
    rows, columns = (receptive_field.interpolation(field, features.shape[axis], SIZE, axis)
                     for axis in (0, 1))
    stretched = np.einsum("ph,hwk,qw->kpq", rows, features, columns)
    alive = stretched[np.ptp(features, axis=(0, 1)) > 0]
    scores = score(logits, np.stack([FACES[0] * (m - m.min()) / np.ptp(m) for m in alive]), [0] * len(alive))
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(made[0], np.maximum(np.tensordot(weights, alive, 1), 0), rtol=1e-3, atol=1e-4)


def test_cams_look_at_the_end_of_the_last_stage(logits):
    image = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(4, 3, padding="same", name="a")(image)
    x = layers.ReLU(name="c")(layers.BatchNormalization(name="b")(x))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(layers.MaxPooling2D()(x)))
    assert attribution.cam_layer(keras.Model(image, layers.Dense(3)(x))) == "c"
    with pytest.raises(UserError, match=r"no layer 'x' with feature maps; choose one of .*conv1, .*conv2"):
        attribution.cam_layer(logits, "x")


@pytest.mark.parametrize("seed", range(6))
def test_feature_maps_lie_where_their_receptive_fields_are(seed):
    draw = np.random.default_rng(seed)
    image = x = keras.Input((64, 64, 1))
    options = [lambda x: layers.Conv2D(1, int(draw.choice([1, 3, 5])), strides=int(draw.choice([1, 2])),
                                       padding=str(draw.choice(["same", "valid"])),
                                       kernel_initializer="ones")(x),
               lambda x: layers.AveragePooling2D(2)(x),
               lambda x: layers.CenterCrop(x.shape[1] - 4, x.shape[2] - 2)(x),
               lambda x: layers.ZeroPadding2D(((1, 0), (2, 1)))(x),
               lambda x: layers.Cropping2D(((1, 2), (0, 1)))(x)]
    for option in draw.permutation(len(options)):
        x = options[option](x)
    x = layers.Conv2D(1, 3, kernel_initializer="ones", name="last")(x)
    field_of_last = receptive_field.fields(keras.Model(image, x))["last"]
    height, width = x.shape[1:3]
    cell = (height // 2, width // 2)  # away from the edges a field is symmetric around its centre
    picked = keras.Model(image, layers.Flatten()(x))
    target = np.array([cell[0] * width + cell[1]])
    field = attribution.attribute(picked, np.ones((1, 64, 64)), target, "gradient")[0]
    for axis, at in enumerate(cell):
        profile = field.sum(1 - axis)
        centre = (profile * np.arange(64)).sum() / profile.sum()
        rows = receptive_field.interpolation(field_of_last, x.shape[axis + 1], 64, axis)
        assert abs((rows[:, at] * np.arange(64)).sum() / rows[:, at].sum() - centre) < 0.35


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", [m for m in attribution.METHODS if m not in CHANNEL_WEIGHTING])
def test_every_method_finds_the_planted_feature_at_its_place(method, channels):
    model = one_corner(channels)
    options = {"patch": 4, "stride": 2, "cells": 8, "masks": 1500, "samples": 8, "steps": 8}
    maps = attribution.attribute(model, FACES[:2], np.array([0, 0]), method, fill="black", **options)
    values = np.maximum(attribution.strength(maps, method), 0)
    inside = values[:, 2:6, 9:13].mean((1, 2))
    outside = (values.sum((1, 2)) - 16 * inside) / (SIZE * SIZE - 16)
    assert (inside > 3 * outside).all(), (inside, outside)
    assert (np.abs(values.reshape(2, -1).argmax(1) // SIZE - 3.5) <= 3).all()
    assert (np.abs(values.reshape(2, -1).argmax(1) % SIZE - 10.5) <= 3).all()


@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (5, 3), (5, 5), (20, 4)])
def test_every_patch_of_occlusion_hides_the_same_area_and_every_pixel_is_reached(patch, stride):
    image = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(image, layers.Dense(2, kernel_initializer="ones")(layers.Flatten()(image)))
    made = attribution.attribute(model, np.ones((1, SIZE, SIZE)), np.array([0]), "occlusion", patch=patch,
                                 stride=stride, fill="black")
    np.testing.assert_allclose(made, min(patch, SIZE) ** 2, rtol=1e-4)


@pytest.mark.parametrize("method", CHANNEL_WEIGHTING)
def test_channel_weighting_methods_find_a_planted_patch(method):
    """A detector of one bright bar, averaged over the face: its feature map is where the bar is."""
    image = keras.Input((SIZE, SIZE, 1))
    x = layers.ReLU()(layers.Conv2D(2, 3, padding="same", name="conv")(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x)))
    bar = np.stack([np.tile([-1, 2, -1], (3, 1)), np.ones((3, 3))], -1)[:, :, None]
    model.get_layer("conv").set_weights([bar, np.array([-1.0, 0])])
    model.get_layer("logits").set_weights([np.array([[100.0, -100], [-0.1, 0.1]]), np.zeros(2)])
    face = np.full((1, SIZE, SIZE), 60, np.float32)
    face[0, 3:7, 11] = 255
    values = attribution.attribute(model, face, np.array([0]), method)
    assert 3 <= values[0].argmax() // SIZE <= 6 and values[0].argmax() % SIZE == 11


@pytest.mark.parametrize("method", attribution.METHODS)
def test_blank_is_reported_and_never_nan(method):
    model = structure.logits_model(small())
    for weight in model.weights:
        weight.assign(weight * 0)
    maps = attribution.attribute(model, np.zeros((2, SIZE, SIZE)), np.array([0, 1]), method, masks=20,
                                 samples=2, steps=2)
    assert np.isfinite(maps).all() and attribution.is_blank(maps).all()


def test_keeping_and_ranks_are_the_right_way_round():
    values = np.arange(12.0).reshape(1, 3, 4)
    kept = checks.masked(np.ones((1, 3, 4)), checks.most_salient(values, 0.25), "black")
    np.testing.assert_array_equal(kept[0], [[0] * 4, [0] * 4, [0, 1, 1, 1]])
    assert checks.most_salient(np.ones((2, 10, 10)), 0.3).sum() == 60
    left = checks.masked(FACES, checks.most_salient(FACES, 0.1))
    assert left[0].max() == FACES[0].max() and (left == FACES.mean((1, 2))[:, None, None]).mean() > 0.85


def test_masks_keep_nothing_that_speaks_against_the_class():
    values = np.array([[[3.0, -9, 0, 2]], [[1, 2, 3, 4]], [[-1, -2, 0, 0]]])
    np.testing.assert_array_equal(checks.most_salient(values, 0.75).sum((1, 2)), [2, 3, 0])
    np.testing.assert_array_equal(checks.most_salient(values, [0.25, 0.5, 1.0])[:, 0],
                                  [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]])
    for method in ("integrated-gradients", "gradient-x-input", "occlusion", "rise"):
        assert attribution.strength(values, method).min() == -9
    assert attribution.strength(values, "gradient").min() == 0


def test_curves_run_between_the_face_and_the_fill_and_reward_the_true_map():
    model = one_corner()
    values = attribution.strength(attribution.attribute(model, FACES, np.zeros(5, int), "gradient"),
                                  "gradient")
    p = subjects.probabilities(model, FACES)[:, 0]
    for ranked in (values, -values):
        deletion, insertion = checks.curves(model, FACES, np.zeros(5, int), ranked)
        np.testing.assert_allclose(deletion[:, 0], p, rtol=1e-5)
        np.testing.assert_allclose(insertion[:, -1], p, rtol=1e-5)
        np.testing.assert_allclose(insertion[:, 0], deletion[:, -1], rtol=1e-5)
    true, false = (checks.curves(model, FACES, np.zeros(5, int), ranked, "black")[0]
                   for ranked in (values, -values))
    assert (true.mean(1) < false.mean(1)).all()


def test_numbers_of_known_maps():
    a = rng.normal(size=(3, 12, 12))
    np.testing.assert_allclose(checks.spearman(a, np.exp(a)), 1)
    np.testing.assert_allclose(checks.spearman(a, -a), -1)
    assert checks.spearman(a, 0 * a).tolist() == [0, 0, 0]
    np.testing.assert_allclose(checks.ssim(np.abs(a), 5 * np.abs(a)), 1, atol=1e-5)


def test_randomisation_leaves_the_model_alone_and_draws_from_each_layers_initializer():
    image = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(4, 3, name="conv", kernel_initializer=keras.initializers.Constant(0.3),
                      use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    model = keras.Model(image, layers.Dense(3, name="logits", bias_initializer="ones")(layers.Flatten()(x)))
    for weight in model.weights:
        weight.assign(np.random.default_rng(4).uniform(0.1, 1, weight.shape))
    before, drawn = [w.copy() for w in model.get_weights()], []
    real = attribution.attribute_all

    def watch(network, *arguments, **options):
        drawn.append({layer.name: layer.get_weights() for layer in network.layers})
        return real(network, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "attribute_all", watch)
        result = checks.cascade(model, FACES, TARGETS, ["gradient", "grad-cam"])
    assert list(result.method) == ["gradient", "gradient", "grad-cam", "grad-cam"]
    assert list(result.randomized_down_to) == ["logits", "conv", "logits", "conv"]
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(drawn[-2]["conv"][0], before[0])  # from the top: logits first
    assert (drawn[-2]["logits"][1] == 1).all() and drawn[-2]["logits"][0].min() < 0
    assert np.allclose(drawn[-1]["conv"][0], 0.3) and (drawn[-1]["norm"][3] == 1).all()
    assert np.isfinite(result[["rank_correlation", "ssim"]]).all(axis=None)


def test_randomisation_does_not_return_to_the_weights_before_training():
    keras.utils.set_random_seed(0)
    model = structure.logits_model(small(seed=0))
    result = checks.cascade(model, FACES, TARGETS, ["gradient"], seed=0)
    assert result.rank_correlation.iloc[-1] < 0.5 and not checks.upper_half(result).at["gradient", "fails"]


def test_a_method_fails_whose_maps_survive_the_upper_half_by_both_measures():
    stays, goes = [0.9, 0.8, 0.0, 0.0], [0.0, 0.0, 0.8, 0.9]  # stays until the lowest layers are re-drawn
    cascade = pd.concat(pd.DataFrame({"method": name, "randomized_down_to": ["d", "c", "b", "a"],
                                      "rank_correlation": ranks, "ssim": ssims})
                        for name, ranks, ssims in (("both", stays, stays), ("ssim", goes, stays),
                                                   ("rank", stays, goes), ("none", goes, goes)))
    result = checks.upper_half(cascade)
    assert result.index[result.fails].tolist() == ["both"]
    np.testing.assert_allclose(result.loc["rank", ["rank_correlation", "ssim"]].astype(float), [0.85, 0])


def test_stages_of_a_deep_network_are_grouped():
    model = keras.applications.MobileNetV2((48, 48, 3), alpha=0.35, weights=None, classes=7)
    groups = checks.stages(model)
    assert len(groups) == 12 and groups[0][0] == "predictions" and groups[-1][-1] == "Conv1"
    assert sum(map(len, groups)) == sum(bool(layer.weights) for layer in model.layers)
