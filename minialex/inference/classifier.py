"""A trained network with everything needed to use it: preprocessing, class names, devices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import models
from minialex.data.dataset import Dataset
from minialex.data.preprocessing import Preprocessing
from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.exchange.portable import PortableModel
from minialex.exchange.read import format_of, read
from minialex.inference import given_images
from minialex.inference.evaluation import Evaluation, OnImages, evaluate_model, unmirrored
from minialex.inference.given_images import Batch, Image
from minialex.inference.judged_images import cropped_before, images_to_judge
from minialex.inference.predictions import Predictions, answers
from minialex.inference.trained_model import TrainedModel
from minialex.layers.base import Shape
from minialex.models import Model, registry
from minialex.models.recipe import Recipe
from minialex.parallel import DeviceConfig, Devices
from minialex.tree import Tree, flatten, map_tree
from minialex.utils import checkpoint, weight_names
from minialex.utils.arguments import FilePath, integer
from minialex.utils.composed import all_composed
from minialex.utils.table import html

_SHOWN = 3  # class names in a classifier's repr


@dataclass
class Classifier:
    """A trained network: `predict`, `features`, `evaluate` and `save`.

    `data` records what it was trained on ({"data", "seed", "val_fraction", "images"}), so that
    `evaluate` uses the held-out images.
    """

    model: Model
    params: Tree
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    devices: Devices
    data: dict[str, Any]
    dtype: str = "float32"

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: parameters on the host, and the device configuration."""
        params = map_tree(self.devices.to_numpy, self.params)
        return {**vars(self), "params": params, "devices": DeviceConfig.of(self.devices)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        devices = state["devices"].open(state["model"].network)
        vars(self).update(state, devices=devices, params=devices.to_devices(state["params"]))

    def __repr__(self) -> str:
        said = self._described()
        if "trained on" in said:
            said["trained on"] = f"trained on {said['trained on']}"
        network, classes, *rest = said.values()
        return f"<Classifier {network}\n {classes}\n {'; '.join(rest)}>"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        return html((), list(self._described().items()))

    def _described(self) -> dict[str, str]:
        """A few short texts that describe it, by name."""
        first = ", ".join(name[:24] for name in self.class_names[:_SHOWN])
        more = ", ..." if len(self.class_names) > _SHOWN else ""
        about, network = self.data.get("data"), self.model.network
        return {
            "network": f"{self.model.name}, {network.parameter_count:,} parameters",
            "classes": f"{len(self.class_names):,} classes: {first}{more}",
            "images": self.preprocessing.recipe.line(),
            "device": self.devices.describe()[0],
            **({"trained on": str(about)} if about else {}),
        }

    @property
    def trained(self) -> TrainedModel:
        """Network, weights, preprocessing and devices, in the form that evaluation takes."""
        network = self.model.network
        return TrainedModel(network, self.params, self.preprocessing, self.devices, self.dtype)

    @property
    def recipe_line(self) -> str:
        """Model and preprocessing in one line, to print beside an accuracy."""
        return f"{self.model.name}, {self.preprocessing.recipe.line()}"

    def predict(self, images: Image | Iterable[Image], top: int = 5, crops: int = 1) -> Predictions:
        """The `top` most probable classes of each image, most probable first.

        Images are paths, file objects, Pillow images or uint8 arrays (H, W, 3): one or any number
        of them, also from an iterator; they are processed a few at a time. A folder stands for the
        image files in it and below it, in the order of `inference.given_images.files_in`, and
        "shapes:N" for N drawings. `crops` is 1, the centre crop, or 10: the mean of the paper's ten
        crops, or of the five that are not mirrored for a network trained without mirroring.

        An unreadable image among several gets an empty list and a warning that names it; a single
        unreadable image raises InputError or OSError.
        """
        top = integer(1).check("top", top)
        return answers(self._probabilities(images, crops), self.class_names, top)

    def probabilities(self, images: Image | Iterable[Image], crops: int = 1) -> np.ndarray:
        """All class probabilities: (N, K); NaN for one of several images that cannot be read."""
        return np.concatenate([batch.rows(p) for batch, p in self._probabilities(images, crops)])

    def _probabilities(
        self, images: Image | Iterable[Image], crops: int
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        size = self.preprocessing.recipe.image_size
        for batch in given_images.batches(images, (size,)):
            yield batch, self.trained.probabilities(batch.images[size], crops)

    def features(self, images: Image | Iterable[Image]) -> np.ndarray:
        """The last hidden layer's outputs on the centre crop (paper, section 6.1): (N, 4096).

        NaN for one of several images that cannot be read; a warning names it.
        """
        [centre] = self.preprocessing.views(1)
        layer, size = self.model.network.feature_layer(), self.preprocessing.recipe.image_size
        found = []
        for batch in given_images.batches(images, (size,)):
            y = self.trained.scores(batch.images[size], centre, layer)
            found.append(batch.rows(y.reshape(len(y), -1).astype(self.dtype)))
        return np.concatenate(found)

    def evaluate(
        self,
        data: Any = None,
        crops: int = 1,
        batch_size: int = 128,
        workers: int | None = None,
        progress: bool = False,
        on_images: OnImages | None = None,
    ) -> Evaluation:
        """Errors on the validation images of `data` (None: of the training data).

        If a folder of class folders has no validation part, all images are used except those that
        the network was trained on; the result's `note` says how many were left out.
        `on_images` is called with the names, labels (n,) and probabilities (n, K) of each batch.
        """
        from minialex.data.loading.loader import Loader
        from minialex.utils.progress import Progress

        used = len(self.preprocessing.views(crops))  # raises for an unsupported number of crops
        judged = images_to_judge(self.data, data)
        dataset, labels = judged.dataset, self._labels(judged.dataset)
        recipes = [self.preprocessing.recipe]
        ways = (cropped_before(dataset, recipes), unmirrored(recipes, crops))
        notes = (judged.note, self._matched_by_position(dataset), *ways)
        batch_size = integer(1).check("batch_size", batch_size)
        workers = None if workers is None else integer(1).check("workers", workers)
        size = self.preprocessing.recipe.image_size
        loader = Loader(dataset, size, workers=workers, cache_bytes=0)  # each image is read once
        with Progress(progress).bar("evaluating", len(dataset)) as bar:
            return evaluate_model(
                self.trained,
                dataset,
                crops=crops,
                batch_size=batch_size,
                labels=labels,
                loader=loader,
                recipe_line=f"{self.recipe_line}, {used} crop{'s' * (used > 1)}",
                on_batch=bar.update,
                note="; ".join(filter(None, notes)),
                on_images=on_images,
            )

    def save(
        self,
        path: str | Path,
        state: dict | None = None,
        tensors: dict | None = None,
        *,
        half: bool = False,
        accuracy: float | None = None,
    ) -> None:
        """Write a weight file; with a training `state` and `tensors`, one to resume from.

        With `half` the parameters are rounded to float16, which halves the file. `accuracy` is
        stored in it, for lists of weights.
        """
        path = FilePath().check("path", path)
        if Path(path).is_dir():
            raise InputError(f"{path} is a folder: give a file in it")
        statistics = self.preprocessing.statistics
        weights = flatten(map_tree(self.devices.to_numpy, self.params))
        if half:
            weights = {name: _rounded(value) for name, value in weights.items()}
        described = {
            "model": {
                "name": self.model.name,
                "classes": self.model.classes,
                "options": self.model.options,
                "dropout": self.model.network != self.model.network.without_dropout(),
                **({"source": self.model.source} if self.model.source else {}),
            },
            "class_names": list(self.class_names),
            "class_ids": list(self.class_ids),
            "recipe": asdict(self.preprocessing.recipe),
            "colour_order": "RGB",
            "statistics_count": statistics.count,
            "data": self.data,
            "state": state,
            **({} if accuracy is None else {"accuracy": accuracy}),
        }
        fixed = {
            "preprocessing.mean": statistics.mean,
            "preprocessing.colour_std": statistics.colour_std,
            "preprocessing.colour_axes": statistics.colour_axes,
        }
        checkpoint.save(Path(path), {**weights, **fixed, **(tensors or {})}, described)

    def _labels(self, dataset: Dataset) -> np.ndarray | None:
        """The network's index of each of the data set's classes; None if they are the same."""
        theirs, ours = all_composed(dataset.class_ids), all_composed(self.class_ids)
        if theirs == ours:
            return None
        if self._matched_by_position(dataset):
            return None
        known = {name: k for k, name in enumerate(ours)}
        other = [name for name in theirs if name not in known]
        if other:
            raise InputError(
                f"{dataset.name} has classes this network was not trained on "
                f"({', '.join(other[:3])}{', ...' if len(other) > 3 else ''}): its classes are "
                f"{', '.join(self.class_ids[:3])}{', ...' if len(self.class_ids) > 3 else ''}"
            )
        return np.array([known[name] for name in theirs])

    def _matched_by_position(self, dataset: Dataset) -> str:
        """A sentence if classes are matched by position: those of imported weights without names.

        Weights with a record of their training data know its classes, even if these are numbers.
        """
        theirs, ours = dataset.class_ids, self.class_ids
        numbered = ours == tuple(map(str, range(len(theirs))))
        if self.data or not numbered or all(name.isdecimal() for name in theirs):
            return ""
        return (
            "the weights have no class names, so their outputs are taken to be the data's classes "
            "in their order"
        )


def predict(
    path: str | Path, images: Image | Iterable[Image], top: int = 5, crops: int = 1
) -> Predictions:
    """`load(path).predict(images)`."""
    return load(path).predict(images, top, crops)


def evaluate(path: str | Path, data: Any = None, crops: int = 1, **options: Any) -> Evaluation:
    """`load(path).evaluate(data, crops)`."""
    return load(path).evaluate(data, crops, **options)


def load(
    path: str | Path,
    backend: str = "auto",
    devices: int | Sequence[int] | None = None,
    parallel: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    model: Any = None,
) -> Classifier:
    """Load a weight file, ours or another framework's, or the best weights of a run folder.

    If there is no such path, loads weights stored by this name (`minialex train --keep NAME`).
    `backend` to `threads` are the fields of `DeviceConfig`. `model` is needed for a network of your
    own that is not registered: its function, or FILE.py:FUNCTION. Raises InputError for a file that
    is damaged or not a weight file, FileNotFoundError if there is none.
    """
    models.use(model)
    return load_on(path, DeviceConfig(backend, devices, parallel, precision, threads))


def load_on(path: str | Path, devices: DeviceConfig) -> Classifier:
    """`load`, with the devices as one value."""
    path = weight_names.located(Path(FilePath().check("path", path)))
    if is_foreign(path):
        return from_portable(read(path), devices)
    path = weight_file(path)
    tensors, described = checkpoint.load(path)
    return from_checkpoint(path, tensors, described, devices)


def is_foreign(path: Path) -> bool:
    """Whether another framework wrote it: a weight file, or a folder that is not a run."""
    return path.exists() and format_of(path) is not None


def from_portable(portable: PortableModel, devices: DeviceConfig | Devices) -> Classifier:
    """The classifier of a model from another framework."""
    opened = devices.open(portable.model.network)
    return Classifier(
        replace(portable.model, recipe=portable.preprocessing.recipe),
        opened.to_devices(portable.params),
        portable.preprocessing,
        all_composed(portable.names),
        all_composed(portable.ids),
        opened,
        portable.data,
    )


def weight_file(path: Path) -> Path:
    """`path` itself, or the best weights in a run folder, or else the last ones."""
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).exists():
                return path / name
        raise InputError(f"{path} has no best.safetensors or last.safetensors: not a run folder")
    if not path.exists():
        raise weight_names.missing(path)
    return path


def from_checkpoint(
    path: Path,
    tensors: dict[str, np.ndarray],
    described: dict[str, Any],
    devices: DeviceConfig | Devices,
) -> Classifier:
    """Build the classifier a checkpoint describes; InputError if its tensors do not fit."""
    require_described(path, described, tensors)
    name = _known_name(path, described["model"])
    try:
        model = models.stored(
            name or described["model"]["name"],
            described["model"]["classes"],
            described["model"]["options"],
        )
        if not described["model"]["dropout"]:
            model = replace(model, network=model.network.without_dropout())
        recipe = Recipe(**described["recipe"])
        statistics = Statistics(
            tensors["preprocessing.mean"],
            tensors["preprocessing.colour_std"],
            tensors["preprocessing.colour_axes"],
            described["statistics_count"],
        )
        names, ids = (
            all_composed(map(str, described[key])) for key in ("class_names", "class_ids")
        )
        preprocessing = Preprocessing(recipe, statistics)
        preprocessing.views(10)  # raises for a crop larger than the image
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} cannot be used ({reason}): it is damaged, or from before minialex 0.1.0"
        ) from None
    stored = {
        layer: {
            name: _tensor(path, tensors, f"{layer}.{name}", shape) for name, shape in of.items()
        }
        for layer, of in model.network.parameter_shapes().items()
    }
    b = devices.open(model.network)
    if not len(names) == len(ids) == model.classes:
        raise InputError(
            f"{path} names {len(names)} classes, but its network has {model.classes} outputs: "
            "the file is damaged"
        )
    first = next(value for of in stored.values() for value in of.values())  # whatever its name
    return Classifier(
        replace(model, recipe=recipe),
        b.to_devices(stored),
        preprocessing,
        names,
        ids,
        b,
        described.get("data") or {},
        str(first.dtype),
    )


