"""Edits that the report shows: posteriors before and after, texts, audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechvq.data.audio import Waveform, decode_flac, encode_flac
from speechvq.decoding.alignment import Pair, Unit, align
from speechvq.nn.code_edits import EditMode
from speechvq.steering.config import SteerConfig
from speechvq.steering.experiment import Experiment
from speechvq.steering.forcing import MadeEdit
from speechvq.steering.material import UtterancePass
from speechvq.steering.measures import collapse, widen
from speechvq.steering.pictures import draw_edit
from speechvq.steering.plan import ArmKind
from speechvq.steering.reading import read_rows


@dataclass(frozen=True, kw_only=True)
class Example:
    """One edit to look at and to listen to.

    Attributes:
        made: The edit.
        language: Of the utterance.
        picture: SVG of posteriors.
        row_labels: What its rows are.
        texts: Before and after.
        audio: FLAC.
    """

    made: MadeEdit
    language: str
    picture: str
    row_labels: list[str]
    texts: tuple[str, str]
    audio: bytes

    @property
    def pairs(self) -> list[Pair]:
        """Words before and after, aligned."""
        before, after = self.texts
        return align(before, after, Unit.WORD)


def choose_examples(made: Sequence[MadeEdit], number: int) -> list[MadeEdit]:
    """Edits by a concept's codes in all places, in all slots where that was done, spread evenly
    over their effects.

    The edit of the largest effect is among them, and so is the one of the least: what works and
    what does not.

    Args:
        made: All edits.
        number: How many.
    """
    most = max((one.planned.arm.num_places for one in made), default=0)
    modes = [one.planned.arm.mode for one in made]
    strongest = EditMode.all if EditMode.all in modes else next(iter(modes), None)
    pool = [
        one
        for one in made
        if one.planned.arm.kind is ArmKind.codes
        and one.planned.arm.num_places == most
        and one.planned.arm.mode is strongest
    ]
    pool.sort(key=lambda one: (-one.measures.success, -one.measures.effect, one.planned.target))
    count = min(number, len(pool))
    if count < 2:
        return pool[:count]
    return [pool[round(index * (len(pool) - 1) / (count - 1))] for index in range(count)]


def create_examples(config: SteerConfig, experiment: Experiment) -> list[Example]:
    """Makes the chosen edits once more and draws them."""
    chosen: dict[str, list[MadeEdit]] = {}
    for made in choose_examples(experiment.edits, config.num_examples):
        chosen.setdefault(made.planned.utterance, []).append(made)
    aligned = {one.utterance.id: one for one in experiment.selection.aligned}
    examples = []
    heads = experiment.selection.heads
    for row in read_rows(config, config.split, list(heads)) if chosen else ():
        for made in chosen.get(row.id, ()):
            waveform: Waveform = decode_flac(row.audio)
            head = aligned[row.id].head
            utterance = UtterancePass(experiment.model, waveform, head)
            patch = widen(made.planned.span, config.window, utterance.num_frames)
            after = utterance.run(1, made.planned.create_edits(0, patch))[0]
            picture, row_labels = draw_edit(
                experiment.model,
                waveform,
                head,
                (utterance.log_probs, after),
                [patch],
                made.planned.labels.tolist(),
            )
            vocabulary = experiment.model.vocabularies[head]
            before_text, after_text = (
                vocabulary.decode(collapse(one.argmax(-1))) for one in (utterance.log_probs, after)
            )
            examples.append(
                Example(
                    made=made,
                    language=row.language,
                    picture=picture,
                    row_labels=row_labels,
                    texts=(before_text, after_text),
                    audio=encode_flac(waveform),
                )
            )
    return sorted(examples, key=lambda one: -one.made.measures.effect)
