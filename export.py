"""Take a model elsewhere: to ONNX, LiteRT, OpenVINO, .keras or a SavedModel. The file is tested, then kept.

    python export.py --model models/fer2013-compact.h5
    python export.py --model models/fer2013-compact.h5 --format litert --int8 \\
        --data data/test.csv --labels data/test_public_labels.csv

Needs TensorFlow and requirements-export.txt. Writes models/NAME with the suffix of the format: .onnx,
.tflite, .xml and .bin, .keras, or the folder NAME_saved_model. The input stays raw grey values 0-255, float32
(n, 48, 48, 1), the output probabilities. Model and exported file predict the faces of --data; where a
probability differs by more than 0.0001, nothing is kept and the exit status is 2.

--int8 (onnx, litert) stores weights and layer outputs in 8 bits, whose ranges are measured on training faces.
Such a file is kept when it gives at least 90 % of the faces the model's class, and when its accuracy is at
most 2 points below. Measured (the second command with --limit 500): 3.9 MB, the weights in
16 bits, become 2.0 MB; 97.8 % of the faces keep their class, and the accuracy goes from 69.6 to 70.0 %. With
--format onnx: 98.4 % and 69.4 %.
"""

import os
import shutil
import tempfile
from pathlib import Path

from utils import cli, files
from utils.cli import UserError, interruption

ENDINGS = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml", "keras": ".keras",
           "saved_model": "_saved_model"}
KERAS_NAMES = {"saved_model": "tf_saved_model"}  # where Keras calls a format otherwise
MODULES = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "litert": ("ai_edge_litert.interpreter",),
           "openvino": ("openvino",)}
INT8 = ("onnx", "litert")  # OpenVINO's own tool, NNCF, is a large package of its own
LARGEST_DIFFERENCE = 1e-4  # of a probability; float32 sums in another order differ by about 1e-6
SAME_CLASS, ACCURACY_LOST = 0.9, 0.02  # of an int8 file: the least share of faces, the most accuracy
CALIBRATION_FACES = 300


def parse_args(argv):
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, metavar="MODEL.h5",
                        help="default: models/cnn.h5, else the released one")
    parser.add_argument("--format", choices=tuple(ENDINGS), default="onnx", help="of the exported file")
    parser.add_argument("--int8", action="store_true", help="quantise to 8 bits after training")
    parser.add_argument("--calibration", type=cli.data_path, metavar="TRAIN.csv",
                        help="training faces for --int8 (default: data/*.csv, else the built-in sample)")
    parser.add_argument("--data", type=cli.data_path, default=Path("sample"),
                        help="labelled faces to compare on")
    cli.add_classes(parser)
    parser.add_argument("--labels", type=Path, metavar="ID_LABEL.csv",
                        help="id,label CSV for a --data without labels")
    parser.add_argument("--usage", help="only the rows of this Usage, e.g. PublicTest")
    parser.add_argument("--limit", type=cli.number(int, 1), help="compare on the first LIMIT faces only")
    parser.add_argument("--out", type=Path, help="default: models/NAME with the format's suffix")
    args = parser.parse_args(argv)
    if args.int8 and args.format not in INT8:
        raise UserError(f"--int8 goes with --format {' or '.join(INT8)}, not with {args.format}")
    if args.calibration and not args.int8:
        raise UserError("--calibration belongs to --int8")
    ending = ENDINGS[args.format]
    if args.out and ending.startswith(".") and args.out.suffix != ending:
        raise UserError(f"--out {args.out} must end in {ending}")
    return args


def main(argv=None):
    """Export and compare; returns the table that is printed: a pandas.DataFrame, model and exported file."""
    args = parse_args(argv)
    cli.start_keras()
    import keras

    from utils import evaluation, exported, models

    if keras.backend.backend() != "tensorflow":
        raise UserError(f"export.py needs TensorFlow, and KERAS_BACKEND is {keras.backend.backend()}; "
                        "set KERAS_BACKEND=tensorflow")
    exported.require(*MODULES.get(args.format, ()))
    path = args.model or models.default_model()
    stem = f"{path.stem}-int8" if args.int8 else path.stem
    out = args.out or models.MODELS / f"{stem}{ENDINGS[args.format]}"
    check_free(out)

    # ---- Model and faces
    if path.suffix in exported.SUFFIXES:
        raise UserError(f"{path} is an exported file; expected the .h5 or .keras that it was made from")
    [network] = evaluation.load_networks([path])
    faces = evaluation.faces_to_evaluate([path], args.data, args.labels, args.usage, classes=args.classes)
    faces = faces.take(slice(0, args.limit))

    # ---- Export to a temporary folder, comparison, and only then the final name
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(dir=out.parent, prefix=".export-")
    with interruption.undoing(lambda: shutil.rmtree(folder, ignore_errors=True)):
        try:
            target = Path(folder) / out.name
            export(network, target, args)
            table, problem = compare([network, load_exported(target, args.format)], faces, [path, target],
                                     args.int8)
            cli.print_table(table)
            if problem:
                raise UserError(f"the {args.format} file does not agree with {path}: {problem}; not kept")
            written = move(target, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"Wrote {', '.join(map(files.relative_path, written))}; compared on {len(faces):,} faces of "
          f"{faces.source}")
    return table


# ---- export ------------------------------------------------------------------------------------------------


