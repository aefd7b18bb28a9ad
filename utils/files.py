"""Whole files or none: every output is written beside its final name, flushed to disk and then renamed."""

import contextlib
import json
import os
import secrets
from pathlib import Path

from utils.cli import UserError

PROJECT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path in the folder of `path`; move it to `path` when the block ends without an error.

    The temporary name keeps the suffix, so writers that choose a format by suffix (Keras, matplotlib) work.
    A reader sees the old file or the whole new one, never a part. Raises UserError when the folder cannot be
    written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(f"cannot write {path}: {reason}; free some space or choose a folder you may write") from error
    finally:
        temporary.unlink(missing_ok=True)


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
