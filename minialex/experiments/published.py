"""What has been published: every number that the report sets beside its own, with its source.

Errors and differences of errors are in percent. "Notes" are the hand-written notes at the end of
the parameter files (layers/layer-params-*.cfg) that the Computer History Museum released with the
original code; they agree with the paper's figures to the digits printed there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published result: top-1 and top-5 in percent, or another number in `value`."""

    what: str
    data: str
    source: str
    top1: float | None = None
    top5: float | None = None
    value: float | None = None
    top5_test: float | None = None
    bound: str = ""  # "about" or "more than", where the paper says so


_VAL = "ILSVRC-2012 validation, ten crops"
_TEST = "ILSVRC-2010 test, ten crops"
_S = "paper, section "
_VGG = "Simonyan and Zisserman (2015): errors of table 3, parameters counted from table 1"
_UCF = "UCF-101, mean of three splits"
_TWO_STREAM = "Simonyan and Zisserman (2014), UCF-101, mean of three splits"

PUBLISHED: dict[str, Published] = {
    # section 3.1
    "relu": Published(
        "epochs tanh takes to 25 % training error, in those of ReLU",
        "CIFAR-10, four layers, no regularisation",
        _S + "3.1, figure 1",
        value=6.0,
    ),
    # differences when a part is changed, top-1 and top-5
    "half": Published(
        "half the kernels, one tower", _TEST, _S + "3.2; notes: 1.70, 1.23", 1.7, 1.2
    ),
    "communication": Published(
        "towers that never communicate", _VAL, "notes of runs #150 and #145", 1.16, 1.12
    ),
    "norm": Published("no normalisation", _VAL, _S + "3.3; notes: 1.37, 1.15", 1.4, 1.2),
    "pooling": Published("2 x 2 pooling", _VAL, _S + "3.4; notes: 0.39, 0.30", 0.4, 0.3),
    "colour": Published("no colour shift", "ILSVRC", _S + "4.1", 1.0, bound="more than"),
    "dropout": Published("no dropout: substantial overfitting", "ILSVRC", _S + "4.2"),
    "depth": Published("any middle convolution removed", "ILSVRC", _S + "7", 2.0, bound="about"),
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
    # the two-stream network: errors, that is 100 less the accuracies
    "ucf spatial": Published("spatial stream", _UCF, _TWO_STREAM, 27.0),
    "ucf temporal": Published("temporal stream", _UCF, _TWO_STREAM, 16.3),
    "ucf fused": Published("both, averaged", _UCF, _TWO_STREAM, 13.1),
}
