"""Take a model elsewhere: to ONNX or LiteRT. The file is tested, then kept.

    python export.py --model models/fer2013-compact.h5
    python export.py --model models/fer2013-compact.h5 --format litert --int8 \\
        --data data/test.csv --labels data/test_public_labels.csv

Needs TensorFlow and requirements-export.txt. Writes models/NAME.onnx or models/NAME.tflite. The input stays
raw grey values 0-255, float32 (n, 48, 48, 1), the output probabilities. Model and exported file predict the
faces of --data; where a probability differs by more than 0.0001, nothing is kept and the exit status is 2.

--int8 stores weights and layer outputs in 8 bits, whose ranges are measured on training faces
(--training-data). Such a file is kept when it gives at least 90 % of the faces the model's class, and when
its accuracy is at most 2 points below. Measured (the second command with --limit 500): 3.9 MB, the weights in
16 bits, become 2.0 MB; 98.4 % of the faces keep their class, and the accuracy goes from 70.0 to 69.6 %. With
--format onnx: 99.0 % and 69.4 %.
"""

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, data, files, models
from utils.cli import UserError

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
PACKAGES = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}
LARGEST_DIFFERENCE = 1e-4  # of a probability; float32 sums in another order differ by about 1e-6
SAME_CLASS, ACCURACY_LOST = 0.9, 0.02  # of an int8 file: the least share of faces, the most accuracy
CALIBRATION_FACES, BATCH = 300, 256


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="onnx", help="of the exported file")
    parser.add_argument("--int8", action="store_true", help="quantise to 8 bits after training")
    cli.add_evaluation_data(parser, data="labelled faces to compare on (default: the built-in sample)")
    parser.add_argument("--limit", type=cli.number(int, 1), help="compare on the first LIMIT faces only")
    parser.add_argument("--out", type=Path, help="default: models/NAME with the format's suffix")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != SUFFIXES[args.format]:
        raise UserError(f"--out {args.out} must end in {SUFFIXES[args.format]}")
    return args


def main(argv=None):
    """Export and compare; returns the table that is printed: a pandas.DataFrame, model and exported file."""
    args = parse_args(argv)
    path = args.model or models.default_model()
    out = args.out or files.MODELS / f"{path.stem}{'-int8' * args.int8}{SUFFIXES[args.format]}"
    files.check_outputs([out])
    cli.start_keras()
    import keras

    from utils import evaluation

    if keras.backend.backend() != "tensorflow":
        raise UserError("export.py needs TensorFlow; set KERAS_BACKEND=tensorflow")
    try:
        for package in PACKAGES[args.format]:
            importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{error}; python -m pip install -r requirements-export.txt") from error

    # ---- Model and faces
    [network] = evaluation.load_networks([path])
    source = args.data or data.SAMPLE
    faces = evaluation.faces_to_evaluate([path], source, args.labels, args.usage).take(slice(args.limit))
    images = models.prepare(faces.images, network)
    calibration = calibration_faces(network, args.training_data) if args.int8 else None

    # ---- Export to a temporary name, comparison, and only then the final name
    with files.replacing(out) as temporary:
        with silenced():
            export(network, temporary, calibration)
            run = load_exported(temporary)
            outputs = [run(batch) for batch in np.array_split(images, -(-len(faces) // BATCH))]
        table, agrees = compare(models.predict(network, faces.images), np.concatenate(outputs), faces.labels,
                                args.int8)
        table.insert(0, "file", [path.name, out.name])
        table.insert(1, "size", [f"{file.stat().st_size / 1e6:.2f} MB" for file in (path, temporary)])
        print(f"Compared on {len(faces):,} faces of {faces.source}")
        cli.print_table(table)
        if not agrees:
            raise UserError(f"the exported file does not agree with {path}, as the table shows; not kept")
    cli.print_written([out])
    return table


def calibration_faces(network, source):
    """Training faces to measure the ranges for int8 on: float32 (n, 1, height, width, channels), 0-255."""
    faces = data.training_part(data.find_data(source))
    rows = np.random.default_rng(0).permutation(len(faces))[:CALIBRATION_FACES]
    print(f"Ranges for int8: {len(rows)} faces of {faces.source}")
    return models.prepare(faces.images[rows], network)[:, None]


@contextlib.contextmanager
def silenced():
    """A block in which nothing is printed: the exporters report each step on both streams."""
    logging.disable(logging.WARNING)
    sys.stdout.flush()
    streams = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, stream in enumerate(streams, start=1):
            os.dup2(stream, number)
            os.close(stream)
        logging.disable(logging.NOTSET)


def export(network, path, calibration=None):
    """Write `network` (keras.Model of faces) to `path`, in 8 bits where there are faces to calibrate on."""
    import keras
    import tensorflow as tf

    # Without training=False Keras' exporters normalise by each batch's own statistics after a CenterCrop (in
    # older files of ours): its call() trains by default, and Keras 3.15 hands that on to later layers.
    face = keras.Input(network.input_shape[1:], name="face")
    fixed = keras.Model(face, network(face, training=False), name=network.name)
    fixed(face)  # Keras exports only what has been called
    if path.suffix == SUFFIXES["litert"]:
        options = {} if calibration is None else {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([batch] for batch in calibration)}
        fixed.export(str(path), format="litert", verbose=False, **options)
        return
    fixed.export(str(path), format="onnx", verbose=False)
    if calibration is not None:
        quantize_onnx(path, calibration)


def quantize_onnx(path, calibration):
    """Replace the ONNX file at `path` by one in 8 bits, by ONNX Runtime's static quantisation.

    reduce_range: 7 bits for weights, because processors without VNNI add products of 8 bits in 16.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        batches = ({"face": batch} for batch in calibration)

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / path.name
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(prepared, path, Reader(), per_channel=True, reduce_range=True)


def load_exported(path):
    """The exported file as a function: float32 (n, height, width, channels) -> float32 (n, classes)."""
    if path.suffix == SUFFIXES["onnx"]:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"face": batch})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch):
        interpreter.resize_tensor_input(source["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run


def compare(expected, exported, labels, int8):
    """What model and exported file predict, each (n, 7), as a table, and whether they agree (bool)."""
    from utils.metrics import to_probabilities

    expected, exported = to_probabilities(expected), to_probabilities(exported)
    difference = np.abs(expected - exported).max()
    same = (expected.argmax(axis=1) == exported.argmax(axis=1)).mean()
    accuracy = [(output.argmax(axis=1) == labels).mean() for output in (expected, exported)]
    table = pd.DataFrame({"accuracy %": [f"{100 * value:.2f}" for value in accuracy],
                          "largest difference": ["-", f"{difference:.1e}"],
                          "same class %": ["-", f"{100 * same:.2f}"]})
    if int8:
        return table, same >= SAME_CLASS and accuracy[1] >= accuracy[0] - ACCURACY_LOST
    return table, difference <= LARGEST_DIFFERENCE


if __name__ == "__main__":
    cli.run(main)
