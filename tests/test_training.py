"""Training: resumed runs equal uninterrupted ones, bad runs stop, every option runs, formulas hold."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

import train_cnn
import train_dnn
from tests.conftest import JAX, sandbox, write_csv
from training import callbacks, figures, muon, networks, recipes
from training.batches import Batches, rows_to_copy
from training.model import TrainingModel, averaged_weights, make_optimizer, recompute_batch_norm
from training.recipes import Recipe
from training.run import RESERVED, Run, RunFiles, keep_better
from utils import data, models, structure
from utils.cli import UserError
from utils.sample import sample_faces

DNN = ["--data", "sample", "--limit", "160", "--batch-size", "32", "--network", "report"]
TINY = ["--data", "sample", "--limit", "60", "--batch-size", "20", "--precision", "float32"]
COMPACT = [*TINY, "--network", "compact", "--mix", "0.5"]
STOPPED = [*DNN, "--epochs", "2", "--precision", "mixed_bfloat16"]


def make_quick(patch):
    """Runs of small networks without figures, which test_scripts.py and test_figures.py look at."""
    patch.setattr(figures, "draw_architecture", lambda model, path: path)
    patch.setattr(figures, "draw_curves", lambda histories, path, *args, **kwargs: path)
    patch.setattr(networks, "DENSE_UNITS", 32)
    patch.setitem(networks.CNNS, "compact", small_cnn)


def small_cnn(*options):
    """Stands in for the compact network where a test is about the state of a run: it has all its kinds."""
    face = keras.Input((48, 48, 1), name="face")
    x = keras.layers.AveragePooling2D(6)(keras.layers.Rescaling(1 / 255, name="rescaling")(face))
    x = networks.convolution(keras.layers.ReLU()(networks.convolution(x, 2, "conv1")), 8, "conv2")
    return networks.classifier(face, keras.layers.Flatten()(keras.layers.Dropout(0.3)(x)), "compact_cnn")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)  # thousands of old graph nodes slow later tests down


def assert_same_weights(*paths):
    for one, other in zip(*(models.load(path).get_weights() for path in paths), strict=True):
        np.testing.assert_array_equal(one, other)


def train_until(epoch, argv, script=train_dnn):
    """Run a script and stop it, as Ctrl-C does, right after the checkpoint of `epoch` (from 1) is written."""
    save = callbacks.Checkpoint.on_epoch_end

    def save_and_stop(self, number, logs=None):
        save(self, number, logs)
        if number + 1 == epoch:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.Checkpoint, "on_epoch_end", save_and_stop)
        with pytest.raises(KeyboardInterrupt) as stop:
            script.main(argv)
    assert stop.value.__notes__ == [f"the same command with --resume continues after epoch {epoch}"]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """What two runs left: models/whole.h5 of an uninterrupted run of three epochs of `small_cnn`, and the
    checkpoint of train_dnn.py STOPPED after its first epoch; the folder models/."""
    with sandbox(tmp_path_factory.mktemp("earlier")) as caller, pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        train_cnn.main([*COMPACT, "--epochs", "3", "--name", "whole"])
        train_until(1, STOPPED)
    return caller.folder / "models"


# ---- resuming ----------------------------------------------------------------------------------------------


def test_a_stopped_run_resumed_is_identical_to_an_uninterrupted_one(workspace, earlier, capsys):
    """Of a network with normalisation, averaged weights and mixing; test_faults.py kills real processes."""
    run = [*COMPACT, "--epochs", "3", "--name", "stopped"]
    train_until(2, run, train_cnn)
    assert not (workspace / "models" / "stopped.h5").exists()
    train_cnn.main([*run, "--resume"])
    assert "resuming after epoch 2" in capsys.readouterr().out
    assert_same_weights(earlier / "whole.h5", "models/stopped.h5")
    histories = [pd.read_csv(path, dtype=str).drop(columns="seconds") for path in (
        earlier / "whole_history.csv", "models/stopped_history.csv")]
    assert len(histories[0]) == 3 and histories[0].equals(histories[1])
    assert not (workspace / "models" / "stopped.checkpoint.npz").exists()


@pytest.mark.parametrize("epoch", [2, 4])
def test_early_stopping_and_a_falling_rate_go_on_where_they_were(workspace, monkeypatch, epoch):
    accuracies = [0.3, 0.5, 0.4, 0.5, 0.1, 0.1]  # the best is the second, so two more epochs
    monkeypatch.setattr(callbacks, "evaluate", lambda network, faces: (1.0, accuracies.pop(0)))
    run = [*DNN, "--epochs", "6", "--precision", "float32", "--early-stopping", "2", "--reduce-lr", "1"]
    train_dnn.main([*run, "--name", "whole"])
    accuracies[:] = [0.3, 0.5, 0.4, 0.5, 0.1, 0.1]
    train_until(epoch, [*run, "--name", "stopped"])
    train_dnn.main([*run, "--name", "stopped", "--resume"])
    whole, stopped = (pd.read_csv(f"models/{name}_history.csv") for name in ("whole", "stopped"))
    # The loss never falls, so after the second epoch, the first without a better one, each has a tenth
    np.testing.assert_allclose(whole["learning_rate"], [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)
    pd.testing.assert_frame_equal(whole.drop(columns="seconds"), stopped.drop(columns="seconds"))
    assert_same_weights("models/whole.h5", "models/stopped.h5")


def test_class_weights_are_inverse_frequencies(workspace, monkeypatch):
    images, _ = sample_faces(20)
    write_csv("faces.csv", images, label=[0] * 12 + [3] * 6 + [6] * 2)
    seen = []
    monkeypatch.setattr(TrainingModel, "fit", lambda *args, **kwargs: seen.append(kwargs["class_weight"]))
    for argv in (["--class-weights"], []):
        options, _ = train_dnn.parse_options(["--data", "faces.csv", "--validation", "0", *argv])
        Run(options, networks.report_dnn).fit()
    assert seen == [{0: 20 / 36, 3: 20 / 18, 6: 20 / 6}, None]


def test_resume_compares_what_the_files_hold_not_how_they_are_called(workspace):
    images, labels = sample_faces(60)
    write_csv("faces.csv", images, label=labels)
    (workspace / "folder").mkdir()
    for seed, name in enumerate(("teacher.h5", "start.h5", "other.h5")):
        keras.utils.set_random_seed(seed)
        models.save(structure.flat_copy(networks.report_dnn(), dtype="float32"), name)
    run = ["--batch-size", "20", "--network", "report", "--epochs", "3", "--distill", "teacher.h5",
           "--start-from", "start.h5", "--data"]
    train_until(1, [*run, "faces.csv"])
    for name, what in {"teacher.h5": "teachers", "start.h5": "initial weights"}.items():
        shutil.copy(name, "kept.h5")
        shutil.copy("other.h5", name)
        with pytest.raises(UserError, match=f"made with other {what}"):
            train_dnn.main([*run, "faces.csv", "--resume"])
        shutil.copy("kept.h5", name)
    write_csv("faces.csv", images, label=(labels + 1) % 7)
    with pytest.raises(UserError, match="made with other training data"):
        train_dnn.main([*run, "faces.csv", "--resume"])
    write_csv("faces.csv", images, label=labels)
    assert train_dnn.main([*run, "folder/../faces.csv", "--resume"])["saved_epoch"] >= 1


def test_more_epochs_may_follow_where_the_schedule_does_not_depend_on_them(workspace):
    run = [*DNN, "--keep", "last", "--precision", "mixed_float16", "--epochs"]  # whose loss is scaled
    train_until(2, [*run, "2"])
    with pytest.raises(UserError, match="has 2 epochs and --epochs is 1; give at least as many"):
        train_dnn.main([*run, "1", "--resume"])
    train_dnn.main([*run, "4", "--resume"])
    train_dnn.main([*run, "4", "--name", "whole"])
    assert_same_weights("models/dnn.h5", "models/whole.h5")
    cosine = [*DNN, "--schedule", "cosine", "--name", "cosine"]
    train_until(1, [*cosine, "--epochs", "2"])
    with pytest.raises(UserError, match="epochs was 2 and is 3"):
        train_dnn.main([*cosine, "--epochs", "3", "--resume"])


def test_resume_refuses_other_options_and_nothing_to_resume(workspace, earlier):
    with pytest.raises(UserError, match="nothing to resume"):
        train_dnn.main([*STOPPED, "--resume"])
    shutil.copy(earlier / "dnn.checkpoint.npz", "models")
    with pytest.raises(UserError, match=r"made with other options: dropout was None and is 0\.3"):
        train_dnn.main([*STOPPED, "--dropout", "0.3", "--resume"])


def without_best(arrays):
    about = json.loads(str(arrays["about"]))
    del about["best"]
    return arrays | {"about": json.dumps(about)}


SPOILED = {  # what is made of a checkpoint's arrays: what is said of it
    lambda arrays: {key: value for key, value in arrays.items() if key != "state/3"}: "is damaged",
    lambda arrays: arrays | {"state/0": arrays["state/0"][:1]}: "is damaged",
    lambda arrays: {key: value * np.nan if value.dtype.kind == "f" else value
                    for key, value in arrays.items()}: "not finite",
    lambda arrays: arrays | {"best/0": np.full_like(arrays["best/0"], np.inf)}: "not finite",
    without_best: "is damaged",
    None: "is damaged",  # the file is cut
}


def test_a_damaged_checkpoint_is_one_line(workspace, earlier):
    options, _ = train_dnn.parse_options(STOPPED)
    run = Run(options, lambda: networks.build_dnn(options, 0))
    key = callbacks.run_key(options, run.policy, run.faces, run.validation)
    with np.load(earlier / "dnn.checkpoint.npz") as file:
        arrays = dict(file)
    for spoil, message in SPOILED.items():
        path = workspace / "models" / "spoiled.npz"
        if spoil:
            np.savez(path, **spoil(arrays))
        else:
            path.write_bytes((earlier / "dnn.checkpoint.npz").read_bytes()[:5000])
        with pytest.raises(UserError, match=message) as caught:
            callbacks.Checkpoint(path, run.evaluation, key).restore(run.model)
        assert len(str(caught.value).splitlines()) == 1 and not run.evaluation.history
    assert callbacks.Checkpoint(earlier / "dnn.checkpoint.npz", run.evaluation, key).restore(run.model) == 1


# ---- runs that diverge -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "options"), [
    ("float32", ["--optimizer", "sgd", "--learning-rate", "1e30", "--epochs", "3"]),
    ("mixed_bfloat16", ["--optimizer", "sgd", "--learning-rate", "1e30", "--epochs", "3"]),
    # After the last loss
    ("float32", ["--optimizer", "sgd", "--learning-rate", "1e38", "--epochs", "1", "--batch-size", "144"]),
])
def test_a_run_that_diverges_stops_and_keeps_the_model_of_before(workspace, options, precision):
    good = workspace / "models" / "dnn.h5"
    good.write_text("the good one")
    with pytest.raises(UserError, match=r"lower --learning-rate .*no epoch was finished$"):
        train_dnn.main([*DNN, "--precision", precision, *options])
    assert good.read_text() == "the good one" and [*good.parent.glob("*.h5")] == [good]


def test_weights_that_are_not_finite_after_a_finite_loss_leave_the_last_good_ones(workspace, monkeypatch):
    end, kept = callbacks.EvaluateAverages.on_epoch_end, []

    def spoil(self, epoch, logs=None):
        if epoch == 1:
            kept.extend(self.best["weights"])
            kernel = self.network.trainable_weights[0]
            kernel.assign(np.full(kernel.shape, np.inf))
        return end(self, epoch, logs)

    monkeypatch.setattr(callbacks.EvaluateAverages, "on_epoch_end", spoil)
    with pytest.raises(UserError, match=r"in epoch 2 the weights became infinite or NaN .* "
                                        r"the weights of epoch 1 are in .*last_good\.h5"):
        train_dnn.main([*DNN, "--epochs", "3"])
    for good, best in zip(models.load("models/dnn_last_good.h5").get_weights(), kept, strict=True):
        np.testing.assert_array_equal(good, best)
    assert not (workspace / "models" / "dnn.h5").exists()
    with np.load("models/dnn.checkpoint.npz") as file:
        assert len(json.loads(str(file["about"]))["history"]) == 1


# ---- options -----------------------------------------------------------------------------------------------


COMBINATIONS = [  # together they give every option of train_cnn.py a value; see the test below
    "--optimizer adam --learning-rate 0.001 --l2 0.001 --dropconnect 0.3 --extra-conv 1 --dropout "
    "0.1 --oversample --limit 24 --seed 3 --validation 0.3 --reduce-lr 2",
    "--optimizer sgd --class-weights --early-stopping 3 --tensorboard logs --limit 24 --validation 0.3",
    "--network compact --optimizer muon --mix-until 0.5 --schedule cosine --warmup 0.3 --weight-decay 0.01 "
    "--ema 0.5 --augment --rotation 5 --scale 0.1 --shift 2 --light 0.1 --erase 0.5 --mix 1 "
    "--label-smoothing 0.1 --keep last --half",
    "--mix 1 --mix-until 0.5 --distill teacher.h5 --distill-weight 0.5 --temperature 3 --start-from "
    "teacher.h5 --validation labelled.csv --validation-labels labels.csv",
]
COMBINATIONS = [options.split() for options in COMBINATIONS]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: options[0])
def test_every_training_option_runs_two_steps_in_both_precisions(workspace, options, precision):
    models.save(structure.flat_copy(networks.report_cnn(), dtype="float32"), "teacher.h5")
    images, labels = sample_faces(8)
    write_csv("labelled.csv", images, id=range(8))
    pd.DataFrame({"id": range(8), "label": labels}).to_csv("labels.csv", index=False)
    run = ["--data", "sample", "--limit", "16", "--batch-size", "8", "--epochs", "1", "--network", "report",
           "--precision", precision, "--name", "tried", *options]
    card = train_cnn.main(run)
    assert card["precision"] == precision and card["name"] == "tried"
    saved = models.load("models/tried.h5")
    assert saved.count_params() == card["parameters"]
    assert {layer.compute_dtype for layer in saved.layers[1:]} == {"float32"}  # the first is the input


@pytest.mark.parametrize("argv", [*COMBINATIONS, ["--data", "./sample", "--no-oversample", "--resume"],
                                  ["--network", "compact", "--no-augment", "--dropout", "0"]])
def test_the_arguments_of_options_give_these_options(workspace, argv):
    for name in ("labelled.csv", "labels.csv", "teacher.h5", "sample"):
        Path(name).touch()
    options = train_cnn.parse_options([*argv, "--name", "n"])
    assert options == train_cnn.parse_options([*options.arguments(recipes.CNNS), "--name", "n"])
    assert json.loads(json.dumps(options.as_json())) == options.as_json()


JAX_RUNS = """
import sys
import keras, numpy as np
import train_cnn, train_dnn
from training import figures, networks, recipes

