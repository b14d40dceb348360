"""Limits turn measurements into reasons: undefined never passes, splits do not leak, nothing is
lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechvq.data.config import DecideConfig, PrepareConfig
from speechvq.data.decide import REASONS, Decisions, decide, rank_splits
from speechvq.data.segment_columns import SegmentColumns, from_columns
from speechvq.data.segment_table import SEGMENT_SCHEMA
from speechvq.data.tally import count_by, count_reasons

_GOOD: dict[str, Any] = {
    "source": "s",
    "language": "hin_Deva",
    "begin": 0,
    "num_samples": 32_000,
    "is_whole": True,
    "is_first": True,
    "snr_db": 30.0,
    "vad_snr_db": 25.0,
    "speech_ratio": 0.8,
    "loudness_lufs": -20.0,
    "clipped_share": 0.0,
    "zero_share": 0.0,
    "dropout_share": 0.0,
    "dc_offset": 0.0,
    "bandwidth_hz": 8000.0,
    "variation_db": 12.0,
    "tone_share": 0.1,
    "flags": [],
}


def make_segments(*rows: dict[str, Any]) -> SegmentColumns:
    """Segments that are good but for what is given."""
    full = [
        {
            **_GOOD,
            "path": f"{number}.wav",
            "recording": f"{number}.wav",
            "audio_row": number,
            "digest": number.to_bytes(16, "big"),
            "fingerprint": np.random.default_rng(number).bytes(16),
            **row,
        }
        for number, row in enumerate(rows)
    ]
    table = pa.Table.from_pylist(full, schema=SEGMENT_SCHEMA)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return from_columns(columns, [0], [len(full)])


def _decide(*rows: dict[str, Any], **limits: Any) -> tuple[Decisions, list[str]]:
    shares = {key: limits.pop(key) for key in ("dev_share", "test_share") if key in limits}
    config = PrepareConfig(decide=DecideConfig(**limits), **shares)
    decisions = decide(make_segments(*rows), config)
    return decisions, ["" if code < 0 else str(REASONS[code]) for code in decisions.reason]


def _reasons(*rows: dict[str, Any], **limits: Any) -> list[str]:
    return _decide(*rows, **limits)[1]


@pytest.mark.parametrize(
    ("row", "limits", "reason"),
    [
        ({}, {}, ""),
        ({"snr_db": 10.0}, {"min_snr_db": 15.0}, "low_snr"),
        ({"snr_db": 15.0}, {"min_snr_db": 15.0}, ""),
        ({"snr_db": None}, {"min_snr_db": 15.0}, "low_snr"),
        ({"snr_db": None}, {"min_snr_db": 15.0, "undefined": "keep"}, ""),
        ({"snr_db": None}, {}, ""),
        ({"tone_share": None}, {}, "tones"),
        ({"zero_share": 0.95}, {}, "digital_silence"),
        ({"zero_share": 0.6}, {}, ""),
        ({"dropout_share": 0.5}, {}, "dropouts"),
        ({"zero_share": 0.95}, {"max_zero_share": None}, ""),
        ({"dc_offset": -0.5}, {}, "dc_offset"),
        ({"clipped_share": 0.2, "zero_share": 0.95}, {}, "digital_silence"),
        ({"bandwidth_hz": 3900.0}, {"min_bandwidth_hz": 4500.0}, "narrow_band"),
        ({"num_samples": 9600}, {"min_seconds": 1.0}, "too_short"),
        ({"num_letters": 900}, {}, "too_fast"),
        ({"num_letters": 2}, {"min_letters_per_second": 2.0}, "too_slow"),
        ({"num_letters": None}, {"min_letters_per_second": 2.0}, ""),
        ({"num_letters": 300, "num_samples": 40 * 16_000}, {}, "too_long_transcribed"),
        ({"set_aside": "truncated", "value": 1.0}, {"min_snr_db": 99.0}, "truncated"),
    ],
)
def test_rules(row: dict[str, Any], limits: dict[str, Any], reason: str) -> None:
    assert _reasons(row, **limits) == [reason]


def test_value_and_limit_are_kept() -> None:
    decisions, _ = _decide({"snr_db": 10.0}, {"snr_db": None}, min_snr_db=15.0)
    assert decisions.value[0] == 10.0
    assert np.isnan(decisions.value[1])
    assert decisions.threshold.tolist() == [15.0, 15.0]


def test_duplicates() -> None:
    same = {"digest": bytes(16), "fingerprint": bytes(16)}
    near = {"fingerprint": bytes(15) + b"\x07"}
    bad = {**same, "zero_share": 0.95}
    decisions, reasons = _decide(bad, same, same, near, {})
    assert reasons == ["digital_silence", "", "duplicate_audio", "", ""]
    assert decisions.other.tolist() == [-1, -1, 1, -1, -1]
    assert decisions.is_near_duplicate.tolist() == [False, True, False, True, False]
    assert _reasons(same, same, near, near_duplicates="reject", duplicates="keep") == [
        *("", "near_duplicate", "near_duplicate"),
    ]
    assert _reasons(same, near, near_duplicates="reject", max_fingerprint_bits=2) == ["", ""]


def test_what_leaks_from_a_split_into_another() -> None:
    same, near = {"fingerprint": bytes(16)}, {"fingerprint": bytes(15) + b"\x01"}
    rows = [{**same, "split": "train"}, {**near, "split": "test"}, {**near, "split": "dev"}]
    assert _reasons(*rows) == ["split_leak", "", "split_leak"]
    assert _reasons(*rows, split_leaks="report") == ["", "", ""]
    splits = ["adapt", "dev", "test", "train"]
    assert sorted(splits, key=dict(zip(splits, rank_splits(splits), strict=True)).get) == [
        *("test", "dev", "adapt", "train"),
    ]


def test_shared_transcripts() -> None:
    rows = [
        {"split": "train", "text_digest": 5, "num_letters": 9},
        {"split": "test", "text_digest": 5, "num_letters": 9},
        {"split": "train", "text_digest": 6, "num_letters": 9},
        {"split": "dev", "text_digest": 5, "num_letters": 9, "language": "tam_Taml"},
    ]
    decisions, reasons = _decide(*rows)
    assert reasons == [""] * 4
    assert decisions.shares_text.tolist() == [True, True, False, False]
    decisions, reasons = _decide(*rows, text_overlap="leave_out")
    assert reasons == ["text_overlap", "", "", ""]
    assert not decisions.shares_text.any()


_rows = st.lists(
    st.fixed_dictionaries(
        {
            "recording": st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            "speaker": st.none() | st.sampled_from("abcdefghijklmnop"),
            "split": st.none(),
            "fingerprint": st.integers(0, 40).map(lambda n: np.random.default_rng(n).bytes(16)),
            "text_digest": st.none() | st.integers(0, 30),
            "set_aside": st.sampled_from([None, None, None, "no_speech"]),
            "snr_db": st.none() | st.floats(-20, 100),
            "num_samples": st.integers(8000, 200_000),
        }
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(_rows, st.booleans())
def test_splits_share_neither_recording_nor_speaker_nor_sound(
    rows: list[dict[str, Any]], move: bool
) -> None:
    rows = [{**row, "num_letters": None if row["text_digest"] is None else 5} for row in rows]
    config = PrepareConfig(
        dev_share=0.2,
        test_share=0.2,
        decide=DecideConfig(min_snr_db=10.0, text_overlap="move" if move else "report"),
    )
    segments = make_segments(*rows)
    decisions = decide(segments, config)
    for key in ("recording", "speaker", "text_digest"):
        if key == "text_digest" and not move:
            continue
        seen: dict[Any, int] = {}
        for row, split, accepted in zip(
            rows, decisions.split.tolist(), decisions.is_accepted, strict=True
        ):
            if row[key] is not None and accepted:
                assert seen.setdefault(row[key], split) == split
    # A limit moves nothing from one split to another.
    strict = replace(config, decide=replace(config.decide, min_snr_db=60.0))
    assert decide(segments, strict).split.tolist() == decisions.split.tolist()


@settings(max_examples=100, deadline=None)
@given(_rows)
def test_every_sample_is_counted_once(rows: list[dict[str, Any]]) -> None:
    segments = make_segments(*rows)
    decisions = decide(segments, PrepareConfig(decide=DecideConfig(min_snr_db=20.0)))
    accepted = sum(
        row["hours_accepted"]
        for row in count_by(
            segments.names["source"], segments.codes["source"], segments, decisions
        ).values()
    )
    rejected = sum(row["hours"] for row in count_reasons(segments, decisions).values())
    total = sum(row["num_samples"] for row in rows) / 16_000
    assert (accepted + rejected) * 3600 == pytest.approx(total, abs=0.1)
