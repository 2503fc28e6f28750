"""Batches of decoded images, read ahead by threads."""