def draw(self, shape, dtype=None):
    return np.random.default_rng(0).normal(0, 0.05, shape).astype(dtype)

for kind in (keras.initializers.VarianceScaling, keras.initializers.RandomNormal):
    kind.__call__ = draw  # JAX compiles a function for each shape
figures.draw_architecture = lambda model, path: path
networks.DENSE_UNITS = 32
run = ["--data", "sample", "--limit", "8", "--batch-size", "4", "--epochs", "1", "--validation", "0"]
cards = [train_cnn.main([*run, "--network", n, "--name", n, "--mix", "0.5"]) for n in recipes.CNNS]
cards.append(train_dnn.main([*run, "--name", "dnn"]))
assert all(card["versions"]["backend"] == "jax" and "tensorflow" not in card["versions"] for card in cards)
assert "tensorflow" not in sys.modules
"""


FEW_STEPS = """
import hashlib, json, sys
import keras, numpy as np
from training import networks
from training.batches import Batches
from training.model import TrainingModel
from training.recipes import Recipe
from utils.sample import sample_faces
images, labels = sample_faces(96)
keras.config.set_dtype_policy("float32")
networks.DENSE_UNITS = 32
network = networks.report_dnn(dropout=0.0)
rng = np.random.default_rng(0)
network.set_weights([rng.normal(0, (2 / max(np.prod(w.shape[:-1]), 1)) ** 0.5, w.shape) * (len(w.shape) > 1)
                     for w in network.get_weights()])
