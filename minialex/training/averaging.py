"""Weight averaging: the mean of the weights at the end of each of a run's last epochs.

Training itself is not affected. From its second epoch on, the mean is what is validated and saved
as the best weights (Izmailov et al., 2018).
"""

from dataclasses import dataclass, field

import numpy as np

from minialex.tree import Tree, map_tree


@dataclass(frozen=True)
class Average:
    """The mean of the weights, on the host, over `epochs` epochs with equal weight."""

    epochs: int = 0
    params: Tree = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it averages more than one epoch."""
        return self.epochs > 1

    def after(self, params: Tree, left: int, last: int, exact: bool = True) -> "Average":
        """The average after adding the weights (on the host) of an epoch with `left` more to come.

        Only the `last` epochs count. If `left` is `exact`, an average that includes earlier epochs
        is restarted: the run has been extended since.
        """
        if left >= last:
            return Average()
        if self.epochs == 0 or (exact and self.epochs >= last - left):
            return Average(1, map_tree(np.array, params))  # copies: an update may be in place
        count = self.epochs + 1
        mean = map_tree(lambda old, new: old + (new - old) / count, self.params, params)
        return Average(count, mean)
