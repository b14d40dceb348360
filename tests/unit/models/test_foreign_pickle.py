"""Hand-made pickles: what they ask for beyond tensors and settings is refused, in one sentence."""

from __future__ import annotations

import collections
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from speechvq.errors import ModelError
from speechvq.models import foreign_objects
from speechvq.models.foreign_objects import Foreign
from speechvq.models.foreign_pickle import read_checkpoint, to_plain

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0atQ"
)
"""A storage of ten numbers, which `write` puts into the file."""


def build_tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00") -> bytes:
    return REBUILD + b"(" + STORAGE + offset + size + stride + b"\x89}tR"


TENSOR = build_tensor(b"K\x0a\x85", b"K\x01\x85")


def write(folder: Path, program: bytes, *, compression: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "hand-made.pt"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("archive/data/0", torch.arange(10.0).numpy().tobytes())
    return path


def test_hand_made_tensor_is_read(tmp_path: Path) -> None:
    found = read_checkpoint(write(tmp_path, TENSOR))
    assert torch.equal(found, torch.arange(10.0))
    found = read_checkpoint(write(tmp_path, build_tensor(b"K\x02K\x03\x86", b"K\x03K\x01\x86")))
    assert torch.equal(found, torch.arange(6.0).view(2, 3))


LEGACY_STATE = b"(" + STORAGE + b"K\x00J\xa0\x86\x01\x00\x85K\x01\x85t"
"""What PyTorch before 0.4 gave a tensor as its state: a storage, 0, (100000,), (1,)."""
ATTRIBUTES = b"}X\x01\x00\x00\x00aK\x01s"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(TENSOR + LEGACY_STATE + b"b", id="tensor"),
        pytest.param(STORAGE + LEGACY_STATE + b"b", id="storage"),
        pytest.param(REBUILD + ATTRIBUTES + b"b", id="function"),
        pytest.param(REBUILD + b"N" + ATTRIBUTES + b"\x86b", id="slots of a function"),
        pytest.param(b"ccollections\nOrderedDict\n" + ATTRIBUTES + b"b", id="dictionary"),
        pytest.param(b"cbuiltins\nset\n" + ATTRIBUTES + b"b", id="set"),
        pytest.param(b"ctorch\nFloatStorage\n" + ATTRIBUTES + b"b", id="class of storages"),
    ],
)
def test_state_of_our_own_objects_cannot_be_set(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(ModelError, match="sets attributes of a tensor or of a function"):
        read_checkpoint(write(tmp_path, program))


def test_attributes_of_classes_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="damaged, or no PyTorch checkpoint"):
        read_checkpoint(write(tmp_path, b"cos\nsystem\n" + ATTRIBUTES + b"b"))


def test_functions_hold_nothing_that_could_be_set() -> None:
    for function in foreign_objects.CALLABLES.values():
        assert not hasattr(function, "__dict__")
        with pytest.raises(AttributeError):
            function.a = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((b"J\x00\x00\x00\x10\x85", b"K\x00\x85"), id="expanded"),
        pytest.param((b"K\x0aK\x02\x86", b"K\x01K\x00\x86"), id="twice"),
        pytest.param((b"K\x08K\x03\x86", b"K\x01K\x01\x86"), id="overlapping"),
    ],
)
def test_tensor_larger_than_its_storage_is_refused(
    tmp_path: Path, shape: tuple[bytes, bytes]
) -> None:
    with pytest.raises(ModelError, match="larger than its storage"):
        read_checkpoint(write(tmp_path, build_tensor(*shape)))


def test_bytes_that_are_compressed_are_refused(tmp_path: Path) -> None:
    """Four gigabytes of zeros take four megabytes of a file."""
    with pytest.raises(ModelError, match="must be stored as it is, but is compressed"):
        read_checkpoint(write(tmp_path, TENSOR, compression=zipfile.ZIP_DEFLATED))


def test_memo_of_more_objects_than_there_are_is_refused(tmp_path: Path) -> None:
    """The reader would make room for 4e9 of them."""
    with pytest.raises(ModelError, match="numbers its objects in a way that is not PyTorch's"):
        read_checkpoint(write(tmp_path, b"]r\x00\x00\x00\xf0"))


def test_parameter_of_something_else_is_refused(tmp_path: Path) -> None:
    program = b"ctorch._utils\n_rebuild_parameter\n(K\x01\x89}tR"
    with pytest.raises(ModelError, match="describes a parameter in a way that is not PyTorch's"):
        read_checkpoint(write(tmp_path, program))


def test_what_contains_itself_is_read_but_not_made_plain(tmp_path: Path) -> None:
    found = read_checkpoint(write(tmp_path, b"]q\x00h\x00a"))  # a list whose member is itself
    assert found[0] is found
    tensor_and_self = read_checkpoint(write(tmp_path, b"]q\x00(" + TENSOR + b"h\x00e"))
    assert torch.equal(tensor_and_self[0], torch.arange(10.0))
    for value in (found, {"cfg": found}, tensor_and_self):
        with pytest.raises(ModelError, match="contain themselves"):
            to_plain(value)


def test_settings_nested_without_end_are_refused(tmp_path: Path) -> None:
    found = read_checkpoint(write(tmp_path, b"]" * 5000 + b"a" * 4999))
    with pytest.raises(ModelError, match="nested too deeply"):
        to_plain(found)


def test_what_is_referred_to_often_is_made_plain_once(tmp_path: Path) -> None:
    """Sixty lists of twice the one before would be 2^60."""
    program = b"]" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(60))
    found = to_plain(read_checkpoint(write(tmp_path, program)))
    depth = 0
    while found:
        assert found[0] is found[1]
        found, depth = found[0], depth + 1
    assert depth == 60


class Settings:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_tensors_come_out_of_everything_that_pytorch_saves(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = module.state_dict()
    assert state._metadata  # attributes of an OrderedDict
    weights = torch.arange(6.0).view(2, 3)
    saved = {
        "model": state,
        "parameter": torch.nn.Parameter(weights),
        "transposed": weights.t(),
        "expanded": torch.ones(1).expand(1),
        "empty": torch.zeros(0, 4),
        "pair": (weights, [weights]),
        "settings": Settings(weights=weights, names={"a", "b"}),
        "ordered": collections.OrderedDict(a=1, b=weights),
    }
    torch.save(saved, tmp_path / "saved.pt")
    found = read_checkpoint(tmp_path / "saved.pt")
    assert list(found["model"]) == list(state)
    for name, tensor in state.items():
        assert torch.equal(found["model"][name], tensor), name
    assert torch.equal(found["parameter"], weights)
    assert torch.equal(found["transposed"], weights.t())
    assert torch.equal(found["expanded"], torch.ones(1))
    assert found["empty"].shape == (0, 4)
    assert torch.equal(found["pair"][0], weights)
    assert torch.equal(found["pair"][1][0], weights)
    assert isinstance(found["settings"], Foreign)
    assert torch.equal(found["settings"].state["weights"], weights)
    assert found["settings"].state["names"] == {"a", "b"}
    assert torch.equal(found["ordered"]["b"], weights)
