"""The command line that all scripts share: one-line errors, quiet start-up, option types, tables, progress.

Nothing here imports NumPy or Keras, so `--help` answers at once.
"""

import argparse
import contextlib
import functools
import io
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

LARGEST_INT = 2 ** 31 - 1  # half of what NumPy and Keras take as a seed: seeds are added to
OUTPUT_OPTIONS = ("out", "json")  # all other options that take a path name inputs

inputs = []  # paths that the command reads, which utils.files never overwrites


class UserError(Exception):
    """A mistake of the user. Its message is one line: what is wrong, where, what is expected."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with the script's docstring as help; the paths that it reads are inputs."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=Formatter, allow_abbrev=False)

    def parse_args(self, args=None, namespace=None):
        parsed = super().parse_args(args, namespace)
        inputs.clear()
        for option, value in vars(parsed).items():
            paths = value if isinstance(value, list) else [value]
            if option not in OUTPUT_OPTIONS:
                inputs.extend(path for path in paths if isinstance(path, Path))
        return parsed

    def changed(self, args, *options):
        """Those of `options` that are not at their defaults, for a file name: "_keep-10_fill-black"."""
        values = {option: getattr(args, option) for option in options}
        return "".join(f"_{option}-{value:g}" if isinstance(value, float) else f"_{option}-{value}"
                       for option, value in values.items() if value != self.get_default(option))


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the docstring's line breaks; show a default unless there is none or it is already in the text."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def number(kind, low, high=math.inf, open_low=False):
    """An argparse type: a finite `kind` (int or float) from `low` to `high`; an int at most LARGEST_INT."""
    largest = min(high, LARGEST_INT) if kind is int else high

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= largest or math.isinf(value) or (open_low and value == low):
            name = "a whole number" if kind is int else "a number"
            relation = "above" if open_low else "of at least"
            bound = largest if value > largest else high
            upper = f" and at most {bound}" if bound < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not {name} {relation} {low}{upper}")
        return value

    return parse


def add_classes(parser):
    """The option --classes of the scripts that need the labels of --data."""
    parser.add_argument("--classes", type=names, metavar="NAME,NAME,...",
                        help="classes of a --data folder whose class folders are digits, in their order")


def add_tta(parser):
    """The option --tta of the scripts that predict."""
    parser.add_argument("--tta", choices=("none", "flip", "ten-crop", "multi-scale"), default="none",
                        help="test-time augmentation: average over the mirror image (flip), over four corner "
                             "shifts and the centre (ten-crop), or over five such views in three sizes "
                             "(multi-scale, 30 views), each also mirrored")


def add_photos(parser, most=None):
    """The options of the scripts that take photos; `most` is how many faces of one they take."""
    parser.add_argument("--cropped", action="store_true",
                        help="the --images contain nothing but one face: take them whole")
    parser.add_argument("--max-faces", type=number(int, 1), metavar="N",
                        help=f"of each photo take only the N largest faces (default: {most or 'all'})")


def add_evaluation_data(parser,
                        data="labelled CSV or image folder (default: the model's validation split)"):
    """The options that name the labelled faces to evaluate on; see `evaluation.faces_to_evaluate`.

    data: help of --data
    """
    parser.add_argument("--data", type=data_path, help=data)
    add_classes(parser)
    parser.add_argument("--labels", type=Path, metavar="ID_LABEL.csv",
                        help="id,label CSV for a --data without labels")
    parser.add_argument("--usage", help="only the rows of this Usage, e.g. PublicTest")
    parser.add_argument("--training-data", type=Path, metavar="TRAIN.csv",
                        help="where the data of the validation split is, if not where the card says")


def data_name(args):
    """What `add_evaluation_data` and `add_tta` chose, for `files.name_part`: a list of str."""
    data, labels = (path and path.absolute().name.partition(".")[0] for path in (args.data, args.labels))
    if data and labels and labels.startswith(data):
        data = None  # "test_public_labels" says "test"
    parts = [part for part in (data, labels, args.usage) if part] or ["validation"]
    return parts + [args.tta] * (args.tta != "none")


def data_path(text):
    """An argparse type for --data: a Path. `sample` means the built-in faces, `./sample` a file or folder."""
    path = Path(text)
    return path if text == "sample" or str(path) != "sample" else path.absolute()


def names(text):
    """An argparse type: `happy,sad` as a list of str."""
    return [name.strip().lower() for name in text.split(",")]


# ---- start and end of a script -----------------------------------------------------------------------------


class Interruption:
    """Ctrl-C and SIGTERM: remove what is half-written, print one line and end the process at once.

    Both signals are blocked and a thread waits for them: it acts while TensorFlow or NumPy compute, too, and
    nothing is raised in their midst, which corrupted TensorFlow's memory ("free(): invalid next size"). Files
    under a final name are whole at every moment, so there is nothing to wait for. `how_to_continue` is what
    the user should know then; `outer`, where it is set, is printed instead.
    """

    def __init__(self):
        self.how_to_continue, self.outer = "the same command starts again", ""
        self.undo = []  # functions that remove what is half-done

    def listen(self, script):
        self.script, self.stderr = script, os.dup(2)  # a copy, because start_keras mutes the original
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
            threading.Thread(target=lambda: self.end(signal.sigwait(numbers)), daemon=True).start()
        else:  # Windows
            for number in numbers:
                signal.signal(number, lambda number, frame: self.end(number))

    @contextlib.contextmanager
    def undoing(self, step):
        """Have `step()` called if the process is interrupted inside the block."""
        self.undo.append(step)
        try:
            yield
        finally:
            self.undo.remove(step)

    def end(self, number):
        """Print in one line how to continue, and end with the exit status that shells expect of a signal."""
        text = "; ".join(part for part in ("stopped", self.outer or self.how_to_continue) if part)
        show_cursor = "\x1b[?25h" if os.isatty(self.stderr) else ""  # a progress bar hides it
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):  # what the main thread still prints would follow the line
                os.dup2(null, stream)
            os.write(self.stderr, f"{show_cursor}\n{self.script}: {text}\n".encode())
        for step in list(self.undo):
            with contextlib.suppress(OSError):
                step()
        os._exit(128 + number)


interruption = Interruption()


class Output(io.TextIOWrapper):
    """A standard stream that takes any text and passes it on line by line.

    It goes silent when its reader leaves (`script | head -1`), so that the files still get written.
    """

    def __init__(self, stream):
        super().__init__(encoding=stream.encoding, errors="backslashreplace", line_buffering=True,
                         write_through=stream.write_through, buffer=stream.detach())

    def write(self, text):
        try:
            return super().write(text)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                return len(text)
            raise UserError(f"cannot write to standard output: {error.strerror}") from error


def run(main):
    """Call `main()` as a program. UserError: one line, exit status 2; Ctrl-C: one line, 130; SIGTERM: 143."""
    script = os.path.basename(sys.argv[0])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or TensorFlow prints a screenful when it is imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # TensorFlow uses oneDNN by itself only from AVX-512 VNNI on; with AVX2 it is slower without (benchmarks/)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stdout, sys.stderr = (stream and Output(stream) for stream in (sys.stdout, sys.stderr))
    interruption.listen(script)
    try:
        main()
        print(end="", flush=True)
    except (UserError, OSError) as error:
        if getattr(error, "filename", "") is None:
            raise  # of our own making; one with a name is the user's file
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"{script}: error: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(2)


def call(command, timeout=None, **options):
    """`subprocess.run(command, text=True)`, whose child is ended when we are; `options` are Popen's."""
    with subprocess.Popen(command, text=True, **options) as child, interruption.undoing(child.kill):
        try:
            output, errors = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


