"""Caffe's files: networks and weights in protobuf's two encodings, mean images, solver states.

`wire` reads the binary encoding and `text` the prototxt; both return the `Message` of `message`.
`layers` converts Caffe's layers to ours, `weights` the parameters, and `images` the preprocessing.
"""
