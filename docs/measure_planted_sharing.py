"""Measures whether the report on sharing finds what was planted, and nothing else, and writes
`docs/results/26-planted-sharing.json`.

    python -m docs.measure_planted_sharing --work DIRECTORY --machine '…'

espeak-ng speaks eight languages with the same eight voices, so that the time of every phone is
known. Codes are made for these frames so that it is known what languages share
(`tests/support/planted_worlds.py`), and, in the second half, from the audio itself: k-means of
MFCC, with channels put over the recordings. `create_sharing_of_table`, with its own settings, reads
each code table; here is what it said beside what is true.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from docs.measuring import create_parser, write_result
from speechvq.analysis.code_table import CodeTable
from speechvq.analysis.sharing_rule import Decision
from speechvq.analysis.table_sections import create_sharing_of_table
from tests.support.planted_worlds import Planted, World, write_world
from tests.support.spoken_codes import Channel, write_acoustic_table
from tests.support.spoken_corpus import (
    LANGUAGES,
    OTHER_VOICES,
    PARTS,
    Part,
    SpokenUtterance,
    list_inventories,
    read_utterances,
    speak_corpus,
)

NUM_SENTENCES = 16
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


def _get_studio(language: str, voice: int) -> str:
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
    cutoff = 3400.0 + 575.0 * [part.name for part in PARTS].index(language)
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
    "absent, same speakers": Case(
        name="nothing, and the same eight people speak all languages, differing much",
        asked="not shared", check=NOT_SHARED,
        world=World(shared=0.0, concentration=3.0, same_speakers=True),
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
        check=lambda found: _find_twins(found)["decision"] == Decision.SHARED,
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
    "audio, channels, unnamed": Case(
        name="the same, but all said to be of one source", asked="cannot be known",
        channel=_put_channel_by_language,
    ),
    "audio, crossed": Case(
        name="audio, two channels in each language", asked="–",
        channel=_put_crossed_channel, source=_get_crossed_source,
    ),
}  # fmt: skip


def _find_twins(outcome: Outcome) -> Mapping[str, Any]:
    return next(pair for pair in outcome.pairs if set(pair["languages"]) == {TWIN, "deu_Latn"})


def run_case(key: str, work: Path, seed: int) -> Outcome:
    """Make a table and read what the report says, or what it said when this was done before."""
    case = CASES[key]
    kept = work / f"{key.replace(', ', '-').replace(' ', '-')}-{seed}.json"
    if kept.is_file():
        return Outcome(**json.loads(kept.read_text(encoding="utf-8")))
    utterances = read_utterances(work / "corpus")
    if key != "audio":
        utterances = [one for one in utterances if one.language != TWIN]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        table, planted = _write_table(Path(directory) / "t.parquet", case, work, utterances, seed)
        section = create_sharing_of_table(table, seed)
    pairs = section.numbers["pairs"]["codebook 1"]
    verdict = str(section.numbers["source"]["verdict"])
    cells = _describe(pairs, planted)
    for source, found in section.numbers["pairs_within_source"].items():
        values = [pair["index"]["value"] for pair in found]
        verdict += f"; index within {source} {np.nanmean(values):.2f}"
    print(f"{case.name} ({time.perf_counter() - begin:.0f} s): {cells}, {verdict}", flush=True)
    outcome = Outcome(
        pairs=pairs,
        verdict=verdict,
        lines=[section.findings[0], *section.warnings],
        cells=cells,
    )
    kept.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome


def _write_table(
    path: Path, case: Case, work: Path, utterances: Sequence[SpokenUtterance], seed: int
) -> tuple[CodeTable, Planted | None]:
    if case.world is not None:
        return write_world(path, case.world, utterances, seed)
    table = write_acoustic_table(
        path,
        work / "corpus",
        utterances,
        channel=case.channel or (lambda language, voice: None),
        source=case.source or _get_studio,
        seed=seed,
    )
    return table, None


def _describe(pairs: Sequence[Mapping[str, Any]], planted: Planted | None) -> list[str]:
    """Pairs, phones that share, phones that do not, index, index without noise."""
    decided = [str(sum(pair["decision"] == one for pair in pairs)) for one in Decision]
    found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    exact = []
    for pair in pairs:
        measured = [phone for phone in pair["phones"] if math.isfinite(phone["within"])]
        for phone in measured:
            is_shared = None
            if planted is not None and planted.means_something:
                is_shared = planted.is_shared(*pair["languages"], phone["phone"])
            found[is_shared].append(phone["decision"])
        if planted is not None and planted.means_something and measured:
            names = [phone["phone"] for phone in measured]
            exact.append(planted.compute_index(*pair["languages"], names))
    values = np.array([pair["index"]["value"] for pair in pairs])
    known = values[np.isfinite(values)]
    index = f"{known.mean():.2f} ({known.min():.2f} – {known.max():.2f})" if len(known) else "–"
    counts = [_count(found[key], Decision.SHARED) for key in (True, False)]
    if found[None]:
        counts = [_count(found[None], Decision.SHARED), "unknown"]
    return [
        " / ".join(decided), *counts, index, f"{np.mean(exact):.2f}" if exact else "–",
    ]  # fmt: skip


def _count(decisions: Sequence[str], decision: Decision) -> str:
    if not decisions:
        return "–"
    wrong = sum(one == Decision.NOT_SHARED for one in decisions)
    return f"{sum(one == decision for one in decisions)} of {len(decisions)} (not: {wrong})"


def describe_corpus(utterances: Sequence[SpokenUtterance]) -> str:
    """Frames, phones, and phones in common."""
    own = [one for one in utterances if one.language != TWIN]
    phones = {name: set(found) for name, found in list_inventories(own).items()}
    common = {pair: len(phones[pair[0]] & phones[pair[1]]) for pair in combinations(phones, 2)}
    names = ", ".join(f"{'–'.join(pair)} {number}" for pair, number in sorted(common.items()))
    return (
        f"{len(own):,} utterances, {sum(len(one.times) for one in own):,} frames of 20 ms "
        f"({NUM_SENTENCES} sentences for each voice and language, from the demo's word lists). "
        f"Phones of a language: {', '.join(f'{k} {len(v)}' for k, v in phones.items())}. Phones "
        f"that go by one name in both languages, {sum(common.values())} in all: {names}."
    )


def measure(options: argparse.Namespace) -> None:
    """Do everything and write it down."""
    corpus = options.work / "corpus"
    begin = time.perf_counter()
    if not (corpus / "manifest.tsv").is_file():
        twin = Part(name=TWIN, spoken="deu_Latn", voices=OTHER_VOICES, seed=2)
        speak_corpus(
            corpus, [*PARTS, twin], num_sentences=NUM_SENTENCES, num_workers=options.workers
        )
        print(f"spoken in {time.perf_counter() - begin:.0f} s", flush=True)
    keys = [key for key in CASES if not options.only or key in options.only]
    run = partial(run_case, work=options.work, seed=options.seed)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        outcomes = dict(zip(keys, pool.map(run, keys), strict=True))
    rows = []
    for key, found in outcomes.items():
        case = CASES[key]
        answer = "–" if case.check is None else ("yes" if case.check(found) else "NO")
        rows.append([case.name, case.asked, answer, *found.cells, found.verdict])
        print(rows[-1], flush=True)
    if options.only:
        return
    twins = _find_twins(outcomes["audio"])["index"]
    half = next(p for p in outcomes["half"].pairs if tuple(p["languages"]) == HALF)["index"]
    checked = [CASES[key].check(found) for key, found in outcomes.items() if CASES[key].check]
    write_result(
        "26-planted-sharing.json",
        title="26. Sharing that was planted",
        machine=options.machine,
        command="python -m docs.measure_planted_sharing --work work --machine '…'",
        columns=[
            "shared by languages", "asked", "said", "pairs: shared / not / undecided",
            "phones that share, called shared (called not shared)",
            "phones that do not share, called shared (called not shared)",
            "index: mean (lowest – highest pair)", "without noise", "source",
        ],
        rows=rows,
        notes=[
            describe_corpus(read_utterances(corpus)),
            "Codes are drawn given the phone, with a distribution for each speaker, neighbouring "
            "phones at both ends of a phone, and codes that stay; so the index is not exactly that "
            "without noise. 128 codes (8 × 128 where each language has its own). The rule is the "
            "product's: 8 and 8 speakers, 200 bootstrap samples, 95 %, threshold 0.5.",
            f"{'–'.join(HALF)} together, where half is shared: index {half['value']:.2f} "
            f"({half['low']:.2f} – {half['high']:.2f}).",
            "Of audio the truth is not known but for German against German by other voices: index "
            f"{twins['value']:.2f} ({twins['low']:.2f} – {twins['high']:.2f}). MFCCs have zero "
            "mean in each utterance, which takes away a filter, not a band or noise.",
        ],
        headline=[
            {
                "what": "sharing of codes, planted and not planted, in speech with exact phones: "
                "reports that say what is true",
                "figure": f"{sum(checked)} of {len(checked)}",
            }
        ],
    )  # fmt: skip


def main() -> None:
    """Measure."""
    parser = create_parser(__doc__, "work")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of all draws (default: 1)")
    parser.add_argument("--only", nargs="*", default=[], choices=list(CASES), help="some, unsaved")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
