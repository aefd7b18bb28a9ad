"""Any Keras classifier becomes a model of logits: softmax as a layer, as an activation, nested, loaded, stock."""

import keras
import numpy as np
import pytest
from keras import layers

from utils import models


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sequential(last):
    return keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(3, 3, activation="relu", name="conv"),
                             layers.GlobalAveragePooling2D(name="pool"), *last])


def nested():
    base = sequential([])
    head = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="conv"), layers.Softmax(name="pool")], name="head")
    image = keras.Input((12, 12, 1))
    return keras.Model(image, head(base(layers.Rescaling(1 / 255)(image), training=False)))


def convolutional():
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(4, 12, activation="softmax")(image)
    return keras.Model(image, layers.Dropout(0.1)(layers.Flatten()(x)))


def operation():
    image = keras.Input((12, 12, 1))
    x = layers.Dense(4)(keras.ops.relu(layers.Flatten()(image)))
    return keras.Model(image, keras.ops.softmax(x))


PROBABILITIES = {
    "softmax layer": lambda: sequential([layers.Dense(4), layers.Softmax()]),
    "softmax activation layer": lambda: sequential([layers.Dense(4), layers.Activation("softmax")]),
    "softmax dense": lambda: sequential([layers.Dense(4, activation="softmax")]),
    "layer called logits": lambda: sequential([layers.Dense(4, name="logits"), layers.Softmax(name="probabilities")]),
    "logits with a softmax": lambda: sequential([layers.Dense(4, activation="softmax", name="logits")]),
    "nested": nested, "convolutional": convolutional, "operation": operation,
}


@pytest.mark.parametrize("make", PROBABILITIES.values(), ids=PROBABILITIES)
def test_softmax_of_the_logits_is_the_model(make):
    model = make()
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.4, weight.shape))
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    expected = model.predict_on_batch(images)
    logits = models.logits_model(model).predict_on_batch(images)
    assert logits.shape == (5, 4) and np.abs(logits.sum(1) - 1).max() > 1e-3
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)


def test_logits_stay_and_the_model_is_not_touched():
    model = sequential([layers.Dense(4)])
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    copy = models.logits_model(model)
    np.testing.assert_allclose(copy.predict_on_batch(images), model.predict_on_batch(images), atol=1e-6)
    before = [w.copy() for w in model.get_weights()]
    for weight in copy.weights:
        weight.assign(weight * 0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv").output is not None  # a second inbound node would make this ambiguous


def test_sequential_from_h5(tmp_path):
    model = sequential([layers.Dense(4, activation="softmax")])
    model.save(tmp_path / "m.h5")
    images = np.random.default_rng(0).uniform(0, 9, (5, 12, 12, 1)).astype(np.float32)
    logits = models.logits_model(models.load(tmp_path / "m.h5")).predict_on_batch(images)
    np.testing.assert_allclose(softmax(logits), model.predict_on_batch(images), atol=1e-5)


def test_nested_layers_can_be_reached():
    names = [layer.name for layer in models.logits_model(nested()).layers]
    assert "conv" in names and "head_conv" in names and "pool" in names and len(set(names)) == len(names)


def test_stock_network(tmp_path):
    base = keras.applications.MobileNetV2((48, 48, 3), alpha=0.35, weights=None, classes=7)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 48, 48, 3)).astype(np.float32)
    logits = models.logits_model(base)
    assert isinstance(logits.get_layer("Conv_1"), layers.Conv2D)
    np.testing.assert_allclose(softmax(logits.predict_on_batch(images)), base.predict_on_batch(images), atol=1e-5)
