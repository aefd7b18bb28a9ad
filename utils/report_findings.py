"""Which sentences the report may say: what was found, and whether the original report's claim holds on these results.

A finding names a sentence of `utils.report_text`; the numbers come from the results when the sentence is written.
"""

import dataclasses
import math

HOLDS, FAILS, OPEN = "holds", "fails", "open"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
LEVEL = 0.05  # of McNemar's test
RING_IS_DARK = 0.1  # the outer ring is near zero when its mean is at most this share of the centre's


@dataclasses.dataclass(frozen=True)
class Finding:
    """key: of the sentence; verdict: on the original's claim, or None where it makes none; where: {alias: path in the
    results} for sentences that are said of several things."""

    key: str
    verdict: str | None = None
    where: dict = dataclasses.field(default_factory=dict)


def findings(results):
    """Every finding of the results (as `utils.report_results.collect` gives them): {section: [Finding]}, in order."""
    found = {"data": about(results), "cnn": cnn(results), "dnn": dnn(results), "confusion": confusion(results["confusion"]),
             "saliency": saliency(results["saliency"]), "filters": filters(results["filters"]),
             "claims": claims(results["claims"])}
    if results["data"]["is_sample"]:  # drawn faces say nothing about claims on photographs
        found = {section: [dataclasses.replace(one, verdict=None) for one in listed] for section, listed in found.items()}
    return found


def tally(found):
    """How many of the original's claims hold, do not hold and stay open: {"claims", "holds", "fails", "open"}."""
    verdicts = [one.verdict for listed in found.values() for one in listed if one.verdict]
    return {"claims": len(verdicts)} | {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, OPEN)}


def about(results):
    found = [Finding("data")]
    if results["data"]["is_sample"]:
        found.append(Finding("data_is_drawn"))
    if results["data"]["is_limited"]:
        found.append(Finding("data_is_limited"))
    if results["judged"]["on_other_data"]:
        return found + [Finding("judged_on_other_data")]
    return found + [Finding("judged_and_kept" if results["models"]["cnn"]["keep"] == "best" else "judged_on_split")]


def cnn(results):
    network = results["models"]["cnn"]
    found = [Finding("cnn_size"), Finding("cnn_time"), Finding("cnn_accuracy")]
    if network["test"]:
        _, low, high = network["test"]["accuracy"]
        claimed = results["original"]["kaggle"]
        found.append(Finding("cnn_test_below" if high < claimed else "cnn_test_above" if low > claimed else "cnn_test_same"))
    found.append(Finding("overfitting", overfits(network)))
    if "oversampled" in results["models"]:
        found.append(Finding("oversampling", gain(results["models"]["oversampled"]["against_cnn"])))
        if network["test"] and results["models"]["oversampled"]["test"]:
            found.append(Finding("oversampling_test"))
    return found


def overfits(network):
    """Validation accuracy flattens under training accuracy: a gap beyond twice its error, and a loss that has turned."""
    end, lowest = network["end"], network["lowest_loss"]
    error = math.sqrt(end["validation_accuracy"] * (1 - end["validation_accuracy"]) / network["validation_rows"])
    if end["gap"] > 2 * error and lowest["epoch"] < end["epoch"]:
        return HOLDS
    return FAILS if end["gap"] <= 0 else OPEN


def gain(paired):
    """Whether the first of a pair of networks on the same faces is the better one."""
    if paired["p"] >= LEVEL:
        return OPEN
    return HOLDS if paired["difference"] > 0 else FAILS


def dnn(results):
    networks = results["models"]
    report = networks["report_dnn"]
    found = [Finding("dnn_size", HOLDS if report["parameters"] == results["original"]["dnn_parameters"] else FAILS),
             Finding("dnn_matched", gain(networks["dnn"]["cnn_against"])),
             Finding("dnn_report", gain(report["cnn_against"]))]
    fall = report["best"]["validation_accuracy"] - report["end"]["validation_accuracy"]
    error = math.sqrt(max(report["end"]["validation_accuracy"] * (1 - report["end"]["validation_accuracy"]), 1e-9)
                      / report["validation_rows"])
    return found + [Finding("dnn_end", HOLDS if fall > error else FAILS if fall <= 0 else OPEN)]


