"""No output destroys what a command reads, a folder, a device or a write-protected file: it is refused before
anything is touched."""

import os
from pathlib import Path

import pandas as pd
import pytest

from utils import cli, files
from utils.cli import UserError

PREDICTIONS = pd.DataFrame({"id": [0, 1], "label": [3, 4]})


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "inputs", [])
    Path("folder").mkdir()
    Path("mytest.csv").write_text("id,label\n0,1\n")
    return tmp_path


def parsed(*arguments):
    parser = cli.Parser("A script.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def assert_refused(out, expected):
    """Both the early check and the writer refuse `out` in one line and leave everything as it is."""
    before = contents()
    with pytest.raises(UserError, match=expected) as caught:
        files.check_outputs(["new.csv", out])
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UserError, match=expected), files.replacing(out):
        pytest.fail("written")
    assert contents() == before


def contents():
    return {p: p.read_bytes() if p.is_file() else "" for p in Path.cwd().rglob("*") if not p.is_fifo()}


@pytest.mark.parametrize("out", ["mytest.csv", "folder/../mytest.csv", "link.csv", "hard.csv"])
@pytest.mark.parametrize("option", ["--data", "--model"])
def test_an_input_is_never_overwritten_whatever_its_spelling(out, option):
    Path("link.csv").symlink_to("mytest.csv")
    os.link("mytest.csv", "hard.csv")
    assert_refused(parsed(option, "mytest.csv", "--out", out).out, "this command reads it; choose another")
    args = parsed(option, "folder", "--out", out)  # another command may
    files.write_table(args.out, PREDICTIONS)
    assert pd.read_csv(out).equals(PREDICTIONS)


def test_a_picture_in_a_folder_of_inputs_stays():
    Path("folder/photo_me.png").write_bytes(b"\x89PNG")
    parsed("--data", "folder")
    assert_refused(Path("folder/photo_me.png"), "this command reads it")
    assert_refused(Path("folder/train/happy/new.png"), "this command reads it")
    files.write_table("folder/predictions.csv", PREDICTIONS)
    parsed("--data", ".")  # in which one works: its pictures are inputs, those of folders below are not
    assert_refused(Path("new.png"), "this command reads it")
    files.check_outputs([Path("results/new.png"), Path("folder/new.png")])


@pytest.mark.parametrize("out", ["", ".", "/", "folder"])
def test_a_folder_is_one_line(out):
    assert_refused(Path(out), "it is a folder")


def test_devices_pipes_loops_long_names_and_write_protected_files_are_one_line():
    os.mkfifo("pipe")
    Path("loop.csv").symlink_to("loop.csv")
    Path("mytest.csv").chmod(0o444)
    for out, expected in {
            "pipe": "a device or pipe", "/dev/null": "a device or pipe", "loop.csv": "Too many levels",
            "n" * 300 + ".csv": "File name too long", "/dev/null/x.csv": "Not a directory",
            "mytest.csv": "it is write-protected"}.items():
        assert_refused(Path(out), expected)


def test_the_longest_name_there_is_can_be_written():
    names = ["n" * 251 + ".csv", "\N{GRINNING FACE}" * 63 + ".md"]
    for name in names:
        files.write_text(name, "x")
        assert len(os.fsencode(name)) == 255 and Path(name).read_text() == "x"


def test_a_link_to_nowhere_is_replaced_and_not_followed():
    Path("out.csv").symlink_to("elsewhere.csv")
    files.write_table("out.csv", PREDICTIONS)
    assert not Path("out.csv").is_symlink() and not Path("elsewhere.csv").exists()
