"""The loader: all dialects read to the same arrays, every mistake is one line, the cache is never stale."""

import io
import lzma
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tests.tools import fuzz_data
from utils import cli, data
from utils.cli import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 48, 48), np.uint8)
LABELS = np.array([0, 3, 6, 1, 2, 5, 4])
ROWS = [" ".join(map(str, image.ravel())) for image in IMAGES]
USAGE = ["Training"] * 5 + ["PublicTest", "PrivateTest"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(header, *columns):
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns))]) + "\n"


DIALECTS = {
    "ml2017 train": table("label,feature", LABELS, ROWS),
    "ml2017 test": table("id,feature", range(7), ROWS),
    "fer2013": table("emotion,pixels,Usage", LABELS, ROWS, USAGE),
    "icml": table("emotion, Usage, pixels", LABELS, USAGE, ROWS),
    "challenge train": table("emotion,pixels", LABELS, [f'"{row}"' for row in ROWS]),
    "challenge test": table("pixels", ROWS),
    "spaces and case": table(" Label , FEATURE ", LABELS, ROWS),
    "bom and crlf": "\ufeff" + table("label,feature", LABELS, ROWS).replace("\n", "\r\n"),
    "blank lines at the end": table("label,feature", LABELS, ROWS) + "\n\n",
    "floats": table("label,feature", LABELS, [row.replace(" ", ".0 ") for row in ROWS]),
    "float labels": table("label,feature", [f"{label}.0" for label in LABELS], ROWS),
    "quoted and spread over lines": table("label,feature", LABELS,
                                          [f'"{row.replace(" ", chr(10), 9)}"' for row in ROWS]),
    "more commas at some ends": table("label,feature", LABELS, [row + i * "," for i, row in enumerate(ROWS)]),
    "quoted header behind a bom": "\ufeff" + table('"label","feature"', LABELS, ROWS),
    "commas at the ends": table("label,feature", LABELS, [row + "," for row in ROWS]),
    "lines that end in CR CR LF": table("label,feature", LABELS, ROWS).replace("\n", "\r\r\n"),
    "old Macintosh line ends": table("label,feature", LABELS, ROWS).replace("\n", "\r"),
    "semicolons": table("label;feature", LABELS, ROWS).replace(",", ";"),
    "tabs": table("emotion,pixels", LABELS, ROWS).replace(",", "\t"),
    "double spaces": table("label,feature", LABELS, [row.replace(" ", "  ") + " " for row in ROWS]),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_read_to_the_same_faces(tmp_path, dialect):
    faces = data.load_faces(write(tmp_path / "faces.csv", DIALECTS[dialect]))
    np.testing.assert_array_equal(faces.images, IMAGES)
    assert faces.images.dtype == np.uint8
    if "test" not in dialect:
        np.testing.assert_array_equal(faces.labels, LABELS)
    else:
        assert faces.labels is None
    if dialect == "ml2017 test":
        assert faces.ids.tolist() == list("0123456")
    if dialect in ("fer2013", "icml"):
        assert list(faces.usage) == USAGE
        assert len(data.training_part(faces)) == 5


@pytest.mark.parametrize("packing", fuzz_data.PACKINGS)
def test_compressed_files_read_alike_whatever_their_name(tmp_path, packing):
    content = fuzz_data.PACKINGS[packing](DIALECTS["ml2017 train"].encode())
    for name in (f"a.csv{packing}", "b"):
        np.testing.assert_array_equal(data.load_faces(write(tmp_path / name, content)).images, IMAGES)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(48), st.just(48))),
       separator=st.sampled_from([" ", "  ", "\t"]), end=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_what_is_read(tmp_path, images, separator, end):
    rows = [separator.join(map(str, image.ravel())) for image in images]
    path = write(tmp_path / "p.csv", end.join(["pixels", *rows]))
    columns = data.read_columns(path, data.CONVERTERS, ["pixels"])
    np.testing.assert_array_equal(columns["pixels"], images)


def spoiled(row, position, value):
    values = row.split()
    values[position] = value
    return " ".join(values)


