"""Notices a codebook that collapses, and does what the configuration says about it.

A collapsed codebook makes the contrastive task trivial: where distractors that equal the target are
left out, loss and accuracy look like success. The codes themselves tell the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairseq2.gang import Gang, all_sum
from torch import Tensor

from speechvq.errors import TrainingDivergedError
from speechvq.training.config import HealthAction, HealthConfig

ADVICE = (
    "Raise `architecture.diversity_weight`, lower `optimizer.lr` or lengthen its warm-up, start "
    "with `quantizer_init=kmeans`, or choose another `quantizer`."
)
"""What helps against collapse."""


WINDOW_FRAMES = 20
"""Frames per entry over which an entry that was never chosen counts as dead (METHODS: A.3)."""


class CodeWindow:
    """Counts codes over consecutive intervals until there are enough frames to call entries dead.

    A resumed run begins a new window.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, counts: Tensor) -> tuple[list[int], int] | None:
        """Add an interval.

        Args:
            counts: How often each entry was chosen (G, V).

        Returns:
            Entries of each codebook that no frame of the window chose, and the window's frames,
            when it has at least `WINDOW_FRAMES` × V; the next interval begins a new one.
        """
        self._counts = counts if self._counts is None else self._counts + counts
        num_frames = int(self._counts[0].sum())
        if num_frames < WINDOW_FRAMES * counts.shape[1]:
            return None
        dead = (self._counts == 0).sum(-1).tolist()
        self._counts = None
        return dead, num_frames


@dataclass(frozen=True)
class Judgement:
    """What an interval's metrics say.

    Attributes:
        problems: One phrase for each threshold that is passed; empty when all is well.
        is_alarm: Whether it has been so for as many intervals as `health.patience` says.
    """

    problems: tuple[str, ...]
    is_alarm: bool


class CodebookHealth:
    """Holds each interval's metrics against the thresholds; on rank 0, which has all ranks' sums.

    An interval with fewer targets than entries is not judged: its perplexity is bounded by their
    number.

    Args:
        config: The thresholds.
        codebook_size: V.
    """

    def __init__(self, config: HealthConfig, codebook_size: int) -> None:
        self._config = config
        self._codebook_size = codebook_size
        self._num_in_a_row = 0

    def judge(self, values: Mapping[str, Any]) -> Judgement:
        """Judge the interval whose readable metrics are `values`."""
        if float(values.get("targets", 0)) < self._codebook_size:
            return Judgement((), False)
        problems = self._find_problems(values)
        self._num_in_a_row = self._num_in_a_row + 1 if problems else 0
        is_alarm = self._num_in_a_row >= self._config.patience
        if is_alarm:
            self._num_in_a_row = 0  # the next alarm takes as long again
        return Judgement(tuple(problems), is_alarm)

    def _find_problems(self, values: Mapping[str, Any]) -> list[str]:
        problems = []
        equal_share = float(values["equal_share"])
        if equal_share > self._config.max_equal_share:
            problems.append(
                f"{100 * equal_share:.0f} % of the distractors equal their target (alarm from "
                f"{100 * self._config.max_equal_share:.0f} %)"
            )
        smallest = self._config.min_perplexity_share * self._codebook_size
        for number, perplexity in enumerate(values["perplexity"], start=1):
            if perplexity < smallest:
                problems.append(
                    f"codebook {number} has a perplexity of {perplexity:.1f} of "
                    f"{self._codebook_size} (alarm below {smallest:.0f})"
                )
        most = self._config.max_dead_share * self._codebook_size
        for number, dead in enumerate(values.get("dead_codes", []), start=1):
            if dead > most:
                problems.append(
                    f"{dead} of the {self._codebook_size} entries of codebook {number} are dead "
                    f"(alarm above {most:.0f})"
                )
        return problems


class HealthGuard:
    """Takes alarms from rank 0 to all ranks, and acts on them there.

    Args:
        gang: All ranks.
        action: What to do.
        log_every: Steps between metrics: an alarm can only come right after them.
        slow_down: Halves the learning rate; called on all ranks.
        restart: Restarts unused entries; called on all ranks.
        roll_back: Removes what was saved since the codebook was last healthy and says where that
            was; called on rank 0.
    """

    def __init__(
        self,
        gang: Gang,
        action: HealthAction,
        log_every: int,
        *,
        slow_down: Callable[[], None],
        restart: Callable[[], None],
        roll_back: Callable[[], str],
    ) -> None:
        self._gang = gang
        self._action = action
        self._log_every = log_every
        self._slow_down = slow_down
        self._restart = restart
        self._roll_back = roll_back
        self._alarm = ""

    def raise_alarm(self, problems: tuple[str, ...]) -> None:
        """Ask for the action at the next step; on rank 0."""
        self._alarm = "; ".join(problems)

    def check(self, step: int) -> None:
        """Act if there is an alarm; called once at the start of every step, on all ranks.

        Raises:
            TrainingDivergedError: The action is to stop.
        """
        if self._action is HealthAction.warn or (step - 1) % self._log_every:
            return
        is_alarm = bool(self._alarm)
        if self._gang.size > 1:
            is_alarm = int(all_sum(self._gang, int(is_alarm))) > 0
        if not is_alarm:
            return
        alarm, self._alarm = self._alarm, ""
        match self._action:
            case HealthAction.slow:
                self._slow_down()
            case HealthAction.restart:
                self._restart()
            case HealthAction.stop:
                place = self._roll_back() if self._gang.rank == 0 else ""
                raise TrainingDivergedError(
                    f"The codebook has collapsed at step {step - 1}: {alarm}. {place} {ADVICE}"
                )
