"""The report's words, filled with numbers from the results. The words are in report_assets/text.toml, both languages side by
side; a sentence there holds no number of its own, only fields `{path:form}` that name a result.
"""

import string
import tomllib
from pathlib import Path

LANGUAGES = ("en", "zh-Hant")
SMALLEST_P = 0.001  # that is written out
ASSETS = Path(__file__).resolve().parent / "report_assets"
WORDS = tomllib.loads((ASSETS / "text.toml").read_text(encoding="utf-8"))


class Filler(string.Formatter):
    """Fill a sentence's fields from the results, remembering which ones it used: `values` is {path: value}."""

    def __init__(self, results, language, where):
        self.results, self.language, self.where, self.values = results, language, where, {}

    def get_field(self, field_name, args, kwargs):
        head, _, rest = field_name.partition(".")
        path = self.where.get(head, head) + (f".{rest}" if rest else "")
        value = self.results
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        self.values[path] = value
        return value, field_name

    def format_field(self, value, format_spec):
        return shape(value, format_spec, self.language)


def shape(value, form, language):
    """A value as text. Forms: pct (0.573 -> 57.3 %), pct0 (0.58 -> 58 %), ci ([value, low, high] -> 57.3 % [55.7, 58.8]),
    points (0.005 -> +0.5), size (0.181 -> 18.1), p (of a test: = 0.35, < 0.001), int (6,615,495), class and source (in the
    language's words), and Python's. A number and its sign stay on one line."""
    if form == "pct":
        return f"{100 * value:.1f}\u00a0%"
    if form == "pct0":
        return f"{100 * value:.0f}\u00a0%"
    if form == "ci":
        return "{:.1f}\u00a0% [{:.1f},\u00a0{:.1f}]".format(*(100 * number for number in value))
    if form == "points":
        return f"{100 * value:+.1f}".replace("-", "\u2212")
    if form == "size":
        return f"{100 * value:.1f}"
    if form == "p":
        return f"<\u00a0{SMALLEST_P}" if value < SMALLEST_P else f"=\u00a0{value:.2g}"
    if form == "int":
        return f"{value:,}"
    if form == "class":
        return class_name(value, language)
    if form == "source":
        return source_name(value, language)
    return format(value, form)


def say(finding, results, language):
    """A finding in words: {"key", "text", "verdict", "values": {path in the results: value}}."""
    filler = Filler(results, language, finding.where)
    text = filler.vformat(WORDS["sentences"][finding.key][language], (), {})
    return {"key": finding.key, "text": text, "verdict": finding.verdict, "values": filler.values}


def label(key, language, *values):
    """A heading or label, its {0} {1} filled."""
    text = WORDS["labels"][key][language]
    return text.format(*values) if values else text


def class_name(name, language):
    """A class's name in the language; as it is where the model's classes are not the seven expressions."""
    return WORDS["classes"][name][language] if name in WORDS["classes"] else name


def source_name(source, language):
    """Where faces come from (`Faces.source`) in the language's words."""
    for beginning, words in WORDS["sources"].items():
        if source.startswith(beginning):
            rest = source[len(beginning):]
            return words[language].format(source_name(rest, language))
    return source
