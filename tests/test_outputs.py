"""No output destroys anything: inputs, folders, devices and files of another kind are refused before they are
touched."""

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


@pytest.mark.parametrize("out", ["models/a.h5", "models/a.json", "models/a_history.csv", "models/b.keras"])
def test_a_model_its_card_and_its_history_are_inputs_together(out):
    Path("models").mkdir()
    files.write_json("models/a.json", CARD)
    files.write_table("models/a_history.csv", pd.DataFrame({"epoch": [1]}))
    Path("models/a.h5").write_bytes(files.SIGNATURES[".h5"])
    Path("models/b.keras").write_bytes(files.SIGNATURES[".keras"])
    parsed("--model", "models/a.h5", "models/b.keras")
    refused(Path(out), "is read by this command")


def test_a_card_that_is_read_is_updated_only_on_purpose():
    files.write_json("a.json", CARD)
    Path("a.h5").write_bytes(files.SIGNATURES[".h5"])
    parsed("--model", "a.h5")
    with pytest.raises(UserError, match="is read by this command"):
        files.write_json("a.json", CARD | {"evaluations": {}})
    files.write_json("a.json", CARD | {"evaluations": {}}, is_update=True)
    assert "evaluations" in files.read_json("a.json")


def test_a_picture_in_a_folder_of_inputs_stays():
    Path("holiday").mkdir()
    Path("holiday/photo_me.png").write_bytes(files.SIGNATURES[".png"])
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


def test_the_longest_name_there_is_can_be_written():
    files.write_table("n" * 251 + ".csv", PREDICTIONS)
    files.write_text("\N{GRINNING FACE}" * 63 + ".md", "x")
    assert sorted(len(os.fsencode(name)) for name in os.listdir()) == [255, 255]


# ---- files of another kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "content", "first", "expected"), [
    ("train.csv", FACES, "model", "a file of faces"),
    ("test.csv", "id,pixels\n0,1 2\n", "id", "a file of faces"),
    ("icml.csv", "emotion, pixels\n0,1 2\n", "", "a file of faces"),
    ("labels.csv", "id,label\n0,1\n", "model", "not a table whose first column is model"),
    ("README", "# My work\n", "id", "not a table whose first column is id"),
    ("empty", "\ufeff", "id", "not a table"),
    ("lines.csv", "\r\n\r\n", "id", "not a table whose first column is id"),
    ("binary", b"a\rb\0\xff", "id", "not a table whose first column is id"),
    ("mine.h5", b"\x89HDF\r\n\x1a\n", "id", "not a table whose first column is id"),
    ("mine.json", '{"name": "mine", "network": "report", "arguments": {}}', "model", "a model card"),
    ("package.json", '{"name": "x"}', "model", "a JSON of another content"),
    ("list.json", "[1]", "model", "not a JSON object"),
    ("README.md", "# My work\n", "", "not a report of this project"),
    ("index.html", "<html>", "", "not a report of this project"),
    ("table.png", "a,b\n", "", "not a .png file"),
    ("other.h5", "text", "", "not a .h5 file"),
])
def test_a_file_of_another_kind_stays(out, content, first, expected):
    Path(out).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(Path(out), expected, first)


@pytest.mark.parametrize(("out", "content", "first"), [
    ("new.csv", None, "id"), ("empty.csv", "", "id"), ("mine", "id,label\n0,1\n", "id"),
    ("byte_order.csv", "\ufeffid\n0\n", "id"),
    ("report.json", '{"data": 1}', "data"), ("report.md", f"<!-- {files.GENERATOR} -->\n# Report\n", ""),
    ("run.checkpoint.npz", b"PK\rdamaged\0", ""), ("cache.npy", "damaged", ""),
    ("curves.png", b"\x89PNG\r\n", ""), ("cnn.h5", b"\x89HDF\r\n\x1a\n", ""),
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


def test_a_card_is_replaced_only_with_its_model():
    files.write_json("cnn.json", CARD)
    with pytest.raises(UserError, match="a model card"):
        files.check_outputs(["cnn.png", "cnn.json"])
    files.check_outputs(["cnn.h5", "cnn.json"])
    Path("cnn.json").write_text('{"model": "a"}')
    with pytest.raises(UserError, match="not a model card"):
        files.check_outputs(["cnn.h5", "cnn.json"])
