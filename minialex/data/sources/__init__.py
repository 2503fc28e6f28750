"""Where images come from: one file for each format, found by its SOURCE (see `source.py`)."""
