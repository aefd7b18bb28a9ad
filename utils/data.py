"""Faces from disk: every dialect of the FER2013 CSV, image folders, a cache, and splits that do not leak.

Data flows one way: file -> uint8 arrays -> batches. `find_data` says where faces come from when no file is named.
"""

import dataclasses
import hashlib
import re
import zlib
from pathlib import Path

import numpy as np

from utils.cli import UserError
from utils.files import PROJECT, replacing, shown

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # position = code in the files
SIZE = 48
PIXELS = SIZE * SIZE
USAGES = ("Training", "PublicTest", "PrivateTest")
SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.zip", ".zip")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm"}
CACHE = PROJECT / "data" / ".cache"
CACHE_VERSION = 1  # part of each cache entry's name; raise it when what the loader returns changes
WHOLE_NUMBER = re.compile(r"([0-9]{1,9})(\.0*)?")  # not float(): it also takes 7_0, nan and other scripts' digits
ROWS_AT_ONCE = 2048  # bounds the memory of a cold load: about 20 MB of text at a time
SAMPLE = "sample"
KAGGLE = ("FER2013: kaggle competitions download "
          "challenges-in-representation-learning-facial-expression-recognition-challenge -p data")


@dataclasses.dataclass
class Faces:
    """Faces and what is known of them; row i of every field belongs to the same image.

    images: uint8 (n, 48, 48), grey, 0-255
    labels: int64 (n,), codes 0-6 as in CLASSES, or None when the file has none
    ids:    int64 or str (n,), the file's `id` column, or None
    usage:  str (n,), one of USAGES, or None
    source: where they came from, as shown to the user
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    usage: np.ndarray | None = None
    source: str = ""

    def __len__(self):
        return len(self.images)

    def take(self, rows):
        """The faces at `rows` (int indices or a boolean mask), in that order."""
        pick = [None if a is None else a[rows] for a in (self.images, self.labels, self.ids, self.usage)]
        return Faces(*pick, source=self.source)

    def fingerprint(self):
        """SHA-256 (hex, 16 digits) of images and labels: equal for equal data, whatever file it came in."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<i8"))
        return digest.hexdigest()[:16]


def find_data(path=None):
    """The faces to train on: `path`, else the first known file in data/, else the built-in sample.

    Returns Faces; of a file with a Usage column, all rows. Prints one line when the sample stands in.
    """
    if path is None:
        names = [f"{stem}{suffix}" for stem in ("train", "fer2013", "icml_face_data") for suffix in SUFFIXES]
        path = next((PROJECT / "data" / name for name in names if (PROJECT / "data" / name).exists()), SAMPLE)
        if path == SAMPLE:
            print(f"No data/train.csv found: using the built-in sample of drawn faces. Real faces: {KAGGLE}")
    return load_faces(path)


