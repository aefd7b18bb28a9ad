"""The networks: the report's layer by layer, the matched one's size, training layers against stock ones."""

import keras
import numpy as np
import pytest

from training import networks, recipes
from utils import structure
from utils.models import MODELS
from utils.sample import sample_faces


def rows(model):
    """[(kind, shape of the output, parameters)] of the layers."""
    return [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in model.layers]


def test_report_cnn_is_the_reports_layer_by_layer():
    assert rows(networks.report_cnn()) == [
        ("InputLayer", (48, 48, 1), 0),
        ("Rescaling", (48, 48, 1), 0),
        ("Conv2D", (46, 46, 32), 320),
        ("Conv2D", (44, 44, 32), 9248),
        ("ReLU", (44, 44, 32), 0),
        ("MaxPooling2D", (22, 22, 32), 0),
        ("Dropout", (22, 22, 32), 0),
        ("Conv2D", (20, 20, 64), 18496),
        ("ReLU", (20, 20, 64), 0),
        ("MaxPooling2D", (10, 10, 64), 0),
        ("Dropout", (10, 10, 64), 0),
        ("Flatten", (6400,), 0),
        ("Dense", (1028,), 6580228),
        ("ReLU", (1028,), 0),
        ("Dropout", (1028,), 0),
        ("Dense", (7,), 7203),
        ("Softmax", (7,), 0),
    ]
    assert networks.report_cnn().count_params() == 6_615_495
    products = 46 * 46 * 9 * 32 + 44 * 44 * 9 * 32 * 32 + 20 * 20 * 9 * 32 * 64 + 6400 * 1028 + 1028 * 7
    assert structure.multiply_adds(networks.report_cnn()) == products


def test_report_dnn_is_the_reports_layer_by_layer():
    assert rows(networks.report_dnn()) == [
        ("InputLayer", (48, 48, 1), 0),
        ("Rescaling", (48, 48, 1), 0),
        ("MaxPooling2D", (24, 24, 1), 0),
        ("Dropout", (24, 24, 1), 0),
        ("ReLU", (24, 24, 1), 0),
        ("MaxPooling2D", (12, 12, 1), 0),
        ("Dropout", (12, 12, 1), 0),
        ("Flatten", (144,), 0),
        ("Dense", (1028,), 149060),
        ("ReLU", (1028,), 0),
        ("Dropout", (1028,), 0),
        ("Dense", (7,), 7203),
        ("Softmax", (7,), 0),
    ]
    assert networks.report_dnn().count_params() == 156_263


@pytest.mark.parametrize("parameters", [300_000, 1_953_991, 6_615_495])
def test_matched_dnn_has_as_many_parameters(parameters):
    assert abs(networks.matched_dnn(parameters).count_params() / parameters - 1) < 0.01


def test_extra_convolutions_and_l2():
    plain, more = networks.report_cnn(), networks.report_cnn(extra_conv=2)
    assert more.count_params() - plain.count_params() == 2 * (64 * 64 * 9 + 64)
    regular = networks.report_cnn(l2=0.01)
    squares = [float(keras.ops.sum(layer.kernel**2)) for layer in regular.layers if hasattr(layer, "kernel")]
    assert float(sum(regular.losses)) == pytest.approx(0.01 * sum(squares), rel=1e-3)


@pytest.mark.parametrize(("name", "kind"), [*((name, "cnn") for name in recipes.CNNS),
                                            *((name, "dnn") for name in recipes.DNNS)])
def test_every_network_takes_raw_faces_and_gives_probabilities(name, kind):
    options = recipes.TrainingOptions(network=name, dropout=0.125)
    build = networks.build_cnn if kind == "cnn" else lambda options: networks.build_dnn(options, 1_953_991)
    network = build(options)
    assert network.name == f"{name}_{kind}"
    assert {layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)} == {0.125}
    probabilities = np.asarray(network(np.full((2, 48, 48, 1), 255, np.float32)))
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert network.get_layer("logits").output.shape == (None, 7)


@pytest.mark.parametrize("build", [
    networks.compact_cnn, lambda: keras.models.load_model(MODELS / "fer2013-compact.h5", compile=False)])
