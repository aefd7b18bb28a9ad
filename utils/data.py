"""Faces from disk: every dialect of the FER2013 CSV, image folders, a cache, and splits that do not leak."""

import bz2
import collections
import contextlib
import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import lzma
import os
import re
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from utils.cli import USAGES, UserError, printable
from utils.files import PROJECT, relative_path, replacing

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # position = code in the files
CLASS_CODES = {name: code for code, name in enumerate(CLASSES)} | {
    "anger": 0, "disgusted": 1, "fearful": 2, "happiness": 3, "sadness": 4, "surprised": 5}
VOTES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # FER+'s names of CLASSES
SIZE = 48
PIXELS = SIZE * SIZE
USAGE_OF_FOLDER = {  # in small letters alone, without "set", "data", "images" or "faces" at the end
    "train": "Training", "training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest",
    "val": "PublicTest", "valid": "PublicTest", "validation": "PublicTest", "dev": "PublicTest",
    "test": "PrivateTest", "testing": "PrivateTest"}
SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.zip", ".zip")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm",
                  ".ppm"}
NO_DATA = r"(?is)\..*|__MACOSX|@eaDir|thumbs\.db|desktop\.ini"  # what systems leave in folders
CONTEMPT = 7  # in CK+ and FER+, which know an eighth class
CACHE = (PROJECT / "data/.cache" if os.access(PROJECT, os.W_OK) else
         Path(tempfile.gettempdir(), "fer2013-keras-suite"))
CACHE_VERSION = 5  # part of each cache entry's name; raise it when what the loader returns changes
LONGEST_ID = 64  # characters
LARGEST_IMAGE = 50_000_000  # pixels of a photo
PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")  # not the scripting and vector formats
SAMPLE = "sample"
KAGGLE = ("README.md says how to get FER2013: kaggle competitions download -p data "
          "challenges-in-representation-learning-facial-expression-recognition-challenge")
Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound, below LARGEST_IMAGE, warns first


