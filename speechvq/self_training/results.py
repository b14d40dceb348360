"""What a round of self-training found, and its files.

rounds/0/run/            the seed recogniser's finetuning, unless `model` gave one
rounds/N/pool.jsonl      what the recogniser of round N-1 heard in the untranscribed segments
rounds/N/decisions.parquet  every segment: kept or not, and why
rounds/N/labels.tsv      the labels that were kept
rounds/N/run/            finetuning with them
rounds/N/dev.jsonl       what the recogniser of round N heard in the dev split
rounds/N/round.json      the numbers; a round that has it is done
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechvq.data.index import CorpusIndex
from speechvq.data.label_tables import write_label_table
from speechvq.data.text import TextNormalizer
from speechvq.decoding.scoring import UtteranceScores, compute_error_rate, score_utterances
from speechvq.durable import write_durably
from speechvq.self_training.recognition import Recognition
from speechvq.self_training.selection import Decision, meets

DECISIONS = "decisions.parquet"
LABELS = "labels.tsv"
ROUND = "round.json"


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """A round's numbers.

    Attributes:
        number: 0 for the seed recogniser.
        model: Its recogniser.
        cer: Character error rate on dev.
        cer_interval: Ends of its 95 % interval; None with fewer than two utterances.
        wer: Word error rate on dev.
        num_segments: Untranscribed segments.
        num_kept: Segments whose labels were learned from.
        seconds: Audio of the untranscribed segments.
        kept_seconds: Audio of the kept ones.
        confidence: Mean confidence of the kept labels.
        agreement: Mean agreement of the kept labels.
        similar_cer: CER of the labels' maker on dev utterances that meet the same criteria: what
            the kept labels' CER probably is. None where no dev utterance does.
        similar_share: Share of the dev utterances that do.
        reasons: How many segments were left out for which reason.
    """

    number: int
    model: str
    cer: float
    cer_interval: tuple[float, float] | None
    wer: float
    num_segments: int = 0
    num_kept: int = 0
    seconds: float = 0.0
    kept_seconds: float = 0.0
    confidence: float | None = None
    agreement: float | None = None
    similar_cer: float | None = None
    similar_share: float | None = None
    reasons: Mapping[str, int] | None = None

    def describe_cer(self) -> str:
        """Return the rate with its interval, in percent."""
        if self.cer_interval is None:
            return f"{100 * self.cer:.1f} %"
        low, high = self.cer_interval
        return f"{100 * self.cer:.1f} % ({100 * low:.1f} – {100 * high:.1f})"

    def describe(self) -> str:
        """Return the line for a terminal."""
        text = f"self_train round {self.number}: "
        if self.number:
            likely = (
                "" if self.similar_cer is None else f", likely CER {100 * self.similar_cer:.1f} %"
            )
            text += (
                f"learned from {self.num_kept:,} of {self.num_segments:,} segments "
                f"({self.kept_seconds / 60:.1f} of {self.seconds / 60:.1f} min{likely}); "
            )
        return f"{text}dev CER {self.describe_cer()}, WER {100 * self.wer:.1f} %"


def score_dev(
    index: CorpusIndex, recognitions: Mapping[str, Recognition], normalize: TextNormalizer
) -> UtteranceScores:
    """Score the dev split.

    Args:
        index: With texts.
        recognitions: By id.
        normalize: What the corpus' transcripts went through.
    """
    assert index.texts is not None
    codes = [index.languages[number] for number in index.language]
    return score_utterances(
        index.texts,
        [normalize(recognitions[name].text, code)
         for name, code in zip(index.ids, codes, strict=True)],
        normalizer=normalize.identifier,
    )  # fmt: skip


def describe_selection(
    decisions: Sequence[Decision], dev_decisions: Sequence[Decision], dev: UtteranceScores
) -> dict[str, object]:
    """Return the fields of `RoundResult` that tell of the labels.

    Args:
        decisions: Of all untranscribed segments.
        dev_decisions: Of the dev utterances by the same recogniser, with a share of 1.
        dev: Their scores, in the same order.
    """
    kept = [one for one in decisions if one.is_kept]
    reasons: dict[str, int] = {}
    for one in decisions:
        if one.reason is not None:
            reasons[str(one.reason)] = reasons.get(str(one.reason), 0) + 1
    similar = [row for row, one in enumerate(dev_decisions) if meets(one, decisions)]
    rate = None
    if similar:
        rate = compute_error_rate(dev.characters.select(np.array(similar))).rate
    return {
        "num_segments": len(decisions),
        "num_kept": len(kept),
        "seconds": sum(one.seconds for one in decisions),
        "kept_seconds": sum(one.seconds for one in kept),
        "confidence": _mean([one.recognition.confidence for one in kept]),
        "agreement": _mean([one.agreement for one in kept]),
        "similar_cer": rate,
        "similar_share": len(similar) / len(dev_decisions) if dev_decisions else None,
        "reasons": reasons,
    }


def create_result(
    number: int, model: Path, dev: UtteranceScores, selection: Mapping[str, object]
) -> RoundResult:
    """Return a round's numbers.

    Args:
        number: The round.
        model: Its recogniser.
        dev: Its scores.
        selection: What `describe_selection` says; empty for round 0.
    """
    total = dev.summarize()
    low, high = total.cer.low, total.cer.high
    values: dict[str, object] = {
        "number": number,
        "model": str(model),
        "cer": total.cer.rate,
        "cer_interval": None if low is None or high is None else (low, high),
        "wer": total.wer.rate,
    }
    return RoundResult(**(values | dict(selection)))  # type: ignore[arg-type]


def read_result(directory: Path) -> RoundResult | None:
    """Return a round's numbers, or None if it is not done."""
    path = directory / ROUND
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    interval = values["cer_interval"]
    return RoundResult(**(values | {"cer_interval": None if interval is None else tuple(interval)}))


def write_result(directory: Path, result: RoundResult) -> None:
    """Write a round's numbers: it is done."""
    text = json.dumps(asdict(result), indent=2, ensure_ascii=False)
    write_durably(directory / ROUND, f"{text}\n".encode())


def write_decisions(directory: Path, decisions: Sequence[Decision]) -> None:
    """Write every decision with its reason, and the table of the kept labels."""
    rows = [
        {
            **asdict(one.recognition),
            "seconds": one.seconds,
            "letters_per_second": one.letters_per_second,
            "agreement": one.agreement,
            "kept": one.is_kept,
            "reason": None if one.reason is None else str(one.reason),
        }
        for one in decisions
    ]
    temporary = directory / f".{DECISIONS}.tmp"
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary)
    temporary.replace(directory / DECISIONS)
    kept = [one.recognition for one in decisions if one.is_kept]
    table = [(one.id, one.text, f"{one.confidence:.3f}") for one in kept]
    write_label_table(directory / LABELS, ("id", "text", "confidence"), table)


_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("text", pa.string()), ("second_text", pa.string()),
        ("confidence", pa.float64()), ("min_word_confidence", pa.float64()),
        ("lm_score", pa.float64()), ("seconds", pa.float64()),
        ("letters_per_second", pa.float64()), ("agreement", pa.float64()),
        ("kept", pa.bool_()), ("reason", pa.string()),
    ]
)  # fmt: skip
"""Columns of `decisions.parquet`."""


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
