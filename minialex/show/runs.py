"""The runs that a page shows: their weights by epoch, their photographs and images to search."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, load_on
from minialex.inference.judged_images import images_to_judge
from minialex.parallel import DeviceConfig
from minialex.saliency.forward import forward, host
from minialex.saliency.strongest import Strongest, best, peaks
from minialex.show.look import Look, Photo, photo
from minialex.training import run_folder

BEST = "best"  # the epoch of the weights that a run folder is loaded with
MOST = 1000  # validation images that are searched
NINE = 9
_WEIGHTS = ("best.safetensors", "last.safetensors")  # that a run folder is loaded with
_BATCH = 32
_THUMB = 96  # pixels

T = TypeVar("T")


class NoImages(InputError):
    """There are no images to search, and there will be none."""


class Recent(OrderedDict[Hashable, T]):
    """The most recently used values by key."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made if it is not there."""
        if key not in self:
            self[key] = make()
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)
        return self[key]


@dataclass
class Search:
    """The validation images as one network sees them, a batch at a time.

    `strongest` and `features` are those of the images read so far.
    """

    classifier: Classifier
    dataset: Dataset

    def __post_init__(self) -> None:
        count = len(self.dataset)
        self.order = np.arange(count)
        if count > MOST:
            self.order = np.linspace(0, count - 1, MOST).round().astype(np.int64)
        self._start()

    def _start(self) -> None:
        self.strongest: dict[str, Strongest] = {}
        self.done, self.read = False, 0
        self._features: list[np.ndarray] = []
        self._indices: list[np.ndarray] = []
        size = self.classifier.preprocessing.recipe.image_size
        self._batches = Loader(self.dataset, size, cache_bytes=0).batches(self.order, _BATCH)

    def step(self) -> bool:
        """Read one batch more; whether there may be others. After an error it starts again."""
        try:
            return self._step()
        except Exception:
            self._start()
            raise

    def _step(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            self.done = True
            return False
        model = self.classifier.trained
        last = model.network.feature_layer()
        run = forward(model, batch.images, until=last)
        for name, output in run.outputs():
            y = host(run.b, output)
            new = peaks(y, batch.indices)
            self.strongest[name] = best(self.strongest.get(name), new, NINE)
        self._features.append(y.reshape(len(y), -1))
        self._indices.append(batch.indices)
        self.read += len(batch)
        return True

    def nearest(self, features: np.ndarray, count: int) -> list[tuple[int, float]]:
        """Index and distance of the images nearest to one row of features, nearest first."""
        rows, indices = np.concatenate(self._features), np.concatenate(self._indices)
        apart = np.sqrt(np.sum((rows.astype(np.float64) - features) ** 2, axis=1))
        order = np.argsort(apart, kind="stable")[:count]
        return [(int(indices[k]), float(apart[k])) for k in order]

    def thumb(self, index: int) -> np.ndarray:
        """A small picture of an image, uint8 (96, 96, 3)."""
        return self.dataset.image(index, _THUMB)


class Run:
    """A run folder, a weight file or kept weights; `data` are other images to search."""

    def __init__(self, path: Path, devices: DeviceConfig, data: str | None = None):
        self.path, self._devices, self._data = path, devices, data
        self._classifiers: Recent[Classifier] = Recent(3)
        self._looks: Recent[Look] = Recent(4)
        self._searches: Recent[Search] = Recent(2)
        self._dataset: Dataset | None = None
        classifier = self.classifier(BEST)
        channels = classifier.model.network.input_shape[2]
        if channels != 3:
            raise InputError(f"{path} reads stacks of {channels} channels, not photographs")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name or str(self.path)

    @property
    def folder(self) -> Path | None:
        """The run folder, if it is one."""
        return self.path if (self.path / "config.json").exists() else None

    def epochs(self) -> list[str]:
        """What `classifier` takes: BEST, and the epochs whose weights are kept."""
        kept = run_folder.checkpoints(self.path) if self.folder else {}
        return [*map(str, kept), BEST]

    def classifier(self, epoch: str) -> Classifier:
        """The network with the weights of an epoch; InputError if they are not kept."""
        path = self._file(epoch)
        return self._classifiers.of(self._key(path), lambda: load_on(path, self._devices))

    def _file(self, epoch: str) -> Path:
        kept = run_folder.checkpoints(self.path) if self.folder else {}
        if epoch == BEST:
            if not self.folder or any((self.path / name).is_file() for name in _WEIGHTS):
                return self.path
            if not kept:  # in the first epoch
                raise InputError(f"{self.path} has no weights yet: wait until its first epoch ends")
            return kept[max(kept)]
        if not epoch.isdecimal() or len(epoch) > 9 or int(epoch) not in kept:
            raise InputError(f"{self.path} keeps no weights of epoch {epoch[:20]}")
        return kept[int(epoch)]

    @property
    def stamp(self) -> str:
        """Another text once the weights that BEST stands for have changed."""
        return repr(self._key(self._file(BEST)))

    def _key(self, path: Path) -> Hashable:
        """Changes when the weights do: training goes on, and the best ones are replaced."""
        files = [path / name for name in _WEIGHTS] if path.is_dir() else [path]
        stamps = [file.stat().st_mtime_ns for file in files if file.is_file()][:1]
        return (str(path), *stamps)

    @property
    def image_size(self) -> int:
        """What photographs are resized to."""
        return self.classifier(BEST).preprocessing.recipe.image_size

    def look(self, epoch: str, key: str, given: Photo) -> Look:
        """A photograph, known by `key`, in the network of an epoch."""
        classifier = self.classifier(epoch)
        weights = self._key(self._file(epoch))
        return self._looks.of((weights, key), lambda: Look(classifier, given))

    def dataset(self) -> Dataset:
        """The images to search; InputError or OSError while they cannot be found."""
        if self._dataset is None:
            about = self.classifier(BEST).data
            if self._data is None and about.get("data") is None:
                raise NoImages(
                    "These weights do not say what they were trained on, so there are no "
                    "validation images: start `minialex show` with --data PATH."
                )
            self._dataset = images_to_judge(about, self._data).dataset
        return self._dataset

    def search(self, epoch: str) -> Search:
        """The search of the validation images by the network of an epoch, as far as it is."""
        classifier, dataset = self.classifier(epoch), self.dataset()
        weights = self._key(self._file(epoch))
        return self._searches.of(weights, lambda: Search(classifier, dataset))

    def photo(self, content: bytes, name: str) -> Photo:
        """An uploaded photograph, by the rules for all images."""
        return photo(content, name, self.image_size)

    def validation_photo(self, index: int) -> Photo:
        """One of the images to search."""
        dataset = self.dataset()
        if not 0 <= index < len(dataset):
            raise InputError(f"there is no image {index} of {len(dataset):,}")
        path = dataset.path(index)
        if path is not None:
            return photo(path, dataset.describe(index), self.image_size)
        return Photo(dataset.describe(index), dataset.image(index, self.image_size))
