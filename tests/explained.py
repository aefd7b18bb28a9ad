"""What the tests of the scripts that explain a model share: small models, and the names of outputs."""

import keras
import pytest
from keras import layers

from utils import files
from utils.cli import UserError


def add_model(folder, name, image, output):
    keras.Model(image, output, name=name).save(folder / "models" / f"{name}.keras")


def add_unusual_models(folder):
    """Models that an analysis script must take, or refuse in one line."""
    image = keras.Input((48, 48, 3))  # as MobileNetV3: operations between layers, and a gate
    x = layers.Conv2D(4, 3, strides=2, name="conv")(layers.Rescaling(1 / 255)(image))
    x = layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])
    gate = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)])
    x = layers.Conv2D(5, 3, activation="relu")(x)
    add_model(folder, "mobile", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    for name, shape, order in (("open", (None, None, 1), "channels_last"),
                               ("first", (1, 48, 48), "channels_first")):
        image = keras.Input(shape)
        x = layers.Rescaling(1 / 255)(image)
        x = layers.Conv2D(4, 3, activation="relu", name="conv", data_format=order)(x)
        x = layers.GlobalAveragePooling2D(data_format=order)(x)
        add_model(folder, name, image, layers.Dense(7, activation="softmax")(x))


def output_names(call, script, *arguments):
    """The names of what a script would write; it ends when it has checked them."""
    seen = []

    def stop(outputs):
        seen.extend(outputs)
        raise UserError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "check_outputs", stop)
        with pytest.raises(UserError, match="stopped"):
            call(script, *arguments)
    return frozenset(path.name for path in seen)
