"""Helpers: atomic files, weight files, cores, threads, compilation, progress, signals, tables."""
