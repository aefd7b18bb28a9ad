"""Which sentences of `reporting.text` the page states, and whether the original report's claims hold here."""

import math
from typing import NamedTuple

from utils.metrics import wilson

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}


class Finding(NamedTuple):
    """A sentence of the page."""

    key: str
    verdict: str | None = None  # on the original report's claim, None where it makes none
    part: str = ""  # path in the results to what it is about, if it is used several times


def all_findings(results):
    """({section: [Finding] of its answer}, {section: [Finding]}), the sections in the page's order and first
    "notes". Of drawn faces, which decide nothing about claims on photographs, no finding has a verdict."""
    data, models, saliency, sweep = (results[key] for key in ("data", "models", "saliency", "sweep"))
    confusion, layers, image = results["confusion"], results["filters"], saliency["image"]
    kept = "saliency_image_rises" if image["p_kept"] > image["p_whole"] else "saliency_image_falls"
    cnn, dnn, report_dnn = (models.get(role) for role in ("cnn", "dnn", "report_dnn"))
    observed = [Finding("dnn_underfits" if dnn["end"]["gap"] <= 0 else "dnn_fit"),  # no better on seen faces
                *[Finding("dnn_flattens")] * bool(dnn["flattened"])]
    controls = [Finding(f"saliency_{control}", compare(saliency[f"kept_above_{control}"], 0))
                for control in ("random", "edges")]
    answers = {
        "cnn": [Finding("answer_cnn"), Finding("answer_cnn_fit", overfits(cnn))],
        "dnn": [Finding("answer_dnn", beats_dnn(dnn)), *observed],
        "confusion": [Finding("answer_confusion" if confusion["pairs"] else "answer_confusion_none",
                              has_highest("fear", confusion["sad_as"]))],
        "saliency": [Finding("answer_saliency", compare(saliency["centre"], saliency["centre_area"])),
                     *controls],
        "filters": filter_images(layers) or [Finding("answer_filters_none")],
    }
    sections = {
        "notes": ([Finding("data_is_drawn")] * data["is_sample"]
                  + [Finding("data_is_limited")] * bool(data["limit"])),
        "cnn": [Finding("cnn_architecture"), Finding("cnn_training"), Finding("cnn_time"),
                Finding("overfitting", overfits(cnn)), Finding("cnn_accuracy"),
                *[Finding("cnn_test")] * bool(cnn["test"]),
                Finding("oversampling", None if results["claims"] else  # which judges it with several seeds
                        is_better(models["oversampled"]["against_cnn"])),
                *[Finding("oversampling_test")] * bool(models["oversampled"]["test"])],
        "dnn": [Finding("dnn_size" if has_nearly_as_many(dnn) else "dnn_size_differs"),
                Finding("dnn_training"),
                *[Finding("dnn_slower")] * (dnn["learning_rate"] < cnn["learning_rate"]),
                Finding("dnn_matched", beats_dnn(dnn)), *observed,
                *([Finding("dnn_report_size", decide(has_nearly_as_many(report_dnn), True)),
                   Finding("dnn_report", is_better(report_dnn["cnn_against"])),
                   Finding("dnn_end", falls_near_end(report_dnn))] if report_dnn else [])],
        "confusion": confusion_findings(confusion, data),
        "saliency": [
            Finding("saliency_regions"),
            Finding("saliency_centre", compare(saliency["centre"], saliency["centre_area"])),
            Finding("saliency_ring", OPPOSITE[compare(saliency["ring_to_centre"], 0.1)]),  # near zero
            Finding("saliency_image"), *map(Finding, ["saliency_image_blank"] if image["blank"] else
                                            [kept, "saliency_image_densest"]),
            Finding("saliency_kept", compare(saliency["kept_above_controls"], 0)), *controls],
        "filters": filter_images(layers) + [
            Finding(key, part=f"filters.{i}") for i, layer in enumerate(layers) for key in (
                "filters_tones", "filters_strength" if layer["left_out"] else "filters_strength_all",
                "filters_classes", "filters_outputs_silent" if layer["image_silent"] else "filters_outputs")],
        "sweep": [Finding(
            "sweep_none" if not sweep else "sweep_best" if not sweep["confirmed"] else
            "sweep_helps" if compare(sweep["confirmed"]["difference"], 0) == HOLDS else "sweep")],
        "claims": [Finding("claims" if results["claims"] else "claims_none")],
        "data": [Finding("data"), Finding(
            "evaluated_on_other_data" if results["evaluated"]["on_other_data"] else
            "evaluated_on_split_of_best_epoch" if cnn["keep"] == "best" else "evaluated_on_split")],
    }
    if not results["original"]:
        del sections["claims"]
    if data["is_sample"]:
        return [{section: [finding._replace(verdict=None) for finding in listed]
                 for section, listed in part.items()} for part in (answers, sections)]
    return [answers, sections]


