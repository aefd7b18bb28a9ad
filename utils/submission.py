"""Hand a file of predictions to a Kaggle competition through Kaggle's own client, the optional requirement `kaggle`."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys

from utils.cli import UserError, call
from utils.files import shown

FAILED = r"Could not (submit|find)"  # what the client may print while its exit status is 0
TIMEOUT = 180  # seconds; the file has 60 kB, but the client tries again for a while when the upload stalls
CREDENTIALS = "`kaggle auth login`, or a token from https://www.kaggle.com/settings/api in KAGGLE_API_TOKEN"
REASONS = (  # what the client's output holds -> what is wrong; the first that fits
    (r"Failed to resolve|Max retries exceeded|ConnectionError|Connection refused|ProxyError|timed out",
     "Kaggle cannot be reached; check the network"),
    (r"Authentication required|\b401\b|Unauthorized", f"Kaggle's client has no valid credentials; expected {CREDENTIALS}"),
    (r"\b403\b|Forbidden|permission", "Kaggle refuses (403); accept the competition's rules on its page, with this account"),
    (r"\b404\b|Could not find competition", "Kaggle knows no competition {slug!r} that takes files (404); expected the last "
                                            "part of its address"),
    (r"\b429\b|Too Many Requests", "Kaggle takes no more submissions for now (429); try again tomorrow"),
    (r"\b5\d\d Server Error", "Kaggle itself failed; try again later"),
)


def check(path, rows):
    """Raise UserError, with the row, unless the CSV at `path` is what Kaggle takes: id,label, unique ids, codes 0-6."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    if header != ["id", "label"]:
        raise UserError(f"{path} row 1 is {','.join(header)[:60]}; Kaggle expects id,label")
    if len(lines) != rows:
        raise UserError(f"{path} has {len(lines):,} rows; expected {rows:,}")
    seen = {}
    for row, (name, label) in enumerate(lines, start=2):
        if seen.setdefault(name, row) != row:
            raise UserError(f"{path} row {row} has id {name[:20]} of row {seen[name]} again; Kaggle expects each id once")
        if not re.fullmatch("[0-6]", label):
            raise UserError(f"{path} row {row} has label {label[:20]!r}; Kaggle expects 0 to 6")


def submit(path, slug, message):
    """Send the file at `path` to the competition `slug` with a message; returns the client's own words.

    Raises UserError, one line, when the client, its credentials, the network or the competition are missing. The file stays
    in any case, and the command that sends it is printed.
    """
    command = ["kaggle", "competitions", "submit", slug, "-f", shown(path), "-m", message]
    print(f"Submitting: {shlex.join(command)}", flush=True)
    client = shutil.which("kaggle", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
    kept = f"; {shown(path)} is kept, and the command above sends it"
    if client is None:
        raise UserError(f"Kaggle's client is not installed; python -m pip install -r requirements-kaggle.txt{kept}")
    try:
        done = call([client, *command[1:]], TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise UserError(f"Kaggle did not answer within {TIMEOUT} s{kept}") from error
    except OSError as error:
        raise UserError(f"{client} does not start: {error.strerror}{kept}") from error
    if done.returncode or re.search(FAILED, done.stdout):
        raise UserError(reason(f"{done.stdout}\n{done.stderr}", slug) + kept)
    return done.stdout.strip()


def reason(output, slug):
    """What the client's output says is wrong, in one line."""
    for pattern, words in REASONS:
        if re.search(pattern, output):
            return words.format(slug=slug)
    lines = [line.strip() for line in re.split(r"[\r\n]", output) if line.strip() and "%|" not in line]  # no progress bars
    return f"Kaggle's client failed: {lines[0][:200] if lines else 'it says nothing'}"
