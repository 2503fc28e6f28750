"""cuda-convnet's files: layer definitions (.cfg), and the checkpoints of trained networks.

`cfg` reads sections and values, `graph` makes layers with shapes of them, `network` our network
where all its layers exist here, `table` prints any of them, `checkpoint` reads trained weights.
"""
