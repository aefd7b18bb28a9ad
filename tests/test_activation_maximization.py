"""Gradient ascent ascends, finds what was planted, and its accounts of the network and the data are
true."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.feature_selection import f_classif

from utils import structure
from utils.cli import UserError

pytest.importorskip("tensorflow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients are TensorFlow's", allow_module_level=True)

import explain
from explain import activation_maximization as maximization
from explain import receptive_field
from explain.activation_maximization import Fourier, Pixel

EDGE = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, -1, -1], [0, -1, -1, -1, -1],
                 [-1, -1, -1, -1, -1]], np.float32)


def network(size=24, padding="same"):
    """A small net with each kind of layer that moves a receptive field."""
    keras.utils.set_random_seed(3)
    face = keras.Input((size, size, 1))
    x = layers.Rescaling(1 / 255)(face)
    x = layers.Conv2D(4, 3, padding=padding, name="conv1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(6, 3, strides=2, padding=padding, activation="relu", name="conv2")(x)
    x = layers.BatchNormalization(name="norm2")(x)
    x = layers.Flatten()(x)
    return keras.Model(face, layers.Dense(7, activation="softmax", name="out")(x))


def edge_network():
    """One planted filter: an oriented edge, among random ones."""
    model = keras.Sequential([keras.Input((48, 48, 1)), layers.Rescaling(1 / 255),
                              layers.Conv2D(3, 5, activation="relu", name="edges"),
                              layers.GlobalAveragePooling2D(),
                              layers.Dense(7)])
    kernel, bias = model.get_layer("edges").get_weights()
    kernel[..., 0, 1] = EDGE
    model.get_layer("edges").set_weights([kernel, bias])
    return model


def ascend(model, name, objective="channel", channels=(0, 1, 2), sign=1, **options):
    """Images, activations and the canvas."""
    canvas = maximization.cut_canvas(structure.flat_copy(model), name, objective)
    return *maximization.ascend(canvas, channels, sign, **{"steps": 60} | options), canvas


def score(canvas, images, channel, objective="channel", sign=1):
    features = canvas.network(images[..., None])
    return sign * maximization.activation(features, np.full(len(images), channel, np.int32), objective, sign,
                                          canvas.unit).numpy()


@pytest.mark.parametrize(("objective", "layer"), [("channel", "relu1"), ("neuron", "conv2")])
def test_ascent_beats_the_best_of_many_random_images(objective, layer):
    images, activations, canvas = ascend(network(), layer, objective, steps=100)
    noise = np.random.default_rng(0).uniform(0, 255, (1000, *canvas.size)).astype(np.float32)
    best = np.array([score(canvas, noise, channel, objective).max() for channel in range(3)])
    assert (activations > best).all() and (activations - best).max() > 0.3 * np.abs(best).max()
    assert images.min() >= 0 and images.max() <= 255
    assert images.dtype == np.float32 and images.shape == (3, *canvas.size)


def test_a_planted_edge_is_recovered():
    images, _, canvas = ascend(edge_network(), "edges", "neuron", steps=150)
    assert canvas.size == (5, 5)
    assert np.corrcoef(images[1].ravel(), EDGE.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("parametrization", [Fourier(), Pixel()])
def test_the_minimum_is_below_the_maximum(parametrization):
    low, high = (ascend(network(), "relu1", "neuron", parametrization=parametrization, sign=sign)[1]
                 for sign in (-1, 1))
    assert (low < high).all() and (ascend(network(), "relu1", sign=-1)[1] <= 0).all()


@pytest.mark.parametrize("objective", ["channel", "neuron"])
def test_ascent_in_bfloat16_gets_as_high(objective):
    half, full = (ascend(network(), "conv2", objective, (0, 1, 4), precision=precision)[1]
                  for precision in ("mixed_bfloat16", "float32"))
    assert half.dtype == np.float32 and (half != full).any()
    np.testing.assert_allclose(half, full, rtol=0.15)


def test_the_seed_decides():
    first, second, other = (ascend(network(), "relu1", seed=seed, steps=5)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 10


def test_batches_bound_memory_and_do_not_change_the_start(monkeypatch):
    whole, *_ = ascend(network(), "relu1", steps=0)
    monkeypatch.setattr(explain, "PIXELS", 2 * whole[0].size)
    parts, activations, _ = ascend(network(), "relu1", steps=0)
    np.testing.assert_allclose(whole, parts, atol=1e-3)
    assert parts.shape == whole.shape and activations.shape == (3,)


def test_a_filter_that_nearly_nothing_excites_is_started():
    """Its bias lets only an edge of four fifths of full contrast through, which smooth noise never has."""
    model = edge_network()
    kernel, bias = model.get_layer("edges").get_weights()
    bias[1] = -0.8 * EDGE[EDGE > 0].sum()
    model.get_layer("edges").set_weights([kernel, bias])
    _, noise, _ = ascend(model, "edges", steps=1)
    images, activations, canvas = ascend(model, "edges", steps=150)
    assert noise[1] == 0 and activations[1] > 0
    values = np.asarray(canvas.network(images[1][None, ..., None]))[0, ..., 1]
    np.testing.assert_allclose(activations[1], np.maximum(values, 0).mean(), rtol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_image_on_the_way_is_kept(monkeypatch, sign):
    values, compiled = [], maximization.compiled_ascent

    def recording(*arguments):
        run_steps, measure = compiled(*arguments)

        def measure_and_record(*state):
            images, reached = measure(*state)
            values.append(reached.numpy())
            return images, reached

        return run_steps, measure_and_record

    monkeypatch.setattr(maximization, "BETWEEN_MEASURES", 5)
    monkeypatch.setattr(maximization, "compiled_ascent", recording)
    images, activations, canvas = ascend(network(), "relu1", sign=sign, steps=100)
    assert len(values) == 21
    np.testing.assert_array_equal(sign * activations, np.max(sign * np.stack(values), axis=0))
    for i in range(3):
        np.testing.assert_allclose(score(canvas, images[i:i + 1], i, sign=sign)[0], activations[i],
                                   rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [24, 27])
@pytest.mark.parametrize("name", ["conv1", "pool1", "norm2"])
def test_receptive_field_is_the_footprint_of_the_gradient(name, size, padding):
    import tensorflow as tf

    model = network(size, padding)
    part = keras.Model(model.inputs[0], model.get_layer(name).output)
    unit = tuple(n // 2 for n in part.output_shape[1:3])
    x = tf.constant(np.random.default_rng(0).uniform(0, 255, (64, size, size, 1)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(part(x)[:, unit[0], unit[1]])
    seen = np.argwhere(np.abs(tape.gradient(value, x).numpy()).sum((0, 3)) > 0)
    low, high = receptive_field.fields(model)[name].box(unit)
    np.testing.assert_array_equal(seen.min(0), np.maximum(low, 0))
    np.testing.assert_array_equal(seen.max(0) + 1, np.minimum(high, size))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [41, 48])
def test_a_unit_has_the_same_value_on_its_canvas_as_on_the_whole_image(size, padding):
    model = network(size, padding)
    canvas = maximization.cut_canvas(model, "conv2", "neuron")
    assert max(canvas.size) < size / 2
    whole = keras.Model(model.inputs[0], receptive_field.split_relu(model, ["conv2"]).outputs[0])
    unit = [n // 2 for n in whole.output_shape[1:3]]
    low, _ = receptive_field.fields(model)["conv2"].box(unit)
    face = np.random.default_rng(0).uniform(0, 255, (1, size, size, 1)).astype(np.float32)
    top, left = low - canvas.box[0]
    crop = face[:, top:top + canvas.size[0], left:left + canvas.size[1]]
    np.testing.assert_allclose(np.asarray(canvas.network(crop))[0, canvas.unit[0], canvas.unit[1]],
                               np.asarray(whole(face))[0, unit[0], unit[1]], rtol=1e-4, atol=1e-5)


def test_a_central_crop_is_left_out_of_the_canvas():
    face = keras.Input((48, 48, 1))
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="conv")(layers.CenterCrop(40, 40)(face))
    model = keras.Model(face, layers.Dense(7)(layers.GlobalMaxPooling2D()(x)))
    canvas = maximization.cut_canvas(model, "conv", "neuron")
    assert canvas.size == (3, 3) and canvas.network.input_shape == (None, 3, 3, 1)


def test_stages_end_at_the_last_activation_before_the_map_shrinks():
    from training import networks

    for model, ends in ((networks.report_cnn(), ["conv2_relu", "conv3_relu"]),
                        (network(), ["relu1", "conv2"])):
        assert receptive_field.stage_ends(model) == ends
    assert receptive_field.stage_ends(networks.compact_cnn())[-1] == "stage3_relu3"
    with pytest.raises(UserError, match="no convolution"):
        receptive_field.stage_ends(networks.report_dnn())


def test_eta_squared_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    values, labels = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    f = f_classif(values, labels)[0]
    values[:, 3], f[3] = 5, 0
    np.testing.assert_allclose(maximization.eta_squared(values, labels), 2 * f / (2 * f + 57))


def test_responses_patches_and_dead_filters(monkeypatch):
    model = network()
    kernel, bias = model.get_layer("conv1").get_weights()
    kernel[..., 2], bias[2] = 0, -1
    model.get_layer("conv1").set_weights([kernel, bias])
    images = np.random.default_rng(0).integers(0, 256, (9, 24, 24), np.uint8)
    images[5] = images[4]
    monkeypatch.setattr(explain, "PIXELS", 4 * 24 * 24)
    responses = maximization.measure_responses(model, ["relu1", "conv1"], images)
    found = responses["relu1"]
    part = keras.Model(model.inputs[0], model.get_layer("relu1").output)
    maps = np.asarray(part(images[..., None].astype(np.float32)))
    np.testing.assert_allclose(found.mean, maps.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(maximization.dead_and_rare(found)[0], [False, False, True, False])
    responses["conv1"].peak[:] -= 100  # without a ReLU, what is always negative may still tell images apart
    responses["conv1"].low_peak[:] -= 100
    np.testing.assert_array_equal(maximization.dead_and_rare(responses["conv1"])[0],
                                  [False, False, True, False])
    rows, units = maximization.best_images(found, 0, 3, np.array([0, 1, 2, 3, 4, 4, 6, 7, 8]))
    peaks = maps[..., 0].max((1, 2))
    assert rows[0] == peaks.argmax() and (np.diff(peaks[rows]) <= 0).all() and not {4, 5} <= set(rows)
    y, x = np.unravel_index(maps[rows[0], ..., 0].argmax(), maps.shape[1:3])
    assert tuple(units[0]) == (y, x)
    padded = np.pad(images[rows[0]].astype(np.float32), 1, constant_values=np.nan)
    patch = receptive_field.patch(images[rows[0]], receptive_field.fields(model)["relu1"], units[0])
    np.testing.assert_array_equal(patch, padded[y:y + 3, x:x + 3])


def test_rare_filters_respond_to_few_images():
    peak = np.ones((200, 3))
    peak[1:, 1] = peak[:, 2] = -1
    for rectified in (True, False):
        found = maximization.Responses(peak, peak, peak, peak, peak, 1, rectified)
        dead, rare = maximization.dead_and_rare(found)
        assert dead.tolist() == [not rectified, False, True] and rare.tolist() == [False, rectified, False]


# ---- what images look like ---------------------------------------------------------------------------------


def grating(orientation, frequency, size=(24, 24), wave=np.sin):
    """Stripes 0-255 in a direction, degrees counter-clockwise from horizontal, frequency in cycles per px."""
    across, down = np.sin(np.deg2rad(orientation)), np.cos(np.deg2rad(orientation))
    y, x = np.mgrid[:size[0], :size[1]]
    return 127.5 + 127.5 * wave(2 * np.pi * frequency * (x * across + y * down) + 1)


@pytest.mark.parametrize("wave", [np.sin, lambda phase: np.sign(np.sin(phase))])
@pytest.mark.parametrize("size", [(24, 24), (30, 40)])
def test_gratings_are_stripes_of_their_direction_and_frequency(wave, size):
    orientations, frequencies = np.repeat([0, 15, 45, 75, 90, 120, 165], 3), np.tile([0.12, 0.2, 0.31], 7)
    found = maximization.describe(np.stack([
        grating(*each, size, wave) for each in zip(orientations, frequencies)]))
    assert found.stripes.all() and (found.anisotropy > (0.9 if wave is np.sin else 0.65)).all()
    apart = (found.orientation - orientations + 90) % 180 - 90
    assert np.abs(apart).max() < (2 if wave is np.sin else 10)  # a staircase of pixels has its own directions
    np.testing.assert_allclose(found.frequency, frequencies, atol=0.015)
    np.testing.assert_allclose(found.cycles, found.frequency * size[0])


def test_noise_spots_edges_and_blank_images_are_no_stripes():
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:30, :30] - 14.5
    white = rng.uniform(0, 255, (300, 30, 30))
    smooth = np.asarray(Fourier().image(Fourier().start(rng, 300, (30, 30)), (30, 30)))  # where ascent begins
    spot = 255 * np.exp(-(x ** 2 + y ** 2) / 20)
    edge = 255.0 * (np.cos(0.3) * x + np.sin(0.3) * y > 0)
    plaid = (grating(30, 0.2, (30, 30)) + grating(120, 0.2, (30, 30))) / 2
    found = maximization.describe(np.stack([spot, edge, plaid, np.full((30, 30), 77)]))
    assert not found.stripes.any() and (found.anisotropy[[0, 2, 3]] < 0.05).all()
    assert found.anisotropy[1] > 0.6 and found.orientation[1] == pytest.approx(90 - np.rad2deg(0.3), abs=5)
    assert not maximization.describe(white).stripes.any()
    assert maximization.describe(smooth).stripes.mean() <= 0.02


def test_stripes_keep_their_description_when_noise_is_added_and_turn_with_the_image():
    noise = np.random.default_rng(1).normal(0, 60, (20, 32, 32))
    clean, noisy = (maximization.describe(grating(30, 0.25, (32, 32)) + part) for part in (0 * noise, noise))
    assert noisy.stripes.all() and (noisy.anisotropy < clean.anisotropy).all()
    np.testing.assert_allclose(noisy.orientation, 30, atol=5)
    turned = maximization.describe(np.rot90(grating(30, 0.25, (32, 32)))[None])
    assert turned.orientation[0] == pytest.approx(120, abs=1)
    np.testing.assert_allclose(turned.anisotropy, clean.anisotropy[:1])


def test_light_and_dark_are_thirds_of_the_grey_levels():
    found = maximization.describe(np.full((5, 9, 9), 1.0) * np.array([0, 84, 127, 171, 255])[:, None, None])
    assert found.tone.tolist() == ["dark", "dark", "grey", "light", "light"]
    np.testing.assert_allclose(found.brightness, [0, 84, 127, 171, 255])
