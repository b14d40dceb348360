"""Deciding, the second stage of data preparation: limits turn what was measured into accepted or
rejected, with a reason, a value and a limit for each segment, and every segment gets its split.

Works on columns, never on audio: a million segments take seconds. Rules are tried in the order of
`_RULES`, then sounds that are there twice, then what would leak from one split into another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechvq.data.components import Integers, encode_pairs
from speechvq.data.config import DecideConfig, PrepareConfig
from speechvq.data.duplicates import find_equal, find_near_equal
from speechvq.data.records import Reason
from speechvq.data.segment_columns import Numbers, SegmentColumns
from speechvq.data.segment_table import MANIFEST_PIECE
from speechvq.data.splits import SplitColumns, choose_splits

REASONS = tuple(Reason)
"""Reasons by code."""
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_RULES = (
    # Reason, measure, limit in `decide`, whether it is a minimum.
    (Reason.TOO_SHORT, "seconds", "min_seconds", True),
    (Reason.DIGITAL_SILENCE, "zero_share", "max_zero_share", False),
    (Reason.DROPOUTS, "dropout_share", "max_dropout_share", False),
    (Reason.CLIPPED, "clipped_share", "max_clipped_share", False),
    (Reason.DC_OFFSET, "dc_offset", "max_dc_offset", False),
    (Reason.STEADY_NOISE, "variation_db", "min_variation_db", True),
    (Reason.TONES, "tone_share", "max_tone_share", False),
    (Reason.TOO_QUIET, "loudness_lufs", "min_loudness_lufs", True),
    (Reason.LITTLE_SPEECH, "speech_ratio", "min_speech_ratio", True),
    (Reason.LOW_SNR, "snr_db", "min_snr_db", True),
    (Reason.LOW_VAD_SNR, "vad_snr_db", "min_vad_snr_db", True),
    (Reason.NARROW_BAND, "bandwidth_hz", "min_bandwidth_hz", True),
    (Reason.TOO_FAST, "letters_per_second", "max_letters_per_second", False),
    (Reason.TOO_SLOW, "letters_per_second", "min_letters_per_second", True),
)
_FIRST_SPLITS = ("test", "dev")
"""Of equal sounds in several splits, the one in the first of these stays."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What became of N segments.

    Attributes:
        reason: Code in `REASONS`; -1 for what is accepted.
        value: What was measured, NaN where the reason has no number.
        threshold: The limit, likewise.
        other: The segment that a duplicate repeats; -1 for none.
        split: Code in `splits`; -1 for what the manifest alone rejected.
        splits: Names of splits, sorted.
        is_near_duplicate: Accepted, and another accepted segment sounds the same.
        shares_text: Accepted, and its transcript stands in another split, too.
    """

    reason: Integers
    value: Numbers
    threshold: Numbers
    other: Integers
    split: Integers
    splits: list[str]
    is_near_duplicate: npt.NDArray[np.bool_]
    shares_text: npt.NDArray[np.bool_]

    @property
    def is_accepted(self) -> npt.NDArray[np.bool_]:
        """Whether it goes into the corpus, bool (N,)."""
        return np.asarray(self.reason < 0)

    def reject(
        self,
        rows: npt.NDArray[np.bool_],
        reason: Reason,
        value: Numbers | float = np.nan,
        threshold: float = np.nan,
    ) -> None:
        """Rejects rows, bool (N,), that nothing rejected before."""
        rows = rows & self.is_accepted
        self.reason[rows] = _CODES[reason]
        self.value[rows] = value[rows] if isinstance(value, np.ndarray) else value
        self.threshold[rows] = threshold


def decide(segments: SegmentColumns, config: PrepareConfig) -> Decisions:
    """Decides about all segments.

    Args:
        segments: What was measured.
        config: `decide`, the shares of splits, the seed, and the longest transcribed clip.
    """
    num_rows, limits = len(segments), config.decide
    sounds = _find_same_sounds(segments, limits)
    split, splits = _assign_splits(segments, config, sounds)
    decisions = Decisions(
        reason=_copy_reasons(segments),
        value=segments.numbers["value"].copy(),
        threshold=segments.numbers["threshold"].copy(),
        other=np.full(num_rows, -1, np.int64),
        split=split,
        splits=splits,
        is_near_duplicate=np.zeros(num_rows, np.bool_),
        shares_text=np.zeros(num_rows, np.bool_),
    )
    _apply_rules(decisions, segments, config)
    _apply_duplicates(decisions, segments, limits, sounds)
    _apply_leaks(decisions, limits, sounds)
    _apply_text_overlap(decisions, segments, limits)
    return decisions


def _copy_reasons(segments: SegmentColumns) -> Integers:
    """Returns the reasons that measuring gave, as codes of `REASONS`."""
    codes = np.array([*(_CODES[Reason(name)] for name in segments.names["set_aside"]), -1])
    return codes[segments.codes["set_aside"]].astype(np.int64)


def _find_same_sounds(segments: SegmentColumns, limits: DecideConfig) -> Integers:
    """Returns the first segment that is the same sound as each, exactly or nearly."""
    candidates = segments.is_candidate
    near = find_near_equal(
        segments.fingerprint,
        segments.seconds,
        segments.has_fingerprint & candidates,
        max_bits=limits.max_fingerprint_bits,
    )
    equal = find_equal(segments.digest, segments.has_digest & candidates)
    return np.minimum(near[equal], near)


def _assign_splits(
    segments: SegmentColumns, config: PrepareConfig, sounds: Integers
) -> tuple[Integers, list[str]]:
    """Splits depend on all candidates, accepted or not, so that a limit moves no utterance from one
    split to another.
    """
    codes = segments.codes
    recording, _ = encode_pairs(codes["source"], codes["recording"])
    speaker, _ = encode_pairs(codes["source"], codes["speaker"])
    _, first = np.unique(recording, return_index=True)
    columns = SplitColumns(
        recording=recording,
        speaker=np.where(codes["speaker"] < 0, -1, speaker),
        language=codes["language"],
        given=codes["split"],
        seconds=np.where(segments.is_candidate, segments.seconds, 0.0),
        keys=[
            f"{segments.name('source', row)}\0{segments.name('recording', row)}"
            for row in first.tolist()
        ],
        splits=segments.names["split"],
    )
    links = [_link(sounds)]
    if config.decide.text_overlap == "move":
        links.append(_link_texts(segments))
    names = choose_splits(
        columns,
        dev_share=config.dev_share,
        test_share=config.test_share,
        seed=config.seed,
        links=np.concatenate(links),
    )
    splits = sorted(set(names))
    number = {name: code for code, name in enumerate(splits)}
    split = np.fromiter((number[name] for name in names), np.int64, len(names))
    return np.where(segments.piece == MANIFEST_PIECE, -1, split), splits


def _link(first: Integers) -> Integers:
    rows = np.flatnonzero(first != np.arange(len(first)))
    return np.stack([first[rows], rows], axis=1)


def _link_texts(segments: SegmentColumns) -> Integers:
    rows = np.flatnonzero(segments.has_text & segments.is_candidate)
    keys, _ = encode_pairs(segments.codes["language"][rows], _rank(segments.text[rows]))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    same = np.arange(len(segments), dtype=np.int64)
    same[rows] = rows[first[inverse]]
    return _link(same)


def _rank(values: Integers) -> Integers:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _apply_rules(decisions: Decisions, segments: SegmentColumns, config: PrepareConfig) -> None:
    limits, numbers = config.decide, {**segments.numbers, "seconds": segments.seconds}
    is_transcribed = ~np.isnan(numbers["letters_per_second"])
    longest = config.max_transcribed_seconds
    too_long = is_transcribed & (numbers["seconds"] > longest)
    decisions.reject(too_long, Reason.TOO_LONG_TRANSCRIBED, numbers["seconds"], longest)
    for reason, measure, key, is_minimum in _RULES:
        limit = getattr(limits, key)
        if limit is None:
            continue
        values = numbers[measure]
        size = np.abs(values) if measure == "dc_offset" else values
        is_broken = size < limit if is_minimum else size > limit
        if limits.undefined == "reject":
            is_broken |= np.isnan(values)
        if measure == "letters_per_second":
            is_broken &= is_transcribed
        decisions.reject(is_broken, reason, values, limit)


def _apply_duplicates(
    decisions: Decisions, segments: SegmentColumns, limits: DecideConfig, sounds: Integers
) -> None:
    accepted = decisions.is_accepted
    equal = find_equal(segments.digest, segments.has_digest & accepted)
    is_copy = accepted & (equal != np.arange(len(equal)))
    if limits.duplicates == "reject":
        decisions.other[is_copy] = equal[is_copy]
        decisions.reject(is_copy, Reason.DUPLICATE_AUDIO)
    if limits.near_duplicates == "keep":
        return
    first, rows = _find_first_accepted(decisions, sounds)
    is_repeated = first != rows
    if limits.near_duplicates == "flag":
        decisions.is_near_duplicate[rows[is_repeated]] = True
        decisions.is_near_duplicate[first[is_repeated]] = True
        return
    near = np.zeros(len(sounds), np.bool_)
    near[rows[is_repeated]] = True
    decisions.other[rows[is_repeated]] = first[is_repeated]
    decisions.reject(near, Reason.NEAR_DUPLICATE)


def _find_first_accepted(decisions: Decisions, groups: Integers) -> tuple[Integers, Integers]:
    """Returns the first accepted row of each accepted row's group, and those rows."""
    rows = np.flatnonzero(decisions.is_accepted)
    _, index, inverse = np.unique(groups[rows], return_index=True, return_inverse=True)
    return rows[index[inverse]], rows


