"""Whole files or none, and never over an input.

Every output is written beside its final name, flushed to disk and then renamed. What a command reads, devices
and folders are refused as outputs, whatever their name or spelling.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path

from utils.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "data"
MODELS = PROJECT / "models"
FIGURES = PROJECT / "figures"

inputs = []  # paths that the command reads, which are never overwritten
figure_suffixes = [".png"]  # of the files that each figure is written to


def check_outputs(paths):
    """Before slow work: UserError for outputs that would destroy something else or cannot be written."""
    for path in map(Path, paths):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = stat.S_IFREG | stat.S_IWUSR
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from error
        folder = next((folder for folder in path.absolute().parents if folder.exists()), path)
        problems = {"it is a folder": stat.S_ISDIR(mode), "it is a device or pipe": not stat.S_ISREG(mode),
                    "it is write-protected": not mode & stat.S_IWUSR,  # of which a rename would not ask
                    "this command reads it": is_input(path),
                    "data/ is for what is read": is_in(path, DATA) and not is_in(path, DATA / ".cache")}
        if problem := next((text for text, is_so in problems.items() if is_so), ""):
            raise UserError(f"cannot write {path}: {problem}; choose another name")
        if not os.access(folder, os.W_OK):
            raise UserError(f"cannot write {path}: {folder} is write-protected; choose another --out-folder")


def is_input(path):
    """Whether the command reads the file `path` under any name, or pictures beside a picture `path`: in an
    input folder or below it, but below one that holds the current folder only if that is the same."""
    sources = list(filter(os.path.exists, inputs))
    if any(path.exists() and path.samefile(source) for source in sources):
        return True
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg") or is_in(path, FIGURES):
        return False
    folders = [os.path.realpath(source) for source in sources if source.is_dir()]
    elsewhere = [folder for folder in folders if not is_in(Path.cwd(), folder)]
    return os.path.realpath(path.parent) in folders or any(is_in(path, folder) for folder in elsewhere)


def is_in(path, folder):
    """Whether a path lies in a folder or below it, also by links."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error.

    The suffix stays, by which Keras and matplotlib choose a format. A reader sees the old file or the whole
    new one, also after a power cut. Raises UserError as `check_outputs`, and when the disk is full.
    """
    path = Path(path)
    check_outputs([path])
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file)
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise UserError(f"cannot write {path}: {reason}; free some space, or choose another "
                        "--out-folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` (str) to `path` as UTF-8, as a whole file or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path, value):
    """Write the dict `value` as indented JSON, as a whole file or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_table(path, frame):
    """Write a pandas DataFrame without its index as CSV, as a whole file or not at all."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", errors="backslashreplace")


def read_json(path):
    """The JSON object in `path` as a dict. Raises UserError when the file is missing or is no JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} where a JSON object was expected")
    return value


@contextlib.contextmanager
def locked(path, refusal, timeout=0):
    """Hold the lock file `path` during the block; UserError(refusal) where another process holds it for more
    than `timeout` seconds. The lock of a killed process is gone with it."""
    import filelock

    lock = filelock.FileLock(path, timeout=timeout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(refusal) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file; it does no harm
            path.unlink()
        lock.release()


def name_part(*words):
    """Words as part of a file name. What no file name should hold becomes a hyphen; of a long text, beginning
    and end stay, which tell most, and a checksum keeps it different from others."""
    text = "_".join(filter(None, (re.sub(r"[^\w.+-]+", "-", word).strip("-") for word in words)))
    if len(text) <= 100:
        return text
    start, end = text[:45].rpartition("_")[0] or text[:45], text[-40:].partition("_")[2] or text[-40:]
    return f"{start}_and-more-{hashlib.sha1(text.encode()).hexdigest()[:4]}_{end.strip('-')}"


def model_name(path):
    """The name of a model in the names of its figures: its path without suffix, from models/ or from the
    current folder on, so that two models of one name have figures of their own: `teachers-compact`."""
    path = Path(path).absolute().with_suffix("")
    for folder in (MODELS, Path.cwd()):
        if path.is_relative_to(folder):
            return name_part(str(path.relative_to(folder)))
    return name_part(str(path))


def relative_path(path):
    """`path` as a user would type it: relative to the current folder where that is shorter."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
