"""Question 1, continued: do the options that the report would try next improve the CNN?

    python sweep.py --trials 40                               L2, dropout, DropConnect, batch size and so on
    python sweep.py --network compact --space recipe          learning rate, weight decay, mixing and so on
    python sweep.py --data data/train.csv.gz --limit 4000 --epochs 4   every other option is train_cnn.py's

Each trial trains the network with other values of the options of the space (SPACES, below) and is judged by
its validation accuracy, or with --folds K by the accuracy on all faces, each by the network that has not seen
it. A trial that is in the lower half after a quarter or half of its epochs is stopped there. The same command
again, later or at the same time, also on other machines that share this folder or --storage, continues the
same search; a trial whose process was killed is run again. Needs requirements-sweep.txt. 40 trials of 8
epochs on 3,000 faces took two processes on two cores 89 minutes, and showed no option to help
(models/README.md).

Writes models/NAME.csv (one row a trial), models/NAME.json (the best trial: train_cnn.py --recipe repeats it),
models/NAME.journal (Optuna's log) and figures/NAME_history.png, NAME_importance.png and NAME_parallel.png.
"""

import argparse
import collections
import contextlib
import shlex
import warnings
from functools import partial

import train_cnn
from training import recipes
from utils import cli, files
from utils.cli import UserError, interruption

# Options of train_cnn.py and their values: a list to choose from, the network's own value first, or (lowest,
# highest) on a logarithmic scale.
SPACES = {
    "regularization": {  # what the report would try next
        "batch-size": [80, 40, 160, 320],
        "extra-conv": [0, 1, 2],
        "dropout": [None, 0.0, 0.1, 0.3, 0.5],
        "dropconnect": [0.0, 0.3, 0.5],
        "l2": [0.0, 1e-5, 1e-4, 1e-3],
        "oversample": [False, True],
        "augment": [False, True],
    },
    "recipe": {
        "learning-rate": (0.02, 0.4),
        "weight-decay": (5e-4, 2e-2),
        "warmup": [0.1, 0.05, 0.2],
        "label-smoothing": [0.1, 0.0, 0.05, 0.2],
        "ema": [0.998, 0.0, 0.99],
        "erase": [0.25, 0.0, 0.5],
        "mix": [0.0, 0.25, 0.5],
        "dropout": [None, 0.0, 0.2, 0.4],
    },
}


def main(argv=None):
    args, fixed = parse_args(argv)
    study = open_study(args, fixed)
    cli.start_keras()
    interruption.how_to_continue = "the same command continues the search and repeats this trial"
    while turn := next_turn(study, args):
        with turn:
            study.optimize(lambda trial: run_trial(trial, turn, args, fixed), n_trials=1)
    if args.confirm:
        confirm(study, args, fixed)
    interruption.how_to_continue = "the same command writes the results"
    written = write_results(study, args, fixed)
    print("Wrote " + ", ".join(files.relative_path(path) for path in written))


