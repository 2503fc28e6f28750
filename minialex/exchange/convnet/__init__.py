"""cuda-convnet's files: layer definitions (.cfg), and the checkpoints of trained networks.

`cfg` reads sections and values, `graph` turns them into layers with shapes, `network` into our
network if all its layers are supported, `table` prints any of them, `checkpoint` reads weights.
"""
