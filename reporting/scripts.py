"""The project's scripts called as functions."""

import contextlib
import importlib
import io
import shlex
import sys
import time
from pathlib import Path

from utils import files
from utils.cli import UserError


def given(**options):
    """The options that are not None as words of a command: given(limit=5, data=None) is ["--limit", "5"]."""
    return [word for name, value in options.items() if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))]


def run_script(command, quiet=True):
    """Call main() of a script, ["saliency.py", "--index", "15"], in this process and print the command and
    its seconds; returns its result. Keras' global state, sys.argv (of which model cards record the script's
    name) and the registered inputs are afterwards as before. Raises UserError, which names the script."""
    import keras

    print(f"python {shlex.join(command)}", flush=True)
    argv, inputs, policy = sys.argv, list(files.inputs), keras.config.dtype_policy()
    (script, *arguments), start = command, time.monotonic()
    sys.argv = [str(Path(argv[0]).with_name(script)), *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
            result = importlib.import_module(script.removesuffix(".py")).main(arguments)
    except UserError as error:
        raise UserError(f"{script}: {error}") from error
    finally:
        sys.argv, files.inputs[:] = argv, inputs
        keras.config.set_dtype_policy(policy)
        keras.utils.clear_session()
    print(f"    {time.monotonic() - start:.0f} s", flush=True)
    return result