@dataclasses.dataclass
class Faces:
    """Faces and what is known of them; row i of every field belongs to the same image."""

    images: np.ndarray  # uint8 (n, 48, 48), grey, 0-255
    labels: np.ndarray | None = None  # int64 (n,), codes 0-6 as in CLASSES
    ids: np.ndarray | None = None  # str (n,), the file's `id` column, or of a folder its files
    usage: np.ndarray | None = None  # str (n,), each one of USAGES
    soft: np.ndarray | None = None  # float32 (n, 7), each class's share of people's votes, rows sum to 1
    source: str = ""  # where they came from, for messages

    def __len__(self):
        return len(self.images)

    @property
    def name(self):
        """`source` for a file name: "train" of data/train.csv.gz, "validation-train" of a split, "sample"."""
        place = Path(self.source.removeprefix("built-in ")).name
        is_split = self.source.startswith("the validation split of ")
        return "validation-" * is_split + re.sub(r"\.(csv|txt|gz|bz2|xz|zip)(?=\.|\s|$)", "", place)

    def take(self, rows):
        """The faces at `rows` (int indices, a slice or a boolean mask), in that order."""
        return Faces(**{name: value if value is None or name == "source" else value[rows]
                        for name, value in vars(self).items()})

    def fingerprint(self):
        """SHA-256 (hex, 16 digits) of images, labels and votes: equal for equal data in whatever file."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<i8"))
        if self.soft is not None:
            digest.update(np.ascontiguousarray(self.soft, "<f4"))
        return digest.hexdigest()[:16]


def find_data(path=None, labels_from=None):
    """The Faces to train on: `path`, else the first known file in data/, else the built-in sample, of which a
    line is printed; of any Usage. labels_from: a file of FER+ votes (see `with_votes`)."""
    if path is None:
        names = [f"{stem}{suffix}" for stem in ("train", "fer2013", "icml_face_data") for suffix in SUFFIXES]
        path = next((PROJECT / "data" / name for name in names if (PROJECT / "data" / name).exists()), SAMPLE)
        if path == SAMPLE:
            print("No data/train.csv found: using faces drawn by a program (the built-in sample).\n"
                  f"{KAGGLE}")
    faces = load_faces(path)
    return with_votes(faces, labels_from) if labels_from else faces


def load_faces(path):
    """Read faces from a CSV, plain or compressed, an image folder or, for "sample", the generator.

    Columns of a CSV, in any order: `feature` or `pixels` and perhaps `label` or `emotion`, `id`, `Usage`;
    between them commas, semicolons or tabs. Folders: see `read_folder`. Returns Faces. Raises UserError, one
    line with file and row, on anything that is not such data.
    """
    if str(path) == SAMPLE:  # a folder of this name comes as an absolute path from cli.data_path
        from utils.sample import sample_faces

        return Faces(*sample_faces(), source="built-in sample")
    path = Path(path)
    if os.path.isdir(path):
        return read_folder(path)
    try:
        columns = read_cached(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    names = {"images": "pixels", "labels": "label", "ids": "id", "usage": "usage"}
    faces = Faces(**{name: columns.get(column) for name, column in names.items()}, source=relative_path(path))
    if faces.labels is not None and (skipped := np.sum(faces.labels == CONTEMPT)):
        print(f"{faces.source}: skipped {skipped:,} faces of label {CONTEMPT}, contempt")
        faces = faces.take(faces.labels != CONTEMPT)
    return faces


def load_labelled(path, labels=None):
    """Faces with labels to evaluate on: a labelled file, or one with ids plus an `id,label` CSV. A printed
    line counts faces whose id the label file lacks; UserError when no other is left."""
    faces = load_faces(path)
    if labels is not None:
        faces.labels = load_labels(labels, np.arange(len(faces)) if faces.ids is None else faces.ids)
        missing = int(np.sum(faces.labels < 0))
        if missing == len(faces):
            raise UserError(f"{labels} has no label for any face of {faces.source}; is it the right file?")
        if missing:
            print(f"{labels} has no label for {missing:,} of the {len(faces):,} faces of {faces.source}; "
                  "they are left out")
        faces = faces.take(faces.labels >= 0)
    if faces.labels is None:
        raise UserError(f"{path} has no labels; name an id,label CSV for it")
    return faces


def load_labels(path, ids):
    """Labels from a CSV of `id,label` for the given `ids`: int64 (len(ids),), -1 where the file lacks the id.
    Raises UserError with file and row, also when the file gives an id two different labels."""
    import pandas as pd

    converters = {"id": CONVERTERS["id"], "label": whole_numbers(len(CLASSES) - 1, NO_LABEL)}
    table = pd.DataFrame(read_columns(path, converters, [*converters]))
    labels = table.drop_duplicates(["id", "label"])
    repeated = labels.id[labels.id.duplicated()]
    if len(repeated):
        rows = ", ".join(map(str, table.row[table.id == repeated.iloc[0]]))
        raise UserError(f"{path} rows {rows}: different labels for id {repeated.iloc[0]!r}; expected one")
    return labels.set_index("id").label.reindex(map(str, ids), fill_value=-1).to_numpy(np.int64)


def with_votes(faces, path):
    """Faces with the labels of FER+ (Barsoum et al. 2016, fer2013new.csv): ten people's votes for each face.

    The rows of the file must be those of fer2013.csv in its order; for `faces` without Usage, its Training
    rows where those are as many. `soft` becomes the share of each of our classes, `labels` the class with the
    most votes (of equal ones the first). Votes for contempt, unknown and NF (no face) do not count; a printed
    line counts the faces without any other, which are left out. Raises UserError.
    """
    converters = {"usage": CONVERTERS["usage"], **dict.fromkeys(VOTES, NUMBER_OF_VOTES)}
    table = read_columns(path, converters, [*converters])
    if faces.usage is None and len(faces) == np.sum(table["usage"] == "Training"):
        table = {name: array[table["usage"] == "Training"] for name, array in table.items()}
    usage = table["usage"]
    if len(usage) != len(faces):
        raise UserError(f"{path} has {len(usage):,} rows and {faces.source} {len(faces):,} faces; "
                        "expected as many, in the order of fer2013.csv")
    if faces.usage is not None and (usage != faces.usage).any():
        first = (usage != faces.usage).argmax()
        raise UserError(f"{path} row {table['row'][first]} has Usage {usage[first]} where {faces.source} has "
                        f"{faces.usage[first]}; expected the order of fer2013.csv")
    votes = np.stack([table[name] for name in VOTES], axis=1)
    known = votes.sum(axis=1) > 0
    if not known.any():
        raise UserError(f"{path} has no vote for any of {', '.join(CLASSES)}")
    print(f"Labels of {path}: {np.sum(~known):,} of {len(faces):,} faces have no vote for "
          f"{', '.join(CLASSES)} and are left out")
    soft = (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return dataclasses.replace(faces, labels=votes.argmax(axis=1), soft=soft).take(known)


# ---- CSV ---------------------------------------------------------------------------------------------------


def read_columns(path, converters, required):
    """Columns of a CSV as arrays, {name: array}, and the number of each row in an editor under "row".

    converters: {column: function from its fields, a list of str, to an array, or ValueError}; names are
        compared in lower case, without spaces, after ALIASES; the file must have those that are `required`
    Raises UserError, one line with file and row.
    """
    rows = read_rows(path)
    _, header = next(rows, (1, None))
    if header is None:
        raise UserError(f"{path} is empty; expected a header of {', '.join(required)}")
    names = [name.strip().lower() for name in header]
    names = [ALIASES.get(name, name) for name in names]
    for name in converters:
        count = names.count(name)
        if count > 1 or (count == 0 and name in required):
            found = ", ".join(repr(name[:20]) for name in names[:5])
            also = "".join(f" or {alias}" for alias, meant in ALIASES.items() if meant == name)
            raise UserError(f"{path} row 1: {count or 'no'} column{'s' * (count > 1)} of {name} among: "
                            f"{found}; expected one called {name}{also}")
    columns = {name: (names.index(name), convert) for name, convert in converters.items() if name in names}
    batches = iter(lambda: list(itertools.islice(rows, 512)), [])
    parts = [convert_rows(batch, columns, len(names), path) for batch in batches]
    if not parts:
        raise UserError(f"{path} has a header but no rows; expected rows of {', '.join(columns)}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_rows(path):
    """The rows of a CSV, plain or compressed, whatever its name: yields (number as an editor shows it, fields
    as a list of str). Other bytes than UTF-8 become surrogates."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is no regular file; a pipe cannot be read twice: save it as a CSV first")
    row = 1
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        opener = next((COMPRESSED[key] for key in COMPRESSED if start.startswith(key)), open)
        with opener(path, "rb") as stream:
            lines = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape")
            header = lines.readline()
            reader = csv.reader(itertools.chain([header], lines), delimiter=max(",;\t", key=header.count))
            for fields in reader:
                if len(fields) > 1 or "".join(fields).strip():  # else it is a blank line
                    yield row, fields
                row = reader.line_num + 1
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; expected a CSV file") from error
    except (csv.Error, EOFError, OSError, ValueError, RuntimeError,  # the last: an encrypted zip
            zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path} at row {row}: {reason}; expected a complete CSV file") from error


