"""The page's words, filled with numbers from the results.

The words are in assets/text.toml, both languages side by side; a sentence there holds no number of its own,
only fields `{path:form}` that name a result.
"""

import re
import tomllib
from pathlib import Path

LANGUAGES = ("en", "zh-Hant")
SMALLEST_P = 0.001  # that is written out
FIELD = re.compile(r"\{([\w.]+):?([^}]*)\}")
FORMS = {  # a number and its sign stay on one line
    "pct": lambda share: f"{100 * share:.1f}\u00a0%",
    "pct0": lambda share: f"{100 * share:.0f}\u00a0%",
    "ci": lambda interval: "{:.1f}\u00a0% [{:.1f},\u00a0{:.1f}]".format(*(100 * share for share in interval)),
    "points": lambda difference: f"{100 * difference:+.1f}".replace("-", "\u2212"),
    "points_ci": lambda interval: "{:+.1f} [{:+.1f},\u00a0{:+.1f}]".format(
        *(100 * difference for difference in interval)).replace("-", "\u2212"),
    "size": lambda difference: f"{100 * difference:.1f}",
    "p": lambda p: f"<\u00a0{SMALLEST_P}" if p < SMALLEST_P else f"=\u00a0{p:.2g}",
}


def asset(name):
    """The text of a file in assets/."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


WORDS = tomllib.loads(asset("text.toml"))
ORIGINAL = tomllib.loads(asset("original.toml"))


def sentence(finding, results, language):
    """A finding in words: {"key", "text", "original": what the original report says of it ("" for nothing),
    "verdict", "values": {path in the results: value}}. A path that begins with a point belongs to the
    finding's part; forms are those of FORMS, `class`, `source` and Python's own."""
    values, forms = {}, FORMS | {"class": lambda name: class_name(name, language),
                                 "source": lambda source: source_name(source, language)}

    def fill(field):
        path, form = field.groups()
        path = finding.part + path if path.startswith(".") else path
        value = results
        for name in path.split("."):
            value = value[int(name) if isinstance(value, list) else name]
        values[path] = value
        return forms[form](value) if form in forms else format(value, form)

    words = (WORDS["sentences"][finding.key], WORDS["original"].get(finding.key.removesuffix("_same"), {}))
    text, original = (FIELD.sub(fill, word.get(language, "")) for word in words)
    return {"key": finding.key, "text": text, "original": original, "verdict": finding.verdict,
            "values": values}


def label(key, language, *values):
    """A heading or label, its {0} {1} filled."""
    return WORDS["labels"][key][language].format(*values)


def class_name(name, language):
    """A class's name in the language."""
    return WORDS["classes"][name][language]


def source_name(source, language):
    """Where faces come from (`Faces.source`) in the language's words."""
    for beginning, words in WORDS["sources"].items():
        if source.startswith(beginning):
            return words[language].format(source_name(source.removeprefix(beginning), language))
    return source
