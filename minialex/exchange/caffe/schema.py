"""The fields of Caffe's messages that are read here, by their numbers in caffe.proto.

{message: {number: (field, kind)}}, where a kind is "int", "float", "text", "Blob", an enumeration
in `ENUMS`, or another message.
"""

_V1_TYPES = """
    NONE ACCURACY BNLL CONCAT CONVOLUTION DATA DROPOUT EUCLIDEAN_LOSS FLATTEN HDF5_DATA
    HDF5_OUTPUT IM2COL IMAGE_DATA INFOGAIN_LOSS INNER_PRODUCT LRN MULTINOMIAL_LOGISTIC_LOSS
    POOLING RELU SIGMOID SOFTMAX SOFTMAX_LOSS SPLIT TANH WINDOW_DATA ELTWISE POWER
    SIGMOID_CROSS_ENTROPY_LOSS HINGE_LOSS MEMORY_DATA ARGMAX THRESHOLD DUMMY_DATA SLICE MVN
    ABSVAL SILENCE CONTRASTIVE_LOSS EXP DECONVOLUTION
"""
ENUMS: dict[str, dict[int, str]] = {
    "Phase": {0: "TRAIN", 1: "TEST"},
    "PoolMethod": {0: "MAX", 1: "AVE", 2: "STOCHASTIC"},
    "RoundMode": {0: "CEIL", 1: "FLOOR"},
    "NormRegion": {0: "ACROSS_CHANNELS", 1: "WITHIN_CHANNEL"},
    "V1Type": dict(enumerate(_V1_TYPES.split())),
}
_FILLER = {1: ("type", "text"), 2: ("value", "float"), 6: ("std", "float")}
_CONVOLUTION = {
    1: ("num_output", "int"),
    2: ("bias_term", "int"),
    3: ("pad", "int"),
    4: ("kernel_size", "int"),
    5: ("group", "int"),
    6: ("stride", "int"),
    7: ("weight_filler", "Filler"),
    8: ("bias_filler", "Filler"),
    9: ("pad_h", "int"),
    10: ("pad_w", "int"),
    11: ("kernel_h", "int"),
    12: ("kernel_w", "int"),
    13: ("stride_h", "int"),
    14: ("stride_w", "int"),
    18: ("dilation", "int"),
}
_POOLING = {
    1: ("pool", "PoolMethod"),
    2: ("kernel_size", "int"),
    3: ("stride", "int"),
    4: ("pad", "int"),
    5: ("kernel_h", "int"),
    6: ("kernel_w", "int"),
    7: ("stride_h", "int"),
    8: ("stride_w", "int"),
    9: ("pad_h", "int"),
    10: ("pad_w", "int"),
    12: ("global_pooling", "int"),
    13: ("round_mode", "RoundMode"),
}
_TRANSFORM = {
    1: ("scale", "float"),
    3: ("crop_size", "int"),
    4: ("mean_file", "text"),
    5: ("mean_value", "float"),
}
_PARAMETERS_OF_LAYERS = {  # in V1 layers and today's
    "convolution_param": ("Convolution", 10, 106),
    "data_param": ("Data", 11, 107),
    "dropout_param": ("Dropout", 12, 108),
    "inner_product_param": ("InnerProduct", 17, 117),
    "lrn_param": ("LRN", 18, 118),
    "pooling_param": ("Pooling", 19, 121),
    "relu_param": ("ReLU", 30, 123),
    "transform_param": ("Transformation", 36, 100),
}

SCHEMA: dict[str, dict[int, tuple[str, str]]] = {
    "Net": {
        1: ("name", "text"),
        2: ("layers", "V1Layer"),
        3: ("input", "text"),
        4: ("input_dim", "int"),
        8: ("input_shape", "BlobShape"),
        100: ("layer", "Layer"),
    },
    "SolverState": {
        1: ("iter", "int"),
        2: ("learned_net", "text"),
        3: ("history", "Blob"),
        4: ("current_step", "int"),
    },
    "V1Layer": {
        1: ("layer", "Unread"),  # in the oldest files, which have their layers here
        2: ("bottom", "text"),
        3: ("top", "text"),
        4: ("name", "text"),
        5: ("type", "V1Type"),
        6: ("blobs", "Blob"),
        7: ("blobs_lr", "float"),
        8: ("weight_decay", "float"),
        32: ("include", "Rule"),
        **{v1: (name, kind) for name, (kind, v1, _) in _PARAMETERS_OF_LAYERS.items()},
    },
    "Layer": {
        1: ("name", "text"),
        2: ("type", "text"),
        3: ("bottom", "text"),
        4: ("top", "text"),
        6: ("param", "ParamSpec"),
        7: ("blobs", "Blob"),
        8: ("include", "Rule"),
        139: ("batch_norm_param", "BatchNorm"),
        141: ("bias_param", "Scale"),
        142: ("scale_param", "Scale"),
        143: ("input_param", "Input"),
        **{now: (name, kind) for name, (kind, _, now) in _PARAMETERS_OF_LAYERS.items()},
    },
    "Unread": {},
    "BatchNorm": {3: ("eps", "float")},
    "Scale": {1: ("axis", "int"), 2: ("num_axes", "int"), 4: ("bias_term", "int")},
    "BlobShape": {1: ("dim", "int")},
    "ParamSpec": {3: ("lr_mult", "float"), 4: ("decay_mult", "float")},
    "Rule": {1: ("phase", "Phase")},
    "Filler": _FILLER,
    "Convolution": _CONVOLUTION,
    "Data": {2: ("scale", "float"), 3: ("mean_file", "text"), 5: ("crop_size", "int")}
    | {1: ("source", "text")},
    "Dropout": {1: ("dropout_ratio", "float")},
    "InnerProduct": {
        1: ("num_output", "int"),
        2: ("bias_term", "int"),
        3: ("weight_filler", "Filler"),
        4: ("bias_filler", "Filler"),
        5: ("axis", "int"),
        6: ("transpose", "int"),
    },
    "Input": {1: ("shape", "BlobShape")},
    "LRN": {
        1: ("local_size", "int"),
        2: ("alpha", "float"),
        3: ("beta", "float"),
        4: ("norm_region", "NormRegion"),
        5: ("k", "float"),
    },
    "Pooling": _POOLING,
    "ReLU": {1: ("negative_slope", "float")},
    "Transformation": _TRANSFORM,
}
