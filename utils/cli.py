"""The command line that all scripts share: one-line errors, quiet start-up, option types, tables, progress.

Nothing here imports NumPy or Keras, so `--help` answers at once.
"""

import argparse
import contextlib
import difflib
import io
import logging
import math
import os
import re
import signal
import sys
from pathlib import Path

from utils import files
from utils.errors import UserError

LARGEST_INT = 2 ** 31 - 1  # half of what NumPy and Keras take as a seed: seeds are added to
USAGES = ("Training", "PublicTest", "PrivateTest")  # of the rows in fer2013.csv
OUTPUT_OPTIONS = ("out", "out_folder", "tensorboard")  # all other options that take a path name inputs


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with the script's docstring as help; the paths that it reads are inputs."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=Formatter, allow_abbrev=False)

    def parse_args(self, args=None, namespace=None):
        parsed = super().parse_args(args, namespace)
        values = [value for option, value in vars(parsed).items() if option not in OUTPUT_OPTIONS]
        values = [path for value in values for path in (value if isinstance(value, list) else [value])]
        files.inputs[:] = [path for path in values if isinstance(path, Path)]
        vector = getattr(parsed, "vector", None)
        files.figure_suffixes[:] = [".png"] + [f".{vector}"] * bool(vector)
        for path in files.inputs:
            if path != Path("sample") and not os.path.exists(path):
                missing = next(part for part in (*reversed(path.parents), path) if not os.path.exists(part))
                raise UserError(f"{path} does not exist{near(missing.name, siblings(missing))}")
        return parsed

    def error(self, message):
        """One line without the usage, and for an option that does not exist the nearest that does."""
        kind, _, option = message.partition(": ")
        option = re.split("[ =]", option)[0]
        hint = near(option, self._option_string_actions) if kind == "unrecognized arguments" else ""
        raise UserError(f"{message}{hint}; --help lists the options")

    def changed(self, args, *options):
        """Those of `options` that are not at their defaults, for a file name: "_area-10_fill-black"."""
        values = {option: getattr(args, option) for option in options}
        return "".join(f"_{option}-{value:g}" if isinstance(value, float) else f"_{option}-{value}"
                       for option, value in values.items() if value != self.get_default(option))


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the docstring's line breaks; show a default unless there is none or it is already in the text."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def near(name, known):
    """A hint at the words whose last part is most like `name`: "; did you mean data/train.csv.gz?"."""
    known = {os.path.basename(word).lower(): word for word in known}
    close = [known[word] for word in difflib.get_close_matches(name.lower(), known, n=2)]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def siblings(path):
    """The files and folders beside a path, and those in data/ and models/."""
    return [str(folder / name) for folder in (Path("models"), Path("data"), path.parent) if folder.is_dir()
            for name in os.listdir(folder)]


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


def data_path(text):
    """An argparse type for --data: a Path. `sample` means the built-in faces, `./sample` a file or folder."""
    path = Path(text)
    return path if text == "sample" or str(path) != "sample" else path.absolute()


def add_out_folder(parser, *usual):
    """The options --out-folder, for everything that a script writes, and --vector of those that draw. usual:
    where that goes by default; a single folder of the project is args.out_folder then, else None is."""
    usual = usual or ("figures/",)
    parser.add_argument("--out-folder", type=Path, metavar="FOLDER",
                        default=files.PROJECT / usual[0] if len(usual) == 1 else None,
                        help=f"the one folder for everything written (default: {' and '.join(usual)})")
    if "figures/" in usual:
        parser.add_argument("--vector", choices=("pdf", "svg"), help="write each figure also as PDF or SVG")


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
    """The options that name the labelled faces to evaluate on; see `evaluation.faces_to_evaluate`."""
    parser.add_argument("--data", type=data_path, help=data)
    parser.add_argument("--labels", type=Path, metavar="ID_LABEL.csv",
                        help="id,label CSV for a --data without labels")
    parser.add_argument("--usage", choices=USAGES, help="only the rows of this Usage")
    parser.add_argument("--training-data", type=Path, metavar="TRAIN.csv",
                        help="where the data of the validation split is, if not where the card says")


def data_name(args):
    """What `add_evaluation_data` and `add_tta` chose, for `files.name_part`: a list of str."""
    data, labels = (path and path.absolute().name.partition(".")[0] for path in (args.data, args.labels))
    if data and labels and labels.startswith(data):
        data = None  # "test_public_labels" says "test"
    parts = [part for part in (data, labels, args.usage) if part] or ["validation"]
    return parts + [args.tta] * (args.tta != "none")


signals = []  # that this process has got


