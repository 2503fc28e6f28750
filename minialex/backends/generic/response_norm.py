"""Local response normalisation across channels (paper, section 3.3) and within a channel."""

from typing import Any

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericResponseNorm(GenericArrays):
    """Response normalisation, alone and with the max pooling after it."""

    def response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> tuple[Array, Any]:
        """Local response normalisation across channels (paper, section 3.3).

        s_c = k + α Σ x_j² over the n channels around c, clipped to c's group; y = x s^-β.
        x (..., C) -> y, and what the gradient needs. α is not divided by n.
        """
        scale = alpha * self._channel_sums(x * x, n, groups) + k
        y = x / _power(self.xp, scale, beta)
        return y, (x, y, scale)

    def response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> Array:
        """dx_c = dy_c s_c^-β - 2αβ x_c Σ dy_j y_j / s_j over the same window, n odd."""
        x, y, scale = saved
        spread = self._channel_sums(dy * y / scale, n, groups)
        return dy / _power(self.xp, scale, beta) - (2 * alpha * beta) * x * spread

    def spatial_response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float
    ) -> tuple[Array, Any]:
        """The same within each channel, over n x n pixels clipped to the image: x (N, H, W, C)."""
        scale = alpha * self._spatial_sums(x * x, n) + k
        y = x / _power(self.xp, scale, beta)
        return y, (x, y, scale)

    def spatial_response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float
    ) -> Array:
        """Like `response_norm_gradient`, with the n x n window."""
        x, y, scale = saved
        spread = self._spatial_sums(dy * y / scale, n)
        return dy / _power(self.xp, scale, beta) - (2 * alpha * beta) * x * spread

    def response_norm_pool(self, x: Array, norm: tuple, pool: tuple) -> tuple[Array, Any]:
        """`response_norm(x, *norm)`, then `max_pool(…, *pool)`: y, and what the gradient needs."""
        z, kept = self.response_norm(x, *norm)
        y, argmax = self.max_pool(z, *pool)
        return y, (x, kept, argmax)

    def response_norm_pool_gradient(
        self, dy: Array, saved: Any, norm: tuple, pool: tuple, relu: bool = False
    ) -> Array:
        """dx through both; with `relu`, x is a ReLU's output, and dx also goes through that."""
        x, kept, argmax = saved
        dz = self.max_pool_gradient(dy, argmax, x.shape, *pool)
        dx = self.response_norm_gradient(dz, kept, *norm)
        return self.relu_gradient(dx, x) if relu else dx

    def _channel_sums(self, x: Array, n: int, groups: int) -> Array:
        """Sums over the n channels around each channel, clipped to its group."""
        grouped = self.xp.reshape(x, (*x.shape[:-1], groups, x.shape[-1] // groups))
        return self.xp.reshape(self._window_sums(grouped, n, -1), x.shape)

    def _spatial_sums(self, x: Array, n: int) -> Array:
        """Sums over the n x n pixels around each pixel: rows first, then columns."""
        return self._window_sums(self._window_sums(x, n, 1), n, 2)

    def _window_sums(self, x: Array, n: int, axis: int) -> Array:
        """Sums over the n neighbours along `axis`, clipped at both ends."""
        axis %= x.ndim
        total = self.xp.asarray(x, copy=True)
        extent = x.shape[axis]
        for offset in range(1, min(n // 2, extent - 1) + 1):
            low = (*[slice(None)] * axis, slice(0, extent - offset), ...)
            high = (*[slice(None)] * axis, slice(offset, extent), ...)
            total[low] += x[high]
            total[high] += x[low]
        return total


def _power(xp: Any, scale: Any, beta: float) -> Array:
    """scale^β; for the paper's β = 3/4, two square roots are several times as fast."""
    if beta == 0.75:
        root = xp.sqrt(scale)
        return root * xp.sqrt(root)
    return scale**beta
