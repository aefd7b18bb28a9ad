"""The report as one self-contained HTML file and as Markdown, from results, sentences and the figures' files."""

import base64
import hashlib
import html
import json
import os

from utils.report_text import ASSETS, WORDS, class_name, label

SECTIONS = ("data", "cnn", "dnn", "confusion", "saliency", "filters", "claims")
ROLES = ("cnn", "oversampled", "dnn", "report_dnn")


class Html(str):
    """Text that is already HTML; everything else is escaped by `tag`."""


def tag(name, /, *children, **attributes):
    """An HTML element: children are Html, or text to escape; attributes `class_` and `aria_label` become class, aria-label."""
    told = "".join(f' {key.rstrip("_").replace("_", "-")}' + ("" if value is True else f'="{html.escape(str(value))}"')
                   for key, value in attributes.items() if value is not None and value is not False)
    inside = "".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children)
    return Html(f"<{name}{told}>" + ("" if name in ("img", "input", "meta", "br") else f"{inside}</{name}>"))


# ---- tables, shared by both forms ------------------------------------------------------------------------------


def model_table(results, language):
    """Header and rows (text) of the table of networks."""

    def percent(value):
        if value is None:
            return "–"
        return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * v for v in value)) if isinstance(value, list) else f"{100 * value:.1f}"

    judged = "judged" if results["judged"]["on_other_data"] else "validation"
    header = [label(key, language) for key in ("role", "model", "parameters", "training", judged, "test")]
    rows = [[label(f"role_{role}", language), m["name"], f"{m['parameters']:,}", percent(m["training_accuracy"]),
             percent(m["judged"]), percent(m["test"] and m["test"]["accuracy"])]
            for role, m in ((role, results["models"].get(role)) for role in ROLES) if m]
    return header, rows


def layer_table(results, language):
    header = [label(key, language) for key in ("layer", "kind", "output", "parameters")]
    return header, [[layer["name"], f"{layer['kind']} {layer['what']}".strip(), layer["output"], f"{layer['parameters']:,}"]
                    for layer in results["models"]["cnn"]["layers"]]


def claim_table(claims, language):
    """Header and rows of the claims: what the original report says, means ± sd, paired difference, verdict."""
    header = [label(key, language) for key in ("claim", "changed", "score", "baseline", "score", "difference", "verdict")]

    def spread(score):
        return f"{100 * score['mean']:.1f}" + (f" ± {100 * score['sd']:.1f}" if score["sd"] is not None else "")

    def difference(claim):
        value, low, high = claim["difference"]
        return f"{100 * value:+.1f}" + (f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low is not None else "")

    return header, [[claim["words"][language], claim["changed"], spread(claim["score"]), claim["baseline"],
                     spread(claim["baseline_score"]), difference(claim), WORDS["badges"][claim["verdict"]][language]]
                    for claim in claims["claims"]]


def tables_of(section, results, language):
    """The tables of a section: a list of (caption, header, rows)."""
    if section == "data":
        return [(label("networks", language), *model_table(results, language))]
    if section == "cnn":
        return [(label("layers", language), *layer_table(results, language))]
    if section == "claims" and results["claims"]:
        return [(label("claims", language), *claim_table(results["claims"], language))]
    return []


# ---- HTML ------------------------------------------------------------------------------------------------------


