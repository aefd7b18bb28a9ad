"""Question 2: a plain DNN with about as many parameters as the CNN. How do the two compare?

    python train_dnn.py                     as many parameters as models/cnn.h5 (or as the report's CNN):
                                            3 min on two cores, 38 % on PublicTest
    python train_dnn.py --network report    the report's own DNN, 156,263 parameters: 14 s, 27 %

Writes the same files as train_cnn.py under models/dnn* and figures/dnn*; when the CNN's model card is there
(--cnn), it prints both side by side and draws figures/NAME_comparison.png.
"""

from pathlib import Path

from train_cnn import add_to_experiments, check_outputs, output_paths, print_summary, train
from training import recipes
from utils import cli, files
from utils.cli import UserError

REPORT_CNN_PARAMETERS = 6_615_495
COMPARED = {"network", "parameters", "seconds", "metrics", "split"}  # of the model cards


def main(argv=None):
    args = parse_args(argv)
    cnn_path, cnn_card = find_cnn(args.cnn)
    cli.inputs += [cnn_path] if cnn_path else []  # where it is not named either, it may not be trained over
    check_outputs(args.name)
    files.check_outputs([comparison_path(args.name)])
    cli.start_keras()
    from training import devices, networks

    devices.join()
    parameters = cnn_card["parameters"] if cnn_card else REPORT_CNN_PARAMETERS

    def build():
        builder = getattr(networks, f"{args.network}_dnn")
        matched = [parameters] if args.network == "matched" else []
        return builder(*matched, args.dropout, args.l2, args.dropconnect)

    card, written = train(args, build, argv)
    if cnn_card:
        print_comparison(cnn_card, card)
        written.append(draw_comparison(cnn_path, card))
    print_summary(card, written + add_to_experiments(card))
    if not cnn_card:
        print("No CNN to compare with yet: python train_cnn.py, then this again")
    return card


def parse_args(argv):
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, recipes.DNNS, name="dnn")
    parser.add_argument("--cnn", type=Path,
                        help="CNN to compare with (default: models/cnn.h5, else the released one)")
    return recipes.parse_args(parser, recipes.DNNS, argv)


def find_cnn(path):
    """The CNN to compare with and its model card; (None, None) where none was trained. Raises UserError."""
    from utils import models

    candidates = [path] if path else [models.MODELS / "cnn.h5", models.RELEASED_CNN]
    for candidate in candidates:
        card = models.read_card(candidate)
        history_path = candidate.with_name(f"{candidate.stem}_history.csv")
        if card and card.keys() >= COMPARED and history_path.exists():
            return candidate, card
    if path:
        raise UserError(f"{path} lacks the model card or the _history.csv that train_cnn.py writes beside it")
    return None, None


def print_comparison(cnn_card, dnn_card):
    """CNN, DNN and their difference in percentage points, as one table."""
    import pandas as pd

    cards = {"CNN": cnn_card, "DNN": dnn_card}
    table = pd.DataFrame({
        "network": {name: card["network"] for name, card in cards.items()},
        "parameters": {name: card["parameters"] for name, card in cards.items()},
        "seconds": {name: round(card["seconds"]) for name, card in cards.items()},
        "training %": {name: card["metrics"]["training_accuracy"] for name, card in cards.items()},
        "validation %": {name: card["metrics"]["validation_accuracy"] for name, card in cards.items()},
    })
    numbers = table.drop(columns="network").astype(float)
    table = pd.concat([table, (numbers.loc["CNN"] - numbers.loc["DNN"]).to_frame("CNN minus DNN").T])
    for column in ("training %", "validation %"):
        table[column] = ["-" if pd.isna(share) else f"{100 * share:.2f}" for share in table[column]]
    for column in ("parameters", "seconds"):
        table[column] = [f"{count:,.0f}" for count in table[column]]
    cli.print_table(table.fillna("").reset_index(names=""))
    if cnn_card["split"] != dnn_card["split"]:
        print("Note: they were trained on different splits; "
              "compare them on one labelled file with evaluate.py")


def draw_comparison(cnn_path, dnn_card):
    """The curves of both in one figure; returns its path."""
    import pandas as pd

    from training import figures

    history_path = output_paths(dnn_card["name"])[2]
    histories = {"CNN": pd.read_csv(cnn_path.with_name(f"{cnn_path.stem}_history.csv")),
                 "DNN": pd.read_csv(history_path)}
    return figures.draw_curves(histories, comparison_path(dnn_card["name"]))


def comparison_path(name):
    return output_paths(name)[-1].with_name(f"{name}_comparison.png")


if __name__ == "__main__":
    cli.run(main)
