"""The demo's page: what was done, curves, codes, error rates, transcripts with sound."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from speechvq.data.corpus import read_utterances
from speechvq.decoding.alignment import Unit, align
from speechvq.demo.codes import CodeCounts, read_code_counts
from speechvq.demo.config import DemoPlan
from speechvq.demo.results import Line, count_codebooks, extract_curve, extract_rate
from speechvq.demo.stages import Stage, format_seconds
from speechvq.deploy.evaluation_files import read_metrics as read_scores
from speechvq.deploy.evaluation_files import read_results
from speechvq.deploy.evaluation_result import Result
from speechvq.languages import parse_language
from speechvq.reporting.cells import Cell
from speechvq.reporting.charts import Series, draw_heat_map, draw_lines
from speechvq.reporting.page import Metric, Page
from speechvq.training.metrics import read_metrics

NUM_TRANSCRIPTS = 5
"""Test utterances per language that the page plays."""

NUM_SHOWN_CODES = 80
"""Codes in a heat map; more would be too narrow to see."""

OWN_DATA = """\
# 1. A folder of recordings with a manifest.tsv beside them. Its header names the columns,
#    separated by tabs; path and language suffice, and a transcript where there is one:
#        path            language   speaker   split   transcript
#        clips/0001.mp3  hin_Deva   anna      train   नमस्ते दुनिया
# 2. The same line as here:
speechvq prepare input=my_recordings output=my_corpus
speechvq pretrain corpus=my_corpus output=my_encoder preset=tiny
speechvq finetune corpus=my_corpus model=my_encoder/model language=hin_Deva \\
    output=my_recogniser
speechvq evaluate corpus=my_corpus model=my_recogniser/model language=hin_Deva split=test \\
    output=my_scores
