"""Does the loader read right data or print one line, whatever it is given? Compared with a slow reader.

    python -m tests.tools.fuzz_data --inputs 10000            every dialect, mutated; or --seconds 60
    python -m tests.tools.fuzz_data --corpus data/train.csv   mutate the first rows of a real file too

An input is a valid file of a random dialect (header, quoting, line ends, compression) after zero to eight
mutations: flipped bits, bytes replaced, inserted, cut and repeated, tokens that parsers trip over. Each must
end within ten seconds in exactly what Python's csv module and int() make of the file, or in a UserError of
one line that names file and row; anything that the slow reader refuses must be refused.
"""

import argparse
import bz2
import csv
import gzip
import io
import lzma
import random
import re
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from utils import data  # noqa: E402
from utils.cli import UserError  # noqa: E402

HEADERS = (("label", "feature"), ("id", "feature"), ("emotion", "pixels", "Usage"),
           ("emotion", " Usage", " pixels"), ("emotion", "pixels"), ("pixels",), (" LABEL ", "Feature"),
           ("id", "label", "pixels"))
TOKENS = (b",", b'"', b'""', b"\r", b"\n", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b" ", b"\t", b".0",
          b".", b"-1", b"256", b"1e9", b"nan", b"1_0", b"0255", b"00000000001", "٣".encode(),
          b"label,feature\n", b"Training", b";", b"=1+1", b"'",
          b"\x1a", b"1000000000", b"7", b"+5", b"0x1F", b"\xc2\xa0", b"\x0b", b"\x0c")
SLOWEST = 10.0  # seconds an input may take
PACKINGS = {"": lambda text: text, ".gz": lambda text: gzip.compress(text, 1), ".bz2": bz2.compress,
            ".xz": lambda text: lzma.compress(text, preset=0), ".zip": lambda text: zipped(text)}


