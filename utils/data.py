"""Faces from disk: every dialect of the FER2013 CSV, image folders, a cache, and splits that do not leak.

`find_data` decides where faces come from when no file is named; `load_split` gives the parts to train and to
validate on.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np

from utils import tables
from utils.cli import UserError
from utils.files import PROJECT, relative_path, replacing

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # position = code in the files
CLASS_CODES = {name: code for code, name in enumerate(CLASSES)} | {
    "anger": 0, "disgusted": 1, "fearful": 2, "happiness": 3, "sadness": 4, "surprised": 5}
VOTES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # FER+'s names of CLASSES
SIZE = 48
PIXELS = SIZE * SIZE
USAGES = ("Training", "PublicTest", "PrivateTest")
USAGE_OF_FOLDER = {
    "train": "Training", "training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest",
    "val": "PublicTest", "valid": "PublicTest", "validation": "PublicTest",
    "test": "PrivateTest", "testing": "PrivateTest"}
SUFFIXES = (".csv", ".csv.gz", ".csv.xz", ".csv.zip", ".zip")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm"}
CACHE = PROJECT / "data" / ".cache"
CACHE_VERSION = 4  # part of each cache entry's name; raise it when what the loader returns changes
LONGEST_ID = 64  # characters
CACHED = {"pixels": ("u1", (SIZE, SIZE)), "label": "<i8", "id": f"<U{LONGEST_ID}", "usage": "<U12"}
LARGEST_IMAGE = 50_000_000  # pixels of a photo
PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")  # not the scripting and vector formats
SAMPLE = "sample"
KAGGLE = ("FER2013: kaggle competitions download "
          "challenges-in-representation-learning-facial-expression-recognition-challenge -p data")


@dataclasses.dataclass
class Faces:
    """Faces and what is known of them; row i of every field belongs to the same image.

    images: uint8 (n, 48, 48), grey, 0-255; those of a CSV are memory-mapped, and `take` gives `Rows` of them
    labels: int64 (n,), codes 0-6 as in CLASSES, or None when the file has none
    ids:    str (n,), the file's `id` column, or None
    usage:  str (n,), one of USAGES, or None
    soft:   float32 (n, 7), the share of each class among people's votes, rows sum to 1, or None
    source: where they came from, for messages
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    usage: np.ndarray | None = None
    soft: np.ndarray | None = None
    source: str = ""

    def __len__(self):
        return len(self.images)

    @property
    def name(self):
        """`source` for a file name: "train" of data/train.csv.gz, "validation-train" of a split, "sample"."""
        place = Path(self.source.removeprefix("built-in ")).name
        is_split = self.source.startswith("the validation split of ")
        return "validation-" * is_split + re.sub(r"\.(csv|txt|gz|bz2|xz|zip)(?=\.|\s|$)", "", place)

    def arrays(self):
        """The fields that are known, without the source: {name: array}."""
        return {name: value for name, value in vars(self).items() if name != "source" and value is not None}

    def take(self, rows):
        """The faces at `rows` (int indices, a slice or a boolean mask), in that order."""
        taken = {name: array[rows] for name, array in self.arrays().items() if name != "images"}
        is_mapped = isinstance(self.images, (np.memmap, Rows))
        images = Rows(self.images, np.arange(len(self))[rows]) if is_mapped else self.images[rows]
        return Faces(images, **taken, source=self.source)

    def fingerprint(self):
        """SHA-256 (hex, 16 digits) of images, labels and votes: equal for equal data in whatever file."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 4096):
            digest.update(np.ascontiguousarray(self.images[start:start + 4096]))
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<i8"))
        if self.soft is not None:
            digest.update(np.ascontiguousarray(self.soft, "<f4"))
        return digest.hexdigest()[:16]


class Rows:
    """Rows of a memory-mapped array, read when they are indexed: there may be more than the memory holds.

    array: np.memmap, or Rows of one; rows: int (n,). NumPy's functions take it as the array (n, ...) that it
    stands for, and then read all of it.
    """

    def __init__(self, array, rows):
        self.array, self.rows = (array.array, array.rows[rows]) if isinstance(array, Rows) else (array, rows)
        self.shape, self.dtype = (len(self.rows), *array.shape[1:]), array.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        first, *others = key if isinstance(key, tuple) else (key,)
        return np.asarray(self.array[(self.rows[first], *others)])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)


def find_data(path=None, labels_from=None):
    """The faces to train on: `path`, else the first known file in data/, else the built-in sample.

    labels_from: a file of FER+ votes for these faces (see `with_votes`), or None
    Returns Faces; of a file with a Usage column, all rows. Prints one line when the sample stands in.
    """
    if path is None:
        names = [f"{stem}{suffix}" for stem in ("train", "fer2013", "icml_face_data") for suffix in SUFFIXES]
        path = next((PROJECT / "data" / name for name in names if (PROJECT / "data" / name).exists()), SAMPLE)
        if path == SAMPLE:
            print("No data/train.csv found: using faces drawn by a program (the built-in sample). "
                  f"Real faces: {KAGGLE}")
    faces = load_faces(path)
    return with_votes(faces, labels_from) if labels_from else faces


def load_faces(path):
    """Read faces from a CSV, plain or compressed, an image folder or, for "sample", the generator.

    CSV dialects (header case and spaces ignored): `label,feature`; `id,feature`; `emotion,pixels,Usage`;
    `emotion, Usage, pixels`; `emotion,pixels`; `pixels`. A parsed CSV is cached; the cache notices a changed
    file. Folders: see `read_folder`. Returns Faces. Raises UserError, one line
    with file and row, on anything that is not such data.
    """
    if str(path) == SAMPLE:  # a folder of this name comes as an absolute path from cli.data_path
        from utils.sample import sample_faces

        return Faces(*sample_faces(), source="built-in sample")
    path = Path(path)
    if os.path.isdir(path):
        return read_folder(path)
    try:
        entry = cache_entry(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}; {KAGGLE}") from error
    faces = read_cache(entry)
    if faces is None:
        faces = read_csv(path, entry)
    faces.source = relative_path(path)
    return faces


def load_labelled(path, labels=None):
    """Faces with labels to evaluate on: a labelled file, or one with ids plus an `id,label` CSV.

    Faces whose id the label file lacks are left out, and a printed line counts them. Raises UserError when
    none is left.
    """
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

    Raises UserError, one line with file and row, also when the file gives an id two different labels.
    """
    import pandas as pd

    converters = {"id": convert_ids, "label": convert_labels}
    table = pd.DataFrame(tables.read_table(path, converters, list(converters), ALIASES))
    labels = table.drop_duplicates(["id", "label"])
    repeated = labels.id[labels.id.duplicated()]
    if len(repeated):
        rows = ", ".join(map(str, table.row[table.id == repeated.iloc[0]]))
        raise UserError(f"{path} rows {rows}: different labels for id {repeated.iloc[0]!r}; expected one")
    return labels.set_index("id").label.reindex(map(str, ids), fill_value=-1).to_numpy(np.int64)