"""


def write_page(
    output: Path, plan: DemoPlan, stages: Sequence[Stage], seconds: Mapping[str, float]
) -> Path:
    """Write `index.html` from what the stages left.

    Args:
        output: Directory of the demo.
        plan: Its amounts.
        stages: Its stages.
        seconds: Wall time of every stage.

    Returns:
        Path of the page.
    """
    page = Page(
        "speechvq: the whole line on synthetic speech",
        "From sentences to error rates, made on this machine without any download beyond packages.",
        footer="Written by `speechvq demo`. Synthetic speech: espeak-ng.",
    )
    _add_headline(page, output, plan, seconds)
    _add_stages(page, stages, seconds)
    _add_pretraining(page, read_metrics(output / "pretrained" / "metrics.jsonl"))
    if (output / "codes.json").is_file():
        _add_codes(page, read_code_counts(output / "codes.json"))
    for language in plan.finetuned:
        _add_recogniser(page, output, language)
    page.add_heading("The same with your own recordings")
    page.add_preformatted(OWN_DATA)
    _add_limits(page)
    path = output / "index.html"
    page.write(path)
    return path


def _add_headline(page: Page, output: Path, plan: DemoPlan, seconds: Mapping[str, float]) -> None:
    metrics = []
    for language in plan.finetuned:
        scores = read_scores(output / "evaluated" / language)
        for name in ("wer", "cer"):
            rate = extract_rate(scores, name)
            label = f"{name.upper()} {parse_language(language).name}"
            metrics.append(Metric(label=label, value=rate.format(), detail=rate.format_interval()))
    total = sum(seconds.values())
    metrics.append(
        Metric(label="languages", value=len(plan.languages), detail="pretrained together")
    )
    metrics.append(Metric(label="wall time", value=format_seconds(total), detail="all stages"))
    page.add_headline(metrics)


def _add_stages(page: Page, stages: Sequence[Stage], seconds: Mapping[str, float]) -> None:
    page.add_heading("What was done")
    rows: list[list[Cell | str | int | float | None]] = [
        [number, stage.name, stage.purpose, format_seconds(seconds[stage.name])]
        for number, stage in enumerate(stages, start=1)
        if stage.name in seconds
    ]
    page.add_table(["", "stage", "what it does", "wall time"], rows, sortable=False)
    page.add_paragraph("The commands; each works by itself:")
    page.add_preformatted("\n".join(_wrap_command(s.command) for s in stages if s.command))


def _wrap_command(command: str) -> str:
    """Break a long command line after some keys, as a shell allows it."""
    return " \\\n    ".join(
        textwrap.wrap(command, 96, break_long_words=False, break_on_hyphens=False)
    )


def _add_pretraining(page: Page, lines: Sequence[Line]) -> None:
    page.add_heading("Pretraining without transcripts")
    if not lines:
        page.add_paragraph("No metrics were found.", tone="warning")
        return
    page.add_paragraph(
        "The encoder hears masked speech and must tell the code of each masked frame from those of "
        "other frames of the utterance (wav2vec 2.0). The loss falls as it learns to; the "
        "perplexity says how many codes are in real use: near 1 the codebook would have collapsed."
    )
    with page.grid():
        for key, label in (
            ("contrastive_loss", "contrastive loss (nats)"),
            ("accuracy", "accuracy"),
        ):
            _add_curves(page, lines, key, label)
        groups = [
            Series(name=f"codebook {group + 1}", x=steps, y=values)
            for group in range(count_codebooks(lines))
            for steps, values in [extract_curve(lines, "train", "perplexity", group)]
        ]
        if groups:
            page.add_figure(
                draw_lines(groups, x_label="step", y_label="codes in use (perplexity)"),
                caption="Perplexity of each codebook on training speech.",
            )
        _add_curves(page, lines, "equal_share", "share of distractors equal to the target")


def _add_curves(page: Page, lines: Sequence[Line], key: str, label: str) -> None:
    """Add one value over the steps, on train and dev; nothing where there is none."""
    series = []
    for split in ("train", "dev"):
        steps, values = extract_curve(lines, split, key)
        if steps:
            series.append(Series(name=split, x=steps, y=values))
    if series:
        page.add_figure(
            draw_lines(series, x_label="step", y_label=label),
            caption=f"{label[0].upper()}{label[1:]}.",
        )


def _add_codes(page: Page, counts: CodeCounts) -> None:
    page.add_heading("Codes of each language")
    names = [parse_language(code).name for code in counts.languages]
    num_frames = counts.counts[:, :, 0].sum(axis=(1, 2))
    page.add_paragraph(
        f"Codes of dev and test speech, {num_frames.min():,} to {num_frames.max():,} frames a "
        "language; its speakers were not in training. Columns are the codes of one codebook, the "
        "most used first; a colour is the share of a language's frames."
    )
    usage = counts.compute_usage()  # (N, G, V)
    for group in range(usage.shape[1]):
        order = np.argsort(-usage[:, group].mean(axis=0), kind="stable")
        num_used = int((usage[:, group].sum(axis=0) > 0).sum())
        shown = order[: min(num_used, NUM_SHOWN_CODES)]
        page.add_figure(
            draw_heat_map(
                100 * usage[:, group][:, shown],
                row_labels=names,
                x_label=f"{len(shown)} of the {num_used} codes in use (of {usage.shape[2]})",
                color_label="% of frames",
                annotate=False,
                size=(9.0, 1.2 + 0.26 * len(names)),
            ),
            caption=f"Codebook {group + 1}.",
        )
    page.add_figure(
        draw_heat_map(
            counts.compute_similarity(),
            row_labels=names,
            column_labels=names,
            color_label="1 − divergence",
        ),
        caption=(
            "How alike two languages use the codes (1 − Jensen–Shannon divergence in bits, mean "
            "over codebooks), always between different halves of the utterances. The diagonal, a "
            "language with itself, is the most that sampling and speakers allow."
        ),
    )


def _add_recogniser(page: Page, output: Path, language: str) -> None:
    known = parse_language(language)
    page.add_heading(f"Recogniser: {known.name}")
    scores = read_scores(output / "evaluated" / language)
    wer, cer = extract_rate(scores, "wer"), extract_rate(scores, "cer")
    page.add_facts(
        {
            "word error rate": f"{wer.format()} {wer.format_interval()}".strip(),
            "character error rate": f"{cer.format()} {cer.format_interval()}".strip(),
            "test utterances": scores.get("num_utterances"),
            "normaliser": scores.get("normalizer"),
        }
    )
    for warning in scores.get("warnings", []):
        page.add_paragraph(warning, tone="warning")
    lines = read_metrics(output / "finetuned" / language / "metrics.jsonl")
    with page.grid():
        _add_curves(page, lines, "loss", "CTC loss (nats per character)")
        _add_curves(page, lines, "cer", "character error rate")
    results, _ = read_results(output / "evaluated" / language)
    _add_transcripts(page, output / "corpus", language, results)


def _add_transcripts(page: Page, corpus: Path, language: str, results: Sequence[Result]) -> None:
    """Add evenly spaced test utterances, not chosen by how well they went."""
    places = np.linspace(0, len(results) - 1, min(NUM_TRANSCRIPTS, len(results)))
    chosen = {results[round(place)].id: results[round(place)] for place in places}
    rows = read_utterances(
        corpus, splits=["test"], languages=[language], columns=["id", "audio", "speaker"]
    )
    tag = parse_language(language).iso
    page.add_paragraph("Test utterances, evenly spaced over the list, not chosen by their score:")
    page.add_alignment_legend()
    with page.grid():
        for row in rows:
            if row.id not in chosen:
                continue
            result = chosen[row.id]
            pairs = align(result.reference, result.hypothesis, Unit.WORD)
            with page.card():
                page.add_audio(row.audio, label=row.speaker or "")
                page.add_alignment(pairs, language=tag)


def _add_limits(page: Page) -> None:
    page.add_heading("What these figures do not say")
    page.add_paragraph(
        "The speech comes from one formant synthesiser, and the sentences from lists of some fifty "
        "words a language: every test word stood in the training text, and all voices share their "
        "acoustics. The error rates show that the line works from end to end; they say nothing "
        "about human speech. Models this small, trained for minutes, are no measure of the method."
    )