def zipped(text, name="inner/faces.csv"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


# ---- inputs ------------------------------------------------------------------------------------------------


def valid_file(draw):
    """A CSV of one to four faces in a random dialect: bytes."""
    header = draw.choice(HEADERS)
    end = draw.choice((b"\n", b"\n", b"\r\n"))
    lines = [",".join(header)]
    for row in range(draw.randint(1, 4)):
        fields = []
        for name in header:
            kind = name.strip().lower()
            if kind in ("feature", "pixels"):
                field = pixel_field(draw)
            elif kind == "usage":
                field = draw.choice(data.USAGES)
            elif kind == "id":
                field = draw.choice((str(row), f"{row:03d}", f"{row}.0", f"face {row}"))
            else:
                field = draw.choice("01234567") + draw.choice(("", "", ".0"))
            quoted = draw.random() < 0.2
            fields.append(f'"{field}"' if quoted else draw.choice(("", "", " ")) + field)
        lines.append(",".join(fields))
    separator = draw.choice((",", ",", ",", ";", "\t")) if "\t" not in "".join(lines) else ","
    text = end.join(line.replace(",", separator).encode() for line in lines) + end * draw.choice((0, 1, 1, 3))
    return draw.choice((b"", b"", b"\xef\xbb\xbf")) + text


def pixel_field(draw):
    values = draw.choices(range(256), k=data.PIXELS)
    form = draw.choice(("{}", "{}", "{}", "{}.0", "{:03d}"))
    return draw.choice((" ", " ", "  ", "\t")).join(map(form.format, values))


def mutate(content, draw, times):
    """`content` (bytes) with `times` random changes."""
    content = bytearray(content)
    for _ in range(times):
        at = draw.randrange(len(content) + 1)
        kind = draw.randrange(7)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(content):
            content[at] = draw.randrange(256)
        elif kind == 2:
            content[at:at] = draw.choice(TOKENS)
        elif kind == 3:
            del content[at:at + draw.choice((1, 1, 4, 100, 9000))]
        elif kind == 4:
            length = draw.choice((1, 5, 300, 9500))
            content[at:at] = content[max(at - length, 0):at]
        elif kind == 5:
            at = min(at, 60)  # the header and the first fields decide most
            content[at:at + draw.randrange(2)] = draw.choice(TOKENS)
        else:
            breaks = [m.start() for m in re.finditer(rb"[,\n\r]", content)]
            at = draw.choice(breaks) if breaks else 0
            content[at:at + draw.randrange(2)] = draw.choice(TOKENS)
    return bytes(content)


# ---- the slow reader ---------------------------------------------------------------------------------------


class RefusedError(Exception):
    """The slow reader's word that a file is no data."""


def read_slowly(text):
    """What a CSV (bytes, unpacked) means: {column: nested list, or None where it is absent}.

    Python's csv module splits, int() converts; written independently of the loader. Raises RefusedError.
    """
    try:
        whole = text.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        whole = whole.replace("\r\n", "\n").replace("\r", "\n")
        header = whole.split("\n")[0]
        separator = max(",;\t", key=header.count)  # of equal numbers the first
        rows = list(csv.reader(io.StringIO(whole, newline=""), delimiter=separator))
    except csv.Error as error:
        raise RefusedError(str(error)) from error
    rows = [row for row in rows if len(row) > 1 or "".join(row).strip()]
    if len(rows) < 2:
        raise RefusedError("no rows")
    names = [name.strip().lower() for name in rows[0]]
    names = [{"feature": "pixels", "emotion": "label"}.get(name, name) for name in names]
    if names.count("pixels") != 1 or any(names.count(name) > 1 for name in ("label", "id", "usage")):
        raise RefusedError("columns")
    columns = {name: [] for name in ("pixels", "label", "id", "usage")}
    last = max(i for i, name in enumerate(names) if name in columns)
    for row in rows[1:]:
        if len(row) <= last or "".join(row[len(names):]).strip():
            raise RefusedError("fields")
        for name, field in zip(names, row):
            if name in columns:
                columns[name].append(field.strip())
    return convert_slowly(columns, names)


def convert_slowly(columns, names):
    """The same from {name of column: list of fields}."""
    images = [[whole_number(value, 255) for value in field.split()] for field in columns["pixels"]]
    if any(len(image) != data.PIXELS for image in images):
        raise RefusedError("pixels")
    labels = [whole_number(field, 7) for field in columns["label"]] if "label" in names else None
    usage = columns["usage"] if "usage" in names else None
    if usage is not None and not set(usage) <= set(data.USAGES):
        raise RefusedError("usage")
    ids = [re.sub(r"^([0-9]{1,18})\.0*$", r"\1", name) for name in columns["id"]]
    if any(not 0 < len(name) <= 64 or not name.isprintable() for name in ids):
        raise RefusedError("id")
    return {"pixels": images, "label": labels, "id": ids if "id" in names else None, "usage": usage}


def whole_number(text, highest):
    head, _, tail = text.partition(".")
    is_number = head.isascii() and head.isdigit() and not tail.strip("0")
    if not is_number or int(head) > highest:
        raise RefusedError(text[:20])
    return int(head)


# ---- one input ---------------------------------------------------------------------------------------------


def try_input(content, packed, path):
    """Read an input both ways and compare: "read" or "refused"; raises AssertionError where they differ.

    content: the CSV as bytes, or None where the packed file itself was damaged and may mean anything.
    """
    path.write_bytes(packed)
    begun = time.monotonic()
    columns, said = None, None
    try:
        columns = data.read_columns(path, data.CONVERTERS, ["pixels"])
    except UserError as error:
        said = str(error)
    assert time.monotonic() - begun < SLOWEST, "too slow"
    if said is not None:
        assert len(said.splitlines()) == 1, f"not one line: {said}"
        assert str(path) in said, f"no file name: {said}"
        assert re.search(r"row \d|is empty|no rows|holds \d+ CSV", said), f"no row: {said}"
    outcome = "read" if said is None else "refused"
    if content is None:
        return outcome
    expected = reason = None
    try:
        expected = read_slowly(content)
    except RefusedError as refused:
        reason = refused
    if said is not None:
        assert expected is None or is_stricter(content), f"refused, though the slow reader reads it: {said}"
        return outcome
    assert expected is not None, f"read, though the slow reader says: {reason}"
    columns["pixels"] = columns["pixels"].reshape(-1, data.PIXELS)
    for name, values in expected.items():
        assert (columns[name].tolist() if name in columns else None) == values, f"other {name}"
    return outcome


def is_stricter(content):
    """Whether the loader may refuse what the slow reader takes: white space outside ASCII, and what looks
    like an archive."""
    return bool(re.search(rb"[\x1c-\x1f\x80-\xff]", content.lstrip(b"\xef\xbb\xbf"))
                or content[:2] in (b"\x1f\x8b", b"PK", b"BZ"))


def make_input(draw, seeds):
    """(CSV as bytes or None, file as bytes): a valid file or a seed, mutated before or after packing."""
    content = draw.choice(seeds) if seeds and draw.random() < 0.5 else valid_file(draw)
    times = draw.choice((0, 1, 1, 1, 2, 4, 8))
    packing = PACKINGS[draw.choice(("", "", "", "", "", ".gz", ".bz2", ".xz", ".zip"))]
    if packing is not PACKINGS[""] and draw.random() < 0.5 and times:
        return None, mutate(packing(content), draw, times)
    content = mutate(content, draw, times)
    return content, packing(content)


def run(inputs=None, seconds=None, seed=0, corpus=None):
    """Try so many inputs, or for so many seconds: {outcome: count}. Raises AssertionError at a fault."""
    draw = random.Random(seed)
    seeds = [b"\n".join(lines) + b"\n" for lines in corpus_rows(corpus)] if corpus else []
    counts = {"read": 0, "refused": 0}
    end = time.monotonic() + (seconds or 1e9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.csv"
        while (inputs is None or sum(counts.values()) < inputs) and time.monotonic() < end:
            content, packed = make_input(draw, seeds)
            try:
                counts[try_input(content, packed, path)] += 1
            except Exception as error:
                kept = Path(tempfile.gettempdir()) / "fuzz_data_failure.csv"
                kept.write_bytes(packed)
                raise AssertionError(f"input {sum(counts.values())} (--seed {seed}; kept as {kept}): "
                                     f"{type(error).__name__}: {error}") from error
    return counts


def corpus_rows(path):
    """The header of a real file with one to three of its first rows: lists of lines."""
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        lines = [next(file).rstrip() for _ in range(13)]
    return [[lines[0], *lines[at:at + 1 + at % 3]] for at in range(1, 11)]


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--inputs", type=int, help="default: 10,000, or as many as --seconds allows")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", help="a real CSV whose rows are mutated too")
    args = parser.parse_args()
    inputs = args.inputs or (None if args.seconds else 10_000)
    begun = time.monotonic()
    counts = run(inputs, args.seconds, args.seed, args.corpus)
    print(f"{sum(counts.values()):,} inputs, {time.monotonic() - begun:.0f} s: "
          + ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
          + f"; 0 failures; largest process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")


if __name__ == "__main__":
    main()
