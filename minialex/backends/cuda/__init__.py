"""CUDA: the kernels (one family a .cu file), how they are launched, and what a device is.

`kernels` compiles and launches, `device_stream` holds one device's stream, memory and products,
`device` finds the devices. Nothing here imports CuPy before a device is asked for.
"""
