"""SIFT, Fisher vectors and linear SVMs: the strongest baseline of the paper's table 1.

Sánchez & Perronnin, "High-dimensional signature compression for large-scale image classification"
(2011), at a smaller size: two kinds of descriptors, of shape and of colour, on a dense grid at
several scales; for each kind PCA, the position in the image, a mixture of Gaussians, one improved
Fisher vector per image and one linear SVM per class; the scores of the two kinds are averaged.

Fisher vectors are scikit-image's. SIFT is OpenCV's, which can describe given points; scikit-image's
describes only the points it detects, which are few in a small image.
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
    """Train on `splits.train`, evaluate on `splits.val`.

    size        images are resized to size x size pixels
    step        pixels between descriptors
    scales      diameters of the keypoints; a descriptor covers about six times as much
    components  components that PCA keeps of a descriptor, before its position is appended
    gaussians   K of the mixture: a Fisher vector has 2 K (components + 2) + K elements
    sample      descriptors that PCA and the mixture are fitted on
    penalty     C of the SVMs
    """
    common.require("cv2", "skimage", "sklearn")

    show = Progress(progress)
    encoders = []
    for kind in (sift, colours):
        describe = partial(kind, step=step, scales=scales)
        show.say(
            f"Fisher vectors: {gaussians} Gaussians from {sample:,} {kind.__name__} descriptors"
        )
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
    """A function from images to Fisher vectors; PCA and mixture are fitted on `rows`."""
    from skimage.feature import learn_gmm
    from sklearn.decomposition import PCA

    pca = PCA(components, svd_solver="full").fit(rows[:, :-2])
    settings = {"covariance_type": "diag", "random_state": seed, "reg_covar": 1e-4}
    gmm = learn_gmm(_reduced(pca, rows), n_modes=gaussians, gm_args=settings)
    return lambda image: fisher(_reduced(pca, describe(image)), gmm)


def sift(image: np.ndarray, step: int, scales: tuple[float, ...]) -> np.ndarray:
    """Upright RootSIFT on a grid, uint8 (S, S, 3) -> float32 (M, 130): 128 elements, then y and x.

    RootSIFT is the square root of the histogram scaled to sum 1; y and x run from -0.5 to 0.5.
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
    histograms = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6)
    positions = np.array([(point.pt[1], point.pt[0]) for point in points]) / side - 0.5
    return np.concatenate([np.sqrt(histograms), positions], axis=1).astype(np.float32)


def colours(image: np.ndarray, step: int, scales: tuple[float, ...]) -> np.ndarray:
    """Mean and deviation of R, G, B in SIFT's 4 x 4 cells, then y and x: float32 (M, 98)."""
    import cv2

    side, pixels = len(image), image.astype(np.float32) / 255
    grid = np.arange(step / 2, side, step)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    found = []
    for diameter in scales:
        cell = 1.5 * diameter
        window = (max(1, round(cell)),) * 2
        mean = cv2.blur(pixels, window)
        deviation = np.sqrt(np.maximum(cv2.blur(pixels * pixels, window) - mean * mean, 0))
        channels = np.concatenate([mean, deviation], axis=2)  # (S, S, 6)
        offsets = (np.arange(4) - 1.5) * cell
        rows, columns = (
            np.clip(centre[:, None] + offsets, 0, side - 1).astype(int) for centre in (y, x)
        )
        cells = channels[rows[:, :, None], columns[:, None, :]]  # (M, 4, 4, 6)
        positions = np.stack([y, x], axis=1) / side - 0.5
        found.append(np.concatenate([cells.reshape(len(y), -1), positions], axis=1))
    return np.concatenate(found).astype(np.float32)


def fisher(rows: np.ndarray, gmm) -> np.ndarray:
    """The improved Fisher vector (signed square root, L2 norm): (M, D) -> float32 (2 K D + K,)."""
    from skimage.feature import fisher_vector

    vector = np.asarray(fisher_vector(rows, gmm, improved=True, alpha=0.5), np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _reduced(pca, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([pca.transform(rows[:, :-2]), rows[:, -2:]], axis=1)  # (M, D + 2)
