"""Loading the faces: this project beside the row loop that most notebooks copy.

    python -m benchmarks.load [--data data/train.csv.gz] [--rounds 3]

Prints the median seconds over the rounds, for the file as it is and unpacked, the ratios of the same run,
and the peak memory of a cold load. Without real data it writes a CSV of the built-in sample, four times over
(28,000 rows), to a temporary folder. Returns the printed table.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from utils import cli

# VmHWM, not ru_maxrss: the latter keeps the parent's peak across fork and exec.
PEAK = """
import sys
from utils import data
data.CACHE = data.Path(sys.argv[2])
data.load_faces(sys.argv[1])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main(argv=None):
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=Path,
                        help="CSV to load (default: data/train.csv*, else the built-in sample)")
    parser.add_argument("--rounds", type=cli.number(int, 1), default=3, help="of each way")
    args = parser.parse_args(argv)

    import pandas as pd

    from utils import data

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data.CACHE = folder / "cache"
        real = sorted(data.PROJECT.glob("data/train.csv*"))
        path = args.data or (real[0] if real else written_sample(folder / "sample.csv"))
        plain = folder / "plain.csv"
        packed = path.read_bytes()
        opener = next((data.COMPRESSED[key] for key in data.COMPRESSED if packed.startswith(key)), open)
        with opener(path, "rb") as file:
            plain.write_bytes(file.read())
        times = {(way, file.name): [] for file in (path, plain) for way in WAYS}
        for _ in range(args.rounds):
            for file in (path, plain):
                for way, function in WAYS.items():
                    if way == "cold":
                        clear_cache(data.CACHE)
                    times[way, file.name].append(seconds(function, file))
        frame = pd.DataFrame([(name, way, statistics.median(taken)) for (way, name), taken in times.items()],
                             columns=["file", "way", "seconds"])
        slowest = frame[(frame.way == "row loop") & (frame.file == plain.name)].seconds.item()
        frame["against the plain row loop"] = slowest / frame.seconds
        cli.print_table(frame.assign(**{
            "seconds": frame.seconds.map("{:.3f}".format),
            "against the plain row loop": frame["against the plain row loop"].map("{:.1f}x".format)}))
        for name, group in frame.groupby("file", sort=False):
            taken = group.set_index("way").seconds
            print(f"{name}: cold {taken['row loop'] / taken['cold']:.1f}x as fast as the row loop, "
                  f"cached {taken['cold'] / taken['cached']:.0f}x as fast as cold")
        if Path("/proc/self/status").exists():
            command = [sys.executable, "-c", PEAK, path, folder / "none"]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            print(f"peak memory of a cold load, interpreter included: {int(done.stdout) / 1024:.0f} MB")
    return frame


def row_loop(path):
    """What most notebooks do: pandas, then `split` and `np.array` row by row."""
    import numpy as np
    import pandas as pd

    frame = pd.read_csv(path)
    column = next(name for name in frame.columns if name.strip() in ("feature", "pixels"))
    return np.array([np.array(row.split(), np.float32) for row in frame[column]])


def load_faces(path):
    """This project's way; cold when the cache is empty."""
    from utils import data

    return data.load_faces(path)


WAYS = {"row loop": row_loop, "cold": load_faces, "cached": load_faces}


def clear_cache(folder):
    for entry in folder.glob("*"):
        entry.unlink()


def written_sample(path):
    """A CSV of the built-in sample at `path`, four times over."""
    from utils.sample import sample_faces

    images, labels = sample_faces(7000)
    rows = [f"{label},{' '.join(map(str, image.ravel()))}" for image, label in zip(images, labels)]
    path.write_text("\n".join(["label,feature", *rows * 4]) + "\n")
    return path


def seconds(function, *arguments):
    """How long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main)
