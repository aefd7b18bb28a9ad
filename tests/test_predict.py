"""predict.py: ids and order as given, several models, own photos, and the wrappers."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import photos
from tests.conftest import sandbox
from tests.small_models import random_model
from utils import data, evaluation, files, models

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = np.random.default_rng(0).integers(0, 256, (23, 48, 48), np.uint8)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A Caller in a folder with two random models, three dialects of the same 23 faces, and an album."""
    with sandbox(tmp_path_factory.mktemp("predict")) as caller:
        folder = caller.folder
        for seed, name in enumerate("ab"):
            random_model(folder / "models" / f"{name}.h5", seed)
        pixels = [" ".join(map(str, image.ravel())) for image in IMAGES]
        numbers = 100 - np.arange(23)
        tables = {"test.csv": {"id": numbers, "feature": pixels}, "plain.csv": {"pixels": pixels},
                  "named.csv": {"id": [f"face-{i}" for i in range(23)], "feature": pixels},
                  "sample.csv": {"id": numbers, "label": 0}}
        for name, columns in tables.items():
            files.write_table(folder / name, pd.DataFrame(columns))
        (folder / "album").mkdir()
        with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
            image.save(folder / "album" / "portrait.png")
        Image.new("RGB", (300, 200), "teal").save(folder / "album" / "wall.png")
        (folder / "album" / "broken.jpg").write_text("no picture")
        yield caller