def _apply_leaks(decisions: Decisions, limits: DecideConfig, sounds: Integers) -> None:
    """Rejects what sounds like a segment of another split, where the splits came with the data."""
    if limits.split_leaks != "reject":
        return
    rows = np.flatnonzero(decisions.is_accepted)
    rank = rank_splits(decisions.splits)[decisions.split[rows]]
    order = np.lexsort((rows, rank, sounds[rows]))
    rows, rank, group = rows[order], rank[order], sounds[rows[order]]
    if len(rows) == 0:
        return
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    number = np.cumsum(np.isin(np.arange(len(rows)), starts)) - 1
    best = rows[starts][number]
    leaks = rank > rank[starts][number]
    is_leak = np.zeros(len(sounds), np.bool_)
    is_leak[rows[leaks]] = True
    decisions.other[rows[leaks]] = best[leaks]
    decisions.reject(is_leak, Reason.SPLIT_LEAK)


def rank_splits(splits: list[str]) -> Integers:
    """Returns how dear each split is: test, dev, others by name, train last."""
    others = [name for name in splits if name not in (*_FIRST_SPLITS, "train")]
    order = [*_FIRST_SPLITS, *others, "train"]
    return np.array([order.index(name) for name in splits], np.int64)


def _apply_text_overlap(
    decisions: Decisions, segments: SegmentColumns, limits: DecideConfig
) -> None:
    rows = np.flatnonzero(decisions.is_accepted & segments.has_text)
    if len(rows) == 0:
        return
    keys, num_keys = encode_pairs(segments.codes["language"][rows], _rank(segments.text[rows]))
    splits = decisions.split[rows]
    lowest = np.full(num_keys, len(decisions.splits), np.int64)
    highest = np.full(num_keys, -1, np.int64)
    np.minimum.at(lowest, keys, splits)
    np.maximum.at(highest, keys, splits)
    is_shared = (lowest != highest)[keys]
    if limits.text_overlap == "leave_out" and "train" in decisions.splits:
        is_train = splits == decisions.splits.index("train")
        leave_out = np.zeros(len(segments), np.bool_)
        leave_out[rows[is_shared & is_train]] = True
        decisions.reject(leave_out, Reason.TEXT_OVERLAP)
        is_shared &= ~is_train
        still = np.zeros(num_keys, np.int64)
        np.add.at(still, *_count_splits(keys[~is_train], splits[~is_train]))
        is_shared &= still[keys] > 1
    decisions.shares_text[rows[is_shared]] = True


def _count_splits(keys: Integers, splits: Integers) -> tuple[Integers, int]:
    """Returns the keys of the distinct pairs of key and split, to be counted."""
    pairs = np.unique(np.stack([keys, splits], axis=1), axis=0)
    return pairs[:, 0], 1
