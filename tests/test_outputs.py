"""No output destroys anything: inputs, folders, devices and files of another kind are refused before they are
touched."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from utils import cli, files
from utils.cli import UserError

PREDICTIONS = pd.DataFrame({"id": [0, 1], "label": [3, 4]})
CARD = {"name": "cnn", "network": "report", "arguments": {}}
FACES = "label,feature\n3,0 1 2\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "inputs", [])
    return tmp_path


def parsed(*arguments):
    parser = cli.Parser("A script.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def refused(out, expected, first=""):
    """Whether both the early check and the writer refuse `out` in one line and leave everything as it is."""
    before = contents()
    with pytest.raises(UserError, match=expected) as caught:
        files.check_outputs({out: first} if first else [out])
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UserError, match=expected), files.replacing(out, first=first):
        pytest.fail("written")
    assert contents() == before


def contents():
    return {p: p.read_bytes() if p.is_file() else "" for p in Path.cwd().rglob("*") if not p.is_fifo()}


# ---- inputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["mytest.csv", "folder/../mytest.csv", "link.csv", "hard.csv"])
def test_an_input_is_never_overwritten_whatever_its_spelling(out):
    Path("folder").mkdir()
    Path("mytest.csv").write_text("id,label\n0,1\n")  # of the very kind that is written
    Path("link.csv").symlink_to("mytest.csv")
    os.link("mytest.csv", "hard.csv")
    args = parsed("--data", "mytest.csv", "--out", out)
    refused(args.out, "is read by this command", first="id")
    parsed("--data", "folder", "--out", out)
    files.write_table(args.out, PREDICTIONS)
    assert pd.read_csv(out).equals(PREDICTIONS)


def test_a_model_its_card_and_its_history_stay_when_they_are_read():
    Path("models").mkdir()
    files.write_json("models/a.json", CARD)
    files.write_table("models/a_history.csv", pd.DataFrame({"epoch": [1]}))
    Path("models/a.h5").write_bytes(b"\x89HDF")
    parsed("--model", "models/a.h5", "models/b.keras")
    refused(Path("models/a.h5"), "is read by this command")
    refused(Path("models/a.json"), "exists and is not", first="model")
    refused(Path("models/a_history.csv"), "exists and is not", first="true")
    files.write_json("models/a.json", CARD | {"evaluations": {}})
    assert "evaluations" in files.read_json("models/a.json")


def test_a_picture_in_a_folder_of_inputs_stays():
    Path("holiday").mkdir()
    Path("holiday/photo_me.png").write_bytes(b"\x89PNG")
    parsed("--data", "holiday")
    refused(Path("holiday/photo_me.png"), "is read by this command")
    files.write_table("holiday/predictions.csv", PREDICTIONS)


# ---- folders, devices and names that cannot be -------------------------------------------------------------


@pytest.mark.parametrize("out", ["", ".", "/", "folder"])
def test_a_folder_is_one_line(out):
    Path("folder").mkdir()
    refused(Path(out), "it is a folder")


def test_devices_pipes_loops_and_long_names_are_one_line():
    os.mkfifo("pipe")
    Path("loop.csv").symlink_to("loop.csv")
    refused(Path("pipe"), "a device or pipe")
    refused(Path("/dev/null"), "a device or pipe")
    refused(Path("loop.csv"), "Too many levels")
    refused(Path("n" * 300 + ".csv"), "File name too long")
    refused(Path("/dev/null/x.csv"), "Not a directory")


def test_a_write_protected_file_of_the_very_kind_stays():
    Path("labels.csv").write_text("id,label\n0,1\n")
    Path("labels.csv").chmod(0o444)
    refused(Path("labels.csv"), "it is write-protected", first="id,label")


def test_the_longest_name_there_is_can_be_written():
    files.write_table("n" * 251 + ".csv", PREDICTIONS)
    files.write_text("\N{GRINNING FACE}" * 63 + ".md", "x")
    assert sorted(len(os.fsencode(name)) for name in os.listdir()) == [255, 255]


# ---- files of another kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "content", "first"), [
    ("train.csv", FACES, "model"), ("test.csv", "id,pixels\n0,1 2\n", "id,label"),
    ("icml.csv", "emotion, pixels\n0,1 2\n", "class"), ("labels.csv", "id,label\n0,1\n", "model"),
    ("names.csv", "idea,label\n0,1\n", "id"), ("README", "# My work\n", "id"), ("empty", "\ufeff", "id"),
    ("lines.csv", "\r\n\r\n", "id"), ("binary", b"a\rb\0\xff", "id"),
    ("mine.h5", b"\x89HDF\r\n\x1a\n", "id"), ("mine.json", json.dumps(CARD), "model"),
    ("package.json", '{"name": "x"}', "model"), ("list.json", "[1]", "model"), ("list.json", "[1]", ""),
    ("README.md", "# My work\n", ""), ("index.html", "<html>", ""), ("page.html", "<!DOCTYPE html>\n<p>", ""),
    ("table.png", "a,b\n", ""), ("other.h5", "text", ""), ("cnn.json", '{"model": "a"}', ""),
])
def test_a_file_of_another_kind_stays(out, content, first):
    Path(out).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(Path(out), "exists and is not an earlier output of this kind", first)


@pytest.mark.parametrize(("out", "content", "first"), [
    ("new.csv", None, "id"), ("empty.csv", "", "id"), ("mine", "id,label\n0,1\n", "id"),
    ("byte_order.csv", "\ufeffid\n0\n", "id"),
    ("report.json", '{"data": 1}', "data"), ("report.md", f"<!-- {files.GENERATOR} -->\n# Report\n", ""),
    ("run.checkpoint.npz", b"PK\rdamaged\0", ""), ("cache.npy", "damaged", ""),
    ("curves.png", b"\x89PNG\r\n", ""), ("cnn.h5", b"\x89HDF\r\n\x1a\n", ""),
    ("report.html", f"<!DOCTYPE html>\n<!-- {files.GENERATOR} -->\n<html>", ""),
    ("cnn.json", json.dumps(CARD, indent=2), ""),
])
def test_an_earlier_output_is_replaced(out, content, first):
    if content is not None:
        Path(out).write_bytes(content if isinstance(content, bytes) else content.encode())
    files.check_outputs({out: first})
    with files.replacing(out, first=first) as temporary:
        temporary.write_text("new")
    assert Path(out).read_text() == "new"


def test_a_link_to_nowhere_is_replaced_and_not_followed():
    Path("out.csv").symlink_to("elsewhere.csv")
    files.write_table("out.csv", PREDICTIONS)
    assert not Path("out.csv").is_symlink() and not Path("elsewhere.csv").exists()
