"""A solver state is continued from Caffe with the same weights as if Caffe had continued."""

import numpy as np
import pytest
from helpers.caffe_files import encode
from helpers.noise import Noise

from minialex.data.dataset import Splits
from minialex.errors import InputError
from minialex.exchange.read import read
from minialex.training.train import train

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

SIZE, COUNT, CLASSES = 6, 12, 3
NOISE = Noise(COUNT)
RATE, DECAY, MOMENTUM = 1e-4, 0.5, 0.9
RATES, DECAYS = (1.0, 2.0, 1.0, 0.5), (1.0, 0.0, 3.0, 0.0)  # of two weights and two biases


class Caffe:
    """Caffe's solver and a two-layer network, with PyTorch's gradients, in Caffe's layouts.

    Its convolution is `biased`, or has no bias; its images are multiplied by `scale`.
    """

    def __init__(self, biased=True, scale=1.0, rate=RATE):
        self.scale, self.rate = scale, rate
        rng = np.random.default_rng(5)
        shapes = ((4, 3, 3, 3), (4,), (CLASSES, 4 * SIZE * SIZE), (CLASSES,))
        self.blobs = [
            torch.tensor(0.05 * rng.standard_normal(shape), requires_grad=True) for shape in shapes
        ]
        self.biased = biased
        if not biased:
            self.blobs[1] = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        self.history = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
        images = np.stack([NOISE.image(i, SIZE) for i in range(COUNT)]).astype(np.float64)
        bgr = scale * (images - images.mean(0))[..., ::-1].copy()
        self.images = torch.tensor(bgr).permute(0, 3, 1, 2)
        self.labels = torch.tensor(NOISE.labels)

    def step(self):
        f = torch.nn.functional
        w1, b1, w2, b2 = self.blobs
        x = torch.relu(f.conv2d(self.images, w1, b1, padding=1))
        loss = f.cross_entropy(f.linear(x.flatten(1), w2, b2), self.labels)
        for i, slope in enumerate(torch.autograd.grad(loss, self.blobs)):
            if i == 1 and not self.biased:
                continue
            with torch.no_grad():
                slope = slope + DECAY * DECAYS[i] * self.blobs[i]
                self.history[i] = MOMENTUM * self.history[i] + self.rate * RATES[i] * slope
                self.blobs[i] -= self.history[i]
        return loss.item()

    def snapshot(self, folder, step):
        """Both files, as `snapshot: N` writes them."""
        blobs = [one.detach().numpy() for one in self.blobs]
        history = [one.numpy() for one in self.history]
        param = [
            [{"lr_mult": RATES[i], "decay_mult": DECAYS[i]} for i in pair]
            for pair in ((0, 1), (2, 3))
        ]
        conv = {"num_output": 4, "kernel_size": 3, "pad": 1}
        own = slice(0, 2)
        if not self.biased:
            conv["bias_term"], own = 0, slice(0, 1)
            history.pop(1)
        layers = [
            {"name": "data", "type": "Data", "top": ["data", "label"]},
            {"name": "conv", "type": "Convolution", "bottom": "data", "top": "conv"}
            | {"convolution_param": conv, "blobs": blobs[own], "param": param[0][own]},
            {"name": "relu", "type": "ReLU", "bottom": "conv", "top": "conv"},
            {"name": "ip", "type": "InnerProduct", "bottom": "conv", "top": "ip"}
            | {"inner_product_param": {"num_output": CLASSES}}
            | {"blobs": blobs[2:], "param": param[1]},
            {"name": "loss", "type": "SoftmaxWithLoss", "bottom": ["ip", "label"], "top": "loss"},
        ]
        layers[0]["transform_param"] = {"crop_size": SIZE, "mean_file": "mean.binaryproto"}
        if self.scale != 1:
            layers[0]["transform_param"]["scale"] = self.scale
        name = f"net_iter_{step}"
        (folder / f"{name}.caffemodel").write_bytes(encode("Net", {"name": "n", "layer": layers}))
        state = {"iter": step, "learned_net": f"there/{name}.caffemodel", "history": history}
        (folder / f"{name}.solverstate").write_bytes(encode("SolverState", state))
        return folder / f"{name}.solverstate"


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    return states_of(tmp_path_factory.mktemp("caffe"), Caffe())


def states_of(folder, caffe):
    """After 3 and after 6 of Caffe's steps, and the losses of steps 3 to 5."""
    for _ in range(3):
        caffe.step()
    before = caffe.snapshot(folder, 3)
    losses = [caffe.step() for _ in range(3)]
    return before, caffe.snapshot(folder, 6), losses


def gone_on(initial, out, rate=RATE):
    """Three steps more of ours."""
    options = {"lr": rate, "weight_decay": DECAY, "schedule": "constant", "momentum": MOMENTUM}
    options |= {"mirror": False, "crops": False, "batch_size": COUNT, "epochs": 3}
    data = Splits(NOISE, NOISE)
    return train(data, out=out, initial=initial, backend="numpy", progress=False, **options)


def apart(params, wanted):
    """The largest difference of a parameter, relative to its change."""
    return max(
        np.abs(params[layer][name] - value).max()
        for layer, of in wanted.items()
        for name, value in of.items()
    )


def match(states, out, rate=RATE):
    """Go on as Caffe did, compare, and return the weights of Caffe and how far they moved."""
    before, after, losses = states
    run = gone_on(before, out, rate)
    wanted = read(after, for_training=True).params
    assert [row["train_loss"] for row in run.history] == pytest.approx(losses, rel=1e-4)
    assert [row["step"] for row in run.history] == [4, 5, 6]
    moved = apart(read(before, for_training=True).params, wanted)
    assert apart(run.classifier.params, wanted) < 1e-3 * moved
    return wanted, moved, run


def test_three_more_steps_match_caffe(states, tmp_path):
    wanted, moved, _ = match(states, tmp_path / "run")
    before = states[0]
    # without the momentum, the weights end elsewhere
    other = gone_on(before.with_suffix(".caffemodel"), tmp_path / "other")
    assert apart(other.classifier.params, wanted) > 0.1 * moved


def test_a_layer_without_a_bias_goes_on_without_one(tmp_path):
    """Its momentum is one array, and its bias here stays 0."""
    _, _, run = match(states_of(tmp_path, Caffe(biased=False)), tmp_path / "run")
    assert not run.classifier.params["conv"]["bias"].any()


def test_a_scale_of_the_input_is_followed_in_training(tmp_path):
    """Within the first layer's weights, it would change the size of their steps."""
    states = states_of(tmp_path, Caffe(scale=1 / 64, rate=100 * RATE))
    match(states, tmp_path / "run", 100 * RATE)


def test_a_state_needs_its_weights_beside_it(states, tmp_path):
    alone = tmp_path / "net_iter_3.solverstate"
    alone.write_bytes(states[0].read_bytes())
    with pytest.raises(InputError, match=r"net_iter_3\.caffemodel: put that file beside it"):
        read(alone)


def test_a_state_of_another_solver_is_refused(states, tmp_path):
    for name in ("net_iter_3.caffemodel", "net_iter_3.solverstate"):
        (tmp_path / name).write_bytes((states[0].parent / name).read_bytes())
    state = encode("SolverState", {"iter": 3, "history": [np.zeros(2)] * 8})
    (tmp_path / "net_iter_3.solverstate").write_bytes(state)
    with pytest.raises(InputError, match="8 arrays of momentum"):
        read(tmp_path / "net_iter_3.solverstate", for_training=True)


def test_weights_without_a_mean_cannot_be_loaded(states):
    with pytest.raises(InputError, match="--mean"):
        read(states[0])
