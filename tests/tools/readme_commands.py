"""Does every command of every README and page in docs/ work as written, in a fresh clone, on the real data?

    python -m tests.tools.readme_commands data              days: benchmarks and all trainings in full
    python -m tests.tools.readme_commands data --short      trainings on 600 faces for an epoch, without LONG
    python -m tests.tools.readme_commands data --short --pages README.md data/README.md

Clones the last commit into a temporary folder, puts there what a reader would have (Kaggle's zip file made of
train.csv.gz, test.csv.gz and test_public_labels.csv, photos, a clip), and runs the commands of code blocks
and inline code, page by page. A command passes when it ends with status 0 and has written the files named
behind it, in its comment or the next cells of its row. PrivateTest has no public labels: here they are all 0,
and accuracies on it mean nothing. The environment is the one that runs this. Exit status 1 when one fails.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCS = sorted(str(path.relative_to(PROJECT)) for path in PROJECT.glob("docs/**/*.md"))
PAGES = ["README.md", "data/README.md", *DOCS, "models/README.md", "tests/README.md", "benchmarks/README.md"]
CHALLENGE = "challenges-in-representation-learning-facial-expression-recognition-challenge.zip"
COMMAND = re.compile(
    r"([A-Z_]+=\S+ )*(\.venv/bin/)?(python[\d.]*|pip|make|kaggle|\./hw3_\w+\.sh|tar|gzip|mv|source)\b")
OUTPUT = re.compile(r"[\w./*-]+\.(?:png|csv|json|html|h5|onnx|tflite|mp4)\b")
TRAINS = re.compile(r"train_[cd]nn\.py|sweep\.py|report\.py|hw3_train\.sh")
SKIPPED = {  # pattern of page and command: why it cannot be run here
    "^docs/notebook": "the cells of a notebook in the cloud",
    r"\bpip |-m venv|make (lock|audit)": "changes the environment; .ci/run makes a new one",
    "kaggle (auth|comp|data)|--submit": "needs a Kaggle account",
    "--video 0": "needs a camera",
    "fer2013new": "needs the votes of FER+",
}
LONG = {  # likewise: why --short leaves it out
    r"benchmarks\.|make bench": "measures for minutes or hours",
    r"tests\.tools|make test|pytest": "tests for minutes, as .ci/run does",
}


def commands(page):
    """The commands of a Markdown page in order: [(line, command, [files named behind it])]. A variable that a
    block sets is set for the later commands of the block, too."""
    found, text = [], page.read_text(encoding="utf-8")
    for piece in re.finditer(r"^```\w*\n([\s\S]*?)^```|^\|.*|(?:^(?!```|\|).+\n?)+", text, re.M):
        line, variables = text.count("\n", 0, piece.start()) + 1, ""
        for match in re.finditer(r"(?:.*\\\n)*.+", piece[1] or ""):
            command, _, comment = re.sub(r"\s*\\\n\s*", " ", match[0].removeprefix("!")).partition("  #")
            if re.match(r"[a-z]+=", command):
                variables += f"{command}; "
            elif command and not command.startswith("#"):
                found.append((line + 1 + piece[1].count("\n", 0, match.start()),
                              variables + command.strip(), OUTPUT.findall(comment)))
        spans = [] if piece[1] else [" ".join(span.split()) for span in re.findall("`([^`]+)`", piece[0])]
        for i, span in enumerate(spans):
            if COMMAND.match(span) and " " in span:
                cells = spans[i + 1:] if piece[0].startswith("|") else []
                found.append((line, span, OUTPUT.findall(" ".join(cells))))
    return found


def prepare(folder, source):
    """A fresh clone in `folder`, linked to this environment, with a zip file like Kaggle's, made of the files
    in the folder `source`, and photos and a clip of scikit-image's astronaut."""
    import cv2
    import pandas as pd
    from skimage import data

    subprocess.run(["git", "clone", "-q", PROJECT, folder], check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    for path in folder.glob("requirements*.txt"):
        os.utime(path, (0, 0))  # or make would install again
    train, test = (pd.read_csv(source / f"{name}.csv.gz", header=0, names=["emotion", "pixels"])
                   for name in ("train", "test"))
    labels = pd.read_csv(source / "test_public_labels.csv").label
    faces = pd.concat([train, test.assign(emotion=labels.reindex(test.index, fill_value=0).astype(int))])
    faces["Usage"] = ["Training"] * len(train) + ["PublicTest"] * len(labels) + ["PrivateTest"] * (
        len(test) - len(labels))
    with zipfile.ZipFile(folder / "data" / CHALLENGE, "w") as archive, \
            tempfile.TemporaryDirectory() as place:
        (Path(place) / "fer2013").mkdir()
        faces.to_csv(f"{place}/fer2013/fer2013.csv", index=False)
        subprocess.run(["tar", "-cf", "fer2013.tar.gz", "-I", "gzip -1", "fer2013"], cwd=place, check=True)
        archive.write(f"{place}/fer2013.tar.gz", "fer2013.tar.gz")
        archive.writestr("train.csv", train.to_csv(index=False))
        archive.writestr("test.csv", test[["pixels"]].to_csv(index=False))
    photo = data.astronaut()[..., ::-1]
    (folder / "holiday").mkdir()
    for name in ("me.jpg", "holiday/1.jpg"):
        cv2.imwrite(str(folder / name), photo)
    video = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (512, 512))
    for _ in range(10):
        video.write(photo)
    video.release()


def run(command, outputs, folder):
    """Run in a shell in `folder`; returns (seconds, what is wrong or "")."""
    begun, path = time.time(), f"{folder}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", f"set -euo pipefail; {command}"], cwd=folder, text=True,
                          env=os.environ | {"PATH": path}, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    missing = [name for name in outputs
               if not any(file.stat().st_mtime > begun - 1 for file in folder.glob(name))]
    wrong = f"exit status {done.returncode}\n{done.stdout[-1500:]}" if done.returncode else ""
    return time.time() - begun, wrong or (f"does not write {', '.join(missing)}" if missing else "")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--pages", nargs="+", default=PAGES)
    args, failed = parser.parse_args(), 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "suite"
        prepare(folder, args.folder)
        found = [(page, *rest) for page in args.pages for rest in commands(folder / page)]
        for page, line, command, outputs in found:
            skipped = [why for key, why in (SKIPPED | (LONG if args.short else {})).items()
                       if re.search(key, f"{page} {command}")]
            if args.short and TRAINS.search(command):
                command += " --limit 600 --epochs 1" + " --trials 2" * ("sweep.py" in command)
            seconds, wrong = (0, "") if skipped else run(command, outputs, folder)
            failed += bool(wrong)
            status = f"skipped, {skipped[0]}" if skipped else f"FAILED, {wrong}" if wrong else "passed"
            print(f"{seconds:6.0f} s  {page}:{line}  {command}\n{' ' * 10}{status}", flush=True)
    print(f"{failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
