"""Faces from disk: every dialect of the FER2013 CSV, image folders, a cache, and splits that do not leak.

Data flows one way: file -> uint8 arrays -> batches. `find_data` says where faces come from when no file is named.
"""

import csv
import dataclasses
import hashlib
import io
import itertools
import lzma
import re
import zipfile
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
WHOLE_NUMBER = re.compile(rb"([0-9]{1,9})(\.0*)?")  # not float(): it also takes 7_0, nan and other scripts' digits
ROWS_AT_ONCE = 512  # bounds the memory of a cold load: about 5 MB of text at a time
LONGEST_LINE = 1 << 20  # bytes; a face needs at most a hundredth of it
UNPACKED = 64 << 20, 20  # a compressed file may give so many bytes, or so many times its size: faces shrink to a third
MOST_BLANK_LINES = 100_000
LARGEST_IMAGE = 50_000_000  # pixels of a photo
PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")  # not the scripting and vector formats
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, RuntimeError)  # the last: encrypted zips
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
    """Labels from a CSV of `id,label` for the given `ids`: int64 (len(ids),), -1 where the file has no such id.

    Raises UserError, one line with file and row, also when the file gives an id two different labels.
    """
    path, known = Path(path), {}
    for columns, rows in read_chunks(path):
        if not {"id", "label"} <= set(columns):
            raise UserError(f"{path} row 1 has columns {', '.join(map(repr, columns))[:60]}; expected id,label")
        for row, name, label in zip(rows, text_of(columns["id"], rows, path), parse_labels(columns["label"], rows, path)):
            if known.setdefault(name, label) != label:
                raise UserError(f"{path} row {row}: id {name[:20]!r} has label {label} and, further up, {known[name]}")
    return np.array([known.get(str(i), -1) for i in ids], np.int64)


# ---- CSV ------------------------------------------------------------------------------------------------------


def read_csv(path):
    """Parse a CSV of faces in chunks; see `load_faces` for dialects and errors."""
    path = Path(path)
    parts = [parse_chunk(columns, rows, path) for columns, rows in read_chunks(path)]
    if not parts:
        raise UserError(f"{path} has a header but no rows; expected one row of {PIXELS} pixels a face")
    images, labels, ids, usage = (None if fields[0] is None else np.concatenate(fields) for fields in zip(*parts))
    if ids is not None and all(re.fullmatch("0|[1-9][0-9]{0,17}", text) for text in ids):  # else "007" would become 7
        ids = ids.astype(np.int64)
    return Faces(images, labels, ids, usage)


def read_chunks(path):
    """Read a CSV some rows at a time: yields ({column: list of bytes}, list of row numbers as an editor shows them).

    Columns are named in lower case, `feature` as pixels and `emotion` as label. Nothing is yielded when there are no rows.
    """
    lines = Lines(path)
    try:
        with open_text(path) as lines.file:
            records = read_records(lines)
            names = read_header(records, path)
            while chunk := list(itertools.islice(records, ROWS_AT_ONCE)):
                rows = [row for row, _ in chunk]
                for row, fields in chunk:
                    if len(fields) < len(names) or any(extra.strip() for extra in fields[len(names):]):
                        raise UserError(f"{path} row {row}: {len(fields)} fields; expected {len(names)} as in the header")
                yield {name: [fields[i] for _, fields in chunk] for i, name in enumerate(names)}, rows
    except csv.Error as error:
        raise UserError(f"{path} near row {lines.row}: {error}; expected quotes around whole fields only") from error
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be decompressed near row {lines.row} ({reason}); download it again") from error


class Lines:
    """The lines of a file as bytes, none longer than LONGEST_LINE; `row` is the number of the last one, from 1."""

    def __init__(self, path):
        self.path, self.file, self.row = path, None, 0

    def __iter__(self):
        while line := self.file.readline(LONGEST_LINE):
            self.row += 1
            if self.row == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) == LONGEST_LINE:
                raise UserError(f"{self.path} row {self.row} is longer than {LONGEST_LINE:,} bytes; "
                                f"expected {PIXELS} pixels a row")
            if b"\r" in line.rstrip(b"\r\n"):
                raise UserError(f"{self.path} row {self.row} has a carriage return in its middle; "
                                "expected lines that end in LF or CRLF")
            yield line


