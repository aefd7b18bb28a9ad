"""All five questions at once: every figure, and each answer in numbers, sentences and verdicts.

    python report.py                              your own models; what is missing is trained first
    python report.py --models released            the released models, nothing is trained
    python report.py --language zh-Hant           the report in Traditional Chinese
    python report.py --claims --seeds 3           re-run the original's claims for the next report
    python report.py --data sample --limit 500    a try-out in a few minutes, without any data

Training the four networks on all of FER2013 took 25 minutes on two cores (the seconds in the released model
cards). Writes figures/report.html (one file, to be opened in a browser), report.md and report.json, and the
other scripts' figures. With --claims: figures/claims.json and claims.csv; each configuration's result is kept
in models/claims/, so that an interrupted run continues.
"""

import shlex
import time
from pathlib import Path

from utils import cli
from utils.cli import UserError
from utils.files import check_outputs, relative_path, write_json, write_text

NETWORKS = {  # role in the report: own model, released model, what trains it
    "cnn": ("cnn", "fer2013-report-cnn", ["train_cnn.py"]),
    "oversampled": ("cnn-oversampled", "fer2013-report-cnn-oversampled", ["train_cnn.py", "--oversample"]),
    "dnn": ("dnn", "fer2013-matched-dnn", ["train_dnn.py"]),
    "report_dnn": ("dnn-report", "fer2013-report-dnn", ["train_dnn.py", "--network", "report"]),
}


def main(argv=None):
    """Write the report, or with --claims the table of claims; returns the results (nested dicts)."""
    args = parse_args(argv)
    cli.start_keras()
    from reporting import claims, page, pictures, results
    from utils import data

    test = data.load_labelled(args.test, args.test_labels) if args.test else None
    if args.claims:
        check_outputs(claims.output_paths())
        return claims.rerun(args, test)

    # ---- Networks: own ones are trained where they are missing
    paths = find_networks(args)
    networks = {role: results.read_network(path) for role, path in paths.items()}

    # ---- Faces: those that train, and those that all networks are evaluated on
    subject, data_options = choose_faces(args, paths)

    # ---- Figures, each by the script that answers its question
    commands, drawn = draw_figures(args, paths, data_options)

    # ---- Results and the page
    commands = {role: network["command"] for role, network in networks.items()} | commands
    measured = results.collect(subject, networks, drawn)
    report = page.compose(measured, commands, args.language)
    html_path, markdown_path, json_path = written = list(output_paths(args.out))
    write_text(html_path, page.html(report, pictures.collect(subject, drawn["filters"])))
    write_text(markdown_path, page.markdown(report, args.out.parent))
    write_json(json_path, page.as_json(report))
    print()
    cli.print_table(page.model_table(measured, "en"))
    print("Wrote " + ", ".join(map(relative_path, written)))
    return measured


def parse_args(argv):
    from reporting.text import LANGUAGES

    parser = cli.Parser(__doc__)
    parser.add_argument("--models", choices=("own", "released"), default="own",
                        help="own ones are trained where missing")
    parser.add_argument("--data", type=cli.data_path,
                        help="faces to train and to measure on (default: data/*.csv, else the sample)")
    parser.add_argument("--limit", type=cli.number(int, 16),
                        help="train and measure on the first LIMIT faces, to try out")
    parser.add_argument("--epochs", type=cli.number(int, 1),
                        help="of what is trained (default: each network's recipe)")
    parser.add_argument("--test", type=Path, metavar="FILE",
                        help="labelled test faces to score the networks on as well")
    parser.add_argument("--test-labels", type=Path, metavar="ID_LABEL.csv",
                        help="id,label CSV for a --test without labels")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the report")
    parser.add_argument("--out", type=Path, default=Path("figures/report.html"),
                        help="the .md and .json go beside it")
    parser.add_argument("--claims", action="store_true",
                        help="re-run the claims about training instead: hours on all faces")
    parser.add_argument("--seeds", type=cli.number(int, 1), default=3,
                        help="of every configuration of --claims")
    args = parser.parse_args(argv)
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
    from utils import models

    options = [part for name in ("data", "limit", "epochs") if getattr(args, name) is not None
               for part in (f"--{name}", getattr(args, name))]
    paths = {}
    for role, (own, released, training) in NETWORKS.items():
        name = released if args.models == "released" else own
        paths[role] = models.MODELS / f"{name}.h5"
        is_there = paths[role].exists() and models.card_path(paths[role]).exists()
        if not is_there and args.models == "released":
            raise UserError(
                f"{relative_path(paths[role])} is missing; restore it, or leave out --models released"
            )
        if not is_there:
            run(*training, "--name", name, *options, quiet=False)
        cli.inputs.append(paths[role])
    check_outputs(output_paths(args.out))
    return paths


def choose_faces(args, paths):
    """The report's Subject, and the options by which plot_confusion.py evaluates on the same faces.

    These are the networks' validation split where the data are what they were trained on, else all of --data.
    """
    from reporting.results import HOMEWORK_IMAGE, Subject
    from utils import data, evaluation

    training = data.training_part(data.find_data(args.data))
    if training.labels is None:
        raise UserError(f"{training.source} has no labels; expected a column label or emotion")
    if len(training) <= HOMEWORK_IMAGE:
        raise UserError(f"{training.source} has {len(training)} training faces; expected more than "
                        f"{HOMEWORK_IMAGE}, because the homework asks about the 16th")
    split, is_sample = evaluation.split_of(paths["cnn"]), training.source == "built-in sample"
    is_own = training.take(slice(0, split["limit"])).fingerprint() == split["fingerprint"]
    source = Path("sample") if is_sample else args.data or training.source
    option = {"training_data": None if is_sample else args.data} if is_own else {"source": source}
    evaluated = evaluation.faces_to_evaluate(list(paths.values()), **option)
    names = {"training_data": "--training-data", "source": "--data"}
    options = [part for key, value in option.items() if value is not None for part in (names[key], value)]
    return Subject(paths, training, evaluated, not is_own, args.limit), options


# ---- figures -----------------------------------------------------------------------------------------------


def draw_figures(args, paths, data_options):
    """Have every figure drawn; returns {what: command} and {what: result of the script}."""
    from reporting.results import FILTER_FACES, HOMEWORK_IMAGE, read_history
    from training import figures
    from utils import models

    histories = {}
    for role in ("cnn", "dnn"):
        figures.training_figures(models.read_card(paths[role]))
        histories[role.upper()] = read_history(paths[role].with_name(f"{paths[role].stem}_history.csv"))
    figures.draw_curves(histories, models.FIGURES / f"{paths['dnn'].stem}_comparison.png")

    files = {role: relative_path(path) for role, path in paths.items()}
    homework = [
        "--model",
        files["cnn"],
        "--index",
        HOMEWORK_IMAGE,
        *(["--data", args.data] if args.data else []),
    ]
    scripts = {
        "confusion": ["plot_confusion.py", "--model", files["cnn"], "--compare", files["dnn"], *data_options,
                      "--out", relative_path(models.FIGURES / "confusion.png")],
        "saliency": ["saliency.py", *homework],
        "filters": ["filter_vis.py", *homework, "--patches", "--limit", args.limit or FILTER_FACES],
    }
    if args.test:
        scripts["test"] = ["evaluate.py", "--model", *files.values(), "--data", args.test,
                           *(["--labels", args.test_labels] if args.test_labels else []),
                           "--out", relative_path(models.FIGURES / "models.png")]
    commands, drawn = {}, {}
    for what, command in scripts.items():
        commands[what], drawn[what] = run(*command)
    return commands, drawn


if __name__ == "__main__":
    cli.run(main)
