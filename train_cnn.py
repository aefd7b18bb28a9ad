"""Question 1: the CNN. Its architecture, how training goes, and how accurate it is.

    python train_cnn.py                                  the report's CNN: 10 epochs, batch 80, Adam
    python train_cnn.py --oversample                     the same on classes evened out by augmented copies
    python train_cnn.py --network compact --name compact our best network for two CPU cores

Writes models/NAME.h5 (raw 0-255 faces in, probabilities out), models/NAME.json (model card), models/NAME_history.csv,
figures/NAME_architecture.png and figures/NAME_curves.png. Interrupted runs continue with --resume.
"""

from utils import cli, recipes


def main():
    parser = cli.Parser(__doc__)
    recipes.add_arguments(parser, ("report", "compact", "large"), name="cnn")
    parser.add_argument("--extra-conv", type=cli.number(int, 0, 16), default=0,
                        help="additional convolutions of 64 filters in the report's network")
    args = recipes.settle(parser)
    if args.network != "report" and (args.extra_conv or args.l2 or args.dropconnect):
        raise cli.UserError(f"--extra-conv, --l2 and --dropconnect belong to --network report, not to {args.network}")

    cli.start_keras()
    from utils import figures, networks, training

    def build(final):
        if args.network == "compact":
            return networks.compact_cnn(args.dropout, fused=not final)
        if args.network == "large":
            return networks.large_cnn(args.dropout, fused=not final)
        return networks.report_cnn(args.dropout, args.l2, 0.0 if final else args.dropconnect, args.extra_conv)

    card = training.train(args, build)
    training.summary(card, figures.training_figures(card))


if __name__ == "__main__":
    cli.run(main)