def load_faces(path):
    """Read faces from a CSV (plain, .gz, .xz, .zip), from an image folder or, for "sample", from the generator.

    CSV dialects (header case and spaces ignored): `label,feature`; `id,feature`; `emotion,pixels,Usage`;
    `emotion, Usage, pixels`; `emotion,pixels`; `pixels`. Folders: PATH/CLASS/*.jpg or PATH/{train,test}/CLASS/*.jpg,
    classes mapped by name. A parsed CSV is cached; the cache notices a changed file. Returns Faces. Raises UserError,
    one line with file and row, on anything that is not such data.
    """
    if str(path) == SAMPLE:
        from utils.sample import sample_faces

        return Faces(*sample_faces(), source="built-in sample")
    path = Path(path)
    if path.is_dir():
        return read_folder(path)
    try:
        entry = cache_entry(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {KAGGLE}") from error
    faces = read_cache(entry)
    if faces is None:
        faces = read_csv(path)
        write_cache(entry, faces)
    faces.source = shown(path)
    return faces


def load_labels(path, ids):
    """Labels from a CSV of `id,label` for the given `ids`: int64 (len(ids),), -1 where the file has no such id."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read labels from {path}: {error}") from error
    frame.columns = [name.strip().lower() for name in frame.columns]
    if not {"id", "label"} <= set(frame.columns):
        raise UserError(f"{path} has columns {', '.join(frame.columns)}; expected id,label")
    known = dict(zip(frame["id"].str.strip(), parse_labels(frame["label"], path, first_row=2).tolist()))
    return np.array([known.get(str(i), -1) for i in ids], np.int64)


# ---- CSV ------------------------------------------------------------------------------------------------------


def read_csv(path):
    """Parse a CSV of faces in chunks; see `load_faces` for dialects and errors."""
    import pandas as pd

    parts = []
    row = 2  # as an editor shows it: line 1 is the header
    try:
        with open_text(path) as file:
            reader = pd.read_csv(file, dtype=str, keep_default_na=False, chunksize=ROWS_AT_ONCE,
                                 skip_blank_lines=True, encoding="utf-8-sig", index_col=False)
            for chunk in reader:
                parts.append(parse_chunk(chunk, path, row))
                row += len(chunk)
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path}: cannot be decompressed near row {row} ({error}); download it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text near row {row}: byte {error.object[error.start]:#04x}; "
                        "expected a CSV of pixels") from error
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty; expected a header such as label,feature and rows of {PIXELS} pixels") from error
    except ValueError as error:  # pandas' ParserError is one
        raise UserError(f"{path} near row {row}: {error}; expected as many fields as the header has") from error
    if not parts or row == 2:
        raise UserError(f"{path} has a header but no rows; expected one row of {PIXELS} pixels a face")
    return Faces(*(None if fields[0] is None else np.concatenate(fields) for fields in zip(*parts)))


def open_text(path):
    """Open a CSV for reading bytes, decompressing by what the file is, not by what it is called."""
    import gzip
    import lzma
    import zipfile

    with open(path, "rb") as file:
        magic = file.read(6)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path, "rb")
    if magic[:4] == b"PK\x03\x04":
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise UserError(f"{path} is a damaged zip file ({error}); download it again") from error
        inside = [name for name in archive.namelist() if name.lower().endswith(".csv")]
        if len(inside) != 1:
            raise UserError(f"{path} holds {len(inside)} CSV files; expected one: unpack it and name the one to read")
        return archive.open(inside[0])
    if magic.lstrip()[:1] == b"<":
        raise UserError(f"{path} is a web page, not a CSV (row 1 starts with '<'); "
                        "log in to Kaggle and download the file itself")
    return open(path, "rb")


def parse_chunk(chunk, path, first_row):
    """One chunk of rows (all columns str) -> (images, labels, ids, usage), absent columns as None."""
    columns = {}
    for name in chunk.columns:
        key = {"feature": "pixels", "emotion": "label"}.get(str(name).strip().lower(), str(name).strip().lower())
        columns.setdefault(key, chunk[name])
    if "pixels" not in columns:
        found = ", ".join(str(name).strip()[:20] for name in list(chunk.columns)[:5])
        raise UserError(f"{path} row 1: no column of pixels among: {found}; expected one called feature or pixels")
    images = parse_pixels(columns["pixels"], path, first_row)
    labels = parse_labels(columns["label"], path, first_row) if "label" in columns else None
    ids = usage = None
    if "id" in columns:
        ids = columns["id"].str.strip().to_numpy(dtype=str)
        if all(text.isascii() and text.isdigit() and len(text) < 18 for text in ids):
            ids = ids.astype(np.int64)
    if "usage" in columns:
        usage = columns["usage"].str.strip().to_numpy(dtype=str)
        wrong = ~np.isin(usage, USAGES)
        if wrong.any():
            at = int(wrong.argmax())
            raise UserError(f"{path} row {first_row + at}: Usage {str(usage[at])[:20]!r}; expected one of {', '.join(USAGES)}")
    return images, labels, ids, usage


def parse_labels(column, path, first_row):
    """Class codes 0-6 from a column of text: int64 (n,)."""
    codes = {str(code): code for code in range(len(CLASSES))}
    labels = column.str.strip().map(codes)
    wrong = labels.isna().to_numpy()
    if wrong.any():
        at = int(wrong.argmax())
        expected = ", ".join(f"{code} {name}" for code, name in enumerate(CLASSES))
        raise UserError(f"{path} row {first_row + at}: label {str(column.iloc[at])[:20]!r}; expected {expected}")
    return labels.to_numpy(np.int64)


def parse_pixels(column, path, first_row):
    """Rows of 2,304 whole numbers 0-255 separated by spaces -> uint8 (n, 48, 48).

    All numbers of a chunk are read at once from its bytes: a number ends where a digit is followed by a separator,
    and its value is its last digit plus ten times the one before plus a hundred times the one before that.
    """
    rows = column.tolist()
    text = np.frombuffer(("  \n" + "\n".join(rows) + "\n").encode("utf-8", "replace"), np.uint8)
    digit = text - np.uint8(48)  # wraps, so every other byte is above 9
    is_digit = digit <= 9
    separator = (text == 32) | (text == 10) | (text == 9) | (text == 13)
    ends = np.flatnonzero(is_digit[:-1] & separator[1:])
    units, tens, hundreds, before = (digit[ends - k] for k in range(4))
    two = tens <= 9
    three = two & (hundreds <= 9)
    value = units + np.where(two, tens, 0).astype(np.uint16) * 10 + np.where(three, hundreds, 0).astype(np.uint16) * 100
    newlines = np.flatnonzero(text == 10)
    counts = np.diff(np.searchsorted(ends, newlines))
    sound = (is_digit | separator).all() and not (three & (before <= 9)).any() and (value <= 255).all()
    if not sound or len(counts) != len(rows) or (counts != PIXELS).any():
        return parse_pixels_slowly(rows, path, first_row)
    return value.astype(np.uint8).reshape(-1, SIZE, SIZE)


def parse_pixels_slowly(rows, path, first_row):
    """The same value by value: accepts `70.0`, and finds the first wrong row and value."""
    images = np.empty((len(rows), PIXELS), np.uint8)
    for i, row in enumerate(rows):
        values = row[:PIXELS * 8].split()
        if len(values) != PIXELS:
            more = "more than " if len(row) > PIXELS * 8 else ""
            raise UserError(f"{path} row {first_row + i}: {more}{len(values)} pixels; expected {PIXELS} (48x48)")
        for k, value in enumerate(values):
            whole = WHOLE_NUMBER.fullmatch(value)
            if not whole or int(whole[1]) > 255:
                raise UserError(f"{path} row {first_row + i}: pixel {k + 1} is {value[:20]!r}; "
                                "expected a whole number from 0 to 255")
            images[i, k] = int(whole[1])
    return images.reshape(-1, SIZE, SIZE)


# ---- folders --------------------------------------------------------------------------------------------------


def read_folder(path):
    """Faces from PATH/CLASS/* or PATH/{train,test,...}/CLASS/*; the class is the folder's name, never its position."""
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    files = [f for f in files if class_of_folder(f.parent.name) is not None]
    if not files:
        raise UserError(f"{path} holds no images in folders called {', '.join(CLASSES)}; "
                        "expected PATH/happy/1.jpg and so on")
    labels = np.array([class_of_folder(f.parent.name) for f in files], np.int64)
    images = np.stack([read_image(f) for f in files])
    usages = {"train": "Training", "training": "Training", "test": "PrivateTest", "validation": "PublicTest",
              "publictest": "PublicTest", "privatetest": "PrivateTest"}
    usage = np.array([usages.get(f.parent.parent.name.lower(), "") for f in files])
    return Faces(images, labels, usage=usage if (usage != "").all() else None, source=shown(path))


def class_of_folder(name):
    """Class code of a folder called `happy`, `Happiness` or `3`; None for any other name."""
    name = name.strip().lower()
    aliases = {"anger": 0, "disgusted": 1, "fearful": 2, "happiness": 3, "sadness": 4, "surprised": 5}
    if name in CLASSES:
        return CLASSES.index(name)
    return aliases.get(name, int(name) if name in map(str, range(len(CLASSES))) else None)


def read_image(path):
    """A photo as a 48x48 grey face: uint8 (48, 48), 0-255. Raises UserError when it is no image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.convert("L")
            if grey.size != (SIZE, SIZE):
                grey = grey.resize((SIZE, SIZE), Image.Resampling.BOX if min(grey.size) > 2 * SIZE
                                   else Image.Resampling.BILINEAR)
            return np.asarray(grey, np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no readable image ({type(error).__name__}); expected a JPEG or PNG of a face") from error


# ---- cache ----------------------------------------------------------------------------------------------------


def cache_entry(path):
    """The cache file that belongs to `path` as it is now: its name changes with the file's size, times and inode."""
    real = path.resolve(strict=True)
    stat = real.stat()
    key = f"{CACHE_VERSION} {real} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    return CACHE / f"{hashlib.sha256(str(real).encode()).hexdigest()[:12]}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.npy"


def write_cache(entry, faces):
    """Keep `faces` as one structured .npy; older entries of the same file go. A cache that cannot be kept is no error."""
    fields = {"images": faces.images, "labels": faces.labels, "ids": faces.ids, "usage": faces.usage}
    fields = {name: array for name, array in fields.items() if array is not None}
    table = np.empty(len(faces), [(name, array.dtype, array.shape[1:]) for name, array in fields.items()])
    for name, array in fields.items():
        table[name] = array
    try:
        with replacing(entry) as temporary:
            np.save(temporary, table)
        for old in CACHE.glob(f"{entry.name.split('-')[0]}-*.npy"):
            if old != entry:
                old.unlink(missing_ok=True)
    except (UserError, OSError):
        pass


def read_cache(entry):
    """Faces kept under `entry`, or None when there is none or it is damaged."""
    try:
        table = np.load(entry, mmap_mode="r", allow_pickle=False)
        get = {name: np.ascontiguousarray(table[name]) for name in table.dtype.names}
    except (OSError, ValueError, EOFError):
        return None
    return Faces(get["images"], get.get("labels"), get.get("ids"), get.get("usage"))


# ---- splits ---------------------------------------------------------------------------------------------------


def image_groups(images):
    """A number per image, equal exactly for byte-identical images: int64 (n,)."""
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    return np.unique(flat.view(f"V{flat.shape[1]}").ravel(), return_inverse=True)[1].astype(np.int64)


def split(faces, fraction, seed):
    """Split labelled faces into training and validation rows: two sorted int64 arrays of indices.

    Stratified by class; identical images stay on one side; the same faces, fraction and seed give the same split.
    `fraction` 0 gives an empty validation part. At least one image stays on the training side.
    """
    rng = np.random.default_rng([seed, 48])
    groups = image_groups(faces.images)
    chosen = np.zeros(len(faces), bool)
    sizes = np.bincount(groups)
    first_label = np.empty(len(sizes), np.int64)
    first_label[groups[::-1]] = faces.labels[::-1]  # identical images may carry different labels: the first counts
    for code in np.unique(first_label):
        members = rng.permutation(np.flatnonzero(first_label == code))
        reached = np.cumsum(sizes[members])
        chosen[np.isin(groups, members[reached <= round(fraction * reached[-1])])] = True
    if chosen.all():
        chosen[0] = False
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def training_part(faces):
    """The faces to train on: rows of Usage Training where the file has that column, else all."""
    return faces if faces.usage is None else faces.take(faces.usage == "Training")


def load_labelled(path, labels=None):
    """Faces with labels to evaluate on: a labelled file, or one with ids plus an `id,label` CSV.

    Rows whose id the label file lacks are left out. Raises UserError when no label is known.
    """
    faces = load_faces(path)
    if labels is not None:
        ids = np.arange(len(faces)) if faces.ids is None else faces.ids
        faces.labels = load_labels(labels, ids)
        faces = faces.take(faces.labels >= 0)
    if faces.labels is None or not len(faces):
        raise UserError(f"{path} has no labels; name an id,label CSV for it")
    return faces
