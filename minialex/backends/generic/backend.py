"""The generic backend: every op over any array library of the Python array API standard.

`GenericBackend("mine", xp)` runs a network on any such `xp`. An optimised backend is a subclass
that overrides only the ops for which it is faster; the tests compare every override with this
backend, and this backend with the loops in `reference/`.
"""

from minialex.backends.generic.activations import GenericActivations
from minialex.backends.generic.adam import GenericAdam
from minialex.backends.generic.batch_norm import GenericBatchNorm
from minialex.backends.generic.convolution import GenericConvolution
from minialex.backends.generic.crops import GenericCrops
from minialex.backends.generic.dense import GenericDense
from minialex.backends.generic.dropout import GenericDropout
from minialex.backends.generic.losses import GenericLosses
from minialex.backends.generic.pooling import GenericPooling
from minialex.backends.generic.response_norm import GenericResponseNorm
from minialex.backends.generic.sgd import GenericSGD


class GenericBackend(
    GenericConvolution,
    GenericDense,
    GenericActivations,
    GenericPooling,
    GenericResponseNorm,
    GenericBatchNorm,
    GenericDropout,
    GenericLosses,
    GenericCrops,
    GenericSGD,
    GenericAdam,
):
    """The generic backend over the array namespace `xp` (an array-API namespace)."""
