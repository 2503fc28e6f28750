"""Weight averaging: the mean of the weights at the end of each of a run's last epochs.

Training itself goes on from its own weights, as if there were no mean. The mean is validated, and
kept as the best weights, from its second epoch on (Izmailov et al., 2018).
"""

from dataclasses import dataclass, field

import numpy as np

from minialex.tree import Tree, map_tree


@dataclass(frozen=True)
class Average:
    """The mean of the weights, on the host, over so many `epochs`, each counting as much."""

    epochs: int = 0
    params: Tree = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it is more than the weights themselves."""
        return self.epochs > 1

    def after(self, params: Tree, left: int, last: int, exact: bool = True) -> "Average":
        """With the weights on the host at the end of an epoch that `left` others follow.

        Only the `last` epochs count. If it is `exact` that `left` follow, an average that holds
        earlier ones starts anew: those of a run that was given more epochs since.
        """
        if left >= last:
            return Average()
        if self.epochs == 0 or (exact and self.epochs >= last - left):
            return Average(1, map_tree(np.array, params))  # copies: an update may be in place
        count = self.epochs + 1
        mean = map_tree(lambda old, new: old + (new - old) / count, self.params, params)
        return Average(count, mean)