def with_votes(faces, path):
    """Faces with the labels of FER+ (Barsoum et al. 2016, fer2013new.csv): ten people's votes for each face.

    The rows of the file must be those of fer2013.csv in its order; for `faces` without Usage, the file's rows
    of Usage Training where those are as many. `soft` becomes the share of each of our classes, `labels` the
    class with the most votes (of equal ones the first). Votes for contempt, unknown and NF (no face) do not
    count; faces without any other are left out, and a printed line counts them. Raises UserError.
    """
    table = tables.read_table(path, {"usage": convert_usage, **dict.fromkeys(VOTES, convert_votes)},
                              ["usage", *VOTES], {})
    if faces.usage is None and len(faces) == np.sum(table["usage"] == "Training"):
        table = {name: array[table["usage"] == "Training"] for name, array in table.items()}
    if len(table["usage"]) != len(faces):
        raise UserError(f"{path} has {len(table['usage']):,} rows and {faces.source} {len(faces):,} faces; "
                        "expected as many, in the order of fer2013.csv")
    if faces.usage is not None and (table["usage"] != faces.usage).any():
        first = (table["usage"] != faces.usage).argmax()
        raise UserError(f"{path} row {table['row'][first]} has Usage {table['usage'][first]} where "
                        f"{faces.source} has {faces.usage[first]}; expected the order of fer2013.csv")
    votes = np.stack([table[name] for name in VOTES], axis=1)
    known = votes.sum(axis=1) > 0
    if not known.any():
        raise UserError(f"{path} has no vote for any of {', '.join(CLASSES)}")
    print(f"Labels of {path}: {np.sum(~known):,} of {len(faces):,} faces have no vote for "
          f"{', '.join(CLASSES)} and are left out")
    soft = (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return dataclasses.replace(faces, labels=votes.argmax(axis=1), soft=soft).take(known)


# ---- CSV ---------------------------------------------------------------------------------------------------


def read_csv(path, entry):
    """Parse a CSV of faces into the cache file `entry`, or without it where its folder cannot be written.

    Returns Faces; see `load_faces` for dialects and errors.
    """
    batches = tables.read_batches(path, CONVERTERS, ["pixels"], ALIASES)
    batches = itertools.chain([next(batches)], batches)  # errors of the first rows come before the file
    if can_write_to(entry.parent):
        with replacing(entry) as temporary:
            write_rows(temporary, batches)
        for old in set(CACHE.glob(f"{entry.name.split('-')[0]}-*.npy")) - {entry}:
            with contextlib.suppress(OSError):
                old.unlink()
        return read_cache(entry)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_rows(Path(folder) / "faces.npy", batches)
        return read_cache(Path(folder) / "faces.npy")  # what is mapped stays without the name


# The functions in CONVERTERS take fields of a column as a list of str and raise ValueError for the wrong one.


def convert_pixels(fields):
    """Fields of 2,304 whole numbers 0-255 between white space, `7.0` counting as 7: uint8 (n, 48, 48)."""
    with contextlib.suppress(ValueError, Warning), warnings.catch_warnings(action="error"):
        if "+" not in "".join(fields):  # a sign is what loadtxt would accept; NumPy below 2.4 warns of 256
            return np.loadtxt(fields, np.uint8, comments=None, ndmin=2).reshape(len(fields), SIZE, SIZE)
    images = []
    for values in map(str.split, fields):
        if len(values) != PIXELS:
            raise ValueError(f"{len(values)} pixels; expected {PIXELS} (48x48)")
        image = [whole_number(value, 255) for value in values]
        if None in image:
            wrong = image.index(None)
            raise ValueError(f"pixel {wrong + 1} is {values[wrong][:20]!r}; "
                             "expected a whole number from 0 to 255")
        images.append(image)
    return np.array(images, np.uint8).reshape(-1, SIZE, SIZE)


def convert_labels(fields):
    """Class codes 0-6 such as `3` or `3.0`: int64 (n,)."""
    codes = [whole_number(field.strip(), len(CLASSES) - 1) for field in fields]
    if None in codes:
        expected = ", ".join(f"{code} {name}" for code, name in enumerate(CLASSES))
        raise ValueError(f"label {fields[codes.index(None)].strip()[:20]!r}; expected {expected}")
    return np.array(codes, np.int64)


def convert_votes(fields):
    """Numbers of votes, 0-99: int64 (n,)."""
    votes = [whole_number(field.strip(), 99) for field in fields]
    if None in votes:
        raise ValueError(f"{fields[votes.index(None)].strip()[:20]!r} votes; expected a whole number")
    return np.array(votes, np.int64)


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


CONVERTERS = {"pixels": convert_pixels, "label": convert_labels, "id": convert_ids, "usage": convert_usage}
ALIASES = {"feature": "pixels", "emotion": "label"}


@functools.lru_cache(4096)  # a file of pixels such as 7.0 has few of them
def whole_number(text, highest):
    """The int from 0 to `highest` that a str such as `7`, `007` or `7.0` means, else None."""
    match = re.fullmatch(r"0*([0-9]{1,9})(\.0*)?", text)  # int() also takes 7_0 and other scripts' digits
    return int(match[1]) if match and int(match[1]) <= highest else None


# ---- folders -----------------------------------------------------------------------------------------------


def read_folder(path):
    """Faces from PATH/CLASS/* or PATH/SPLIT/CLASS/*: class by the folder's name, Usage by USAGE_OF_FOLDER.

    Images in other folders are left out, and a printed line counts them. Raises UserError.
    """
    source = relative_path(path)
    files = sorted(file for file in path.rglob("*")
                   if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    places = [("", "", *file.relative_to(path).parts)[-3:-1] for file in files]  # (split, class)
    codes = folder_codes({folder for _, folder in places}, source)
    usage = np.array([USAGE_OF_FOLDER.get(split.lower(), "") for split, _ in places])
    has_splits = (usage != "").any()
    labels = np.array([codes[folder] for _, folder in places], np.int64)
    rows = np.flatnonzero((labels >= 0) & ((usage != "") | (not has_splits)))
    if not len(rows):
        raise UserError(f"{source} holds no images in folders called {', '.join(CLASSES)}; "
                        "expected PATH/happy/1.jpg and so on")
    skipped = collections.Counter(relative_path(files[i].parent) for i in {*range(len(files))} - {*rows})
    if skipped:
        names = ", ".join(f"{name} ({count:,})" for name, count in skipped.most_common(8))
        print(f"{source}: skipped {skipped.total():,} images in {len(skipped)} folders of other names: "
              f"{names}")
    images = np.stack([read_image(files[row]) for row in rows])
    return Faces(images, labels[rows], usage=usage[rows] if has_splits else None, source=source)


def folder_codes(names, source):
    """{name of a folder: its class code, -1 where it is no class}. Raises UserError for digits."""
    if digits := sorted((name for name in names if re.fullmatch("[0-9]{1,3}", name)), key=int):
        raise UserError(f"{source} has class folders {', '.join(digits)}, which data sets number "
                        "differently; rename them to happy and so on")
    return {name: CLASS_CODES.get(name.strip().lower(), -1) for name in names}


def read_image(path):
    """A photo as a 48x48 grey face: uint8 (48, 48), 0-255. Raises UserError when it is no image."""
    with open_image(path) as image:
        return to_face(eight_bits(image))


@contextlib.contextmanager
def open_image(path):
    """Yield an image file as a PIL image. Raises UserError when it cannot be read or is too large."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own bound first warns; ours is below it
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=PHOTO_FORMATS) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise UserError(f"{path} has {image.width:,}x{image.height:,} pixels; "
                                f"expected at most {LARGEST_IMAGE:,} in all")
            yield image
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} is no readable image ({type(error).__name__}); "
                        "expected a JPEG or PNG") from error


def eight_bits(image):
    """A PIL image without the lower 8 of 16 bits a pixel, at which Pillow's own `convert` clips."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def to_face(image):
    """A PIL image, 8 bits a channel, as grey values of a face: uint8 (48, 48), 0-255."""
    from PIL import Image

    is_large = min(image.size) > 2 * SIZE
    kind = Image.Resampling.BOX if is_large else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize((SIZE, SIZE), kind))


# ---- cache -------------------------------------------------------------------------------------------------


def cache_entry(path):
    """The cache file of `path` as it is now: its name changes with the file's size, times and inode."""
    real = os.path.realpath(path, strict=True)
    stat = os.stat(real)
    state = f"{CACHE_VERSION} {real} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    place, state = (hashlib.sha256(os.fsencode(text)).hexdigest() for text in (real, state))
    return CACHE / f"{place[:12]}-{state[:20]}.npy"


def can_write_to(folder):
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.is_dir() and os.access(folder, os.W_OK)


def write_rows(path, batches):
    """Write the columns of a CSV, an iterator of {name: array}, as a structured .npy, a batch at a time."""
    with open(path, "wb") as file:
        rows = 0
        for batch in batches:
            table = np.empty(len(batch["pixels"]), [(name, CACHED[name]) for name in CACHED if name in batch])
            for name in table.dtype.names:
                table[name] = batch[name]
            if not rows:
                write_header(file, table.dtype, rows)
            file.write(table.tobytes())
            rows += len(table)
        file.seek(0)
        write_header(file, table.dtype, rows)  # as long as before: NumPy leaves space for the number


def write_header(file, kind, rows):
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (rows,)})