@contextlib.contextmanager
def muted(*streams):
    """A block in which nothing appears on the `streams` (1: stdout, 2: stderr), whatever library writes."""
    def flush():
        for stream in streams:
            (sys.stdout, sys.stderr)[stream - 1].flush()

    flush()
    copies, null = {stream: os.dup(stream) for stream in streams}, os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in streams:
            os.dup2(null, stream)
        yield
    finally:
        flush()
        for stream, copy in copies.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def start_keras():
    """Import Keras and its backend with stderr muted; TensorFlow writes there."""
    try:
        with muted(2):
            import keras

            keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json has
            if keras.backend.backend() != "tensorflow":
                from keras.src.utils import module_utils

                module_utils.tensorflow._available = False  # or Keras imports it, too, which takes seconds
            logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of a graph for each network
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND")
        advice = f"KERAS_BACKEND is {backend}, use tensorflow or jax" if backend else (
            "install requirements.txt, or activate the environment that has it")
        raise UserError(f"Keras does not start: {error}; {advice}") from error


# ---- tables and progress bars ------------------------------------------------------------------------------


def print_table(frame):
    """Print a pandas DataFrame without its index: text left, numbers (also as strings) right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, name in enumerate(frame.columns):
        is_numeric = all(str(cell).strip("+-.,%x±() 0123456789e") == "" for cell in frame.iloc[:, position])
        table.add_column(str(name), justify="right" if is_numeric else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    console = Console(file=io.StringIO(), width=1000, color_system=None, markup=False, highlight=False,
                      emoji=False)
    console.print(table)
    print("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))


@functools.cache
def stderr_console():
    from rich.console import Console

    return Console(stderr=True)


def progress_bar():
    """A `rich.progress.Progress` on stderr, hidden without a terminal; for use in a `with`."""
    from rich.progress import Progress

    return Progress(console=stderr_console(), transient=True, disable=not sys.stderr.isatty())


def track(items, description):
    """Yield the items of a sequence with a progress bar."""
    with progress_bar() as bar:
        yield from bar.track(items, description=description)
