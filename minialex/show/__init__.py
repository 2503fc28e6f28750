"""Pages that show a trained network at work on a photograph."""