batches = Batches(images, labels, Recipe(batch_size=32, augment=True, mix=0.5), seed=3)
model = TrainingModel(network)
model.compile(keras.optimizers.SGD(1e-2), keras.losses.CategoricalCrossentropy(from_logits=True))
losses, digest = [], hashlib.sha256()
for epoch in range(2):
    batches.start_epoch(epoch)
    for step in range(len(batches)):
        x, y = batches[step]
        for array in (*(x[key] for key in sorted(x)), y):
            digest.update(np.ascontiguousarray(array).tobytes())
        losses.append(float(model.train_on_batch(x, y)))
    tensors = {key: keras.ops.convert_to_tensor(value) for key, value in x.items()}
    view = keras.ops.convert_to_numpy(model.augmented(tensors))
print(json.dumps({"backend": keras.backend.backend(), "draws": digest.hexdigest(), "losses": losses,
                  "view": view[0].ravel()[:500].tolist()}))
"""


def test_every_network_trains_on_jax_without_tensorflow_and_sees_the_same_batches(suite, capsys):
    pytest.importorskip("jax")
    (suite.folder / "jax_runs.py").write_text(JAX_RUNS + FEW_STEPS)
    output, _ = suite.run("jax_runs.py", env=JAX | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": "--xla_backend_optimization_level=1"})
    exec(FEW_STEPS, {})
    b, a = (json.loads(text.splitlines()[-1]) for text in (output, capsys.readouterr().out))
    assert (a["backend"], b["backend"]) == ("tensorflow", "jax")
    assert a["draws"] == b["draws"]
    np.testing.assert_allclose(a["view"], b["view"], atol=0.02)  # of 255
    np.testing.assert_allclose(a["losses"], b["losses"], rtol=5e-3)
    assert a["losses"][0] != a["losses"][-1]

    with sandbox(suite.folder):  # TensorFlow reads what JAX wrote
        train_dnn.main([*DNN, "--epochs", "1", "--cnn", "models/compact.h5"])
    assert "CNN minus DNN" in capsys.readouterr().out


@pytest.mark.parametrize("card", [None, {"name": "of another project"}])
def test_a_cnn_without_our_card_is_not_compared_with(tmp_path, card):
    path = tmp_path / "cnn.h5"
    path.with_name("cnn_history.csv").write_text("epoch\n1\n")
    if card:
        path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="lacks the model card or the"):
        train_dnn.read_cnn(path)


def test_the_combinations_give_every_option_a_value():
    options = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(recipes.TrainingOptions)}
    elsewhere = {"--data", "--limit", "--batch-size", "--epochs", "--network", "--precision", "--name"}
    elsewhere |= {"--resume", "--out-folder", "--labels-from"}  # the last in test_votes.py
    assert options <= elsewhere.union(*COMBINATIONS)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_transform_parameters_reach_the_augmentation_unrounded(policy):
    keras.config.set_dtype_policy(policy)
    model = TrainingModel(networks.report_dnn())
    seen = {}
    faces, labels = sample_faces(4)
    x, _ = Batches(faces, labels, Recipe(batch_size=4, augment=True, mix=1.0), 0)[0]
    for part in ("transforms", "mixing"):  # one works without the other
        assert (np.asarray(model.augmented({"image": x["image"], part: x[part]})) != x["image"]).any()
    model.augmented = lambda x: seen.update(x) or keras.ops.cast(x["image"], "float32")
    model(x)
    for name in ("transforms", "mixing"):
        np.testing.assert_array_equal(np.asarray(seen[name]), x[name])


@pytest.mark.parametrize(("options", "expected"), [
    (["--erase", "0.5"], "--erase has no effect without --augment"),
    (["--temperature", "3"], "--temperature has no effect without --distill"),
    (["--warmup", "0.1"], "--warmup has no effect with --schedule constant"),
    (["--network", "compact", "--l2", "0.1"], "belong to --network report"),
    (["--validation-labels", "labels.csv"], "without a file of faces for --validation; 0.1 is none"),
    (["--mix-until", "0.5"], "--mix-until has no effect without --mix"),
    (["--validation", "0.0", "--early-stopping", "2"], "need validation faces, and there are none"),
    (["--tensorboard", "labels.csv"], "cannot write labels.csv/train: Not a directory"),
    (["--name", "fer2013-mine"], "must .* not begin with fer2013-, as the released models do"),
    (["--name", "a/b"], "--name 'a/b' must be a plain file name"),
    *((["--name", name], f"--name {name} is what another script calls its results") for name in RESERVED),
])
def test_options_without_effect_and_taken_names_are_refused(workspace, options, expected):
    Path("labels.csv").touch()
    with pytest.raises(UserError, match=expected):
        train_cnn.main([*TINY, *options])


def test_a_second_cycle_starts_from_the_weights_it_is_given(workspace, earlier):
    train_cnn.main([*COMPACT, "--epochs", "1", "--name", "second", "--learning-rate", "1e-9", "--start-from",
                    # Its own teacher: layers of the same names
                    str(earlier / "whole.h5"), "--distill", str(earlier / "whole.h5")])
    first, second = (keras.models.load_model(path, compile=False)
                     for path in (earlier / "whole.h5", "models/second.h5"))
    for before, after in zip(first.trainable_weights, second.trainable_weights, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    with pytest.raises(UserError, match="is another network than report_dnn"):
        train_dnn.main([*DNN, "--start-from", "models/second.h5"])


def test_a_better_model_is_kept_and_not_lost_by_two_tries_in_a_row(workspace):
    def write(name, rows, accuracy):
        """The files of a run as if it ended now; returns what is left under the name of the one before."""
        run, previous = RunFiles(name), RunFiles(f"{name}.previous")
        card = {"split": {"training_rows": rows}, "metrics": {"validation_accuracy": accuracy}}
        keep_better(run, card)
        run.card.write_text(json.dumps(card))
        for path in (run.model, run.history):
            path.write_text(f"{rows} {accuracy}")
        kept = [path.read_text() for path in (previous.model, previous.history) if path.exists()]
        return kept and models.read_card(previous.model)["metrics"]["validation_accuracy"], *kept

    assert write("cnn", 900, 0.5) == ([],)
    assert write("cnn", 900, 0.6) == ([],)  # more accurate
    assert write("cnn", 40, 0.9) == (0.6, "900 0.6", "900 0.6")  # of fewer faces
    assert write("cnn", 30, 0.2) == (0.6, "900 0.6", "900 0.6")
    assert write("cnn", 900, 0.7) == (0.6, "900 0.6", "900 0.6")
    assert write("cnn", 900, 0.1) == (0.7, "900 0.7", "900 0.7")


def test_a_saved_model_has_layers_of_keras_only_and_takes_whole_numbers(earlier):
    whole = earlier / "whole.h5"
    with h5py.File(whole) as file:
        modules = re.findall(r'"module": "([^".]+)', file.attrs["model_config"])
    assert len(modules) > 5 and set(modules) == {"keras"}  # plain Keras loads it
    network = keras.models.load_model(whole)
    probabilities = network.predict(np.full((3, 48, 48, 1), 200, "uint8"), verbose=0)
    assert probabilities.shape == (3, 7) and probabilities.dtype == "float32"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


# ---- mathematics -------------------------------------------------------------------------------------------


def compiled(network, optimizer, **options):
    model = TrainingModel(network, **options)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def test_distillation_loss_by_hand():
    keras.utils.set_random_seed(0)
    student, *teachers = [networks.report_dnn() for _ in range(3)]
    model = compiled(student, "sgd", teachers=teachers, weight=0.7, temperature=2.0)
    faces, labels = sample_faces(7)
    x, y = {"image": faces[..., None]}, np.eye(7, dtype=np.float32)[labels]
    logits = np.asarray(model(x, training=False))
    hard = -(y * log_softmax(logits, axis=1)).sum(1).mean()
    for step, teacher in enumerate([*teachers, teachers[0]]):  # one teacher a step, in turn
        model.optimizer.iterations.assign(step)
        ours = float(model.compute_loss(x, y, keras.ops.convert_to_tensor(logits), None))
        target = softmax(np.log(np.asarray(teacher(faces[..., None].astype(np.float32)))) / 2, axis=1)
        soft = (target * (np.log(target) - log_softmax(logits / 2, axis=1))).sum(1).mean()
        assert ours == pytest.approx(0.3 * hard + 0.7 * 4 * soft, rel=1e-4)


@pytest.mark.parametrize(("recipe", "rates"), [
    (Recipe(learning_rate=0.01), [0.01] * 4),
    (dataclasses.replace(recipes.CNNS["compact"], learning_rate=0.1, warmup=0.5, weight_decay=0.01, ema=0.9),
     [0, 0.05, 0.1, 0.05])])
def test_the_compiled_update_follows_the_formulas_of_adam_and_nesterov(recipe, rates):
    rng = np.random.default_rng(0)
    weights = {"kernel": rng.normal(size=(3, 5)), "bias": rng.normal(size=5)}
    variables = [keras.Variable(value, name=name, dtype="float32") for name, value in weights.items()]
    optimizer = make_optimizer(recipe, steps=4)
    optimizer.build(variables)
    first, second, averages = ({name: 0 * value for name, value in weights.items()} for _ in range(3))
    for step, rate in enumerate(rates, start=1):
        gradients = {name: rng.normal(size=value.shape) for name, value in weights.items()}
        optimizer.apply_gradients(
            [(keras.ops.cast(gradients[variable.name], "float32"), variable) for variable in variables])
        for name, g in gradients.items():
            if recipe.optimizer == "adam":  # Kingma & Ba 2015, section 2, its last paragraph
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                size = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                weights[name] = weights[name] - size * first[name] / (np.sqrt(second[name]) + 1e-7)
            else:  # Sutskever et al. 2013; decay of kernels only
                decayed = weights[name] * (1 - rate * (0.01 if name == "kernel" else 0))
                first[name] = 0.9 * first[name] - rate * g
                weights[name] = decayed + 0.9 * first[name] - rate * g
            averages[name] = weights[name] if step == 1 else 0.9 * averages[name] + 0.1 * weights[name]
    expected = averages if recipe.ema else weights
    for ours, name in zip(averaged_weights(SimpleNamespace(weights=variables), optimizer), weights):
        np.testing.assert_allclose(ours, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (7, 0.5), (2, 0.0)])
def test_the_cosine_schedule_rises_to_its_peak_and_ends_at_zero(steps, warmup):
    recipe = dataclasses.replace(recipes.CNNS["compact"], warmup=warmup, learning_rate=0.2)
    schedule = make_optimizer(recipe, steps)._learning_rate
    rates = np.array([float(schedule(step)) for step in range(steps + 1)])
    peak = max(round(warmup * steps), 1)
    assert rates.max() == pytest.approx(0.2, rel=1e-5) and rates.argmax() == peak
    assert (np.diff(rates[:peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 1e-7).all()
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_batch_norm_statistics_are_those_of_the_training_batches_unmixed():
    keras.utils.set_random_seed(0)
    faces, labels = sample_faces(96)
    network = structure.flat_copy(networks.compact_cnn(), dtype="float32")
    batches = Batches(faces, labels, Recipe(batch_size=32, mix=1), 0)
    recompute_batch_norm(network, batches, TrainingModel(network))
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
    before = keras.Model(network.inputs[0], first.input)
    maps = [np.asarray(before(batches[i][0]["image"].astype(np.float32))) for i in range(3)]
    mean, variance = (np.mean([getattr(m, f)((0, 1, 2)) for m in maps], 0) for f in ("mean", "var"))
    np.testing.assert_allclose(first.moving_mean, mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first.moving_variance, variance, rtol=1e-3)
    assert first.momentum == 0.9


def test_oversampling_evens_out_the_classes_and_touches_training_faces_only():
    faces = data.Faces(*sample_faces(700))
    train, validation = (faces.take(rows) for rows in data.split(faces, 0.1, 0))
    batches = Batches(train.images, train.labels, Recipe(), 0, rows_to_copy(train.labels, seed=0))
    counts = batches.labels.sum(axis=0)
    assert (counts == np.bincount(train.labels).max()).all()
    np.testing.assert_array_equal(batches.images[:len(train), ..., 0], train.images)
    first = batches.images[len(train):].copy()
    originals = {image.tobytes() for image in validation.images}
    assert not any(image.tobytes() in originals for image in first)
    batches.start_epoch(1)
    assert (batches.images[len(train):] != first).any(axis=(1, 2, 3)).mean() > 0.99  # new ones in each epoch
    batches.start_epoch(0)
    np.testing.assert_array_equal(batches.images[len(train):], first)  # the same in a resumed run


def test_batches_visit_every_face_once_an_epoch_in_an_order_of_their_own_in_which_fit_gets_them():
    faces, labels = sample_faces(64)
    batches = Batches(faces, labels, Recipe(batch_size=16, augment=True, mix=0.5), 0)
    orders, dataset = [], batches.for_fit()
    assert dataset.options().autotune.enabled is False  # or an epoch ends up to a minute late
    for epoch in (0, 1, 0):
        batches.start_epoch(epoch)
        assert np.shares_memory(batches.images, faces)  # copied never
        given = list(dataset.as_numpy_iterator())
        for (x, y), (expected_x, expected_y) in zip(given, batches, strict=True):
            np.testing.assert_array_equal(y, expected_y)
            for name in expected_x:
                np.testing.assert_array_equal(x[name], expected_x[name])
        orders.append(np.concatenate([x["image"] for x, _ in given]))
    assert {image.tobytes() for image in orders[0]} == {image.tobytes() for image in faces[..., None]}
    np.testing.assert_array_equal(orders[0], orders[2])
    assert (orders[0] != orders[1]).any()
    assert (given[0][0]["transforms"] != given[1][0]["transforms"]).any()


def newton_schulz(matrix):
    """The step of Muon as its authors write it, on the whole matrix, in float64."""
    x = matrix / np.linalg.norm(matrix)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("shape", [(72, 16), (18, 40), (16, 16)])
def test_the_step_of_muon_is_nearly_orthogonal(shape):
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=shape) * np.geomspace(1, 0.1, shape[1])).astype("float32")
    step = keras.ops.convert_to_numpy(muon.orthogonal(keras.ops.convert_to_tensor(matrix)))
    np.testing.assert_allclose(step, newton_schulz(matrix.astype(float)), atol=1e-4)
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    assert np.sum(step * (u @ v)) / np.linalg.norm(step) / np.sqrt(min(shape)) > 0.97


def test_muon_against_numpy_and_sgd():
    """Three steps: convolutions as Muon's authors have it; what has one input channel or is no convolution as
    Keras' SGD."""
    rng = np.random.default_rng(1)
    shapes = [(3, 3, 4, 8), (3, 3, 1, 8), (12, 7), (7,)]
    start = [rng.normal(size=shape).astype("float32") for shape in shapes]
    ours, sgd = ([keras.Variable(array) for array in start] for _ in range(2))
    optimizer = make_optimizer(Recipe(optimizer="muon", learning_rate=0.05), 3)
    reference = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    optimizer.build(ours)
    kernel, momentum = start[0].reshape(36, 8).astype(float), np.zeros((36, 8))
    for _ in range(3):
        gradients = [rng.normal(size=shape).astype("float32") for shape in shapes]
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], ours)
        reference.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], sgd)
        gradient = gradients[0].reshape(36, 8)
        momentum = 0.9 * momentum + gradient
        kernel -= 0.3 * 0.05 * np.sqrt(36 / 8) * newton_schulz(gradient + 0.9 * momentum)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours[0]).reshape(36, 8), kernel, atol=1e-5)
    for one, other in zip(ours[1:], sgd[1:]):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (one, other)), atol=1e-6)
