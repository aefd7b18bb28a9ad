"""The command line that all scripts share: one-line errors, quiet start-up, common option types.

Nothing here imports NumPy or Keras, so `--help` answers at once.
"""

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 1.5  # seconds from Ctrl-C to the end, whatever the program is busy with


class UserError(Exception):
    """A mistake that the user can mend. The message is one line: what is wrong, where, what was expected."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that shows the script's docstring as help and every option's default."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=Formatter, allow_abbrev=False)


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the docstring's line breaks; show a default unless it is None or already in the text."""

    def _get_help_string(self, action):
        if action.default is None or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class Interruption:
    """Ctrl-C and SIGTERM: what is half-written goes, one line is said, and the process ends at once.

    Nothing is raised: an exception that comes up in the middle of TensorFlow's C++ has corrupted its memory ("free(): invalid
    next size"). What is under a final name is whole at every moment, so there is nothing to wait for. A thread sees to the end
    after GRACE seconds where Python, which acts on a signal only between two of its own instructions, does not come to it: a
    compiler or a long matrix product keeps it. Set `how_to_continue` to what the user should know then; `outer`, where it is
    set, is said instead.
    """

    def __init__(self):
        self.script, self.how_to_continue, self.outer, self.stderr = "", "the same command starts again", "", 2
        self.undo = {}  # {key: function} that remove what is half-done

    def listen(self, script):
        self.script, self.stderr = script, os.dup(2)  # a copy, because start_keras mutes the original for a while
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in numbers:
            signal.signal(number, self.interrupt)
        threading.Thread(target=self.watch, args=(reader, numbers), daemon=True).start()

    def interrupt(self, number, frame):
        with contextlib.suppress(Exception):  # it may have come while the stream was being written
            sys.stdout.flush()
        self.end(number)

    def watch(self, reader, numbers):
        while (number := os.read(reader, 1)[0]) not in numbers:
            pass
        time.sleep(GRACE)
        self.end(number)

    @contextlib.contextmanager
    def undoing(self, step):
        """Have `step()` called if the process is interrupted inside the block."""
        key = object()
        self.undo[key] = step
        try:
            yield
        finally:
            del self.undo[key]

    def end(self, number):
        """Say in one line how to continue, and end with the exit status that shells expect of a signal."""
        for step in list(self.undo.values()):
            with contextlib.suppress(OSError):
                step()
        text = "; ".join(part for part in ("stopped", self.outer or self.how_to_continue) if part)
        with contextlib.suppress(OSError):
            os.write(self.stderr, f"\n{self.script}: {text}\n".encode())
        os._exit(128 + number)


interruption = Interruption()


class Unbroken(io.FileIO):
    """A standard stream that goes silent when its reader leaves (`script | head -1`): the files still get written."""

    gone = False

    def write(self, data):
        if self.gone:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self.gone = True
            if isinstance(error, BrokenPipeError):
                return len(data)
            raise UserError(f"cannot write to standard output: {error.strerror}") from error


def unbroken(stream):
    """`stream` (sys.stdout or sys.stderr) as a text stream over `Unbroken`; None when it was closed from the start."""
    if stream is None:
        return None
    return io.TextIOWrapper(io.BufferedWriter(Unbroken(stream.fileno(), "wb", closefd=False)), stream.encoding,
                            stream.errors, line_buffering=stream.line_buffering)


def run(main):
    """Call `main()`; a UserError becomes one line on stderr and exit status 2, Ctrl-C one line and 130, SIGTERM 143."""
    script = os.path.basename(sys.argv[0])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or it prints a screenful
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.stdout, sys.stderr = unbroken(sys.stdout), unbroken(sys.stderr)
    interruption.listen(script)
    try:
        status = main()
        print(end="", flush=True)
        sys.exit(status)
    except UserError as error:
        print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def call(command, timeout=None, **options):
    """`subprocess.run(command, text=True)`, whose child is ended when we are; `options` are Popen's."""
    with subprocess.Popen(command, text=True, **options) as child, interruption.undoing(child.terminate):
        try:
            output, errors = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def start_keras():
    """Import Keras and its backend with stderr muted: TensorFlow's start-up writes there whatever its log level is."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def number(kind, low, high=float("inf"), open_low=False):
    """An argparse type: `kind` (int or float) between `low` and `high`, said in one line when it is not."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (open_low and value == low):
            relation = "above" if open_low else "of at least"
            upper = "" if high == float("inf") else f" and at most {high}"
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {name} {relation} {low}{upper}")
        return value

    return parse


def table(rows, header=None):
    """Rows of cells as one aligned text table: text left, numbers right, two spaces between columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    lines = ([list(header)] if header else []) + rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    numeric = [all(is_number(row[i]) for row in rows) for i in range(len(widths))]
    text = []
    for line in lines:
        cells = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric)]
        text.append("  ".join(cells).rstrip())
    if header:
        text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


def is_number(cell):
    """Whether a table cell should be right-aligned."""
    return cell.strip("+-.,%x±() 0123456789e") == ""


class Progress:
    """A progress bar on stderr for anything over two seconds; silent when stderr is no terminal.

    Use as `for item in Progress(items, "SmoothGrad")` or call `step(text)` by hand.
    """

    def __init__(self, items=None, label="", total=None):
        import time

        self.items, self.label, self.done = items, label, 0
        self.total = total if total is not None else len(items)
        self.clock, self.start, self.drawn = time.monotonic, time.monotonic(), 0.0
        self.live = sys.stderr.isatty()

    def step(self, text="", n=1):
        self.done += n
        now = self.clock()
        if self.live and now - self.start > 1 and (now - self.drawn > 0.1 or self.done >= self.total):
            self.drawn = now
            filled = round(24 * self.done / max(self.total, 1))
            left = (now - self.start) / max(self.done, 1) * (self.total - self.done)
            bar = "#" * filled + "." * (24 - filled)
            line = f"{self.label} [{bar}] {self.done}/{self.total}  {left:4.0f} s left  {text}"
            print(f"\r{line:<79.119}", end="", file=sys.stderr, flush=True)

    def close(self):
        if self.live and self.drawn:
            print("\r" + " " * 119 + "\r", end="", file=sys.stderr, flush=True)

    def __iter__(self):
        try:
            for item in self.items:
                yield item
                self.step()
        finally:
            self.close()
