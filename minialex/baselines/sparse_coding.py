"""Sparse coding of patches, max-pooled over a spatial pyramid, with linear classifiers.

The family of the other rival in table 1 (Lin et al., 2011, who average six such models): patches
are whitened, a dictionary is learnt that builds each from few atoms, and an image is the largest
response to each atom in each cell of a pyramid (Yang et al., 2009; Coates & Ng, 2011).
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
    """Patches less their mean, over their deviation, with equal variance in all directions."""

    mean: np.ndarray  # float32 (D,)
    matrix: np.ndarray  # float32 (D, D)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """float32 (M, D) -> (M, D)"""
        return (_even(patches) - self.mean) @ self.matrix


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
    """Learn from `splits.train` and judge on `splits.val`.

    size      images are scaled to squares of so many pixels, and cut into colour patches of `patch`
              pixels every `step`
    atoms     patches in the dictionary
    code      "threshold": products with the atoms less `alpha`; "omp": orthogonal matching pursuit
              with a tenth as many atoms as a patch has numbers, far slower
    alpha     weight of the penalty on codes while the dictionary is learnt
    pyramid   cells along each axis at each level; positive and negative codes are pooled apart
    sample    patches that the dictionary is learnt from
    penalty   C of the support vector machines
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
    with warnings.catch_warnings():  # the codes of a batch on the way need not be exact
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
    """ZCA of patches (M, D), whose weakest directions, mostly noise, are not blown up."""
    even = _even(rows)
    mean = even.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(even.T.astype(np.float64)))
    matrix = (axes / np.sqrt(values + 0.1)) @ axes.T
    return Whitening(mean, matrix.astype(np.float32))


def pool(codes: np.ndarray, pyramid: tuple[int, ...]) -> np.ndarray:
    """The largest code of each atom in each cell of each level: (P, Q, A) -> float32 (cells·A,)."""
    cells = []
    for n in pyramid:
        for rows in np.array_split(codes, n, axis=0):
            cells += [cell.max(axis=(0, 1)) for cell in np.array_split(rows, n, axis=1)]
    return np.concatenate(cells).astype(np.float32)


def _even(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt(centred.var(axis=1, keepdims=True) + 10.0)
