"""Scripts that explain a model, called in this process, with small models in a folder of their own."""

import keras
import pandas as pd
import pytest
from keras import layers
from matplotlib.text import Text

from utils import figures, files, models
from utils.cli import UserError

COLUMN = min((210 - 2 * 16) / 25.4, 700 / 96)  # inches: of A4 within the report's margins, and of 700 px
SMALLEST = 7  # points


def save_readable(figure, path, save=figures.save_figure):
    """`save_figure`, but a figure in the column of a page must keep its text readable."""
    width = figure.get_tightbbox().width + 0.2  # and the margin around it
    for text in figure.findobj(Text):
        shown = text.get_fontsize() * min(1, COLUMN / width)
        assert not text.get_text().strip() or shown >= SMALLEST, (path.name, width, text)
    return save(figure, path)


class Folder:
    """A folder with models/ and figures/ that scripts called in this process read and write."""

    def __init__(self, folder, script):
        self.folder, self.script = folder, script
        for name in ("models", "figures"):
            (folder / name).mkdir()

    def add_model(self, name, image, output):
        keras.Model(image, output, name=name).save(self.folder / "models" / f"{name}.keras")

    def run(self, *arguments):
        """What main() returns."""
        return self.script.main([str(argument) for argument in arguments])

    def outputs(self, *arguments):
        """The names of what the script would write; it ends when it has checked them."""
        seen = []

        def stop(outputs):
            seen.extend(outputs)
            raise UserError("stopped")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "check_outputs", stop)
            with pytest.raises(UserError, match="stopped"):
                self.run(*arguments)
        return frozenset(path.name for path in seen)

    def error(self, capsys, *arguments):
        """The one line that a mistake ends with; nothing may have been written."""
        before = self.files()
        with pytest.raises((UserError, SystemExit)) as caught:
            self.run(*arguments)
        assert self.files() == before
        return str(caught.value) if caught.type is UserError else capsys.readouterr().err.splitlines()[-1]

    def files(self):
        return sorted(path.name for path in (self.folder / "figures").iterdir())

    def read(self, name):
        """A table that the script wrote, text as it stands there."""
        return pd.read_csv(self.folder / "figures" / name, dtype=str, keep_default_na=False)


def folder_for(script, tmp_path_factory):
    """A `Folder` for the tests of a module, the current one while they run."""
    folder = Folder(tmp_path_factory.mktemp(script.__name__), script)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.folder)
        patch.setattr(figures, "save_figure", save_readable)
        patch.setattr(models, "MODELS", folder.folder / "models")
        patch.setattr(models, "FIGURES", folder.folder / "figures")
        yield folder


def add_unusual_models(folder):
    """Models that an analysis script must take, or refuse in one line."""
    image = keras.Input((48, 48, 3))  # as MobileNetV3: operations between layers, and a gate
    x = layers.Conv2D(4, 3, strides=2, name="conv")(layers.Rescaling(1 / 255)(image))
    x = layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)])
    gate = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)])
    x = layers.Conv2D(5, 3, activation="relu")(x)
    folder.add_model("mobile", image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    for name, shape, order in (("open", (None, None, 1), "channels_last"),
                               ("first", (1, 48, 48), "channels_first")):
        image = keras.Input(shape)
        x = layers.Rescaling(1 / 255)(image)
        x = layers.Conv2D(4, 3, activation="relu", name="conv", data_format=order)(x)
        x = layers.GlobalAveragePooling2D(data_format=order)(x)
        folder.add_model(name, image, layers.Dense(7, activation="softmax")(x))