MISTAKES = {
    "no pixel column": (table("label,picture", LABELS, ROWS), "row 1: no column of pixels"),
    "a pixel too few": (table("label,feature", LABELS, [*ROWS[:2], ROWS[2].rsplit(" ", 1)[0], *ROWS[3:]]),
                        "row 4: 2303 pixels"),
    "a pixel too many": (table("label,feature", LABELS, [ROWS[0] + " 1", *ROWS[1:]]), "row 2: 2305 pixels"),
    "256": (table("pixels", [*ROWS[:6], spoiled(ROWS[6], 9, "256")]), "row 8: pixel '256'"),
    "negative": (table("pixels", [spoiled(ROWS[0], 0, "-1"), *ROWS[1:]]), "row 2: pixel '-1'"),
    "a plus": (table("pixels", [ROWS[0], spoiled(ROWS[1], 0, "+1")]), "row 3: pixel '+1'"),
    "a letter": (table("pixels", [spoiled(ROWS[0], 2303, "x"), *ROWS[1:]]), "row 2: pixel 'x'"),
    "a digit that is no ASCII digit": (table("pixels", [spoiled(ROWS[0], 3, "٣")]), "row 2"),
    "four digits": (table("pixels", [spoiled(ROWS[0], 3, "1000")]), "row 2: pixel '1000'"),
    "fraction": (table("pixels", [spoiled(ROWS[0], 3, "7.5")]), "row 2: pixel '7.5'"),
    "nan": (table("pixels", [spoiled(ROWS[0], 3, "nan")]), "row 2: pixel 'nan'"),
    "infinity": (table("pixels", [spoiled(ROWS[0], 3, "inf")]), "row 2: pixel 'inf'"),
    "label 8": (table("label,feature", [0, 1, 8, 0, 0, 0, 0], ROWS), "row 4: label '8'"),
    "no label": (table("label,feature", ["", *LABELS[1:]], ROWS), "row 2: label ''"),
    "unknown usage": (table("emotion,pixels,Usage", LABELS, ROWS, ["Test"] * 7), "row 2: Usage 'Test'"),
    "empty file": ("", "is empty"),
    "header only": ("label,feature\n", "no rows"),
    "a web page": ("<!DOCTYPE html><html><body>Sign in</body></html>", "row 1: no column of pixels"),
    "truncated gzip": (fuzz_data.PACKINGS[".gz"](DIALECTS["ml2017 train"].encode())[:-4000], "at row "),
    "damaged gzip": (b"\x1f\x8b\x08\x00" + b"\x99" * 500, "cannot read"),
    "truncated xz": (lzma.compress(DIALECTS["ml2017 train"].encode())[:-4000], "cannot read"),
    "damaged zip": (b"PK\x03\x04" + b"\x99" * 500, "at row 1: "),
    "binary": (bytes(range(256)) * 20, "no column of pixels"),
    "latin-1": (table("label,feature", LABELS, ROWS).encode().replace(b"\n3,", b"\n\xe9,"), "row 3: label"),
    "an id in latin-1": (table("id,feature", range(7), ROWS).encode().replace(b"\n2,", b"\n\xe9,"),
                         "row 4: id '\\udce9'; expected 1 to 64 printable characters in UTF-8"),
    "UTF-16": (table("label,feature", LABELS, ROWS).encode("utf-16"), "no column of pixels"),
    "two columns of labels": (table("label,emotion,feature", LABELS, LABELS, ROWS), "2 columns of label"),
    "the same column twice": (table("label,feature,feature", LABELS, ROWS, ROWS), "2 columns of pixels"),
    "the header again": (table("label,feature", [*LABELS, "label"], [*ROWS, "feature"]), "row 9: 1 pixels"),
    "an open quote": ('label,feature\n0,"' + ROWS[0] + "\n1," + ROWS[1] + "\n", "row 2: 4608 pixels"),
    "a field too few": ("label,feature\n0," + ROWS[0] + "\n1\n", "row 3: 1 fields; expected 2"),
    "a field too many everywhere": (table("pixels", [row + ",1" for row in ROWS]), "row 2: 2 fields"),
    "a lone point": (table("pixels", [spoiled(ROWS[0], 3, ".")]), "row 2: pixel '.'"),
    "a lone point too many": (table("pixels", [ROWS[0] + " ."]), "row 2: 2305 pixels"),
    "a line without an end": ("label,feature\n0," + "1 " * 600_000, "row 2: field larger than field limit"),
    "blank lines only": ("label,feature\n" + "\n" * 100_001, "no rows"),
    "leading zeros": (table("pixels", [" ".join(["01"] * 2303 + ["0000257"])]), "row 2: pixel '0000257'"),
    "too many fields": ("label,feature\n0," + ROWS[0] + "\n1," + ROWS[1] + ",extra,fields\n", "row"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_file_and_row(tmp_path, mistake):
    content, expected = MISTAKES[mistake]
    path = write(tmp_path / "bad.csv", content)
    with pytest.raises(UserError) as caught:
        data.load_faces(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def test_missing_file_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        data.load_faces(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in folders called angry"):
        data.load_faces(tmp_path / "empty")


def test_cache_returns_the_same_and_notices_a_changed_file(tmp_path):
    path = write(tmp_path / "faces.csv", DIALECTS["fer2013"])
    first = data.load_faces(path)
    entries = list((tmp_path / "cache").iterdir())
    again = data.load_faces(path)
    assert len(entries) == 1
    for a, b in ((first.images, again.images), (first.labels, again.labels), (first.usage, again.usage)):
        np.testing.assert_array_equal(a, b)
    before = path.stat()
    swapped = DIALECTS["fer2013"].replace("\n0,", "\n2,", 1)  # same size, and the times set back
    write(path, swapped)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert data.load_faces(path).labels[0] == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_cache_is_parsed_again_and_one_that_cannot_be_written_is_no_error(tmp_path):
    path = write(tmp_path / "faces.csv", DIALECTS["fer2013"])
    data.load_faces(path)
    entry = next((tmp_path / "cache").iterdir())
    billion = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        billion, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 48, 48)})
    for content in (entry.read_bytes()[:5000], b"", fuzz_data.zipped(b"pixels", "pixels.npy"),
                    fuzz_data.zipped(billion.getvalue(), "pixels.npy")):
        entry.write_bytes(content)
        np.testing.assert_array_equal(data.load_faces(path).images, IMAGES)
    entry.unlink()
    entry.parent.rmdir()
    write(entry.parent, "a file where the folder should be")
    np.testing.assert_array_equal(data.load_faces(path).images, IMAGES)


@pytest.mark.parametrize("change", [
    {"label": np.array([0, 1, 2, 3, 4, 5, 9])}, {"label": LABELS[:5]}, {"label": LABELS.astype(float)},
    {"pixels": IMAGES[:, :40]}, {"pixels": IMAGES.astype(float)}, {"pixels": IMAGES[:6]},
    {"usage": np.array(["Test"] * 7)}, {"more": LABELS}, {"label": np.roll(LABELS, 1)}])
def test_a_cache_entry_that_is_not_as_written_or_not_ours_is_read_anew(tmp_path, monkeypatch, change):
    path = write(tmp_path / "faces.csv", DIALECTS["fer2013"])
    data.load_faces(path)
    entry = next((tmp_path / "cache").iterdir())
    with np.load(entry) as columns:
        np.savez(entry, **dict(columns) | change)
    if np.array_equal(change.get("label"), np.roll(LABELS, 1)):  # which only its owner gives away
        np.testing.assert_array_equal(data.load_faces(path).labels, change["label"])
        monkeypatch.setattr(os, "getuid", lambda: entry.stat().st_uid + 1)
    faces = data.load_faces(path)
    np.testing.assert_array_equal(faces.images, IMAGES)
    np.testing.assert_array_equal(faces.labels, LABELS)


def test_faces_of_contempt_are_skipped_and_counted(tmp_path, capsys):
    path = write(tmp_path / "ck.csv", table("emotion,pixels", [0, 7, 2, 7, 6, 7, 1], ROWS))
    for _ in range(2):  # from the file, from the cache
        assert data.load_faces(path).labels.tolist() == [0, 2, 6, 1]
        assert "skipped 3 faces of label 7, contempt" in capsys.readouterr().out


def test_two_labels_for_one_id_are_refused(tmp_path):
    labels = write(tmp_path / "labels.csv", "id,label\n1,3\n2,1\n1,3\n1,4\n")
    with pytest.raises(UserError, match="rows 2, 4, 5: different labels for id '1'"):
        data.load_labels(labels, [1, 2])


def test_each_of_many_damaged_inputs_is_read_right_or_refused_in_one_line():
    counts = fuzz_data.run(inputs=250, seed=2)
    assert counts["read"] > 20 and counts["refused"] > 100


def test_fuzzing_notices_a_loader_that_is_wrong(monkeypatch):
    right = data.CONVERTERS["label"]
    monkeypatch.setitem(data.CONVERTERS, "label", lambda fields: (right(fields) + 1) % 7)
    with pytest.raises(AssertionError, match="other label"):
        fuzz_data.run(inputs=60, seed=0)


# ---- images, cache and memory ------------------------------------------------------------------------------


def png_that_claims(width, height):
    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
def test_images_that_are_too_large_damaged_or_no_images(tmp_path):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for content, expected in ((png_that_claims(60_000, 60_000), "60,000x60,000 pixels; expected at most"),
                              (png_that_claims(48, 48), "is no readable image"),
                              (script, "is no readable image")):
        path = write(tmp_path / "image.png", content)
        with pytest.raises(UserError, match=expected), data.open_image(path) as image:
            data.to_face(image)


def test_sixteen_bits_a_pixel_keep_their_brightness(tmp_path):
    file = io.BytesIO()
    Image.fromarray(IMAGES[0].astype(np.uint16) * 257).save(file, "PNG")
    path = write(tmp_path / "deep.png", file.getvalue())
    np.testing.assert_array_equal(data.read_images([path]), IMAGES[:1])


def test_a_pipe_is_refused_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="is no regular file"):
        data.load_faces(tmp_path / "pipe.csv")


