"""DeviceConfig: checked when created, opened for a network."""

import pytest

from minialex import backends
from minialex.errors import InputError
from minialex.layers import Dense
from minialex.network import Network
from minialex.parallel import DeviceConfig, DeviceGroup, SingleDevice

NETWORK = Network((("fc1", Dense(4)), ("fc2", Dense(2))), (1, 1, 3))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"devices": []}, "no device was given"),
        ({"parallel": "tower"}, "unknown parallel scheme 'tower': did you mean 'towers'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"threads": 0}, "threads is 0: it must be a whole number of at least 1"),
    ],
)
def test_an_impossible_value_is_refused_at_once(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        DeviceConfig("numpy", **fields)


@pytest.mark.parametrize(("devices", "instead"), [(5, "0"), ([5], "0"), ([0, 7], "0,1")])
def test_the_cpu_has_any_number_of_devices(devices, instead):
    with pytest.raises(InputError, match=f"has no device [57]: .* so use {instead}"):
        DeviceConfig("numpy", devices).open(NETWORK)


def test_a_single_device_or_a_group():
    for config in (DeviceConfig("numpy"), DeviceConfig("numpy", [0])):
        assert isinstance(config.open(NETWORK), SingleDevice)
        assert config.open(NETWORK).name == "numpy"
    group = DeviceConfig("numpy", [0, 0, 1], "data").open(NETWORK)
    assert isinstance(group, DeviceGroup)
    assert len(group.backends) == 3
    assert group.plan.scheme == "data"


def test_an_existing_backend_is_used():
    b = backends.get("numpy")
    assert DeviceConfig(b).open(NETWORK).backends == (b,)


def test_equal_configurations_compare_and_hash_alike():
    assert DeviceConfig("numpy", [0, 1]) == DeviceConfig("numpy", (0, 1))
    assert hash(DeviceConfig("numpy", [0, 1])) == hash(DeviceConfig("numpy", (0, 1)))