def read_cache(entry):
    """Faces kept under `entry`, their images memory-mapped, or None when there is none or it is damaged."""
    try:
        table = np.load(entry, mmap_mode="r", allow_pickle=False)
        label, ids, usage = (np.array(table[name]) if name in table.dtype.names else None
                             for name in ("label", "id", "usage"))
        return Faces(table["pixels"], label, ids, usage)
    except Exception:  # a damaged header leads NumPy to many kinds
        return None


# ---- splits ------------------------------------------------------------------------------------------------


def image_digests(images):
    """16 bytes for each image, equal for byte-identical ones: V16 (n,). Images are read one by one."""
    digests = (hashlib.blake2b(images[row].tobytes(), digest_size=16).digest() for row in range(len(images)))
    return np.fromiter(digests, "V16", len(images))


def image_groups(images):
    """The rank of each image among the different ones, equal for byte-identical images: int64 (n,)."""
    _, first, groups = np.unique(image_digests(images), return_index=True, return_inverse=True)
    ranks = np.empty(len(images), np.int64)
    ranks[sort_rows(images, first)] = np.arange(len(first))
    return ranks[first][groups]


def sort_rows(images, rows, line=0):
    """`rows` (int64) in the order of their images, which differ, from `line` on; few lines are in memory."""
    if not len(rows):
        return rows
    lines = np.ascontiguousarray(images[rows, line:line + 2]).reshape(len(rows), -1)
    lines = lines.view(f"V{lines.shape[1]}").ravel()
    _, rank, counts = np.unique(lines, return_inverse=True, return_counts=True)
    rows, ends = rows[np.argsort(rank, kind="stable")], np.cumsum(counts)
    for end, count in zip(ends[counts > 1], counts[counts > 1]):
        rows[end - count:end] = sort_rows(images, rows[end - count:end], line + 2)
    return rows


