"""Writes a run's results.html and predictions.csv."""
