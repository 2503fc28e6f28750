"""Transfer learning: starts a run from the weights of another (paper, section 6).

Only the weights are transferred. The mean image and the colour axes are measured on the new data,
as in any run: the input is then centred on the images used for training and evaluation, and a run's
preprocessing never depends on the origin of its weights.

A solver state from another framework is continued instead: momentum and step count are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minialex import backends, models, optim
from minialex.errors import InputError
from minialex.exchange.definitions import is_definition, model_of
from minialex.exchange.inference_form import split_scale
from minialex.exchange.read import read
from minialex.inference.classifier import Classifier, from_portable, is_foreign, load, weight_file
from minialex.models import Model, layer_list
from minialex.network import Network
from minialex.parallel import DeviceConfig
from minialex.training import fitted_recipe, run_folder
from minialex.training.config import TrainConfig
from minialex.tree import Tree, map_tree
from minialex.utils import checkpoint, weight_names

_MULTIPLIERS = ("bias_rate", "bias_decay", "layer_rates", "layer_decays")


@dataclass(frozen=True)
class Momentum:
    """A solver state besides the weights: velocities, on the host, and the step count."""

    velocities: Tree
    step: int


@dataclass(frozen=True)
class Source:
    """The classifier to start from, and the momentum to continue with, if any."""

    classifier: Classifier
    momentum: Momentum | None = None


def choose_model(config: TrainConfig, resumed: Path | None) -> tuple[TrainConfig, Source | None]:
    """The configuration with its model filled in, and what to start from, if anything.

    A resumed run has its weights in its own folder and does not read the original source again.
    """
    config = _defined(_located(config))
    if resumed is not None and (resumed / "last.safetensors").exists():
        before = run_folder.read_config(resumed)["settings"]
        if config.initial is not None and config.model is None:
            model, model_options = before["model"], before["model_options"]
            return replace(config, model=model, model_options=model_options), None
        values = before["model_options"] or {}
        return _with_input_scale(_with_options(config, values), values.get("input_scale")), None
    if config.initial is None:
        return _with_options(config, _form(config)), None
    source = open_source(Path(config.initial))
    model = source.classifier.model
    if config.dropout is None and model.network == model.network.without_dropout():
        config = replace(config, dropout=False)  # with it, the layers would see other inputs
    if config.model is not None:
        config = _with_options(config, _form(config, model))
        return _with_input_scale(config, split_scale(model.network)[0]), source
    merged = {**model.options, **(config.model_options or {})}
    return replace(config, model=model.name, model_options=merged or None), source


def default_optimizer(config: TrainConfig, source: Source | None) -> str | None:
    """Adam for weights that it trained, if nothing is asked for that is meant for SGD.

    The last layers on the features of frozen ones are for SGD, too.
    """
    asked = (config.optimizer, config.lr, config.momentum, config.freeze)
    open_ = config.recipe == fitted_recipe.FITTED and asked == (None,) * 4
    by_adam = source is not None and source.classifier.model.recipe.optimizer == optim.ADAM
    return optim.ADAM if open_ and by_adam else None


def multipliers(source: Source | None, model: str | None) -> dict[str, Any]:
    """The rates and decays by layer that another program's weights for `model` come with.

    They are fields of a recipe; a list of layers has them among its options. Weights that were
    trained here have a record of their data, and may have rates that were chosen for one run alone.
    """
    if source is None or source.classifier.data or source.classifier.model.name != model:
        return {}
    if model == layer_list.NAME:
        return {}
    recipe = source.classifier.preprocessing.recipe
    return {name: getattr(recipe, name) for name in _MULTIPLIERS}


def _located(config: TrainConfig) -> TrainConfig:
    """The configuration with its weight files resolved to paths."""
    found: dict[str, Any] = {
        name: weight_names.located(Path(given))
        for name in ("initial", "shallow")
        if (given := getattr(config, name)) is not None
    }
    return replace(config, **found)


def _defined(config: TrainConfig) -> TrainConfig:
    """The configuration with the layers of a file that defines its network, if it names one."""
    if not is_definition(config.model):
        return config
    options = dict(config.model_options or {})
    model = model_of(Path(str(config.model)), size=options.pop("input_size", None))
    return replace(config, model=model.name, model_options={**model.options, **options} or None)


def _with_options(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration with these values of its model's new options made explicit.

    They are defaults that may change, and a resumed run must build the same network.
    """
    if config.model is None:
        return config
    added = {key: values[key] for key in models.new_options(config.model) if key in values}
    options = {**added, **(config.model_options or {})}
    return replace(config, model_options=options or None)


def _form(config: TrainConfig, source: Model | None = None) -> Mapping[str, Any]:
    """New options taken from the initial weights: dropout keeps its form."""
    new = models.new_options(config.model or "")
    if source is not None:
        name, options = source.name, source.options
    elif new and config.shallow is not None and not is_foreign(Path(config.shallow)):
        described = checkpoint.load_metadata(weight_file(Path(config.shallow))).get("model") or {}
        name, options = described.get("name", ""), described.get("options") or {}
    else:
        return new
    return options if set(new) <= set(models.new_options(name)) else new