def predict(call, *arguments):
    """Call predict.py with model a; checks what it wrote against what it returns."""
    table = call("predict", "--model", "models/a.h5", *arguments, "--out", "out.csv")
    written = pd.read_csv("out.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    return table


@pytest.mark.parametrize(("name", "ids"), [
    ("test.csv", [100 - i for i in range(23)]), ("plain.csv", range(23)),
    ("named.csv", [f"face-{i}" for i in range(23)])])
def test_ids_and_order_are_kept(call, name, ids):
    table = predict(call, "--data", name)
    expected = models.predict(models.load("models/a.h5"), IMAGES).argmax(axis=1)
    assert list(table.columns) == ["id", "label"] and table["id"].tolist() == [str(i) for i in ids]
    assert table["label"].tolist() == expected.tolist()


def test_probabilities_of_several_models_with_augmentation(call):
    table = predict(call, "models/b.h5", "--data", "test.csv", "--tta", "ten-crop", "--probabilities")
    networks = evaluation.load_networks([Path("models/a.h5"), Path("models/b.h5")])
    expected = evaluation.probabilities(networks, IMAGES, "ten-crop")
    np.testing.assert_allclose(table[list(data.CLASSES)], expected, atol=1e-6)
    assert table["label"].tolist() == expected.argmax(axis=1).tolist()


def test_only_a_file_written_here_is_replaced(call, capsys):
    arguments = ["--model", "models/a.h5", "--data", "test.csv", "--out", "own.csv"]
    call("predict", *arguments)
    call("predict", *arguments)
    written = Path("own.csv").read_text()
    Path("own.csv").write_text(written.replace("100,", "100,9"))  # labels by hand
    assert "was not written here" in call.error(capsys, "predict", *arguments)


def test_faces_of_a_flat_folder_have_the_names_of_its_files(call):
    (call.folder / "flat").mkdir()
    for i in (2, 0, 1):
        Image.fromarray(IMAGES[i]).save(call.folder / "flat" / f"face-{i}.png")
    table = predict(call, "--data", "flat")
    assert table["id"].tolist() == [f"face-{i}.png" for i in range(3)]
    assert table["label"].tolist() == predict(call, "--data", "plain.csv")["label"][:3].tolist()


def test_own_photos(call, capsys):
    table = call("predict", "--model", "models/a.h5", "models/b.h5", "--tta", "flip", "--images", "album")
    assert call.files() == ["a+b_photo_portrait_png.png", "a+b_photos.csv"]
    pd.testing.assert_frame_equal(pd.read_csv("figures/a+b_photos.csv"), table, check_dtype=False)
    photo = photos.read_photo("album/portrait.png")
    found, = photos.detect_faces(photo)
    (row,) = table.itertuples()
    assert (row.image, row.face, row.model) == ("album/portrait.png", 1, "a+b")
    assert row[3:9] == found and data.CLASSES[row.label] == row[11]
    face = photos.crop(photo, found)[None]
    expected = sum(models.predict(models.load(f"models/{name}.h5"), view).astype(np.float64)
                   for name in "ab" for view in (face, face[:, :, ::-1]))[0] / 4
    np.testing.assert_allclose(table[list(data.CLASSES)].to_numpy()[0], expected, atol=1e-5)
    out = capsys.readouterr().out
    assert "no face found in album/wall.png" in out and "broken.jpg is no readable image" in out


@pytest.mark.parametrize("count", [1, 3, 30])
def test_a_figure_of_many_faces_is_legible(call, count):
    portrait = Image.open("album/portrait.png").convert("RGB").resize((171, 200))
    crowd = Image.new("RGB", (171 * 6, 200 * 5), "grey")
    for i in range(count):
        crowd.paste(portrait, (i % 6 * 171, i // 6 * 200))
    crowd.save(call.folder / f"crowd{count}.png")
    table = predict(call, "--images", f"crowd{count}.png", "--out-folder", "crowd")
    assert len(table) == count and f"a_photo_crowd{count}_png.png" in call.files("crowd")


def test_cropped_photos_are_taken_whole(call):
    table = predict(call, "--cropped", "--images", "album/wall.png", "--out-folder", "whole")
    assert table.loc[0, "x":"height"].tolist() == [0, 0, 300, 200]
    assert call.files("whole") == ["a_photo_wall_png.png"]


def test_a_figure_never_replaces_a_photo(call, capsys):
    for name in ("wall.png", "a_photo_wall_png.png"):
        (call.folder / "own").mkdir(exist_ok=True)
        (call.folder / "own" / name).write_bytes(Path("album/wall.png").read_bytes())
    error = call.error(capsys, "predict", "--model", "models/a.h5", "--cropped", "--images", "own",
                       "--out-folder", "own")
    assert "this command reads it" in error


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--model", "test.csv", "--data", "test.csv"], "cannot be loaded as a Keras model"),
    (["--data", "twise.csv"], "twise.csv does not exist; did you mean twice.csv"),
    (["--data", "sample.csv"], "no column of pixels"),
    (["--data", "twice.csv"], "has id 100 more than once"),
    (["--out", "data/none.csv", "--data", "test.csv"], "data/ is for what is read"),
    (["--out", "sample.csv", "--data", "test.csv"], "sample.csv exists and was not written here"),
    (["--images", "album/wall.png"], "no face found in album/wall.png"),
    (["--images", "album/wall.png", "album/broken.jpg"], "all 2 photos"),
    (["--images", "pipe"], "pipe is no file and holds no images"),
    (["--images", "loop.png"], "loop.png does not exist"),
    (["--images", "album", "--submit", "x", "--message", "y"], "--submit, --probabilities go with --data"),
    (["--cropped"], "--cropped belongs to --images"),
    (["--max-faces", "3"], "--max-faces belongs to --images or --video"),
    (["--submit", "x"], "--submit SLUG and --message TEXT belong together"),
    (["--submit", "x", "--message", "y", "--probabilities"], "leave out --probabilities"),
])
def test_mistakes_are_one_line_and_write_nothing(call, capsys, arguments, expected):
    Path("twice.csv").write_text(Path("test.csv").read_text().replace("\n97,", "\n100,"))
    if not os.path.lexists("pipe"):
        os.mkfifo("pipe")  # to open it would wait for ever
        os.symlink("loop.png", "loop.png")
    model = [] if "--model" in arguments else ["--model", "models/a.h5"]
    out = [] if "--out" in arguments else ["--out", "figures/none.csv"]
    assert expected in call.error(capsys, "predict", *model, *arguments, *out)


def test_the_homeworks_wrappers(call, suite):
    for name in ("hw3_train.sh", "hw3_test.sh"):
        (suite.folder / name).write_bytes((PROJECT / name).read_bytes())
    env = os.environ | {"PYTHON": sys.executable}
    (suite.folder / "models" / "cnn.h5").write_bytes((call.folder / "models" / "a.h5").read_bytes())
    done = subprocess.run(["bash", suite.folder / "hw3_test.sh", call.folder / "test.csv", "out.csv"],
                          cwd=suite.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (suite.folder / "out.csv").read_text().startswith("id,label\n100,")
    long = "x" * 300 + ".csv"  # which the system calls too long
    done = subprocess.run(["bash", suite.folder / "hw3_train.sh", long],
                          cwd=suite.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and f"{long} does not exist" in done.stderr
    for name in ("hw3_train.sh", "hw3_test.sh"):
        assert os.access(PROJECT / name, os.X_OK)
        done = subprocess.run(["bash", PROJECT / name], capture_output=True, text=True)
        assert done.returncode != 0 and "usage" in done.stderr
