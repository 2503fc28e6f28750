"""Training: configuration, the step, the loop, what is saved and how a run resumes."""
