"""Cross-validation: each image is evaluated once, by a network not trained on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialex.data.dataset import Subset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.classifier import Classifier
from minialex.inference.evaluation import Evaluation, predict_dataset
from minialex.inference.prediction_file import judged_rows, prediction_file
from minialex.results.folds import Fold, joined
from minialex.training import report, run_folder
from minialex.training.config import parse, plug_in
from minialex.training.held_out import open_splits
from minialex.training.result import Result
from minialex.training.train import train_shown
from minialex.utils.arguments import FilePath, Flag, integer
from minialex.utils.launcher import require_one_process
from minialex.utils.progress import Progress

_MOST_FOLDS = 9999


@dataclass(frozen=True)
class CrossValidation:
    """What `cross_validate` returns: the evaluation over all images, and each fold's.

    `interrupted` names the signal that stopped it before all folds were trained; the overall
    evaluation is then missing.
    """

    folder: Path
    folds: tuple[Evaluation, ...]
    evaluation: Evaluation | None
    interrupted: str | None = None

    def __str__(self) -> str:
        lines = [f"fold {i}: {fold.accuracy:.1%}" for i, fold in enumerate(self.folds, 1)]
        return "\n".join([*lines, str(self.evaluation or "")]).rstrip()


def cross_validate(
    data: Any = None,
    *,
    folds: int,
    out: str | Path | None = None,
    progress: bool = True,
    **arguments: Any,
) -> CrossValidation:
    """Train `folds` networks, each without its part of the images, and evaluate on that part.

    Each fold has its own run folder in `out` (fold-1, ...); `out` also gets predictions.csv, with
    one row per image, and results.html (unless `report=False`): accuracy by fold and class, the
    confusion matrix and the most confident mistakes. To continue an interrupted call, repeat it
    with the same arguments: finished folds are kept and the interrupted one is resumed. The
    networks are evaluated after their last epoch, since picking the best epoch on the test fold
    would bias the result, and neither `stop_early` nor the schedule "plateau" is possible. The
    other arguments are those of `train`.
    Raises InputError for invalid arguments.
    """
    require_one_process("cross_validate")
    folds = integer(2, at_most=_MOST_FOLDS).check("folds", folds)
    if arguments.get("fold") is not None:
        raise InputError("cross-validation trains every fold: leave out `fold`")
    if arguments.get("max_steps") is not None:
        raise InputError(
            "cross-validation evaluates networks after their last epoch: leave out `max_steps`"
        )
    if arguments.get("val_fraction") is not None:
        raise InputError("`val_fraction` has no effect in cross-validation: leave it out")
    given = {"data": data, **arguments}
    config, _ = parse(plug_in({**given, "fold": f"1/{folds}"}))
    if config.keep is not None:
        raise InputError(
            "`keep` saves the weights of one run, and cross-validation trains several: "
            "leave out one"
        )
    for used, what in (
        (config.stop_early, "stop_early"),
        (config.schedule == "plateau", "plateau"),
    ):
        if used:
            raise InputError(
                f"{what!r} would use the images that each fold is evaluated on, which would bias "
                "the result: leave it out of cross-validation"
            )
    name = open_splits(config, None, None).splits.train.name
    out = None if out is None else FilePath().check("out", out)
    own = out is not None and (Path(out) / "fold-1").is_dir()  # which is continued
    files = () if own else ("predictions.csv", "results.html")
    folder = run_folder.new_folder(out, f"{name}-{folds}-folds", files)
    done: list[Fold] = []
    show = Progress(Flag().check("progress", progress))
    for number in range(1, folds + 1):
        fold = {**given, "fold": f"{number}/{folds}"}
        result = _train(folder / f"fold-{number}", fold, show.of_next_run())
        if result.interrupted:
            found = tuple(one.evaluation() for one in done)
            return CrossValidation(folder, found, None, result.interrupted)
        val = open_splits(parse(plug_in(fold))[0], None, None).splits.val
        assert isinstance(val, Subset)  # a part of the whole data set
        done.append(_judge(result.classifier, val))
        if given.get("model") is None and given.get("initial") is None:
            given["model"] = result.classifier.model.name  # not a later version's default
    _write(folder / "predictions.csv", done)
    if config.report:
        report.leave_folds(folder, name, done, show)
    each = tuple(one.evaluation() for one in done)
    return CrossValidation(folder, each, joined(done).evaluation())


def _train(folder: Path, given: dict[str, Any], show: Progress) -> Result:
    resume = (folder / "last.safetensors").exists()
    return train_shown(show, **given, out=folder, resume=resume, part_of=folder.parent)


def _judge(classifier: Classifier, val: Subset) -> Fold:
    loader = Loader(val, classifier.preprocessing.recipe.image_size, cache_bytes=0)
    found = predict_dataset(classifier.trained, loader, 1)
    line = f"{classifier.recipe_line}, 1 crop"
    indices, labels = val.indices[found.indices], val.labels[found.indices]
    return Fold(line, val.whole, indices, found.probabilities, labels)


def _write(path: Path, folds: list[Fold]) -> None:
    with prediction_file(path) as file:
        for number, fold in enumerate(folds, 1):
            found, names = fold.outcomes(), fold.dataset.class_names
            judged = found.labels, found.predicted, found.probability, found.right
            for row in judged_rows(fold.images, names, *judged):
                file.add({"fold": number, **row})
