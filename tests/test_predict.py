"""predict.py: ids and order as given, several models, own photos, and the wrappers."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import predict
from tests.small_models import random_model
from utils import cli, data, evaluation, files, models

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two random models and three dialects of the same 23 faces."""
    folder = tmp_path_factory.mktemp("predict")
    random_model(folder / "a.h5", 0)
    random_model(folder / "b.h5", 1)
    images = np.random.default_rng(0).integers(0, 256, (23, 2304))
    pixels = [" ".join(map(str, image)) for image in images]
    numbers = 100 - np.arange(23)
    tables = {"test.csv": {"id": numbers, "feature": pixels}, "plain.csv": {"pixels": pixels},
              "named.csv": {"id": [f"face-{i}" for i in range(23)], "feature": pixels},
              "sample.csv": {"id": numbers, "label": 0}}
    for name, columns in tables.items():
        files.write_table(folder / name, pd.DataFrame(columns))
    np.save(folder / "images.npy", images.reshape(-1, 48, 48).astype(np.uint8))
    return folder


@pytest.fixture
def call(made, monkeypatch, tmp_path, capsys):
    """Call the script's main in the folder `made`; returns the written rows as dicts and what was printed."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.chdir(made)

    def run(*arguments):
        out = tmp_path / "predictions.csv"
        table = predict.main([*map(str, arguments), "--out", str(out)])
        assert len(table) and out.read_text().splitlines()[0] == ",".join(table.columns)
        with open(out, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file)), capsys.readouterr().out

    return run


@pytest.mark.parametrize(("name", "ids"), [
    ("test.csv", [100 - i for i in range(23)]), ("plain.csv", range(23)),
    ("named.csv", [f"face-{i}" for i in range(23)])])
def test_ids_and_order_are_kept(made, call, name, ids):
    rows, out = call("--model", "a.h5", "--data", name)
    assert [row["id"] for row in rows] == [str(i) for i in ids]
    expected = models.predict(models.load(made / "a.h5"), np.load(made / "images.npy")).argmax(axis=1)
    assert [int(row["label"]) for row in rows] == expected.tolist()
    assert list(rows[0]) == ["id", "label"] and "23 rows" in out


def test_probabilities_of_several_models_with_augmentation(made, call):
    rows, _ = call("--model", "a.h5", "b.h5", "--data", "test.csv", "--tta", "ten-crop", "--probabilities")
    assert list(rows[0]) == ["id", "label", *data.CLASSES]
    networks = evaluation.load_networks([made / "a.h5", made / "b.h5"])
    expected = evaluation.probabilities(networks, np.load(made / "images.npy"), "ten-crop")
    written = [[float(row[name]) for name in data.CLASSES] for row in rows]
    np.testing.assert_allclose(written, expected, atol=1e-6)
    assert [int(row["label"]) for row in rows] == expected.argmax(axis=1).tolist()


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--model", "nowhere.h5", "--data", "test.csv"], "nowhere.h5 does not exist"),
    (["--model", "test.csv", "--data", "test.csv"], "cannot be loaded as a Keras model"),
    (["--model", "a.h5", "--data", "nowhere.csv"], "cannot read nowhere.csv"),
    (["--model", "a.h5", "--data", "sample.csv"], "no column of pixels"),
])
def test_mistakes_are_one_line_and_write_nothing(call, tmp_path, arguments, expected):
    with pytest.raises(cli.UserError, match=expected) as error:
        call(*arguments)
    assert "\n" not in str(error.value).strip()
    assert not (tmp_path / "predictions.csv").exists()


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder with one portrait, a picture without a face and a damaged file; figures go beside it."""
    monkeypatch.setattr(models, "FIGURES", tmp_path / "figures")
    (tmp_path / "album").mkdir()
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        image.save(tmp_path / "album" / "portrait.png")
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "album" / "wall.png")
    (tmp_path / "album" / "broken.jpg").write_text("no picture")
    return tmp_path / "album"


def test_own_photos(made, call, album):
    rows, out = call("--model", "a.h5", "b.h5", "--tta", "flip", "--images", album)
    place = ["x", "y", "width", "height", "tilt", "score"]
    assert list(rows[0]) == ["image", "face", *place, "label", "class", *data.CLASSES]
    (row,) = rows
    assert row["image"].endswith("portrait.png") and row["face"] == "1"
    x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
    with Image.open(album / "portrait.png") as image:
        face = image.convert("RGB").crop((x, y, x + width, y + height)).convert("L")
        face = np.asarray(face.resize((48, 48), Image.Resampling.BOX))[None]
    expected = sum(models.predict(models.load(made / name), view).astype(np.float64)
                   for name in ("a.h5", "b.h5") for view in (face, face[:, :, ::-1]))[0] / 4
    np.testing.assert_allclose([float(row[name]) for name in data.CLASSES], expected, atol=0.02)
    assert data.CLASSES[int(row["label"])] == row["class"]
    assert "no face found in" in out and "wall.png" in out and "broken.jpg is no readable image" in out
    with Image.open(models.FIGURES / "photo_portrait.png") as figure:
        assert figure.format == "PNG" and figure.width > 1000
    assert [path.name for path in models.FIGURES.iterdir()] == ["photo_portrait.png"]


