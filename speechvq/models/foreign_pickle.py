"""Reads PyTorch checkpoints of other projects without running anything that they contain.

A pickle is a program: the usual way to read one imports and calls whatever it names. Here nothing
is imported and nothing is called. Tensors are rebuilt from their raw bytes by the few functions
below; every other class becomes a `Foreign`, which only records what it was given. Used by
`speechvq import` alone, on a file that the user names.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from speechvq.errors import ModelError

MAX_PICKLE_BYTES = 1 << 28
"""The program itself, without the tensors' bytes: metadata of a model never takes 256 MiB."""

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Foreign:
    """An object of a class that is not ours to run; each such class is an empty subclass of this.

    Attributes:
        name: Module and name of the class, or of what was called.
        arguments: What it was called with.
        state: What was set on it afterwards, usually a dictionary of attributes.
        items: What was put into it as a mapping or a sequence.
    """

    name = ""
    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *arguments: Any) -> Self:
        """Record a call; a pickle may create objects without `__init__`."""
        instance = super().__new__(cls)
        instance.arguments = arguments
        instance.state = None
        instance.items = {}
        return instance

    def __setstate__(self, state: Any) -> None:
        """Record the state."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Record an item of a mapping."""
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Record a member of a sequence, or of a set."""
        self.items[len(self.items)] = value

    add = append

    def extend(self, values: Any) -> None:
        """Record members of a sequence."""
        for value in values:
            self.append(value)

    def __repr__(self) -> str:
        """Return the name."""
        return f"Foreign({self.name})"


class _StorageType:
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object
) -> Tensor:
    """A copy of a view into a storage, within its bounds."""
    if not (isinstance(storage, Tensor) and len(size) == len(stride)):
        raise ModelError("The file describes a tensor in a way that is not PyTorch's.")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n > 0)
    is_empty = any(n == 0 for n in size)
    if offset < 0 or min((*size, *stride, 0)) < 0 or (not is_empty and last >= len(storage)):
        raise ModelError("The file describes a tensor that lies outside of its storage.")
    if is_empty:
        return storage.new_zeros(size)
    return storage.as_strided(size, stride, offset).clone()


def _rebuild_parameter(data: Any, *rest: object) -> Any:
    return data


_CALLABLES: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
}


class _Reader(pickle.Unpickler):
    """An unpickler that finds no class but the ones above."""

    def __init__(self, file: io.BytesIO, load_storage: Callable[[str, torch.dtype, int], Tensor]):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        if found := _CALLABLES.get((module, name)):
            return found
        return type("Recorded", (Foreign,), {"name": f"{module}.{name}"})

    def persistent_load(self, identifier: Any) -> Tensor:
        match identifier:
            case ("storage", _StorageType() as kind, str(key), _, int(size)):
                return self._load_storage(key, kind.dtype, size)
        raise ModelError("The file refers to something that is not a PyTorch storage.")


def read_checkpoint(path: str | Path) -> Any:
    """Reads a file written by `torch.save` (the zip format, PyTorch 1.6 and later).

    Args:
        path: The file.

    Returns:
        What was saved: dictionaries, lists, numbers, strings, tensors on the CPU, and `Foreign`.

    Raises:
        ModelError: The file cannot be read, is damaged, or is of the older format.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    except zipfile.BadZipFile:
        raise ModelError(
            f"{path} must be a checkpoint in PyTorch's zip format, but is something else, or was "
            "cut off. A file of PyTorch 1.5 or older has to be saved again by a newer one."
        ) from None


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Any:
    programs = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(programs) != 1:
        raise ModelError(f"{path} must hold one `data.pkl`, but holds {len(programs)}.")
    prefix = programs[0].removesuffix("data.pkl")
    if archive.getinfo(programs[0]).file_size > MAX_PICKLE_BYTES:
        raise ModelError(f"{path}: its `data.pkl` is larger than any model's.")
    if (
        f"{prefix}byteorder" in archive.namelist()
        and archive.read(f"{prefix}byteorder") != b"little"
    ):
        raise ModelError(f"{path} must be little-endian, but is not.")
    storages: dict[str, Tensor] = {}

    def load_storage(key: str, dtype: torch.dtype, size: int) -> Tensor:
        if key not in storages:
            storages[key] = _read_storage(archive, f"{prefix}data/{key}", dtype, size, path)
        return storages[key]

    try:
        return _Reader(io.BytesIO(archive.read(programs[0])), load_storage).load()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # whatever a damaged or hostile program makes of the reader
        raise ModelError(
            f"{path} is damaged, or no PyTorch checkpoint ({type(error).__name__}: {error})."
        ) from error


def _read_storage(
    archive: zipfile.ZipFile, name: str, dtype: torch.dtype, size: int, path: Path
) -> Tensor:
    expected = size * dtype.itemsize
    try:
        found = archive.getinfo(name).file_size
    except KeyError:
        raise ModelError(f"{path} lacks the tensor bytes `{name}`.") from None
    if found != expected:
        raise ModelError(f"{path}: `{name}` must have {expected} bytes, but has {found}.")
    if expected == 0:
        return torch.zeros(0, dtype=dtype, device="cpu")
    content = np.frombuffer(archive.read(name), dtype=np.uint8).copy()
    return torch.from_numpy(content).view(dtype)


def to_plain(value: Any) -> Any:
    """Turns the settings of a checkpoint into dictionaries, lists and scalars.

    Understands argparse's `Namespace`, dataclasses, and OmegaConf's containers; an enumeration
    becomes its value; anything else of another project becomes None.

    Args:
        value: What `read_checkpoint` returned, or a part of it.
    """
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if not isinstance(value, Foreign):
        return value if isinstance(value, (str, int, float, bool, Tensor)) else None
    if value.name.startswith("omegaconf."):
        state = value.state if isinstance(value.state, Mapping) else {}
        if "_content" in state:
            return to_plain(state["_content"])
        return to_plain(state.get("_val"))
    if isinstance(value.state, Mapping):
        return to_plain(value.state)
    if len(value.arguments) == 1 and value.state is None:  # an enumeration's member
        return to_plain(value.arguments[0])
    return to_plain(value.items) if value.items else None
