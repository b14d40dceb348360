"""What a run's page says of its bottlenecks of codes."""

from __future__ import annotations

from typing import Any

from speechvq.reporting.page import Page

COLLAPSED_RATIO = 1.5
"""A codebook of which every frame has the same k codes has perplexity k; up to so many times k, it
says next to nothing."""

_COLUMNS = (
    ("used_codes", "codes chosen"),
    ("perplexity", "perplexity"),
    ("error", "square distance"),
    ("input_norm", "length of inputs"),
    ("output_norm", "of means of codes"),
    ("code_norm", "of codes"),
)


def add_bottlenecks(page: Page, lines: list[dict[str, Any]]) -> None:
    """Add a row for each codebook, of the last interval of training.

    Args:
        page: The page.
        lines: What `metrics.jsonl` holds; without bottlenecks nothing is added.
    """
    train = [line for line in lines if line["split"] == "train" and line.get("bottlenecks")]
    if not train:
        return
    bottlenecks = train[-1]["bottlenecks"]
    rows = [
        [f"{place} {number}", *(own[key][number] for key, _ in _COLUMNS)]
        for place, own in bottlenecks.items()
        for number in range(len(own["perplexity"]))
    ]
    page.add_heading("Codebooks")
    limit = COLLAPSED_RATIO * train[-1]["num_active"]
    collapsed = [str(name) for name, _, perplexity, *_ in rows if perplexity <= limit]
    if collapsed:
        page.add_paragraph(
            f"{len(collapsed)} of {len(rows)} codebooks have nearly the same codes in every frame: "
            f"{', '.join(collapsed)}. More codes do not help there; a larger `kmeans_frames`, a "
            "smaller `optimizer.lr` or other `layers` may.",
            tone="warning",
        )
    with page.section(f"Each of {len(rows)} codebooks", open=len(rows) <= 40):
        page.add_table(
            ["codebook", *(name for _, name in _COLUMNS)],
            rows,
            caption=f"Training data of the last interval, up to step {train[-1]['step']}.",
        )