def _with_input_scale(config: TrainConfig, scale: Sequence[float] | None) -> TrainConfig:
    """The configuration with the weights' own factors of the input, if its model can have them."""
    options = dict(config.model_options or {})
    if scale is None or "input_scale" in options:
        return config
    options["input_scale"] = list(scale)
    try:
        models.stored(str(config.model), None, options)
    except InputError:
        return config  # `start_from` refuses weights whose input is scaled in another way
    return replace(config, model_options=options)


def open_source(path: Path) -> Source:
    """What the weight file or run folder at `path` holds."""
    if not path.exists() or not is_foreign(path):
        return Source(load(path, "numpy"))
    portable = read(path, for_training=True)
    classifier = from_portable(portable, DeviceConfig("numpy"))
    if portable.velocities is None:
        return Source(classifier)
    return Source(classifier, Momentum(portable.velocities, (portable.state or {}).get("step", 0)))


@dataclass(frozen=True)
class Start:
    """The parameters to start from, on the host, and a sentence on where they came from.

    `momentum` is set if all layers were transferred from a solver state.
    """

    params: Tree
    said: str
    momentum: Momentum | None = None
    kept: tuple[str, ...] = ()  # the transferred layers


def start_from(
    source: Classifier,
    network: Network,
    *,
    class_names: tuple[str, ...] | None = None,
    class_ids: tuple[str, ...] | None = None,
    replace_classifier: bool = False,
    seed: int = 0,
    dtype: str = "float32",
    momentum: Momentum | None = None,
) -> Start:
    """`source`'s weights in `network`, layer by layer until the two networks differ.

    From the first layer whose name or shape differs, all layers are initialised as in a new run:
    such a layer has new outputs, which do not fit weights learnt for the old ones. A network with a
    sixth convolutional layer thus keeps the first five of a network without one.
    `replace_classifier` always initialises the last layer; without it, both must have the same
    classes, compared by ids or names (`class_names` are those of the new data).
    """
    params = network.init(backends.get("numpy"), seed, dtype)
    shapes, given = network.parameter_shapes(), source.model.network.parameter_shapes()
    if not replace_classifier:
        _require_classes(source, network.classes, class_names, class_ids)
    names = list(shapes)
    kept = 0
    for name, (theirs, sizes) in zip(names, given.items(), strict=False):
        if name != theirs or shapes[name] != sizes:
            break
        kept += 1
    if replace_classifier:
        kept = min(kept, len(names) - 1)
    if kept == 0:
        first = next(iter(given))
        raise InputError(
            f"the weights to start from ({source.model.name}, {first} {given[first]['weight']}) "
            f"do not fit the first layer of the network to train ({names[0]} "
            f"{shapes[names[0]]['weight']}): choose the same network"
        )
    require_same_scale(source.model, network)
    for name in names[:kept]:
        params[name] = {
            key: source.devices.to_numpy(value).astype(dtype)
            for key, value in source.params[name].items()
        }
    anew = names[kept:]
    said = f"{', '.join(names[:kept])} transferred" + (
        f", {', '.join(anew)} reinitialised" * bool(anew)
    )
    if anew or momentum is None:
        return Start(params, said, kept=tuple(names[:kept]))
    velocities = map_tree(lambda array: array.astype(dtype), momentum.velocities)
    said += f", continuing after step {momentum.step:,} with its momentum"
    momentum = replace(momentum, velocities=velocities)
    return Start(params, said, momentum, tuple(names))


def require_same_scale(source: Model, network: Network) -> None:
    """Raise InputError unless the weights are for input that the network scales as theirs did."""
    (theirs, _), (own, _) = split_scale(source.network), split_scale(network)
    if theirs != own:
        raise InputError(
            f"the weights to start from ({source.name}) expect input {_scaled(theirs)}, and the "
            f"network to train has input {_scaled(own)}: leave out `model`, or choose one that "
            "scales its input in the same way"
        )


def _scaled(factors: tuple[float, ...] | None) -> str:
    return "as it is" if factors is None else f"times {', '.join(f'{f:.4g}' for f in factors)}"


def _require_classes(
    source: Classifier,
    classes: int,
    names: tuple[str, ...] | None,
    ids: tuple[str, ...] | None,
) -> None:
    """Raise InputError if the weights' classes are known to differ from the new data's."""
    new_layer = "use `replace_classifier=True` to train a new last layer"
    if classes != source.model.classes:
        raise InputError(
            f"the checkpoint has {source.model.classes} output classes, the data set {classes}: "
            f"{new_layer}"
        )
    unnamed = not source.data and source.class_names == tuple(map(str, range(classes)))
    if unnamed or names is None or names == source.class_names or ids == source.class_ids:
        return
    pairs = zip(source.class_names, names, strict=True)
    theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
    raise InputError(
        f"the checkpoint has class {theirs!r} where the data set has {ours!r}: {new_layer}"
    )
