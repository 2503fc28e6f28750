"""What minialex in int8 is compared with: quantized networks, or float32 called so."""

from dataclasses import replace

import pytest

from minialex import models
from minialex.bench import onnxruntime, pytorch
from minialex.bench.subject import Subject


def test_a_program_without_int8_is_compared_in_float32_and_says_so():
    found = pytorch.PROGRAM.at("int8")
    assert (found.name, found.peers) == ("PyTorch fp32", pytorch.PROGRAM.peers)
    assert pytorch.PROGRAM.at("fp32") is pytorch.PROGRAM


def test_a_program_with_int8_uses_it():
    program = replace(pytorch.PROGRAM, int8=lambda *_: ["quantized"])
    found = program.at("int8")
    assert found.name == "PyTorch"
    assert found.peers("model", 1, None) == ["quantized"]


def test_onnx_runtime_quantizes_our_export():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    [peer] = onnxruntime.int8(Subject(models.get("alexnet-64", 3)), 2, 1)
    peer.infer()
    assert peer.name == "ONNX Runtime"
