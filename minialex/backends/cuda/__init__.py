"""CUDA: the kernels (one .cu file per family), their launches, and the devices.

`kernels` compiles and launches, `device_stream` has one device's stream, memory and products,
`device` finds the devices. Nothing here imports CuPy before a device is requested.
"""
