"""Checkpoints that are damaged are found, kept, and never resumed from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq2")

from speechvq.errors import ModelError
from speechvq.training.checkpoint_writer import DigestingDumper
from speechvq.training.checkpoints import (
    find_damage,
    is_complete,
    set_aside_damaged,
    write_manifest,
)
from tests.support.damage import DAMAGES

NAMES = ("model/sdp_00.pt", "trainer/rank_00.pt", "trainer/rank_01.pt")


def write_checkpoint(checkpoints: Path, step: int) -> Path:
    directory = checkpoints / f"step_{step}"
    dumper = DigestingDumper()
    for number, name in enumerate(NAMES):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dumper.dump({"weight": torch.arange(1000.0) + step + number}, path)
    write_manifest(directory, dumper.take_digests(directory), num_ranks=2)
    return directory


def test_whole_checkpoint_is_whole(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, 10)
    assert find_damage(directory) is None
    assert is_complete(directory)
    assert set_aside_damaged(tmp_path) == []


def test_digest_is_that_of_the_file_which_torch_loads(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, 10)
    for number, name in enumerate(NAMES):
        loaded = torch.load(directory / name, weights_only=True)
        assert torch.equal(loaded["weight"], torch.arange(1000.0) + 10 + number)


def test_torch_itself_does_not_notice_a_flipped_bit(tmp_path: Path) -> None:
    """Why the manifest is needed."""
    directory = write_checkpoint(tmp_path, 10)
    content = bytearray((directory / NAMES[0]).read_bytes())
    place = content.find(torch.tensor([500.0, 501.0]).numpy().tobytes())
    content[place] ^= 1
    loaded = torch.load(io.BytesIO(bytes(content)), weights_only=True)
    assert not torch.equal(loaded["weight"], torch.arange(1000.0) + 10)


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_found_and_the_checkpoint_before_is_taken(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    write_checkpoint(tmp_path, 10)
    write_checkpoint(tmp_path, 20)
    damage(tmp_path / "step_20" / name)
    assert find_damage(tmp_path / "step_20") is not None
    sentences = set_aside_damaged(tmp_path)
    assert len(sentences) == 1
    assert "step 20 is damaged" in sentences[0]
    assert "goes on from step 10" in sentences[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged_step_20", "step_10"]
    assert set_aside_damaged(tmp_path) == []


def test_file_that_the_manifest_does_not_name_is_damage(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, 10)
    (directory / "trainer" / "rank_02.pt").write_bytes(b"new")
    assert find_damage(directory) == "trainer/rank_02.pt is not in its manifest.json"


def test_step_damaged_twice_is_kept_twice(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 10)
    for _ in range(2):
        (write_checkpoint(tmp_path, 20) / NAMES[0]).unlink()
        set_aside_damaged(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["damaged_step_20", "damaged_step_20_2", "step_10"]


def test_run_without_a_whole_checkpoint_is_refused_until_the_user_decides(tmp_path: Path) -> None:
    for step in (10, 20):
        (write_checkpoint(tmp_path, step) / NAMES[1]).unlink()
    for _ in range(2):
        with pytest.raises(
            ModelError, match=r"No checkpoint .* is whole.*step 20.*step 10.*remove"
        ):
            set_aside_damaged(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["step_10", "step_20"]


def test_damaged_checkpoint_that_was_set_aside_is_not_forgotten(tmp_path: Path) -> None:
    """Training must not begin anew behind the user's back once the last good one is gone, too."""
    write_checkpoint(tmp_path, 20).rename(tmp_path / "damaged_step_20")
    with pytest.raises(ModelError, match="damaged_step_20 was set aside before"):
        set_aside_damaged(tmp_path)


def test_interrupted_save_is_removed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 10)
    (tmp_path / "step_20.tmp" / "trainer").mkdir(parents=True)
    assert set_aside_damaged(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["step_10"]


def test_new_run_has_nothing_to_verify(tmp_path: Path) -> None:
    assert set_aside_damaged(tmp_path / "checkpoints") == []
