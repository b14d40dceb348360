"""What a run really heard of each language, beside what its sampling was to give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.order import compute_language_shares


def summarize_sampling(
    lines: Sequence[dict[str, Any]], index: CorpusIndex, alpha: float
) -> dict[str, dict[str, float]]:
    """Sum up what the intervals of a run heard.

    Args:
        lines: Of `metrics.jsonl`.
        index: The training utterances.
        alpha: Exponent of the sampling: p ∝ hours^alpha.

    Returns:
        Language → `hours` in the corpus, its `share`; `planned_share` and `heard_share` of the
        audio that was heard, `heard_hours` after cropping, and `passes` over the language.
    """
    hours = index.hours_by_language()
    codes = [code for code, value in hours.items() if value > 0]
    held = np.array([hours[code] for code in codes])
    planned = compute_language_shares(held, alpha)
    heard = np.zeros(len(codes))
    for line in lines:
        if line["split"] == "train":
            for number, code in enumerate(codes):
                heard[number] += line.get("languages", {}).get(code, {}).get("seconds", 0.0) / 3600
    shares = heard / max(heard.sum(), 1e-9)
    return {
        code: {
            "hours": round(float(held[number]), 6),
            "share": round(float(held[number] / held.sum()), 6),
            "planned_share": round(float(planned[number]), 6),
            "heard_share": round(float(shares[number]), 6),
            "heard_hours": round(float(heard[number]), 6),
            "passes": round(float(heard[number] / held[number]), 4),
        }
        for number, code in enumerate(codes)
    }
