"""The Numba backend: compiled CPU kernels around single-threaded BLAS products.

Kernels are compiled at first use and cached on disk. They release the GIL, so that images load
while they run. Work is divided into fixed items, and each is computed by one thread, so that
results do not depend on timing. They depend on the number of threads, unless `with_fixed_sums`
divides the work into a fixed number of shares.
"""
