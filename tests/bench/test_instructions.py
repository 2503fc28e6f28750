"""The rates of instructions: what is timed multiplies, and what is missing is said."""

import numpy as np
import pytest

from minialex.bench import instructions


@pytest.mark.parametrize("name", instructions.KINDS)
def test_what_is_timed_multiplies(name):
    instruction, feature, _, total, factor = instructions.KINDS[name]
    if not instructions.has(feature):
        pytest.skip("not on this processor")
    kind = np.float32 if "float" in str(total) else np.int32
    numbers = np.zeros(16 * 20, np.int32)
    one = {"bf16 (AVX512_BF16)": 0x3F80, "int8 (VNNI)": 1}  # the low half of a lane, the low byte
    numbers[-32:] = one.get(name) or np.array([1], np.float32).view(np.int32)
    instructions._compiled(instruction, total, factor)(numbers, 5)
    assert (numbers[: 16 * 18].view(kind) == 5).all()


def test_a_missing_instruction_is_said(monkeypatch, capsys):
    monkeypatch.setattr(instructions, "has", lambda feature: False)
    instructions.main()
    assert capsys.readouterr().out.count("none here") == 3
