"""The original report's claims about training, each tested again over several seeds, with a verdict.

    python -m benchmarks.claims --data data/train.csv.gz --test data/test.csv.gz \\
        --test-labels data/test_public_labels.csv

Trains 11 configurations with three seeds each: 92 minutes on two cores beside other work. Each run, with
which test faces it has right, is kept in models/claims_runs.json, so that the same command continues where it
was stopped. Writes models/claims.json, which report.py shows, and the verdicts as models/claims.csv.

Intervals are of the difference in accuracy from the homework's own settings, for other seeds and other faces.
Holm's procedure sets their levels: any verdict at all is wrong with a probability of at most 5 %.
"""

import shlex
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from reporting.findings import OPEN, OPPOSITE, decide
from reporting.scripts import given, run_script
from reporting.text import ORIGINAL
from utils import cli, data, files
from utils.cli import UserError

BASELINE = "train_cnn.py"
COMMANDS = [BASELINE, *(claim["command"] for claim in ORIGINAL["claims"].values())]
MARGIN = 0.01  # a gain of so much is help; about one standard error on a validation split of 10 %
NAME = "claim-run"  # of the network that is being trained


def main(argv=None):
    """Train what is missing; returns what claims.json holds (dict)."""
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--seeds", type=cli.number(int, 1), default=3, help="seeds of each configuration")
    option("--data", type=cli.data_path, help="faces to train on (default: as train_cnn.py)")
    option("--limit", type=cli.number(int, 16), help="train on a sample of LIMIT faces")
    option("--epochs", type=cli.number(int, 1), help="epochs of each run (default: its recipe's)")
    option("--test", type=cli.data_path, metavar="FILE", required=True, help="labelled test faces")
    option("--test-labels", type=Path, metavar="ID_LABEL.csv", help="labels of a --test without")
    args = parser.parse_args(argv)
    outputs = [files.MODELS / name for name in ("claims_runs.json", "claims.json", "claims.csv")]
    files.check_outputs(outputs)
    runs_path, json_path, csv_path = outputs
    cli.start_keras()
    from reporting.page import claim_rows
    from utils import evaluation, metrics

    # ---- Training: seed by seed, so that a stopped command has whole seeds
    faces = data.training_part(data.find_data(args.data))
    test = evaluation.faces_to_evaluate([], args.test, args.test_labels)
    settings = {"data": faces.source, "fingerprint": faces.fingerprint(), "limit": args.limit,
                "epochs": args.epochs, "evaluated": test.source, "evaluated_fingerprint": test.fingerprint()}
    earlier = files.read_json(runs_path) if runs_path.exists() else settings | {"runs": []}
    if settings != {key: value for key, value in earlier.items() if key != "runs"}:
        raise UserError(f"{files.relative_path(runs_path)} holds runs of other settings; move it away first")
    runs = {(run["configuration"], run["seed"]): run for run in earlier["runs"] if "right" in run}
    for seed in range(args.seeds):
        for command in COMMANDS:
            if (command, seed) not in runs:
                run = runs[command, seed] = train(command, seed, args, test)
                files.write_json(runs_path, settings | {"runs": list(runs.values())})
                print(f"    seed {seed}: test accuracy {100 * run['test']:.2f} %", flush=True)

    # ---- Verdicts
    chosen = [runs[command, seed] for seed in range(args.seeds) for command in COMMANDS]
    claims = judge_claims(chosen)
    words = given(seeds=args.seeds, limit=args.limit, epochs=args.epochs, data=args.data, test=args.test,
                  test_labels=args.test_labels)
    summary = {"command": shlex.join(["python", "-m", "benchmarks.claims", *words]), **settings,
               "rows": min(args.limit or len(faces), len(faces)), "seeds": args.seeds,
               "evaluated_rows": len(test), "margin_points": 100 * MARGIN,
               "level": metrics.LEVEL, "claims": claims}
    rows = pd.DataFrame(claim_rows(summary, "en"))
    cli.print_table(rows[["claim", "points", "verdict"]])  # the CSV has the rest
    files.write_json(json_path, summary)
    files.write_table(csv_path, pd.DataFrame(claims).drop(columns="key"))
    cli.print_written(outputs)
    return summary


def train(command, seed, args, test):
    """Train one configuration ("train_cnn.py --augment") with one seed; returns its scores and settings, and
    "right": for each of the `test` Faces 1 or 0. The network and its figures are deleted."""
    from training.run import RunFiles
    from utils import evaluation, models

    script, *options = command.split()
    options += ["--name", NAME, *given(seed=seed, limit=args.limit, epochs=args.epochs, data=args.data)]
    if script == "train_dnn.py" and models.RELEASED_CNN.exists():
        options += ["--cnn", str(models.RELEASED_CNN)]  # whose size the DNN has, not that of models/cnn.h5
    with tempfile.TemporaryDirectory() as folder:
        run_script([script, *options, "--out-folder", folder])
        path = RunFiles(NAME, Path(folder)).model
        card, networks = models.read_card(path), evaluation.load_networks([path])
    right = evaluation.probabilities(networks, test.images).argmax(axis=1) == test.labels
    return {"configuration": command, "seed": seed, "test": float(right.mean()),
            "validation": card["metrics"]["validation_accuracy"], "epochs": card["arguments"]["epochs"],
            **{key: card[key] for key in ("parameters", "seconds", "hardware", "precision")},
            "right": "".join(map(str, right.astype(int)))}


