"""Whole files or none, and never over anything but an earlier output of the same kind.

Every output is written beside its final name, flushed to disk and then renamed. What a command reads,
devices, folders and files of another kind are refused, whatever their name or spelling.
"""

import contextlib
import csv
import glob
import json
import os
import secrets
import stat
import time
from pathlib import Path

from utils import cli
from utils.cli import UserError, interruption

PROJECT = Path(__file__).resolve().parent.parent
ABANDONED = 3600  # seconds after which a temporary file is taken for that of a killed process
GENERATOR = "FER2013 Keras suite"  # in every HTML and Markdown file that we write, so that we may replace it
SIGNATURES = {".h5": b"\x89HDF", ".keras": b"PK", ".png": b"\x89PNG", ".gif": b"GIF8"}
PIXEL_COLUMNS = {"pixels", "pixel", "feature", "features"}


# ---- what may be overwritten -------------------------------------------------------------------------------


def check_outputs(outputs):
    """Refuse outputs that would destroy something else; for scripts to call before slow work starts.

    outputs: all paths that the command will write, or {path: name of the first column of the CSV, or first
    key of the JSON, that will be written there}. Raises UserError when one is a folder or device, is read by
    this command, or exists with another content than what is written there; a model card is replaced only
    with its model.
    """
    first_names = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs, "")
    first_names = {Path(path): first for path, first in first_names.items()}
    models = {path.with_suffix(".json") for path in first_names if path.suffix in (".h5", ".keras")}
    for path, first in first_names.items():
        check_output(path, first, is_card=path in models)


def check_output(path, first="", is_card=False, is_update=False):
    """The same for one path. is_card: a model card is written; is_update: an input is replaced on purpose."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise UserError(f"cannot write {path}: it is {kind}; choose another name")
    if not is_update and any(is_same(path, source) for source in cli.inputs):
        raise UserError(f"{path} is read by this command, which would overwrite it; choose another name")
    if problem := difference(path, first, is_card):
        raise UserError(f"{path} exists and is {problem}; choose another name, or move that file away")


def is_same(path, source):
    """Whether writing `path` would change the input `source`: the same file, or a picture in that folder."""
    if source.is_dir():
        return path.suffix in (".png", ".gif") and path.parent.samefile(source)
    return source.exists() and path.samefile(source)


def difference(path, first, is_card):
    """What the existing file `path` is instead of an earlier output of the same kind; "" if it is one."""
    with open(path, "rb") as file:
        head = file.read(100_000)
    suffix = path.suffix.lower()
    if not head:
        return ""
    if suffix == ".json":
        return difference_of_json(path, first, is_card)
    if suffix in (".html", ".md"):
        return "" if GENERATOR.encode() in head else "not a report of this project"
    if suffix in SIGNATURES and not first:
        return "" if head.startswith(SIGNATURES[suffix]) else f"not a {suffix} file"
    return difference_of_table(head, first) if first or suffix == ".csv" else ""


def difference_of_json(path, first, is_card):
    try:
        existing = read_json(path)
    except UserError:
        return "not a JSON object"
    if is_model_card(existing) != is_card:
        return "not a model card" if is_card else "a model card"
    return "" if is_card or not first or first == next(iter(existing), first) else "a JSON of another content"


def difference_of_table(head, first):
    header = head.decode("utf-8-sig", "replace").split("\n")[0]
    try:
        columns = [cell.strip() for cell in next(csv.reader([header]), [])]
    except csv.Error:
        columns = []
    if PIXEL_COLUMNS & {column.lower() for column in columns}:
        return "a file of faces"
    return "" if columns and first in ("", columns[0]) else f"not a table whose first column is {first}"


def is_model_card(value):
    """Whether a JSON object is the card of a trained model."""
    return {"network", "arguments"} <= set(value)


# ---- writing -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path, **content):
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error.

    content: what `check_output` should know of it. The temporary name keeps the suffix, so writers that
    choose a format by suffix (Keras, matplotlib) work. A reader sees the old file or the whole new one, never
    a part, also after a power cut. Raises UserError when the file may not be overwritten, the folder cannot
    be written or the disk is full.
    """
    path = Path(path)
    check_output(path, **content)
    start = f".{path.stem[:40]}."  # short enough for a name of any length
    temporary = path.with_name(f"{start}{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, start)
        with interruption.undoing(temporary.unlink):
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        reason = error.strerror or (str(error).splitlines() or [type(error).__name__])[0]
        advice = "free some space or choose a folder you may write"
        raise UserError(f"cannot write {path}: {reason}; {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder, start):
    """Remove what processes that were killed while they wrote a file left behind."""
    for left in folder.glob(f"{glob.escape(start)}{'[0-9a-f]' * 8}.part*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def flush(path):
    """Have the system put a file, or the names in a folder, on the disk now."""
    if path.is_dir() and os.name != "posix":
        return  # other systems cannot open a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path, text, **content):
    """Write `text` (str) to `path` as UTF-8, as a whole file or not at all."""
    with replacing(path, **content) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path, value, is_update=False):
    """Write the dict `value` as indented JSON, a whole file or none. is_update: `path` is also an input."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text, first=next(iter(value), ""), is_card=is_model_card(value), is_update=is_update)


def write_table(path, frame):
    """Write a pandas DataFrame without its index as CSV, as a whole file or not at all."""
    with replacing(path, first=str(frame.columns[0])) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", errors="backslashreplace")


def read_json(path):
    """The JSON object in `path` as a dict. Raises UserError when the file is missing or is no JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not JSON that can be read: its brackets are nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} where a JSON object was expected")
    return value


# ---- locks and names ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path, refusal, timeout=0):
    """Hold the lock file `path` during the block, after waiting for it at most `timeout` seconds.

    Raises UserError(refusal) where another process holds it for longer.

    The system keeps the lock, so that of a killed process is gone with it.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=timeout)
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(refusal) from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        with interruption.undoing(path.unlink):
            yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file; it does no harm
            path.unlink()
        lock.release()


def relative_path(path):
    """`path` as a user would type it: relative to the current folder where that is shorter."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
