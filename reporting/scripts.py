"""The project's scripts called as functions."""

import contextlib
import importlib
import io
import os
import sys

from utils import cli
from utils.cli import UserError


def given(args, *names):
    """Those of the options `names` that were given, to pass them on: a list of str."""
    return [text for name in names if getattr(args, name) is not None
            for text in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]


def run_script(script, arguments, quiet=True):
    """Call main() of a script ("saliency.py") in this process and return its result; errors name the script.

    arguments: list of str; quiet: drop what it prints. Keras' global state, sys.argv (of which model cards
        record the script's name) and the registered inputs are afterwards as before.
    """
    import keras

    argv, inputs, policy = sys.argv, list(cli.inputs), keras.config.dtype_policy()
    sys.argv = [os.path.join(os.path.dirname(argv[0]), script), *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
            return importlib.import_module(script.removesuffix(".py")).main(arguments)
    except UserError as error:
        raise UserError(f"{script}: {error}") from error
    finally:
        sys.argv, cli.inputs[:] = argv, inputs
        keras.config.set_dtype_policy(policy)
        keras.utils.clear_session()
