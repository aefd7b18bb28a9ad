"""The page's words in two languages, of assets/text.toml, their fields `{path:form}` filled with results."""

import re
import tomllib
from pathlib import Path

LANGUAGES = ("en", "zh-Hant")
FIELD = re.compile(r"\{([\w.]+):?([^}]*)\}")
FORMS = {  # a number and its sign stay on one line
    "pct": lambda share: f"{100 * share:.1f}\u00a0%",
    "pct0": lambda share: f"{100 * share:.0f}\u00a0%",
    "ci": lambda interval: "{:.1f}\u00a0% [{:.1f},\u00a0{:.1f}]".format(*(100 * share for share in interval)),
    "points": lambda difference: f"{100 * difference:+z.1f}".replace("-", "\u2212"),
    "points_ci": lambda interval: "{:+z.1f} [{:+z.1f},\u00a0{:+z.1f}]".format(
        *(100 * difference for difference in interval)).replace("-", "\u2212"),
    "size": lambda difference: f"{100 * abs(difference):.1f}",
    "optimizer": lambda name: {"adam": "Adam", "sgd": "SGD", "muon": "Muon"}[name],
    "p": lambda p: "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.2g}",
}


def asset(name):
    """The text of a file in assets/."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


WORDS = tomllib.loads(asset("text.toml"))
ORIGINAL = tomllib.loads(asset("original.toml"))


def sentence(finding, results, language):
    """A finding in words: {"key", "text", "original": what the original report says of it ("" for nothing),
    "verdict" on that, "values": {path in the results: value}}. Where there are words for the finding's
    verdict (KEY_holds), these are used."""
    words, originals = WORDS["sentences"], WORDS["original"] if results["original"] else {}
    word = words.get(f"{finding.key}_{finding.verdict}") or words[finding.key]
    original = originals.get(finding.key.removesuffix("_same"), {}).get(language, "")
    text, values = fill(word[language], results, language, finding.part)
    original, used = fill(original, results, language)
    return {"key": finding.key, "text": text, "original": original,
            "verdict": finding.verdict if original else None, "values": values | used}


def fill(text, results, language, part=""):
    """A text with its fields filled, and {path in the results: value}. A path that begins with a point
    belongs to `part`; forms are those of FORMS, those below and Python's own."""
    values, forms = {}, FORMS | {
        "class": lambda name: WORDS["classes"][name][language],
        "region": lambda name: WORDS["regions"][name][language],
        "source": lambda source: source_name(source, language),
        "millions": lambda count: (f"{count / 1e6:.3g} million" if language == "en" else
                                   f"{float(f'{count / 1e4:.3g}'):,.0f} 萬"),
        "faces": lambda is_other: label("other_faces" if is_other else "validation_faces", language),
        "mistakes": lambda found: label("faces_each" if found["pairs"][1:] else "faces", language, label(
            "and", language).join(label("mistake", language, *map(forms["class"], pair))
                                  for pair in found["pairs"]), found["count"])}

    def replace(field):
        path, form = field.groups()
        path = part + path if path.startswith(".") else path
        value = results
        for name in path.split("."):
            value = value[int(name) if isinstance(value, list) else name]
        values[path] = value
        return forms[form](value) if form in forms else format(value, form)

    text = FIELD.sub(replace, text)
    return text.replace("\u00a0%", "%") if language == "zh-Hant" else text, values


def label(key, language, *values):
    """A heading or label, its {0} {1} filled."""
    return WORDS["labels"][key][language].format(*values)


def source_name(source, language):
    """Where faces come from (`Faces.source`) in the language's words."""
    for beginning, words in WORDS["sources"].items():
        if source.startswith(beginning):
            return words[language].format(source_name(source.removeprefix(beginning), language))
    return source