def read_records(lines):
    """Split lines at commas: yields (row number, list of bytes), blank lines left out. Quoted fields may span lines."""
    source, blank = iter(lines), 0
    for line in source:
        row = lines.row
        if b'"' in line:  # rare, and Python's parser is slow for fields of ten thousand characters
            following = (more.decode("latin-1") for more in source)
            text = next(csv.reader(itertools.chain([line.decode("latin-1")], following), strict=True))
            yield row, [field.encode("latin-1") for field in text]
        elif line.strip():
            yield row, line.rstrip(b"\r\n").split(b",")
        elif (blank := blank + 1) > MOST_BLANK_LINES:
            raise UserError(f"{lines.path} has more than {MOST_BLANK_LINES:,} blank lines up to row {row}; expected faces")


def read_header(records, path):
    """The column names that a CSV starts with, a list of str; see `read_chunks`."""
    row, fields = next(records, (1, None))
    if fields is None:
        raise UserError(f"{path} is empty; expected a header such as label,feature and rows of {PIXELS} pixels")
    names = [name.lower() for name in text_of(fields, [row] * len(fields), path)]
    names = [{"feature": "pixels", "emotion": "label"}.get(name, name) for name in names]
    for name in ("pixels", "label", "id", "usage"):
        if names.count(name) > 1:
            raise UserError(f"{path} row {row}: {names.count(name)} columns of {name}; expected one")
    return names


def text_of(fields, rows, path):
    """Fields of a column as str, without spaces around them. Raises UserError where one is not UTF-8."""
    try:
        return [field.decode("utf-8").strip() for field in fields]
    except UnicodeDecodeError as error:
        row = next(row for row, field in zip(rows, fields) if field == error.object)
        raise UserError(f"{path} is not text at row {row}: byte {error.object[error.start]:#04x}; "
                        "expected a CSV in UTF-8") from error


class Bounded(io.RawIOBase):
    """What a decompressor gives, up to the bound that UNPACKED sets; beyond it the file is refused."""

    def __init__(self, path, stream):
        super().__init__()
        self.path, self.stream, self.given = path, stream, 0
        self.most = max(UNPACKED[0], UNPACKED[1] * path.stat().st_size)

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self.stream.readinto(buffer)
        self.given += count
        if self.given > self.most:
            raise UserError(f"{self.path} unpacks to more than {self.most >> 20:,} MB, {UNPACKED[1]} times its size; "
                            "no file of faces does: refused")
        return count

    def close(self):
        self.stream.close()
        super().close()


def open_text(path):
    """Open a CSV for reading bytes, decompressing by what the file is, not by what it is called."""
    import gzip

    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; a pipe cannot be read twice: save it as a CSV first")
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if magic[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(path)
    elif magic == b"\xfd7zXZ\x00":
        stream = lzma.LZMAFile(path)  # noqa: SIM115
    elif magic[:4] == b"PK\x03\x04":
        stream = open_zip(path)
    elif magic.lstrip()[:1] == b"<":
        raise UserError(f"{path} is a web page, not a CSV (row 1 starts with '<'); "
                        "log in to Kaggle and download the file itself")
    elif magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} row 1 is UTF-16; save it as CSV in UTF-8")
    else:
        return open(path, "rb")
    return io.BufferedReader(Bounded(path, stream), 1 << 18)