def confusion(c):
    found = [Finding("accuracy"), Finding("calibration")]
    recall = {name: interval for name, interval in c["recall"].items() if interval[0] is not None}
    if "surprise" in recall:
        found.append(worded("best_class", c["best"]["class"] == "surprise", leads("surprise", recall)))
    if "sad" in recall:
        low = {name: [-value, -high, -low] for name, (value, low, high) in recall.items()}
        found.append(worded("worst_class", c["worst"]["class"] == "sad", leads("sad", low)))
    if c["sad_taken_for"]:
        shares = {pair["predicted"]: pair["share"] for pair in c["pairs"] if pair["true"] == "sad"}
        shares["fear"] = c["sad_taken_for_fear"]["share"]
        found.append(worded("sad_for_fear", c["sad_taken_for"]["class"] == "fear", leads("fear", shares)))
    if c["errors"]:
        found.append(worded("fear_attracts", c["attracts"]["class"] == "fear", most("fear", c["called"])))
    largest, fewest = c["largest_class"], c["smallest_class"]
    if largest["recall"][0] is not None:
        found.append(Finding("largest_not_best", OPPOSITE[leads(largest["class"], recall)]))
    if fewest["recall"][0] is not None:
        (_, low, high), mean = fewest["recall"], c["mean_recall"]
        found.append(Finding("smallest_not_bad", FAILS if high < mean else HOLDS if low >= mean else OPEN))
    return found + [Finding("pair", where={"pair": f"confusion.top_pairs.{i}"}) for i in range(len(c["top_pairs"]))]


def worded(key, is_it, verdict):
    """The finding of a claim about one class, in other words where the class is the one that was claimed."""
    return Finding(f"{key}_same" if is_it else key, verdict)


def leads(name, intervals):
    """Whether `name` has the highest of the values {name: [value, low, high]}; open where an interval reaches into another."""
    _, low, high = intervals[name]
    others = [interval for other, interval in intervals.items() if other != name]
    if any(other[1] > high for other in others):
        return FAILS
    return HOLDS if all(other[2] < low for other in others) else OPEN


def most(name, counts):
    """Whether `name` has the highest of the counts {name: number}, by the binomial test against the highest other one."""
    from scipy.stats import binomtest

    other = max(count for key, count in counts.items() if key != name)
    if binomtest(counts[name], max(counts[name] + other, 1)).pvalue >= LEVEL:
        return OPEN
    return HOLDS if counts[name] > other else FAILS


def saliency(s):
    centre, ring = s["centre"], s["ring_to_centre"]
    found = [Finding("saliency_image")]
    found.append(Finding("saliency_centre", HOLDS if centre[1] > s["centre_area"] else
                         FAILS if centre[2] < s["centre_area"] else OPEN))
    found.append(Finding("saliency_ring", HOLDS if ring[2] <= RING_IS_DARK else FAILS if ring[1] > RING_IS_DARK else OPEN))
    found.append(Finding("saliency_image_kept"))
    above = s["kept_above_random"]
    return found + [Finding("saliency_kept", HOLDS if above[1] > 0 else FAILS if above[2] < 0 else OPEN)]


def filters(layers):
    found = []
    for i, layer in enumerate(layers):
        where = {"layer": f"filters.{i}"}
        found.append(Finding("filters_some" if layer["left_out"] else "filters_all", where=where))
        if layer["eta_squared"] is not None:
            found.append(Finding("filters_classes", where=where))
        found.append(Finding("filters_outputs", where=where))
    return found


def claims(c):
    return [Finding("claims_intro")] if c else [Finding("claims_none")]
