"""What `train` returns."""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from minialex.inference.classifier import Classifier
from minialex.results.chart import standalone
from minialex.utils.progress import loss_text
from minialex.utils.table import html

_EPOCHS_SHOWN = 10


@dataclass(frozen=True)
class Result:
    """What `train` returns.

    `interrupted` names the signal that ended training, if one did; `skipped` gives the reason for
    each image that could not be read.
    """

    history: list[dict[str, Any]]
    classifier: Classifier
    run_dir: Path
    interrupted: str | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        last = self._rows()[-1:] or [("0", "", "", "")]
        epoch, _, loss, accuracy = last[0]
        judged = "".join(
            f", {name} {value}"
            for name, value in (("val loss", loss), ("accuracy", accuracy))
            if value
        )
        stopped = f", stopped by {self.interrupted}" if self.interrupted else ""
        return f"<Result {self.run_dir}: epoch {epoch}{judged}{stopped}\n {self.classifier!r}>"

    def _repr_html_(self) -> str:
        """The last epochs and the losses as curves, for notebooks."""
        header = ("epoch", "train loss", "val loss", "accuracy")
        table = html(header, self._rows()[-_EPOCHS_SHOWN:])
        model, epochs = self.classifier.model, len(self.history)
        said = (
            f"{model.name}, {model.network.parameter_count:,} parameters, {epochs} "
            f"epoch{'s' * (epochs != 1)}"
        )
        where = escape(str(self.run_dir))
        return f'<p title="{where}">{escape(said)}</p>{table}{self._curves()}'

    def _curves(self) -> str:
        """The losses by epoch; "" for fewer than two epochs."""
        if len(self.history) < 2:
            return ""

        def points(column: str) -> list[tuple[float, float]]:
            rows = ((row["epoch"], row[column]) for row in self.history)
            return [(float(x), float(y)) for x, y in rows if y not in (None, "")]

        return standalone(
            {"training": points("train_loss"), "validation": points("val_loss")}, "loss by epoch"
        )

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                f"{float(row['epoch']):g}",
                loss_text(float(row["train_loss"])),
                "" if row["val_loss"] in (None, "") else loss_text(float(row["val_loss"])),
                ""
                if row["val_top1_error"] in (None, "")
                else f"{1 - float(row['val_top1_error']):.1%}",
            )
            for row in self.history
        ]
