"""How each network is trained unless told otherwise, and the options that say otherwise. Imports no Keras."""

import argparse
import dataclasses
import os
import re
from pathlib import Path

from utils import cli, data, files
from utils.cli import UserError, number


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the homework's. `add_arguments` says what each one means."""

    epochs: int = 10
    batch_size: int = 80
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    keep: str = "best"
    augment: bool = False
    rotation: float = 12.0
    scale: float = 0.12
    shift: float = 4.0
    light: float = 0.2
    erase: float = 0.0
    mix: float = 0.0
    mix_until: float = 1.0
    distill_weight: float = 0.7
    temperature: float = 2.0


@dataclasses.dataclass(frozen=True)
class TrainingOptions(Recipe):
    """One run: the recipe, and everything else that the command line says. Made once, then only read."""

    name: str = "cnn"
    network: str = "report"
    data: Path | None = None
    labels_from: Path | None = None
    validation: str = "0.1"
    validation_labels: Path | None = None
    seed: int = 0
    limit: int | None = None
    precision: str = "auto"
    half: bool = False
    resume: bool = False
    tensorboard: Path | None = None
    start_from: Path | None = None
    distill: tuple[Path, ...] = ()
    dropout: float | None = None
    l2: float = 0.0
    dropconnect: float = 0.0
    extra_conv: int = 0
    oversample: bool = False
    class_weights: bool = False
    early_stopping: int | None = None
    reduce_lr: int | None = None
    out_folder: Path | None = None

    def as_json(self):
        """What decides the result, as JSON-ready values, for the model card."""
        values = {option: str(value) if isinstance(value, Path) else value
                  for option, value in sorted(vars(self).items())
                  if option not in ("data", "name", "resume", "tensorboard", "out_folder")}
        return values | {"distill": [*map(str, self.distill)]}

    def arguments(self, recipes):
        """The command line, a list of str, that gives these options but for name and folder, of the script
        whose `recipes` (CNNS or DNNS) these are."""
        usual = vars(TrainingOptions(**vars(recipes[self.network]))) | {"network": next(iter(recipes))}
        words = []
        for option, value in vars(self).items():
            if option in ("name", "out_folder") or value == usual[option]:
                continue
            flag = f"--{option.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                words += [flag, *map(str, value if isinstance(value, tuple) else [value])]
        return words


# The networks of train_cnn.py and train_dnn.py, the default first; training/networks.py builds them.
CNNS = {"report": Recipe(), "compact": Recipe(  # models/README.md: what else was tried
    epochs=24, batch_size=128, optimizer="muon", learning_rate=0.1, schedule="cosine", warmup=0.1,
    weight_decay=1e-2, label_smoothing=0.1, ema=0.998, keep="last", augment=True, erase=0.25)}
# At the report's 1e-3 the wide DNN only predicts the largest class.
DNNS = {"matched": Recipe(learning_rate=1e-4), "report": Recipe()}
REQUIRES = {  # what an option has no effect without
    **dict.fromkeys(("rotation", "scale", "shift", "light", "erase"), "augment"), "mix_until": "mix",
    **dict.fromkeys(("distill_weight", "temperature"), "distill")}


