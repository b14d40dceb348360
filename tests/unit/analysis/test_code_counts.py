"""From columns of frames to frames by utterance, phone and code."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from speechvq.analysis.code_counts import (
    MAX_UNITS,
    choose_unit,
    count_codes,
    count_tables,
    form_units,
    match_units,
)
from speechvq.decoding.bootstrap import BootstrapUnit
from tests.support.code_tables import assign_nothing, create_columns, create_counts

COLUMNS = {
    "utterance": ["u2", "u2", "u1", "u1", "u1"],
    "language": ["bbb_Latn"] * 2 + ["aaa_Latn"] * 3,
    "speaker": [None, None, "s", "s", "s"],
    "source": ["x"] * 5,
    "phone": ["a", None, "a", "a", "sil"],
    "codes": [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]],
}


def test_by_hand() -> None:
    counts = count_codes(**{name: np.array(c, dtype=object) for name, c in COLUMNS.items()})
    assert counts.utterances.tolist() == ["u1", "u2"]
    assert counts.languages.tolist() == ["aaa_Latn", "bbb_Latn"]
    assert counts.speakers.tolist() == ["s", ""]
    assert counts.phones.tolist() == ["", "a", "sil"]
    assert counts.codes.tolist() == [[0, 1], [1, 0]]
    assert counts.sum_by([0, 1], 2, ["a"]).tolist() == [[[1, 1]], [[0, 1]]]
    assert counts.sum_by([-1, 0], 1, ["a", "sil"]).tolist() == [[[0, 1], [0, 0]]]
    assert counts.sum_codes().tolist() == [[2, 1], [0, 2]]


def test_pieces_of_a_file_give_the_same_as_the_whole() -> None:
    rng = np.random.default_rng(0)
    columns = create_columns(rng, {"aaa_Latn": {"x": 3}, "bbb_Latn": {"x": 2}}, assign_nothing(9))
    whole = count_codes(**columns)
    columns["speaker"] = np.where(columns["speaker"] == "aaa_Latn-x-0", None, columns["speaker"])
    whole = count_codes(**columns)
    assert whole.speakers.tolist()[0] == ""
    columns["group_0"] = columns.pop("codes")
    table = pa.table({name: pa.array(column.tolist()) for name, column in columns.items()})
    pieces = [table.slice(start, 101) for start in range(0, table.num_rows, 101)]
    merged = count_tables([*pieces, table.slice(0, 0)], ["group_0"])
    for name in whole.__dataclass_fields__:
        assert np.array_equal(getattr(merged, name), getattr(whole, name)), name
    pairs = count_tables([table], ["group_0", "group_0"])
    assert np.array_equal(pairs.codes, np.repeat(whole.codes, 2, axis=1))
    with pytest.raises(ValueError, match="no frame"):
        count_tables([], ["group_0"])


def test_some_utterances() -> None:
    counts = count_codes(**{name: np.array(c, dtype=object) for name, c in COLUMNS.items()})
    one = counts.select(counts.languages == "bbb_Latn")
    assert one.utterances.tolist() == ["u2"]
    assert one.sum_codes().tolist() == [[0, 2]]


def test_units_are_speakers_where_all_languages_have_enough() -> None:
    rng = np.random.default_rng(0)
    counts = create_counts(rng, {"aaa_Latn": {"x": 5}, "bbb_Latn": {"x": 3}}, assign_nothing(4))
    assert choose_unit(counts, ["aaa_Latn"]) is BootstrapUnit.SPEAKER
    assert choose_unit(counts, ["aaa_Latn", "bbb_Latn"]) is BootstrapUnit.UTTERANCE
    rows, names = form_units(counts, "aaa_Latn", BootstrapUnit.SPEAKER)
    assert names.tolist() == [f"aaa_Latn-x-{number}" for number in range(5)]
    assert np.bincount(rows[rows >= 0]).tolist() == [2] * 5
    assert set(counts.languages[rows < 0].tolist()) == {"bbb_Latn"}


def test_many_utterances_are_put_together() -> None:
    total = 3 * MAX_UNITS
    counts = count_codes(
        utterance=[f"u{number}" for number in range(total)],
        language=["aaa_Latn"] * total,
        speaker=[""] * total,
        source=["x"] * total,
        phone=["a"] * total,
        codes=np.zeros(total, dtype=int),
    )
    rows, names = form_units(counts, "aaa_Latn", BootstrapUnit.UTTERANCE)
    assert len(names) == MAX_UNITS
    assert set(np.bincount(rows).tolist()) == {3}


def test_units_in_common_come_first_in_one_order() -> None:
    first, second = np.array(["a", "b", "c", "d"]), np.array(["b", "d", "e"])
    *orders, num_common = match_units(first, second)
    assert num_common == 2
    assert first[orders[0]].tolist() == ["b", "d", "a", "c"]
    assert second[orders[1]].tolist() == ["b", "d", "e"]


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one value a frame"):
        count_codes(**{**COLUMNS, "codes": [1, 2]})
