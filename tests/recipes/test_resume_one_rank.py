"""Kill −9 anywhere, run the same command again: the weights are those of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fairseq2")

from tests.support.corpora import write_tone_corpus
from tests.support.kills import check_kills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_ten_kills_on_one_rank(tmp_path: Path) -> None:
    corpus = write_tone_corpus(tmp_path / "tones")
    check_kills(corpus, tmp_path, num_kills=10, ranks=1, seed=1)
