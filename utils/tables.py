"""Columns of a CSV as arrays, from any dialect, encoding slip and compression, with the wrong row named."""

import bz2
import csv
import gzip
import io
import itertools
import lzma
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from utils.cli import UserError

ROWS_AT_ONCE = 512
UNPACKED = 64 << 20, 20  # bytes that a compressed file may give, or times its size: faces shrink to a third
DAMAGED = (EOFError, OSError, ValueError, RuntimeError,  # the last: an encrypted zip
           zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def read_table(path, converters, required, aliases):
    """Read columns of a CSV: {name: array}, with the number of each row, as an editor shows it, under "row".

    converters: {column to read: function from a list of str to an array, or ValueError}
        Names are compared in lower case, without spaces, after `aliases`.
    required: those of them without which the file is refused
    Raises UserError, one line with file and row.
    """
    parts = list(read_batches(path, converters, required, aliases))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_batches(path, converters, required, aliases):
    """The same for files larger than memory: yields the table in parts of up to ROWS_AT_ONCE rows."""
    rows = read_rows(path)
    _, header = next(rows, (1, None))
    if header is None:
        raise UserError(f"{path} is empty; expected a header of {', '.join(required)}")
    names = [name.strip().lstrip("\ufeff").lower() for name in header]
    names = [aliases.get(name, name) for name in names]
    for name in converters:
        count = names.count(name)
        if count > 1 or (count == 0 and name in required):
            found = ", ".join(repr(name[:20]) for name in names[:5])
            also = "".join(f" or {alias}" for alias, meant in aliases.items() if meant == name)
            raise UserError(f"{path} row 1: {count or 'no'} column{'s' * (count > 1)} of {name} among: "
                            f"{found}; expected one called {name}{also}")
    columns = {name: (names.index(name), convert) for name, convert in converters.items() if name in names}
    batch = list(itertools.islice(rows, ROWS_AT_ONCE))
    if not batch:
        raise UserError(f"{path} has a header but no rows; expected rows of {', '.join(columns)}")
    while batch:
        yield convert_rows(batch, columns, len(names), path)
        batch = list(itertools.islice(rows, ROWS_AT_ONCE))


def read_rows(path):
    """The rows of a CSV one by one: yields (number as an editor shows it, fields as a list of str)."""
    with open_unpacked(Path(path)) as stream:
        # UTF-8 without its mark; other bytes become surrogates, and the only line end left is the newline
        reader, row = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape")), 1
        try:
            for fields in reader:
                if len(fields) > 1 or "".join(fields).strip():  # else it is a blank line
                    yield row, fields
                row = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path} row {row}: {error}") from error


def convert_rows(rows, columns, width, path):
    """Rows as arrays, {name: array}. Raises UserError that names the first wrong row.

    columns: {name: (position, converter)}; width: how many fields the header has
    """
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
        for row in rows:
            convert_rows([row], columns, width, path)
        raise
    return arrays | {"row": np.array([row for row, _ in rows])}


def open_unpacked(path):
    """A CSV opened for reading bytes, decompressed by content, not by name. Raises UserError, also later."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; a pipe cannot be read twice: save it as a CSV first")
    try:
        opener, limit = find_opener(path)
        return io.BufferedReader(Unpacked(opener(path, "rb"), limit, path), 1 << 20)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; expected a CSV file") from error
    except DAMAGED as error:
        raise damaged(path, 1, error) from error


class Unpacked(io.RawIOBase):
    """The bytes of a stream, as long as they are text and at most `limit`."""

    def __init__(self, stream, limit, path):
        self.stream, self.limit, self.path = stream, limit, path
        self.size, self.row = 0, 1

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            count = self.stream.readinto(buffer)
        except DAMAGED as error:
            raise damaged(self.path, self.row, error) from error
        text, zero, _ = bytes(buffer[:count]).partition(b"\0")
        self.size += count
        self.row += text.count(b"\n")
        if zero:
            raise UserError(f"{self.path} row {self.row} has a zero byte; expected a CSV in UTF-8, "
                            "plain or as .gz, .bz2, .xz or .zip (unpack a .tar first)")
        if self.size > self.limit:
            raise UserError(f"{self.path} unpacks to more than {self.limit >> 20:,} MB; no file of faces "
                            "does")
        return count

    def close(self):
        self.stream.close()
        super().close()


def damaged(path, row, error):
    """What to say of a file that cannot be read or unpacked at `row`."""
    reason = getattr(error, "strerror", None) or error
    return UserError(f"cannot read {path} at row {row}: {reason}; expected a complete CSV file")


def find_opener(path):
    """(function that opens the file for reading decompressed bytes, how many of them are read at most)."""
    with open(path, "rb") as file:
        start = file.read(8)
    for signature, opener in COMPRESSED.items():
        if start.startswith(signature):
            return opener, max(UNPACKED[0], UNPACKED[1] * path.stat().st_size)
    return open, math.inf


def open_zip(path, mode):
    """The one CSV in a zip file, opened for reading bytes."""
    with zipfile.ZipFile(path) as archive:  # closed here, its file stays open until the member is closed
        inside = [name for name in archive.namelist() if re.fullmatch(r"(?i)(?!__MACOSX/).*\.csv", name)]
        if len(inside) != 1:
            raise UserError(f"{path} holds {len(inside)} CSV files; "
                            "expected one: unpack it and name the one to read")
        return archive.open(inside[0])


COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"PK\3\4": open_zip}