def test_a_plain_call_is_inference(build):
    # It was not with CenterCrop, whose call() has training=True as default, which Keras 3.15 hands on
    network, faces = build(), sample_faces(4)[0][..., None].astype(np.float32)
    np.testing.assert_allclose(network(faces), network(faces, training=False), atol=1e-6)


def test_dropconnect_drops_weights_in_training_only_and_keeps_the_expectation():
    keras.utils.set_random_seed(0)
    layer = networks.DropConnectDense(400, dropconnect=0.4, kernel_initializer="ones")
    x = np.ones((3, 500), np.float32)
    np.testing.assert_allclose(np.asarray(layer(x, training=False)), 500)
    trained = np.asarray(layer(x, training=True))
    kept = trained[0] * 0.6  # number of kept weights of each unit
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-2)
    assert kept.mean() == pytest.approx(300, rel=0.02)
    assert kept.std() == pytest.approx(np.sqrt(500 * 0.4 * 0.6), rel=0.15)
    np.testing.assert_allclose(trained, trained[:1].repeat(3, 0))  # one mask for the batch
    stock, dropping = networks.report_cnn(), networks.report_cnn(dropconnect=0.5)
    assert [w.shape for w in stock.weights] == [w.shape for w in dropping.weights]


def test_the_exported_network_is_of_stock_layers_and_computes_the_same():
    network = networks.compact_cnn()
    assert 1.8e6 < network.count_params() < 2.2e6
    stock = structure.flat_copy(network, dtype="float32")
    assert all(type(layer).__module__.startswith("keras.") for layer in stock.layers)
    x = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 1)).astype(np.float32)
    np.testing.assert_allclose(stock(x), network(x), rtol=1e-4, atol=1e-6)


def test_fused_normalisation_equals_the_stock_layer():
    x = np.random.default_rng(0).normal(3, 2, (8, 6, 6, 5)).astype(np.float32)
    options = {"momentum": 0.9, "epsilon": 1e-4}
    fused, stock = networks.FusedBatchNormalization(**options), keras.layers.BatchNormalization(**options)
    for layer in (fused, stock):
        layer.build(x.shape)
        layer.set_weights([np.arange(1, 6) / 2, np.arange(5) - 2.0, np.zeros(5), np.ones(5)])
    np.testing.assert_allclose(fused(x, training=True), stock(x, training=True), atol=1e-4)
    np.testing.assert_allclose(fused.moving_mean, stock.moving_mean, rtol=1e-5)
    # Fused: divides by n - 1
    np.testing.assert_allclose(fused.moving_variance, stock.moving_variance, rtol=5e-3)
    np.testing.assert_allclose(fused(x, training=False), stock(x, training=False), rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize(("side", "precision", "is_small"), [(5, "bfloat16", True), (5, "float32", False),
                                                             (10, "bfloat16", False)])
def test_small_maps_have_the_gradient_of_the_stock_convolution(side, precision, is_small):
    import tensorflow as tf

    rng = np.random.default_rng(side)
    maps, upstream = (rng.normal(size=(4, side, side, depth)).astype(np.float32) for depth in (6, 8))
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    ours = networks.SmallMapConv2D(8, 3, padding="same", use_bias=False, dtype=policy)
    # A large map takes TensorFlow's own kernel, which without native bfloat16 is itself wrong by 2 %
    stock = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, dtype="float32" if is_small else policy)
    for layer in (ours, stock):
        layer.build(maps.shape)
    stock.set_weights(ours.get_weights())

    def gradients(layer, maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_sum(tf.cast(layer(maps), "float32") * upstream)
        return tape.gradient(loss, [maps, layer.kernel.value])

    for found, expected in zip(gradients(ours, tf.constant(maps)), gradients(stock, tf.constant(maps))):
        found, expected = (np.asarray(tf.cast(gradient, "float32")) for gradient in (found, expected))
        assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
    graph = tf.function(lambda maps: gradients(ours, maps)).get_concrete_function(tf.constant(maps)).graph
    kernels = [operation.type for operation in graph.get_operations()]
    assert ("Conv2DBackpropFilter" not in kernels) == is_small
