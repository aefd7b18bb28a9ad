"""Nothing lost: outputs are whole or absent, locks end with their owner, signals and closed pipes end a
script in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from training import networks
from utils import files, models
from utils.cli import UserError


def script(folder, body):
    """A script of the suite's kind: `body` inside main(), run by cli.run."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"import sys\nfrom utils import cli, files\n\ndef main():\n{lines}\ncli.run(main)\n"
    if not (folder / "script.py").exists():  # or a run that starts just now might read half of it
        (folder / "script.py").write_text(text, encoding="utf-8", errors="backslashreplace")
    return [sys.executable, "script.py"]


def environment():
    return os.environ | {"PYTHONPATH": str(PROJECT)}


def start(folder, body, env=None, **options):
    """Start such a script with its output in pipes; returns the Popen."""
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(script(folder, body), cwd=folder, env=environment() | (env or {}), text=True,
                            **pipes | options)


# ---- files -------------------------------------------------------------------------------------------------


def test_a_reader_sees_the_old_file_or_the_whole_new_one(tmp_path):
    path, versions = tmp_path / "f.txt", [letter * 200_000 for letter in "abcdefgh"]
    files.write_text(path, versions[0])
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for version in versions:
            files.write_text(path, version)
    done.set()
    reader.join()
    assert seen <= set(versions) and len(seen) > 1
    assert os.listdir(tmp_path) == ["f.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, call):
    path = tmp_path / "f.json"
    files.write_json(path, {"value": 1})

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError, match=r"cannot write .*f\.json: No space left on device"):
        files.write_json(path, {"value": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["f.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file/x.txt", "file/y/x.txt"):
        with pytest.raises(UserError, match=r"cannot write .*x\.txt: Not a directory"):
            files.write_text(tmp_path / name, "")


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs a folder that not even root may write")
def test_a_folder_that_may_not_be_written_is_one_line():
    with pytest.raises(UserError, match=r"cannot write /sys/kernel/m\.json: .+; free some space, or choose"):
        files.write_json("/sys/kernel/m.json", {})
    lock = Path("/sys/kernel/m.lock")
    with pytest.raises(UserError, match=r"cannot write /sys/kernel/m\.lock"), files.locked(lock, "busy"):
        pytest.fail("locked")


def test_a_model_on_a_full_disk_keeps_the_old_one(tmp_path):
    import resource

    network = networks.report_dnn()
    models.save(network, tmp_path / "m.h5")
    before = (tmp_path / "m.h5").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write"):
            models.save(network, tmp_path / "m.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "m.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["m.h5"]


# ---- locks -------------------------------------------------------------------------------------------------


HOLD = """from pathlib import Path
print("ready")
sys.stdin.readline()
with files.locked(Path("cnn.lock"), "another run is writing"):
    print("held")
    sys.stdin.readline()
"""


def test_of_many_that_start_at_once_one_gets_the_lock(tmp_path):
    runs = [start(tmp_path, HOLD, stdin=subprocess.PIPE) for _ in range(5)]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    heard = [run.stdout.readline() for run in runs]
    assert sorted(heard) == [""] * 4 + ["held\n"]
    winner = runs[heard.index("held\n")]
    for run in (run for run in runs if run is not winner):
        assert run.communicate()[1] == "script.py: error: another run is writing\n" and run.returncode == 2
    winner.kill()  # its file stays, its lock does not
    winner.communicate()
    assert (tmp_path / "cnn.lock").exists()
    with files.locked(tmp_path / "cnn.lock", "busy"):
        assert (tmp_path / "cnn.lock").exists()
    assert not (tmp_path / "cnn.lock").exists()


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "c.lock").symlink_to("thesis.txt")
    with pytest.raises(UserError, match=r"cannot write .*c\.lock"), files.locked(tmp_path / "c.lock", "busy"):
        pytest.fail("locked")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


# ---- signals, pipes and streams ----------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_script_in_one_line_without_half_a_file_and_its_lock(tmp_path, number, status):
    (tmp_path / "out.txt").write_text("old")
    process = start(tmp_path, """from pathlib import Path
import time
try:
    with files.locked(Path("x.lock"), "busy"), files.replacing("out.txt") as temporary:
        temporary.write_text("half")
        print(temporary)
        time.sleep(60)
except KeyboardInterrupt as stop:
    stop.add_note("--resume goes on")
    raise""")
    temporary = process.stdout.readline().strip()
    assert (tmp_path / temporary).exists() and (tmp_path / "x.lock").exists()
    begun = time.monotonic()
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == "\nscript.py: stopped; --resume goes on\n"
    assert process.returncode == status and time.monotonic() - begun < 5
    assert sorted(os.listdir(tmp_path)) == ["out.txt", "script.py"]
    assert (tmp_path / "out.txt").read_text() == "old"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_of_which_a_library_makes_another_error_is_still_one_line(tmp_path, number, status):
    process = start(tmp_path, """import time
try:
    print("works")
    time.sleep(60)
except KeyboardInterrupt:
    raise TypeError  # as TensorFlow's C++ does where the signal arrives in it""")
    assert process.stdout.readline() == "works\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == "\nscript.py: stopped; the same command starts again\n"
    assert process.returncode == status


def test_a_signal_that_a_library_loses_as_the_script_ends_does_not_kill_it_afterwards(tmp_path):
    process = start(tmp_path, """import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    import atexit
    # as at the end of TensorFlow's threads, when Python's handlers are gone
    atexit.register(lambda: (signal.signal(signal.SIGALRM, signal.SIG_DFL), signal.sigtimedwait([], 3)))""")
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_windows_without_alarms_ends_a_script_in_one_line_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import signal; del signal.SIGALRM, signal.setitimer")
    process = start(tmp_path, "import signal; signal.raise_signal(signal.SIGINT)",
                    {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"})
    assert process.communicate(timeout=20)[1] == "\nscript.py: stopped; the same command starts again\n"
    assert process.returncode == 130


def test_ctrl_c_that_the_caller_ignores_is_ignored(tmp_path):
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('goes on')"
    command = f"trap '' INT; {' '.join(script(tmp_path, body))}"
    shell, env = ["sh", "-c", command], environment()
    done = subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


def test_a_script_whose_reader_leaves_ends_without_a_word(tmp_path):
    process = start(tmp_path, "for i in range(100_000): print('line', i)")
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 128 + signal.SIGPIPE


def test_lines_come_one_by_one_where_nobody_reads_a_terminal(tmp_path):
    process = start(tmp_path, "print('epoch 1')\nsys.stdin.read()", stdin=subprocess.PIPE)
    assert process.stdout.readline() == "epoch 1\n"  # or this waits for the script, and the script for this
    assert process.communicate()[1] == ""


def test_any_text_can_be_printed_to_any_terminal(tmp_path):
    body = "print('caf\xe9', '\udcff')\nraise cli.UserError('na\xefve')"
    process = start(tmp_path, body, env={"PYTHONIOENCODING": "ascii"})
    assert process.communicate() == ("caf\\xe9 \\udcff\n", "script.py: error: na\\xefve\n")
    assert process.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_standard_output_on_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "wb") as full:
        process = start(tmp_path, "print('x')", stdout=full)
        assert process.communicate()[1] == "script.py: error: No space left on device\n"
    assert process.returncode == 2


def test_runs_broken_at_random_moments_lose_nothing():
    command = [sys.executable, "-m", "tests.tools.break_runs", "--moments", "2", "--seed", "5"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and "0 failures" in done.stdout, done.stderr
