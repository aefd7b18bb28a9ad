"""Question 1, continued: do the options that the homework would try next improve the CNN?

    python sweep.py --trials 40                               L2, dropout, DropConnect, batch size and so on
    python sweep.py --network compact                         learning rate, weight decay, mixing and so on
    python sweep.py --data data/train.csv.gz --limit 4000 --epochs 4   every other option is train_cnn.py's

Each trial trains the network with other values of some options (SPACES, below); its validation accuracy
counts. One in the lower half after a quarter or half of its epochs is stopped there. The same command again,
also at the same time in another process, continues the search (on other machines with --storage); a trial
whose process was killed is run again after a minute. Needs requirements-sweep.txt. 40 trials of 8 epochs on
3,000 faces took two processes on two cores 89 minutes, and showed no option to help (models/README.md).

Writes models/NAME.csv (one row per trial), models/NAME.json (the best trial and its command), models/NAME.db
(Optuna's trials) and figures/NAME_history.png, NAME_importance.png and NAME_parallel.png.
"""

import argparse
import dataclasses
import shlex
import warnings
from unittest import mock

from training import recipes
from utils import cli, files
from utils.cli import UserError

# Options of train_cnn.py and their values: a list to choose from, the network's own value first, or (lowest,
# highest) on a logarithmic scale.
SPACES = {
    "report": {  # what the homework would try next
        "batch_size": [80, 40, 160, 320],
        "extra_conv": [0, 1, 2],
        "dropout": [None, 0.0, 0.1, 0.3, 0.5],
        "dropconnect": [0.0, 0.3, 0.5],
        "l2": [0.0, 1e-5, 1e-4, 1e-3],
        "oversample": [False, True],
        "augment": [False, True],
    },
    "compact": {
        "learning_rate": (0.02, 0.4),
        "weight_decay": (5e-4, 2e-2),
        "warmup": [0.1, 0.05, 0.2],
        "label_smoothing": [0.1, 0.0, 0.05, 0.2],
        "ema": [0.998, 0.0, 0.99],
        "erase": [0.25, 0.0, 0.5],
        "mix": [0.0, 0.25, 0.5],
        "dropout": [None, 0.0, 0.2, 0.4],
    },
}


def main(argv=None):
    """Search, and return what is written as JSON (dict); None where no trial has finished yet."""
    args, options = parse_args(argv)
    table_path, summary_path, database, *figure_paths = outputs = output_paths(args)
    files.check_outputs(outputs)
    study = open_study(args, options, database)
    cli.start_keras()
    import optuna

    # ---- Trials: those of all processes together
    counted = ("COMPLETE", "PRUNED", "RUNNING")
    try:
        while sum(trial.state.name in counted for trial in study.trials) < args.trials:
            seed = options.seed + len(study.trials)  # processes that search together draw different values
            study.sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
            study.optimize(lambda trial: run_trial(trial, options), n_trials=1)
        finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        best = changed_options(options, study.best_params) if finished else None
        confirmed = confirm(study, options, best, args.confirm) if finished and args.confirm else None
    except KeyboardInterrupt as stop:
        stop.add_note("the same command continues the search and repeats this trial")
        raise

    # ---- Results
    table = study.trials_dataframe(("number", "state", "value", "duration", "params"))
    table.columns = [name.removeprefix("params_") for name in table]
    files.write_table(table_path, table.rename(columns={"number": "trial", "value": "accuracy"}))
    states = table["state"].str.lower().value_counts().drop("fail", errors="ignore")  # run again
    outcome = [f"{states.sum()} trials: " + ", ".join(f"{n} {state}" for state, n in states.items())]
    print(outcome[0])
    if not finished:
        cli.print_written([table_path])
        return None
    command = train_command(best, args.name)
    outcome.append(f"Best: trial {study.best_trial.number}, {100 * study.best_value:.2f} %")
    print(f"{outcome[1]}: {command}")
    if confirmed:
        mean, low, high = (100 * value for value in confirmed["difference"])
        outcome.append(f"Best trial against the network's own values, {args.confirm} other seeds: "
                       f"{mean:+z.2f} points, 95 % interval [{low:+z.2f}, {high:+z.2f}]")
        print(outcome[2])
    summary = {"name": args.name, "command": command, "validation_accuracy": study.best_value,
               "search": f"python sweep.py --name {args.name} --trials {args.trials}"
                         f"{f' --confirm {args.confirm}' * bool(args.confirm)} {study.user_attrs['search']}",
               "trials": int(states.sum()), "finished": len(finished), "confirmed": confirmed}
    files.write_json(summary_path, summary)
    cli.print_written([table_path, summary_path, *draw(study, outcome, figure_paths)])
    return summary


