"""The page of `speechvq concepts`: sums first, then all concepts, then codes to be heard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from speechvq import __version__
from speechvq.analysis.concept_cards import CodeCard
from speechvq.analysis.concept_files import CONCEPTS_FILE, ConceptKind, ConceptRow
from speechvq.analysis.concept_scoring import ConceptFindings
from speechvq.analysis.concept_split import Division
from speechvq.analysis.concept_summary import CodebookFacts, is_counted
from speechvq.nn.places import Place, Site
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import (
    BarSeries,
    Series,
    draw_bars,
    draw_heat_map,
    draw_scatter,
)
from speechvq.reporting.page import Metric, Page

MAX_ROWS = 6000
"""A page holds no more rows of all places; the file has all."""
_COLUMNS = (
    *("concept", "place", "code", "precision", "recall", "F1", "support", "lift"),
    *("union", "neuron", "permuted", "p (BH)"),
)
_LIMITS = (
    "Codes, unions, neurons and places are chosen on dev and measured on test; the permuted labels "
    "go the same way. A code that reads a concept need not be what the model goes by: only an "
    "intervention (`speechvq steer`) shows that.",
    "Phones that were placed by a recogniser's letters are right to within a letter or so. Neurons "
    "are the inner values of feed-forward parts of the layers that have codebooks; those of other "
    "layers were not looked at.",
)


def create_page(
    findings: ConceptFindings,
    division: Division,
    cards: Sequence[CodeCard],
    metrics: dict[str, Any],
    sentences: Sequence[str],
) -> Page:
    """Lays the report out.

    Args:
        findings: What was found.
        division: The utterances.
        cards: Of the best codes.
        metrics: What `metrics.json` holds.
        sentences: What was found, in words.
    """
    config = metrics["config"]
    page = Page(
        "What the codes stand for",
        f"{config['model']} on {config['corpus']}",
        footer=f"speechvq {__version__} concepts",
    )
    page.add_heading("Findings")
    _add_headline(page, metrics)
    for text in sentences:
        page.add_paragraph(text)
    _add_warnings(page, findings, division, metrics)
    page.add_facts(_list_facts(metrics))
    _add_kinds(page, metrics)
    _add_scatter(page, findings.rows)
    _add_codebooks(page, findings.facts)
    _add_agreement(page, metrics)
    _add_concepts(page, findings.rows)
    _add_cards(page, cards)
    page.add_heading("What cannot be concluded")
    for text in _LIMITS:
        page.add_paragraph(text)
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(config, ensure_ascii=False, indent=2))
    return page


def _add_headline(page: Page, metrics: dict[str, Any]) -> None:
    kinds = metrics["kinds"]
    kind = next((one for one in ("phone", "letter", "voicing") if one in kinds), None)
    if kind is None or not kinds[kind]["measured"]:
        return
    one = kinds[kind]
    shown = [
        Metric(
            label=f"Precision of codes for {kind}s" if kind != "voicing" else "Precision, voicing",
            value=f"{one['median_precision']:.1%}",
            detail=f"median of {one['measured']}, at a recall of {one['median_recall']:.1%}",
        )
    ]
    if one["median_neuron_precision"] is not None:
        detail = "best of its layer, at the same recall"
        if one["median_any_neuron_precision"] is not None:
            detail += f"; of any layer {one['median_any_neuron_precision']:.1%}"
        value = f"{one['median_neuron_precision']:.1%}"
        shown.append(Metric(label="of neurons", value=value, detail=detail))
    if one["median_permuted_precision"] is not None:
        value = f"{one['median_permuted_precision']:.1%}"
        shown.append(Metric(label="of permuted labels", value=value, detail=f"p = {one['p']:.3g}"))
    books = metrics["codebooks"]
    used = books["codes"] - books["dead_codes"]
    shown.append(Metric(label="Codes in use", value=used, detail=f"of {books['codes']:,}"))
    page.add_headline(shown)


def _add_warnings(
    page: Page, findings: ConceptFindings, division: Division, metrics: dict[str, Any]
) -> None:
    if division.num_shared:
        page.add_paragraph(
            f"{division.num_shared} speakers are in dev and in test: codes may know these voices.",
            tone="warning",
        )
    for text in findings.notes:
        page.add_paragraph(text, tone="note")
    for kind, reason in findings.missing.items():
        page.add_paragraph(f"No concepts of {kind}: {reason}.", tone="note")
    if metrics["utterances_too_short"]:
        number = metrics["utterances_too_short"]
        page.add_paragraph(f"{number:,} utterances are shorter than a frame.", tone="note")


def _list_facts(metrics: dict[str, Any]) -> dict[str, Value]:
    utterances, frames = metrics["utterances"], metrics["frames"]
    return {
        "division": metrics["rule"],
        "dev": f"{utterances['dev']:,} utterances, {frames['dev']:,} frames",
        "test": f"{utterances['test']:,} utterances, {frames['test']:,} frames",
        "audio": f"{metrics['hours']:.2f} h",
        "bottlenecks": "; ".join(
            f"layer {one['layer']} {one['site']}: {one['num_codebooks']} × {one['codebook_size']}, "
            f"k = {one['num_active']}"
            for one in metrics["bottlenecks"]
        ),
        "time": f"{metrics['seconds']:.0f} s",
    }


def _add_kinds(page: Page, metrics: dict[str, Any]) -> None:
    page.add_heading("Kinds of concepts")
    page.add_table(
        [
            *("kind", "concepts", "rare", "precision", "recall", "lift", "union"),
            *("neurons", "any layer", "permuted", "p", "precise", "significant"),
        ],
        [
            [
                *(kind, one["concepts"], one["rare"]),
                *(_percent(one[f"median_{key}"]) for key in ("precision", "recall")),
                _short(one["median_lift"]),
                _join(one["median_union_precision"], one["median_union_recall"]),
                *(
                    _percent(one[f"median_{key}_precision"])
                    for key in ("neuron", "any_neuron", "permuted")
                ),
                _short(one["p"]),
                *(_percent(one["share_precise"]), _percent(one["share_significant"])),
            ]
            for kind, one in metrics["kinds"].items()
        ],
        caption="Medians over the concepts that are not rare (phones: without silence), each at "
        "its best place on dev. Neurons: of the same layer, of any layer with codebooks. Precise: "
        "a precision of 50 % or more at a recall of 10 % or more. Significant: rows of all places "
        "with a false discovery rate of 5 % at most. Language, pitch and sex count "
        "utterances, others frames.",
    )


def _add_scatter(page: Page, rows: Sequence[ConceptRow]) -> None:
    kinds = [kind for kind in ConceptKind if any(row.kind is kind for row in rows)]
    for kind in kinds[:1]:
        own = [r for r in rows if r.kind is kind and r.is_best_place and is_counted(r)]
        if not own:
            continue
        recall = [row.recall for row in own]
        series = [Series(name="codes", x=recall, y=[row.precision for row in own])]
        for name, key in (("neurons", "neuron_precision"), ("permuted", "permuted_precision")):
            values = [getattr(row, key) for row in own]
            if all(value is not None for value in values):
                series.append(Series(name=name, x=recall, y=values))
        page.add_figure(
            draw_scatter(series, x_label="recall", y_label="precision"),
            caption=f"Concepts of {kind} on test: the best code, the best neuron at its recall, "
            "and the mean over codes that were chosen for permuted labels.",
        )


def _add_codebooks(page: Page, facts: Sequence[CodebookFacts]) -> None:
    page.add_heading("Codebooks")
    heads = max((one.head + 1 for one in facts if one.place.site is Site.heads), default=0)
    layers = sorted({one.place.layer for one in facts})
    has_languages = any(one.num_same is not None for one in facts)
    others = max((one.head + 1 for one in facts if one.place.site is not Site.heads), default=0)
    grid = np.full((len(layers), heads + others), np.nan)
    for one in facts:
        column = one.head + (heads if one.place.site is not Site.heads else 0)
        if one.pnmi is not None:
            grid[layers.index(one.place.layer), column] = one.pnmi
    if np.isfinite(grid).any():
        names = [f"h{number}" for number in range(heads)] + [f"ff{n}" for n in range(others)]
        page.add_figure(
            draw_heat_map(
                grid,
                row_labels=[f"layer {layer}" for layer in layers],
                column_labels=names,
                color_label="PNMI",
                value_range=(0.0, float(np.nanmax(grid))),
            ),
            caption="How much of the phone the most similar code tells: I(phone; code) / H(phone). "
            "h: heads, ff: after the feed-forward part.",
        )
    page.add_table(
        [
            *("place", "codes", "dead", "perplexity", "PNMI", "by chance", "of one phone"),
            *(("same phone", "unlike phones") if has_languages else ()),
        ],
        [
            [
                *(name_place(one.place, one.head), one.num_codes, one.num_dead),
                *(_short(one.perplexity), _short(one.pnmi), _short(one.pnmi_chance)),
                _percent(one.pure),
                *((one.num_same, one.num_different) if has_languages else ()),
            ]
            for one in facts
        ],
        caption="Dead: chosen neither on dev nor on test. Of one phone: codes 80 % or more of "
        "whose frames have the phone that is theirs on dev, of those with enough frames "
        "(`min_support`) on test."
        + (
            " Same phone, unlike phones: codes that are frequent in several languages, by their "
            "most frequent phones there."
            if has_languages
            else ""
        ),
    )


def _add_agreement(page: Page, metrics: dict[str, Any]) -> None:
    if not metrics["agreement"]:
        return
    page.add_heading("Agreement of two seeds")
    page.add_table(
        [
            *("place", "head of the second", "active together", "at random"),
            *("codes compared", "same main phone", "by chance"),
        ],
        [
            [
                name_place(Place(one["layer"], Site(one["site"])), one["head"]),
                one["second_head"],
                *(_percent(one["agreement"]), _percent(one["random_agreement"])),
                one["num_compared"],
                *(_percent(one["same_phone"]), _percent(one["random_same_phone"])),
            ]
            for one in metrics["agreement"]
        ],
        caption="Codes matched one to one by how often they are active together on dev, compared "
        f"on test. Second model: {metrics['config']['second']}.",
    )


def _add_concepts(page: Page, rows: Sequence[ConceptRow]) -> None:
    page.add_heading("Concepts")
    for kind in ConceptKind:
        own = [row for row in rows if row.kind is kind]
        if not own:
            continue
        best = sorted((r for r in own if r.is_best_place), key=lambda row: -row.precision)
        page.add_table(
            _COLUMNS,
            [_create_row(row) for row in best],
            caption=f"{kind.capitalize()}: every concept at its best place (layer, head or "
            "feed-forward part). Union: codes, precision at recall. Rare ones are marked by *: too "
            "few frames or utterances to conclude anything.",
        )
        rest = [row for row in own if not row.is_best_place]
        if not rest:
            continue
        with page.section(f"{kind.capitalize()}: all other places"):
            if len(rest) > MAX_ROWS:
                page.add_paragraph(
                    f"The first {MAX_ROWS:,} of {len(rest):,} rows; {CONCEPTS_FILE} has all.",
                    tone="note",
                )
            page.add_table(_COLUMNS, [_create_row(row) for row in rest[:MAX_ROWS]])


def _create_row(row: ConceptRow) -> list[Cell | Value]:
    name = f"{row.concept} *" if row.is_rare else row.concept
    return [
        *(name, name_place(row.place, row.head), row.code),
        *(_percent(row.precision), _percent(row.recall), _short(row.f1)),
        *(row.support, _short(row.lift)),
        _join(row.union_precision, row.union_recall, f"{len(row.codes)}: "),
        *(_percent(row.neuron_precision), _percent(row.permuted_precision)),
        _short(row.p_adjusted),
    ]


def _add_cards(page: Page, cards: Sequence[CodeCard]) -> None:
    if not cards:
        return
    page.add_heading("Codes to be heard")
    page.add_paragraph(
        "The codes of each kind that looked best on dev, with their longest spans on test; a span "
        "is framed in the spectrogram (0 to 8 kHz).",
        tone="note",
    )
    kinds = dict.fromkeys(card.row.kind for card in cards)
    for kind in kinds:
        page.add_heading(str(kind).capitalize(), level=3)
        with page.grid():
            for card in cards:
                if card.row.kind is kind:
                    _add_card(page, card)


def _add_card(page: Page, card: CodeCard) -> None:
    row = card.row
    with page.card():
        page.add_heading(
            f"{row.concept}: {name_place(row.place, row.head)}, code {row.code}", level=4
        )
        page.add_paragraph(
            f"precision {row.precision:.1%}, recall {row.recall:.1%}, lift {row.lift:.1f}; "
            f"{card.num_frames:,} frames of test have the code"
        )
        for clip in card.clips:
            page.add_audio(clip.audio, label=clip.label)
            page.add_figure(clip.picture, alt="Spectrogram, the span framed.")
        for name, shares in (("phone or letter", card.sounds), ("language", card.languages)):
            if shares:
                _add_shares(page, name, shares)


def _add_shares(page: Page, name: str, shares: Sequence[tuple[str, float]]) -> None:
    """Bars where matplotlib can write the names, else a table."""
    if all(
        ord(letter) < 0x370 or 0x1D00 <= ord(letter) < 0x2000 for s, _ in shares for letter in s
    ):
        bars = BarSeries(name=name, values=[share for _, share in shares])
        page.add_figure(
            draw_bars(
                [one for one, _ in shares], [bars], y_label="share of its frames", x_label=name
            ),
            alt=", ".join(f"{one} {share:.0%}" for one, share in shares),
        )
        return
    page.add_table(
        [name, "share of its frames"],
        [[one, _percent(share)] for one, share in shares],
        sortable=False,
    )


def name_place(place: Place, head: int) -> str:
    """A codebook in a few letters: "3 h1" for head 1 of layer 3; "3 ff0" after its feed-forward
    part.
    """
    return f"{place.layer}\u00a0{'h' if place.site is Site.heads else 'ff'}{head}"


def _join(precision: float | None, recall: float | None, begin: str = "") -> Cell:
    """Precision and recall in one cell, sorted by precision."""
    if precision is None or recall is None:
        return Cell(value=None)
    return Cell(value=precision, text=f"{begin}{precision:.0%} at {recall:.0%}")


def _percent(share: float | None) -> Cell:
    return Cell(value=share, text="–" if share is None else f"{share:.1%}")


def _short(value: float | None) -> Cell:
    return Cell(value=value, text="–" if value is None else f"{value:.3g}")
