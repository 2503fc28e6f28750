"""Weight files: arrays and JSON metadata in one safetensors file. Loading executes nothing.

The safetensors library reads them; writing is ours. To save the paper's weights and velocities
(488 MB), the library before 0.8 needs another 488 MB of memory, and 0.8 and this module under 1 MB
(`python tests/utils/saving_memory.py` measures both). But 0.8 creates files that only their owner
can read, whatever the umask, and reports a full disk as text without an error number.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError, reason
from minialex.utils.atomic import write_blocks

FORMAT = 1  # increased when files of older versions can no longer be read in the same way
LONG_FORMAT = 2  # for files with more metadata than a header may hold; introduced later

KEY = "minialex"  # of the metadata entry
_LONG = "minialex.metadata"  # the tensor that holds long metadata: JSON in bytes
LARGEST_HEADER = 100_000_000  # bytes that the safetensors library reads
_MOST_HEADER = LARGEST_HEADER // 2  # in our own files
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON-able metadata as one safetensors file, atomically.

    Metadata that is too long for a header, such as a list of a million images, becomes a tensor.
    Raises OSError with a sentence if that fails, and leaves the old file as it was.
    """
    described = json.dumps({"format": FORMAT, **metadata})
    if len(described) > _MOST_HEADER // 2:  # JSON in JSON: quotes and backslashes take two bytes
        long = json.dumps(metadata).encode()
        tensors = {**tensors, _LONG: np.frombuffer(long, np.uint8)}
        described = json.dumps({"format": LONG_FORMAT})
    write(path, tensors, {KEY: described})


def write(path: Path, tensors: dict[str, np.ndarray], texts: dict[str, str]) -> None:
    """Write arrays and texts as a safetensors file of any kind; as `save` otherwise."""
    header: dict[str, Any] = {"__metadata__": texts}
    # wide types first, as in the library: each array then starts at a multiple of its itemsize
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    blocks, end = [], 0
    for name in names:
        array = np.asarray(tensors[name], tensors[name].dtype.newbyteorder("<"), order="C")
        start, end = end, end + array.nbytes
        dtype = _DTYPES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
        blocks.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise InputError(
            f"{path} would have a header of {len(text):,} bytes, but the safetensors library reads "
            f"{LARGEST_HEADER:,}: choose another format"
        )
    write_blocks(path, [len(text).to_bytes(8, "little"), text, *blocks])


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata of a file that `save` wrote.

    Raises InputError for any other content, FileNotFoundError if there is no file.
    """
    return _load(path, tensors=True)


def load_metadata(path: Path) -> dict[str, Any]:
    """The metadata alone, without reading the arrays; raises as `load` does."""
    return _load(path, tensors=False)[1]


def _load(path: Path, tensors: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a weight file")
    if not path.exists():
        raise FileNotFoundError(f"no weight file {path}")
    path.open("rb").close()  # a file without read permission is not damaged
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise InputError(f"{path} is a safetensors file, but not a weight file of minialex")
            metadata = json.loads(text)
            if isinstance(metadata, dict) and metadata.get("format") == LONG_FORMAT:
                metadata = {"format": FORMAT, **json.loads(file.get_tensor(_LONG).tobytes())}
            names = list(file.keys()) if tensors else []
            arrays = {name: file.get_tensor(name) for name in names if name != _LONG}
    except InputError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged or not a weight file ({reason(error)})") from None
    found = metadata.get("format") if isinstance(metadata, dict) else None
    if found != FORMAT:
        newer = isinstance(found, int) and found > LONG_FORMAT
        raise InputError(
            f"{path} has format {found!r}, but this minialex reads only up to {LONG_FORMAT}: "
            f"{'upgrade minialex' if newer else 'read it with the version that wrote it'}"
        )
    return arrays, metadata
