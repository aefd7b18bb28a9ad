"""Which sentences the report may state, and whether the claims of the original report hold here.

A finding names a sentence of `reporting.text`, whose numbers come from the results.
"""

import dataclasses
import math

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
AGAINST_KAGGLE = {HOLDS: "above", FAILS: "below", OPEN: "same"}
SIGNIFICANCE = 0.05  # level of McNemar's and of the binomial test
RING_IS_DARK = 0.1  # the outer ring is near zero when its mean is at most this share of the centre's


@dataclasses.dataclass(frozen=True)
class Finding:
    """key: of the sentence; verdict: on the original report's claim, None where it makes none; where: {alias:
    path in the results} for sentences that several things share."""

    key: str
    verdict: str | None = None
    where: dict = dataclasses.field(default_factory=dict)


def all_findings(results):
    """Every finding of what `reporting.results.collect` returns: {section: [Finding]}, in order.

    Faces of the built-in sample decide nothing about claims on photographs: no finding has a verdict then.
    """
    findings = {
        "data": data_findings(results),
        "cnn": cnn_findings(results),
        "dnn": dnn_findings(results),
        "confusion": confusion_findings(results["confusion"]),
        "saliency": saliency_findings(results["saliency"]),
        "filters": filter_findings(results["filters"]),
        "claims": [Finding("claims_intro" if results["claims"] else "claims_none")],
    }
    if results["data"]["is_sample"]:
        findings = {section: [dataclasses.replace(finding, verdict=None) for finding in listed]
                    for section, listed in findings.items()}
    return findings


def tally(findings):
    """How many claims hold, fail and stay open: {"claims", "holds", "fails", "open"}."""
    verdicts = [finding.verdict for listed in findings.values() for finding in listed if finding.verdict]
    return {"claims": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, OPEN)}


# ---- sections ----------------------------------------------------------------------------------------------


def data_findings(results):
    findings = [Finding("data")]
    if results["data"]["is_sample"]:
        findings.append(Finding("data_is_drawn"))
    if results["data"]["is_limited"]:
        findings.append(Finding("data_is_limited"))
    if results["evaluated"]["on_other_data"]:
        return [*findings, Finding("evaluated_on_other_data")]
    saves_best = results["models"]["cnn"]["keep"] == "best"
    return [*findings, Finding("evaluated_on_split_of_best_epoch" if saves_best else "evaluated_on_split")]


def cnn_findings(results):
    network, oversampled = (results["models"][role] for role in ("cnn", "oversampled"))
    findings = [Finding("cnn_size"), Finding("cnn_time"), Finding("cnn_accuracy")]
    if network["test"]:
        comparison = compare(network["test"]["accuracy"], results["original"]["kaggle"])
        findings.append(Finding(f"cnn_test_{AGAINST_KAGGLE[comparison]}"))
    findings.append(Finding("overfitting", overfits(network)))
    findings.append(Finding("oversampling", is_better(oversampled["against_cnn"])))
    if oversampled["test"]:
        findings.append(Finding("oversampling_test"))
    return findings


def dnn_findings(results):
    matched, original = results["models"]["dnn"], results["models"]["report_dnn"]
    best, end = (original[epoch]["validation_accuracy"] for epoch in ("best", "end"))
    error, fall = standard_error(end, original["validation_rows"]), best - end
    is_same_size = original["parameters"] == results["original"]["dnn_parameters"]
    return [
        Finding("dnn_size", HOLDS if is_same_size else FAILS),
        Finding("dnn_matched", is_better(matched["cnn_against"])),
        Finding("dnn_report", is_better(original["cnn_against"])),
        Finding("dnn_end", HOLDS if fall > error else FAILS if fall <= 0 else OPEN),
    ]


