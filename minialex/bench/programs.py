"""The programs that minialex can be compared with."""

from minialex.bench import onnxruntime, openvino, pytorch

PROGRAMS = {one.key: one for one in (pytorch.PROGRAM, onnxruntime.PROGRAM, openvino.PROGRAM)}
