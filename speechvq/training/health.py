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
from speechvq.models.config import Features, RandomProjectionConfig
from speechvq.training.pretrain_config import (
    HealthAction,
    HealthConfig,
    PretrainConfig,
    QuantizerInit,
)

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


def describe_remedies(config: PretrainConfig) -> str:
    """Say in a sentence what helps this run against collapse."""
    remedies = ["lower `optimizer.lr` or lengthen its warm-up"]
    if not isinstance(config.architecture.quantizer, RandomProjectionConfig):
        remedies.insert(0, "raise `architecture.diversity_weight`")
    if config.features is Features.fbank and config.quantizer_init is QuantizerInit.random:
        remedies.append("start with `quantizer_init=kmeans`")
    return f"{', '.join(remedies)}, or choose another `quantizer`."


@dataclass(frozen=True)
class Judgement:
    """What an interval's metrics say.

    Attributes:
        problems: One phrase for each threshold that is passed.
        is_healthy: Whether there is none, and there were frames enough to tell.
        is_alarm: Whether there has been one for as many intervals as `health.patience` says.
    """

    problems: tuple[str, ...]
    is_healthy: bool
    is_alarm: bool


class CodebookHealth:
    """Holds each interval's metrics against the thresholds; on rank 0, which has all ranks' sums.

    The perplexity of an interval with fewer targets than entries is bounded by their number and not
    judged: without other problems such an interval says nothing. What a window said of dead entries
    holds until the next window ends, or an alarm comes.

    Args:
        config: The thresholds.
        codebook_size: V.
    """

    def __init__(self, config: HealthConfig, codebook_size: int) -> None:
        self._config = config
        self._codebook_size = codebook_size
        self._num_in_a_row = 0
        self._dead_codes: list[int] = []

    def judge(self, values: Mapping[str, Any]) -> Judgement:
        """Judge the interval whose readable metrics are `values`."""
        self._dead_codes = values.get("dead_codes") or self._dead_codes
        has_enough = float(values.get("targets", 0)) >= self._codebook_size
        problems = self._find_problems(values, has_enough)
        if problems:
            self._num_in_a_row += 1
        elif has_enough:
            self._num_in_a_row = 0
        is_alarm = self._num_in_a_row >= self._config.patience
        if is_alarm:
            # The next alarm takes as long again, and does not tell of the same window.
            self._num_in_a_row, self._dead_codes = 0, []
        return Judgement(tuple(problems), has_enough and not problems, is_alarm)

    def _find_problems(self, values: Mapping[str, Any], has_enough: bool) -> list[str]:
        problems = []
        equal_share = float(values.get("equal_share") or 0.0)
        if equal_share > self._config.max_equal_share:
            problems.append(
                f"{100 * equal_share:.0f} % of the distractors equal their target (alarm from "
                f"{100 * self._config.max_equal_share:.0f} %)"
            )
        smallest = self._config.min_perplexity_share * self._codebook_size
        perplexities = values["perplexity"] if has_enough else []
        for number, perplexity in enumerate(perplexities, start=1):
            if perplexity < smallest:
                problems.append(
                    f"codebook {number} has a perplexity of {perplexity:.1f} of "
                    f"{self._codebook_size} (alarm below {smallest:.0f})"
                )
        most = self._config.max_dead_share * self._codebook_size
        for number, dead in enumerate(self._dead_codes, start=1):
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
        roll_back: Removes what was saved since the codebook was last healthy, and says what is left
            and what helps; called on rank 0.
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
        if self._agree():
            self._act(step - 1)

    def finish(self, step: int) -> None:
        """Stop after the last step if its interval brought an alarm; called on all ranks.

        Raises:
            TrainingDivergedError: The action is to stop.
        """
        if self._action is HealthAction.stop and self._agree():
            self._act(step)

    def _agree(self) -> bool:
        """Whether rank 0 has an alarm."""
        is_alarm = bool(self._alarm)
        if self._gang.size > 1:
            is_alarm = int(all_sum(self._gang, int(is_alarm))) > 0
        return is_alarm

    def _act(self, step: int) -> None:
        alarm, self._alarm = self._alarm, ""
        match self._action:
            case HealthAction.slow:
                self._slow_down()
            case HealthAction.restart:
                self._restart()
            case HealthAction.stop:
                rest = self._roll_back() if self._gang.rank == 0 else ""
                raise TrainingDivergedError(
                    f"The codebook has collapsed at step {step}: {alarm}. {rest}"
                )
