"""Codes for the frames of a corpus, made so that it is known what languages share.

A code is drawn given the phone, the language, the source and the speaker, with the noise of real
codes: each phone has a few codes of its own, some of another phone's and a little of all; each
speaker draws from a distribution of their own around that; the begin and the end of a phone lean
towards its neighbours; and a code often stays for the next frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechvq.analysis.code_table import (
    CodeTable,
    CodeTableWriter,
    UtteranceFrames,
    open_code_table,
)
from speechvq.analysis.divergence import compute_divergence_table
from tests.support.spoken_corpus import SpokenUtterance, list_inventories

Sounds = NDArray[np.float64]
NUM_CODES = 128
_OWN_CODES = 5
_BLEND = 0.3  # towards the neighbour, in the first and the last third of a phone
_STAY = 0.3  # chance of the code of the frame before, within a phone


@dataclass(frozen=True, kw_only=True)
class World:
    """What is planted.

    Attributes:
        shared: Weight of the codes that a phone has in all languages, against those that it has in
            its language alone.
        shared_phones: (language, phone) to whether that phone has the common codes alone.
        exchanges: Whether a language's own codes are those of other phones of it, so that the same
            codes are in use everywhere; else the language has renamed all codes.
        disjoint: Whether languages have own codes that no other language has.
        source: (language, voice) to the recording source.
        source_share: Weight of the codes that a source has for itself.
        concentration: Of the Dirichlet distribution of speakers: the lower, the more they differ.
        same_speakers: Whether a voice is one speaker in all languages, with the same ways.
        means_nothing: Whether codes do not depend on phones.
    """

    shared: float = 1.0
    shared_phones: Callable[[str, str], bool] = lambda language, phone: False
    exchanges: bool = False
    disjoint: bool = False
    source: Callable[[str, int], str] = lambda language, voice: "studio"
    source_share: float = 0.0
    concentration: float = 40.0
    same_speakers: bool = False
    means_nothing: bool = False


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a world is, before speakers, context and sampling.

    Attributes:
        phones: Of each language, sorted.
        sounds: (P, V) by language, P(code | phone).
        means_something: Whether codes depend on phones.
    """

    phones: Mapping[str, list[str]]
    sounds: Mapping[str, Sounds]
    means_something: bool = True

    def is_shared(self, first: str, second: str, phone: str) -> bool:
        """Whether the phone has one and the same codes in both languages."""
        return bool(np.allclose(*(self._find(one, phone) for one in (first, second))))

    def compute_index(self, first: str, second: str, phones: Sequence[str]) -> float:
        """The effect size of the pair without noise: 1 − across / different."""
        rows = [
            np.stack([self._find(language, phone) for phone in phones])
            for language in (first, second)
        ]
        table = compute_divergence_table(*rows)
        size = len(phones)
        different = (table.sum() - np.trace(table)) / (size * (size - 1))
        return float(1 - np.trace(table) / size / different) if different else float("nan")

    def _find(self, language: str, phone: str) -> Sounds:
        return np.asarray(self.sounds[language][self.phones[language].index(phone)])


def plant(world: World, inventories: Mapping[str, list[str]], seed: int) -> Planted:
    """Draws P(code | phone) of each language."""
    rng = np.random.default_rng([seed, 0])
    names = sorted({phone for phones in inventories.values() for phone in phones})
    common = _draw_sounds(len(names), rng)
    if world.means_nothing:
        common[:] = common.mean(0)
    size = NUM_CODES * len(inventories) if world.disjoint else NUM_CODES
    found = {}
    for number, (language, phones) in enumerate(inventories.items()):
        own_rng = np.random.default_rng([seed, 1, number])
        sounds = np.zeros((len(phones), size))
        places = [names.index(phone) for phone in phones]
        if world.disjoint:
            begin = number * NUM_CODES
            sounds[:, begin : begin + NUM_CODES] = common[places]
            found[language] = sounds
            continue
        if world.exchanges:
            own = common[own_rng.permutation(places)]
        else:
            own = common[places][:, own_rng.permutation(NUM_CODES)]
        weights = np.array(
            [1.0 if world.shared_phones(language, one) else world.shared for one in phones]
        )[:, None]
        found[language] = weights * common[places] + (1 - weights) * own
    return Planted(phones=dict(inventories), sounds=found, means_something=not world.means_nothing)