def judge_claims(runs):
    """Every claim as a dict: its configuration, mean accuracy and that of the baseline, their difference with
    an interval and its level, and the verdict. runs: of every configuration with the same seeds, as `train`
    returns them."""
    from utils import metrics

    scores = pd.DataFrame(runs).pivot(index="seed", columns="configuration", values="test")
    rate, sd = scores[BASELINE].mean(), scores.std() if len(scores) > 1 else dict.fromkeys(COMMANDS)
    # Networks that learn nothing agree to the last face: too few faces must not exclude a gain
    margin = MARGIN if rate * (1 - rate) / len(runs[0]["right"]) < MARGIN**2 else -np.inf
    right = {(run["configuration"], run["seed"]): np.array([*run["right"]], int) for run in runs}
    of_seeds = seed_variance(scores.to_numpy())
    widths = [half_width(np.array([right[command, seed] - right[BASELINE, seed] for seed in scores.index]),
                         *of_seeds) for command in COMMANDS[1:]]
    claims = ORIGINAL["claims"].items()
    gains = [(scores[claim["command"]] - scores[BASELINE]).mean() for _, claim in claims]
    levels = holm_levels([p_value(claim["says"], gain, width, margin) for (_, claim), gain, width in
                          zip(claims, gains, widths)], 1 - metrics.LEVEL)
    rows = []
    for (key, claim), gain, width, level in zip(claims, gains, widths, levels):
        own = scores[claim["command"]]
        low, high = (gain - width(level), gain + width(level)) if len(scores) > 1 else (None, None)
        rows.append({
            "key": key, "claim": claim["en"], "configuration": claim["command"], "mean": own.mean(),
            "sd": sd[claim["command"]], "baseline": BASELINE, "baseline_mean": rate,
            "baseline_sd": sd[BASELINE], "difference": gain, "low": low, "high": high, "level": 1 - level,
            "verdict": verdict(claim["says"], low, high, margin)})
    return rows


def seed_variance(scores):
    """Square of the standard error of a difference between two configurations' mean accuracies, and its
    degrees of freedom. scores: (seeds, configurations). Of three seeds alone it would hardly be known; it is
    taken to be the same for all configurations, as in the usual analysis of variance."""
    (seeds, configurations), rest = scores.shape, scores - scores.mean(axis=0)
    freedom = (seeds - 1) * (configurations - 1)
    rest = rest - rest.mean(axis=1, keepdims=True)
    return 2 * (rest**2).sum() / max(freedom, 1) / seeds, freedom


def half_width(differences, of_seeds, freedom):
    """A function from a level to half the width of an interval for the mean of paired differences, int
    (seeds, faces), that allows for other seeds, by Student's t (see `seed_variance`), and for other faces, by
    the normal distribution; the squares of both parts are added (Howe 1974)."""
    (seeds, n), mean = differences.shape, differences.mean()
    if seeds == 1:
        return lambda level: np.inf * level
    by_seed, by_face = differences.mean(axis=1, keepdims=True) - mean, differences.mean(axis=0) - mean
    rest = ((differences - mean - by_seed - by_face) ** 2).sum() / (seeds - 1) / (n - 1)  # seeds and faces
    of_faces = max((by_face**2).sum() / (n - 1) / n - rest / differences.size, 0)
    return lambda level: np.sqrt(of_seeds * stats.t.isf(level / 2, freedom) ** 2
                                 + of_faces * stats.norm.isf(level / 2) ** 2)


def p_value(says, gain, width, margin):
    """The smallest level, 0-1, whose interval gain ± width(level) decides a claim, by `verdict`: lies above
    zero or below `margin`, where the claim is "worse" with the opposite sign."""
    gain = -gain if says == "worse" else gain
    levels = np.geomspace(1e-9, 1, 10_000)  # 0.2 % from one to the next
    return min(levels[width(levels) < max(gain, margin - gain)], default=1.0)


def holm_levels(p_values, level):
    """The levels at which Holm (1979) tests n hypotheses, float64 (n,): level / n for the smallest p-value,
    level / (n - 1) for the next and so on; from the first that is not below its level on it stays."""
    n, order = len(p_values), np.argsort(p_values, kind="stable")
    steps, levels = level / (n - np.arange(n)), np.empty(n)
    failed = np.flatnonzero(np.asarray(p_values)[order] >= steps)
    levels[order] = np.minimum(steps, steps[failed[0]] if len(failed) else np.inf)
    return levels


def verdict(says, low, high, margin=MARGIN):
    """Verdict on what the original says of a change, from the interval of its paired difference: it helps
    where that is above zero and does not where it is below the margin; it is worse where that is below zero
    and is not where it is above minus the margin. Any other leaves it open."""
    if low is None:
        return OPEN
    if says == "worse":
        low, high = -high, -low
    gains = decide(low > 0, high < margin)
    return OPPOSITE[gains] if says == "not help" else gains


if __name__ == "__main__":
    cli.run(main)
