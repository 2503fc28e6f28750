"""Checks for authors of layers and backends, and for a user's own machine."""
