"""Take a model elsewhere: to ONNX or LiteRT. The file is tested, then kept.

    python export.py --model models/fer2013-compact.h5
    python export.py --model models/fer2013-compact.h5 --format litert --int8 \\
        --data data/test.csv --labels data/test_public_labels.csv

Needs TensorFlow and requirements-export.txt. Writes models/NAME.onnx or models/NAME.tflite. The input stays
raw grey values 0-255, float32 (n, 48, 48, 1), the output probabilities. Model and exported file predict the
faces of --data; where a probability differs by more than 0.0001, nothing is kept and the exit status is 2.

--int8 stores weights and layer outputs in 8 bits, whose ranges are measured on 300 training faces
(--training-data). Such a file is kept when it gives at least 90 % of the faces the model's class, and when
its accuracy is at most 2 points below. Measured (the second command with --limit 500): 3.9 MB become 2.0 MB;
98.4 % of the faces keep their class, and the accuracy goes from 70.0 to 69.6 %.
"""

import importlib
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from utils import cli, data, files, models
from utils.cli import UserError

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
PACKAGES = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    parser.add_argument("--format", choices=tuple(SUFFIXES), default="onnx", help="of the exported file")
    parser.add_argument("--int8", action="store_true", help="quantise to 8 bits after training")
    cli.add_evaluation_data(parser, data="labelled faces to compare on (default: the built-in sample)")
    parser.add_argument("--limit", type=cli.number(int, 1), help="compare on a random sample of LIMIT faces")
    cli.add_out_folder(parser, "models/")
    parser.add_argument("--out", type=Path, help="default: MODEL with the format's suffix in --out-folder")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != SUFFIXES[args.format]:
        raise UserError(f"--out {args.out} must end in {SUFFIXES[args.format]}")
    return args


def main(argv=None):
    """Export and compare; returns the table that is printed (pandas.DataFrame)."""
    args = parse_args(argv)
    path = args.model or models.default_model()
    out = args.out or args.out_folder / f"{path.stem}{'-int8' * args.int8}{SUFFIXES[args.format]}"
    files.check_outputs([out])
    cli.start_keras()
    import keras

    from utils import evaluation, metrics

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
    faces = evaluation.faces_to_evaluate([path], source, args.labels, args.usage)
    faces = data.draw_sample(faces, args.limit)
    images = models.prepare(faces.images, network)
    calibration = None  # raw faces to measure the ranges for int8 on: float32 (n, 1, height, width, channels)
    if args.int8:
        training = data.training_part(data.find_data(args.training_data))
        rows = np.random.default_rng(0).permutation(len(training))[:300]
        calibration = models.prepare(training.images[rows], network)[:, None]
        print(f"Ranges for int8: {len(rows)} faces of {training.source}")

    # ---- Export to a temporary name, comparison, and only then the final name
    logging.disable(logging.WARNING)  # the exporters report each step
    warnings.simplefilter("ignore")
    with files.replacing(out) as temporary:
        export(network, temporary, calibration)
        run = load_exported(temporary)
        outputs = [run(batch) for batch in np.array_split(images, -(-len(faces) // 256))]
        exported = metrics.to_probabilities(np.concatenate(outputs))
        table, agrees = compare(evaluation.probabilities([network], faces.images), exported, faces.labels,
                                args.int8)
        table.insert(0, "file", [path.name, out.name])
        table.insert(1, "size", [f"{file.stat().st_size / 1e6:.2f} MB" for file in (path, temporary)])
        print(f"Compared on {len(faces):,} faces of {faces.source}")
        cli.print_table(table)
        if not agrees:
            raise UserError(f"the exported file does not agree with {path}, as the table shows; not kept")
    cli.print_written([out])
    return table


def export(network, path, calibration=None):
    """Write `network` (keras.Model of faces) to `path`, in 8 bits where there are faces to calibrate on."""
    import keras
    import tensorflow as tf

    # A CenterCrop (in older files of ours) trains by default, which Keras 3.15 hands on to later layers
    face = keras.Input(network.input_shape[1:], name="face")
    fixed = keras.Model(face, network(face, training=False), name=network.name)
    fixed(face)  # Keras exports only what has been called
    if path.suffix == ".tflite":
        options = {} if calibration is None else {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([batch] for batch in calibration)}
        fixed.export(str(path), format="litert", verbose=False, **options)
    else:
        fixed.export(str(path), format="onnx", verbose=False)
        if calibration is not None:
            quantize_onnx(path, calibration)


def quantize_onnx(path, calibration):
    """Replace the ONNX file at `path` by one in 8 bits, by ONNX Runtime's static quantisation."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        batches = ({"face": batch} for batch in calibration)

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / path.name
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        # reduce_range: 7 bits for weights, as processors without VNNI add products of 8 bits in 16
        quantization.quantize_static(prepared, path, Reader(), per_channel=True, reduce_range=True)


def load_exported(path):
    """The exported file as a function: float32 (n, height, width, channels) -> float32 (n, classes)."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, {"face": batch})[0]
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    return lambda batch: run(face=batch)["output_0"]


def compare(expected, exported, labels, int8):
    """The probabilities (n, 7) of model and exported file as a table, and whether they agree (bool)."""
    difference = np.abs(expected - exported).max()
    same = (expected.argmax(axis=1) == exported.argmax(axis=1)).mean()
    accuracy = [(output.argmax(axis=1) == labels).mean() for output in (expected, exported)]
    table = pd.DataFrame({"accuracy %": [f"{100 * value:.2f}" for value in accuracy],
                          "largest difference": ["-", f"{difference:.1e}"],
                          "same class %": ["-", f"{100 * same:.2f}"]})
    if int8:
        return table, same >= 0.9 and accuracy[1] >= accuracy[0] - 0.02
    return table, difference <= 1e-4  # float32 sums in another order differ by about 1e-6


if __name__ == "__main__":
    cli.run(main)
