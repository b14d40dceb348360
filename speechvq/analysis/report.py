"""The files of an analysis: `analysis.json` and `report.html`.

The page begins with what was found, one sentence a section, and ends with what cannot be concluded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechvq import __version__
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.section import Section
from speechvq.earlier_results import check_earlier_results
from speechvq.reporting.page import Page

KIND = "speechvq-analysis"
ANALYSIS_FILE = "analysis.json"
REPORT_FILE = "report.html"
_FREE = ("output", "batch_seconds", "device")
"""Keys that change where and how fast, never what is found."""


def check_output(config: AnalyzeConfig) -> None:
    """Refuses an output directory that holds something else; the results of the same analysis go,
    so that what is left by a run that fails is not taken for complete.

    Raises:
        ConfigError: It holds an analysis with another configuration, or other results.
    """
    file = Path(config.output) / ANALYSIS_FILE
    check_earlier_results(
        file,
        KIND,
        "analysis",
        lambda key, now, before: key in _FREE or now == before,
        asdict(config),
    )
    file.unlink(missing_ok=True)


def describe_findings(sections: Sequence[Section]) -> list[str]:
    """Returns the first finding of each section with its title, doubts about the others first."""
    made = [section for section in sections if section.missing is None and section.findings]
    made.sort(key=lambda section: not section.is_doubt)
    texts = [f"{section.title}: {section.findings[0]}" for section in made]
    not_made = [section.title for section in sections if section.missing is not None]
    if not_made:
        texts.append(f"Not made, with reasons below: {', '.join(not_made)}.")
    return texts


def create_page(
    config: AnalyzeConfig, sections: Sequence[Section], facts: Mapping[str, str]
) -> Page:
    """Lays the report out."""
    page = Page(
        "What the codes mean",
        f"{config.model} on {config.corpus}",
        footer=f"speechvq {__version__} analyze",
    )
    page.add_heading("Findings")
    for text in describe_findings(sections):
        page.add_paragraph(text)
    page.add_facts(facts)
    for section in sections:
        section.add_to(page)
    page.add_heading("What cannot be concluded")
    for text in dict.fromkeys(text for section in sections for text in section.limits):
        page.add_paragraph(text)
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(asdict(config), ensure_ascii=False, indent=2))
    return page


def write_analysis(
    config: AnalyzeConfig,
    sections: Mapping[str, Section],
    facts: Mapping[str, str],
    numbers: Mapping[str, Any],
) -> None:
    """Writes `report.html`, then `analysis.json` as the sign of completeness.

    Args:
        config: What was analysed.
        sections: By their key in `analysis.json`, in the page's order.
        facts: Shown at the top of the page.
        numbers: JSON values beside the sections.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    create_page(config, list(sections.values()), facts).write(output / REPORT_FILE)
    document = {
        "kind": KIND,
        "version": __version__,
        "config": asdict(config),
        **numbers,
        "findings": describe_findings(list(sections.values())),
        "sections": {
            key: {
                "title": section.title,
                "missing": section.missing,
                "findings": section.findings,
                "warnings": section.warnings,
                "limits": section.limits,
                **section.numbers,
            }
            for key, section in sections.items()
        },
    }
    text = json.dumps(to_plain(document), ensure_ascii=False, indent=2, allow_nan=False)
    temporary = output / f".{ANALYSIS_FILE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(output / ANALYSIS_FILE)


def to_plain(value: Any) -> Any:
    """Returns JSON values; NaN and infinities become null.

    Args:
        value: Dictionaries, lists and plain values.
    """
    if isinstance(value, dict):
        return {str(key): to_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
