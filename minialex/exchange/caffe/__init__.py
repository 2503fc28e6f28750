"""Caffe's files: networks and weights in protobuf's two encodings, mean images, solver states.

`wire` reads the binary encoding, `text` the prototxt; both give the `Message` of `message`.
`layers` makes our layers of Caffe's, `weights` our parameters, and `images` the preprocessing.
"""
