"""The moving averages of EMA over two ranks: bit for bit the same codebook on both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, multiprocessing

from tests.acceptance.ema_ranks import (
    NUM_STEPS,
    SIZE,
    create_quantizer,
    draw_batch,
    get_buffers,
    run_rank,
)

pytestmark = pytest.mark.slow
NAMES = ("both", "empty 0", "empty 1", "nan 0", "nan 1", "infinite 1")
CASES = [(name, share) for name in NAMES for share in (0.0, 0.5)]
BUFFERS = ("codebook", "average_count", "average_sum")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    directory: Path = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(
        run_rank, args=(directory, CASES), nprocs=2, start_method="spawn"
    )
    return [load_file(directory / f"{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize(("case", "share"), CASES)
def test_buffers_are_bit_equal_on_both_ranks(
    ranks: list[dict[str, Tensor]], case: str, share: float
) -> None:
    for step in range(NUM_STEPS):
        for name in BUFFERS:
            key = f"{case}/{share}/{step}/{name}"
            assert torch.equal(ranks[0][key], ranks[1][key]), key
            assert ranks[0][key].isfinite().all(), key


@pytest.mark.parametrize("case", ["both", "empty 0", "empty 1"])
def test_averages_are_those_of_one_rank_with_all_frames(
    ranks: list[dict[str, Tensor]], case: str
) -> None:
    quantizer = create_quantizer(restart_share=0.0)
    for step in range(NUM_STEPS):
        batches = [draw_batch(rank, step, case) for rank in range(2)]
        features, valid = (torch.cat(part) for part in zip(*batches, strict=True))
        quantizer(features, temperature=1.0, valid=valid)
        for name, value in get_buffers(quantizer).items():
            found = ranks[0][f"{case}/0.0/{step}/{name}"]
            assert torch.allclose(found, value, rtol=1e-5, atol=1e-5), (step, name)


@pytest.mark.parametrize("case", ["nan 0", "nan 1", "infinite 1"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_batch_that_is_not_finite_on_one_rank_changes_nothing_on_either(
    ranks: list[dict[str, Tensor]], case: str, share: float
) -> None:
    before = get_buffers(create_quantizer(share))
    for name, value in before.items():
        assert torch.equal(ranks[1][f"{case}/{share}/{NUM_STEPS - 1}/{name}"], value), name


@pytest.mark.parametrize("case", ["both", "empty 1"])
def test_unused_entries_restart_on_frames_of_rank_0(
    ranks: list[dict[str, Tensor]], case: str
) -> None:
    assert (get_buffers(create_quantizer(0.5))["codebook"][:, SIZE // 2 :] > 30).all()
    codebook = ranks[1][f"{case}/0.5/{NUM_STEPS - 1}/codebook"]
    assert codebook.abs().max() < 10
    still_far = ranks[1][f"{case}/0.0/{NUM_STEPS - 1}/codebook"]
    assert still_far.abs().max() > 30


def test_nothing_restarts_where_rank_0_has_no_frame(ranks: list[dict[str, Tensor]]) -> None:
    """Its entries wait for a batch that has one; used entries go on learning."""
    first, last = (ranks[0][f"empty 0/0.5/{step}/codebook"] for step in (0, NUM_STEPS - 1))
    assert (last[:, SIZE // 2 :] > 30).all()
    assert not torch.equal(first[:, : SIZE // 2], last[:, : SIZE // 2])
