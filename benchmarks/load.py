"""Loading the faces: this project beside the row loop that most notebooks copy.

    python -m benchmarks.load [--data data/train.csv] [--rounds 3]

Prints the median seconds over the rounds, the ratios of the same run, and the peak memory of a cold load. Without real
data it writes a CSV of the built-in sample, four times over (28,000 rows), to a temporary folder.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli, data

# VmHWM, not ru_maxrss: the latter keeps the parent's peak across fork and exec.
PEAK = ("import sys; from utils import data; data.CACHE = data.Path(sys.argv[2]); data.load_faces(sys.argv[1]);"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))")


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path, help="CSV to load (default: data/train.csv*, else a written sample)")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each way")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        real = sorted(data.PROJECT.glob("data/train.csv*"))
        path = args.data or (real[0] if real else written_sample(folder / "train.csv"))
        data.CACHE = folder / "cache"
        data.load_faces(path)  # files into the page cache, libraries into memory
        times = {"row loop (pandas + split)": [], "load_faces, cold": [], "load_faces, cached": []}
        for _ in range(args.rounds):
            times["row loop (pandas + split)"].append(seconds(row_loop, path))
            for entry in data.CACHE.iterdir():
                entry.unlink()
            times["load_faces, cold"].append(seconds(data.load_faces, path))
            times["load_faces, cached"].append(seconds(data.load_faces, path))
        middle = {way: statistics.median(taken) for way, taken in times.items()}
        slowest = middle["row loop (pandas + split)"]
        print(cli.table([[way, f"{taken:.3f}", f"{slowest / taken:.1f}x"] for way, taken in middle.items()],
                        ["", "seconds", "against the loop"]))
        print(f"cached against cold: {middle['load_faces, cold'] / middle['load_faces, cached']:.0f}x")
        if Path("/proc/self/status").exists():
            done = subprocess.run([sys.executable, "-c", PEAK, path, folder / "none"], stdout=subprocess.PIPE, check=True)
            print(f"peak memory of a cold load, interpreter included: {int(done.stdout) / 1024:.0f} MB")


def row_loop(path):
    import numpy as np
    import pandas as pd

    frame = pd.read_csv(path)
    column = next(name for name in frame.columns if name.strip() in ("feature", "pixels"))
    return np.array([np.array(row.split(), np.float32) for row in frame[column]])


def written_sample(path):
    from utils.sample import sample_faces

    images, labels = sample_faces()
    rows = [f"{label},{' '.join(map(str, image.ravel()))}" for image, label in zip(images, labels)]
    path.write_text("\n".join(["label,feature", *rows * 4]) + "\n")
    return path


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main)
