"""CUDA through CuPy: every op is a kernel of one of the .cu files or a cuBLAS product.

Requires CuPy and a device. Nothing passes through the host except what the caller passes in or asks
for. Activations are stored at the backend's precision; parameters, their gradients and all sums
are float32 (or float64, for a network of that type).
"""

from minialex.backends.cuda.activations import CudaActivations
from minialex.backends.cuda.adam import CudaAdam
from minialex.backends.cuda.arrays import CudaArrays
from minialex.backends.cuda.batch_norm import CudaBatchNorm
from minialex.backends.cuda.convolution import CudaConvolution
from minialex.backends.cuda.crops import CudaCrops
from minialex.backends.cuda.dense import CudaDense
from minialex.backends.cuda.dropout import CudaDropout
from minialex.backends.cuda.losses import CudaLosses
from minialex.backends.cuda.pooling import CudaPooling
from minialex.backends.cuda.response_norm import CudaResponseNorm
from minialex.backends.cuda.sgd import CudaSGD


class CupyBackend(
    CudaConvolution,
    CudaActivations,
    CudaPooling,
    CudaResponseNorm,
    CudaBatchNorm,
    CudaDropout,
    CudaLosses,
    CudaCrops,
    CudaSGD,
    CudaAdam,
    CudaDense,
    CudaArrays,
):
    """Arrays on one CUDA device; `device` is its number (None: the first)."""