def open_zip(path, mode):
    """The one CSV in a zip file, opened for reading bytes."""
    with zipfile.ZipFile(path) as archive:  # closed here, its file stays open until the member is closed
        inside = [name for name in archive.namelist() if re.fullmatch(r"(?i)(?!__MACOSX/).*\.csv", name)]
        if len(inside) != 1:
            raise UserError(f"{path} holds {len(inside)} CSV files; "
                            "expected one: unpack it and name the one to read")
        return archive.open(inside[0])


def convert_rows(rows, columns, width, path):
    """Rows as arrays, {name: array}, by {name: (position, converter)}; `width` is the header's number of
    fields. Raises UserError that names the first wrong row."""
    last = max(position for position, _ in columns.values())
    for row, fields in rows:
        if len(fields) <= last or "".join(fields[width:]).strip():
            raise UserError(f"{path} row {row}: {len(fields)} fields; expected {width} as in the header")
    try:
        arrays = {name: convert([fields[position] for _, fields in rows])
                  for name, (position, convert) in columns.items()}
    except ValueError as error:
        if len(rows) == 1:
            raise UserError(f"{path} row {rows[0][0]}: {error}") from error
        for row in rows:  # the slow second look, only to name the wrong one
            convert_rows([row], columns, width, path)
        raise
    return arrays | {"row": np.array([row for row, _ in rows])}


def convert_pixels(fields):
    """Fields of 2,304 whole numbers 0-255 between white space, `7.0` counting as 7: uint8 (n, 48, 48)."""
    with contextlib.suppress(ValueError, Warning), warnings.catch_warnings(action="error"):
        if "+" not in "".join(fields):  # a sign is what loadtxt would accept; NumPy below 2.4 warns of 256
            return np.loadtxt(fields, np.uint8, comments=None, ndmin=2).reshape(len(fields), SIZE, SIZE)
    images = []
    for values in map(str.split, fields):
        if len(values) != PIXELS:
            raise ValueError(f"{len(values)} pixels; expected {PIXELS} (48x48)")
        images.append(PIXEL_VALUES(values))
    return np.array(images, np.uint8).reshape(-1, SIZE, SIZE)


