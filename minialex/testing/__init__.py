"""Checks for authors of layers and backends, and for a user's own machine.

    check_layer(layer, input_shape)     forward, backward and shapes of a layer
    check_backend(b)                    names, signatures and ops of a backend
    assert_close, grid                  a tolerance by dtype; numbers without ties or kinks

They raise AssertionError with a sentence. `self_test` is what `minialex check` runs.
"""

from minialex.testing.contract import check_backend, check_names, check_signatures
from minialex.testing.gradients import check_layer, grid
from minialex.testing.tolerance import assert_close

__all__ = [
    "assert_close",
    "check_backend",
    "check_layer",
    "check_names",
    "check_signatures",
    "grid",
]
