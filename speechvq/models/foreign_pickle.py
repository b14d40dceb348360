"""Reads PyTorch checkpoints of other projects without running anything that they contain.

A pickle is a program: the usual way to read one imports and calls whatever it names. Here nothing
is imported and nothing is called but what `speechvq.models.foreign_objects` has. Used by
`speechvq import` alone, on a file that the user names.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.foreign_objects import (
    CALLABLES,
    STORAGES,
    Foreign,
    Record,
    Storage,
    StorageType,
)

MAX_PICKLE_BYTES = 1 << 28
"""The program itself, without the tensors' bytes: metadata of a model never takes 256 MiB."""


class _Reader(pickle.Unpickler):
    """An unpickler that finds no class but the ones above."""

    def __init__(self, file: io.BytesIO, load_storage: Callable[[str, torch.dtype, int], Tensor]):
        super().__init__(file, encoding="utf-8")
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return StorageType(STORAGES[name])
        if found := CALLABLES.get((module, name)):
            return found
        return type("Recorded", (Foreign,), {"__slots__": (), "name": f"{module}.{name}"})

    def persistent_load(self, identifier: Any) -> Storage:
        match identifier:
            case ("storage", StorageType() as kind, str(key), _, int(size)):
                return Storage(self._load_storage(key, kind.dtype, size))
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


def load_program(program: bytes, load_storage: Callable[[str, torch.dtype, int], Tensor]) -> Any:
    """Reads one pickle.

    Args:
        program: Its bytes.
        load_storage: Gives the flat tensor of a key, a type and a number of elements.

    Returns:
        See `read_checkpoint`.

    Raises:
        ModelError: It asks for something that is not PyTorch's. pickle's own errors, and those of
            Python where it makes no sense.
    """
    for opcode, argument, _ in pickletools.genops(program):
        # The reader takes memory up to the number of an object.
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > len(program):
            raise ModelError("The file numbers its objects in a way that is not PyTorch's.")
    return _unwrap(_Reader(io.BytesIO(program), load_storage).load())


def _unwrap(value: Any) -> Any:
    """Puts tensors in the place of their records, in containers too, whatever contains itself."""
    done: dict[int, Any] = {}
    pending: list[Any] = []

    def replace(item: Any) -> Any:
        if isinstance(item, Record):
            return item.tensor
        if isinstance(item, tuple):
            if id(item) not in done:
                done[id(item)] = (item, tuple([replace(part) for part in item]))
            return done[id(item)][1]
        if isinstance(item, (dict, list, Foreign)) and id(item) not in done:
            done[id(item)] = item
            pending.append(item)
        return item

    value = replace(value)
    while pending:
        container = pending.pop()
        if isinstance(container, list):
            container[:] = [replace(item) for item in container]
        elif isinstance(container, dict):
            for key in container:
                container[key] = replace(container[key])
        else:
            container.arguments = replace(container.arguments)
            container.state = replace(container.state)
            replace(container.items)
    return value


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
        return load_program(archive.read(programs[0]), load_storage)
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
        found = archive.getinfo(name)
    except KeyError:
        raise ModelError(f"{path} lacks the tensor bytes `{name}`.") from None
    if found.file_size != expected:
        raise ModelError(f"{path}: `{name}` must have {expected} bytes, but has {found.file_size}.")
    if found.compress_type != zipfile.ZIP_STORED:
        raise ModelError(f"{path}: `{name}` must be stored as it is, but is compressed.")
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

    Raises:
        ModelError: Something contains itself, or is nested too deeply.
    """
    try:
        return _Plainer().convert(value)
    except RecursionError:
        raise ModelError("Its settings are nested too deeply.") from None


class _Plainer:
    """Converts each object once, however often it is referred to."""

    def __init__(self) -> None:
        self._started: dict[int, Any] = {}
        self._converted: dict[int, Any] = {}

    def convert(self, value: Any) -> Any:
        if not isinstance(value, (Mapping, list, tuple, Foreign)):
            return value if isinstance(value, (str, int, float, bool, Tensor)) else None
        if id(value) not in self._started:
            self._started[id(value)] = value  # kept, so that its id stays its own
            self._converted[id(value)] = self._convert_container(value)
        elif id(value) not in self._converted:
            raise ModelError("Its settings contain themselves.")
        return self._converted[id(value)]

    def _convert_container(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self.convert(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.convert(item) for item in value]
        if value.name.startswith("omegaconf."):
            state = value.state if isinstance(value.state, Mapping) else {}
            return self.convert(state["_content"] if "_content" in state else state.get("_val"))
        if isinstance(value.state, Mapping):
            return self.convert(value.state)
        if len(value.arguments) == 1 and value.state is None:  # an enumeration's member
            return self.convert(value.arguments[0])
        return self.convert(value.items) if value.items else None