def convert_ids(fields):
    """Names of faces, a whole number written as a float without its fraction: str (n,)."""
    ids = [re.sub(r"^([0-9]{1,18})\.0*$", r"\1", field.strip()) for field in fields]
    for name in ids:
        if not 0 < len(name) <= LONGEST_ID or not name.isprintable():
            raise ValueError(f"id {name[:20]!r}; expected 1 to {LONGEST_ID} printable characters in UTF-8")
    return np.array(ids)


def convert_usage(fields):
    """Members of USAGES: str (n,)."""
    usage = [field.strip() for field in fields]
    if wrong := set(usage) - set(USAGES):
        raise ValueError(f"Usage {wrong.pop()[:20]!r}; expected one of {', '.join(USAGES)}")
    return np.array(usage)


def whole_numbers(highest, problem):
    """A converter of fields such as `7`, `007` or `7.0` to int64 (n,). It raises ValueError(problem), where
    `{}` stands for the field, for the first that is no whole number from 0 to `highest`."""

    @functools.lru_cache(4096)
    def number(text):
        match = re.fullmatch(r"0*([0-9]{1,9})(\.0*)?", text.strip())  # int() also takes 7_0 and other digits
        return int(match[1]) if match and int(match[1]) <= highest else None

    def convert(fields):
        numbers = list(map(number, fields))
        if None in numbers:
            raise ValueError(problem.format(repr(fields[numbers.index(None)].strip()[:20])))
        return np.array(numbers, np.int64)

    return convert


COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"PK\3\4": open_zip}
NO_LABEL = "label {}; expected " + ", ".join(f"{code} {name}" for code, name in enumerate(CLASSES))
PIXEL_VALUES = whole_numbers(255, "pixel {}; expected a whole number from 0 to 255")
NUMBER_OF_VOTES = whole_numbers(99, "{} votes; expected a whole number")
CONVERTERS = {"pixels": convert_pixels, "label": whole_numbers(CONTEMPT, NO_LABEL), "id": convert_ids,
              "usage": convert_usage}
ALIASES = {"feature": "pixels", "emotion": "label"}


# ---- folders -----------------------------------------------------------------------------------------------


def read_folder(path):
    """Faces from PATH/CLASS/* or PATH/SPLIT/CLASS/*: class by the folder's name, Usage by USAGE_OF_FOLDER; of
    a folder that holds nothing but images, faces without labels. `ids` are the files below PATH.

    A printed line counts what is left out: files of other kinds, and images in folders that are no class.
    Raises UserError, also where class folders stand in splits of unknown names.
    """
    source, found = relative_path(path), files_below(path)
    files = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    is_flat = bool(files) and all(len(file.parts) == 1 for file in files)
    places = [("", "", *file.parts)[-3:-1] for file in files]  # (split, class)
    if digits := sorted({folder for _, folder in places if re.fullmatch("[0-9]{1,3}", folder)}, key=int):
        raise UserError(f"{source} has class folders {', '.join(digits)}, which data sets number "
                        "differently; rename them to happy and so on")
    labels = np.array([CLASS_CODES.get(folder.strip().lower(), -1) for _, folder in places], np.int64)
    rows = np.flatnonzero((labels >= 0) | is_flat)
    if not len(rows):
        raise UserError(f"{source} holds no images in folders called {', '.join(CLASSES)}; "
                        "expected PATH/happy/1.jpg and so on")
    skipped = collections.Counter(f"images in {file.parent}" for file in np.delete(files, rows))
    skipped += collections.Counter(file.suffix.lower() or file.name for file in found
                                   if file.suffix.lower() not in IMAGE_SUFFIXES)
    if skipped:
        names = ", ".join(f"{name} ({count:,})" for name, count in skipped.most_common(8))
        print(f"{source}: skipped {skipped.total():,} files that are no images or in no folder of a class: "
              f"{printable(names)}")
    splits = {places[row][0] for row in rows}
    usage_of = {split: USAGE_OF_FOLDER.get(re.sub("(set|data|images|faces)$", "", letters), "")
                for split in splits for letters in [re.sub("[^a-z]", "", split.lower())]}
    if len(splits) > 1 and "" in usage_of.values():
        names = ", ".join(sorted(split or "." for split in splits))
        raise UserError(f"{source} has class folders in {names}, which are not all known as splits; "
                        "rename them to train, validation and test")
    usage = np.array([usage_of[places[row][0]] for row in rows])
    return Faces(read_images([path / files[row] for row in rows]), None if is_flat else labels[rows],
                 np.array([str(files[row]) for row in rows]), usage if usage.all() else None, source=source)