def parse_args(argv):
    """The sweep's own options, and as a list those that train_cnn.py gets in every trial."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--space", choices=tuple(SPACES),
                        help="the options that are searched (default: regularization for the report's "
                             "network, recipe for the others)")
    parser.add_argument("--trials", type=cli.number(int, 1), default=40,
                        help="how many trials, those of all processes together")
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe",
                        help="tpe: close to the best trials so far (Bergstra 2011); random: independent of "
                             "them, for comparing the options' values")
    parser.add_argument("--prune", action=argparse.BooleanOptionalAction, default=True,
                        help="stop the trials of the lower half early")
    parser.add_argument("--confirm", type=cli.number(int, 2), metavar="SEEDS", default=0,
                        help="then train the best trial and the network's own values with so many other "
                             "seeds, because the best of many trials is partly luck")
    parser.add_argument("--name", default="sweep", help="models/NAME.csv and so on")
    parser.add_argument("--storage", metavar="URL",
                        help="database of the trials, e.g. postgresql+psycopg://user@host/name "
                             "(default: the file models/NAME.journal)")
    args, fixed = parser.parse_known_args(argv)
    base = train_cnn.parse_args([*fixed, "--name", args.name])
    args.space = args.space or ("regularization" if base.network == "report" else "recipe")
    if (args.space == "regularization") != (base.network == "report"):
        raise UserError(f"--space {args.space} does not fit --network {base.network}: regularization belongs "
                        "to the report's network, recipe to the others")
    for text in filter(lambda text: text.startswith("--"), fixed):  # the others are values
        option = text.partition("=")[0].removeprefix("--").removeprefix("no-")
        if option in SPACES[args.space]:
            raise UserError(f"--{option} is what --space {args.space} searches; leave it out")
        if option in ("resume", "recipe"):
            raise UserError(f"--{option} is for a single run of train_cnn.py; leave it out")
    args.epochs, args.folds, args.seed = base.epochs, base.folds, base.seed
    files.check_outputs({path: first for path, first in zip(
        output_paths(args.name), ("trial", "", "op_code", "", "", ""))})
    return args, fixed


def output_paths(name):
    """Table, best recipe, journal, and the figures history, importance and parallel coordinates."""
    model, card, _, figure, _ = train_cnn.output_paths(name)
    return [card.with_suffix(".csv"), card, model.with_suffix(".journal"),
            *(figure.with_name(f"{name}_{kind}.png") for kind in ("history", "importance", "parallel"))]


# ---- the study, shared by all processes --------------------------------------------------------------------


def open_study(args, fixed):
    """Optuna's study of this name: a new one, or the one that other processes have begun."""
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise UserError("sweep.py needs Optuna: python -m pip install -r requirements-sweep.txt") from error
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    path = output_paths(args.name)[2]
    # Steps are epochs: halve the trials after a quarter and after half of them
    steps = args.epochs * (args.folds or 1)
    pruner = optuna.pruners.SuccessiveHalvingPruner(max(steps // 4, 1), reduction_factor=2)
    try:
        if args.storage:
            storage = optuna.storages.RDBStorage(
                args.storage, heartbeat_interval=10, grace_period=60,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback())
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            storage = optuna.storages.JournalStorage(
                JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
        study = optuna.create_study(
            storage=storage, study_name=args.name, direction="maximize", load_if_exists=True,
            pruner=pruner if args.prune else optuna.pruners.NopPruner())
    except (OSError, ImportError, ValueError, KeyError, SQLAlchemyError) as error:
        where = args.storage or files.relative_path(path)
        raise UserError(f"cannot use {where} as storage: {error}") from error
    search = shlex.join(["--space", args.space, *fixed])
    if study.user_attrs.setdefault("search", search) != search:
        raise UserError(f"the search {args.name} was begun with other options: {study.user_attrs['search']}; "
                        "give the same or choose another --name")
    study.set_user_attr("search", search)
    if not study.trials:  # the network's own values first, to compare with
        study.enqueue_trial({option: choices[0] for option, choices in SPACES[args.space].items()
                             if isinstance(choices, list)})
    return study


def next_turn(study, args):
    """The lock of the study, held until the next trial has begun; None where there are trials enough."""
    import optuna

    states = optuna.trial.TrialState
    with contextlib.ExitStack() as stack:
        lock = output_paths(args.name)[2].with_suffix(".lock")
        stack.enter_context(files.locked(lock, f"{lock} is held by another process", timeout=60))
        retry_abandoned_trials(study, args)
        trials = study.get_trials(states=(states.COMPLETE, states.PRUNED, states.RUNNING))
        if len(trials) >= args.trials:
            return None
        # The number of the trial in the seed: processes that search together draw different values
        seed = args.seed + len(study.get_trials(deepcopy=False))
        study.sampler = (optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
                         if args.sampler == "tpe" else optuna.samplers.RandomSampler(seed))
        return stack.pop_all()


def retry_abandoned_trials(study, args):
    """Fail the trials whose process is dead, and queue their values again.

    A database knows them by their missing heartbeat, a journal by their lock, which nobody holds.
    """
    import optuna

    optuna.storages.fail_stale_trials(study)
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    for trial in running if not args.storage else []:
        with contextlib.suppress(UserError), locked_trial(trial, args):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            optuna.storages.RetryHeartbeatStaleTrialCallback()(study, trial)


def locked_trial(trial, args):
    path = output_paths(args.name)[2].with_suffix(f".trial-{trial.number}.lock")
    return files.locked(path, f"trial {trial.number} is running")


# ---- one trial ---------------------------------------------------------------------------------------------


def run_trial(trial, turn, args, fixed):
    """Train with the values that `trial` suggests; returns the validation accuracy, 0-1."""
    import optuna

    def report(evaluation, epochs_before, epoch, logs):
        epochs = epochs_before + epoch + 1
        trial.report(evaluation.history[-1]["val_accuracy"], step=epochs)
        is_last = epochs == args.epochs * (args.folds or 1)  # nothing is left to save: the result counts
        if not is_last and trial.should_prune():
            raise optuna.TrialPruned

    with locked_trial(trial, args):
        values = {option: suggest(trial, option, choices) for option, choices in SPACES[args.space].items()}
        turn.close()
        if earlier := finished_trial(trial.study, trial.params):  # the sampler likes to repeat the best
            print_trial(trial, values, args, f"as trial {earlier.number}")
            return earlier.value
        try:
            accuracy = train(command_options(values, args, fixed), args, report)
        except optuna.TrialPruned:
            print_trial(trial, values, args, "stopped early")
            raise
        except UserError as error:
            if "diverged" not in str(error):
                raise
            print_trial(trial, values, args, "diverged")
            raise optuna.TrialPruned from error
        print_trial(trial, values, args, f"{100 * accuracy:.2f} %")
    return accuracy


def finished_trial(study, params):
    """The trial that was trained to its end with these values, or None."""
    import optuna

    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return next((trial for trial in finished if trial.params == params), None)


def train(options, args, report=None):
    """The validation accuracy, 0-1, of a network trained with these options of train_cnn.py (list of str).

    report: function of (evaluation, earlier epochs of the trial, epoch, logs) to call after each epoch
    """
    import keras

    right = faces = 0
    try:
        for part, epochs_before in parts(train_cnn.parse_args([*options, "--name", args.name])):
            run = train_cnn.prepare(part, train_cnn.builder(part))
            if not len(run.validation):
                raise UserError("a search needs faces to validate on; give --validation a share above 0")
            after_epoch = report and partial(report, run.evaluation, epochs_before)
            train_cnn.fit(run, part, [keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)])
            right += run.evaluation.best["val_accuracy"] * len(run.validation)
            faces += len(run.validation)
    finally:
        keras.utils.clear_session()
    return right / faces


def suggest(trial, option, choices):
    """The trial's value of `option`."""
    if isinstance(choices, tuple):
        return float(f"{trial.suggest_float(option, *choices, log=True):.3g}")
    return trial.suggest_categorical(option, choices)


def changes(values, space):
    """Those of {option: value} that are not the network's own, the first of a list in the space."""
    return {option: value for option, value in values.items()
            if isinstance(SPACES[space][option], tuple) or value != SPACES[space][option][0]}


def command_options(values, args, fixed):
    """The options of train_cnn.py, list of str, that stand for these values and the fixed options."""
    options = []
    for option, value in changes(values, args.space).items():
        options += [f"--{option}"] if value is True else [f"--{option}", f"{value:g}"]
    return [*options, *fixed]


def parts(args):
    """The runs of a trial, one or with --folds K: their arguments, and the epochs that come before."""
    if not args.folds:
        return [(args, 0)]
    return [(train_cnn.fold_args(args, fold), (fold - 1) * args.epochs) for fold in range(1, args.folds + 1)]


def print_trial(trial, values, args, outcome):
    changed = [f"{option} {value}" for option, value in changes(values, args.space).items()]
    print(f"trial {trial.number:3d}: {outcome:>13}   {', '.join(changed)}", flush=True)


def confirm(study, args, fixed):
    """Train the network's own values and the best trial's with --confirm other seeds; the study remembers
    the accuracies."""
    import optuna

    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        print("No trial is finished yet, so there is no best one to confirm")
        return
    best = best_options(study, args, fixed)
    for seed in other_seeds(args):
        key = confirmation_key(seed, best)
        if key not in study.user_attrs:
            accuracies = [train([*options, "--seed", str(seed)], args) for options in (fixed, best)]
            study.set_user_attr(key, accuracies)
        own, accuracy = (f"{100 * value:.2f} %" for value in study.user_attrs[key])
        print(f"seed {seed}: {own} with the network's own values, {accuracy} with the best", flush=True)


def other_seeds(args):
    """--confirm seeds beside --seed; after the largest comes 0."""
    return [(args.seed + i) % (cli.LARGEST_INT + 1) for i in range(1, 1 + args.confirm)]


def confirmation_key(seed, options):
    return f"seed {seed}: {' '.join(options)}"


def best_options(study, args, fixed):
    """The options of train_cnn.py, list of str, of the best trial."""
    values = {option: suggest(study.best_trial, option, choices)
              for option, choices in SPACES[args.space].items()}
    return command_options(values, args, fixed)


# ---- results -----------------------------------------------------------------------------------------------


def write_results(study, args, fixed):
    """Print the best trial and what each value was worth; write table, recipe with findings, and figures."""
    import pandas as pd

    table_path, recipe_path, journal, *figure_paths = output_paths(args.name)
    space = SPACES[args.space]
    table = pd.DataFrame([{
        "trial": trial.number, "state": trial.state.name.lower(), "accuracy": trial.value,
        "epochs": len(trial.intermediate_values),
        "seconds": round(trial.duration.total_seconds()) if trial.duration else None,
        **{option: trial.params.get(option) for option in space}} for trial in study.get_trials()])
    files.write_table(table_path, table)
    written = [table_path, *([] if args.storage else [journal])]
    finished = table[table["state"] == "complete"].drop_duplicates([*space])
    states = collections.Counter(table["state"])
    print(f"{len(table)} trials: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    if finished.empty:
        return written

    best = best_options(study, args, fixed)
    effects, confirmed = value_effects(finished, space), confirmation(study, args, best)
    command = shlex.join(["python", "train_cnn.py", *best])
    print(f"Best: trial {study.best_trial.number}, {100 * study.best_value:.2f} %: {command}")
    print_effects(effects)
    if confirmed:
        mean, low, high = (100 * value for value in confirmed["difference"])
        print(f"Best trial against the network's own values, {args.confirm} other seeds: {mean:+.2f} points, "
              f"95 % interval [{low:+.2f}, {high:+.2f}]")
    files.write_json(recipe_path, {
        "name": args.name, "command": command, "validation_accuracy": study.best_value,
        "arguments": recipes.as_json(train_cnn.parse_args([*best, "--name", args.name])),
        "search": f"python sweep.py --name {args.name} --trials {args.trials}"
                  f"{f' --confirm {args.confirm}' * bool(args.confirm)} {study.user_attrs['search']}",
        "trials": states["complete"] + states["pruned"], "finished": len(finished),
        "confirmed": confirmed, "effects": effects})
    return [*written, recipe_path, *draw(study, finished, space, figure_paths)]


def confirmation(study, args, best):
    """The accuracies of the other seeds that have been trained, and their difference with its interval; None
    where there are not two, as when another process has just found a better trial."""
    from utils.metrics import interval_of_mean

    keys = [confirmation_key(seed, best) for seed in other_seeds(args)]
    keys = [key for key in keys if key in study.user_attrs]
    if len(keys) < 2:
        return None
    own, accuracies = zip(*(study.user_attrs[key] for key in keys))
    differences = [accuracy - before for before, accuracy in zip(own, accuracies)]
    return {"seeds": len(keys), "own": own, "best": accuracies, "difference": interval_of_mean(differences)}


def value_effects(finished, space):
    """Mean accuracy of the finished trials with each value, and its difference from that with the option's
    first value, with Welch's 95 % interval: a list of {"option", "value", "trials", "accuracy" (0-1 or None),
    "difference": [value, low, high] or None where there is nothing to compare}.

    finished: DataFrame of complete trials, columns `accuracy` (0-1) and one per option. With --sampler tpe or
    pruning the trials are not a fair sample, so the differences are a hint only.
    """
    from scipy import stats

    rows = []
    for option, choices in space.items():
        if isinstance(choices, tuple):
            continue
        groups = [finished["accuracy"][finished[option].map(lambda x, choice=choice: same(x, choice))]
                  for choice in choices]
        for choice, group in zip(choices, groups):
            row = {"option": f"--{option}", "value": choice, "trials": len(group),
                   "accuracy": float(group.mean()) if len(group) else None, "difference": None}
            varies = group.nunique() > 1 or groups[0].nunique() > 1
            if group is not groups[0] and min(len(group), len(groups[0])) > 1 and varies:
                with warnings.catch_warnings(action="ignore"):  # one of them may have hardly any variance
                    low, high = stats.ttest_ind(group, groups[0], equal_var=False).confidence_interval()
                row["difference"] = [float(group.mean() - groups[0].mean()), float(low), float(high)]
            rows.append(row)
    return rows


def print_effects(effects):
    """Print what `value_effects` returns, in per cent and percentage points."""
    import pandas as pd

    from utils.metrics import percent

    cli.print_table(pd.DataFrame([{
        "option": row["option"], "value": value_text(row["value"]), "trials": row["trials"],
        "accuracy %": percent(row["accuracy"]), "difference, points": percent(row["difference"], "+.1f")}
        for row in effects]))


def value_text(value):
    return "its own" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else (
        f"{value:g}")


def same(value, choice):
    """Whether a value of the table is this choice; None is nan there once numbers stand beside it."""
    return value is None or value != value if choice is None else value == choice


def draw(study, finished, space, paths):
    """The figures: all trials in their order, the options' importance, and every trial's values.

    finished: DataFrame of complete trials in their order. Returns the paths that were written.
    """
    import numpy as np
    from optuna import importance

    from utils.figures import plt, save_figure

    percent = 100 * finished["accuracy"].to_numpy()
    figure, axes = plt.subplots(figsize=(6.5, 3))
    axes.plot(finished["trial"], percent, "o", markersize=4, label="trial")
    axes.step(finished["trial"], np.maximum.accumulate(percent), where="post", label="best so far")
    axes.set(xlabel="trial", ylabel="validation accuracy (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    written = [save_figure(figure, paths[0])]
    if len(finished) < 4 or np.ptp(percent) == 0:
        return written  # nothing to compare

    shares = importance.get_param_importances(study, evaluator=importance.FanovaImportanceEvaluator(seed=0))
    figure, axes = plt.subplots(figsize=(6.5, 3))
    bars = axes.barh(list(shares)[::-1], [100 * share for share in shares.values()][::-1])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xlabel="share of the variance of accuracy (%), fANOVA")
    written.append(save_figure(figure, paths[1]))

    rng, order = np.random.default_rng(0), np.argsort(percent)
    figure, axes = plt.subplots(figsize=(6.5, 3.6))
    space = {option: type(choices)(sorted(choices, key=lambda choice: -1 if choice is None else choice))
             for option, choices in space.items()}
    columns = [heights(finished[option], choices, rng) for option, choices in space.items()]
    lines = np.column_stack([*columns, np.interp(percent, [percent.min(), percent.max()], [0, 1])])
    colors = plt.get_cmap("viridis_r")(lines[:, -1])
    for row in order:  # the best last, in front
        axes.plot(lines[row], color=colors[row], linewidth=1, alpha=0.8)
    for x, choices in enumerate(space.values()):
        axes.axvline(x, color="#BBBBBB", linewidth=0.8, zorder=0)
        for choice, y in zip(choices, np.linspace(0, 1, len(choices))):
            text = f"{choice:g}" if isinstance(choices, tuple) else value_text(choice)
            axes.text(x, y, text, fontsize=7, ha="center", va="center",
                      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})
    axes.set_xticks(range(len(space) + 1), [*space, "accuracy"], rotation=30, ha="right")
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    for y, value in ((0, percent.min()), (1, percent.max())):
        axes.text(len(space) + 0.1, y, f"{value:.1f} %", fontsize=7, va="center")
    written.append(save_figure(figure, paths[2]))
    return written


def heights(values, choices, rng):
    """Where each trial's value stands on the axis of its option, 0-1, spread a little around a choice."""
    import numpy as np

    if isinstance(choices, tuple):
        return np.interp(np.log(values.astype(float)), np.log(choices), [0, 1])
    places = np.linspace(0, 1, len(choices))
    return np.array([places[[same(value, choice) for choice in choices].index(True)] for value in values]
                    ) + rng.uniform(-0.02, 0.02, len(values))


if __name__ == "__main__":
    cli.run(main)
