"""How many frames per second does `predict.py --video` manage at 640x480?

    python -m pip install -r requirements-dev.txt -r requirements-photos.txt
    python -m benchmarks.video --model models/fer2013-compact.h5

The clip, 30 frames/s, is a portrait that matplotlib ships moving over a photograph that scikit-learn ships.
Beside the time that passes it states the processor time of all threads, which tells more on a busy machine.
Reading, detecting, following, predicting, drawing and writing count; starting Keras does not.

Measured with --frames 332 on two quiet cores of an AMD EPYC: 35.0 frames/s, 52 ms of processor time per
frame; beside programs that wanted five cores 20.5 frames/s.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import matplotlib.cbook
import numpy as np
import sklearn.datasets
from PIL import Image

import predict
from photos import video
from utils import cli, models


def main(argv=None):
    """Measure; returns frames per second of time and of processor time."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, help="default: models/cnn.h5, else the released one")
    parser.add_argument("--frames", type=cli.number(int, 64), default=480)
    args = parser.parse_args(argv)
    model = args.model or models.default_model()
    with tempfile.TemporaryDirectory() as folder:

        def measure(frames):
            write_clip(Path(folder) / "clip.mp4", frames)
            start = time.perf_counter(), time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                table = predict.main(["--model", str(model), "--video", f"{folder}/clip.mp4",
                                      "--out-folder", folder])
            return time.perf_counter() - start[0], time.process_time() - start[1], len(table)

        measure(32)  # imports
        first = measure(32)  # loads the model and traces it, as the longer run does
        last = measure(args.frames)
    seconds, processor, faces = (after - before for before, after in zip(first, last))
    frames = args.frames - 32
    print(f"{frames} frames, {faces} faces: {frames / seconds:.1f} frames/s, "
          f"{1000 * processor / frames:.1f} ms of processor time per frame")
    return frames / seconds, frames / processor


def write_clip(path, frames):
    """Write the clip, 640x480."""
    background = Image.fromarray(sklearn.datasets.load_sample_images().images[0]).resize((640, 480))
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as image:
        face = image.convert("RGB").crop((110, 40, 440, 400)).resize((220, 240))
    with video.writing(path, 30, (480, 640)) as add:
        for number in range(frames):
            frame = background.copy()
            frame.paste(face, (20 + abs(2 * number % 360 - 180), 60))
            add(np.asarray(frame))


if __name__ == "__main__":
    cli.run(main)