def test_cropped_photos_of_one_name_get_a_figure_each(call, album):
    (album / "more").mkdir()
    (album / "more" / "wall.png").write_bytes((album / "wall.png").read_bytes())
    rows, _ = call("--model", "a.h5", "--cropped", "--images", album / "wall.png", album / "more")
    squares = [(row["x"], row["y"], row["width"], row["height"]) for row in rows]
    assert squares == [("0", "0", "300", "200")] * 2
    assert sorted(path.name for path in models.FIGURES.iterdir()) == ["photo_wall.png", "photo_wall_2.png"]


def test_every_photo_has_a_figure_of_its_own(call, album):
    photos = []
    for folder, name in (("x", "a"), ("y", "a_3"), ("z", "a"), ("u", "A"), ("v", "a_2"), ("w", "n" * 240)):
        (album / folder).mkdir()
        photos.append(album / folder / f"{name}.png")
        photos[-1].write_bytes((album / "wall.png").read_bytes())
    rows, _ = call("--model", "a.h5", "--cropped", "--images", *photos)
    assert len(rows) == len(photos)
    names = [path.name for path in models.FIGURES.iterdir()]
    assert len({name.casefold() for name in names}) == len(photos)


@pytest.mark.parametrize("name", ["pipe", "loop.png", "n" * 300, "n" * 5000])
def test_photos_that_are_no_files_are_one_line(call, album, name):
    os.mkfifo(album / "pipe")  # to open it would wait for ever
    (album / "loop.png").symlink_to(album / "loop.png")
    with pytest.raises(cli.UserError) as error:
        call("--model", "a.h5", "--images", album / name)
    assert "\n" not in str(error.value)


def test_a_figure_never_replaces_a_photo(call, album):
    models.FIGURES.mkdir()
    for name in ("wall.png", "photo_wall.png"):
        (models.FIGURES / name).write_bytes((album / "wall.png").read_bytes())
    with pytest.raises(cli.UserError, match="is read by this command"):
        call("--model", "a.h5", "--cropped", "--images", models.FIGURES)
    assert (models.FIGURES / "photo_wall.png").read_bytes() == (album / "wall.png").read_bytes()


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--images", "{album}/wall.png"], "no face found in .*wall.png"),
    (["--images", "{album}/wall.png", "{album}/broken.jpg"], "no face found in .* all 2 photos"),
    (["--images", "{album}/nowhere.png"], "nowhere.png does not exist"),
    (["--images", "{album}", "--submit", "x", "--message", "y"], "do not go with --images"),
    (["--cropped"], "--cropped belongs to --images"),
    (["--max-faces", "3"], "--max-faces belongs to --images or --video"),
    (["--submit", "x"], "--submit SLUG and --message TEXT belong together"),
    (["--submit", "x", "--message", "y", "--probabilities"], "leave out --probabilities"),
])
def test_photos_and_options_that_do_not_do(call, album, tmp_path, arguments, expected):
    with pytest.raises(cli.UserError, match=expected):
        call("--model", "a.h5", *(argument.format(album=album) for argument in arguments))
    assert not (tmp_path / "predictions.csv").exists() and not models.FIGURES.exists()


@pytest.mark.parametrize("options", [[], ["--submit", "x", "--message", "y"]])
def test_an_id_that_comes_twice_is_one_line_and_nothing_is_written_or_sent(made, call, tmp_path, options):
    text = (made / "test.csv").read_text().replace("\n97,", "\n100,")
    (tmp_path / "twice.csv").write_text(text)
    with pytest.raises(cli.UserError, match="has id 100 more than once"):
        call("--model", "a.h5", "--data", tmp_path / "twice.csv", *options)
    assert not (tmp_path / "predictions.csv").exists()


def test_the_homeworks_wrappers(made, suite):
    for name in ("hw3_train.sh", "hw3_test.sh"):
        (suite.folder / name).write_bytes((PROJECT / name).read_bytes())
    env = os.environ | {"PYTHON": sys.executable}
    (suite.folder / "models" / "cnn.h5").write_bytes((made / "a.h5").read_bytes())
    done = subprocess.run(["bash", suite.folder / "hw3_test.sh", made / "test.csv", "out.csv"],
                          cwd=suite.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (suite.folder / "out.csv").read_text().startswith("id,label\n100,")
    long = "x" * 300 + ".csv"  # refused before Keras starts
    done = subprocess.run(["bash", suite.folder / "hw3_train.sh", long],
                          cwd=suite.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and f"{long}: File name too long" in done.stderr
    for name in ("hw3_train.sh", "hw3_test.sh"):
        assert os.access(PROJECT / name, os.X_OK)
        done = subprocess.run(["bash", PROJECT / name], capture_output=True, text=True)
        assert done.returncode != 0 and "usage" in done.stderr
