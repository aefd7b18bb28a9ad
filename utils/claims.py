"""The original report's claims about training, re-run: every configuration over several seeds, and a verdict for each claim.

Configurations are trained one by one and each result is kept in models/claims/, so that an interrupted run continues.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import math

from utils import cli, recipes
from utils.files import read_json, shown, write_csv, write_json
from utils.report_text import WORDS

MARGIN = 0.01  # a gain of so much counts as help; about one standard error of sampling on a 10 % validation split
LEVEL = 0.95  # of the intervals
HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclasses.dataclass(frozen=True)
class Claim:
    """Of a change (options beside the baseline's, for `network`) the original report says that it "helps", does "not help"
    or is "worse"."""

    key: str
    says: str
    options: tuple
    network: str = "cnn"


CLAIMS = (
    Claim("batch_160", "worse", ("--batch-size", "160")),
    Claim("batch_320", "worse", ("--batch-size", "320")),
    Claim("extra_conv_1", "not help", ("--extra-conv", "1")),
    Claim("extra_conv_2", "not help", ("--extra-conv", "2")),
    Claim("generator", "not help", ("--augment",)),
    Claim("oversampling", "helps", ("--oversample",)),
    Claim("dropout_low", "helps", ("--dropout", "0.1")),
    Claim("dropout_high", "helps", ("--dropout", "0.5")),
    Claim("l2", "helps", ("--l2", "1e-4")),
    Claim("dropconnect", "helps", ("--dropconnect", "0.5")),
    Claim("dnn_report", "worse", ("--network", "report"), "dnn"),
    Claim("dnn_matched", "worse", ("--network", "matched"), "dnn"),
)
BASELINE = Claim("baseline", "", ())


def words_of(claim):
    """A configuration as a command line says it."""
    return " ".join([f"train_{claim.network}.py", *claim.options])


def settled(claim, seed, options):
    """The training arguments of one configuration and seed; options: data, limit, epochs (None: the recipe's)."""
    parser = cli.Parser("")
    recipes.add_arguments(parser, ("report", "matched"), name="claim")
    parser.add_argument("--extra-conv", type=int, default=0)
    said = [*claim.options, "--seed", str(seed)]
    for name in ("data", "limit", "epochs"):
        if getattr(options, name) is not None:
            said += [f"--{name}", str(getattr(options, name))]
    return recipes.settle(parser, said)


def run(claim, seed, options, fingerprints, test):
    """Train one configuration with one seed, or take its kept result: {"validation", "test", "seconds", ...}.

    fingerprints: of the data and the test faces; test: labelled Faces or None.
    """
    from utils import models

    args = settled(claim, seed, options)
    key = json.dumps([claim.network, recipes.plain(args), fingerprints], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    kept = models.MODELS / "claims" / f"{claim.key}-seed{seed}-{digest}.json"
    if kept.exists():
        return read_json(kept) | {"from_cache": True}
    args.name = f"claim-{claim.key}-seed{seed}-{digest}"
    checkpoint = models.MODELS / f"{args.name}.checkpoint.npz"
    args.resume = checkpoint.exists()
    try:
        scores = train(claim, args, test)
    except cli.UserError:
        if not args.resume:
            raise
        checkpoint.unlink(missing_ok=True)  # a damaged checkpoint costs one run, not the whole table
        args.resume = False
        scores = train(claim, args, test)
    result = {"configuration": words_of(claim), "seed": seed} | scores
    write_json(kept, result)
    checkpoint.unlink(missing_ok=True)
    return result | {"from_cache": False}


def train(claim, args, test):
    """Train as train_cnn.py or train_dnn.py would, score, and remove the model's files."""
    import keras

    from utils import models, networks, training

    def build(final):
        dropconnect = 0.0 if final else args.dropconnect
        if claim.network == "cnn":
            return networks.report_cnn(args.dropout, args.l2, dropconnect, args.extra_conv)
        if args.network == "matched":
            return networks.matched_dnn(networks.report_cnn().count_params(), args.dropout, args.l2, dropconnect)
        return networks.report_dnn(args.dropout, args.l2, dropconnect)

    with contextlib.redirect_stdout(io.StringIO()):  # one line a configuration, not one an epoch
        card = training.train(args, build)
    path = models.MODELS / f"{args.name}.h5"
    result = {"validation": card["metrics"]["validation_accuracy"], "parameters": card["parameters"],
              "epochs": args.epochs, "seconds": card["seconds"], "hardware": card["hardware"], "precision": card["precision"],
              "validation_rows": card["split"]["validation_rows"], "test_rows": None if test is None else len(test),
              "test": None if test is None else training.score(models.load(path), test)[1]}
    for made in (path, models.card_path(path), path.with_name(f"{args.name}_history.csv")):
        made.unlink(missing_ok=True)
    keras.utils.clear_session()
    return result


# ---- verdicts --------------------------------------------------------------------------------------------------


def summary(values):
    """Mean and sample standard deviation (None for one value) of a list of scores."""
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "sd": sd, "values": values}


def student(differences):
    """Mean of paired differences with Student's 95 % interval: [mean, low, high]; the ends are None for one pair."""
    from scipy.stats import t

    spread = summary(differences)
    if spread["sd"] is None:
        return [spread["mean"], None, None]
    half = float(t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * spread["sd"] / math.sqrt(len(differences))
    return [spread["mean"], spread["mean"] - half, spread["mean"] + half]


def judge(says, difference, error):
    """Verdict on what is said of a change, from the interval of its paired difference [mean, low, high].

    It helps where the interval is above zero and does not where it is below MARGIN; it is worse where the interval is below
    zero and is not where it is above -MARGIN. An interval that does not tell leaves the claim open, and so do too few faces:
    `error`, the standard error of an accuracy on them, must be below the difference, or below the MARGIN that is excluded.
    Seeds alone would not show it, since networks that learn nothing agree to the last face.
    """
    mean, low, high = difference
    if low is None:
        return OPEN
    differs, excludes = abs(mean) > error, error < MARGIN
    if says == "worse":
        return HOLDS if high < 0 and differs else FAILS if low > -MARGIN and excludes else OPEN
    helps = HOLDS if low > 0 and differs else FAILS if high < MARGIN and excludes else OPEN
    return {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}[helps] if says == "not help" else helps


def rerun(options, test=None):
    """Train what is missing and judge every claim; prints a line a run. Returns the values of figures/claims.json.

    options: data (path or None), limit, epochs, seeds (how many); test: labelled Faces to score on as well, or None.
    Verdicts rest on the test faces where there are any, else on the validation split of each seed.
    """
    from utils import data

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every new network's graph
    faces = data.training_part(data.find_data(options.data))
    rows = min(options.limit or len(faces), len(faces))
    fingerprints = [faces.fingerprint(), None if test is None else test.fingerprint()]
    cli.interruption.outer = "the same command continues where this one stopped"
    scores = {claim.key: [] for claim in (BASELINE, *CLAIMS)}
    runs = [(claim, seed) for seed in range(options.seeds) for claim in (BASELINE, *CLAIMS)]
    for done, (claim, seed) in enumerate(runs, start=1):
        result = run(claim, seed, options, fingerprints, test)
        scores[claim.key].append(result)
        print(f"{done:3d}/{len(runs)}  seed {seed}  {words_of(claim):<36}  validation {100 * result['validation']:5.2f} %"
              + (f"  test {100 * result['test']:5.2f} %" if test is not None else "")
              + ("  kept result" if result["from_cache"] else f"  {result['seconds']:.0f} s"), flush=True)
    cli.interruption.outer = ""
    score = "test" if test is not None else "validation"
    return {"data": faces.source, "fingerprint": fingerprints[0], "rows": rows, "limit": options.limit, "seeds": options.seeds,
            "score": score, "test": None if test is None else test.source, "margin": MARGIN,
            "margin_points": 100 * MARGIN, "level": LEVEL,
            "runs": [result for found in scores.values() for result in found],
            "claims": [verdict(claim, scores, score) for claim in CLAIMS]}


def verdict(claim, scores, score):
    """One claim: its configuration, scores, paired difference from the baseline, and verdict."""
    own, base = ([result[score] for result in scores[key]] for key in (claim.key, "baseline"))
    difference = student([a - b for a, b in zip(own, base)])
    rate = sum(base) / len(base)
    error = math.sqrt(rate * (1 - rate) / scores["baseline"][0][f"{score}_rows"])
    return {"key": claim.key, "words": WORDS["claims"][claim.key], "says": claim.says, "changed": words_of(claim),
            "baseline": words_of(BASELINE), "score": summary(own), "baseline_score": summary(base), "difference": difference,
            "verdict": judge(claim.says, difference, error)}


def write(found, folder):
    """Write claims.json and claims.csv into `folder`; returns their paths."""
    paths = [folder / "claims.json", folder / "claims.csv"]
    write_json(paths[0], found)
    write_csv(paths[1], ["claim", "configuration", "baseline", "score", "seeds", "mean", "sd", "baseline_mean", "baseline_sd",
                         "difference", "low", "high", "verdict"],
              [[c["words"]["en"], c["changed"], c["baseline"], found["score"], found["seeds"], c["score"]["mean"],
                c["score"]["sd"], c["baseline_score"]["mean"], c["baseline_score"]["sd"], *c["difference"], c["verdict"]]
               for c in found["claims"]])
    return paths


def show(found, language):
    """Print the claims as one table."""
    from utils.report_page import claim_table

    header, rows = claim_table(found, language)
    print(f"\n{found['score']} accuracy, {found['seeds']} seeds, {found['rows']:,} faces of {shown(found['data'])}")
    print(cli.table(rows, header))
