"""Data formats: one module for each, found by its SOURCE (see `source.py`)."""