def split(faces, fraction, seed):
    """Split labelled faces into training and validation rows: two sorted int64 arrays of indices.

    Stratified by class; identical images stay on one side; the same faces, fraction and seed give the same
    split. `fraction` 0 gives an empty validation part. At least one image stays on the training side.
    Model cards name validation faces by fraction and seed: another algorithm would give away training faces.
    """
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
    """Split labelled faces k times for cross-validation: k pairs (training rows, validation rows), int64.

    Each face is in one validation part. Stratified by class; identical images stay on one side.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    try:
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        with warnings.catch_warnings(action="ignore"):  # of a class with fewer than k faces
            return list(splitter.split(faces.labels, faces.labels, image_groups(faces.images)))
    except ValueError as error:
        raise UserError(f"{len(faces):,} faces cannot be split into {k} folds: {error}") from error


def training_part(faces):
    """The faces to train on: rows of Usage Training where the file has that column, else all.

    Raises UserError where it has no such row.
    """
    part = faces if faces.usage is None else faces.take(faces.usage == "Training")
    if not len(part):
        raise UserError(f"{faces.source} has no row of Usage Training")
    return part


def load_split(path=None, validation="0.1", seed=0, limit=None, validation_labels=None, labels_from=None):
    """Load the faces to train on and those to validate on.

    path, labels_from: as in `find_data`; only rows of Usage Training are trained on, of those the
        first `limit`
    validation: a share of them from 0 to below 1 (str or float; see `split`), one of k folds ("1/5"; see
        `folds`), a Usage of the same file, or a labelled file, whose labels may be in a second one,
        `validation_labels`
    Returns (training Faces, validation Faces, dict that describes the split for the model card).
    Raises UserError.
    """
    everything = find_data(path, labels_from)
    if everything.labels is None:
        raise UserError(f"{everything.source} has no labels to train on; expected a column label or emotion")
    faces = training_part(everything)
    faces = faces.take(np.arange(min(limit or len(faces), len(faces))))
    try:
        share = float(validation)
    except ValueError:
        share = None
    if share is not None:
        if not 0 <= share < 1:
            raise UserError(f"--validation {validation} must be a share from 0 to below 1, a Usage or a file")
        training, held_out = (faces.take(rows) for rows in split(faces, share, seed))
    elif match := re.fullmatch("([1-9][0-9]?)/([1-9][0-9]?)", validation):
        fold, k = map(int, match.groups())
        if fold > k:
            raise UserError(f"--validation {validation} must be one of the folds 1/{k} to {k}/{k}")
        training, held_out = (faces.take(rows) for rows in folds(faces, k, seed)[fold - 1])
    elif validation in USAGES:
        if everything.usage is None:
            raise UserError(f"{everything.source} has no Usage column; give --validation a share or a file")
        training, held_out = faces, everything.take(everything.usage == validation)
    else:
        training, held_out = faces, load_labelled(validation, validation_labels)
    description = {"data": faces.source, "fingerprint": faces.fingerprint(), "rows": len(faces),
                   "validation": validation, "seed": seed, "training_rows": len(training),
                   "validation_rows": len(held_out)}
    return training, held_out, description
