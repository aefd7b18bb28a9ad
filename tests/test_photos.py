"""utils.photos: reading any photo, finding the face of a portrait, and framing it as FER2013 does."""

import io

import matplotlib.cbook
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from utils import data, photos
from utils.cli import UserError

EYES, MOUTH = ((222, 190), (305, 187)), (268, 278)  # of the portrait, by eye
TURNS = {2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
         4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE],
         6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
         8: [Image.Transpose.ROTATE_270]}  # upright picture -> as stored under this EXIF orientation


@pytest.fixture(scope="module")
def portrait():
    """A photograph of one person that matplotlib ships: uint8 (600, 512, 3)."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        return np.array(image.convert("RGB"))


def gradient(width=20, height=12):
    """An image whose pixels are all different: uint8 (height, width, 3)."""
    values = np.arange(height * width).reshape(height, width)
    return np.stack([values % 256, values // 2 % 256, 255 - values % 256], axis=2).astype(np.uint8)


def test_the_face_of_a_portrait_is_framed_like_fer2013(portrait):
    (x, y, width, height, *_), = photos.detect_faces(portrait)
    assert width == height
    for eye_x, eye_y in EYES:
        assert 0.15 < (eye_x - x) / width < 0.85 and 0.3 < (eye_y - y) / height < 0.5
    assert abs((MOUTH[0] - x) / width - 0.5) < 0.1 and 0.7 < (MOUTH[1] - y) / height < 0.9


@pytest.mark.parametrize("scale", [0.4, 4.2])
def test_size_and_place_of_the_photo_do_not_matter(portrait, scale):
    (x, y, width, *_), = photos.detect_faces(portrait)
    resized = Image.fromarray(portrait).resize([round(scale * side) for side in portrait.shape[1::-1]])
    canvas = Image.new("RGB", (resized.width + 40, resized.height + 30), "grey")
    canvas.paste(resized, (40, 30))
    (square,) = photos.detect_faces(np.asarray(canvas))
    expected = [scale * x + 40, scale * y + 30, scale * width]
    np.testing.assert_allclose(square[:3], expected, atol=0.12 * scale * width)


def test_several_faces_come_largest_first(portrait):
    small = np.asarray(Image.fromarray(portrait).resize((307, 360)))
    canvas = np.full((600, 307 + 512, 3), 90, np.uint8)
    canvas[:360, :307], canvas[:, 307:] = small, portrait
    first, second = photos.detect_faces(canvas)
    assert first[0] > 307 > second[0] and first[2] > second[2]


@pytest.mark.parametrize("turn", [-30, 30])
def test_a_tilted_face_is_found_and_turned_upright(portrait, turn):
    upright, = photos.detect_faces(portrait)
    turned = np.asarray(Image.fromarray(portrait).rotate(-turn, Image.Resampling.BICUBIC, expand=True))
    face, = photos.detect_faces(turned)
    assert abs(face.tilt - upright.tilt - turn) < 12
    middle = np.array([upright.x + upright.width / 2 - 256, upright.y + upright.height / 2 - 300])
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    expected = [cosine * middle[0] - sine * middle[1] + turned.shape[1] / 2,
                sine * middle[0] + cosine * middle[1] + turned.shape[0] / 2]
    np.testing.assert_allclose(face.corners().mean(0), expected, atol=0.12 * upright.width)
    crops = [photos.crop(portrait, upright), photos.crop(turned, face)]
    plain = photos.crop(turned, face._replace(tilt=0.0))
    likeness = [np.corrcoef(crops[0].ravel(), other.ravel())[0, 1] for other in (crops[1], plain)]
    assert likeness[0] > 0.8 and likeness[0] > likeness[1] + 0.2


def test_crop_turns_the_square_about_its_centre():
    photo = np.repeat(np.random.default_rng(0).integers(0, 256, (80, 90, 1), np.uint8), 3, axis=2)
    quarter = photos.crop(photo, photos.Face(20, 10, 48, 48, 90.0))
    np.testing.assert_array_equal(quarter, np.rot90(photo[10:58, 20:68, 0]))
    corners = photos.Face(20, 10, 48, 48, 90.0).corners()
    np.testing.assert_allclose(corners[0], [68, 10])  # turned clockwise


@pytest.mark.parametrize("turn", [0, 30])
def test_the_astronauts_face_is_found_and_her_badges_are_not(turn):
    image = Image.fromarray(pytest.importorskip("skimage.data").astronaut()).rotate(-turn, expand=True)
    face, = photos.detect_faces(np.asarray(image))
    assert abs(face.tilt - turn) < 12 and face.score > 0.3
    middle = photos.turning(turn) @ (225 - 256, 120 - 256) + np.array(image.size) / 2
    assert np.abs(face.corners().mean(0) - middle).max() < 20


def test_a_score_that_is_too_low_and_the_number_of_faces(tmp_path, portrait, capsys):
    face, = photos.detect_faces(portrait)
    assert photos.detect_faces(portrait, least=face.score + 0.01) == []
    Image.fromarray(np.hstack([portrait, portrait])).save(tmp_path / "two.png")
    table, faces = photos.load_faces([tmp_path / "two.png"], most=1)
    assert len(table) == len(faces) == 1 and "1 of 2 faces taken" in capsys.readouterr().out


def test_nothing_is_found_where_no_face_is():
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    for photo in (noise, np.zeros((100, 150, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), gradient(1, 400)):
        assert photos.detect_faces(photo) == []


def test_crop_takes_the_square_and_repeats_the_edge():
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (60, 70, 1), np.uint8), 3, axis=2)
    np.testing.assert_array_equal(photos.crop(grey, photos.Face(10, 5, 48, 48)), grey[5:53, 10:58, 0])
    padded = np.pad(grey[..., 0], 20, mode="edge")
    np.testing.assert_array_equal(photos.crop(grey, photos.Face(-15, -20, 48, 48)), padded[:48, 5:53])
    np.testing.assert_array_equal(photos.crop(grey, photos.Face(40, 30, 48, 48)), padded[50:98, 60:108])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_upright_as_its_exif_says(tmp_path, orientation):
    stored = Image.fromarray(gradient())
    for turn in TURNS.get(orientation, []):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "a.png"), gradient())


def test_alpha_palettes_sixteen_bits_and_animations(tmp_path):
    rgba = np.dstack([gradient(), np.zeros((12, 20), np.uint8)])
    rgba[:, 10:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    white = np.where(rgba[..., 3:] == 0, 255, rgba[..., :3])
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "alpha.png"), white)

    Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)).save(tmp_path / "deep.png")
    deep = photos.read_photo(tmp_path / "deep.png")
    np.testing.assert_array_equal(deep[..., 0].ravel(), np.arange(256))
    np.testing.assert_array_equal(deep[..., 0], deep[..., 2])

    frames = [Image.new("P", (8, 8), code) for code in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 0, 255])
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "film.gif")[4, 4], [255, 0, 0])
    frames[0].save(tmp_path / "hole.png", transparency=0)
    np.testing.assert_array_equal(photos.read_photo(tmp_path / "hole.png")[4, 4], [255, 255, 255])

    for mode in ("1", "L", "LA", "CMYK", "YCbCr"):
        path = tmp_path / f"{mode}.{'png' if mode in ('1', 'L', 'LA') else 'jpg'}"
        Image.new("RGB", (9, 7), "white").convert(mode).save(path)
        assert photos.read_photo(path).shape == (7, 9, 3) and photos.read_photo(path).min() > 250


def test_huge_and_unreadable_files_are_one_line_with_the_name(tmp_path):
    Image.new("1", (8_000, 7_000)).save(tmp_path / "huge.png")  # 7 kB that would be 170 MB as RGB
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"huge\.png has 8,000x7,000 pixels; expected at most"):
        photos.read_photo(tmp_path / "huge.png")
    for name in ("text.jpg", "empty.png", "nowhere.png"):
        with pytest.raises(UserError, match=f"{name} is no readable image"):
            photos.read_photo(tmp_path / name)


def encoded(kind):
    buffer = io.BytesIO()
    Image.fromarray(gradient()).save(buffer, kind)
    return buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_a_damaged_file_gives_a_photo_or_one_line(tmp_path_factory, kind, draw):
    content = bytearray(encoded(kind))
    for _ in range(draw.draw(st.integers(1, 8))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind.lower()}"
    path.write_bytes(content[:draw.draw(st.integers(1, len(content)))])
    message, photo = "", np.zeros((1, 1, 3), np.uint8)
    try:
        photo = photos.read_photo(path)
    except UserError as error:
        message = str(error)
    assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
    assert not message or (path.name in message and "\n" not in message)


def test_photos_of_folders_and_files(tmp_path):
    for name in ("b.PNG", "a.jpeg", "note.txt", "c.tiff"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.png").touch()
    found = photos.find_photos([tmp_path / "note.txt", tmp_path, tmp_path / "a.jpeg"])
    assert [path.name for path in found] == ["note.txt", "a.jpeg", "b.PNG", "c.tiff"]
    with pytest.raises(UserError, match=r"nowhere\.jpg does not exist"):
        photos.find_photos([tmp_path / "nowhere.jpg"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="bare holds no images"):
        photos.find_photos([tmp_path / "bare"])


def test_photos_without_a_face_are_named_and_the_rest_goes_on(tmp_path, portrait, capsys):
    Image.fromarray(portrait).save(tmp_path / "c.png")
    Image.fromarray(gradient(200, 200)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    table, faces = photos.load_faces(photos.find_photos([tmp_path]))
    problems = capsys.readouterr().out.splitlines()
    assert table["image"].str[-5:].tolist() == ["c.png"] and table["face"].tolist() == [1]
    assert faces.shape == (1, 48, 48)
    assert "no face found in" in problems[0] and "a.png" in problems[0]
    assert "b.png is no readable image" in problems[1]


def test_cropped_takes_the_whole_picture(tmp_path, capsys):
    Image.fromarray(gradient(90, 70)).save(tmp_path / "a.png")
    table, (face,) = photos.load_faces([tmp_path / "a.png"], cropped=True)
    assert table.loc[0, "x":"height"].tolist() == [0, 0, 90, 70] and capsys.readouterr().out == ""
    assert table.loc[0, "tilt"] == 0 and np.isnan(table.loc[0, "score"])
    np.testing.assert_array_equal(face, data.read_image(tmp_path / "a.png"))
