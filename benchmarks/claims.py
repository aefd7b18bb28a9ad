"""The original report's claims about training, each tested again over several seeds, with a verdict.

    python -m benchmarks.claims --data data/train.csv.gz --test data/test.csv.gz \\
        --test-labels data/test_public_labels.csv

Trains 13 configurations with three seeds each: about three hours on two cores. Verdicts rest on the test
faces where there are any, else on each seed's validation split. Each run is kept in models/claims_runs.json,
with the class that it predicts for each face, so that the same command continues where it was stopped. Writes
models/claims.json, which report.py shows, and the verdicts as models/claims.csv.

Intervals are of the difference from the homework's own settings, paired by seed and face, in resamples of
seeds and faces together: another test set would have other faces. Holm's procedure sets their levels, so that
the probability of any wrong verdict is at most 5 %.
"""

import shlex
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from reporting.findings import OPEN, OPPOSITE, decide
from reporting.scripts import given, run_script
from reporting.text import ORIGINAL
from utils import cli, data, files
from utils.cli import UserError

BASELINE = "train_cnn.py"
COMMANDS = [BASELINE, *(claim["command"] for claim in ORIGINAL["claims"].values())]
MARGIN = 0.01  # a gain of so much is help; about one standard error on a validation split of 10 %
NAME = "claim-run"  # of the network that is being trained
REPLICATES = 10_000  # of which an interval at Holm's smallest level leaves 25 at each end


def main(argv=None):
    """Train what is missing; returns what claims.json holds (dict)."""
    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--seeds", type=cli.number(int, 1), default=3, help="seeds of each configuration")
    option("--data", type=cli.data_path, help="faces to train on (default: as train_cnn.py)")
    option("--limit", type=cli.number(int, 16), help="train on a sample of LIMIT faces")
    option("--epochs", type=cli.number(int, 1), help="epochs of each run (default: its recipe's)")
    option("--test", type=Path, metavar="FILE", help="labelled test faces")
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
    test = evaluation.faces_to_evaluate([], args.test, args.test_labels) if args.test else None
    score = "validation" if test is None else "test"
    settings = {"data": faces.source, "fingerprint": faces.fingerprint(), "limit": args.limit,
                "epochs": args.epochs, "score": score,
                "evaluated": test.source if test else f"the validation split of {faces.source}"}
    earlier = files.read_json(runs_path) if runs_path.exists() else settings | {"runs": []}
    if settings != {key: value for key, value in earlier.items() if key != "runs"}:
        raise UserError(f"{files.relative_path(runs_path)} holds runs of other settings; move it away first")
    runs = {(run["configuration"], run["seed"]): run for run in earlier["runs"] if "right" in run}
    for seed in range(args.seeds):
        for command in COMMANDS:
            if (command, seed) not in runs:
                run = runs[command, seed] = train(command, seed, args, test)
                files.write_json(runs_path, settings | {"runs": list(runs.values())})
                print(f"    seed {seed}: {score} accuracy {100 * accuracy(run):.2f} %", flush=True)

    # ---- Verdicts
    chosen = [runs[command, seed] for seed in range(args.seeds) for command in COMMANDS]
    claims = judge_claims(chosen, score)
    words = given(seeds=args.seeds, limit=args.limit, epochs=args.epochs, data=args.data, test=args.test,
                  **{"test-labels": args.test_labels})
    summary = {"command": shlex.join(["python", "-m", "benchmarks.claims", *words]), **settings,
               "rows": min(args.limit or len(faces), len(faces)), "seeds": args.seeds,
               "evaluated_rows": len(chosen[0]["right"]), "margin_points": 100 * MARGIN,
               "level": metrics.LEVEL, "replicates": REPLICATES,
               "tested": sum(claim["verdict"] is not None for claim in claims), "claims": claims}
    rows = pd.DataFrame(claim_rows(summary, "en"))
    cli.print_table(rows[["claim", "score", "points", "verdict"]].fillna("-"))
    files.write_json(json_path, summary)
    files.write_table(csv_path, pd.DataFrame(claims).drop(columns="key"))
    cli.print_written(outputs)
    return summary


def train(command, seed, args, test):
    """Train one configuration ("train_cnn.py --augment") with one seed; returns its settings and, of the
    faces of `test` (labelled Faces) or of its validation split (None), a digit each: "predicted", the class,
    and "right", 1 where that is the label. The network and its figures are deleted.
    """
    from training.run import RunFiles
    from utils import evaluation, models

    script, *options = command.split()
    options += ["--name", NAME, *given(seed=seed, limit=args.limit, epochs=args.epochs, data=args.data)]
    if script == "train_dnn.py" and models.RELEASED_CNN.exists():
        options += ["--cnn", str(models.RELEASED_CNN)]  # whose size the DNN has, not that of models/cnn.h5
    with tempfile.TemporaryDirectory() as folder:
        run_script([script, *options, "--out-folder", folder])
        path = RunFiles(NAME, Path(folder)).model
        card, [network] = models.read_card(path), evaluation.load_networks([path])
        faces = evaluation.faces_to_evaluate([path], training_data=args.data) if test is None else test
        predicted = evaluation.probabilities([network], faces.images).argmax(axis=1)
    digits = {"predicted": predicted, "right": (predicted == faces.labels).astype(int)}
    return {"configuration": command, "seed": seed, "validation": card["metrics"]["validation_accuracy"],
            "epochs": card["arguments"]["epochs"],
            **{key: card[key] for key in ("parameters", "seconds", "hardware", "precision")},
            **{key: "".join(map(str, values)) for key, values in digits.items()}}


