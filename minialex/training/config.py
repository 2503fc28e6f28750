"""The arguments of training, and how they combine.

`TrainConfig` and `parallel.DeviceConfig` hold them; from their fields come the command line's
options, `train`'s signature and docstring, config.json, and what a resumed run may change.
"""

import inspect
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from minialex import losses, models, optim, schedules
from minialex.data import own_augmentation
from minialex.data.dataset import Splits
from minialex.errors import InputError, unknown
from minialex.inference.judged_images import data_key
from minialex.parallel import DeviceConfig
from minialex.parallel.roll_call import TIMEOUT
from minialex.precision import check_dtype, check_training
from minialex.results import published_curve
from minialex.results.published_curve import Curve
from minialex.training import augmentation_options, fitted_recipe, without_effect
from minialex.training.watch import require_log
from minialex.utils import weight_names
from minialex.utils.arguments import (
    FRACTION,
    SEED,
    Factors,
    FilePath,
    Flag,
    ListOf,
    Number,
    Settings,
    integer,
    wrong,
)
from minialex.utils.options import check, option, options
from minialex.utils.plugins import Registry

WHAT, HOW, RUN = "what to train", "training (default: chosen for the number of images)", "the run"


@dataclass(frozen=True)
class _Images(FilePath):
    """A path, the built-in drawings, or `Splits` made in Python."""

    def check(self, name: str, value: Any) -> Any:
        if isinstance(value, Splits):
            return value
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise wrong(name, value, 'a folder, "shapes" for the built-in drawings, or Splits')
        return value


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on which images, and how; None means the value of `recipe`."""

    data: Any = option(
        None,
        "images: a folder of class folders, ILSVRC's archives, CIFAR-10, a packed set, a table of "
        'files and labels; "shapes" or "shapes:N" (default) for built-in drawings',
        group=WHAT,
        type=_Images(),
        metavar="PATH",
    )
    model: str | None = option(
        None,
        "network name (`minialex summary --variants` lists them), or your own as FILE.py:FUNCTION "
        "(default: the network of --from, or one chosen for the images)",
        group=WHAT,
        metavar="NAME",
    )
    model_options: dict[str, Any] | None = option(
        None,
        "network option, e.g. towers=1",
        group=WHAT,
        type=Settings(),
        flag="--option",
        metavar="N=V",
        action="append",
    )
    initial: str | Path | None = option(
        None,
        "fine-tune from a weight file, a run folder or kept weights (--keep); layers are copied up "
        "to the first that differs",
        group=WHAT,
        type=FilePath(),
        flag="--from",
        metavar="PATH",
    )
    replace_classifier: bool = option(
        False, "with --from: train a new last layer, for other classes", group=WHAT, type=Flag()
    )
    freeze: str | None = option(
        None,
        "with --from: freeze this layer and all before it; their outputs are computed only once",
        group=WHAT,
        metavar="LAYER",
    )
    val_fraction: float = option(
        0.1,
        "fraction held out for validation if the data has no val/ (0.1; 0: none)",
        group=WHAT,
        type=FRACTION,
        metavar="F",
    )
    fold: str | None = option(
        None,
        "hold out fold K of N instead, e.g. 2/5, to run cross-validation by hand",
        group=WHAT,
        metavar="K/N",
    )
    allow_upscaling: bool = option(
        False,
        "allow images smaller than the network's input, and enlarge them",
        group=WHAT,
        type=Flag(),
    )
    epochs: int | None = option(
        None,
        "number of passes over the training images",
        group=HOW,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )
    batch_size: int | None = option(
        None, "images per step, over all devices", group=HOW, type=integer(1), metavar="N"
    )
    micro_batch: int | None = option(
        None,
        "compute each batch N images at a time, in the memory of N, and sum the gradients in a "
        "fixed order (default: all at once)",
        group=HOW,
        type=integer(1),
        metavar="N",
    )
    lr: float | None = option(
        None,
        "learning rate of the whole batch",
        group=HOW,
        type=Number(float, above=0),
        metavar="RATE",
        free_on_resume=True,
    )
    schedule: str | None = option(
        None,
        f"learning-rate schedule: {', '.join(schedules.SCHEDULES)}, or your own as "
        "FILE.py:FUNCTION",
        group=HOW,
        metavar="NAME",
        free_on_resume=True,
    )
    warmup: float | None = option(
        None,
        "epochs in which the learning rate rises to the schedule's",
        group=HOW,
        type=Number(float, at_least=0),
        metavar="EPOCHS",
    )
    warmup_shape: str | None = option(
        None, "how it rises: linear (default) or quadratic", group=HOW, metavar="HOW"
    )
    layer_rates: dict[str, float] | None = option(
        None,
        "learning rate of a layer, or of LAYER.weight or LAYER.bias, times that of the others, "
        "e.g. conv1=0.1; 0 freezes it",
        group=HOW,
        type=Factors(),
        flag="--layer-rate",
        metavar="LAYER=R",
        action="append",
    )
    recipe: str = option(
        fitted_recipe.FITTED,
        "fitted: choose batch size, learning rate, schedule and epochs for the number of images; "
        "published: the network's own recipe, made for ILSVRC",
        group=HOW,
        metavar="NAME",
    )
    minutes: float | None = option(
        None,
        "train for M minutes instead of a number of epochs, not counting the first reading of all "
        "images; the schedule is scaled to fit",
        group=HOW,
        type=Number(float, above=0),
        metavar="M",
        free_on_resume=True,
    )
    stop_early: int | None = option(
        None,
        "early stopping: stop after N epochs without a lower validation loss",
        group=HOW,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )
    average_epochs: int | None = option(
        None,
        "validate and save the average of the weights from the ends of the last N epochs (0: no "
        "averaging)",
        group=HOW,
        type=integer(0),
        metavar="N",
    )
    optimizer: str | None = option(
        None,
        "sgd, adam, lars (large batches), or your own as FILE.py:NAME",
        group=HOW,
        metavar="NAME",
    )
    momentum: float | None = option(
        None,
        "momentum of SGD and LARS, e.g. 0.9",
        group=HOW,
        type=Number(float, at_least=0, below=1),
        metavar="M",
    )
    weight_decay: float | None = option(
        None, "L2 weight decay, e.g. 0.0005", group=HOW, type=Number(float, at_least=0), metavar="D"
    )
    loss: str = option(
        "softmax", "softmax, hinge, or your own as FILE.py:FUNCTION", group=HOW, metavar="NAME"
    )
    margin: float = option(
        1.0, "margin of the hinge loss", group=HOW, type=Number(float, above=0), metavar="M"
    )
    mirror: bool | None = option(
        None, "mirror half of the images", group=augmentation_options.GROUP, type=Flag()
    )
    crops: bool | None = option(
        None,
        "random crops (--no-crops: centre crops)",
        group=augmentation_options.GROUP,
        type=Flag(),
    )
    resize: str | None = option(
        None,
        '"crop": resize the shorter side and keep the central square; "squash": resize both '
        "sides, ignoring the aspect ratio, as Caffe's tools do",
        group=HOW,
        metavar="HOW",
    )
    colour_noise: float | None = option(
        None,
        "strength of the PCA colour shift, in standard deviations, e.g. 0.1",
        group=augmentation_options.GROUP,
        type=Number(float, at_least=0),
        metavar="A",
    )
    crop_scale: float | None = augmentation_options.CROP_SCALE
    aspect: float | None = augmentation_options.ASPECT
    rotation: float | None = augmentation_options.ROTATION
    vertical_flip: bool | None = augmentation_options.VERTICAL_FLIP
    brightness: float | None = augmentation_options.BRIGHTNESS
    contrast: float | None = augmentation_options.CONTRAST
    saturation: float | None = augmentation_options.SATURATION
    erasing: float | None = augmentation_options.ERASING
    mixup: float | None = augmentation_options.MIXUP
    augment: str | None = augmentation_options.AUGMENT
    label_smoothing: float | None = augmentation_options.LABEL_SMOOTHING
    class_weights: bool | None = augmentation_options.CLASS_WEIGHTS
    dropout: bool | None = option(None, "dropout", group=HOW, type=Flag())
    shallow: str | Path | None = option(
        None,
        "a trained vgg-11 to start a deeper VGG from",
        group=HOW,
        type=FilePath(),
        metavar="PATH",
    )
    dtype: str = option("float32", "float32 or float64", group=HOW, metavar="NAME")
    reshuffle: bool | None = option(
        None,
        "a new order of the images in each epoch (--no-reshuffle: one order for all, as in the "
        "authors' code)",
        group=HOW,
        type=Flag(),
    )
    seed: int = option(0, "random seed", group=HOW, type=SEED, metavar="N")
    workers: int | None = option(
        None,
        "threads that decode images",
        group=RUN,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )
    read_timeout: float | None = option(
        None,
        "seconds to wait for one image before the run is saved and stopped (600)",
        group=RUN,
        type=Number(float, above=0),
        metavar="S",
        free_on_resume=True,
    )
    rank_timeout: float = option(
        TIMEOUT,
        "with several processes: seconds to wait for one that does not answer (900)",
        group=RUN,
        type=Number(float, above=0),
        metavar="S",
        free_on_resume=True,
    )
    nccl: bool = option(
        True,
        "with several processes on GPUs: exchange gradients by NCCL, where it is installed",
        group=RUN,
        type=Flag(),
        free_on_resume=True,
    )
    checkpoint_every: float = option(
        300.0,
        "seconds between checkpoints (300)",
        group=RUN,
        type=Number(float, at_least=0),
        metavar="S",
        free_on_resume=True,
    )
    half: bool = option(
        False,
        "store best.safetensors in float16: half the size",
        group=RUN,
        type=Flag(),
        free_on_resume=True,
    )
    keep: str | None = option(
        None,
        "at the end, also save the best weights under this name in your data folder, in float16; "
        "use them anywhere with --from NAME",
        group=RUN,
        metavar="NAME",
        free_on_resume=True,
    )
    keep_every: int | None = option(
        None,
        "also keep the weights at the start and after every N-th epoch, in checkpoints/",
        group=RUN,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )
    log_steps: int | None = option(
        None,
        "write a row to steps.csv every N steps; 0: none (default: each of the first 100,000, then "
        "one in ten, ...)",
        group=RUN,
        type=integer(0),
        metavar="N",
        free_on_resume=True,
    )
    log: str | None = option(
        None,
        "tensorboard: also write events for TensorBoard into the run folder",
        group=RUN,
        metavar="NAME",
        free_on_resume=True,
    )
    against: Any = option(
        None,
        "a published learning curve as CSV, or another run's history.csv: results.html lays the "
        "run on it and says where it leaves it",
        group=RUN,
        type=ListOf(FilePath()),
        metavar="CSV,...",
        free_on_resume=True,
    )
    against_batch: int | None = option(
        None,
        "images per iteration, for curves of --against that count iterations",
        group=RUN,
        type=integer(1),
        metavar="N",
        free_on_resume=True,
    )
    report: bool = option(
        True,
        "write results.html and predictions.csv into the run folder at the end",
        group=RUN,
        type=Flag(),
        free_on_resume=True,
    )
    max_steps: int | None = option(
        None,
        "stop after N steps in total; the run can be resumed",
        group=RUN,
        type=integer(0),
        metavar="N",
        free_on_resume=True,
    )

    allow_changed_data: bool = option(
        False,
        "resume although images were added or deleted: new ones are trained on, those held out "
        "stay so",
        group=RUN,
        type=Flag(),
        free_on_resume=True,
    )

    def __post_init__(self) -> None:
        check(self)
        losses.get(self.loss, self.margin)
        if self.optimizer is not None:
            optim.PLUGINS.get(self.optimizer)
        fitted_recipe.require_recipe(self.recipe)
        require_log(self.log)
        self.fold_numbers()
        if self.minutes is not None and self.epochs is not None:
            raise InputError(
                "`minutes` and `epochs` both set the length of training: give only one"
            )
        if self.dtype not in ("float32", "float64"):
            raise InputError(f'dtype must be "float32" or "float64", not {self.dtype!r}')
        if self.warmup_shape not in (None, "linear", "quadratic"):
            raise unknown("warm-up shape", self.warmup_shape, ("linear", "quadratic"))
        if self.resize not in (None, "crop", "squash"):
            raise unknown("resize mode", self.resize, ("crop", "squash"))
        if self.momentum is not None and self.optimizer not in (None, *optim.WITH_MOMENTUM):
            raise InputError(
                "`momentum` applies only to sgd and lars: leave it out with another `optimizer`"
            )
        if self.keep is not None:
            weight_names.require(self.keep)
        if self.schedule is not None:
            schedules.get(self.schedule)
        if self.augment is not None:
            own_augmentation.get(self.augment)
        if self.freeze is not None and self.initial is None:
            raise InputError("`freeze` needs `initial`: give the weights to start from")
        if self.initial is None and self.replace_classifier:
            raise InputError("`replace_classifier` needs `initial`: give the weights to start from")
        without_effect.refuse({one.name: getattr(self, one.name) for one in fields(self)})

    def settings(self) -> dict[str, Any]:
        """The arguments as stored in config.json: absolute paths, and None for Python objects."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found["data"] = data_key(self.data)
        found["initial"] = None if self.initial is None else str(Path(self.initial).resolve())
        found["against"] = self.against and [str(Path(path).resolve()) for path in self.against]
        found["shallow"] = None if self.shallow is None else str(self.shallow)
        return found

    def fold_numbers(self) -> tuple[int, int] | None:
        """(K, N) of the fold, K counted from 1; None without one."""
        if self.fold is None:
            return None
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", self.fold)
        number, folds = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= folds or folds < 2:
            raise InputError(f"fold is {self.fold!r}: give K/N with K from 1 to N, as 2/5")
        return number, folds

    def curve(self, epoch_images: int) -> Curve | None:
        """The published curve to compare the run with; `epoch_images` are its training images."""
        if self.against is None:
            return None
        return published_curve.read(
            self.against, batch_size=self.against_batch, epoch_images=epoch_images
        )

    @property
    def trained_on(self) -> dict[str, Any]:
        """What a weight file records about its data."""
        return {"data": data_key(self.data), "seed": self.seed, "val_fraction": self.val_fraction}


