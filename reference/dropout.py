"""Dropout's mask from Philox4x32-10 counters, in plain integers (paper, section 4.2)."""

import numpy as np

_MASK = 0xFFFFFFFF


def philox4x32(counter, key):
    """Ten rounds (Salmon and others, 2011): four counter words and two key words -> four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def mask(shape, keep, seed, stream, step, first_image):
    """Unit u of image n is kept if word u % 4 of counter (u // 4, n, step, purpose) is below keep.

    The purpose word is 0x10000 plus the layer's position.
    """
    kept = np.zeros(shape, bool)
    for n, u in np.ndindex(shape):
        counter = (u // 4, first_image + n, step, 0x10000 + stream)
        word = philox4x32(counter, (seed & _MASK, seed >> 32))[u % 4]
        kept[n, u] = word < keep * 2**32
    return kept
