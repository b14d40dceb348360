"""Notices recognisers that say nothing but blank.

CTC begins so: the blank fits every frame a little before any label fits one (Graves et al. 2006;
Zeyer et al. 2021, "Why does CTC result in peaky behavior?"). A run that stays there has collapsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING_BUT_BLANK = 0.99
"""Share of blank frames from which a recogniser says nothing."""

EARLY_STEPS = 50
"""No notice is given before; the first is due within the first hundred steps."""

LATE_SHARE = 0.2
"""Share of a run's steps after which a recogniser that says nothing counts as collapsed."""

ADVICE = (
    "raise `optimizer.lr` or `steps` (a hundred updates at a rate that is too low look like this), "
    "lower `mask_prob`, start from a pretrained `model`, or check that transcripts belong to their "
    "audio"
)


class BlankWatch:
    """Watches the share of blank frames of a run.

    Args:
        num_steps: Steps of the whole run.
    """

    def __init__(self, num_steps: int) -> None:
        self._late_step = max(EARLY_STEPS, round(LATE_SHARE * num_steps))
        self._was_early_said = False
        self._was_late_said = False

    def check(self, step: int, values: Mapping[str, Any]) -> str | None:
        """Return what to tell the user after an interval, or None.

        Args:
            step: Its last step.
            values: Metrics of training: `blank_share`, `loss`.
        """
        share, loss = float(values["blank_share"]), float(values["loss"])
        if share < NOTHING_BUT_BLANK or step < EARLY_STEPS:
            return None
        state = f"at step {step}, {share:.1%} of the frames say blank (loss {loss:.2f})"
        if step >= self._late_step and not self._was_late_said:
            self._was_late_said = True
            return (
                f"warning: {state}: the recogniser has collapsed to the blank. Stop, and {ADVICE}."
            )
        if not self._was_early_said and not self._was_late_said:
            self._was_early_said = True
            return (
                f"note: {state}. CTC begins so; if it is the same at step {self._late_step}, "
                f"{ADVICE}."
            )
        return None


def describe_blanks(lines: list[dict[str, Any]]) -> str | None:
    """Return what a finished run's metrics say of it, for its report; None where all is well."""
    train = [line for line in lines if line["split"] == "train" and "blank_share" in line]
    if not train:
        return None
    if float(train[-1]["blank_share"]) >= NOTHING_BUT_BLANK:
        return (
            f"The run ended with {float(train[-1]['blank_share']):.1%} of the frames blank: it has "
            f"not learned to say anything. To mend that, {ADVICE}."
        )
    silent = [line["step"] for line in train if float(line["blank_share"]) >= NOTHING_BUT_BLANK]
    if not silent or silent[-1] < EARLY_STEPS:
        return None
    return f"Nothing but blank was recognised until about step {silent[-1]}."
