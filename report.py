"""All five questions at once: every figure, and each answer in numbers, sentences and verdicts.

    python report.py                              your own models; what is missing is trained first
    python report.py --models released            the released models, nothing is trained
    python report.py --language zh-Hant           the report in Traditional Chinese
    python report.py --claims --seeds 3           re-run the original's claims for the next report
    python report.py --data sample --limit 500    a try-out in a few minutes, without any data

Training the four networks on all of FER2013 took 21 minutes on two cores (the seconds in the released model
cards). Writes figures/report.html (one file, to be opened in a browser), report.md and report.json, and the
other scripts' figures in figures/report/. With --claims: models/claims.json and claims.csv; each
configuration's result is kept in models/claims/, so that an interrupted run continues.
"""

import contextlib
import shlex
import time
from pathlib import Path

from utils import cli
from utils.cli import UserError
from utils.files import check_outputs, read_json, relative_path, write_json, write_text

NETWORKS = {  # role in the report: own model, released model, what trains it
    "cnn": ("cnn", "fer2013-report-cnn", ["train_cnn.py"]),
    "oversampled": ("cnn-oversampled", "fer2013-report-cnn-oversampled", ["train_cnn.py", "--oversample"]),
    "dnn": ("dnn", "fer2013-matched-dnn", ["train_dnn.py"]),
    "report_dnn": ("dnn-report", "fer2013-report-dnn", ["train_dnn.py", "--network", "report"]),
}
FILTER_FACES = 2000  # that the filters are measured on


def main(argv=None):
    """Write the report, or with --claims the table of claims; returns the results (nested dicts)."""
    args = parse_args(argv)
    cli.start_keras()
    from reporting import claims, page, pictures, results
    from reporting.text import ORIGINAL
    from training.figures import describe_layers
    from utils import evaluation, metrics, models, structure

    test = evaluation.faces_to_evaluate([], args.test, args.test_labels) if args.test else None
    if args.claims:
        return claims.rerun(args, test)

    # ---- Networks and faces: own networks are trained where they are missing
    paths = find_networks(args)
    networks = {role: results.read_network(path) for role, path in paths.items()}
    training, evaluated, evaluation_options = choose_faces(args, paths)
    loaded = {role: evaluation.load_networks([path]) for role, path in paths.items()}

    # ---- Figures, each by the script that answers its question
    commands, drawn, figures = draw_figures(args, paths, evaluation_options)
    commands = {role: network["command"] for role, network in networks.items()} | commands

    # ---- Results: of the scripts, and what is measured here
    probabilities = {role: evaluation.probabilities(network, evaluated.images)
                     for role, network in loaded.items()}
    networks = results.compare_networks(networks, probabilities, evaluated.labels)
    if test:
        for role, network in loaded.items():
            scores = metrics.measure(evaluation.probabilities(network, test.images), test.labels)
            networks[role]["test"] = {"data": test.source, "rows": len(test), "accuracy": scores["accuracy"]}
    cnn = loaded["cnn"][0]
    for role in ("cnn", "dnn"):
        networks[role]["layers"] = [describe_layers([layer]) for layer in loaded[role][0].layers]
    logits = structure.logits_model(cnn)
    limit = evaluation.split_of(paths["cnn"])["limit"]
    trained_on = results.data_results(training, limit)
    sweep, claims_again = (find_results(args, kind) for kind in ("sweep", "claims"))
    if sweep:
        commands["sweep"] = sweep["search"]
        figures["sweep"] = sorted(models.FIGURES.glob(f"{sweep['name']}_*.png"))
    if claims_again:
        commands["claims"] = claims_again["command"]
    measured = {
        "data": trained_on,
        "evaluated": {"source": evaluated.source, "rows": len(evaluated),
                      "on_other_data": "--data" in evaluation_options},
        "original": ORIGINAL["results"],
        "models": networks,
        "confusion": results.confusion_results(drawn["confusion"], trained_on),
        "saliency": results.saliency_results(logits, evaluated, drawn["saliency"]),
        "filters": results.filter_results(drawn["filters"], min(args.limit or FILTER_FACES, len(training))),
        "sweep": sweep,
        "claims": claims_again,
    }

    # ---- The page
    report = page.compose(measured, commands, figures, args.language)
    drawings = pictures.all_pictures(measured, cnn, probabilities["cnn"], evaluated, training,
                                     drawn["filters"], args.language)
    html_path, markdown_path, json_path = written = list(output_paths(args.out))
    write_text(html_path, page.render("page.html", report, **drawings))
    write_text(markdown_path, page.render("page.md", report, folder=args.out.parent))
    write_json(json_path, report)
    print()
    cli.print_table(page.model_table(measured, "en"))
    print("Wrote " + ", ".join(map(relative_path, written)))
    return measured


