"""What the pickles of other projects are made of when `speechvq.models.foreign_pickle` reads them.

Tensors are rebuilt from their raw bytes by the few functions below; every other class becomes a
`Foreign`, which only records what it was given. Nothing here can be changed by the pickle, as its
instruction to set a state would do with any ordinary object.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from speechvq.errors import ModelError

STORAGES = {
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
"""Classes of storages → their type of numbers."""


class _Sealed:
    """What the reader of a pickle is given to work with, which the pickle may not change: it has no
    attributes of its own, and the program's instruction to set a state is refused.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Refuse a state: what PyTorch writes sets none here."""
        raise ModelError("The file sets attributes of a tensor or of a function.")


class Foreign:
    """An object of a class that is not ours to run; each such class is an empty subclass of this.

    Attributes:
        name: Module and name of the class, or of what was called.
        arguments: What it was called with.
        state: What was set on it afterwards, usually a dictionary of attributes.
        items: What was put into it as a mapping or a sequence.
    """

    __slots__ = ("arguments", "items", "state")
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


class _Dictionary(dict[Any, Any]):
    """An OrderedDict of the file. State dicts of modules bring versions along as attributes; they
    are dropped.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drop the attributes."""


class StorageType(_Sealed):
    """A class of storages, such as `torch.FloatStorage`."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class Record(_Sealed):
    """A storage or a rebuilt tensor while the pickle runs: a tensor has methods that a pickle can
    call and that write to memory. It is taken out afterwards.
    """

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Storage(Record):
    """A storage."""

    __slots__ = ()


class _RebuildTensor(_Sealed):
    __slots__ = ()

    def __call__(
        self,
        storage: Storage,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *rest: object,
    ) -> Record:
        """A view into a storage, within its bounds and no larger than it."""
        if not (isinstance(storage, Storage) and len(size) == len(stride)):
            raise ModelError("The file describes a tensor in a way that is not PyTorch's.")
        values = storage.tensor
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True) if n > 0)
        is_empty = any(n == 0 for n in size)
        if offset < 0 or min((*size, *stride, 0)) < 0 or (not is_empty and last >= len(values)):
            raise ModelError("The file describes a tensor that lies outside of its storage.")
        if is_empty:
            return Record(values.new_zeros(size))
        if math.prod(size) > len(values):
            raise ModelError("The file describes a tensor that is larger than its storage.")
        return Record(values.as_strided(size, stride, offset))


class _RebuildParameter(_Sealed):
    __slots__ = ()

    def __call__(self, data: Record, *rest: object) -> Record:
        """The tensor; whether it needs a gradient does not matter here."""
        if not isinstance(data, Record):
            raise ModelError("The file describes a parameter in a way that is not PyTorch's.")
        return data


class _CreateDictionary(_Sealed):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> _Dictionary:
        """An OrderedDict."""
        return _Dictionary(*arguments)


class _CreateSet(_Sealed):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> set[Any]:
        """A set."""
        return set(*arguments)


class _CreateFrozenset(_Sealed):
    __slots__ = ()

    def __call__(self, *arguments: Any) -> frozenset[Any]:
        """A frozenset."""
        return frozenset(*arguments)


CALLABLES: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _CreateDictionary(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("builtins", "set"): _CreateSet(),
    ("builtins", "frozenset"): _CreateFrozenset(),
    ("__builtin__", "set"): _CreateSet(),
}
"""All that a pickle can call: module and name → what is called instead."""
