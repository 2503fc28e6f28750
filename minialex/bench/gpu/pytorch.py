"""PyTorch on the same device at its best: channels last, cuDNN autotuning, CUDA graphs.

Each function returns {name: (run, wait)}, {} if PyTorch or its CUDA device is missing. Its steps
start from the network's input: no augmentation is included.
"""

import sys
from collections.abc import Callable
from typing import Any

from minialex import models
from minialex.bench.gpu.plan import Run

Peers = dict[str, tuple[Run, Run]]


def eager(model: str, precision: str, batch: int, without: bool = True) -> Peers:
    """The training step, eager and as a captured CUDA graph; with `without` also without LRN."""
    if (torch := _torch(precision)) is None:
        return {}
    found: dict[str, Run] = {}
    kinds: list[tuple[str, dict]] = [("", {})]
    if without:
        kinds.append((", no normalisation", {"response_norm": False}))
    for words, options in kinds:
        try:
            step = _step(torch, model, precision, batch, options, compiled=False)
        except TypeError:  # a model without the option
            continue
        found[f"PyTorch, eager{words}"] = step
        found[f"PyTorch, graph{words}"] = _graph(torch, step)
    return {name: (run, torch.cuda.synchronize) for name, run in found.items()}


def compiled(model: str, precision: str, batch: int) -> Peers:
    """The training step by torch.compile, with its CUDA graphs."""
    if (torch := _torch(precision)) is None:
        return {}
    step = _step(torch, model, precision, batch, {}, compiled=True)
    return {"PyTorch, compiled": (step, torch.cuda.synchronize)}


def inference(model: str, precision: str, batch: int) -> Peers:
    """Inference, eager and as a captured CUDA graph."""
    if (torch := _torch(precision)) is None:
        return {}
    network, x, _, context = _made(torch, model, precision, batch, {})
    network.eval()

    def scores() -> None:
        with torch.inference_mode(), context():
            network(x)

    runs = {"PyTorch, eager": scores, "PyTorch, graph": _graph(torch, scores)}
    return {name: (run, torch.cuda.synchronize) for name, run in runs.items()}


def release() -> None:
    """Free the device memory in PyTorch's cache."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _torch(precision: str) -> Any | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return torch


def _made(torch: Any, model: str, precision: str, batch: int, options: dict, device="cuda"):
    """-> network, images, labels, the autocast context."""
    from minialex.bench.pytorch import network_in_torch

    found, kind = models.get(model, **options), _kind(torch, precision)
    form = torch.channels_last
    network = network_in_torch(found.network).to(device).to(memory_format=form)
    size = found.network.input_shape[0]
    x = torch.randn(batch, 3, size, size, device=device).to(memory_format=form)
    labels = torch.arange(batch, device=device) % found.network.classes

    def context() -> Any:
        # without autocast's weight cache, which a captured graph must not rely on
        return torch.autocast(device, kind, enabled=kind is not None, cache_enabled=False)

    return network, x, labels, context


def _kind(torch: Any, precision: str) -> Any | None:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def _step(
    torch: Any,
    model: str,
    precision: str,
    batch: int,
    options: dict,
    compiled: bool,
    device: str = "cuda",
) -> Run:
    network, x, labels, context = _made(torch, model, precision, batch, options, device)
    sgd = torch.optim.SGD(
        network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4, fused=device == "cuda"
    )
    run: Callable = torch.compile(network, mode="reduce-overhead") if compiled else network

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        with context():
            loss = torch.nn.functional.cross_entropy(run(x).float(), labels)
        loss.backward()
        sgd.step()

    return step


def _graph(torch: Any, work: Run) -> Run:
    """`work` as one graph launch; its inputs and outputs must stay in place."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # PyTorch's manual asks for warm-up runs before the capture
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