def test_memory_of_a_cold_load_is_that_of_the_faces(tmp_path):
    path = write(tmp_path / "many.csv", "pixels\n" + "\n".join(ROWS * 400))  # 2,800 rows, 23 MB of text
    tracemalloc.start()
    faces = data.load_faces(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * faces.images.nbytes + 20e6  # the parts and their concatenation; one batch of text


def test_images_are_grouped_in_the_order_of_their_pixels(tmp_path):
    images = RNG.integers(0, 2, (60, 48, 48), np.uint8)
    images[:40, :9] = 7  # alike in their first lines
    images = images[RNG.integers(0, 60, 300)]
    expected = np.unique(images.reshape(300, -1), axis=0, return_inverse=True)[1].ravel()
    np.testing.assert_array_equal(data.image_groups(images), expected)
    assert data.image_groups(images[:0]).shape == (0,)


def test_split_is_stratified_repeatable_and_keeps_duplicates_together():
    images = RNG.integers(0, 256, (1000, 48, 48), np.uint8)
    images[500:600] = images[:100]
    labels = RNG.choice(7, 1000, p=[.14, .02, .14, .25, .17, .11, .17])
    faces = data.Faces(images, labels)
    train, validation = data.split(faces, 0.1, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert 80 <= len(validation) <= 120
    for code in range(7):
        share = (labels[validation] == code).sum() / (labels == code).sum()
        assert abs(share - 0.1) < 0.1
    inside = set(validation.tolist())
    assert all((i in inside) == (i + 500 in inside) for i in range(100))
    np.testing.assert_array_equal(data.split(faces, 0.1, seed=3)[1], validation)
    assert not np.array_equal(data.split(faces, 0.1, seed=4)[1], validation)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_split_of_very_few_leaves_something_to_train_on(n):
    faces = data.Faces(IMAGES[:n], LABELS[:n])
    train, validation = data.split(faces, 0.5, seed=0)
    assert len(train) >= 1
    assert len(train) + len(validation) == n
    assert len(data.split(faces, 0.0, seed=0)[1]) == 0


def test_labels_from_a_second_file(tmp_path, capsys):
    faces = write(tmp_path / "test.csv", DIALECTS["ml2017 test"])
    labels = write(tmp_path / "labels.csv", "id,label,Usage\n2,6,Public\n0,0,Private\n")
    known = data.load_labelled(faces, labels)
    assert known.ids.tolist() == ["0", "2"] and known.labels.tolist() == [0, 6]
    assert "has no label for 5 of the 7 faces" in capsys.readouterr().out
    with pytest.raises(UserError, match="row 2: label 'happy'"):
        data.load_labelled(faces, write(tmp_path / "wrong.csv", "id,label\n0,happy\n"))
    with pytest.raises(UserError, match=r"^nowhere\.csv does not exist; expected a CSV file$"):
        data.load_labelled(faces, Path("nowhere.csv"))
    with pytest.raises(UserError, match=r"others\.csv has no label for any face of .*test\.csv"):
        data.load_labelled(faces, write(tmp_path / "others.csv", "id,label\n99,3\n"))
    with pytest.raises(UserError, match="has no labels"):
        data.load_labelled(faces)


def test_fingerprint_depends_on_data_alone(tmp_path):
    prints = {data.load_faces(write(tmp_path / f"{i}.csv", DIALECTS[name])).fingerprint()
              for i, name in enumerate(("ml2017 train", "fer2013", "icml"))}
    assert len(prints) == 1
    assert data.load_faces(write(tmp_path / "t.csv", DIALECTS["ml2017 test"])).fingerprint() not in prints


def test_load_split_by_share_usage_and_second_file(tmp_path):
    path = write(tmp_path / "faces.csv", DIALECTS["fer2013"])  # 5 Training, 1 PublicTest, 1 PrivateTest
    training, validation, how = data.load_split(path, "PublicTest", seed=0, limit=3)
    rows = [np.flatnonzero((image == IMAGES).all(axis=(1, 2)))[0] for image in training.images]
    assert rows == sorted(set(rows)) and max(rows) < 5  # a sample of those for training, in their order
    np.testing.assert_array_equal(validation.images, IMAGES[5:6])
    fingerprint = data.Faces(IMAGES[rows], LABELS[rows]).fingerprint()
    assert how == {"data": training.source, "fingerprint": fingerprint, "rows": 3, "validation": "PublicTest",
                   "seed": 0, "training_rows": 3, "validation_rows": 1}
    training, validation, how = data.load_split(path, 0.5, seed=1)
    assert how["training_rows"] == len(training) and len(training) + len(validation) == 5
    labels = write(tmp_path / "labels.csv", "id,label\n1,3\n4,2\n")
    test = write(tmp_path / "test.csv", DIALECTS["ml2017 test"])
    assert data.load_split(path, str(test), validation_labels=labels)[1].labels.tolist() == [3, 2]


def test_load_split_refuses_what_it_cannot_split(tmp_path):
    path = write(tmp_path / "faces.csv", DIALECTS["ml2017 train"])
    messages = {"1": "cannot read 1", "PublicTest": "no row of Usage", "3/2": "of the folds 1/2 to 2/2"}
    for validation, message in messages.items():
        with pytest.raises(UserError, match=message):
            data.load_split(path, validation)
    with pytest.raises(UserError, match="no labels to train on"):
        data.load_split(write(tmp_path / "test.csv", DIALECTS["ml2017 test"]))
    write(path, table("emotion,pixels,Usage", LABELS, ROWS, ["Training"] * 6 + ["PrivateTest"]))
    with pytest.raises(UserError, match="no row of Usage PublicTest; choose another Usage"):
        data.load_split(path, "PublicTest")
    write(path, table("emotion,pixels,Usage", LABELS, ROWS, ["PublicTest"] * 7))
    with pytest.raises(UserError, match="no row of Usage Training"):
        data.load_split(path)
    for faces in (data.load_faces(path), data.load_faces(image_folder(tmp_path / "x", "test/happy"))):
        with pytest.raises(UserError, match="no row of Usage Training"):
            data.training_part(faces)


# ---- folders -----------------------------------------------------------------------------------------------


def image_folder(path, *places):
    """A folder with one face, the i-th of IMAGES, at the i-th place."""
    for i, place in enumerate(places):
        (path / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i % 7]).save(path / place / f"{i}.png")
    return path


@pytest.mark.parametrize(("name", "usage"), [
    ("val", "PublicTest"), ("valid", "PublicTest"), ("Validation", "PublicTest"),
    ("publictest", "PublicTest"), ("validation_set", "PublicTest"), ("2_val", "PublicTest"),
    ("test", "PrivateTest"), ("TESTING", "PrivateTest"), ("PrivateTest", "PrivateTest"),
    ("Test Images", "PrivateTest"), ("test-faces", "PrivateTest"), ("training_set", "Training"),
    ("Train_images", "Training")])
def test_folders_of_splits_become_usages_and_only_training_is_trained_on(tmp_path, name, usage):
    path = image_folder(tmp_path / "faces", "train/happy", f"{name}/sad", f"{name}/angry")
    faces = data.load_faces(path)
    assert dict(zip(faces.labels.tolist(), faces.usage.tolist())) == {3: "Training", 4: usage, 0: usage}
    if usage == "PublicTest":
        training, validation, _ = data.load_split(path, "PublicTest")
        np.testing.assert_array_equal(training.images, IMAGES[:1])
        assert len(validation) == 2
        assert len(data.load_split(path, 0)[0]) == 1


def test_folders_map_classes_by_name_not_by_order(tmp_path):
    path = image_folder(tmp_path / "faces", *(f"train/{name}" for name in data.CLASSES))
    faces = data.load_faces(path)
    np.testing.assert_array_equal(faces.images, IMAGES[faces.labels])
    listed = [data.CLASSES[code] for code in faces.labels]
    assert listed == sorted(data.CLASSES)  # neutral comes fifth in a listing, and still has code 6


def test_images_in_other_folders_are_counted_in_one_line(tmp_path, capsys):
    path = image_folder(tmp_path / "f", "train/happy", "train/suprise", "val/contempt", "val/contempt", ".")
    faces = data.load_faces(path)
    assert faces.labels.tolist() == [3] and faces.usage.tolist() == ["Training"]
    line, = capsys.readouterr().out.splitlines()
    for name in ("skipped 4 files", "val/contempt (2)", "train/suprise (1)", "images in . (1)"):
        assert name in line.replace(os.sep, "/")


@pytest.mark.parametrize("others", [
    ("train", "holdout"), ("fold1", "fold2"), ("", "extra"), ("test", "eval")])
def test_folders_that_may_be_splits_of_other_names_are_refused(tmp_path, others):
    path = image_folder(tmp_path / "faces", *(f"{other}/happy".strip("/") for other in others))
    with pytest.raises(UserError, match=rf"class folders in .*{others[1]}.*, which are not all known as "):
        data.load_faces(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 1), (8, 3)])