def page(report, pictures, language):
    """The whole page as text.

    report: what report.json holds: {"results", "sections": {section: [sentence as `report_text.say` gives it]}, "figures":
    {section: [{"path", "label", "alt", "command"}]}, "commands"}; pictures: what `utils.report_faces` gives, by part.
    """
    script, style = (ASSETS / "page.js").read_text("utf-8"), (ASSETS / "page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    keys = ("slider_said", "cell_of", "surest", "patches_of", "training_image")
    data = {"pictures": pictures, "words": {key: label(key, language) for key in keys},
            "classes": {name: class_name(name, language) for name in WORDS["classes"]}}
    head = tag("head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy),
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("title", label("title", language)), tag("style", Html(style)))
    header = tag("header", tag("button", label("theme", language), id="theme", type="button", class_="script-only"),
                 tag("h1", label("title", language)), tag("p", label("subtitle", language), class_="subtitle"))
    contents = tag("nav", tag("h2", label("contents", language), id="contents"), tag("ol", *(
        tag("li", tag("a", label(section, language), href=f"#{section}")) for section in SECTIONS)),
        aria_labelledby="contents")
    body = tag(
        "body", tag("a", label("skip", language), class_="skip", href="#report"), header, contents,
        tag("main", *(html_section(section, report, pictures, language) for section in SECTIONS), id="report", tabindex="-1"),
        tag("footer", tag("h2", label("commands", language)), tag("p", label("commands_hint", language)),
            tag("ul", *(tag("li", html_command(command)) for command in report["commands"]), class_="commands"),
            tag("p", label("footer", language))),
        tag("dialog", tag("button", label("close", language), type="button", id="close"),
            tag("img", alt="", id="large"), tag("p", id="large-caption"), id="viewer", aria_label=label("enlarge", language)),
        tag("script", Html(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")), id="pictures",
            type="application/json"),
        tag("script", Html(script)))
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang=language) + "\n"


def html_section(section, report, pictures, language):
    results = report["results"]
    parts = [tag("h2", label(section, language), id=f"{section}-title")]
    parts += [tag("p", sentence["text"], *verdict(sentence, language), class_="finding")
              for sentence in report["sections"][section]]
    tables = [html_table(*table) for table in tables_of(section, results, language)]
    figures = [html_figure(figure, language) for figure in report["figures"].get(section, [])]
    if section == "cnn":  # the figure of the architecture shows the same
        figures.insert(1, tag("details", tag("summary", label("layers_folded", language)), *tables))
    else:
        parts += tables
    interactive = {"confusion": (1, html_confusion), "saliency": (1, html_slider), "filters": (0, html_tiles)}
    if section in interactive:
        place, made = interactive[section]
        figures.insert(place, made(results, pictures, language))
    return tag("section", *parts, *figures, id=section, aria_labelledby=f"{section}-title")


def verdict(sentence, language):
    """The verdict on the original report's claim, behind its sentence: a list of Html."""
    if sentence["verdict"] is None:
        return []
    words = WORDS["verdicts"][sentence["verdict"]][language]
    return [Html(" "), tag("strong", words, class_=f"verdict {sentence['verdict']}")]


def html_table(caption, header, rows):
    """A table in a box that scrolls by itself where the window is narrow."""
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in header))),
                tag("tbody", *(tag("tr", tag("th", row[0], scope="row"), *(html_cell(cell) for cell in row[1:]))
                               for row in rows)))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def html_cell(text):
    """A table's cell; an interval in brackets goes below its value."""
    value, bracket, interval = text.partition(" [")
    return tag("td", value, tag("small", f"[{interval}")) if bracket else tag("td", text)


def html_figure(figure, language):
    source = "data:image/png;base64," + base64.b64encode(figure["path"].read_bytes()).decode()
    image = tag("img", src=source, alt=figure["alt"])
    button = tag("button", image, type="button", class_="enlarge", aria_label=f"{label('enlarge', language)}: {figure['alt']}")
    return tag("figure", button, tag("figcaption", tag("span", figure["label"], class_="label"), tag("br"),
                                     label("made_by", language), " ", html_command(figure["command"])))


def html_command(command):
    """A command whose lines break between its words only, since a browser also breaks after the hyphens of an option."""
    words = [Html(part) for word in command.split() for part in (" ", tag("span", word))]
    return tag("code", *words[1:])