def to_portable(classifier: Classifier) -> PortableModel:
    """The classifier for export to other frameworks, with float32 parameters on the host."""
    params = map_tree(classifier.devices.to_numpy, classifier.params)
    names, ids = classifier.class_names, classifier.class_ids
    numbered = names == tuple(map(str, range(len(names))))
    return PortableModel(
        "minialex",
        classifier.model,
        map_tree(lambda value: value.astype(np.float32, copy=False), params),
        classifier.preprocessing,
        None if numbered else names,
        None if ids == names else ids,
        data=classifier.data,
    )


def _known_name(path: Path, network: Any) -> str | None:
    """The name by which `models.get` knows a plugged-in network; None for one of minialex."""
    if not isinstance(network, dict) or not isinstance(network.get("source"), str):
        return None
    return registry.require(path, str(network.get("name")), network["source"])


_DESCRIBED = ("model", "class_names", "class_ids", "recipe", "statistics_count")
_FIXED = ("preprocessing.mean", "preprocessing.colour_std", "preprocessing.colour_axes")


def require_described(path: Path, described: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Raise InputError if a required part of a weight file is missing."""
    missing = [name for name in _DESCRIBED if name not in described]
    missing += [name for name in _FIXED if name not in tensors]
    if missing:
        raise InputError(
            f"{path} has no {', no '.join(missing)}: it is damaged, or from before minialex 0.1.0, "
            "whose files can no longer be read"
        )


def _rounded(value: np.ndarray) -> np.ndarray:
    """The array in float16, unless a number is too large for it."""
    largest = np.finfo(np.float16).max
    return value if np.any(np.abs(value) > largest) else value.astype(np.float16)


def _tensor(path: Path, tensors: dict, key: str, shape: Shape) -> np.ndarray:
    found = tensors[key].shape if key in tensors else None
    if found != tuple(shape):
        raise InputError(
            f"{path}: {key} is {found or 'missing'}, but its model needs {tuple(shape)}: "
            "the file holds another network"
        )
    value = tensors[key]
    return value.astype(np.float32) if value.dtype == np.float16 else value
