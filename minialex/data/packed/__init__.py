"""Decoded images in one folder of arrays: how it is written and read."""
