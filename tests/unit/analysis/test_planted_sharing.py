"""What is planted in a corpus of espeak-ng's is found by the report, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speechvq.analysis.sharing_rule import Decision, SharingRule
from speechvq.analysis.table_sections import create_sharing_of_table
from tests.support.planted_worlds import Planted, World, write_world
from tests.support.spoken_corpus import (
    Part,
    SpokenUtterance,
    list_inventories,
    read_utterances,
    speak_corpus,
)

pytest.importorskip("espeakng_loader", reason="needs the extra `demo`")
pytestmark = pytest.mark.slow
LANGUAGES = ("deu_Latn", "eng_Latn", "tur_Latn")
HALF = {"deu_Latn", "eng_Latn"}


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[SpokenUtterance]:
    directory = tmp_path_factory.mktemp("spoken")
    parts = [Part(name=one, spoken=one) for one in LANGUAGES]
    speak_corpus(directory, parts, num_sentences=6, num_workers=2)
    return read_utterances(directory)


def read_decisions(pairs: list[dict[str, Any]], planted: Planted) -> dict[bool, list[Decision]]:
    """Decisions on measured phones by whether they are shared."""
    found: dict[bool, list[Decision]] = {True: [], False: []}
    for pair in pairs:
        for phone in pair["phones"]:
            if phone["within"] == phone["within"]:
                is_shared = planted.is_shared(*pair["languages"], phone["phone"])
                found[is_shared].append(phone["decision"])
    return found


def test_phones_of_two_languages_have_common_names(utterances: list[SpokenUtterance]) -> None:
    phones = {name: set(found) for name, found in list_inventories(utterances).items()}
    assert set(phones) == set(LANGUAGES)
    assert {"m", "s", "ʃ", "ə"} <= phones["deu_Latn"] & phones["eng_Latn"]
    assert len(phones["deu_Latn"] & phones["tur_Latn"]) > 15


def test_half_of_the_phones_of_one_pair(utterances: list[SpokenUtterance], tmp_path: Path) -> None:
    world = World(
        shared=0.0,
        same_speakers=True,
        shared_phones=lambda language, phone: language in HALF and sum(phone.encode()) % 2 == 0,
    )
    table, planted = write_world(tmp_path / "codes.parquet", world, utterances, 1)
    section = create_sharing_of_table(table, 1)
    (pairs,) = section.numbers["pairs"].values()
    decisions = read_decisions(pairs, planted)
    assert len(decisions[True]) >= 10
    assert decisions[True].count(Decision.SHARED) >= 0.9 * len(decisions[True])
    assert Decision.NOT_SHARED not in decisions[True]
    assert Decision.SHARED not in decisions[False]
    assert decisions[False].count(Decision.NOT_SHARED) >= 0.9 * len(decisions[False])
    for pair in pairs:
        assert (set(pair["languages"]) == HALF) != (pair["decision"] == Decision.NOT_SHARED)
    assert "8 and 8 speakers, 8 of them the same" in section.findings[0]
    assert section.warnings == []


def test_a_source_for_each_language_is_doubted_first(
    utterances: list[SpokenUtterance], tmp_path: Path
) -> None:
    """The same people speak everywhere; all phones are shared, but for what the source does."""
    world = World(
        source=lambda language, voice: f"radio-{language}", source_share=0.5, concentration=10.0
    )
    table, _ = write_world(tmp_path / "codes.parquet", world, utterances, 1)
    section = create_sharing_of_table(table, 1, rule=SharingRule(num_resamples=20))
    assert section.findings[0].startswith("Language and source cannot be told apart")
    assert "So, with this doubt" in section.findings[0]
    assert section.warnings
    assert any("may differ between recordings" in text for text in section.limits)
