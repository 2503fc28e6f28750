"""Sparse coding of patches, max-pooled over a spatial pyramid, with linear SVMs.

This is the kind of model behind table 1's other baseline (Lin et al., 2011, average six): patches
are whitened, a dictionary is learned that reconstructs each from a few atoms, and an image is
represented by the largest response to each atom in each cell of a pyramid (Yang et al., 2009;
Coates & Ng, 2011).
"""

import warnings
from dataclasses import dataclass

import numpy as np

from minialex.baselines import common
from minialex.baselines.common import Outcome
from minialex.data.dataset import Splits
from minialex.errors import unknown
from minialex.utils.progress import Progress

_CODES = ("threshold", "omp")


@dataclass(frozen=True)
class Whitening:
    """Contrast normalisation of patches, then ZCA: equal variance in all directions."""

    mean: np.ndarray  # float32 (D,)
    matrix: np.ndarray  # float32 (D, D)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """float32 (M, D) -> (M, D)"""
        return (_normalised(patches) - self.mean) @ self.matrix


def run(
    splits: Splits,
    *,
    size: int = 64,
    patch: int = 8,
    step: int = 2,
    atoms: int = 256,
    code: str = "threshold",
    alpha: float = 1.0,
    pyramid: tuple[int, ...] = (1, 2, 4),
    sample: int = 20_000,
    penalty: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Outcome:
    """Train on `splits.train`, evaluate on `splits.val`.

    size      images are resized to size x size pixels
    patch     side of a colour patch in pixels; `step` pixels lie between patches
    atoms     patches in the dictionary
    code      "threshold": products with the atoms, soft-thresholded by `alpha`; "omp": orthogonal
              matching pursuit with a tenth as many atoms as a patch has elements, far slower
    alpha     L1 penalty on codes while the dictionary is learned
    pyramid   cells along each axis at each level; positive and negative codes are pooled separately
    sample    patches that the dictionary is learned from
    penalty   C of the SVMs
    """
    common.require("sklearn")
    if code not in _CODES:
        raise unknown("code", code, _CODES)
    from sklearn.decomposition import MiniBatchDictionaryLearning, SparseCoder
    from sklearn.exceptions import ConvergenceWarning

    show = Progress(progress)

    def cut(image: np.ndarray) -> np.ndarray:
        return patches(image, patch, step).reshape(-1, patch * patch * 3)

    show.say(f"sparse coding: learning {atoms} atoms from {sample:,} patches")
    rows = common.sampled(splits.train, size, cut, sample, seed)
    whiten = whitening(rows)
    learning = MiniBatchDictionaryLearning(
        atoms, alpha=alpha, fit_algorithm="cd", batch_size=512, max_iter=10, random_state=seed
    )
    with warnings.catch_warnings():  # codes of intermediate batches need not be exact
        warnings.simplefilter("ignore", ConvergenceWarning)
        learning.fit(whiten(rows).astype(np.float64))
    dictionary = learning.components_.astype(np.float32)
    chosen = {"transform_alpha": alpha} if code == "threshold" else {}
    coder = SparseCoder(dictionary, transform_algorithm=code, split_sign=True, **chosen)
    method = (
        f"{atoms} atoms of {patch}x{patch} patches every {step} of {size} pixels, {code} codes, "
        f"maxima over {'+'.join(f'{n}x{n}' for n in pyramid)} cells, linear SVM"
    )

    def encode(image: np.ndarray) -> np.ndarray:
        cut = patches(image, patch, step)  # (P, P, D)
        codes = coder.transform(whiten(cut.reshape(-1, cut.shape[-1])))  # (P·P, 2 atoms)
        pooled = pool(np.abs(codes).reshape(*cut.shape[:2], -1), pyramid)
        return pooled / max(float(np.linalg.norm(pooled)), 1e-12)

    return common.linear(splits, size, [encode], method, penalty=penalty, seed=seed, show=show)


def patches(image: np.ndarray, patch: int, step: int) -> np.ndarray:
    """uint8 (S, S, 3) -> float32 (P, P, patch · patch · 3)"""
    windows = np.lib.stride_tricks.sliding_window_view(image, (patch, patch, 3))
    windows = windows[::step, ::step, 0]  # (P, P, patch, patch, 3)
    return windows.reshape(*windows.shape[:2], -1).astype(np.float32)


def whitening(rows: np.ndarray) -> Whitening:
    """ZCA of patches (M, D), regularised so that weak directions, mostly noise, stay weak."""
    normalised = _normalised(rows)
    mean = normalised.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(normalised.T.astype(np.float64)))
    matrix = (axes / np.sqrt(values + 0.1)) @ axes.T
    return Whitening(mean, matrix.astype(np.float32))


def pool(codes: np.ndarray, pyramid: tuple[int, ...]) -> np.ndarray:
    """The largest code of each atom in each cell of each level: (P, Q, A) -> float32 (cells·A,)."""
    cells = []
    for n in pyramid:
        for rows in np.array_split(codes, n, axis=0):
            cells += [cell.max(axis=(0, 1)) for cell in np.array_split(rows, n, axis=1)]
    return np.concatenate(cells).astype(np.float32)


def _normalised(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt(centred.var(axis=1, keepdims=True) + 10.0)
