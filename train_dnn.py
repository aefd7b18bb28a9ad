"""Question 2: a plain DNN with about as many parameters as the CNN. How do the two compare?

    python train_dnn.py                     as many parameters as models/cnn.h5 (or as the report's CNN): --network matched
    python train_dnn.py --network report    the report's own DNN, 156,263 parameters

Writes the same files as train_cnn.py under models/dnn* and figures/dnn*; when the CNN's model card is there (--cnn), it
prints both side by side and draws figures/NAME_comparison.png.
"""

from pathlib import Path

from utils import cli, recipes

REPORT_CNN_PARAMETERS = 6_615_495


def main():
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, ("matched", "report"), name="dnn")
    parser.add_argument("--cnn", type=Path, help="CNN to compare with (default: models/cnn.h5, else the released one)")
    args = recipes.settle(parser)

    cli.start_keras()
    from utils import figures, files, models, networks, training

    cnn = args.cnn or next((p for p in (models.MODELS / "cnn.h5", models.RELEASED_CNN) if p.exists()), None)
    cnn_card = models.read_card(cnn) if cnn else None
    if args.cnn and cnn_card is None:
        raise cli.UserError(f"{args.cnn} has no model card {models.card_path(args.cnn)}; train it with train_cnn.py")
    parameters = cnn_card["parameters"] if cnn_card else REPORT_CNN_PARAMETERS

    def build(final):
        dropconnect = 0.0 if final else args.dropconnect
        if args.network == "matched":
            return networks.matched_dnn(parameters, args.dropout, args.l2, dropconnect)
        return networks.report_dnn(args.dropout, args.l2, dropconnect)

    card = training.train(args, build)
    written = figures.training_figures(card)
    if cnn_card:
        written.append(compare(cnn_card, card, cnn, models, figures))
    training.summary(card, written)
    if not cnn_card:
        print(f"No CNN to compare with yet: python train_cnn.py, then this again ({files.shown(models.MODELS / 'cnn.h5')})")


def compare(cnn_card, card, cnn, models, figures):
    """Print CNN and DNN side by side and draw their curves in one figure; returns the figure's path."""
    rows = [side("CNN", cnn_card), side("DNN", card)]
    difference = [rows[0][i] - rows[1][i] if None not in (rows[0][i], rows[1][i]) else None for i in range(2, 6)]
    rows.append(["CNN minus DNN", "", *difference])
    print(cli.table([[name, network, f"{parameters:,}", f"{seconds:.0f}", *(percent(value) for value in accuracies)]
                     for name, network, parameters, seconds, *accuracies in rows],
                    ["", "network", "parameters", "seconds", "training %", "validation %"]))
    if cnn_card["split"] != card["split"]:
        print("Note: the two were not trained on the same split; compare them on one labelled file with evaluate.py")
    histories = {"CNN": figures.read_history(cnn.with_name(f"{cnn.stem}_history.csv")),
                 "DNN": figures.read_history(models.MODELS / f"{card['name']}_history.csv")}
    return figures.draw_curves(histories, models.FIGURES / f"{card['name']}_comparison.png")


def side(name, card):
    metrics = card["metrics"]
    return [name, card["network"], card["parameters"], card["seconds"], metrics["training_accuracy"],
            metrics["validation_accuracy"]]


def percent(share):
    return "-" if share is None else f"{100 * share:.2f}"


if __name__ == "__main__":
    cli.run(main)