def html_confusion(results, pictures, language):
    """The confusion matrix as a table of buttons, each showing its faces."""
    counts, names = results["confusion"]["counts"], list(results["confusion"]["recall"])
    said = [class_name(name, language) for name in names]
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = []
        for j, count in enumerate(row):
            share = count / total if total else 0
            cells.append(tag("td", tag("button", f"{100 * share:.0f}", tag("small", f"{count:,}"), type="button",
                                       class_="cell" + (" right" if i == j else ""), data_cell=f"{i}-{j}",
                                       style=f"--share:{100 * share:.0f}%", aria_pressed="false",
                                       aria_label=label("cell_of", language, said[i], said[j], count))))
        rows.append(tag("tr", tag("th", said[i], scope="row"), *cells))
    head = tag("tr", tag("th", label("true_predicted", language), scope="col"), *(tag("th", n, scope="col") for n in said))
    table = tag("table", tag("caption", label("cells_caption", language)), tag("thead", head), tag("tbody", *rows),
                class_="matrix")
    return tag("div", tag("h3", label("cells", language)), tag("p", label("cells_hint", language)),
               tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label("cells", language)),
               tag("div", id="faces", aria_live="polite"), class_="script-only interactive")


def html_slider(results, pictures, language):
    """Original, heat map and masked face, drawn for the share of the area that the slider keeps."""
    options = [tag("option", label("training_image", language, face["number"], class_name(face["label"], language)), value=i)
               for i, face in enumerate(pictures["saliency"])]
    canvases = [tag("figure", tag("canvas", id=f"canvas-{kind}", width=48, height=48, role="img",
                                  aria_label=label(f"{kind}_image" if kind != "heat" else "heat_map", language)),
                    tag("figcaption", label(f"{kind}_image" if kind != "heat" else "heat_map", language)))
                for kind in ("original", "heat", "masked")]
    return tag("div", tag("h3", label("slider", language)),
               tag("p", tag("label", label("slider_face", language), " ", tag("select", *options, id="slider-face"))),
               tag("p", tag("label", label("slider_share", language), " ",
                            tag("input", type="range", id="slider-share", min=5, max=100, step=5, value=20)), " ",
                   tag("output", id="slider-output", for_="slider-share slider-face")),
               tag("div", *canvases, class_="triptych"), class_="script-only interactive")


def html_tiles(results, pictures, language):
    """The filters as buttons; hovering or focusing one shows the data's patches that excite it most."""
    parts = [tag("h3", label("tiles", language)), tag("p", label("tiles_hint", language))]
    for i, layer in enumerate(pictures["filters"]):
        tiles = [tag("button", tag("img", src=tile["tile"], alt="", width=48, height=48), tag("small", f"#{tile['filter']}"),
                     type="button", class_="tile", data_tile=f"{i}-{k}", aria_label=label("filter", language, tile["filter"]))
                 for k, tile in enumerate(layer["tiles"])]
        parts += [tag("h4", layer["layer"]), tag("div", *tiles, class_="tiles"),
                  tag("div", id=f"patches-{i}", class_="patches", aria_live="polite")]
    return tag("div", *parts, class_="script-only interactive") if pictures["filters"] else Html("")


# ---- Markdown --------------------------------------------------------------------------------------------------


def markdown(report, folder, language):
    """The report as Markdown whose figures are named relative to `folder`."""
    lines = [f"# {label('title', language)}", "", label("subtitle", language), ""]
    for section in SECTIONS:
        lines += [f"## {label(section, language)}", ""]
        for sentence in report["sections"][section]:
            told = f" **{WORDS['verdicts'][sentence['verdict']][language]}**" if sentence["verdict"] else ""
            lines += [escaped(sentence["text"]) + told, ""]
        for _, header, rows in tables_of(section, report["results"], language):
            lines += [" | ".join(["", *map(escaped, header), ""]).strip(), "|" + "---|" * len(header)]
            lines += [" | ".join(["", *map(escaped, row), ""]).strip() for row in rows] + [""]
        for figure in report["figures"].get(section, []):
            place = os.path.relpath(figure["path"], folder).replace(os.sep, "/").replace(" ", "%20")
            lines += [f"![{escaped(figure['alt'])}]({place})", "", f"{escaped(figure['label'])}: `{figure['command']}`", ""]
    return "\n".join(lines)


def escaped(text):
    """Text with Markdown's own signs escaped."""
    return "".join("\\" + sign if sign in "\\`*_[]<>|#" else sign for sign in str(text))
