"""The original report's claims about training, each tested again over several seeds, with a verdict.

    python -m benchmarks.claims --data data/train.csv.gz --test data/test.csv.gz \\
        --test-labels data/test_public_labels.csv

Trains 13 configurations with three seeds each: about three hours on two cores. Verdicts rest on the test
faces where there are any, else on each seed's validation split. Each run is kept in models/claims_runs.json,
so that the same command continues where it was stopped. Writes models/claims.json, which report.py shows, and
the verdicts as models/claims.csv.
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
    from reporting.page import claim_table
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
    runs = {(run["configuration"], run["seed"]): run for run in earlier["runs"]}
    for seed in range(args.seeds):
        for command in COMMANDS:
            if (command, seed) not in runs:
                run = runs[command, seed] = train(command, seed, args, test)
                files.write_json(runs_path, settings | {"runs": list(runs.values())})
                print(f"    seed {seed}: {score} accuracy {100 * run[score]:.2f} %", flush=True)

    # ---- Verdicts
    chosen = [runs[command, seed] for seed in range(args.seeds) for command in COMMANDS]
    claims = [judge_claim(key, pd.DataFrame(chosen), score) for key in ORIGINAL["claims"]]
    words = given(seeds=args.seeds, limit=args.limit, epochs=args.epochs, data=args.data, test=args.test,
                  **{"test-labels": args.test_labels})
    summary = {"command": shlex.join(["python", "-m", "benchmarks.claims", *words]), **settings,
               "rows": min(args.limit or len(faces), len(faces)), "seeds": args.seeds,
               "evaluated_rows": chosen[0][f"{score}_rows"], "margin_points": 100 * MARGIN,
               "level": metrics.LEVEL, "runs": chosen, "claims": claims}
    cli.print_table(claim_table(summary, "en").iloc[:, [0, 3, 4]])  # the CSV has the rest
    files.write_json(json_path, summary)
    files.write_table(csv_path, pd.DataFrame(claims).drop(columns="key"))
    cli.print_written(outputs)
    return summary


def train(command, seed, args, test):
    """Train one configuration ("train_cnn.py --augment") with one seed; returns its scores and settings.

    test: labelled Faces or None. The network and its figures are deleted.
    """
    from training.run import RunFiles
    from utils import evaluation, models

    script, *options = command.split()
    options += ["--name", NAME, *given(seed=seed, limit=args.limit, epochs=args.epochs, data=args.data)]
    if script == "train_dnn.py" and models.RELEASED_CNN.exists():
        options += ["--cnn", str(models.RELEASED_CNN)]  # whose size the DNN has, not that of models/cnn.h5
    with tempfile.TemporaryDirectory() as folder:
        run_script([script, *options, "--out-folder", folder])
    run, accuracy = RunFiles(NAME), None
    card = models.read_card(run.model)
    if test is not None:
        probabilities = evaluation.probabilities(evaluation.load_networks([run.model]), test.images)
        accuracy = float((probabilities.argmax(axis=1) == test.labels).mean())
    for path in (run.model, run.card, run.history, run.checkpoint):
        path.unlink(missing_ok=True)
    return {"configuration": command, "seed": seed,
            "validation": card["metrics"]["validation_accuracy"], "test": accuracy,
            "validation_rows": card["split"]["validation_rows"],
            "test_rows": None if test is None else len(test), "epochs": card["arguments"]["epochs"],
            **{key: card[key] for key in ("parameters", "seconds", "hardware", "precision")}}


def judge_claim(key, runs, score):
    """One claim: its configuration, scores, difference from the baseline paired over seeds, and verdict.

    runs: DataFrame of all results; score: the column that decides.
    """
    from utils import metrics

    claim = ORIGINAL["claims"][key]
    scores = runs.pivot(index="seed", columns="configuration", values=score)
    own, baseline = scores[claim["command"]], scores[BASELINE]
    difference, rate = metrics.interval_of_mean(own - baseline), baseline.mean()
    error = float(np.sqrt(rate * (1 - rate) / runs[f"{score}_rows"].iloc[0]))
    own_sd, baseline_sd = (float(values.std()) if len(values) > 1 else None for values in (own, baseline))
    return {"key": key, "claim": claim["en"], "configuration": claim["command"], "baseline": BASELINE,
            "score": score, "seeds": len(scores), "mean": float(own.mean()), "sd": own_sd,
            "baseline_mean": float(rate), "baseline_sd": baseline_sd,
            **dict(zip(("difference", "low", "high"), difference)),
            "verdict": verdict(claim["says"], difference, error)}


def verdict(says, difference, error):
    """Verdict on what the original says of a change, from its paired difference [mean, low, high].

    It helps where the interval is above zero and does not where it is below MARGIN; it is worse where the
    interval is below zero and is not where it is above -MARGIN. Any other interval leaves the claim open, and
    so do too few faces: `error`, the standard error of an accuracy on them, must be below the difference, or
    below the MARGIN that is excluded. Seeds alone would not show it, since networks that learn nothing agree
    to the last face.
    """
    mean, low, high = difference
    if low is None:
        return OPEN
    differs, excludes = abs(mean) > error, error < MARGIN
    if says == "worse":
        return decide(high < 0 and differs, low > -MARGIN and excludes)
    helps = decide(low > 0 and differs, high < MARGIN and excludes)
    return OPPOSITE[helps] if says == "not help" else helps


if __name__ == "__main__":
    cli.run(main)
