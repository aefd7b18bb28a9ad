"""Whole files or none, and never over anything but an earlier output of the same kind.

Every output is written beside its final name, flushed to disk and then renamed. What a command reads,
devices, folders and files of another kind are refused, whatever their name or spelling.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path

from utils import cli
from utils.cli import UserError, interruption

PROJECT = Path(__file__).resolve().parent.parent
GENERATOR = "FER2013 Keras suite"  # a comment at the top of every page that we write
BEGINNINGS = {  # patterns of what we write; a JSON is a model card where a script does not say otherwise
    ".h5": rb"\x89HDF", ".keras": rb"PK", ".onnx": rb"\x08[\x03-\x20]", ".tflite": rb"(?s:....)TFL3",
    ".xml": rb"<\?xml[^>]*>\s*<net ", ".png": rb"\x89PNG", ".json": rb'\W*name"',
    ".mp4": rb"[\s\S]{4}ftyp",
    ".html": rb"<!DOCTYPE html>\s+<!-- %b" % GENERATOR.encode(), ".md": rb"\s*<!-- %b" % GENERATOR.encode()}


# ---- what may be overwritten -------------------------------------------------------------------------------


def check_outputs(outputs):
    """Refuse outputs that would destroy something else; for scripts to call before slow work starts.

    outputs: all paths that the command will write, or {path: the first words there, where its suffix does not
    tell: columns of a CSV such as "id,label", the first key of a JSON that is no model card}. Raises
    UserError when one is a folder or device, is write-protected, is read by this command, or exists and
    begins differently.
    """
    for path in outputs:
        check_output(Path(path), outputs[path] if isinstance(outputs, dict) else "")


def check_output(path, first=""):
    """The same for one path and its first words."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise UserError(f"cannot write {path}: it is {kind}; choose another name")
    if not mode & stat.S_IWUSR:  # renaming a file over it would not ask
        raise UserError(f"cannot write {path}: it is write-protected; choose another name")
    if is_input(path):
        raise UserError(f"{path} is read by this command, which would overwrite it; choose another name")
    beginning = BEGINNINGS.get(path.suffix.lower(), b"")
    if first:
        beginning = rb"\W*%b\b" % re.escape(first.encode())
    with open(path, "rb") as file:
        head = file.read(1000)
    if head and not re.match(beginning, head):
        raise UserError(f"{path} exists and is not an earlier output of this kind; choose another name, or "
                        "move that file away")


def is_input(path):
    """Whether the command reads the existing file `path`: under any name, or as a picture in a folder."""
    is_picture = path.suffix == ".png"
    return any(path.samefile(source) or (is_picture and path.parent.samefile(source))
               for source in cli.inputs if os.path.exists(source))


# ---- writing -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path, first=""):
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error.

    The temporary name keeps the suffix, so writers that choose a format by suffix (Keras, matplotlib) work.
    A reader sees the old file or the whole new one, never a part, also after a power cut. Raises UserError
    when the file may not be overwritten (see `check_outputs`), the folder cannot be written or the disk is
    full.
    """
    path = Path(path)
    check_output(path, first)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with interruption.undoing(temporary.unlink):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file)
            os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise UserError(f"cannot write {path}: {reason}; free some space or choose a folder you may write"
                        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text, first=""):
    """Write `text` (str) to `path` as UTF-8, as a whole file or not at all."""
    with replacing(path, first) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path, value):
    """Write the dict `value` as indented JSON, as a whole file or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", first=next(iter(value), ""))


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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} where a JSON object was expected")
    return value


# ---- locks and names ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path, refusal, timeout=0):
    """Hold the lock file `path` during the block, after waiting for it at most `timeout` seconds.

    Raises UserError(refusal) where another process holds it for longer. The system keeps the lock, so that of
    a killed process is gone with it.
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


def name_part(*words):
    """Words as part of a file name. What no file name should hold becomes a hyphen; a long text is cut, and a
    checksum keeps it different from others."""
    text = "_".join(re.sub(r"[^\w.+-]+", "-", word).strip("-") for word in words if word)
    return text if len(text) <= 100 else f"{text[:90]}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def relative_path(path):
    """`path` as a user would type it: relative to the current folder where that is shorter."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
