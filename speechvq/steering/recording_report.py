"""The page of one recording whose codes were switched."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from speechvq import __version__
from speechvq.data.audio import encode_flac
from speechvq.data.records import SAMPLE_RATE
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.page import Page
from speechvq.steering.config import SteerConfig
from speechvq.steering.pictures import draw_edit
from speechvq.steering.recording import SteeredRecording
from speechvq.steering.results import REPORT_FILE, write_recording


def write_recording_report(config: SteerConfig, steered: SteeredRecording) -> str:
    """Writes `report.html`, then `steering.json` as the sign of completeness.

    Returns:
        Both texts, for the terminal.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    tag = steered.head.replace("_", "-")
    page = Page(
        "A recording with switched codes",
        f"{config.audio}, {config.model}",
        footer=f"speechvq {__version__} steer",
    )
    page.add_heading("Before and after")
    page.add_audio(encode_flac(steered.waveform))
    page.add_paragraph("Words before the edits above, after them below.", tone="note")
    page.add_alignment(steered.pairs, language=tag)
    picture, rows = draw_edit(
        steered.model,
        steered.waveform,
        steered.head,
        (steered.before, steered.after),
        steered.spans,
        steered.labels,
    )
    page.add_figure(
        picture,
        caption=f"Posteriors; the span lies between the lines. Rows: {' · '.join(rows)}",
        alt="Posteriors before and after the edits",
    )
    page.add_facts(
        {
            "effect on the concept's label, nats": _number(steered.effect),
            "KL in the span, nats a frame": _number(steered.span_kl),
            f"KL more than {config.off_distance} frames from it": _number(steered.off_kl),
        }
    )
    hop = steered.model.frame_samples / SAMPLE_RATE
    page.add_heading("Edits")
    page.add_table(
        ["place", "codebook", "code", "mode", "frames", "seconds"],
        [
            [
                *(str(edit.place), edit.head, "all" if edit.code is None else str(edit.code)),
                *(str(edit.mode), f"{edit.span[0]} to {edit.span[1] - 1}"),
                f"{edit.span[0] * hop:.2f} to {edit.span[1] * hop:.2f}",
            ]
            for edit in steered.edits
        ],
    )
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(asdict(config), ensure_ascii=False, indent=2))
    page.write(output / REPORT_FILE)
    write_recording(config, steered)
    return f"{steered.describe()}\nThe report is in {output / REPORT_FILE}"


def _number(value: float) -> Cell | Value:
    return None if math.isnan(value) else Cell(value=value, text=f"{value:.3g}")
