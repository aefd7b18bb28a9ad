"""Whole files or none: every output is written beside its final name, flushed to disk and then renamed."""

import contextlib
import glob
import json
import os
import secrets
import time
from pathlib import Path

from utils.cli import UserError, interruption

PROJECT = Path(__file__).resolve().parent.parent


ABANDONED = 3600  # seconds after which a temporary file is taken for that of a killed process


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error.

    The temporary name keeps the suffix, so writers that choose a format by suffix (Keras, matplotlib) work.
    A reader sees the old file or the whole new one, never a part, also after a power cut. Raises UserError when the folder
    cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        with interruption.undoing(temporary.unlink):
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        reason = error.strerror or (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot write {path}: {reason}; free some space or choose a folder you may write") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_abandoned(path):
    """Remove what processes that were killed while they wrote `path` left behind."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * 8}.part*"):
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


def owner_of(handle):
    """The process number in an open lock file, waited for a moment: its owner locks first and writes then. "?" if none."""
    for _ in range(20):
        if owner := os.pread(handle, 20, 0).decode("ascii", "replace").strip():
            return owner
        time.sleep(0.05)
    return "?"


@contextlib.contextmanager
def locked(path, refusal):
    """Hold the lock file `path` during the block. Raises UserError(refusal) while another process holds it.

    The system keeps the lock (flock), so that of a killed process is gone with it, whatever the file says. Where the
    system has no such locks (Windows) nothing is refused.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(handle), os.stat(path)):
                raise FileExistsError  # the owner removed the file that we had opened, and the next one has made its own
        except OSError as error:
            raise UserError(f"{refusal} (process {owner_of(handle)})") from error
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        try:
            with interruption.undoing(path.unlink):
                yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def write_text(path, text):
    """Write `text` (str, UTF-8) to `path` as a whole file or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write `value` as indented JSON to `path` as a whole file or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """The JSON value in `path`. Raises UserError when the file is missing or is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def write_csv(path, header, rows):
    """Write a CSV: `header` is a sequence of column names, `rows` an iterable of sequences."""
    import csv

    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def shown(path):
    """`path` as a user would type it: relative to the current folder where that is shorter."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