def test_a_picture_that_its_exif_data_turn_is_upright_as_in_a_photo(tmp_path, suffix, orientation, turn):
    stored = np.add.outer(np.arange(64), 2 * np.arange(96)).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    for folder, turns, options in (("turned", turn, {"exif": exif}), ("upright", 0, {})):
        (tmp_path / folder / "happy").mkdir(parents=True)
        image = Image.fromarray(np.rot90(stored, turns).copy())
        image.save(tmp_path / folder / "happy" / f"a{suffix}", **options)
    turned, upright = (data.load_faces(tmp_path / name).images.astype(int) for name in ("turned", "upright"))
    assert np.abs(turned - upright).max() <= 6  # of WebP


def test_what_is_no_picture_is_counted_and_what_systems_leave_is_not(tmp_path, capsys):
    path, other = image_folder(tmp_path / "faces", "happy", "happy"), image_folder(tmp_path / "other", "x")
    (path / "sad").symlink_to(other / "x")  # read as if it lay there
    png = (path / "happy" / "0.png").read_bytes()
    for name in ("a.heic", "b.txt", "c.TXT", ".d.png", "._0.png", "Thumbs.db", "odd\x1b[2J"):
        write(path / "happy" / name, png)
    for folder in ("__MACOSX", ".ipynb_checkpoints"):
        image_folder(path / folder, "happy")
    for suffix in ("tif", "gif", "jfif", "TIFF"):
        Image.fromarray(IMAGES[3]).save(path / "happy" / f"z.{suffix}", {"jfif": "JPEG"}.get(suffix))
    faces = data.load_faces(path)
    assert faces.ids.tolist() == ["happy/0.png", "happy/1.png", "happy/z.TIFF", "happy/z.gif", "happy/z.jfif",
                                  "happy/z.tif", "sad/0.png"]
    assert faces.labels.tolist() == [3] * 6 + [4]
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith("faces: skipped 4 files") or "/faces: skipped 4 files" in line
    assert line.endswith(": .txt (2), .heic (1), odd?[2J (1)")
    for name in ("bad.jpg", "empty.png"):
        write(path / "happy" / name, b"\xff\xd8" * (name == "bad.jpg"))
    Image.fromarray(IMAGES[0] / np.float32(255)).save(path / "happy" / "fractions.tif")
    (path / "happy" / "gone.png").symlink_to("nowhere.png")
    damaged = r"^4 of 11 images .*bad.jpg, .*empty.png, .*fractions.tif, .*gone.png;"
    with pytest.raises(UserError, match=damaged):
        data.load_faces(path)


