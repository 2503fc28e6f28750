"""Everything a run needs before its first step: data, model, devices, initial weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, losses, optim
from minialex.backends import Backend
from minialex.data.dataset import Dataset, Splits
from minialex.data.loading.loader import Loader
from minialex.data.preprocessing import Preprocessing
from minialex.data.remarks import every_line
from minialex.data.statistics import Statistics, measure, supplied
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, load
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.models.vgg import deepen
from minialex.network import Network
from minialex.optim import VELOCITY, Optimizer
from minialex.parallel import DeviceConfig, DeviceGroup, Devices, SingleDevice
from minialex.parallel.partition import require_trainable
from minialex.parallel.world import World
from minialex.results.published_curve import Curve
from minialex.training import augmentation_options, fitted_recipe, frozen, held_out, ranks
from minialex.training.config import TrainConfig, own_code
from minialex.training.feed import Feed, Photographs
from minialex.training.fitted_recipe import LEAST_NORMALISED
from minialex.training.held_out import Held
from minialex.training.length import Length
from minialex.training.model_and_recipe import resolve_model
from minialex.training.resume import require_resumable, require_unfinished, stored_recipe
from minialex.training.state import State
from minialex.training.step import TrainStep
from minialex.training.targets import SoftTargets, require_softmax, soft_targets
from minialex.training.trainer import Trainer
from minialex.training.transfer import (
    Source,
    Start,
    choose_model,
    default_optimizer,
    multipliers,
    open_source,
    require_same_scale,
    start_from,
)
from minialex.tree import Tree, map_tree
from minialex.utils.progress import Progress


@dataclass(frozen=True)
class Setup:
    """A validated run; nothing has been written yet.

    `start` holds the weights of another run to start from, if any, and `source` is that run.
    """

    config: TrainConfig
    where: DeviceConfig
    held: Held
    model: Model
    devices: Devices
    loaders: tuple[Loader, Loader]  # of the training and the validation images
    source: Classifier | None
    start: Start | None
    show: Progress
    world: World
    curve: Curve | None = None  # a published run to compare this one with

    @property
    def splits(self) -> Splits:
        return self.held.splits

    @property
    def name(self) -> str:
        """The run's default folder name."""
        return f"{self.model.name}-{self.splits.train.name}"

    @property
    def length(self) -> Length:
        """How long the run is."""
        config = self.config
        return Length(
            len(self.splits.train), self.model.recipe.epochs, config.minutes, config.stop_early
        )

    @property
    def optimizer(self) -> Optimizer:
        return optim.get(self.model.recipe.optimizer, self.model.recipe)

    def statistics(self) -> Statistics:
        """The training images' mean and colour axes, from the data set or measured."""
        train, loader, size = self.splits.train, self.loaders[0], self.model.recipe.image_size
        found = supplied(train, size)
        if found is not None:
            return found
        world = self.world

        def measured() -> Statistics:
            with self.show.bar("mean image", len(world.share(len(train)))) as bar:
                return measure(
                    train,
                    size,
                    progress=bar.update,
                    loader=loader,
                    share=world.share,
                    gather=world.gather,
                )

        return world.together(measured)

    def first_params(self) -> Tree:
        """The initial parameters, on the host; the caller may modify them."""
        start = self.start
        if start is None and self.config.initial is not None:
            # of a resumed run, which did not need them until now
            origin = open_source(Path(self.config.initial))
            start = _start(self.config, origin, self.model.network, self.splits)
        if start is not None:
            return map_tree(np.copy, start.params)  # a backend may update its arrays in place
        drawn = self.model.network.init(backends.get("numpy"), self.config.seed, self.config.dtype)
        if self.config.shallow is not None:
            shallow = load(self.config.shallow, "numpy")
            require_same_scale(shallow.model, self.model.network)
            drawn = deepen(shallow.params, drawn)
        return drawn

    def first_state(self) -> State:
        """The state before the first step."""
        params = self.devices.to_devices(self.first_params())
        momentum = None if self.start is None else self.start.momentum
        if momentum is None:
            trained = self.model.network.trainable(params)
            return State(params, self.optimizer.start(self.devices, trained))
        velocities = self.devices.to_devices(momentum.velocities)
        return State(params, {VELOCITY: velocities}, momentum.step)

    def classifier(
        self, state: State, statistics: Statistics, about: dict[str, Any] | None = None
    ) -> Classifier:
        """The classifier of a state; `about` is its data record."""
        train = self.splits.train
        return Classifier(
            self.model,
            state.params,
            Preprocessing(self.model.recipe, statistics),
            train.class_names,
            train.class_ids,
            self.devices,
            about or {},
            self.config.dtype,
        )

    def step(self, classifier: Classifier) -> TrainStep:
        """The step that trains `classifier`."""
        soft = self._soft_targets()
        feed = Photographs(classifier.preprocessing, self.config.seed, self.config.dtype, soft)
        return self._step(classifier.devices, feed)

    def trainer(self, classifier: Classifier, folder: Path) -> Trainer:
        """The trainer for `classifier` in a run's folder."""
        config = self.config
        trainer = Trainer(
            self.step(classifier),
            classifier,
            *self.loaders,
            self.splits,
            folder,
            self.show,
            self.length,
            recovers=config.recipe == fitted_recipe.FITTED,
            first=self.first_params,
            half=config.half,
            keep_every=config.keep_every,
            own_code=own_code(config),
        )
        return trainer if config.freeze is None else self._frozen(trainer, config.freeze)

    def _frozen(self, trainer: Trainer, name: str) -> Trainer:
        classifier = trainer.initial
        splits, network = self.splits, self.model.network
        layer, show = frozen.last_frozen(network, name), self.show
        seen, val_seen = (
            frozen.compute(classifier, layer, loader, views, show)
            for loader, views in zip(self.loaders, (10, 1), strict=True)
        )
        crops = len(seen.values)
        show.say(
            f"{layer} and all before it are frozen: {crops} crop{'s' * (crops != 1)} of each image "
            "computed"
        )
        labels = splits.train.labels
        feed = frozen.FeatureFeed(self.config.dtype, seen, self.config.seed, self._soft_targets())
        last = SingleDevice(network.after(layer), classifier.devices.backends[0])
        step = self._step(last, feed)
        return frozen.FrozenTrainer(
            **{
                **vars(trainer),
                "step": step,
                "loader": frozen.FeatureLoader(seen, labels),
                "val_loader": frozen.FeatureLoader(val_seen, splits.val.labels),
            },
            val_features=val_seen,
            photographs=self.loaders,
        )

    def _soft_targets(self) -> SoftTargets | None:
        return soft_targets(self.model.recipe, self.splits.train.labels, self.model.network.classes)

    def _step(self, devices: Devices, feed: Feed) -> TrainStep:
        config, model = self.config, self.model
        return TrainStep(
            devices.network,
            devices,
            losses.get(config.loss, config.margin),
            self.optimizer,
            feed=feed,
            batch_size=model.recipe.batch_size,
            seed=config.seed,
            dtype=config.dtype,
            micro_batch=config.micro_batch,
            world=self.world,
            linked=config.nccl,
        )