def add_arguments(parser, recipes, name):
    """The options of train_cnn.py and train_dnn.py; recipes: CNNS or DNNS; name: default of --name."""
    share = number(float, 0, 1)
    faces = parser.add_argument_group("faces").add_argument
    faces("--data", type=cli.data_path,
          help="CSV or image folder to train on (default: data/*.csv, else the built-in sample)")
    faces("--labels-from", type=Path, metavar="fer2013new.csv",
          help="learn the votes of FER+ for these faces in place of the labels of --data")
    faces("--validation", type=validation, default="0.1", metavar="SHARE|FOLD/K|PublicTest|FILE",
          help="share of the training data, or one of K equal folds of it (1/5), stratified, identical "
               "images on one side; or the rows of that Usage; or a labelled file")
    faces("--validation-labels", type=Path, help="id,label CSV for a validation FILE without labels")
    faces("--limit", type=number(int, 1), help="use only a random sample of LIMIT faces, to try things out")
    faces("--oversample", action=argparse.BooleanOptionalAction, default=False,
          help="augmented copies, new in each epoch, until each class of the training part has as many "
               "images as the largest")
    faces("--class-weights", action=argparse.BooleanOptionalAction, default=False,
          help="weigh the loss of each face by the inverse frequency of its class")

    run = parser.add_argument_group("run").add_argument
    run("--network", choices=tuple(recipes), default=next(iter(recipes)),
        help="which network; it brings its own recipe")
    run("--name", default=name, help="models/NAME.h5 and so on")
    cli.add_out_folder(parser, "models/", "figures/")
    run("--seed", type=number(int, 0), default=0,
        help="seed of split, initial weights, order and augmentation")
    run("--precision", choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"), default="auto",
        help="auto: bfloat16 where processor or accelerator multiply it natively, float16 on older GPUs")
    run("--half", action=argparse.BooleanOptionalAction, default=False,
        help="store the weights as float16: half the size")
    run("--resume", action="store_true", help="continue models/NAME from its last finished epoch")
    run("--start-from", type=Path, metavar="MODEL.h5",
        help="begin with the weights of this model: a second cycle, or fine-tuning")
    run("--tensorboard", type=Path, metavar="FOLDER", help="also write logs for TensorBoard")

    recipe = parser.add_argument_group(
        "recipe", "what is not given follows the network's own recipe (training/recipes.py)").add_argument
    recipe("--epochs", type=number(int, 1), help="passes over the training faces")
    recipe("--batch-size", type=number(int, 1), help="faces per step")
    recipe("--optimizer", choices=("adam", "sgd", "muon"),
           help="sgd: Nesterov momentum 0.9; muon: the same, orthogonal steps on convolutions")
    recipe("--learning-rate", type=number(float, 0, open_low=True), help="the peak of the schedule")
    recipe("--schedule", choices=("constant", "cosine"), help="cosine: after the warm-up down to 0")
    recipe("--warmup", type=share, help="share of a cosine schedule in which the rate rises from 0")
    recipe("--ema", type=number(float, 0, 0.99999), help="decay per step of the averaged weights; 0: none")
    recipe("--keep", choices=("best", "last"),
           help="the epoch that is saved: best validation accuracy, or last")
    recipe("--early-stopping", type=number(int, 1), metavar="N",
           help="stop after N epochs without a better validation accuracy")
    recipe("--reduce-lr", type=number(int, 1), metavar="N",
           help="divide a constant learning rate by 10 after N epochs without a better validation loss")

    regularization = parser.add_argument_group("regularization").add_argument
    regularization("--weight-decay", type=number(float, 0),
                   help="decoupled, on kernels only, times the learning rate")
    regularization("--label-smoothing", type=share,
                   help="share of each label spread evenly over all classes")
    regularization("--dropout", type=number(float, 0, 0.95), help="rate of every dropout layer")
    regularization("--l2", type=number(float, 0), default=0.0, help="L2 penalty on every kernel")
    regularization("--dropconnect", type=number(float, 0, 0.95), default=0.0,
                   help="share of dense weights dropped")

    augmentation = parser.add_argument_group("augmentation").add_argument
    augmentation("--augment", action=argparse.BooleanOptionalAction,
                 help="random transforms, new in each epoch")
    augmentation("--rotation", type=number(float, 0, 180), help="largest angle in degrees, either way")
    augmentation("--scale", type=share, help="largest relative change of size, either way")
    augmentation("--shift", type=number(float, 0, 24), help="largest shift in pixels, either way")
    augmentation("--light", type=share,
                 help="largest relative change of contrast and brightness, either way")
    augmentation("--erase", type=share, help="probability of random erasing")
    augmentation("--mix", type=share, help="probability that a batch is mixed by mixup or CutMix")
    augmentation("--mix-until", type=share, help="share of the epochs after which no batch is mixed")

    distillation = parser.add_argument_group("distillation").add_argument
    distillation("--distill", type=Path, nargs="+", metavar="TEACHER.h5",
                 help="learn also from the outputs of these models, one teacher per step, in turn")
    distillation("--distill-weight", type=share, help="share of the loss that follows the teachers")
    distillation("--temperature", type=number(float, 0, open_low=True),
                 help="softmax temperature of teachers and student")


def validation(text):
    """An argparse type: a share, a fold such as 1/5, a Usage, or a path that exists."""
    if data.is_drawn(text) or text in cli.USAGES or os.path.exists(text):
        return text
    hint = cli.near(Path(text).name, [*cli.USAGES, *cli.siblings(Path(text))])
    raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to below 1, no fold such as 1/5, no Usage "
                                     f"({', '.join(cli.USAGES)}) and no file{hint}")


def training_options(args, recipes):
    """TrainingOptions of a parsed command line; what is left open comes from the network's recipe. Raises
    UserError for options that have no effect beside the others."""
    fields = {field.name for field in dataclasses.fields(TrainingOptions)}
    given = {option: tuple(value) if option == "distill" else value
             for option, value in vars(args).items() if option in fields and value is not None}
    options = TrainingOptions(**vars(recipes[args.network]) | given)
    if not re.fullmatch(r"(?!fer2013-)[\w-][\w.-]*", options.name):
        raise UserError(f"--name {options.name!r} must be a plain file name of letters, digits, '-', '_', "
                        "'.', and not begin with fer2013-, as the released models do")
    for option, needed in REQUIRES.items():
        if given.get(option) and not getattr(options, needed):
            raise UserError(f"--{option.replace('_', '-')} has no effect without --{needed}; give both")
    if options.schedule == "constant" and given.get("warmup"):
        raise UserError("--warmup has no effect with --schedule constant; choose --schedule cosine")
    if options.schedule == "cosine" and options.reduce_lr:
        raise UserError("--reduce-lr has no effect with --schedule cosine; choose --schedule constant")
    if options.tensorboard:
        files.check_outputs([options.tensorboard / "train"])
    if options.validation_labels and not os.path.exists(options.validation):
        raise UserError("--validation-labels has no effect without a file of faces for --validation; "
                        f"{options.validation} is none")
    is_modern = recipes is CNNS and options.network != "report"
    if is_modern and (options.extra_conv or options.l2 or options.dropconnect):
        raise UserError("--extra-conv, --l2 and --dropconnect belong to --network report, "
                        f"not to {options.network}")
    return options