def test_a_flat_folder_has_no_labels_and_its_files_are_the_ids(tmp_path):
    faces = data.load_faces(image_folder(tmp_path / "faces", ".", "."))
    assert faces.labels is None and faces.ids.tolist() == ["0.png", "1.png"]


# ---- samples -----------------------------------------------------------------------------------------------


def test_a_sample_has_every_class_in_its_share_and_is_the_same_each_time():
    labels = RNG.permutation(np.repeat(range(7), [400, 40, 300, 700, 400, 300, 500]))
    faces = data.Faces(np.zeros((len(labels), 48, 48), np.uint8), labels, ids=np.arange(len(labels)))
    sample = data.draw_sample(faces, 264, seed=1)
    assert len(sample) == 264 and np.abs(np.bincount(sample.labels) - np.bincount(labels) / 10).max() <= 1
    np.testing.assert_array_equal(sample.ids, np.unique(sample.ids))
    np.testing.assert_array_equal(data.draw_sample(faces, 264, seed=1).ids, sample.ids)
    assert not np.array_equal(data.draw_sample(faces, 264, seed=2).ids, sample.ids)
    assert data.draw_sample(faces, len(faces)) is data.draw_sample(faces, None) is faces
    assert len(set(data.draw_sample(data.Faces(faces.images, ids=faces.ids), 9).ids)) == 9


