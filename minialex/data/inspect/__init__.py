"""Describes a data set, and finds problems in it."""
