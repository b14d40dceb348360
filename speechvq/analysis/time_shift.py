"""Whether codes and alignments fit together in time."""

from __future__ import annotations

import numpy as np

from speechvq.analysis.code_phones import MAKER_NAMES
from speechvq.analysis.code_table import MODEL, CodeTable
from speechvq.analysis.phone_counts import compute_shift_curve, find_peak
from speechvq.analysis.section import Figure, Section
from speechvq.reporting.charts import Series, draw_lines

_SHIFTS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
_CLEARLY_BETTER = 1.05


def add_shift(section: Section, table: CodeTable, frame_seconds: float, error: float) -> None:
    """Moves phones against codes, and warns where that gains more than errors of PNMI explain.

    Args:
        section: Is given the finding, the picture and the warning.
        table: With phones, two of them at least, and codes of the model.
        frame_seconds: From one frame to the next.
        error: Standard error of the PNMI of the model's codes; NaN of one utterance.
    """
    step = 1000 * frame_seconds
    curves = {
        maker: compute_shift_curve(table, table.list_columns(maker), _SHIFTS)
        for maker in table.groups
    }
    section.numbers["shift"] = {"frames": list(_SHIFTS), "pnmi": curves}
    own = curves[MODEL]
    zero, highest = own[_SHIFTS.index(0)], float(np.nanmax([0.0, *own]))
    best = {maker: step * find_peak(_SHIFTS, curve) for maker, curve in curves.items()}
    section.numbers["shift"]["best_milliseconds"] = best
    section.findings.append(
        f"Codes know most about the phone that the alignments name {best[MODEL]:+.0f} ms later."
    )
    if highest > _CLEARLY_BETTER * zero and highest - zero > 1.96 * error:
        rival = best.get("kmeans")
        blame = ""
        if rival is not None:
            alike = abs(rival - best[MODEL]) < step / 2
            blame = (
                f" Codes of MFCC say {rival:+.0f} ms, so it "
                f"{'lies in the alignments' if alike else 'may lie in the model'}."
            )
        section.warnings.append(
            f"PNMI is {zero:.3f} with the alignments as they are and {highest:.3f} when phones are "
            f"taken some {best[MODEL]:.0f} ms later: alignments and audio may be shifted against "
            f"each other.{blame} `alignment_shift={-best[MODEL] / 1000:.3f}` on top of what was "
            "given moves them; find the value on other utterances than those of the result."
        )
    picture = draw_lines(
        [
            Series(name=MAKER_NAMES[maker], x=[step * shift for shift in _SHIFTS], y=curve)
            for maker, curve in curves.items()
        ],
        x_label="phones taken so much later, ms",
        y_label="PNMI, mean over codebooks",
    )
    section.figures.append(
        Figure(picture=picture, caption="How well frames and alignments fit together in time")
    )
