"""From an image file to pixels: decoding, orientation, resizing."""