def export(network, path, args):
    """Write `network` (keras.Model of faces) to `path` in the format that `args` ask for."""
    import keras

    from utils import exported

    if args.format == "keras":
        network.save(path)
        return
    # Without training=False Keras' exporters normalise by each batch's own statistics after a CenterCrop (in
    # older files of ours): its call() trains by default, and Keras 3.15 hands that on to later layers.
    face = keras.Input(network.input_shape[1:], name="face")
    fixed = keras.Model(face, network(face, training=False), name=network.name)
    fixed(face)  # Keras exports only what has been called
    options = {}
    if args.int8:
        batches = calibration_batches(network, args.calibration)
    if args.int8 and args.format == "litert":
        import tensorflow as tf

        options = {"optimizations": [tf.lite.Optimize.DEFAULT],
                   "representative_dataset": lambda: ([batch] for batch in batches)}
    with exported.quiet():
        fixed.export(str(path), format=KERAS_NAMES.get(args.format, args.format), verbose=False, **options)
        if args.int8 and args.format == "onnx":
            quantize_onnx(path, batches)


def calibration_batches(network, source):
    """Training faces as `network` takes them: a list of float32 (1, height, width, channels), 0-255."""
    import numpy as np

    from utils import data, models

    faces = data.training_part(data.find_data(source))
    rows = np.random.default_rng(0).permutation(len(faces))[:CALIBRATION_FACES]
    print(f"Ranges for int8: {len(rows)} faces of {faces.source}")
    return list(models.prepare(faces.images[rows], network)[:, None])


def quantize_onnx(path, batches):
    """Replace the ONNX file at `path` by one in 8 bits, by ONNX Runtime's static quantisation.

    reduce_range: 7 bits for weights, because processors without VNNI add products of 8 bits in 16.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(batches)

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"face": batch}

    prepared = path.with_name(f"prepared{path.suffix}")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, path, Reader(), per_channel=True, reduce_range=True)
    prepared.unlink()


# ---- comparison --------------------------------------------------------------------------------------------


def load_exported(path, kind):
    """The exported file or folder, run by the runtime of its format; see `exported.ExportedModel`."""
    from utils import exported, models

    if kind == "keras":
        return models.load(path)
    if kind in INT8:
        return exported.load(path)

    with exported.quiet():
        if kind == "openvino":
            import openvino

            # Its own choice is bfloat16 where the processor has it, which is right to three digits only
            compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            shape = [size.get_length() for size in list(compiled.input(0).partial_shape)[1:]]
            return exported.ExportedModel(
                (None, *shape), (None, 7), lambda batch: compiled(batch)[compiled.output(0)])
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        shape = loaded.serve.input_signature[0].shape
        return exported.ExportedModel(tuple(shape), (None, 7), lambda batch: loaded.serve(batch).numpy())


def compare(networks, faces, paths, int8):
    """The table of [model, exported file], and why the second does not agree with the first, or ""."""
    import numpy as np
    import pandas as pd

    from evaluate import BATCHES, forward_times
    from utils import models
    from utils.metrics import to_probabilities

    first, second = (to_probabilities(models.predict(network, faces.images)) for network in networks)
    difference = float(np.abs(first - second).max())
    same = float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
    accuracy = [float((answer.argmax(axis=1) == faces.labels).mean()) for answer in (first, second)]
    times = forward_times(networks, faces.images)
    table = pd.DataFrame({
        "file": [path.name for path in paths],
        "size": [f"{size(path) / 1e6:.2f} MB" for path in paths],
        "accuracy %": [f"{100 * value:.2f}" for value in accuracy],
        "largest difference": ["-", f"{difference:.1e}"],
        "same class %": ["-", f"{100 * same:.2f}"],
        **{f"ms/image at {batch}": [f"{row[str(batch)]:.2f}" for row in times] for batch in BATCHES}})
    problem = ""
    if not int8 and difference > LARGEST_DIFFERENCE:
        problem = f"a probability differs by {difference:.2g} (at most {LARGEST_DIFFERENCE:g} is allowed)"
    elif int8 and (same < SAME_CLASS or accuracy[1] < accuracy[0] - ACCURACY_LOST):
        problem = (f"{100 * same:.1f} % of the faces get the same class (at least {100 * SAME_CLASS:g} % is "
                   f"expected), and the accuracy changes by {100 * (accuracy[1] - accuracy[0]):+.1f} points "
                   f"(at most -{100 * ACCURACY_LOST:g} is allowed)")
    return table, problem


def parts(path):
    """The files that belong to an export: of OpenVINO also the weights, beside its .xml."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def size(path):
    """Bytes of a model's file, of its files, or of those in its folder."""
    return sum(file.stat().st_size for part in parts(path) for file in [part, *part.rglob("*")]
               if file.is_file())


# ---- final names -------------------------------------------------------------------------------------------


def check_free(out):
    """Raise UserError when `out` would overwrite anything but an earlier export of its kind."""
    if out.suffix in ENDINGS.values():
        files.check_outputs(parts(out))
        if len(parts(out)) > 1 and out.with_suffix(".bin").exists() and not out.exists():
            raise UserError(f"{out.with_suffix('.bin')} exists without {out}; choose another --out")
    elif os.path.lexists(out):
        raise UserError(f"{out} exists already; move it away or choose another --out")


def move(source, out):
    """Move a finished export to its final name, of the same file system; returns the paths."""
    if source.is_dir():
        os.rename(source, out)
        return [out]
    for part, final in zip(parts(source), parts(out)):
        with files.replacing(final) as temporary:
            shutil.copyfile(part, temporary)
    return parts(out)[::-1]


if __name__ == "__main__":
    cli.run(main)