def confusion_findings(confusion):
    findings = [Finding("accuracy"), Finding("calibration")]
    recall = {name: interval for name, interval in confusion["recall"].items() if interval[0] is not None}
    if "surprise" in recall:
        findings.append(class_finding("best_class", confusion["best"]["class"], "surprise", recall))
    if "sad" in recall:
        negative = {name: [-value, -high, -low] for name, (value, low, high) in recall.items()}
        findings.append(class_finding("worst_class", confusion["worst"]["class"], "sad", negative))
    if confusion["sad_taken_for"]:
        shares = {pair["predicted"]: pair["share"] for pair in confusion["pairs"] if pair["true"] == "sad"}
        shares["fear"] = confusion["sad_taken_for_fear"]["share"]
        findings.append(class_finding("sad_for_fear", confusion["sad_taken_for"]["class"], "fear", shares))
    if confusion["errors"]:
        key = "fear_attracts_same" if confusion["attracts"]["class"] == "fear" else "fear_attracts"
        findings.append(Finding(key, has_most("fear", confusion["wrong_predictions"])))
    largest, smallest = confusion["largest_class"], confusion["smallest_class"]
    if largest["recall"][0] is not None:
        findings.append(Finding("largest_not_best", OPPOSITE[has_highest(largest["class"], recall)]))
    if smallest["recall"][0] is not None:
        (_, low, high), mean = smallest["recall"], confusion["mean_recall"]
        findings.append(Finding("smallest_not_bad", FAILS if high < mean else HOLDS if low >= mean else OPEN))
    pairs = range(len(confusion["top_pairs"]))
    return [*findings, *(Finding("pair", where={"pair": f"confusion.top_pairs.{i}"}) for i in pairs)]


def saliency_findings(saliency):
    return [
        Finding("saliency_image"),
        Finding("saliency_centre", compare(saliency["centre"], saliency["centre_area"])),
        Finding("saliency_ring", OPPOSITE[compare(saliency["ring_to_centre"], RING_IS_DARK)]),
        Finding("saliency_image_kept"),
        Finding("saliency_kept", compare(saliency["kept_above_random"], 0)),
    ]


def filter_findings(layers):
    findings = []
    for i, layer in enumerate(layers):
        where = {"layer": f"filters.{i}"}
        findings.append(Finding("filters_some" if layer["left_out"] else "filters_all", where=where))
        if layer["eta_squared"] is not None:
            findings.append(Finding("filters_classes", where=where))
        findings.append(Finding("filters_outputs", where=where))
    return findings


# ---- verdicts ----------------------------------------------------------------------------------------------


def compare(interval, threshold):
    """Whether [value, low, high] lies above a threshold."""
    _, low, high = interval
    return HOLDS if low > threshold else FAILS if high < threshold else OPEN


def standard_error(share, rows):
    """Standard error of a share measured on so many rows, never quite zero."""
    return math.sqrt(max(share * (1 - share), 1e-9) / rows)


def overfits(network):
    """Validation accuracy is below training accuracy by twice its error, and the loss past its lowest."""
    end = network["end"]
    error = standard_error(end["validation_accuracy"], network["validation_rows"])
    if end["gap"] > 2 * error and network["lowest_loss"]["epoch"] < end["epoch"]:
        return HOLDS
    return FAILS if end["gap"] <= 0 else OPEN


def is_better(paired):
    """Whether the first of two networks is better on the same faces."""
    if paired["p"] >= SIGNIFICANCE:
        return OPEN
    return HOLDS if paired["difference"] > 0 else FAILS


def class_finding(key, measured, claimed, intervals):
    """The finding that the class `claimed` leads, in other words where it is the class `measured`."""
    return Finding(f"{key}_same" if measured == claimed else key, has_highest(claimed, intervals))


def has_highest(name, intervals):
    """Whether `name` has the highest of {name: [value, low, high]}; open where intervals overlap."""
    _, low, high = intervals[name]
    others = [interval for other, interval in intervals.items() if other != name]
    if any(other[1] > high for other in others):
        return FAILS
    return HOLDS if all(other[2] < low for other in others) else OPEN


def has_most(name, counts):
    """Whether `name` has the highest of {name: count}, by the binomial test against the highest other one."""
    from scipy.stats import binomtest

    other = max(count for key, count in counts.items() if key != name)
    if binomtest(counts[name], max(counts[name] + other, 1)).pvalue >= SIGNIFICANCE:
        return OPEN
    return HOLDS if counts[name] > other else FAILS
