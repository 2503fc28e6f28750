"""Checks for authors of layers and backends, and for a user's own machine."""

from minialex.testing.contract import check_backend, check_names, check_signatures

__all__ = ["check_backend", "check_names", "check_signatures"]
