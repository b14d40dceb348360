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
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from docs.measuring import create_parser, write_result
from docs.planted_cases import CASES, HALF, TWIN, Case, Outcome, find_twins, get_studio
from speechvq.analysis.code_table import CodeTable
from speechvq.analysis.sharing_rule import Decision
from speechvq.analysis.table_sections import create_sharing_of_table
from tests.support.planted_worlds import Planted, write_world
from tests.support.spoken_codes import write_acoustic_table
from tests.support.spoken_corpus import (
    OTHER_VOICES,
    PARTS,
    Part,
    SpokenUtterance,
    list_inventories,
    read_utterances,
    speak_corpus,
)

NUM_SENTENCES = 16


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
    (pairs,) = section.numbers["pairs"].values()
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
        source=case.source or get_studio,
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
        cells = list(found.cells)
        if case.world is not None and 0.0 < case.world.shared < 1.0:
            cells[1:3] = [f"in part: {cells[2]}", "–"]
        rows.append([case.name, case.asked, answer, *cells, found.verdict])
        print(rows[-1], flush=True)
    if options.only:
        return
    twins = find_twins(outcomes["audio"])["index"]
    half = next(p for p in outcomes["half"].pairs if tuple(p["languages"]) == HALF)["index"]
    checked = [CASES[key].check(found) for key, found in outcomes.items() if CASES[key].check]
    write_result(
        "26-planted-sharing.json",
        title="Sharing that was planted",
        machine=options.machine,
        command="python -m docs.measure_planted_sharing --work work --machine '…'",
        columns=[
            "shared by languages", "asked", "said so", "pairs: shared / not / undecided",
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
            "mean in each utterance, which takes away a filter, not a band or noise. In audio a "
            "voice is one speaker in all languages that have its source.",
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