def parse_args(argv):
    """The sweep's own options, and the TrainingOptions that are the same in every trial."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--trials", type=cli.number(int, 1), default=40,
                        help="how many trials, those of all processes together")
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True,
                        help="stop the trials of the lower half early")
    parser.add_argument("--confirm", type=cli.number(int, 2), metavar="SEEDS", default=0,
                        help="then train the best trial and the network's own values with so many other "
                             "seeds, because the best of many trials is partly luck")
    parser.add_argument("--storage", metavar="URL",
                        help="database of the trials, e.g. postgresql+psycopg://user@host/name (default: the "
                             "file models/NAME.db)")
    recipes.add_arguments(parser, recipes.CNNS, name="sweep")
    args = parser.parse_args(argv)
    options = recipes.training_options(args, recipes.CNNS)
    if options.network not in SPACES:
        raise UserError(f"there are no values to try for --network {options.network}")
    for option in (*SPACES[options.network], "resume"):
        if getattr(args, option, None) not in (None, parser.get_default(option)):
            raise UserError(f"--{option.replace('_', '-')} is what each trial decides; leave it out")
    if ((args.out_folder or files.MODELS) / f"{args.name}.h5").exists():
        raise UserError(f"--name {args.name} is the name of a model; choose another for the search")
    return args, dataclasses.replace(options, name=f"{args.name}-trial")


def output_paths(args):
    """Table, best trial, trials, and the figures history, importance and parallel coordinates."""
    places = [(files.MODELS, (".csv", ".json", ".db")),
              (files.FIGURES, ("_history.png", "_importance.png", "_parallel.png"))]
    return [(args.out_folder or usual) / f"{args.name}{ending}" for usual, endings in places
            for ending in endings]


def train_command(options, name):
    """The command that trains with these options."""
    return shlex.join(["python", "train_cnn.py", *options.arguments(recipes.CNNS), "--name", f"{name}-best"])


def open_study(args, options, database):
    """Optuna's study of this name: a new one, or the one that other processes have begun."""
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise UserError("sweep.py needs Optuna: python -m pip install -r requirements-sweep.txt") from error

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    # Steps are epochs: halve the trials after a quarter and after half of them
    pruner = optuna.pruners.SuccessiveHalvingPruner(max(options.epochs // 4, 1), reduction_factor=2)
    try:
        with files.locked(database.with_suffix(".lock"), f"another process opens {database}", timeout=60):
            study = optuna.create_study(
                storage=optuna.storages.RDBStorage(  # a killed process is known by its missing heartbeat
                    args.storage or f"sqlite:///{database}", heartbeat_interval=10, grace_period=60,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback()),
                study_name=args.name, direction="maximize", load_if_exists=True,
                pruner=pruner if args.prune else optuna.pruners.NopPruner())
            search = shlex.join(options.arguments(recipes.CNNS))
            begun = study.user_attrs.get("search")
            if begun is None:
                study.set_user_attr("search", search)
                study.enqueue_trial({  # the network's own values first, to compare with
                    option: choices[0] for option, choices in SPACES[options.network].items()
                    if isinstance(choices, list)})
            elif begun != search:
                raise UserError(f"the search {args.name} was begun with other options: {begun}; give the "
                                "same or choose another --name")
    except (OSError, ImportError, ValueError, KeyError, SQLAlchemyError) as error:
        where = args.storage or files.relative_path(database)
        raise UserError(f"cannot use {where} as storage: {str(error).splitlines()[0]}") from error
    return study


def run_trial(trial, options):
    """Train with the values that `trial` suggests; returns the validation accuracy, 0-1."""
    import optuna

    from training.callbacks import DivergedError

    space = SPACES[options.network]
    tried = changed_options(options, {option: suggest(trial, option, space[option]) for option in space})
    values = {option: getattr(tried, option) for option in space}
    changed = ", ".join(f"{option} {value}" for option, value in values.items() if value != space[option][0])
    outcome = "failed"
    try:
        complete = trial.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        accuracy = next((other.value for other in complete if other.params == trial.params), None)
        if accuracy is None:  # else it repeats a trial, as the sampler likes to do with the best
            accuracy = train(tried, trial)
        outcome = f"{100 * accuracy:.2f} %"
        return accuracy
    except optuna.TrialPruned:
        outcome = "stopped early"
        raise
    except DivergedError as error:
        outcome = "diverged"
        raise optuna.TrialPruned from error
    finally:
        print(f"trial {trial.number:3d}: {outcome:>13}   {changed}", flush=True)


def suggest(trial, option, choices):
    """The trial's value of `option`."""
    if isinstance(choices, tuple):
        return trial.suggest_float(option, *choices, log=True)
    return trial.suggest_categorical(option, choices)


def changed_options(options, values):
    """`options` with these values, floats with three digits; None leaves the network's own."""
    return dataclasses.replace(options, **{option: float(f"{value:.3g}") if type(value) is float else value
                                           for option, value in values.items() if value is not None})


def train(options, trial=None):
    """The validation accuracy, 0-1, of a network trained with `options`; `trial` may stop it early."""
    import keras
    import optuna

    from training import networks
    from training.run import Run

    run = Run(options, lambda: networks.build_cnn(options))
    if not len(run.validation):
        raise UserError("a search needs faces to validate on; give --validation a share above 0")

    def after_epoch(epoch, logs):
        trial.report(run.evaluation.history[-1]["val_accuracy"], step=epoch + 1)
        if epoch + 1 < options.epochs and trial.should_prune():  # after the last nothing is left to save
            raise optuna.TrialPruned

    try:
        run.fit([keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)] if trial else [])
    finally:
        keras.utils.clear_session()
    return run.evaluation.best["val_accuracy"]


def confirm(study, options, best, seeds):
    """Train the network's own values and the best trial's with so many other seeds: a dict of accuracies (0
    where a run diverged) and of their mean difference with its interval. The study remembers them."""
    from training.callbacks import DivergedError
    from utils.metrics import interval_of_mean

    def accuracy(tried, seed):
        try:
            return train(dataclasses.replace(tried, seed=seed))
        except DivergedError:
            return 0.0

    pairs = []
    for number in range(1, seeds + 1):
        seed = (options.seed + number) % (cli.LARGEST_INT + 1)
        key = f"seed {seed}: {train_command(best, '')}"
        if key not in study.user_attrs:
            study.set_user_attr(key, [accuracy(tried, seed) for tried in (options, best)])
        pairs.append(study.user_attrs[key])
        print("seed {}: {:.2f} % with the network's own values, {:.2f} % with the best".format(
            seed, *(100 * share for share in pairs[-1])), flush=True)
    own, accuracies = zip(*pairs)
    return {"seeds": seeds, "own": own, "best": accuracies,
            "difference": interval_of_mean([after - before for before, after in pairs])}


def draw(study, outcome, paths):
    """Draw Optuna's figures: all trials in order, and, where accuracies differ, the options' importance and
    every trial's values, with the printed outcome (sentences) below; returns the paths that were written."""
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as drawing

    from utils.figures import WIDTH, add_conclusion, plt, save_figure

    accuracy, text = "validation accuracy", ". ".join(outcome).replace("-", "\N{MINUS SIGN}") + "."
    accuracies = [trial.value for trial in study.trials if trial.state.name == "COMPLETE"]
    titles = (f"{accuracy} of the trials that were trained to the end",
              "how much the accuracy varies with each option",
              "values and accuracy of each trial that was trained to the end")
    with mock.patch.dict(plt.style.library, ggplot={}):  # which Optuna would take in place of our style
        axes = [drawing.plot_optimization_history(study, target_name=accuracy)]
        axes[0].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if len(accuracies) >= 4 and len(set(accuracies)) > 1:
            axes.append(drawing.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
            axes[1].get_legend().remove()
            axes[1].set(ylabel="", xlabel="share of the variance of the accuracy (fANOVA)")
            with plt.rc_context({"axes.spines.right": True}):  # the axes of the options
                axes.append(drawing.plot_parallel_coordinate(study, target_name=accuracy))
            axes[2].collections[0].set_cmap("viridis_r")  # Optuna's palest is white
            plt.setp(axes[2].get_xticklabels(), ha="left", rotation_mode="anchor")
    for ax, title, path in zip(axes, titles, paths):
        ax.set_title("")
        ax.set_title(f"{study.study_name}: {title}", loc="left")
        ax.figure.set_size_inches(WIDTH, 3.6)
        ax.figure.set_layout_engine("tight")
        add_conclusion(ax.figure, text)
        save_figure(ax.figure, path)
    return paths[:len(axes)]


if __name__ == "__main__":
    cli.run(main)