def write_world(
    path: Path, world: World, utterances: Sequence[SpokenUtterance], seed: int
) -> tuple[CodeTable, Planted]:
    """Writes the code table of a world."""
    planted = plant(world, list_inventories(utterances), seed)
    silence = np.random.default_rng([seed, 2]).dirichlet(np.full(NUM_CODES, 0.03))
    speakers: dict[tuple[str, str], _Speaker] = {}
    with CodeTableWriter(path, {"group": 1}) as writer:
        for number, one in enumerate(utterances):
            source = world.source(one.language, one.voice)
            name = f"{source}/v{one.voice}"
            if not world.same_speakers:
                name = f"{source}/{one.language}-v{one.voice}"
            key = (one.language, name)
            if key not in speakers:
                speakers[key] = _Speaker(world, planted, one.language, source, name, silence, seed)
            rng = np.random.default_rng([seed, 3, number])
            codes = speakers[key].draw(one, rng)
            writer.add([create_frames(one, source, name, codes)])
    return open_code_table(path), planted


def create_frames(
    one: SpokenUtterance, source: str, speaker: str, codes: NDArray[np.int64]
) -> UtteranceFrames:
    """Rows of the code table for (T,) codes."""
    return UtteranceFrames(
        utterance=f"{source}/{one.path}",
        language=one.language,
        speaker=speaker,
        source=source,
        recording=one.path,
        times=one.times,
        codes={"group": codes[:, None]},
        phones=one.phones,
    )


class _Speaker:
    """Distributions over codes of one speaker of one language."""

    def __init__(
        self,
        world: World,
        planted: Planted,
        language: str,
        source: str,
        name: str,
        silence: Sounds,
        seed: int,
    ) -> None:
        phones = [*planted.phones[language], "sil"]
        sounds = planted.sounds[language]
        rest = np.zeros((1, sounds.shape[1]))
        rest[0, : len(silence)] = silence
        sounds = np.concatenate([sounds, rest])
        if world.source_share:
            order = np.random.default_rng([seed, 4, *source.encode()]).permutation(sounds.shape[1])
            sounds = (1 - world.source_share) * sounds + world.source_share * sounds[:, order]
        self._rows = {}
        for phone, sound in zip(phones, sounds, strict=True):
            # The same voice has the same ways of a phone in all languages that share its codes.
            rng = np.random.default_rng([seed, 5, *name.encode(), *phone.encode()])
            gamma = rng.gamma(world.concentration * sound + 1e-9)
            self._rows[phone] = gamma / gamma.sum()

    def draw(self, one: SpokenUtterance, rng: np.random.Generator) -> NDArray[np.int64]:
        """(T,) codes."""
        names = [one.phones[place] for place in np.unique(one.places, return_index=True)[1]]
        _, first, index = np.unique(one.places, return_index=True, return_inverse=True)
        lengths = np.bincount(index)
        part = (np.arange(len(index)) - first[index] + 0.5) / lengths[index]  # within the phone
        neighbour = np.where(part < 1 / 3, index - 1, np.where(part > 2 / 3, index + 1, index))
        neighbour = np.clip(neighbour, 0, len(names) - 1)
        chosen = np.where(rng.random(len(index)) < _BLEND, neighbour, index)
        rows = np.stack([self._rows[names[place]].cumsum() for place in chosen])
        codes = (rows < rng.random((len(index), 1)) * rows[:, -1:]).sum(1).astype(np.int64)
        stays = (rng.random(len(index)) < _STAY) & (index == np.roll(index, 1))
        stays[0] = False
        for place in np.flatnonzero(stays):
            codes[place] = codes[place - 1]
        return codes


def _draw_sounds(num_phones: int, rng: np.random.Generator) -> Sounds:
    """(P, V): 70 % a few codes of the phone's own, 20 % another phone's, 10 % any code."""
    own = np.zeros((num_phones, NUM_CODES))
    for row in own:
        row[rng.permutation(NUM_CODES)[:_OWN_CODES]] = rng.dirichlet(np.full(_OWN_CODES, 2.0))
    other = np.roll(own, 1, axis=0)[rng.permutation(num_phones)]
    anything = rng.dirichlet(np.full(NUM_CODES, 1.0))
    return np.asarray(0.7 * own + 0.2 * other + 0.1 * anything)
