"""Evaluations in a model card: the table that people read, and the `model-index` that Hugging Face
reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = ("language", "split", "utterances", "hours", "WER %", "CER %", "decoder", "normaliser")
_NAMES = {"wer": "WER", "cer": "CER"}


def describe_evaluations(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of the table, with 95 % intervals.

    Args:
        evaluations: What `evaluate` wrote as metrics.json.
    """
    rows = [
        [language, str(metrics["config"]["split"]), str(part["num_utterances"]),
         f"{part['hours']:.2f}", _format_rate(part, "wer"), _format_rate(part, "cer"),
         str(metrics["decoder"]), f"`{metrics['normalizer']}`"]
        for metrics in evaluations
        for language, part in sorted(metrics["languages"].items())
    ]  # fmt: skip
    if not rows:
        return []
    return [
        "## Results",
        "",
        f"| {' | '.join(_HEAD)} |",
        "|" + "---|" * len(_HEAD),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "In brackets: 95 % intervals, percentile bootstrap over utterances.",
        "",
    ]


def list_index_results(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the entries of `model-index`, an evaluation and language each, as lines of YAML.

    Args:
        evaluations: What `evaluate` wrote as metrics.json.
    """
    lines = []
    for metrics in evaluations:
        split = str(metrics["config"]["split"])
        for language, part in sorted(metrics["languages"].items()):
            rates = [(key, part[key]) for key in _NAMES if part.get(key) is not None]
            if not rates:
                continue
            lines += [
                "  - task:",
                "      type: automatic-speech-recognition",
                "    dataset:",
                f"      name: {json.dumps(f'{language}, {split}', ensure_ascii=False)}",
                f"      type: {json.dumps(str(metrics['test_set_digest'])[:12])}",
                f"      split: {json.dumps(split)}",
                "    metrics:",
            ]
            for key, rate in rates:
                lines += [
                    f"    - type: {key}",
                    f"      value: {100 * rate:.2f}",
                    f"      name: {json.dumps(f'{_NAMES[key]} %')}",
                ]
    return lines


def _format_rate(part: Mapping[str, Any], name: str) -> str:
    rate, interval = part.get(name), part.get(f"{name}_interval")
    if rate is None:
        return "–"
    if interval is None:
        return f"{100 * rate:.1f}"
    return f"{100 * rate:.1f} ({100 * interval[0]:.1f} – {100 * interval[1]:.1f})"
