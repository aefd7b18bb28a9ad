"""Scores of predictions with 95 % intervals, calibration, and McNemar's test of two models."""

import warnings

import numpy as np
import pandas as pd
from scipy import special, stats
from sklearn.metrics import confusion_matrix

from utils.cli import UserError
from utils.data import CLASSES

BINS = 15  # of confidence, as in Guo et al. 2017
LEAST = 10  # faces of a bin that is drawn
LEVEL = 0.95  # of all intervals
REPLICATES = 2000


def to_probabilities(outputs):
    """A network's outputs (n, classes) as float64 probabilities: unchanged where rows sum to 1, else softmax;
    UserError when an output is not finite."""
    outputs = np.asarray(outputs, np.float64)
    if not np.isfinite(outputs).all():
        raise UserError("the model's output is not finite for some faces; its weights are damaged: "
                        "train it again")
    total = outputs.sum(axis=-1, keepdims=True)
    if (outputs >= 0).all() and (np.abs(total - 1) < 0.02).all():  # 0.02: a softmax in bfloat16
        return outputs / total
    return special.softmax(outputs, axis=-1)


def confusion(labels, predicted):
    """Counts int64 (7, 7): rows are true classes, columns predicted ones."""
    return confusion_matrix(labels, predicted, labels=range(len(CLASSES)))


def scores(counts):
    """Scores of many confusion matrices (..., 7, 7), rows true, at once, which scikit-learn lacks: a dict of
    accuracy and macro_f1 (...,), precision, recall and f1 (..., 7), share (..., 7, 7; rows sum to 1); nan
    where undefined. Macro-F1 is the mean over the classes that occur as true or predicted."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    with np.errstate(invalid="ignore"):  # 0 / 0
        precision, recall, f1 = hits / predicted, hits / true, 2 * hits / (true + predicted)
        share = counts / true[..., None]
    return {"accuracy": hits.sum(axis=-1) / true.sum(axis=-1), "macro_f1": np.nanmean(f1, axis=-1),
            "precision": precision, "recall": recall, "f1": f1, "share": share}


def calibration(probabilities, labels):
    """Which of BINS equal bins (lower, upper] holds each face's confidence (largest probability), int (n,),
    and confidence minus correctness, float64 (n,)."""
    confidence = probabilities.max(axis=1)
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)  # the bins of sklearn.calibration
    return bins, confidence - (probabilities.argmax(axis=1) == labels)


def ece(bins, gaps):
    """Expected calibration error, 0-1 (Naeini et al. 2015): the faces' mean of their bin's |mean gap|."""
    return float(np.abs(np.bincount(bins, gaps, minlength=BINS)).sum() / len(bins))


def reliability(probabilities, labels):
    """Accuracy at each confidence: a DataFrame, one row per bin of `calibration` that holds faces; one with
    fewer than LEAST is merged with the next, the last with the one before. Columns: from, to (its ends),
    faces, confidence (mean), accuracy, and low, high of that; 0-1 except faces."""
    bins, _ = calibration(probabilities, labels)
    counts, merged, held = np.bincount(bins, minlength=BINS), np.zeros(BINS, int), 0
    for i in range(1, BINS):
        held += counts[i - 1]
        is_new = held >= LEAST and counts[i:].sum() >= LEAST
        merged[i], held = merged[i - 1] + is_new, 0 if is_new else held
    faces = pd.DataFrame({"from": bins / BINS, "to": (bins + 1) / BINS,
                          "confidence": probabilities.max(axis=1),
                          "right": probabilities.argmax(axis=1) == labels}).groupby(merged[bins])
    table = faces.agg({"from": "min", "to": "max"}).join(faces.agg(
        faces=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean")))
    table["low"], table["high"] = wilson(faces["right"].sum(), table["faces"])
    return table.round(5)


def wilson(successes, n):
    """Wilson's 95 % interval (1927) of a proportion, `successes` of `n` (arrays broadcast): (low, high), 0-1;
    nan of none. Unlike the bootstrap's, that of 0 of 44 is not empty: 0 to 0.08."""
    def of_one(k, count):
        if not count:
            return np.nan, np.nan
        return stats.binomtest(int(k), int(count)).proportion_ci(LEVEL, method="wilson")

    low, high = np.vectorize(of_one, otypes=[float, float])(successes, n)
    return low[()], high[()]