def accuracy(run):
    """The share of faces, 0-1, that a run of `train` has right."""
    return run["right"].count("1") / len(run["right"])


def judge_claims(runs, score):
    """Every claim as a dict: its configuration, mean accuracy and that of the baseline, their difference with
    its interval, the interval's level, and the verdict, None where the original says nothing of the change.
    runs: of every configuration with the same seeds, as `train` returns them; score: what they were run on.
    """
    from utils import metrics

    right = {(run["configuration"], run["seed"]): np.array([*run["right"]], float) for run in runs}
    claims, seeds = ORIGINAL["claims"], sorted({run["seed"] for run in runs})
    means = pd.DataFrame({command: [right[command, seed].mean() for seed in seeds] for command in COMMANDS})
    rate, sds = means[BASELINE].mean(), means.std() if len(seeds) > 1 else dict.fromkeys(COMMANDS)
    # Networks that learn nothing agree to the last face: too few faces must not exclude a gain
    margin = MARGIN if rate * (1 - rate) / len(right[BASELINE, seeds[0]]) < MARGIN**2 else -np.inf
    resampled = pd.DataFrame(resample([
        np.array([right[claim["command"], seed] - right[BASELINE, seed] for claim in claims.values()])
        for seed in seeds], REPLICATES), columns=[*claims])
    tested = {key: p_value(claim["says"], resampled[key], margin)
              for key, claim in claims.items() if "says" in claim}
    levels = dict(zip(tested, holm_levels([*tested.values()], 1 - metrics.LEVEL)))
    rows = []
    for key, claim in claims.items():
        own, level = means[claim["command"]], levels.get(key, 1 - metrics.LEVEL)
        interval = resampled[key].quantile([level / 2, 1 - level / 2]) if len(seeds) > 1 else (None, None)
        rows.append({
            "key": key, "claim": claim["en"], "configuration": claim["command"], "baseline": BASELINE,
            "score": score, "seeds": len(seeds), "mean": own.mean(), "sd": sds[claim["command"]],
            "baseline_mean": rate, "baseline_sd": sds[BASELINE],
            "difference": (own - means[BASELINE]).mean(), **dict(zip(("low", "high"), interval)),
            "level": 1 - level, "verdict": verdict(claim.get("says"), *interval, margin)})
    return rows


def resample(differences, replicates):
    """Bootstrap means of paired differences (Owen 2007): seeds and faces are both drawn with replacement, and
    in one replicate all claims and seeds have the same faces. differences: for each seed an array (claims,
    faces) of -1, 0 or 1; returns float64 (replicates, claims)."""
    rng, means = np.random.default_rng(0), []
    for _ in range(replicates):
        places = rng.random(max(array.shape[1] for array in differences))  # validation splits differ in size
        drawn = [differences[seed] for seed in rng.integers(len(differences), size=len(differences))]
        faces = [(places[:array.shape[1]] * array.shape[1]).astype(int) for array in drawn]
        means.append(np.mean([array @ np.bincount(rows, minlength=array.shape[1]) / len(rows)
                              for array, rows in zip(drawn, faces)], axis=0))
    return np.array(means)


def p_value(says, resampled, margin):
    """The level below which resampled differences decide a claim, by `verdict`: twice the smaller share of
    those that are no gain (no loss where the claim is "worse"), and of those that are one of `margin`."""
    gains = -resampled if says == "worse" else resampled
    return 2 * min((gains <= 0).mean(), (gains >= margin).mean())


def holm_levels(p_values, level):
    """The level at which Holm's procedure (1979) tests each of several hypotheses, float64 (n,): level / n
    for the smallest p-value, level / (n - 1) for the next, and so on until one is not below its level, which
    then holds for the others too."""
    n, order = len(p_values), np.argsort(p_values, kind="stable")
    steps, levels = level / (n - np.arange(n)), np.empty(n)
    failed = np.flatnonzero(np.asarray(p_values)[order] >= steps)
    levels[order] = np.minimum(steps, steps[failed[0]] if len(failed) else np.inf)
    return levels


def verdict(says, low, high, margin=MARGIN):
    """Verdict on what the original says of a change, from the interval of its paired difference.

    It helps where the interval is above zero and does not where it is below the margin; it is worse where the
    interval is below zero and is not where it is above minus the margin. Any other interval leaves the claim
    open, None where nothing is claimed.
    """
    if says is None or low is None:
        return says and OPEN
    if says == "worse":
        low, high = -high, -low
    gains = decide(low > 0, high < margin)
    return OPPOSITE[gains] if says == "not help" else gains


if __name__ == "__main__":
    cli.run(main)
