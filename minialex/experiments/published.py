"""All published numbers that reports and figures show, each with its source.

Errors and differences of errors are in percent. "Notes" are the authors' hand-written notes at the
end of the parameter files (layers/layer-params-*.cfg) that the Computer History Museum released
with the original code; they agree with the paper's figures to the digits printed there.
"""

from dataclasses import dataclass

from minialex.plots.timeline import ChallengeResult


@dataclass(frozen=True)
class Published:
    """A published result: top-1 and top-5 in percent, or another number in `value`."""

    what: str
    data: str
    source: str
    top1: float | None = None
    top5: float | None = None
    value: float | None = None
    top5_test: float | None = None
    bound: str = ""  # "about" or "more than", if the paper says so


_VAL = "ILSVRC-2012 validation, ten crops"
_TEST = "ILSVRC-2010 test, ten crops"
_S = "paper, section "
_VGG = "Simonyan and Zisserman (2015): errors of table 3, parameters counted from table 1"
_UCF = "UCF-101, mean of three splits"
_TWO_STREAM = "Simonyan and Zisserman (2014), UCF-101, mean of three splits"

PUBLISHED: dict[str, Published] = {
    # section 3.1
    "relu": Published(
        "epochs to 25% training error, tanh divided by ReLU",
        "CIFAR-10, four layers, no regularisation",
        _S + "3.1, figure 1",
        value=6.0,
    ),
    # ablations: differences in top-1 and top-5 error
    "half": Published(
        "half the kernels, one tower", _TEST, _S + "3.2; notes: 1.70, 1.23", 1.7, 1.2
    ),
    "communication": Published(
        "towers that never communicate", _VAL, "notes of runs #150 and #145", 1.16, 1.12
    ),
    "norm": Published("no normalisation", _VAL, _S + "3.3; notes: 1.37, 1.15", 1.4, 1.2),
    "pooling": Published("2 x 2 pooling", _VAL, _S + "3.4; notes: 0.39, 0.30", 0.4, 0.3),
    "colour": Published("no colour augmentation", "ILSVRC", _S + "4.1", 1.0, bound="more than"),
    "dropout": Published("substantial overfitting without dropout", "ILSVRC", _S + "4.2"),
    "depth": Published("any middle convolution removed", "ILSVRC", _S + "7", 2.0, bound="about"),
    "large batch": Published(
        "SGD in batches of 1,024, rate 0.02, poly, 100 epochs",
        "6,400 images of ILSVRC-2012 validation, one crop",
        "training log of bvlc_alexnet; solver of github.com/borisgin/nvcaffe",
        41.4,
        18.75,
    ),
    # tables 1 and 2: errors
    "table1 sparse": Published("Sparse coding", "ILSVRC-2010 test", "table 1", 47.1, 28.2),
    "table1 fisher": Published("SIFT + Fisher vectors", "ILSVRC-2010 test", "table 1", 45.7, 25.7),
    "table1 cnn": Published("CNN, ten crops", "ILSVRC-2010 test", "table 1", 37.5, 17.0),
    "table1 centre": Published(
        "CNN, one crop", "ILSVRC-2010 test", "footnote of section 4.1; notes", 39.0, 18.3
    ),
    "table2 fisher": Published("SIFT + Fisher vectors", _VAL, "table 2", top5_test=26.2),
    "table2 one": Published("1 CNN", _VAL, "table 2", 40.7, 18.2),
    "table2 five": Published("5 CNNs", _VAL, "table 2", 38.1, 16.4, top5_test=16.4),
    "table2 one*": Published("1 CNN*", _VAL, "table 2", 39.0, 16.6),
    "table2 seven": Published("7 CNNs*", _VAL, "table 2", 36.7, 15.4, top5_test=15.3),
    # VGG: parameters, and errors on ILSVRC-2012 validation
    "vgg-16": Published(
        "VGG, configuration D", "ILSVRC-2012 validation, one scale", _VGG, 27.0, 8.8, 138_357_544
    ),
    "vgg-19": Published(
        "VGG, configuration E", "ILSVRC-2012 validation, one scale", _VGG, 27.3, 9.0, 143_667_240
    ),
    # the two-stream network: errors, 100 minus the published accuracies
    "ucf spatial": Published("spatial stream", _UCF, _TWO_STREAM, 27.0),
    "ucf temporal": Published("temporal stream", _UCF, _TWO_STREAM, 16.3),
    "ucf fused": Published("both, averaged", _UCF, _TWO_STREAM, 13.1),
    "vgg challenge": Published(
        "VGG, 7 networks", "ILSVRC-2014 test", "Simonyan and Zisserman (2015)", top5_test=7.3
    ),
}


def top1(key: str) -> float:
    """The published top-1 error or difference, if there is one."""
    value = PUBLISHED[key].top1
    assert value is not None, key
    return value


def change(before: str, after: str) -> str:
    """The change from one published top-1 error to another, as "-1.5, from 39.0 to 37.5"."""
    a, b = top1(before), top1(after)
    return f"{b - a:+.1f}, from {a} to {b}"


TABLE_COLUMNS = ("Table 1: top-1", "top-5", "Table 2: top-1", "top-5", "top-5 test")


def table_values(table1: str | None, table2: str | None) -> tuple[float | None, ...]:
    """The values under TABLE_COLUMNS: keys of a row of table 1 and of one of table 2, or None."""
    first, second = (PUBLISHED[key] if key else None for key in (table1, table2))
    return (
        *((first.top1, first.top5) if first else (None, None)),
        *((second.top1, second.top5, second.top5_test) if second else (None, None, None)),
    )


def _challenge(year: int, system: str, deep: bool, key: str) -> ChallengeResult:
    published = PUBLISHED[key]
    error = published.top5_test or published.top5
    assert error is not None, key
    return ChallengeResult(year, system, error, deep, published.source)


CHALLENGE = (
    _challenge(2010, "sparse coding", False, "table1 sparse"),
    _challenge(2010, "SIFT + Fisher vectors (of 2011)", False, "table1 fisher"),
    _challenge(2012, "SIFT + Fisher vectors", False, "table2 fisher"),
    _challenge(2012, "7 CNNs* (AlexNet)", True, "table2 seven"),
    _challenge(2014, "VGG, 7 networks", True, "vgg challenge"),
)
