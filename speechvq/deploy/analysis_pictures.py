"""Pictures of analyses side by side: codes, sharing, probes by layer, attention by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from speechvq.analysis.intervals import Estimate
from speechvq.deploy.analysis_comparison import AnalysisComparison
from speechvq.deploy.analysis_results import (
    ATTENTION,
    BEST,
    CODES,
    LAYERS,
    SHARING,
    Analysis,
    get_local_shares,
    get_skill,
)
from speechvq.reporting.charts import BarSeries, Series, draw_bars, draw_lines

Pictures = dict[str, list[tuple[str, str]]]
_MOST_PAIRS = 12
_MOST_CURVES = 8
"""More analyses than this are not drawn as curves."""


def draw_comparison(comparison: AnalysisComparison) -> Pictures:
    """Draws what can be drawn.

    Args:
        comparison: What was found.

    Returns:
        By section, SVG texts and their captions.
    """
    drawn = {
        CODES: list(_draw_codes(comparison)),
        SHARING: list(_draw_sharing(comparison)),
    }
    if len(comparison.analyses) <= _MOST_CURVES:
        drawn[LAYERS] = list(_draw_layers(comparison.analyses))
        drawn[ATTENTION] = list(_draw_attention(comparison.analyses))
    return drawn


def _draw_codes(comparison: AnalysisComparison) -> Iterator[tuple[str, str]]:
    series = []
    for item in (BEST, "k-means of MFCC"):
        key = (CODES, item, "above chance")
        found = [comparison.find(place, key) for place in range(len(comparison.analyses))]
        if any(found):
            estimates = [Estimate() if one is None else one.estimate for one in found]
            series.append(_create_bars(item, estimates))
    if series:
        picture = draw_bars(comparison.names, series, y_label="PNMI above chance")
        yield (
            picture,
            "What the best codebook tells about phones above chance, with 95 % intervals.",
        )


def _draw_sharing(comparison: AnalysisComparison) -> Iterator[tuple[str, str]]:
    keys = [key for key in comparison.list_keys(SHARING) if key[2] == "index"]
    for codebook in dict.fromkeys(key[1].rpartition(", ")[2] for key in keys):
        chosen = [key for key in keys if key[1].endswith(f", {codebook}")]
        if len(chosen) > _MOST_PAIRS:
            continue
        series = [
            _create_bars(
                name,
                [
                    Estimate() if (one := comparison.find(place, key)) is None else one.estimate
                    for key in chosen
                ],
            )
            for place, name in enumerate(comparison.names)
        ]
        pairs = [key[1].rpartition(", ")[0] for key in chosen]
        yield (
            draw_bars(pairs, series, y_label="index of sharing"),
            f"Sharing, {codebook}: 0 as far as another phone, 1 as near as within a language, with "
            "95 % intervals.",
        )


def _draw_layers(analyses: Sequence[Analysis]) -> Iterator[tuple[str, str]]:
    sections = {one.name: one.get_section("layers") for one in analyses}
    targets = dict.fromkeys(
        target for section in sections.values() for target in section.get("probes") or {}
    )
    for target in targets:
        series = []
        for name, section in sections.items():
            probes = (section.get("probes") or {}).get(target)
            skills = [get_skill(one) for one in probes or []]
            if any(math.isfinite(one.value) for one in skills):
                series.append(
                    Series(
                        name=name,
                        x=section["layers"],
                        y=[one.value for one in skills],
                        low=[one.low for one in skills],
                        high=[one.high for one in skills],
                    )
                )
        if series:
            yield (
                draw_lines(
                    series,
                    x_label="layer",
                    y_label="from chance (0) to always right (1)",
                    whole_x=True,
                    levels={"chance": 0.0},
                ),
                f"Probe for the {target}, layer by layer, with 95 % intervals.",
            )


def _draw_attention(analyses: Sequence[Analysis]) -> Iterator[tuple[str, str]]:
    series = []
    window = 0
    for one in analyses:
        section = one.get_section("attention")
        if section.get("means"):
            window = section["windows"][-1]
            shares = get_local_shares(section)
            series.append(Series(name=one.name, x=section["layers"], y=shares))
    if series:
        yield (
            draw_lines(
                series, x_label="layer", y_label=f"share within ±{window} frames", whole_x=True
            ),
            "Share of attention near the query, mean over the heads of each layer.",
        )


def _create_bars(name: str, estimates: Sequence[Estimate]) -> BarSeries:
    return BarSeries(
        name=name,
        values=[one.value for one in estimates],
        low=[one.low for one in estimates],
        high=[one.high for one in estimates],
    )