def interrupt(number, frame):
    """Handle SIGINT and SIGTERM: KeyboardInterrupt, of which C++ that it meets may make another error, or
    nothing at all: it comes again (SIGALRM) every two seconds until `set_alarm(0)`."""
    signals.append(number)
    sys.stderr = io.StringIO()  # C++ prints the traceback of the error that it drops
    set_alarm(2)
    raise KeyboardInterrupt


def set_alarm(seconds):
    """Interrupt again after so many seconds; 0: a KeyboardInterrupt has arrived."""
    if hasattr(signal, "setitimer"):  # which Windows lacks, like SIGALRM
        signal.setitimer(signal.ITIMER_REAL, seconds)


def prepare_process():
    """Set up streams and environment for a script, whatever a notebook or keras.json of the user says."""
    while os.open(os.devnull, os.O_RDWR) <= 2:  # a closed stream (2>&-), whose number another file would get
        continue
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    os.environ["MPLBACKEND"] = "Agg"
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        os.environ.pop(name, None)  # it would shorten a run behind its card's back
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or TensorFlow prints a screenful when it is imported
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # TensorFlow uses oneDNN by itself only from AVX-512 VNNI on; with AVX2 it is slower without (benchmarks/)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def run(main):
    """Call `main()` as a program. UserError: one line, exit status 2; Ctrl-C: one line, 130; SIGTERM: 143,
    after what the notes of the KeyboardInterrupt say on how to continue."""
    script = os.path.basename(sys.argv[0])
    prepare_process()
    stderr = sys.stderr
    signals.clear()
    for name in {"SIGINT", "SIGTERM", "SIGALRM"} & {*dir(signal)}:
        number = getattr(signal, name)
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not ignored
            signal.signal(number, interrupt)
    try:
        main()
        set_alarm(0)  # an interrupt that C++ has lost comes too late
    except BrokenPipeError:  # `script | head -1`: nobody reads on
        os._exit(128 + 13)
    except (KeyboardInterrupt, Exception) as error:
        if signals or isinstance(error, KeyboardInterrupt):
            set_alarm(0)
            text = "; ".join(["stopped", *getattr(error, "__notes__", ["the same command starts again"])])
            with contextlib.suppress(OSError):
                print(f"\n{script}: {text}", file=stderr, flush=True)
            os._exit(128 + (signals or [signal.SIGINT])[0])  # without waiting for TensorFlow's threads
        if not isinstance(error, (UserError, OSError)):
            raise
        text = " ".join(filter(None, [getattr(error, "filename", None) and f"{error.filename}:",
                                      getattr(error, "strerror", None) or str(error)]))
        print(f"{script}: error: {printable(' '.join(text.split()))}", file=sys.stderr)
        sys.exit(2)


def start_keras():
    """Import Keras and its backend, with the settings that a keras.json may change at their defaults."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise UserError(f"KERAS_BACKEND is {backend}; expected tensorflow or jax")
    try:
        with silent_stderr():
            import keras
    except (ImportError, ValueError) as error:
        raise UserError(f"Keras does not start with {backend}: {error}; install requirements.txt (for JAX "
                        "requirements-jax.txt), or activate the environment that has it") from error
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    if backend == "tensorflow":
        import tensorflow as tf

        logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of a graph for each network
        for gpu in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # in use already
                tf.config.experimental.set_memory_growth(gpu, True)
    else:
        from keras.src.utils import module_utils

        module_utils.tensorflow._available = False  # or Keras imports it, too, which takes seconds


@contextlib.contextmanager
def silent_stderr():
    """A block in which nothing appears on stderr, where TensorFlow writes when it is imported."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def print_table(frame):
    """Print a pandas DataFrame without its index, at most 100 columns wide: text left, in several lines where
    it is too long; numbers (also as strings) right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, name in enumerate(frame.columns):
        is_numeric = all(str(cell).strip("+-.,%x±() 0123456789e") == "" for cell in frame.iloc[:, position])
        table.add_column(str(name), justify="right" if is_numeric else "left", no_wrap=is_numeric,
                         overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(printable(str(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=100, color_system=None, markup=False, highlight=False,
                      emoji=False)
    console.print(table)
    print("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))


def print_written(paths):
    """Print the files that a script wrote, figures also as what --vector names, one path a line."""
    for path in map(Path, paths):
        for suffix in files.figure_suffixes if path.suffix == ".png" else [path.suffix]:
            print(f"Wrote {printable(files.relative_path(path.with_suffix(suffix)))}")


def printable(text):
    """`text` with a question mark for each control character, which could change what the terminal shows."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def progress_bar():
    """A `rich.progress.Progress` on stderr, hidden without a terminal; for use in a `with`."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def track(items, description):
    """Yield the items of a sequence with a progress bar."""
    with progress_bar() as bar:
        yield from bar.track(items, description=description)
