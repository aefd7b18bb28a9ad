"""The report's words, filled with numbers from the results.

The words are in assets/text.toml, both languages side by side; a sentence there holds no number of its own,
only fields `{path:form}` that name a result.
"""

import string
import tomllib
from pathlib import Path

LANGUAGES = ("en", "zh-Hant")
SMALLEST_P = 0.001  # that is written out
FORMS = {  # a number and its sign stay on one line
    "pct": lambda share: f"{100 * share:.1f}\u00a0%",
    "pct0": lambda share: f"{100 * share:.0f}\u00a0%",
    "ci": lambda interval: "{:.1f}\u00a0% [{:.1f},\u00a0{:.1f}]".format(*(100 * share for share in interval)),
    "points": lambda difference: f"{100 * difference:+.1f}".replace("-", "\u2212"),
    "size": lambda difference: f"{100 * difference:.1f}",
    "p": lambda p: f"<\u00a0{SMALLEST_P}" if p < SMALLEST_P else f"=\u00a0{p:.2g}",
    "int": lambda count: f"{count:,}",
}


def asset(name):
    """The text of a file in assets/."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


WORDS = tomllib.loads(asset("text.toml"))
FIGURES = tomllib.loads(asset("figures.toml"))
ORIGINAL = tomllib.loads(asset("original.toml"))


class FieldFormatter(string.Formatter):
    """Fills a sentence's fields from the results and remembers which it used: `values` is {path: value}.

    Forms are those of FORMS, `class` and `source` (in the language's words), and Python's own.
    """

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
        if format_spec in FORMS:
            return FORMS[format_spec](value)
        if format_spec == "class":
            return class_name(value, self.language)
        if format_spec == "source":
            return source_name(value, self.language)
        return format(value, format_spec)


def sentence(finding, results, language):
    """A finding in words: {"key", "text", "verdict", "values": {path in the results: value}}."""
    formatter = FieldFormatter(results, language, finding.where)
    text = formatter.vformat(WORDS["sentences"][finding.key][language], (), {})
    return {"key": finding.key, "text": text, "verdict": finding.verdict, "values": formatter.values}


def label(key, language, *values):
    """A heading or label, its {0} {1} filled."""
    text = WORDS["labels"][key][language]
    return text.format(*values) if values else text


def class_name(name, language):
    """A class's name in the language; as it is where the model's classes are not the seven expressions."""
    return WORDS["classes"].get(name, {language: name})[language]


def source_name(source, language):
    """Where faces come from (`Faces.source`) in the language's words."""
    for beginning, words in WORDS["sources"].items():
        if source.startswith(beginning):
            return words[language].format(source_name(source.removeprefix(beginning), language))
    return source
