"""The compiled CPU: Numba kernels around single-threaded BLAS products.

Kernels are compiled at first use and kept on disk. All of them release Python's lock, so images
load while they run. Work is dealt out to threads by hand, thread t taking items t, t + threads and
so on, so that results do not depend on which thread is faster.
"""
