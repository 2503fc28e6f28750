"""PyTorch's files: state dicts in both formats of `torch.save`, and safetensors."""

from pathlib import Path

from minialex.exchange import metadata
from minialex.exchange.formats.format import Format, Request
from minialex.exchange.portable import PortableModel
from minialex.exchange.pytorch import file, state_dict, writer
from minialex.exchange.tensors import StoredTensor


def _matches(path: Path, head: bytes) -> bool:
    if file.is_torch(head):
        return True
    torch_suffix = path.suffix.lower() in (".pth", ".pt", ".bin", ".ckpt", ".tar")
    return torch_suffix and head.startswith((file.ZIP_START, b"\x80"))


def _read(request: Request) -> PortableModel:
    path, content = request.path, file.read(request.path)
    about = file.texts(path)
    if metadata.NETWORK in about and isinstance(content, dict):
        tensors = {key: one for key, one in content.items() if isinstance(one, StoredTensor)}
        found = metadata.read(path, about)
        metadata.require_named(path, found.model, request.as_model)
        return state_dict.described(path, tensors, "PyTorch", found)
    return state_dict.portable(request.path, content, "PyTorch", request.as_model)


def _write(portable: PortableModel, path: Path, with_preprocessing: bool) -> str:
    tensors, said = state_dict.exported(portable, str(path), with_preprocessing)
    writer.write(path, tensors, metadata.described(portable))
    return said


FORMAT = Format("PyTorch", 20, _matches, _read, (".pth", ".pt"), _write)
