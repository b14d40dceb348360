"""The files of `speechvq concepts`: `report.html`, then `metrics.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechvq import __version__
from speechvq.analysis.concept_cards import CodeCard
from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import CONCEPTS_FILE, ConceptKind
from speechvq.analysis.concept_page import create_page
from speechvq.analysis.concept_pass import ConceptRecord
from speechvq.analysis.concept_scoring import ConceptFindings
from speechvq.analysis.concept_split import DEV, TEST, Division
from speechvq.analysis.concept_summary import summarize_codebooks, summarize_kind
from speechvq.analysis.report import to_plain
from speechvq.earlier_results import check_earlier_results
from speechvq.models.bottlenecks import BottleneckConfig
from speechvq.models.config_json import config_to_json

KIND = "speechvq-concepts"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
CODES_FILE = "codes.parquet"
_FREE = ("output", "batch_seconds", "device", "num_cards")
"""Keys that change where, how fast and what is shown, never what is found."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that came out.

    Attributes:
        config: What was looked for.
        division: The utterances.
        record: What the pass left.
        findings: What was found.
        bottlenecks: Of the model.
        model_digest: Of the model.
        cards: Of the best codes.
        seconds: Time for everything before the report.
    """

    config: ConceptsConfig
    division: Division
    record: ConceptRecord
    findings: ConceptFindings
    bottlenecks: Sequence[BottleneckConfig]
    model_digest: str
    cards: Sequence[CodeCard]
    seconds: float


def check_output(config: ConceptsConfig) -> None:
    """Refuses an output directory that holds something else; the results of the same search go.

    Raises:
        ConfigError: It holds a search with another configuration, or other results.
    """
    file = Path(config.output) / METRICS_FILE
    check_earlier_results(
        file,
        KIND,
        "search for concepts",
        lambda key, now, before: key in _FREE or now == before,
        asdict(config),
    )
    file.unlink(missing_ok=True)


def collect_metrics(run: Run) -> dict[str, Any]:
    """What `metrics.json` holds."""
    findings = run.findings
    kinds = {
        str(kind): summarize_kind(
            kind,
            findings.rows,
            findings.nulls.get(kind, []),
            findings.any_neurons.get(kind, {}),
        )
        for kind in ConceptKind
        if kind not in findings.missing
    }
    agreement = [
        {"layer": place.layer, "site": str(place.site)} | asdict(one)
        for place, found in findings.agreement.items()
        for one in found
    ]
    return {
        "kind": KIND,
        "version": __version__,
        "config": asdict(run.config),
        "model_digest": run.model_digest,
        "bottlenecks": [config_to_json(one) for one in run.bottlenecks],
        "rule": run.division.rule,
        "chosen_on": run.division.chosen_on,
        "speakers_on_both_sides": run.division.num_shared,
        "utterances": {part: run.division.count(part) for part in (DEV, TEST)},
        "utterances_too_short": run.record.num_too_short,
        "frames": {part: run.record.splits[part].num_frames for part in (DEV, TEST)},
        "hours": run.division.seconds / 3600,
        "seconds": run.seconds,
        "missing": {str(kind): reason for kind, reason in findings.missing.items()},
        "kinds": kinds,
        "codebooks": summarize_codebooks(findings.facts),
        "by_codebook": [one.to_json() for one in findings.facts],
        "agreement": agreement or None,
    }


def write_report(run: Run) -> str:
    """Writes `report.html`, then `metrics.json`.

    Returns:
        What was found, for the terminal.
    """
    output = Path(run.config.output)
    metrics = to_plain(collect_metrics(run))
    sentences = describe(metrics)
    page = create_page(run.findings, run.division, run.cards, metrics, sentences)
    page.write(output / REPORT_FILE)
    text = json.dumps(metrics, ensure_ascii=False, indent=2, allow_nan=False)
    temporary = output / f".{METRICS_FILE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(output / METRICS_FILE)
    places = (
        f"The concepts are in {output / CONCEPTS_FILE}, the report is in {output / REPORT_FILE}"
    )
    return "\n".join([*sentences, places])


def describe(metrics: dict[str, Any]) -> list[str]:
    """Sentences on what was found.

    Args:
        metrics: As `collect_metrics` returns them.
    """
    texts = [_describe_kind(kind, one) for kind, one in metrics["kinds"].items()]
    books = metrics["codebooks"]
    used = books["codes"] - books["dead_codes"]
    text = f"Of {books['codes']:,} codes {used:,} are used"
    if books["share_pure"] is not None:
        text += (
            f"; {books['share_pure']:.1%} of the {books['frequent_codes']:,} frequent ones have "
            "one phone in 80 % of their frames"
        )
    if books["best_pnmi"] is not None:
        text += (
            f"; the codebook that knows most of phones has a PNMI of {books['best_pnmi']:.3f} "
            f"({books['best_pnmi_chance']:.3f} by chance)"
        )
    texts.append(f"{text}.")
    if books["codes_same_phone_across_languages"] is not None:
        texts.append(
            f"{books['codes_same_phone_across_languages']:,} codes mean the same phone in all "
            "languages in which they are frequent, "
            f"{books['codes_different_phones_across_languages']:,} unlike ones."
        )
    if metrics["agreement"]:
        found = metrics["agreement"]
        mean = [sum(one[key] for one in found) / len(found) for key in _AGREEMENT]
        text = (
            f"The codes of the second seed, matched on dev, are active together with these in "
            f"{mean[0]:.1%} of the cases (matched at random: {mean[1]:.1%})"
        )
        phones = [one for one in found if one["same_phone"] is not None]
        if phones:
            same, random = (
                sum(one[key] for one in phones) / len(phones)
                for key in ("same_phone", "random_same_phone")
            )
            text += f", and {same:.1%} of them have the same main phone ({random:.1%})"
        texts.append(f"{text}.")
    return texts


_AGREEMENT = ("agreement", "random_agreement")


def _describe_kind(kind: str, one: dict[str, Any]) -> str:
    if not one["measured"]:
        return (
            f"{kind.capitalize()}: all {one['concepts']} concepts are rare, so that nothing is "
            "concluded."
        )
    text = (
        f"{kind.capitalize()}: the best code of a concept has a precision of "
        f"{one['median_precision']:.1%} at a recall of {one['median_recall']:.1%} (medians of "
        f"{one['measured']})"
    )
    others = []
    if one["median_neuron_precision"] is not None:
        others.append(
            f"the best neuron of its layer at the same recall one of "
            f"{one['median_neuron_precision']:.1%}"
        )
    if one["median_any_neuron_precision"] is not None:
        others.append(f"that of any layer one of {one['median_any_neuron_precision']:.1%}")
    if one["median_permuted_precision"] is not None:
        others.append(
            f"codes chosen for permuted labels one of {one['median_permuted_precision']:.1%} "
            f"(p = {one['p']:.3g})"
        )
    if others:
        text += f"; {', '.join(others)}"
    if one["share_precise"] is not None:
        text += (
            f"; {one['share_precise']:.0%} of the concepts have a code of a precision of 50 % or "
            "more at a recall of 10 % or more"
        )
    return f"{text}."