def open_zip(path):
    """The one CSV in a zip file, opened for reading bytes."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is a damaged zip file ({error}); download it again") from error
    with archive:  # closed here, its file stays open until the member's reader is closed
        inside = [name for name in archive.namelist() if name.lower().endswith(".csv") and not name.startswith("__MACOSX/")]
        if len(inside) != 1:
            raise UserError(f"{path} holds {len(inside)} CSV files; expected one: unpack it and name the one to read")
        return archive.open(inside[0])


def parse_chunk(columns, rows, path):
    """One chunk as `read_chunks` gives it -> (images, labels, ids as str, usage), absent columns as None."""
    if "pixels" not in columns:
        found = ", ".join(repr(name[:20]) for name in list(columns)[:5])
        raise UserError(f"{path} row 1: no column of pixels among: {found}; expected one called feature or pixels")
    images = parse_pixels(columns["pixels"], rows, path)
    labels = parse_labels(columns["label"], rows, path) if "label" in columns else None
    ids = np.array(text_of(columns["id"], rows, path)) if "id" in columns else None
    usage = np.array(text_of(columns["usage"], rows, path)) if "usage" in columns else None
    if usage is not None and (wrong := ~np.isin(usage, USAGES)).any():
        at = int(wrong.argmax())
        raise UserError(f"{path} row {rows[at]}: Usage {str(usage[at])[:20]!r}; expected one of {', '.join(USAGES)}")
    return images, labels, ids, usage


def parse_labels(column, rows, path):
    """Class codes 0-6 from a column of bytes such as `3` or `3.0`: int64 (n,)."""
    labels = np.empty(len(column), np.int64)
    for i, field in enumerate(column):
        whole = WHOLE_NUMBER.fullmatch(field.strip())
        if not whole or int(whole[1]) >= len(CLASSES):
            expected = ", ".join(f"{code} {name}" for code, name in enumerate(CLASSES))
            raise UserError(f"{path} row {rows[i]}: label {shortened(field)}; expected {expected}")
        labels[i] = int(whole[1])
    return labels


def shortened(field):
    """A field as an error message shows it."""
    return repr(field.strip().decode("utf-8", "replace")[:20])


def parse_pixels(column, rows, path):
    """Fields of 2,304 whole numbers 0-255 separated by spaces -> uint8 (n, 48, 48).

    All numbers of a chunk are read at once from its bytes: a number ends where a digit is followed by a separator,
    and its value is its last digit plus ten times the one before plus a hundred times the one before that.
    """
    joined = b"  \n" + b"\n".join(column) + b"\n"
    if b"." in joined:
        joined = re.sub(rb"(?<=[0-9])\.0*(?=\s)", b"", joined)
    text = np.frombuffer(joined, np.uint8)
    digit = text - np.uint8(48)  # wraps, so every other byte is above 9
    is_digit = digit <= 9
    separator = (text == 32) | (text == 10) | (text == 9)
    ends = np.flatnonzero(is_digit[:-1] & separator[1:])
    units, tens, hundreds, before = (digit[ends - k] for k in range(4))
    two = tens <= 9
    three = two & (hundreds <= 9)
    value = units + np.where(two, tens, 0).astype(np.uint16) * 10 + np.where(three, hundreds, 0).astype(np.uint16) * 100
    newlines = np.flatnonzero(text == 10)
    counts = np.diff(np.searchsorted(ends, newlines))
    sound = (is_digit | separator).all() and not (three & (before <= 9)).any() and (value <= 255).all()
    if not sound or len(counts) != len(column) or (counts != PIXELS).any():
        return parse_pixels_slowly(column, rows, path)
    return value.astype(np.uint8).reshape(-1, SIZE, SIZE)


def parse_pixels_slowly(column, rows, path):
    """The same value by value: finds the first wrong row and value."""
    images = np.empty((len(column), PIXELS), np.uint8)
    for i, field in enumerate(column):
        values = field.split()
        if len(values) != PIXELS:
            raise UserError(f"{path} row {rows[i]}: {len(values)} pixels; expected {PIXELS} (48x48)")
        for k, value in enumerate(values):
            whole = WHOLE_NUMBER.fullmatch(value)
            if not whole or int(whole[1]) > 255:
                raise UserError(f"{path} row {rows[i]}: pixel {k + 1} is {shortened(value)}; "
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

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound first warns; ours is below it
    try:
        with Image.open(path, formats=PHOTO_FORMATS) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{path} has {image.width:,}x{image.height:,} pixels; expected at most {LARGEST_IMAGE:,}")
            return to_face(image)
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} is no readable image ({type(error).__name__}); expected a JPEG or PNG of a face") from error


def to_face(image):
    """A PIL image as grey values of a face: uint8 (48, 48), 0-255."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    grey = image.convert("L")
    if grey.size != (SIZE, SIZE):
        grey = grey.resize((SIZE, SIZE), Image.Resampling.BOX if min(grey.size) > 2 * SIZE
                           else Image.Resampling.BILINEAR)
    return np.asarray(grey, np.uint8)


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
        faces = Faces(get["images"], get.get("labels"), get.get("ids"), get.get("usage"))
    except (OSError, ValueError, EOFError, TypeError, KeyError, SyntaxError, MemoryError):
        return None
    sound = faces.images.shape[1:] == (SIZE, SIZE) and faces.images.dtype == np.uint8 and len(faces)
    return faces if sound and (faces.labels is None or np.isin(faces.labels, range(len(CLASSES))).all()) else None


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
