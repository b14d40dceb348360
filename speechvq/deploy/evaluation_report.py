"""The page of an evaluation: rates, what goes wrong, and utterances to look at and listen to."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from speechvq import __version__
from speechvq.decoding.alignment import Pair, Unit, align, count_confusions
from speechvq.deploy.evaluation_checks import add_calibration, add_variants, describe_calibration
from speechvq.deploy.evaluation_result import Evaluation, Result
from speechvq.deploy.evaluation_tables import (
    add_groups,
    describe_rate,
    format_interval,
    format_rate,
    name_language,
    rate_cell,
)
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import Series, draw_histogram, draw_scatter
from speechvq.reporting.page import Metric, Page

_MOST_CONFUSIONS = 25
_MOST_POINTS = 5000


def create_report(evaluation: Evaluation, audio: Mapping[str, bytes]) -> Page:
    """Returns the page.

    Args:
        evaluation: What was found.
        audio: FLAC bytes by utterance, for the examples.
    """
    languages = ", ".join(map(name_language, evaluation.languages))
    page = Page(
        f"Evaluation: {languages}",
        f"Split {evaluation.config.split} of {evaluation.config.corpus}, recognised by "
        f"{evaluation.config.model}",
        footer=f"speechvq {__version__} · text normaliser {evaluation.scores.normalizer} · "
        f"model {evaluation.model_digest[:19]}…",
    )
    _add_headline(page, evaluation)
    for warning in evaluation.list_warnings():
        page.add_paragraph(warning, tone="warning")
    _add_errors(page, evaluation)
    add_variants(page, evaluation)
    add_groups(page, evaluation)
    add_calibration(page, evaluation)
    _add_lengths(page, evaluation)
    _add_examples(page, evaluation, audio)
    _add_confusions(page, evaluation)
    _add_conditions(page, evaluation)
    return page


def describe(evaluation: Evaluation) -> str:
    """Returns the result in a few lines for a terminal."""
    lines = []
    for group in evaluation.by_language:
        lines.append(
            f"{group.name}: WER {format_rate(group.wer.rate)} ({format_interval(group.wer)}), "
            f"CER {format_rate(group.cer.rate)} ({format_interval(group.cer)}), "
            f"{group.num_utterances:,} utterances, {group.seconds / 3600:.2f} h; "
            f"95 % over {group.wer.num_units:,} {group.wer.unit}s"
        )
    if evaluation.oracle is not None:
        lines.append(
            f"best of at most {evaluation.oracle['num_best']}: "
            f"WER {format_rate(evaluation.oracle['wer'])}, "
            f"CER {format_rate(evaluation.oracle['cer'])}"
        )
    if len(evaluation.variants) > 1:
        rates = ", ".join(
            f"{one.name.replace('_', ' ')} {format_rate(one.wer)}"
            for one in evaluation.variants[1:]
        )
        lines.append(f"WER with other normalisers: {rates}")
    if "all" in evaluation.calibrations:
        lines.append(f"confidences: {describe_calibration(evaluation.calibrations['all'])}")
    lines += [f"warning: {warning}" for warning in evaluation.list_warnings()]
    lines.append(f"report: {Path(evaluation.config.output) / 'report.html'}")
    return "\n".join(lines)


def _format_speed(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _add_headline(page: Page, evaluation: Evaluation) -> None:
    total = evaluation.total
    rates = (
        ("Word error rate", total.wer),
        ("Character error rate", total.cer),
        ("… without spaces", total.cer_no_spaces),
    )
    metrics = [
        Metric(label=label, value=format_rate(rate.rate), detail=f"95 %: {format_interval(rate)}")
        for label, rate in rates
    ]
    blank = total.num_empty_hypotheses
    metrics += [
        Metric(
            label="Utterances",
            value=total.num_utterances,
            detail=f"{total.seconds / 3600:.2f} h of audio",
        ),
        Metric(
            label="Nothing recognised",
            value=blank,
            detail="utterances of nothing but blanks",
            tone="warning" if blank else "",
        ),
        Metric(
            label="Speed",
            value=f"{_format_speed(1 / max(evaluation.real_time_factor, 1e-9))} ×",
            detail=f"real time, on {evaluation.device}",
        ),
    ]
    page.add_headline(metrics)


def _add_errors(page: Page, evaluation: Evaluation) -> None:
    total = evaluation.total
    page.add_heading("Errors")
    columns = ["", "in the references", "errors", "rate", "95 % interval"]
    columns += ["substitutions", "deletions", "insertions"]
    rows: list[list[Cell | Value]] = []
    for name, rate in (
        ("words", total.wer),
        ("characters, spaces included", total.cer),
        ("characters, without spaces", total.cer_no_spaces),
    ):
        rows.append(
            [
                name,
                rate.reference_length,
                rate.errors,
                rate_cell(rate),
                describe_rate(rate),
                rate.substitutions,
                rate.deletions,
                rate.insertions,
            ]
        )
    page.add_table(columns, rows, sortable=False)
    if evaluation.oracle is not None:
        page.add_paragraph(
            f"Had the best of at most {evaluation.oracle['num_best']} alternatives always been "
            f"chosen: WER {format_rate(evaluation.oracle['wer'])}, "
            f"CER {format_rate(evaluation.oracle['cer'])}.",
            tone="note",
        )
    page.add_paragraph(
        "Rates are all errors over all reference units; characters are Unicode code points. "
        f"Intervals come from a bootstrap {evaluation.describe_interval()}. Drawing utterances "
        "tells how far other sentences of these speakers would move the rate, drawing speakers "
        "how far other speakers would.",
        tone="note",
    )


def _add_lengths(page: Page, evaluation: Evaluation) -> None:
    counts, seconds = evaluation.scores.characters, evaluation.scores.seconds
    with_text = np.flatnonzero(counts.reference_lengths > 0)
    if not len(with_text):
        return
    rates = 100 * counts.errors[with_text] / counts.reference_lengths[with_text]
    labels = np.array([result.language for result in evaluation.results], dtype=object)[with_text]
    step = max(1, len(with_text) // _MOST_POINTS)
    shown = np.arange(0, len(with_text), step)
    series = []
    for language in evaluation.languages:
        rows = shown[labels[shown] == language]
        series.append(Series(name=language, x=seconds[with_text][rows], y=rates[rows]))
    page.add_heading("Length")
    with page.grid():
        page.add_figure(
            draw_scatter(series, x_label="length in seconds", y_label="CER in %"),
            caption="Each point is an utterance.",
        )
        page.add_figure(
            draw_histogram(
                {name: rates[labels == name] for name in evaluation.languages},
                x_label="CER in %",
                y_label="utterances",
            ),
            caption="How the utterances' error rates are spread.",
        )


def _add_examples(page: Page, evaluation: Evaluation, audio: Mapping[str, bytes]) -> None:
    worst, best = evaluation.choose_examples(evaluation.config.num_examples)
    if not worst and not best:
        return
    page.add_heading("Worst and best utterances")
    page.add_alignment_legend()
    silent = evaluation.scores.empty_hypotheses.any() and not all(
        evaluation.scores.empty_hypotheses[row] for row in worst
    )
    of_those = " of those where anything was recognised" if silent else ""
    for title, rows in ((f"Worst{of_those}", worst), ("Best", best)):
        if rows:
            page.add_heading(title, level=3)
        for row in rows:
            _add_example(page, evaluation, row, audio.get(evaluation.results[row].id))


def _add_example(page: Page, evaluation: Evaluation, row: int, audio: bytes | None) -> None:
    result, scores = evaluation.results[row], evaluation.scores
    words, characters = scores.words, scores.characters
    with page.card():
        speaker = f" · speaker {result.speaker}" if result.speaker else ""
        page.add_paragraph(
            f"{result.id}{speaker} · {result.seconds:.1f} s · "
            f"{words.errors[row]} errors in {words.reference_lengths[row]} words, "
            f"{characters.errors[row]} in {characters.reference_lengths[row]} characters",
            tone="note",
        )
        page.add_alignment(
            align(result.reference, result.hypothesis, Unit.WORD), language=_tag(result)
        )
        if audio is not None:
            page.add_audio(audio)


def _add_confusions(page: Page, evaluation: Evaluation) -> None:
    page.add_heading("Confusions")
    for language in evaluation.languages:
        chosen = [result for result in evaluation.results if result.language == language]
        said = [result.reference for result in chosen]
        heard = [result.hypothesis for result in chosen]
        title = f": {name_language(language)}" if len(evaluation.languages) > 1 else ""
        with page.grid():
            for unit, name in ((Unit.WORD, "Words"), (Unit.CHARACTER, "Characters")):
                top = count_confusions(said, heard, unit).most_common(_MOST_CONFUSIONS)
                rows: list[list[Cell | Value]] = [
                    [_unit_cell(pair[0], unit, chosen[0]), _unit_cell(pair[1], unit, chosen[0]), n]
                    for pair, n in sorted(top, key=_order_confusions)
                ]
                caption = f"{name}{title}: the {len(rows)} most frequent"
                page.add_table(["said", "heard", "times"], rows, caption=caption)


def _order_confusions(item: tuple[Pair, int]) -> tuple[int, str, str]:
    (said, heard), count = item
    return (-count, said or "", heard or "")


def _unit_cell(unit: str | None, kind: Unit, result: Result) -> Cell:
    if unit is None:
        return Cell(value="–", tone="note")
    if kind is Unit.WORD:
        return Cell(value=unit, language=_tag(result))
    # A combining mark needs something to stand on, and a name for those who do not see it.
    shown = "space" if unit == " " else unit
    if unicodedata.category(unit).startswith("M"):
        shown = f"◌{unit}"
    number = f"U+{ord(unit):04X}"
    return Cell(value=unit, text=f"{shown}  {number}", language=_tag(result))


def _add_conditions(page: Page, evaluation: Evaluation) -> None:
    page.add_heading("Conditions")
    shared = evaluation.shared_speakers
    overlap = "speakers are not named" if shared is None else f"{len(shared)} speakers"
    page.add_facts(
        {
            "Text normaliser": evaluation.scores.normalizer,
            "Corpus prepared with": evaluation.corpus_normalizer,
            "Decoder": evaluation.decoder_name,
            "Model": evaluation.model_digest,
            "Without transcript": evaluation.num_untranscribed,
            "Shared with train": overlap,
            "Real-time factor": evaluation.real_time_factor,
        }
    )
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(asdict(evaluation.config), ensure_ascii=False, indent=2))


def _tag(result: Result) -> str:
    """The BCP 47 tag of a text: `hin_Deva` is `hin-Deva`."""
    return result.language.replace("_", "-")
