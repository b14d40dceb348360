"""Files of other projects are read and never run, and neither they nor our own are overwritten."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechvq.errors import ModelError
from speechvq.models.foreign_pickle import Foreign, read_checkpoint
from speechvq.models.importing import import_model
from tests.support.huggingface import create_theirs


@pytest.mark.parametrize("place", ["theirs", "theirs/ours", ".", "link"])
def test_output_never_touches_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    create_theirs("group").save_pretrained(tmp_path / "theirs")
    (tmp_path / "link").symlink_to("theirs")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"must be outside of theirs, and not above it"):
        import_model("theirs", place)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_model_directory_around_a_file_is_not_replaced(tmp_path: Path) -> None:
    create_theirs("group").save_pretrained(tmp_path / "theirs")
    import_model(tmp_path / "theirs", tmp_path / "ours")
    torch.save({}, tmp_path / "ours" / "weeks_of_training.pt")
    with pytest.raises(ModelError, match=r"must be outside of .*, and not above it"):
        import_model(tmp_path / "ours" / "weeks_of_training.pt", tmp_path / "ours")
    assert (tmp_path / "ours" / "weeks_of_training.pt").exists()
    import_model(tmp_path / "theirs", tmp_path / "ours")  # ours again: that may be replaced


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    torch.save({"model": {}, "bomb": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    found = read_checkpoint(tmp_path / "bomb.pt")
    assert isinstance(found["bomb"], Foreign)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ModelError, match="must have `model` and `cfg` or `args`"):
        import_model(tmp_path / "bomb.pt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def create_bare_states() -> dict[str, dict[str, Tensor]]:
    """Just enough of a state dict to be taken for another project's."""
    return {
        "fairseq2": {"encoder_frontend.post_extract_layer_norm.weight": torch.zeros(2)},
        "torchaudio": {"encoder.feature_projection.layer_norm.weight": torch.zeros(2)},
    }


@pytest.mark.parametrize("project", ["fairseq2", "torchaudio"])
def test_nothing_in_their_pickles_is_run_either(tmp_path: Path, project: str) -> None:
    state = create_bare_states()[project]
    bombs = {
        "beside": {"model": state, "bomb": Bomb(tmp_path / "ran")},
        "inside": {"model": state | {"encoder.bomb": Bomb(tmp_path / "ran")}},
        "alone": Bomb(tmp_path / "ran"),
    }
    messages = {
        "beside": "must have one of|lacks the weight",
        "inside": "must be tensors only",
        "alone": "must hold a dictionary",
    }
    for name, checkpoint in bombs.items():
        torch.save(checkpoint, tmp_path / f"{name}.pt")
        with pytest.raises(ModelError, match=messages[name]):
            import_model(tmp_path / f"{name}.pt", tmp_path / "ours")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("project", ["fairseq2", "torchaudio"])
def test_their_files_cut_off_are_errors(tmp_path: Path, project: str) -> None:
    torch.save({"model": create_bare_states()[project]}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for size in (0, 1, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:size])
        with pytest.raises(ModelError, match="zip format"):
            import_model(tmp_path / "cut.pt", tmp_path / "ours")


def test_archives_of_another_kind_are_errors(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(ModelError, match=r"must hold one `data\.pkl`, but holds 0"):
        import_model(tmp_path / "text.zip", tmp_path / "ours")
    torch.save(
        {"weight": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    with pytest.raises(ModelError, match="zip format"):
        import_model(tmp_path / "old.pt", tmp_path / "ours")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelError, match="must hold a dictionary"):
        import_model(tmp_path / "script.pt", tmp_path / "ours")
    names = {f"weight{number}": torch.zeros(1) for number in range(9)}
    torch.save(names, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="weight0, weight1, weight2, weight3, weight4, …"):
        import_model(tmp_path / "other.pt", tmp_path / "ours")


def write_archive(path: Path, program: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def test_tensor_outside_of_its_storage_is_refused(tmp_path: Path) -> None:
    """A stride that reaches past the end would read memory of the process."""
    program = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage"
        b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x05\x85K\x01\x85\x89}tR."
    )
    path = write_archive(tmp_path / "evil.pt", program, **{"0": b"\0" * 8})
    with pytest.raises(ModelError, match="outside of its storage"):
        read_checkpoint(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        import_model(tmp_path / "nothing", tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    with pytest.raises(ModelError, match=r"config\.json does not exist"):
        import_model(tmp_path / "theirs", tmp_path / "ours")
    (tmp_path / "text.pt").write_text("no zip")
    with pytest.raises(ModelError, match="zip format"):
        import_model(tmp_path / "text.pt", tmp_path / "ours")
    (tmp_path / "theirs" / "config.json").write_text(json.dumps([]))
    (tmp_path / "theirs" / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        import_model(tmp_path / "theirs", tmp_path / "ours")
