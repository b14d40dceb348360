"""Tests 6 and 8 of METHODS A.6: toy 2, wav2vec 2.0 in miniature, two codebooks of 80 entries.

Every training takes about half a minute on one core: `make test-long` runs them.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

from speechvq.models.config import GumbelConfig, QuantizerConfig, SimVQConfig
from tests.acceptance.toy_wav2vec import Wav2VecResult, train_wav2vec

pytest.importorskip("fairseq2")
from speechvq.training.config import HealthConfig
from speechvq.training.health import CodebookHealth

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
SIZE = 80
SIZES = {"num_codebooks": 2, "codebook_size": SIZE, "code_dim": 64}
CONFIGS: dict[str, QuantizerConfig] = {
    "gumbel": GumbelConfig(**SIZES),
    "simvq": SimVQConfig(**SIZES),
}


@cache
def train(kind: str, *, diversity_weight: float, seed: int = 0) -> Wav2VecResult:
    torch.set_num_threads(1)
    _, result = train_wav2vec(CONFIGS[kind], seed=seed, diversity_weight=diversity_weight)
    print(
        f"{kind}, diversity weight {diversity_weight:g}: perplexity {result.perplexity}, "
        f"PNMI {result.pnmi:.3f} ({result.chance_pnmi:.3f}), "
        f"equal {result.intervals[-1].equal_share:.3f}"
    )
    return result


def count_alarms(result: Wav2VecResult) -> int:
    health = CodebookHealth(HealthConfig(), SIZE)
    return sum(health.judge(vars(interval)).is_alarm for interval in result.intervals)


def test_without_diversity_loss_distractors_equal_their_target_and_the_guard_trips() -> None:
    result = train("simvq", diversity_weight=0.0)
    assert result.intervals[-1].equal_share > 0.3
    assert count_alarms(result) > 0


@pytest.mark.xfail(strict=True, reason="METHODS asks for 56 of 80 entries; about 20 are measured")
@pytest.mark.parametrize("kind", ["simvq", "gumbel"])
def test_with_diversity_loss_most_entries_are_used(kind: str) -> None:
    """Missed by far. METHODS: a perplexity of 0.7 × 80 = 56 with a diversity weight of 0.1, where
    it measured 63 to 75 on a toy of its own. Measured here with seed 0 on 128,000 held-out
    frames: Gumbel 24 and 18, SimVQ 19 and 24.
    """
    result = train(kind, diversity_weight=0.1)
    assert min(result.perplexity) >= 0.7 * SIZE


def test_codes_of_simvq_name_phones_as_well_as_those_of_gumbel() -> None:
    simvq = train("simvq", diversity_weight=0.1)
    assert simvq.pnmi >= simvq.chance_pnmi + 0.3
    assert simvq.pnmi >= train("gumbel", diversity_weight=0.1).pnmi - 0.03