def set_up(
    config: TrainConfig,
    where: DeviceConfig,
    show: Progress,
    resumed: Path | None = None,
    world: World = World(),  # noqa: B008  it has no state
    tuned: bool = True,
) -> Setup:
    """Validate a run; `resumed` is the folder of a run to resume.

    `tuned`: fine-tuning has lower rates for kept layers, unless a rate for all is given.
    """
    world.wait_at_most(config.rank_timeout)
    config, origin = choose_model(config, resumed)
    source = None if origin is None else origin.classifier
    if resumed is not None:
        require_resumable(resumed, config)
    held = held_out.open_splits(config, source, resumed)
    splits = held.splits
    if not len(splits.train):
        raise InputError(f"{splits.train.name} has no images to train on: add some")
    for line in every_line(splits.remarks):
        show.say_new(line)
    stored = None if resumed is None else stored_recipe(resumed)
    optimizer = default_optimizer(config, origin)
    alone = where.count == 1 and not world.launched
    own = multipliers(origin, config.model)
    model = resolve_model(config, splits, stored, optimizer, alone, own)
    config = replace(config, model=model.name)
    require_softmax(model.recipe, losses.get(config.loss, config.margin))
    if resumed is not None and config.minutes is None:  # whose epochs are as many as there is time
        require_unfinished(resumed, model.recipe.epochs)
    held_out.require_validation(config, splits, model.recipe.schedule, resumed is not None)
    start = None
    if origin is not None:
        start = _start(config, origin, model.network, splits)
        if start.momentum is not None:  # another program's run goes on, with its own decays
            decays = origin.classifier.preprocessing.recipe.layer_decays
            model = replace(model, recipe=replace(model.recipe, layer_decays=decays))
        fitted = config.recipe == fitted_recipe.FITTED and config.lr is None
        if tuned and fitted and start.momentum is None:
            recipe = fitted_recipe.fine_tuned(
                model.recipe, model.network, start.kept, config.layer_rates
            )
            model = replace(model, recipe=recipe)
    curve = config.curve(len(splits.train))
    least = LEAST_NORMALISED if model.network.layers_with_statistics else 1
    config = ranks.with_micro_batch(config, model.recipe.batch_size, world, resumed, least)
    devices = where.open(model.network, config.micro_batch is not None, world)
    require_trainable(model.network, len(devices.backends))
    ranks.require_same(world, config, devices, splits)
    if config.freeze is not None:
        _require_freezable(config.freeze, model, devices)
        if resumed is None and config.dropout:
            _require_dropout(config.freeze, model.network)
    parts = splits.train, splits.val
    train, val = (_loader(config, model, part, world, devices.backends[0]) for part in parts)
    loaders = train, val
    return Setup(config, where, held, model, devices, loaders, source, start, show, world, curve)


def _start(config: TrainConfig, origin: Source, network: Network, splits: Splits) -> Start:
    return start_from(
        origin.classifier,
        network,
        class_names=splits.train.class_names,
        class_ids=splits.train.class_ids,
        replace_classifier=config.replace_classifier,
        seed=config.seed,
        dtype=config.dtype,
        momentum=origin.momentum if config.optimizer in (None, optim.DEFAULT) else None,
    )


def _require_freezable(layer: str, model: Model, devices: Devices) -> None:
    frozen.last_frozen(model.network, layer)
    plain, own = Recipe(), model.recipe
    for name in augmentation_options.OF_IMAGES:
        if getattr(own, name) == getattr(plain, name):
            continue
        raise InputError(
            f"`{name}` cannot be used with frozen layers, whose outputs are computed once: "
            "leave out one"
        )
    if isinstance(devices, DeviceGroup):
        raise InputError("freeze needs a single device: give one, or leave out freeze")


def _require_dropout(freeze: str, network: Network) -> None:
    """Raise InputError if all dropout layers are among the frozen ones."""
    trained = network.after(frozen.last_frozen(network, freeze))
    if trained == trained.without_dropout():
        raise InputError(
            f"`dropout` has no effect with `freeze={freeze!r}`: no dropout layer comes after it"
        )


def _loader(config: TrainConfig, model: Model, part: Dataset, world: World, b: Backend) -> Loader:
    size, workers = model.recipe.image_size, config.workers or world.threads
    return Loader(part, size, workers=workers, timeout=config.read_timeout, empty=b.host_empty)