_OWN: dict[str, Registry[Any]] = {
    "model": models.registry.PLUGINS,
    "loss": losses.PLUGINS,
    "optimizer": optim.PLUGINS,
    "schedule": schedules.PLUGINS,
    "augment": own_augmentation.PLUGINS,
}


def own_code(config: TrainConfig) -> str:
    """The options that name the user's own code again, for a command that resumes the run."""
    return "".join(known.again(getattr(config, name)) for name, known in _OWN.items())


def plug_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """Import the user's own code among `arguments` and replace it by its name.

    Only for arguments that the user gives: a run folder may come from someone else.
    """
    return {name: _OWN[name].use(v) if name in _OWN else v for name, v in arguments.items()}


def parse(arguments: dict[str, Any]) -> tuple[TrainConfig, DeviceConfig]:
    """The two configurations in the keyword arguments of `train`."""
    known = {one.name for one in options(TrainConfig, DeviceConfig)}
    for name in arguments:
        if name not in known:
            raise TypeError(f"train: {unknown('argument', name, known)}")
    own = {one.name for one in fields(TrainConfig)}
    train = {name: value for name, value in arguments.items() if name in own}
    where = {name: value for name, value in arguments.items() if name not in own}
    config, devices = TrainConfig(**train), DeviceConfig(**where)
    check_training(devices.precision)
    check_dtype(devices.precision, config.dtype)
    return config, devices


def signature(function: Any) -> inspect.Signature:
    """`function`'s signature with the configurations' fields instead of **arguments."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
    taken = {p.name for p in own}
    more = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for one in options(TrainConfig, DeviceConfig)
        if one.name not in taken
    ]
    return inspect.Signature([*own, *more], return_annotation=function.__annotations__["return"])
