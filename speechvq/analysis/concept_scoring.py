"""Scores all codebooks of a pass, place by place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import UTTERANCE_KINDS, ConceptKind, ConceptRow
from speechvq.analysis.concept_null import FramePermuter, IntArray
from speechvq.analysis.concept_pass import ConceptRecord, name_array
from speechvq.analysis.concept_scores import LEFT_OUT, CodePairs, NeuronTable, score_neurons
from speechvq.analysis.concept_search import (
    FloatArray,
    FrameLabels,
    Neurons,
    SearchRules,
    compute_worth,
    search_frames,
)
from speechvq.analysis.concept_seeds import SeedAgreement, match_places
from speechvq.analysis.concept_split import DEV, TEST
from speechvq.analysis.concept_summary import CodebookFacts, describe_codebook, finish_rows
from speechvq.analysis.concept_voices import UtteranceLabels, divide_units, search_utterances
from speechvq.analysis.pitch import name_voices
from speechvq.nn.bottleneck_sites import list_bottlenecks
from speechvq.nn.places import Place

FRAME_KINDS = tuple(kind for kind in ConceptKind if kind not in UTTERANCE_KINDS)


@dataclass
class ConceptFindings:
    """What was found.

    Attributes:
        rows: A row for each codebook and concept.
        nulls: By kind of frames, of each codebook (2, P, L), see `CodebookConcepts`.
        facts: Of each codebook.
        agreement: With the second model, by place.
        any_neurons: By kind of frames and concept the precision on test of the best neuron of all
            layers with codebooks, chosen on dev, at the recall of the concept's best code.
        missing: Why a kind of concept could not be looked for.
        notes: Sentences on how concepts of utterances were divided.
    """

    rows: list[ConceptRow] = field(default_factory=list)
    nulls: dict[ConceptKind, list[FloatArray]] = field(default_factory=dict)
    facts: list[CodebookFacts] = field(default_factory=list)
    agreement: dict[Place, list[SeedAgreement]] = field(default_factory=dict)
    any_neurons: dict[ConceptKind, dict[str, float]] = field(default_factory=dict)
    missing: dict[ConceptKind, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class ConceptScorer:
    """Scores what a pass left.

    Args:
        config: How codes are chosen.
        record: What the pass left.
        sexes: Of speakers, by `<source>/<speaker>` or speaker; None where nobody said.
    """

    def __init__(
        self, config: ConceptsConfig, record: ConceptRecord, sexes: dict[str, str] | None
    ) -> None:
        self._config, self._record = config, record
        self._splits = [record.splits[DEV], record.splits[TEST]]
        self.findings = ConceptFindings()
        self.frame_labels = self._collect_frame_labels()
        self.utterance_labels = self._collect_utterance_labels(sexes)
        self._permuters = tuple(
            FramePermuter(
                np.array(one.lengths, dtype=np.int64), one.languages, 2 * config.seed + place
            )
            for place, one in enumerate(self._splits)
        )
        names = sorted({name for one in self._splits for name in one.languages})
        test = self._splits[1]
        numbers = np.array([names.index(name) for name in test.languages], dtype=np.int64)
        self._test_languages = np.repeat(numbers, test.lengths)

    def score(self, model: nn.Module, note: Callable[[str], None]) -> ConceptFindings:
        """Scores all places.

        Args:
            model: Has the bottlenecks.
            note: Called with what is done next.
        """
        worth: list[float] = []
        bottlenecks = list_bottlenecks(model)
        for number, (place, bottleneck) in enumerate(bottlenecks.items()):
            note(f"codes of {place}, {number + 1} of {len(bottlenecks)} places")
            neurons = self._open_neurons(place.layer)
            arrays = [self._record.get_codes(part, place) for part in (DEV, TEST)]
            for head in range(bottleneck.num_codebooks):
                codes = tuple(np.asarray(one[:, head], dtype=np.int64) for one in arrays)
                size = bottleneck.codebook_size
                worth += self._score_codebook((codes[0], codes[1]), place, head, size, neurons)
            self._match_second(place, bottleneck.codebook_size)
        self.findings.rows = finish_rows(self.findings.rows, worth)
        note("neurons of all layers")
        self._search_all_neurons(sorted({place.layer for place in bottlenecks}))
        return self.findings

    def _search_all_neurons(self, layers: Sequence[int]) -> None:
        best = {(r.kind, r.concept): r for r in self.findings.rows if r.is_best_place}
        worth: dict[tuple[ConceptKind, str], float] = {}
        for layer in layers:
            find = self._open_neurons(layer)
            for one in self.frame_labels:
                tables = find(one.kind)
                if tables is None:
                    continue
                rows = [best[one.kind, name] for name in one.names]
                dev, test = (
                    torch.tensor([getattr(row, key) for row in rows])
                    for key in ("dev_recall", "recall")
                )
                scores = score_neurons(tables[0], tables[1], recalls=(dev, test))
                hits, fired = tables[0].measure(dev, scores.chosen)
                on_dev = (hits / fired.clamp(min=1))[:, 0].tolist()
                found = self.findings.any_neurons.setdefault(one.kind, {})
                for name, own, precision in zip(
                    one.names, on_dev, scores.precision.tolist(), strict=True
                ):
                    if own > worth.get((one.kind, name), -1.0):
                        worth[one.kind, name] = own
                        found[name] = precision

    def _score_codebook(
        self,
        codes: tuple[IntArray, IntArray],
        place: Place,
        head: int,
        num_codes: int,
        neurons: Callable[[ConceptKind], Neurons | None],
    ) -> list[float]:
        config, findings = self._config, self.findings
        found = search_frames(
            codes,
            self.frame_labels,
            place=place,
            head=head,
            num_codes=num_codes,
            rules=SearchRules(
                min_recall=config.min_recall,
                min_support=config.min_support,
                num_permutations=config.num_permutations,
            ),
            permuters=(self._permuters[0], self._permuters[1]),
            neurons=neurons,
        )
        worth: list[float] = compute_worth(
            [row.dev_precision for row in found.rows],
            [row.dev_recall for row in found.rows],
            config.min_recall,
        ).tolist()
        rows, informedness = search_utterances(
            self._compute_shares(codes, num_codes),
            self.utterance_labels,
            place=place,
            head=head,
            num_permutations=config.num_permutations,
            min_utterances=config.min_utterances,
            seed=config.seed,
            neurons=self._open_means(place.layer),
        )
        findings.rows += found.rows + rows
        for kind, null in found.null.items():
            findings.nulls.setdefault(kind, []).append(null.astype(np.float32))
        phones = [one.test for one in self.frame_labels if one.kind is ConceptKind.phone]
        findings.facts.append(
            describe_codebook(
                place,
                head,
                codes,
                num_codes,
                phones[0] if phones else None,
                found.counts.get(ConceptKind.phone),
                self._test_languages,
                min_support=config.min_support,
                seed=config.seed,
            )
        )
        return worth + informedness

    def _collect_frame_labels(self) -> list[FrameLabels]:
        labels = []
        for kind in FRAME_KINDS:
            names = list(self._record.names.get(kind, {}))
            dev, test = (one.join_labels(kind) for one in self._splits)
            if not names or not (dev > LEFT_OUT).any() or not (test > LEFT_OUT).any():
                self.findings.missing[kind] = _WHY_MISSING[kind]
                continue
            labels.append(FrameLabels(kind=kind, names=names, dev=dev, test=test))
        return labels

    def _collect_utterance_labels(self, sexes: dict[str, str] | None) -> list[UtteranceLabels]:
        dev, test = self._splits
        speakers = np.array(
            [
                speaker or name
                for one in self._splits
                for speaker, name in zip(one.speakers, one.utterances, strict=True)
            ],
            dtype=np.str_,
        )
        hertz = np.array([*dev.pitch, *test.pitch], dtype=np.float64)
        named: dict[ConceptKind, list[str]] = {
            ConceptKind.language: [*dev.languages, *test.languages],
            ConceptKind.pitch: name_voices(hertz, speakers).tolist() if len(speakers) else [],
            ConceptKind.sex: [
                (sexes or {}).get(one, (sexes or {}).get(one.rpartition("/")[2], ""))
                for one in speakers.tolist()
            ],
        }
        units = np.unique(speakers, return_inverse=True)[1].reshape(-1)
        is_dev = np.arange(len(speakers)) < len(dev.utterances)
        shared = bool(set(units[is_dev].tolist()) & set(units[~is_dev].tolist()))
        if shared:
            self.findings.notes.append(
                "Dev and test share speakers: for concepts of whole utterances all utterances were "
                "divided anew, by speaker."
            )
        if not all(one for split in self._splits for one in split.speakers):
            self.findings.notes.append(
                "Some speakers are not known: each of their utterances counts as a speaker, and "
                "concepts of whole utterances may be those of speakers."
            )
        labels = []
        for kind in UTTERANCE_KINDS:
            names = sorted({one for one in named[kind] if one})
            if len(names) < 2:
                self.findings.missing[kind] = _WHY_MISSING[kind]
                continue
            numbers = np.array([names.index(one) if one else -1 for one in named[kind]])
            rng = np.random.default_rng(self._config.seed)
            labels.append(
                UtteranceLabels(
                    kind=kind,
                    names=names,
                    labels=numbers,
                    units=units,
                    is_dev=divide_units(numbers, units, rng) if shared else is_dev,
                )
            )
        return labels

    def _compute_shares(self, codes: Sequence[IntArray], num_codes: int) -> FloatArray:
        """(U, V) share of each utterance's frames that have each code."""
        found = []
        for split, own in zip(self._splits, codes, strict=True):
            pairs = CodePairs(torch.from_numpy(own), num_codes)
            lengths = np.array(split.lengths, dtype=np.int64)
            owners = np.repeat(np.arange(len(lengths)), lengths)
            places = owners[pairs.frames] * num_codes + pairs.codes
            counts = np.bincount(places, minlength=len(lengths) * num_codes)
            found.append(counts.reshape(-1, num_codes) / np.maximum(lengths, 1)[:, None])
        return np.concatenate(found)

    def _open_neurons(self, layer: int) -> Callable[[ConceptKind], Neurons | None]:
        """Activations of a layer's neurons by kind; each table is made when it is asked for."""
        labels = {one.kind: one for one in self.frame_labels}

        @cache
        def find(kind: ConceptKind) -> Neurons | None:
            tables = []
            for part, split in zip((DEV, TEST), self._splits, strict=True):
                name = name_array("neurons", part, layer)
                if name not in self._record.spool:
                    return None
                rows = np.concatenate(split.neuron_rows)
                own = (labels[kind].dev if part == DEV else labels[kind].test)[rows]
                known = own > LEFT_OUT
                if not known.any():
                    return None
                activations = np.array(self._record.spool.open(name))[known]
                tables.append(
                    NeuronTable(
                        torch.from_numpy(activations),
                        torch.from_numpy(own[known]),
                        len(labels[kind].names),
                    )
                )
            return tables[0], tables[1]

        return find

    def _open_means(self, layer: int) -> NDArray[np.float32] | None:
        names = [name_array("means", part, layer) for part in (DEV, TEST)]
        if not all(name in self._record.spool for name in names):
            return None
        return np.concatenate([self._record.spool.open(name) for name in names])

    def _match_second(self, place: Place, num_codes: int) -> None:
        if name_array("second", DEV, place.layer, str(place.site)) not in self._record.spool:
            return
        pairs = [
            (
                self._record.get_codes(part, place),
                self._record.get_codes(part, place, of="second"),
            )
            for part in (DEV, TEST)
        ]
        phones = [one for one in self.frame_labels if one.kind is ConceptKind.phone]
        self.findings.agreement[place] = match_places(
            pairs[0],
            pairs[1],
            num_codes=num_codes,
            phones=phones[0].test if phones else None,
            num_phones=len(phones[0].names) if phones else 0,
            seed=self._config.seed,
        )


_WHY_MISSING = {
    ConceptKind.phone: "no frame has a phone: give files with `alignments=`, or a recogniser of "
    "these languages with `recognizer=`, whose alignments need transcripts",
    ConceptKind.letter: "no transcript could be aligned: the model (or `recognizer=`) must be a "
    "recogniser of these languages, and the corpus have transcripts",
    ConceptKind.voicing: "there is no audio",
    ConceptKind.silence: "there is no audio",
    ConceptKind.language: "there is one language only",
    ConceptKind.pitch: "no two kinds of voices were found; pitch is measured by torchaudio, which "
    'comes with `pip install "speechvq[train]"`',
    ConceptKind.sex: "nobody said; give a table with `sex_table=`",
}
