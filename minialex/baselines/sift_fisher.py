"""SIFT, Fisher vectors and linear classifiers: the paper's strongest rival in table 1.

Sánchez & Perronnin, "High-dimensional signature compression for large-scale image classification"
(2011), made small: two kinds of descriptors, of form and of colour, on a dense grid at several
scales; for each kind PCA, the place in the image, a mixture of Gaussians, one improved Fisher
vector an image, one linear support vector machine a class; the two kinds' scores averaged.

scikit-image has the Fisher vectors. Its SIFT describes only the points that it detects, few on a
small picture; OpenCV's describes points that are given, which a dense grid needs.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from minialex.baselines import common
from minialex.baselines.common import Outcome
from minialex.data.dataset import Splits
from minialex.utils.progress import Progress


def run(
    splits: Splits,
    *,
    size: int = 128,
    step: int = 4,
    scales: tuple[float, ...] = (4.0, 6.0, 9.0),
    components: int = 64,
    gaussians: int = 32,
    sample: int = 50_000,
    penalty: float = 10.0,
    seed: int = 0,
    progress: bool = True,
) -> Outcome:
    """Learn from `splits.train` and judge on `splits.val`.

    size        images are scaled to squares of so many pixels
    step        pixels between descriptors; `scales` are the diameters of their keypoints, whose
                descriptors cover about six times as much
    components  numbers that PCA keeps of a descriptor, before its place is added
    gaussians   K of the mixture: a vector has 2 K (components + 2) + K numbers
    sample      descriptors that PCA and the mixture are learnt from
    penalty     C of the support vector machines
    """
    common.require("cv2", "skimage", "sklearn")

    show = Progress(progress)
    encoders = []
    for kind in (sift, colours):
        describe = partial(kind, step=step, scales=scales)
        show.say(f"Fisher vectors: {gaussians} Gaussians from {sample:,} of {kind.__name__}")
        rows = common.sampled(splits.train, size, describe, sample, seed)
        encoders.append(_encoder(describe, rows, components, gaussians, seed))
    method = (
        f"SIFT and colours at {len(scales)} scales every {step} of {size} pixels, PCA to "
        f"{components}, Fisher vectors of {gaussians} Gaussians, linear SVMs averaged"
    )
    return common.linear(splits, size, encoders, method, penalty=penalty, seed=seed, show=show)


def _encoder(
    describe: Callable[[np.ndarray], np.ndarray], rows, components: int, gaussians: int, seed: int
) -> common.Encode:
    """From images to Fisher vectors, with PCA and mixture of the sampled descriptors `rows`."""
    from skimage.feature import learn_gmm
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="full").fit(rows[:, :-2])
    settings = {"covariance_type": "diag", "random_state": seed, "reg_covar": 1e-4}
    gmm = learn_gmm(_reduced(pca, rows), n_modes=gaussians, gm_args=settings)
    return lambda image: fisher(_reduced(pca, describe(image)), gmm)


def sift(image: np.ndarray, step: int, scales: tuple[float, ...]) -> np.ndarray:
    """Upright SIFT on a grid, uint8 (S, S, 3) -> float32 (M, 130): 128 numbers, then y and x.

    The numbers are the square roots of the histogram's shares ("RootSIFT"); y and x run from -0.5
    to 0.5.
    """
    import cv2

    side = len(image)
    grid = np.arange(step / 2, side, step)
    points = [
        cv2.KeyPoint(float(x), float(y), diameter, 0.0)
        for diameter in scales
        for y in grid
        for x in grid
    ]
    detector = cv2.SIFT_create()  # type: ignore[attr-defined]
    _, found = detector.compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), points)
    shares = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6)
    places = np.array([(point.pt[1], point.pt[0]) for point in points]) / side - 0.5
    return np.concatenate([np.sqrt(shares), places], axis=1).astype(np.float32)


def colours(image: np.ndarray, step: int, scales: tuple[float, ...]) -> np.ndarray:
    """Means and deviations of R, G and B in the 4 x 4 cells that SIFT has, y and x: (M, 98)."""
    import cv2

    side, pixels = len(image), image.astype(np.float32) / 255
    grid = np.arange(step / 2, side, step)
    y, x = (places.ravel() for places in np.meshgrid(grid, grid, indexing="ij"))
    found = []
    for diameter in scales:
        cell = 1.5 * diameter
        window = (max(1, round(cell)),) * 2
        mean = cv2.blur(pixels, window)
        spread = np.sqrt(np.maximum(cv2.blur(pixels * pixels, window) - mean * mean, 0))
        maps = np.concatenate([mean, spread], axis=2)  # (S, S, 6)
        offsets = (np.arange(4) - 1.5) * cell
        rows, columns = (
            np.clip(centre[:, None] + offsets, 0, side - 1).astype(int) for centre in (y, x)
        )
        cells = maps[rows[:, :, None], columns[:, None, :]]  # (M, 4, 4, 6)
        places = np.stack([y, x], axis=1) / side - 0.5
        found.append(np.concatenate([cells.reshape(len(y), -1), places], axis=1))
    return np.concatenate(found).astype(np.float32)


def fisher(rows: np.ndarray, gmm) -> np.ndarray:
    """One improved Fisher vector, signed roots of length 1: (M, D) -> float32 (2 K D + K,)."""
    from skimage.feature import fisher_vector

    vector = np.asarray(fisher_vector(rows, gmm, improved=True, alpha=0.5), np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _reduced(pca, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([pca.transform(rows[:, :-2]), rows[:, -2:]], axis=1)  # (M, D + 2)