def test_a_part_of_a_folder_has_all_its_classes(tmp_path):
    path = image_folder(tmp_path / "faces", *data.CLASSES * 3)
    assert sorted(data.load_split(path, 0, limit=7)[0].labels) == [*range(7)]


def test_folders_of_digits_are_refused(tmp_path):
    path = image_folder(tmp_path / "rafdb", "train/1", "train/4", "test/10", "train/happy")
    with pytest.raises(UserError, match=r"class folders 1, 4, 10, .* number differently; rename them"):
        data.load_faces(path)


def test_sample_is_a_word_and_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "sample", "happy")
    np.testing.assert_array_equal(data.load_faces(cli.data_path("./sample")).images, IMAGES[:1])
    assert data.load_faces(cli.data_path("sample/")).labels.tolist() == [3]
    for path in ("sample", cli.data_path("sample")):
        assert data.load_faces(path).source == "built-in sample"
    assert cli.data_path("a/sample.csv") == Path("a/sample.csv")


# ---- ids and labels of a second file -----------------------------------------------------------------------


def test_ids_are_compared_as_they_are_written_but_for_a_fraction_of_zero(tmp_path, capsys):
    ids = ["10.0", "11.0", "12", "a.0", "007", "7"]
    faces = write(tmp_path / "test.csv", table("id,feature", ids, ROWS[:6]))
    assert data.load_faces(faces).ids.tolist() == ["10", "11", "12", "a.0", "007", "7"]
    labels = write(tmp_path / "labels.csv", "id,label\n10,3\n11.00,2\n12.0,1\na.0,4\n7,5\n007,6\n")
    assert data.load_labelled(faces, labels).labels.tolist() == [3, 2, 1, 4, 6, 5]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["x" * 65, "", "a\x07b", "x" * 100_000])
def test_an_id_that_is_no_name_is_refused(tmp_path, name):
    path = write(tmp_path / "test.csv", table("id,feature", [0, 1, name], ROWS[:3]))
    with pytest.raises(UserError, match=r"row 4: id .*; expected 1 to 64 printable characters"):
        data.load_faces(path)
    with pytest.raises(UserError, match=r"row 3: id .*; expected 1 to 64 printable characters"):
        data.load_labels(write(tmp_path / "labels.csv", table("id,label", [1, name], [3, 3])), [1])


# ---- paths -------------------------------------------------------------------------------------------------


def test_paths_that_no_file_can_have_are_one_line(tmp_path):
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("x" * 5000, "loop.csv", "none/a.csv", "a\0b.csv"):
        with pytest.raises(UserError, match="cannot read") as caught:
            data.load_faces(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")
    np.testing.assert_array_equal(data.load_faces(write(Path(odd), DIALECTS["fer2013"])).images, IMAGES)
    with pytest.raises(UserError, match="row 2: label '8'"):
        data.load_faces(write(Path(odd), table("label,pixels", ["8"], ROWS[:1])))