def files_below(path):
    """The files below a folder and its links, but for what NO_DATA names: sorted relative Paths."""
    found, seen = [], set()  # real folders: a link may lead back
    for folder, below, names in os.walk(path, followlinks=True):
        seen.add(os.path.realpath(folder))
        below[:] = [name for name in below if not re.fullmatch(NO_DATA, name)
                    and os.path.realpath(os.path.join(folder, name)) not in seen]
        found += [Path(folder, name).relative_to(path) for name in names if not re.fullmatch(NO_DATA, name)]
    return sorted(found)


def read_images(paths):
    """Image files as 48x48 grey faces: uint8 (n, 48, 48), 0-255. Raises UserError that names the damaged."""
    images, damaged = [], []
    for path in paths:
        try:
            with open_image(path) as image:
                images.append(to_face(eight_bits(image)))
        except UserError:
            damaged.append(relative_path(path))
    if damaged:
        raise UserError(f"{len(damaged)} of {len(paths)} images cannot be read: {', '.join(damaged[:8])}"
                        f"{' and so on' * (len(damaged) > 8)}; remove or replace them")
    return np.stack(images)


@contextlib.contextmanager
def open_image(path):
    """Yield an image file as a PIL image, upright by its EXIF data; UserError if unreadable or too large."""
    try:
        with warnings.catch_warnings(action="ignore"), open(path, "rb") as file, Image.open(
                file, formats=PHOTO_FORMATS) as image:  # a file: of a path, Pillow garbles turned TIFFs
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{path} has {image.width:,}x{image.height:,} pixels; "
                                f"expected at most {LARGEST_IMAGE:,} in all")
            if image.mode == "F":
                raise UserError(f"{path} has fractions as pixels; expected 8 or 16 bits")
            yield ImageOps.exif_transpose(image)
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} is no readable image ({type(error).__name__}); "
                        "expected a JPEG or PNG") from error