def parse_args(argv):
    from reporting.text import LANGUAGES
    from utils.models import FIGURES

    parser = cli.Parser(__doc__)
    option = parser.add_argument
    option("--models", choices=("own", "released"), default="own", help="own ones are trained where missing")
    option("--data", type=cli.data_path,
           help="faces to train and to measure on (default: data/*.csv, else the built-in sample)")
    option("--limit", type=cli.number(int, 16),
           help="train, and measure filters, on the first LIMIT faces, to try out")
    option("--epochs", type=cli.number(int, 1),
           help="epochs of the networks that are trained (default: each one's recipe)")
    option("--test", type=Path, metavar="FILE", help="labelled test faces to score the networks on as well")
    option("--test-labels", type=Path, metavar="ID_LABEL.csv",
           help="id,label CSV for a --test without labels")
    option("--language", choices=LANGUAGES, default="en", help="language of the report")
    option("--out", type=Path, metavar="PAGE.html",
           help="the .md and .json go beside it (default: figures/report.html)")
    option("--claims", action="store_true",
           help="re-run the claims about training instead: hours on all faces")
    option("--seeds", type=cli.number(int, 1), default=3, help="seeds per configuration with --claims")
    args = parser.parse_args(argv)
    args.out = args.out or FIGURES / "report.html"
    if args.out.suffix != ".html":
        raise UserError(f"--out {args.out} must end in .html")
    if args.test_labels and not args.test:
        raise UserError(f"--test-labels {args.test_labels} belongs to a --test; name the file of faces too")
    check_outputs([] if args.claims else output_paths(args.out))
    return args


def output_paths(out):
    """The report's three files: {path: first key of its JSON}."""
    return {out: "", out.with_suffix(".md"): "", out.with_suffix(".json"): "language"}


def run(script, *arguments, quiet=True):
    """Call a script and print its command and seconds; returns the command and what the script returned."""
    from reporting.scripts import run_script

    arguments = [str(argument) for argument in arguments]
    command, start = f"python {script} {shlex.join(arguments)}", time.monotonic()
    print(command, flush=True)
    result = run_script(script, arguments, quiet)
    print(f"    {time.monotonic() - start:.0f} s", flush=True)
    return command, result


# ---- networks and faces ------------------------------------------------------------------------------------


def find_networks(args):
    """The networks' files, {role: path}; of own ones those that are missing are trained."""
    from reporting.scripts import given
    from utils import models

    paths = {}
    for role, (own, released, training) in NETWORKS.items():
        name = released if args.models == "released" else own
        paths[role] = models.MODELS / f"{name}.h5"
        if not paths[role].exists() or not models.card_path(paths[role]).exists():
            if args.models == "released":
                raise UserError(f"{relative_path(paths[role])} is missing; restore it, or leave out "
                                "--models released")
            run(*training, "--name", name, *given(args, "data", "limit", "epochs"), quiet=False)
    return paths


def find_results(args, kind):
    """The results of an earlier "sweep" or of --claims (dict), None without any."""
    from utils import models

    path = models.MODELS / ("fer2013-" * (args.models == "released") + f"{kind}.json")
    return read_json(path) if path.exists() else None


def choose_faces(args, paths):
    """The training faces, the faces that the networks are evaluated on, and plot_confusion.py's options for
    these: the networks' validation split where the data are what they were trained on, else all of --data."""
    from utils import data, evaluation

    split = evaluation.split_of(paths["cnn"])
    training = data.training_part(data.find_data(args.data, split.get("classes"), split["labels_from"]))
    if training.take(slice(0, split["limit"])).fingerprint() == split["fingerprint"]:
        evaluated = evaluation.faces_to_evaluate([*paths.values()], training_data=args.data)
        return training, evaluated, ["--training-data", args.data] if args.data else []
    source = args.data or ("sample" if training.source == "built-in sample" else training.source)
    evaluated = evaluation.faces_to_evaluate([*paths.values()], source)
    return training, evaluated, ["--data", source]


# ---- figures -----------------------------------------------------------------------------------------------


def draw_figures(args, paths, evaluation_options):
    """Have every figure drawn in the report's own folder, figures/report/ for figures/report.html.

    Returns {section: command} of the scripts, {section: result of the script} and {section: its figures}.
    """
    from reporting.results import HOMEWORK_IMAGE
    from reporting.scripts import given
    from train_dnn import draw_comparison
    from training import figures
    from utils import models

    cnn, dnn = (relative_path(paths[role]) for role in ("cnn", "dnn"))
    homework = ["--model", cnn, "--index", HOMEWORK_IMAGE, *given(args, "data")]
    scripts = {
        "confusion": ["plot_confusion.py", "--model", cnn, "--compare", dnn, *evaluation_options,
                      "--out", relative_path(args.out.with_suffix("") / "confusion.png")],
        "saliency": ["saliency.py", *homework],
        "filters": ["filter_vis.py", *homework, "--patches", "--limit", args.limit or FILTER_FACES],
    }
    commands, drawn, written = {}, {}, {}
    with figures_in(args.out.with_suffix("")) as new_figures:
        for role in ("cnn", "dnn"):
            figures.training_figures(models.read_card(paths[role]))
            written[role] = new_figures()
        draw_comparison(paths["cnn"], models.read_card(paths["dnn"]))
        written["dnn"] += new_figures()
        for what, command in scripts.items():
            commands[what], drawn[what] = run(*command)
            written[what] = new_figures()
    return commands, drawn, written


@contextlib.contextmanager
def figures_in(folder):
    """Have the scripts write their figures to `folder`. Yields a function that returns the figures (PNG) that
    were written since it was last called, oldest first."""
    from utils import models

    def new_figures():
        times = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
        new = dict(sorted(times.items() - seen.items(), key=lambda item: item[1]))
        seen.update(times)
        return list(new)

    usual, models.FIGURES, seen = models.FIGURES, folder, {}
    new_figures()  # those of an earlier report
    try:
        yield new_figures
    finally:
        models.FIGURES = usual


if __name__ == "__main__":
    cli.run(main)