def filter_images(layers):
    """Which images activate the filters of each layer most."""
    findings = []
    for i, layer in enumerate(layers):
        findings.append(Finding("filters_stripes" if layer["striped"] > 0.5 else "filters_images",
                                part=f"filters.{i}"))
        findings += [Finding("filters_others", part=f"filters.{i}")] * bool(layer["others"])
    if layers and layers[-1]["striped"] < layers[0]["striped"]:
        findings.append(Finding("filters_deeper", part=f"filters.{len(layers) - 1}"))
    return findings


def confusion_findings(confusion, data):
    recall = {name: interval for name, interval in confusion["recall"].items() if interval[0] is not None}
    lowest = {name: [-value, -high, -low] for name, (value, low, high) in recall.items()}
    findings = [Finding("pair", part=f"confusion.pairs.{i}") for i in range(len(confusion["pairs"][:3]))]
    findings = [Finding("accuracy"), *[Finding("both_ways")] * bool(findings), *findings]
    for key, claimed, shares in (("best_class", "surprise", recall), ("worst_class", "sad", lowest),
                                 ("sad_for_fear", "fear", confusion["sad_as"])):
        if claimed in shares:
            leader = max(shares, key=lambda name: shares[name][0])
            findings.append(Finding(key + "_same" * (leader == claimed), has_highest(claimed, shares)))
    if confusion["errors"]:
        key = "fear_attracts" + "_same" * (confusion["attracts"]["class"] == "fear")
        shares = {name: [count / confusion["errors"], *wilson(count, confusion["errors"])]
                  for name, count in confusion["wrong_predictions"].items()}
        findings.append(Finding(key, has_highest("fear", shares)))
    largest, smallest = data["largest"]["class"], data["smallest"]["class"]
    if largest in recall:
        findings.append(Finding("largest_not_best", OPPOSITE[has_highest(largest, recall)]))
    if smallest in recall:
        (_, low, high), mean = confusion["smallest_class"]["recall"], confusion["mean_recall"]
        findings.append(Finding("smallest_not_bad", decide(low >= mean, high < mean)))
    return [*findings, Finding("calibration")]


def decide(holds, fails):
    """The verdict on a claim, given whether the results show that it holds and that it fails."""
    return HOLDS if holds else FAILS if fails else OPEN


def compare(interval, threshold):
    """Whether [value, low, high] lies above a threshold."""
    return decide(interval[1] > threshold, interval[2] < threshold)


def standard_error(network):
    """Standard error of the validation accuracy at the end, never quite zero."""
    share = network["end"]["val_accuracy"]
    return math.sqrt(max(share * (1 - share), 1e-9) / network["validation_rows"])


def overfits(network):
    """Whether training accuracy ends clearly above validation accuracy, whose loss has risen by then."""
    gap, has_risen = network["end"]["gap"], network["lowest_loss"]["epoch"] < network["end"]["epoch"]
    return decide(gap > 2 * standard_error(network) and has_risen, gap <= 0)


def falls_near_end(network):
    """Whether validation accuracy ends clearly below its best."""
    fall = network["best"]["val_accuracy"] - network["end"]["val_accuracy"]
    return decide(fall > standard_error(network), fall <= 0)


def is_better(paired):
    """Whether the first of two networks is better on the same faces, by McNemar's test at a level of 5 %."""
    is_significant = paired["p"] < 0.05
    return decide(is_significant and paired["difference"] > 0, is_significant)


def has_nearly_as_many(network):
    """Whether a network has nearly as many parameters as the CNN, as question 2 asks."""
    return abs(network["share_of_cnn"] - 1) <= 0.05


def beats_dnn(network):
    """Whether the CNN is better than the DNN; open where that has not nearly as many parameters."""
    return is_better(network["cnn_against"]) if has_nearly_as_many(network) else OPEN


def has_highest(name, intervals):
    """Whether `name` is highest of {name: [value, low, high]}: open if intervals overlap, None if absent."""
    if name not in intervals:
        return None
    _, low, high = intervals[name]
    others = [interval for other, interval in intervals.items() if other != name]
    return decide(all(other[2] < low for other in others), any(other[1] > high for other in others))
