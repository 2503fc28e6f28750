"""What a run leaves beside its weights: results.html and predictions.csv."""
