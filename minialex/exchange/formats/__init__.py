"""The formats of weight files, one module for each; see `format.py`."""
