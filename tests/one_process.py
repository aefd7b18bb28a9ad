"""Several scripts in one process, one after the other: one start of Keras instead of one each."""

import json

from tests.conftest import write_csv
from utils.sample import sample_faces

DRIVER = """
import json, runpy, socket, sys, warnings
warnings.simplefilter("error", RuntimeWarning)  # NumPy's: division by zero, mean of nothing
def refuse(*_, **__):
    raise RuntimeError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = socket.getaddrinfo = refuse
try:
    socket.create_connection(("localhost", 9))
except RuntimeError:
    print("refused")
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""


def run_all(suite, commands):
    """Run `commands` (lists of script and arguments) in `suite`, without a network; each must write, none may
    print to stderr."""
    (suite.folder / "driver.py").write_text(DRIVER)
    out, error = suite.run("driver.py", json.dumps(commands), timeout=1200)
    assert out.startswith("refused\n") and out.count("Wrote ") == len(commands), out
    # TensorFlow notices that one process builds several models, which users' processes do not
    assert not [line for line in error.splitlines() if "retracing" not in line], error


def write_faces(path, rows, n=160):
    """Write the drawn faces at `rows` (a slice or indices of the first n) to `path` as a CSV."""
    images, labels = (array[rows] for array in sample_faces(n))
    write_csv(path, images, label=labels)
