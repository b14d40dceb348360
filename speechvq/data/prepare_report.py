"""`report.html` of a preparation: what came in, what was kept, what was set aside and why."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechvq.data.decide import Decisions
from speechvq.data.order import compute_language_shares
from speechvq.data.prepare_samples import add_samples
from speechvq.data.records import Reason
from speechvq.data.segment_columns import SegmentColumns
from speechvq.data.vocabulary import CharacterCount
from speechvq.errors import DataError
from speechvq.languages import parse_language
from speechvq.reporting.cells import Cell
from speechvq.reporting.charts import BarSeries, draw_bars
from speechvq.reporting.page import Metric, Page

_ALPHAS = (1.0, 0.7, 0.5, 0.3, 0.0)
_MAX_BARS = 60
_MAX_USUAL, _MAX_RARE = 120, 40

_EXPLANATIONS = {
    "missing_file": "the manifest names a file that is not there",
    "outside_input": "the path leads out of the input directory",
    "bad_row": "the line is no row of the manifest's columns",
    "duplicate": "the file stands in the manifest twice",
    "unknown_language": "the language is no ISO 639-3 code with an ISO 15924 script",
    "not_a_file": "a member of an archive or a folder that is a link or device",
    "encrypted": "a member of an archive that is encrypted",
    "over_archive_limit": "it unfolds beyond the limits under archive",
    "unreadable": "no decoder can read it",
    "decoder_crashed": "the decoder died of the file",
    "decoder_hung": "the decoder did not end in time",
    "truncated": "the file ends before its header or manifest says",
    "non_finite": "samples are NaN or infinite",
    "silent": "next to no sound above the silence level",
    "too_short": "shorter than segment.min_seconds or decide.min_seconds",
    "too_long": "longer than max_recording_seconds",
    "too_long_transcribed": "transcribed, and longer than max_transcribed_seconds",
    "no_speech": "the speech detector hears no speech there",
    "digital_silence": "more than decide.max_zero_share of it is digital silence",
    "dropouts": "more than decide.max_dropout_share of it is torn out: silence beside loud speech",
    "steady_noise": "its bands vary less than decide.min_variation_db, as noise and tones do",
    "tones": "more than decide.max_tone_share of its energy are sustained tones, as in music",
    "little_speech": "less than decide.min_speech_ratio of it is speech",
    "low_snr": "below decide.min_snr_db (WADA)",
    "low_vad_snr": "below decide.min_vad_snr_db (speech over pauses)",
    "clipped": "more than decide.max_clipped_share of the samples stand at full scale",
    "dc_offset": "its mean is further from zero than decide.max_dc_offset",
    "too_quiet": "below decide.min_loudness_lufs",
    "narrow_band": "its spectrum ends below decide.min_bandwidth_hz",
    "too_fast": "the transcript has more letters than can be spoken in that time",
    "too_slow": "the transcript has fewer letters than decide.min_letters_per_second",
    "duplicate_audio": "another segment has the same samples",
    "near_duplicate": "another segment sounds the same",
    "split_leak": "a segment of another split sounds the same",
    "text_overlap": "its transcript stands in another split",
}


def write_report(
    output: Path,
    summary: dict[str, Any],
    segments: SegmentColumns,
    decisions: Decisions,
    vocabulary: Sequence[CharacterCount],
) -> None:
    """Writes `report.html` into the corpus.

    Args:
        output: The corpus.
        summary: What `summary.json` holds.
        segments: What was measured.
        decisions: What was decided.
        vocabulary: The characters of its transcripts.
    """
    num_languages = sum(row["num_utterances"] > 0 for row in summary["by_language"].values())
    page = Page(
        "Prepared corpus",
        f"{summary['num_utterances']:,} utterances of {num_languages} languages, "
        f"text normaliser {summary['normalizer']}",
        footer=(
            "speechvq prepare; the same figures stand in summary.json, the rejects in rejected.tsv."
        ),
    )
    _add_headline(page, summary)
    _add_hours(page, summary)
    _add_waterfall(page, summary)
    _add_distributions(page, summary)
    _add_sampling(page, summary)
    _add_vocabulary(page, vocabulary)
    _add_checks(page, summary)
    add_samples(page, output, segments, decisions)
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
    page.add_heading("Hours by language and source")
    for title, key in (("language", "by_language"), ("source", "by_source")):
        rows = sorted(summary[key].items(), key=lambda item: -item[1]["hours_in"])[:_MAX_BARS]
        bars = [
            BarSeries(name=name, values=[row[field] for _, row in rows])
            for name, field in (
                ("before", "hours_in"),
                ("after", "hours_accepted"),
                ("after, with text", "hours_transcribed"),
            )
        ]
        if rows:
            figure = draw_bars([name for name, _ in rows], bars, y_label="hours")
            page.add_figure(figure, caption=f"Hours of each {title} before and after.")
    page.add_table(
        ["language", "name", "files", "utterances", "hours in", "accepted", "with text"],
        [[code, _name(code), *_row(row)] for code, row in summary["by_language"].items()],
    )
    page.add_table(
        ["source", "files", "utterances", "hours in", "accepted", "with text"],
        [[source, *_row(row)] for source, row in summary["by_source"].items()],
        caption="By source.",
    )
    page.add_table(
        ["split", "files", "utterances", "hours in", "accepted", "with text"],
        [[split, *_row(row)] for split, row in summary["by_split"].items()],
        caption="By split; “none” is what was set aside before a split was known.",
    )


def _add_waterfall(page: Page, summary: dict[str, Any]) -> None:
    """Adds what each reason took of what the reasons before it left, in the order of the rules."""
    page.add_heading("Set aside")
    reasons = summary["rejected_by_reason"]
    if not reasons:
        page.add_paragraph("Nothing was set aside.", tone="good")
        return
    left = summary["hours_in"]
    rows = []
    for reason in map(str, Reason):
        if reason in reasons:
            taken = reasons[reason]
            left -= taken["hours"]
            cells = [
                Cell(value=hours, text=_hours(hours)) for hours in (taken["hours"], max(left, 0.0))
            ]
            rows.append([reason, _EXPLANATIONS.get(reason, ""), taken["count"], *cells])
    names = [row[0] for row in rows]
    taken_hours = [reasons[name]["hours"] for name in names]
    page.add_figure(
        draw_bars(names, [BarSeries(name="set aside", values=taken_hours)], y_label="hours"),
        caption="Hours that each reason sets aside.",
    )
    page.add_table(
        ["reason", "what it means", "count", "set aside", "left"],
        rows,
        caption=(
            f"Of {_hours(summary['hours_in'])}, rule by rule; each row counts for the first rule"
            " that it breaks. Every one stands in rejected.tsv with its value and limit."
        ),
        sortable=False,
    )


def _add_distributions(page: Page, summary: dict[str, Any]) -> None:
    page.add_heading("What the corpus is like")
    snr = summary["snr"]
    bandwidth, rate = summary["bandwidth"], summary["speaking_rate"]
    pictures = (
        (summary["durations"]["edges_seconds"], summary["durations"]["counts"], "seconds",
         "Length of the utterances."),
        (snr["edges_db"], snr["counts"], "signal-to-noise ratio (WADA), dB",
         "Estimated signal-to-noise ratio; 100 dB is cleaner than the estimate can tell. "
         f"Undefined for {snr['num_undefined']:,} utterances with too little speech."),
        (bandwidth["edges"], bandwidth["counts"], "end of the spectrum, Hz",
         "Where the spectrum ends in a cliff: about 4000 Hz for telephone speech that was "
         "resampled, 8000 where there is none."),
        (rate["edges"], rate["counts"], "letters a second",
         f"Speaking rate; undefined for {rate['num_undefined']:,} utterances without transcript."),
    )  # fmt: skip
    with page.grid():
        for edges, counts, label, caption in pictures:
            figure = draw_bars(
                _label_bins(edges),
                [BarSeries(name="utterances", values=counts)],
                y_label="utterances",
                x_label=label,
            )
            page.add_figure(figure, caption=caption)


def _add_sampling(page: Page, summary: dict[str, Any]) -> None:
    """Adds what each language gets of a pretraining by the exponent of the sampling."""
    rows = [(c, r["hours_accepted"]) for c, r in summary["by_language"].items()]
    rows = [(code, hours) for code, hours in rows if hours > 0]
    if len(rows) < 2:
        return
    page.add_heading("Sampling of languages")
    hours = np.array([value for _, value in rows])
    shares = {alpha: compute_language_shares(hours, alpha) for alpha in _ALPHAS}
    page.add_table(
        ["language", "hours", *(f"α = {alpha:g}" for alpha in _ALPHAS)],
        [
            [
                code,
                Cell(value=value, text=_hours(value)),
                *(
                    _describe_share(float(shares[alpha][i]), value, hours.sum())
                    for alpha in _ALPHAS
                ),
            ]
            for i, (code, value) in enumerate(rows)
        ],
        caption=(
            "Probability of each language, p ∝ hours^α, and how much of it an epoch as long as the"
            " corpus really hears: its hours, and how often each is heard."
        ),
    )


def _describe_share(share: float, hours: float, total: float) -> Cell:
    heard = share * total
    return Cell(value=share, text=f"{share:.1%} · {_hours(heard)} · {heard / hours:.1f} ×")


def _add_vocabulary(page: Page, vocabulary: Sequence[CharacterCount]) -> None:
    """Adds the characters of each language's transcripts, the rare ones apart."""
    if not vocabulary:
        return
    page.add_heading("Vocabulary")
    rows = []
    for language, group in itertools.groupby(vocabulary, key=lambda one: one.language):
        counts = list(group)
        rare = [_show_character(one) for one in counts if one.is_rare]
        usual = [_show_character(one) for one in counts if not one.is_rare]
        in_use = _join_some(usual, _MAX_USUAL)
        rows.append(
            [language, _name(language), len(counts), in_use, len(rare), _join_some(rare, _MAX_RARE)]
        )
    page.add_table(
        ["language", "name", "characters", "in use", "rare", "the rare ones"],
        rows,
        caption=(
            "Characters of the transcripts, the most frequent first. Rare ones are mostly slips and"
            " foreign words, and each becomes an output of a recogniser; counts stand in"
            " vocabulary.tsv."
        ),
    )


def _join_some(characters: Sequence[str], limit: int) -> str:
    return " ".join(characters[:limit]) + (" …" if len(characters) > limit else "")


def _show_character(one: CharacterCount) -> str:
    """Returns a character that can be seen: marks on a circle, what is invisible by its number."""
    category = unicodedata.category(one.character)
    if category.startswith("M"):
        return f"\u25cc{one.character}"
    return f"U+{ord(one.character):04X}" if category.startswith(("C", "Z")) else one.character


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
    for split, count in summary["text_overlaps"].items():
        page.add_paragraph(
            f"{count:,} utterances of {split} have a transcript that stands in another split, too"
            " (flag text_in_other_split); decide.text_overlap can leave them out of train.",
            tone="warning",
        )
    if summary["flags"]:
        page.add_table(
            ["flag", "utterances"],
            [[flag, count] for flag, count in summary["flags"].items()],
            caption="Rows that were kept, and that finetuning may leave out.",
        )
    if not (summary["flags"] or summary["speaker_overlaps"] or summary["text_overlaps"]):
        page.add_paragraph("No flags, and no speaker stands in two splits.", tone="good")


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
