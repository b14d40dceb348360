"""What `docs/measure_planted_sharing.py` plants, what a report must say of it, whether it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from speechvq.analysis.sharing_rule import Decision
from tests.support.planted_worlds import World
from tests.support.spoken_codes import Channel
from tests.support.spoken_corpus import LANGUAGES

TWIN = "gsw_Latn"
"""By this name German goes once more, with other voices and other sentences."""
HALF = ("deu_Latn", "eng_Latn")
"""Two languages that share half of their phones, where no others share any."""
Check = Callable[["Outcome"], bool]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a report said.

    Attributes:
        pairs: Its pairs of languages.
        verdict: On the source.
        lines: The first finding, the warnings.
        cells: Rest of the table's row.
    """

    pairs: Sequence[Mapping[str, Any]]
    verdict: str
    lines: Sequence[str]
    cells: Sequence[str]

    def count(self, decision: Decision) -> int:
        """Pairs of which it says so."""
        return sum(pair["decision"] == decision for pair in self.pairs)

    def is_flagged(self) -> bool:
        """Whether the doubt about the source is the first that is said."""
        return bool(self.lines[1:]) and self.lines[0].startswith(self.lines[1])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row.

    Attributes:
        name: What is planted.
        asked: What the report must say.
        check: Whether it does; None where there is no truth to check.
        world: Planted codes; None for codes of the audio.
        channel: (language, voice) to the channel.
        source: (language, voice) to the recording source; of the audio.
    """

    name: str
    asked: str
    check: Check | None = None
    world: World | None = None
    channel: Callable[[str, int], Channel | None] | None = None
    source: Callable[[str, int], str] | None = None


def get_studio(language: str, voice: int) -> str:
    """One source for all."""
    return "studio"


def _get_own_source(language: str, voice: int) -> str:
    return f"radio-{language}"


def _get_crossed_source(language: str, voice: int) -> str:
    return ("near", "far")[voice % 2]


def _get_uneven_source(language: str, voice: int) -> str:
    """Half of the languages have six speakers of one source, the others of the other."""
    return ("near", "far")[(voice % 4 == 0) ^ (LANGUAGES.index(language) % 2)]


def _is_half(language: str, phone: str) -> bool:
    return language in HALF and sum(phone.encode()) % 2 == 0


def _is_clean(outcome: Outcome) -> bool:
    return not outcome.lines[1:]


def _all(decision: Decision, outcome: Outcome) -> bool:
    return outcome.count(decision) == len(outcome.pairs) and _is_clean(outcome)


def _none(decision: Decision, outcome: Outcome) -> bool:
    return outcome.count(decision) == 0 and _is_clean(outcome)


def _is_half_found(outcome: Outcome) -> bool:
    """No other pair is shared, and no phone with own codes."""
    others = [pair for pair in outcome.pairs if tuple(pair["languages"]) != HALF]
    return all(pair["decision"] != Decision.SHARED for pair in others) and outcome.cells[
        2
    ].startswith("0 of")


def _flags(outcome: Outcome) -> bool:
    return outcome.is_flagged()


def _noisy(cutoff_hertz: float, name: str) -> Channel:
    return Channel(name=name, cutoff_hertz=cutoff_hertz, snr_db=15.0)


def _filter_by_language(language: str, voice: int) -> Channel:
    return Channel(name=language)


def _put_channel_by_language(language: str, voice: int) -> Channel:
    cutoff = 3400.0 + 575.0 * LANGUAGES.index(language)
    return _noisy(cutoff, language)


def _put_crossed_channel(language: str, voice: int) -> Channel:
    return _noisy((8000.0, 3400.0)[voice % 2], ("near", "far")[voice % 2])


SHARED, NOT_SHARED = partial(_all, Decision.SHARED), partial(_all, Decision.NOT_SHARED)
_OWN_CODES = World(shared=0.0)
CASES = {
    "full": Case(
        name="all phones, all languages", asked="shared", check=SHARED, world=World(),
    ),
    "strong speakers": Case(
        name="the same, speakers differ much", asked="shared", check=SHARED,
        world=World(concentration=3.0),
    ),
    "strong speakers, same": Case(
        name="the same, and the same eight people speak all languages", asked="shared",
        check=SHARED, world=World(concentration=3.0, same_speakers=True),
    ),
    "disjoint": Case(
        name="nothing: each language has codes of its own", asked="not shared", check=NOT_SHARED,
        world=World(shared=0.0, disjoint=True),
    ),
    "renamed": Case(
        name="nothing (weight 0): same 128 codes, renamed in each language", asked="not shared",
        check=NOT_SHARED, world=_OWN_CODES,
    ),
    "exchanged": Case(
        name="nothing: phones of a language have exchanged their codes", asked="not shared",
        check=NOT_SHARED, world=World(shared=0.0, exchanges=True),
    ),
    "nothing": Case(
        name="codes without meaning", asked="never shared, nor not shared",
        check=lambda found: _none(Decision.SHARED, found) and _none(Decision.NOT_SHARED, found),
        world=World(means_nothing=True),
    ),
    "0.25": Case(
        name="weight 0.25 of common codes", asked="not shared", check=NOT_SHARED,
        world=World(shared=0.25),
    ),
    "0.5": Case(
        name="weight 0.5", asked="no pair shared (at the threshold)",
        check=partial(_none, Decision.SHARED), world=World(shared=0.5),
    ),
    "0.5, same speakers": Case(
        name="weight 0.5, same eight people, differing much",
        asked="no pair shared (at the threshold)", check=partial(_none, Decision.SHARED),
        world=World(shared=0.5, concentration=3.0, same_speakers=True),
    ),
    "0.75": Case(
        name="weight 0.75", asked="shared", check=SHARED, world=World(shared=0.75),
    ),
    "half": Case(
        name=f"half of the phones of {'–'.join(HALF)}, else nothing",
        asked="those phones shared, no others", check=_is_half_found,
        world=World(shared=0.0, shared_phones=_is_half),
    ),
    "confounded": Case(
        name="all; each language has a source that changes half of the codes",
        asked="doubt in the first words", check=_flags,
        world=World(source=_get_own_source, source_share=0.5),
    ),
    "confounded, absent": Case(
        name="nothing; each language has a source, which changes nothing",
        asked="doubt in the first words", check=_flags,
        world=World(shared=0.0, source=_get_own_source),
    ),
    "crossed": Case(
        name="all; two sources in each language that change half of the codes",
        asked="doubt in the first words", check=_flags,
        world=World(source=_get_crossed_source, source_share=0.5),
    ),
    "uneven": Case(
        name="all; two sources that change half of the codes, six and two speakers of either "
        "language", asked="doubt in the first words", check=_flags,
        world=World(source=_get_uneven_source, source_share=0.5),
    ),
    "crossed, idle": Case(
        name="all; two sources in each language that change nothing", asked="shared, no doubt",
        check=SHARED, world=World(source=_get_crossed_source),
    ),
    "crossed, absent": Case(
        name="nothing; two sources in each language that change nothing",
        asked="not shared, language before source", check=NOT_SHARED,
        world=World(shared=0.0, source=_get_crossed_source),
    ),
    "audio": Case(
        name=f"audio; {TWIN} is German again, by other voices", asked=f"{TWIN}–deu_Latn shared",
        check=lambda found: find_twins(found)["decision"] == Decision.SHARED,
    ),
    "audio, filters": Case(
        name="audio, each language through a filter of its own", asked="doubt in the first words",
        check=_flags, channel=_filter_by_language, source=_get_own_source,
    ),
    "audio, channels": Case(
        name="audio, each language through a channel (filter, band, noise) of its own",
        asked="doubt in the first words", check=_flags,
        channel=_put_channel_by_language, source=_get_own_source,
    ),
    "audio, crossed": Case(
        name="audio, two channels in each language", asked="–",
        channel=_put_crossed_channel, source=_get_crossed_source,
    ),
}  # fmt: skip


def find_twins(outcome: Outcome) -> Mapping[str, Any]:
    """The pair of German and German."""
    return next(pair for pair in outcome.pairs if set(pair["languages"]) == {TWIN, "deu_Latn"})