def bootstrap(probabilities, labels, replicates=REPLICATES):
    """Resample faces with replacement (Efron 1979): counts (replicates, 7, 7), of the same rows for the same
    number of faces, so that two models' replicates can be subtracted."""
    rng, n, k = np.random.default_rng(0), len(labels), len(CLASSES)
    cells = labels * k + probabilities.argmax(axis=1)
    counts = [np.bincount(cells[rng.integers(n, size=n)], minlength=k * k) for _ in range(replicates)]
    return np.reshape(counts, (replicates, k, k))


def interval(samples):
    """The middle 95 % of bootstrap samples (replicates, ...), nan ignored: low and high, each (...)."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # nothing but nan: no interval
        return np.nanquantile(samples, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)


def bootstrap_mean(values, seed=0):
    """Mean of `values` (n,) with its 95 % percentile bootstrap interval: (mean, low, high), floats."""
    values, rng = np.asarray(values), np.random.default_rng([seed, 3])
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(REPLICATES)]
    return (float(values.mean()), *map(float, interval(means)))


def interval_of_mean(values):
    """Mean of a few `values` with Student's 95 % interval: [mean, low, high]; the ends are None for one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean, None, None]
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return [mean, mean - half, mean + half]


def mcnemar(first, second):
    """McNemar's exact two-sided test (1947) of two models, each right or not on the same faces, bool (n,): a
    dict for JSON; `difference` is that of the accuracies, first minus second."""
    a, b = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(stats.binomtest(a, a + b).pvalue) if a + b else 1.0
    return {"difference": (a - b) / len(first), "only_first_right": a, "only_second_right": b, "p": p}


def p_text(p):
    """A p-value in words: "p = 0.031", "p < 0.001"."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def estimates(probabilities, labels):
    """All of `scores`, and ece, of probabilities (n, 7) and labels, int (n,), with 95 % intervals: a dict for
    JSON of [value, low, high] or nested lists of such, None where undefined. Wilson's intervals for shares,
    the bootstrap's for F1; ece has none, as a resample's is biased upwards. UserError without a face."""
    if not len(labels):
        raise UserError("no face is left to evaluate on; choose other data")
    counts = confusion(labels, probabilities.argmax(axis=1))
    values, samples = scores(counts), scores(bootstrap(probabilities, labels))
    values["ece"] = ece(*calibration(probabilities, labels))
    intervals = {key: interval(samples[key]) for key in ("macro_f1", "f1")} | {"ece": (np.nan, np.nan)}
    hits, true, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    intervals |= {"accuracy": wilson(hits.sum(), len(labels)), "precision": wilson(hits, predicted),
                  "recall": wilson(hits, true), "share": wilson(counts, true[:, None])}
    return {name: with_interval(values[name], intervals[name]) for name in values}


def measure(probabilities, labels):
    """The main `estimates` for JSON: rows (int), accuracy, macro_f1, ece, and recall as {class: estimate}."""
    found = estimates(probabilities, labels)
    return {"rows": len(labels), **{name: found[name] for name in ("accuracy", "macro_f1", "ece")},
            "recall": dict(zip(CLASSES, found["recall"]))}


def with_interval(value, ends):
    """[value, low, high], rounded for JSON, or a nested list of such for arrays (...); None for nan."""
    numbers = np.stack([value, *ends], axis=-1)
    return np.where(np.isnan(numbers), None, numbers.round(8)).tolist()


def percent(value, form=".1f"):
    """A share, alone or as [share, low, high], in per cent: `63.1 [61.5, 64.6]`; `-` where undefined."""
    share, *ends = value if isinstance(value, list) else [value]
    if share is None:
        return "-"
    interval = ", ".join(f"{100 * end:{form}}" for end in ends if end is not None)
    return f"{100 * share:{form}}" + (f" [{interval}]" if interval else "")
