"""`report.html` of a preparation: what came in, what was kept, what was set aside and why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechvq.data.parts import read_part
from speechvq.data.records import Rejection, Utterance
from speechvq.errors import DataError
from speechvq.languages import parse_language
from speechvq.reporting.cells import Cell
from speechvq.reporting.charts import BarSeries, draw_bars
from speechvq.reporting.page import Metric, Page

_NUM_EXAMPLES = 8
_MAX_EXAMPLE_BYTES = 400_000
_NUM_REJECTIONS = 40

_EXPLANATIONS = {
    "missing_file": "the manifest names a file that is not there",
    "outside_input": "the path leads out of the input directory",
    "bad_row": "the line is no row of the manifest's columns",
    "duplicate": "the file stands in the manifest twice",
    "unknown_language": "the language is no ISO 639-3 code with an ISO 15924 script",
    "unreadable": "no decoder can read it",
    "decoder_crashed": "the process died while it read the file",
    "truncated": "the file ends before its header or manifest says",
    "non_finite": "samples are NaN or infinite",
    "silent": "next to no sound above the silence level",
    "too_short": "shorter than segment.min_seconds",
    "too_long": "longer than max_recording_seconds",
    "too_long_transcribed": "transcribed, and longer than max_transcribed_seconds",
    "no_speech": "the speech detector hears no speech there",
}


def write_report(output: Path, summary: dict[str, Any], rejections: Sequence[Rejection]) -> None:
    """Writes `report.html` into the corpus.

    Args:
        output: The corpus.
        summary: What `summary.json` holds.
        rejections: What was set aside.
    """
    page = Page(
        "Prepared corpus",
        f"{summary['num_utterances']:,} utterances of {len(summary['by_language'])} languages, "
        f"text normaliser {summary['normalizer']}",
        footer=(
            "speechvq prepare; the same figures stand in summary.json, the rejects in rejected.tsv."
        ),
    )
    _add_headline(page, summary)
    _add_hours(page, summary)
    _add_rejections(page, summary, rejections)
    _add_distributions(page, summary)
    _add_checks(page, summary)
    _add_examples(page, output)
    page.add_heading("Configuration and versions")
    page.add_facts(_flatten(summary["config"]))
    page.add_facts(summary["versions"])
    page.write(output / "report.html")


def _add_headline(page: Page, summary: dict[str, Any]) -> None:
    hours_in = summary["hours_in"]
    share = summary["hours_rejected"] / hours_in if hours_in else 0.0
    page.add_headline(
        [
            Metric(
                label="hours in", value=_hours(hours_in), detail=f"{summary['num_files']:,} files"
            ),
            Metric(
                label="accepted",
                value=_hours(summary["hours_accepted"]),
                detail=f"{summary['num_utterances']:,} utterances",
            ),
            Metric(
                label="set aside",
                value=_hours(summary["hours_rejected"]),
                detail=f"{share:.1%} of the hours",
                tone="warning" if share > 0.2 else "",
            ),
            Metric(label="on disk", value=f"{summary['num_bytes'] / 1e9:.2f} GB"),
        ]
    )


def _add_hours(page: Page, summary: dict[str, Any]) -> None:
    page.add_heading("Hours by language")
    languages = sorted(summary["by_language"].items(), key=lambda item: -item[1]["hours_accepted"])
    languages = [(code, row) for code, row in languages if row["hours_accepted"] > 0]
    if languages:
        codes = [code for code, _ in languages[:60]]
        accepted = [row["hours_accepted"] for _, row in languages[:60]]
        transcribed = [row["hours_transcribed"] for _, row in languages[:60]]
        figure = draw_bars(
            codes,
            [
                BarSeries(name="accepted", values=accepted),
                BarSeries(name="with text", values=transcribed),
            ],
            y_label="hours",
        )
        page.add_figure(
            figure, caption="Accepted hours of each language, and those with a transcript."
        )
    page.add_table(
        ["language", "name", "files", "utterances", "hours in", "accepted", "with text"],
        [[code, _name(code), *_row(row)] for code, row in summary["by_language"].items()],
    )
    page.add_table(
        ["split", "files", "utterances", "hours in", "accepted", "with text"],
        [[split, *_row(row)] for split, row in summary["by_split"].items()],
        caption="By split; “none” is what was set aside before a split was known.",
    )
    page.add_table(
        ["source", "files", "utterances", "hours in", "accepted", "with text"],
        [[source, *_row(row)] for source, row in summary["by_source"].items()],
        caption="By source.",
    )


def _add_rejections(page: Page, summary: dict[str, Any], rejections: Sequence[Rejection]) -> None:
    page.add_heading("Set aside")
    if not rejections:
        page.add_paragraph("Nothing was set aside.", tone="good")
        return
    page.add_table(
        ["reason", "what it means", "count", "hours"],
        [
            [
                reason,
                _EXPLANATIONS.get(reason, ""),
                row["count"],
                Cell(value=row["hours"], text=_hours(row["hours"])),
            ]
            for reason, row in summary["rejected_by_reason"].items()
        ],
    )
    longest = sorted(rejections, key=lambda row: (-row.num_samples, row.source, row.path))
    page.add_table(
        ["file", "reason", "value", "threshold", "seconds", "detail"],
        [
            [
                f"{row.source}/{row.path}",
                str(row.reason),
                row.value,
                row.threshold,
                round(row.seconds, 2),
                row.detail,
            ]
            for row in longest[:_NUM_REJECTIONS]
        ],
        caption=(
            f"The longest {min(len(longest), _NUM_REJECTIONS)} of {len(longest):,}; all stand in"
            " rejected.tsv."
        ),
    )


def _add_distributions(page: Page, summary: dict[str, Any]) -> None:
    page.add_heading("Length and noise")
    durations, snr = summary["durations"], summary["snr"]
    figure = draw_bars(
        _label_bins(durations["edges_seconds"]),
        [BarSeries(name="utterances", values=durations["counts"])],
        y_label="utterances",
        x_label="seconds",
    )
    page.add_figure(figure, caption="Length of the utterances.")
    figure = draw_bars(
        _label_bins(snr["edges_db"]),
        [BarSeries(name="utterances", values=snr["counts"])],
        y_label="utterances",
        x_label="signal-to-noise ratio (WADA), dB",
    )
    page.add_figure(
        figure,
        caption=(
            "Estimated signal-to-noise ratio; 100 dB is cleaner than the estimate can tell. "
            f"Undefined for {snr['num_undefined']:,} utterances with too little speech."
        ),
    )


def _add_checks(page: Page, summary: dict[str, Any]) -> None:
    page.add_heading("Worth knowing")
    for overlap in summary["speaker_overlaps"]:
        speakers = overlap["speakers"]
        shown = ", ".join(speakers[:5]) + (", …" if len(speakers) > 5 else "")
        page.add_paragraph(
            f"{overlap['source']}: {len(speakers)} speaker(s) stand in both {overlap['first']} and "
            f"{overlap['second']} ({shown}); scores there are not for new speakers.",
            tone="warning",
        )
    if summary["flags"]:
        page.add_table(
            ["flag", "utterances"],
            [[flag, count] for flag, count in summary["flags"].items()],
            caption="Rows that were kept, and that finetuning may leave out.",
        )
    if not summary["flags"] and not summary["speaker_overlaps"]:
        page.add_paragraph("No flags, and no speaker stands in two splits.", tone="good")


def _add_examples(page: Page, output: Path) -> None:
    page.add_heading("Examples")
    for utterance in _pick_examples(output):
        snr = "–" if utterance.snr_db is None else f"{utterance.snr_db:.0f} dB"
        label = (
            f"{_name(utterance.language)} · {utterance.num_seconds:.1f} s · SNR {snr} ·"
            f" {utterance.id}"
        )
        page.add_audio(utterance.audio, label=label)
        if utterance.text:
            page.add_paragraph(utterance.text, language=parse_language(utterance.language).alias)


def _pick_examples(output: Path) -> Iterator[Utterance]:
    """Yields the first short utterance of the first partitions, one a language."""
    seen: set[str] = set()
    for directory in sorted(output.glob("split=*/language=*")):
        files = sorted(directory.glob("part-*.parquet"))
        if directory.name in seen or not files or len(seen) >= _NUM_EXAMPLES:
            continue
        seen.add(directory.name)
        for utterance in read_part(files[0], directory.parent.name.removeprefix("split=")):
            if len(utterance.audio) <= _MAX_EXAMPLE_BYTES:
                yield utterance
                break


def _label_bins(edges: Sequence[float]) -> list[str]:
    return [f"{low:g}–{high:g}" for low, high in itertools.pairwise(edges)] + [f"{edges[-1]:g}+"]


def _name(code: str) -> str:
    try:
        return parse_language(code).name
    except DataError:
        return "(not a language code)"


def _row(row: dict[str, Any]) -> list[Any]:
    hours = (row["hours_in"], row["hours_accepted"], row["hours_transcribed"])
    return [
        row["num_files"],
        row["num_utterances"],
        *(Cell(value=h, text=_hours(h)) for h in hours),
    ]


def _hours(hours: float) -> str:
    """Returns hours as text; three digits, so that 10 s of a small corpus still show."""
    return f"{hours:.3f} h" if hours < 100 else f"{hours:,.1f} h"


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = ", ".join(map(str, value))
        else:
            flat[prefix + key] = value if isinstance(value, int | float) else str(value)
    return flat
