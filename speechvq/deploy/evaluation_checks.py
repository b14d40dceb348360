"""What keeps an evaluation's reader from being fooled: other normalisers, and the confidences.

Parts of the page of `speechvq.deploy.evaluation_report`.
"""

from __future__ import annotations

import numpy as np

from speechvq.decoding.calibration import Calibration
from speechvq.deploy.evaluation_result import Evaluation
from speechvq.deploy.evaluation_tables import format_rate
from speechvq.deploy.score_variants import WARNING_CHANGE
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import BarSeries, Series, draw_bars, draw_lines
from speechvq.reporting.page import Page

_NAMES = {
    "configured": "configured: the headline",
    "plain": "plain",
    "no_punctuation": "no punctuation",
    "tolerant": "orthography-tolerant",
}


def add_variants(page: Page, evaluation: Evaluation) -> None:
    """Adds the table of the same texts scored under several normalisers."""
    variants = evaluation.variants
    if len(variants) < 2:
        return
    page.add_heading("Under other normalisers")
    rows: list[list[Cell | Value]] = []
    for one in variants:
        tone = "warning" if one.is_warning else ""
        rows.append(
            [
                _NAMES[one.name],
                one.normalizer,
                one.references,
                Cell(value=one.wer, text=format_rate(one.wer)),
                _change_cell(one.wer_change, tone),
                Cell(value=one.cer, text=format_rate(one.cer)),
                _change_cell(one.cer_change, tone),
            ]
        )
    columns = ["variant", "normaliser", "references", "WER", "change", "CER", "change"]
    page.add_table(columns, rows, sortable=False)
    for one in variants:
        if one.is_warning:
            page.add_paragraph(
                f"{_NAMES[one.name].capitalize()} changes a rate by more than "
                f"{100 * WARNING_CHANGE:g} %: {one.reason}",
                tone="warning",
            )
    basis = (
        "The corpus keeps the transcripts as they came, and “plain” and “no punctuation” use them: "
        "what preparing the corpus did to the text shows in their rates."
        if variants[1].references == "as they came"
        else "The corpus does not keep the transcripts as they came: “plain” and “no punctuation” "
        f"use the prepared ones, which {evaluation.corpus_normalizer} has been through already, so "
        "that they hide what it did."
    )
    page.add_paragraph(
        f"{basis} The same recognised texts throughout; “change” is relative to the headline. The "
        "tolerant one is for seeing how much is spelling, not for reporting.",
        tone="note",
    )


def add_calibration(page: Page, evaluation: Evaluation) -> None:
    """Adds how well the words' confidences foretell which words are right."""
    calibrations = evaluation.calibrations
    if "all" not in calibrations:
        return
    total = calibrations["all"]
    page.add_heading("Confidences")
    page.add_paragraph(
        f"{describe_calibration(total)[0].upper()}{describe_calibration(total)[1:]}."
    )
    with page.grid():
        page.add_figure(
            _draw_reliability(total),
            caption="Reliability: above the line words are right more often than their confidence "
            "says, below it less often. The band is the 95 % interval of each bin (Wilson).",
        )
        page.add_figure(
            draw_bars(
                [f"{one.low:.2f}" for one in total.bins],
                [BarSeries(name="words", values=[one.num_words for one in total.bins])],
                y_label="words",
                x_label="confidence, from",
                size=(6.4, 3.4),
            ),
            caption="How many words have which confidence.",
        )
    if len(calibrations) > 2:
        rows: list[list[Cell | Value]] = [
            [
                name,
                one.num_words,
                Cell(value=one.accuracy, text=format_rate(one.accuracy)),
                Cell(value=one.mean_confidence, text=format_rate(one.mean_confidence)),
                Cell(value=one.ece, text=f"{one.ece:.3f}"),
                Cell(value=one.ece_noise, text=f"{one.ece_noise:.3f}"),
                Cell(value=one.nce, text="–" if one.nce is None else f"{one.nce:.3f}"),
            ]
            for name, one in calibrations.items()
        ]
        columns = ["language", "words", "right", "mean confidence", "ECE", "noise", "NCE"]
        page.add_table(columns, rows)
    page.add_paragraph(
        "A word's confidence is the product of its labels' probabilities on the best path of the "
        "text; it is right where the alignment with the reference has the same word. ECE: mean "
        f"distance of confidence and share of right words over {len(total.bins)} bins of one width "
        "(Guo et al. 2017); a perfectly calibrated recogniser stays below “noise” 95 times of 100. "
        "NCE: normalised cross entropy, 1 at best; below 0 the confidences mislead.",
        tone="note",
    )


def describe_calibration(found: Calibration) -> str:
    """Returns confidences in a line for people."""
    lean = found.mean_confidence - found.accuracy
    judged = "too sure" if lean > 0 else "not sure enough"
    side = "" if found.ece <= found.ece_noise else f", {judged} by {100 * abs(lean):.1f} points"
    nce = "" if found.nce is None else f", NCE {found.nce:.3f}"
    return (
        f"ECE {found.ece:.3f} over {found.num_words:,} words (chance alone gives up to "
        f"{found.ece_noise:.3f}){nce}; mean confidence {format_rate(found.mean_confidence)}, "
        f"right {format_rate(found.accuracy)}{side}"
    )


def _draw_reliability(found: Calibration) -> str:
    bins = [one for one in found.bins if one.num_words]
    shares = np.array([one.accuracy for one in bins], dtype=np.float64)
    counts = np.array([one.num_words for one in bins], dtype=np.float64)
    low, high = _compute_wilson_interval(shares, counts)
    return draw_lines(
        [
            Series(
                name="words",
                x=[float(one.confidence or 0.0) for one in bins],
                y=100 * shares,
                low=100 * low,
                high=100 * high,
            ),
            Series(name="perfect", x=[0.0, 0.5, 1.0], y=[0.0, 50.0, 100.0]),
        ],
        x_label="confidence",
        y_label="words that are right in %",
    )


def _compute_wilson_interval(
    shares: np.ndarray, counts: np.ndarray, z: float = 1.96
) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of a share (Wilson 1927)."""
    middle = (shares + z * z / (2 * counts)) / (1 + z * z / counts)
    half = z * np.sqrt(shares * (1 - shares) / counts + (z / (2 * counts)) ** 2)
    half /= 1 + z * z / counts
    return middle - half, middle + half


def _change_cell(change: float | None, tone: str) -> Cell:
    if change is None:
        return Cell(value=None)
    return Cell(value=change, text=f"{100 * change:+.1f} %", tone=tone)