def eight_bits(image):
    """A PIL image without the lower 8 of 16 bits a pixel, at which Pillow's own `convert` clips."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def to_face(image):
    """A PIL image, 8 bits a channel, as grey values of a face: uint8 (48, 48), 0-255."""
    is_large = min(image.size) > 2 * SIZE
    kind = Image.Resampling.BOX if is_large else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize((SIZE, SIZE), kind))


# ---- cache -------------------------------------------------------------------------------------------------


def read_cached(path):
    """The columns of a CSV of faces, from the cache where it has them: {name: array}. An entry is named after
    path, size, times and inode of the CSV, and replaces what an earlier state of it left. One that is not
    ours or not what we write is read anew; one that cannot be written is no error."""
    real = os.path.realpath(path, strict=True)
    info = os.stat(real)
    state = f"{CACHE_VERSION} {real} {info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_ino}"
    place, state = (hashlib.sha256(os.fsencode(text)).hexdigest() for text in (real, state))
    entry = CACHE / f"{place[:12]}-{state[:20]}.npz"
    with contextlib.suppress(Exception):  # a damaged header leads NumPy to many kinds
        with np.load(entry, allow_pickle=False) as file:  # whose format has a checksum of each array
            columns = dict(file)
        if is_as_written(columns) and entry.stat().st_uid == getattr(os, "getuid", lambda: 0)():
            return columns
    columns = read_columns(path, CONVERTERS, ["pixels"])
    with contextlib.suppress(UserError, OSError):
        with replacing(entry) as temporary:
            np.savez(temporary, **columns)
        for old in set(CACHE.glob(f"{place[:12]}-*.np?")) - {entry}:
            old.unlink()
    return columns


def is_as_written(columns):
    """Whether columns from the cache, {name: array}, have the types, shapes and values of `read_columns`."""
    kinds = {"pixels": "u", "label": "i", "id": "U", "usage": "U", "row": "i"}
    return (all(column.dtype.kind == kinds[name] for name, column in columns.items())
            and columns["pixels"].shape == (len(columns["row"]), SIZE, SIZE)
            and len({len(column) for column in columns.values()}) == 1
            and np.isin(columns.get("label", 0), range(CONTEMPT + 1)).all()
            and np.isin(columns.get("usage", USAGES[0]), USAGES).all())


# ---- splits ------------------------------------------------------------------------------------------------


def image_bytes(images):
    """Each image as one value, 2,304 bytes, to compare and to sort: V2304 (n,)."""
    return np.ascontiguousarray(images).reshape(len(images), PIXELS).view(f"V{PIXELS}").ravel()


def image_groups(images):
    """The rank of each image among the different ones, equal for byte-identical images: int64 (n,)."""
    return np.unique(image_bytes(images), return_inverse=True)[1]


def split(faces, fraction, seed):
    """Split labelled faces into training and validation rows: two sorted int64 arrays of indices. Stratified
    by class; identical images stay on one side; at least one image is trained on. Model cards name validation
    faces by fraction and seed: another algorithm would give away training faces."""
    rng = np.random.default_rng([seed, 48])
    groups = image_groups(faces.images)
    chosen = np.zeros(len(faces), bool)
    sizes = np.bincount(groups)
    first_label = np.empty(len(sizes), np.int64)
    first_label[groups[::-1]] = faces.labels[::-1]  # of identical images the first label counts
    for code in np.unique(first_label):
        members = rng.permutation(np.flatnonzero(first_label == code))
        reached = np.cumsum(sizes[members])
        chosen[np.isin(groups, members[reached <= round(fraction * reached[-1])])] = True
    if chosen.all():
        chosen[0] = False
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def folds(faces, k, seed):
    """Split labelled faces for cross-validation: k pairs (training rows, validation rows), int64, stratified
    by class; identical images stay on one side."""
    from sklearn.model_selection import StratifiedGroupKFold

    try:
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        with warnings.catch_warnings(action="ignore"):  # of a class with fewer than k faces
            return list(splitter.split(faces.labels, faces.labels, image_groups(faces.images)))
    except ValueError as error:
        raise UserError(f"{len(faces):,} faces cannot be split into {k} folds: {error}") from error


def training_part(faces):
    """The faces to train on: rows of Usage Training, where there are Usages; UserError without one."""
    part = faces if faces.usage is None else faces.take(faces.usage == "Training")
    if not len(part):
        raise UserError(f"{faces.source} has no row of Usage Training")
    return part


def draw_sample(faces, n, seed=0):
    """A random sample of at most `n` faces (None: all) in the order of the file, each class in its share."""
    if n is None or n >= len(faces):
        return faces
    rng = np.random.default_rng([seed, 50])
    labels = np.zeros(len(faces), int) if faces.labels is None else faces.labels
    place = np.empty(len(faces))  # of each face among those of its class, 0-1
    for code in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == code))
        place[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
    return faces.take(np.sort(np.argsort(place, kind="stable")[:n]))


def load_split(path=None, validation="0.1", seed=0, limit=None, validation_labels=None, labels_from=None):
    """Load the faces to train on and those to validate on: (training Faces, validation Faces, dict for the
    model card). Raises UserError.

    path, labels_from: as in `find_data`; of rows of Usage Training a sample of `limit` is trained on
    validation: a share of them from 0 to below 1 (see `split`), one of k folds ("1/5"; see `folds`), a Usage
        of the same file, or a labelled file, whose labels may be in a second one, `validation_labels`
    """
    everything = find_data(path, labels_from)
    if everything.labels is None:
        raise UserError(f"{everything.source} has no labels to train on; expected a column label or emotion")
    faces = draw_sample(training_part(everything), limit, seed)
    training = faces
    if validation in USAGES:
        held_out = everything.take(np.flatnonzero(everything.usage == validation))
        if not len(held_out):
            raise UserError(f"{everything.source} has no row of Usage {validation}; choose another Usage, a "
                            "share or a file for --validation")
    elif is_drawn(validation):
        fold, _, k = str(validation).partition("/")
        if k and int(fold) > int(k):
            raise UserError(f"--validation {validation} must be one of the folds 1/{k} to {k}/{k}")
        rows = folds(faces, int(k), seed)[int(fold) - 1] if k else split(faces, float(fold), seed)
        training, held_out = map(faces.take, rows)
    else:
        held_out = load_labelled(validation, validation_labels)
    description = {"data": faces.source, "fingerprint": faces.fingerprint(), "rows": len(faces),
                   "validation": validation, "seed": seed, "training_rows": len(training),
                   "validation_rows": len(held_out)}
    return training, held_out, description


def is_drawn(validation):
    """Whether `validation` (see `load_split`) is a share from 0 to below 1 or a fold such as 1/5."""
    with contextlib.suppress(ValueError):
        return bool(re.fullmatch("[1-9][0-9]?/[1-9][0-9]?", str(validation))) or 0 <= float(validation) < 1
    return False
