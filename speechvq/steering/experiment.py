"""The experiment from beginning to end: dev, alignment, edits, ablations, languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from speechvq.analysis.concept_files import ConceptKind, read_concepts
from speechvq.analysis.forward import release_free_memory
from speechvq.data.audio import decode_flac
from speechvq.data.records import SAMPLE_RATE
from speechvq.errors import DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.nn.code_edits import EditMode
from speechvq.steering.config import SteerConfig
from speechvq.steering.forcing import MadeEdit, make_edits
from speechvq.steering.language import (
    ForcedLanguage,
    explain_missing,
    find_alphabets,
    force_language,
)
from speechvq.steering.material import AlignedUtterance, UtterancePass, load_steerable
from speechvq.steering.necessity import MadeAblation, list_sizes, make_ablations
from speechvq.steering.plan import EditPlanner, PlannedEdit, list_arms
from speechvq.steering.reading import (
    CorpusReader,
    Selection,
    choose_heads,
    create_phones,
    read_rows,
    sum_seconds,
)
from speechvq.steering.recall import find_alphabet
from speechvq.steering.targets import (
    Target,
    check_rows,
    check_split,
    choose_concepts,
    find_letter_labels,
    find_phone_labels,
    order_rows,
)


class Progress(Protocol):
    """Shows how far a run is."""

    def advance(self, count: int, seconds: float) -> None:
        """Notes that so many utterances with so many seconds of audio are done."""
        ...

    def close(self) -> None:
        """Shows the last state."""
        ...


@dataclass
class Experiment:
    """What came out.

    Attributes:
        model: The recogniser, for examples.
        selection: What was read.
        targets: Concepts that were forced, letters and phones.
        skipped: Why others were not, by concept.
        edits: All edits of spans.
        ablations: All ablations.
        languages: All utterances in which a language was forced.
        language_missing: Why none was; "" where some were.
    """

    model: CTCModel
    selection: Selection
    targets: list[Target] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    edits: list[MadeEdit] = field(default_factory=list)
    ablations: list[MadeAblation] = field(default_factory=list)
    languages: list[ForcedLanguage] = field(default_factory=list)
    language_missing: str = ""


def run_experiment(
    config: SteerConfig,
    *,
    device: torch.device,
    create_progress: Callable[[str, float], Progress],
) -> Experiment:
    """Forces concepts in utterances of a corpus.

    Args:
        config: What is forced where.
        device: Where the model runs.
        create_progress: Called with what is done next and the seconds of audio to go through;
            edited copies of an utterance count as audio.

    Returns:
        What came out.

    Raises:
        ModelError: The model is no recogniser with bottlenecks, or lacks a head.
        DataError: Corpus or concepts cannot be used.
    """
    model = load_steerable(config.model, device)
    file = read_concepts(Path(str(config.concepts)), model=Path(config.model))
    check_split(Path(str(config.concepts)), Path(str(config.corpus)), config.split)
    groups = choose_concepts(file, config.kinds, config.concept)
    check_rows(model, [row for rows in groups.values() for row in rows])
    heads = choose_heads(config, model)
    has_phones = any(kind is ConceptKind.phone for kind, _ in groups)
    phones = create_phones(config, device) if has_phones else None
    reader = CorpusReader(config, model, heads, phones)
    for name, split, read in (
        ("dev", config.dev_split, reader.read_dev),
        ("alignment", config.split, reader.read_split),
    ):
        progress = create_progress(name, sum_seconds(config, split, list(heads)))
        for row in read():
            release_free_memory()
            progress.advance(1, row.num_seconds)
        progress.close()
    if not reader.selection.aligned:
        raise DataError(
            f"No transcript of split {config.split!r} fits into the frames of its audio, so there "
            "are no spans: does the text belong to the audio?"
        )
    experiment = Experiment(model=model, selection=reader.selection)
    languages = []
    for (kind, name), rows in groups.items():
        target = Target(kind=kind, name=name, rows=order_rows(rows, config.min_recall))
        if kind is ConceptKind.language:
            languages.append(target)
        else:
            _add_target(experiment, target, sorted(set(heads.values())))
    _Work(config, experiment, languages).run(create_progress)
    return experiment


def _add_target(experiment: Experiment, target: Target, heads: Sequence[str]) -> None:
    """Keeps a concept that some head can write."""
    selection = experiment.selection
    if target.kind is ConceptKind.letter:
        labels = find_letter_labels(experiment.model, heads, target.name)
        reason = "no label of the heads that were used"
    else:
        labels = find_phone_labels(selection.statistics.phone_labels, target.name)
        reason = selection.phones_missing or "no letter has a quarter of its time on dev"
    if not labels:
        experiment.skipped[target.key] = reason
        return
    experiment.targets.append(
        Target(kind=target.kind, name=target.name, rows=target.rows, labels=labels)
    )


class _Work:
    """Everything that is done to the utterances of the split, one after another."""

    def __init__(
        self, config: SteerConfig, experiment: Experiment, languages: Sequence[Target]
    ) -> None:
        self._config, self._experiment = config, experiment
        self._generator = torch.Generator().manual_seed(config.seed)
        self._modes = [EditMode(mode) for mode in config.modes]
        most = min((len(one.rows) for one in experiment.targets), default=0)
        self._num_places = min(config.places or most, most)
        selection = experiment.selection
        self._edits = self._plan_edits()
        self._ablated = self._plan_ablations()
        self._forced = self._plan_languages(languages) if "language" in config.kinds else {}
        self._utterances = [one for one in selection.aligned if self._count_rows(one.utterance.id)]

    def _plan_edits(self) -> dict[str, list[PlannedEdit]]:
        experiment, config = self._experiment, self._config
        planner = EditPlanner(
            experiment.targets,
            experiment.selection.statistics,
            list_arms(self._modes, self._num_places),
            self._generator,
        )
        planned: dict[str, list[PlannedEdit]] = {}
        for target in experiment.targets:
            spans = planner.plan(
                target, experiment.selection.aligned, config.num_spans, config.window
            )
            if not spans:
                experiment.skipped[target.key] = "no span is free of it"
            for edit in (edit for edits in spans for edit in edits):
                planned.setdefault(edit.utterance, []).append(edit)
        return planned

    def _plan_ablations(self) -> dict[str, list[Target]]:
        """By utterance, the targets that are in its reference; at most so many a target."""
        planned: dict[str, list[Target]] = {}
        aligned = self._experiment.selection.aligned
        for target in self._experiment.targets:
            having = [
                one.utterance.id
                for one in aligned
                if one.head in target.labels
                and set(one.labels) & set(target.labels[one.head].tolist())
            ]
            for name in self._draw(having):
                planned.setdefault(name, []).append(target)
        return planned

    def _plan_languages(
        self, languages: Sequence[Target]
    ) -> dict[str, list[tuple[Target, frozenset[int]]]]:
        """By utterance, languages that are forced, with the labels that are theirs alone."""
        experiment = self._experiment
        selection = experiment.selection
        alphabets = {name: find_alphabet(texts) for name, texts in selection.dev_texts.items()}
        planned: dict[str, list[tuple[Target, frozenset[int]]]] = {}
        for source, head in selection.heads.items():
            labels = experiment.model.vocabularies[head].labels
            own = find_alphabets(labels, alphabets, source)
            spoken = [one for one in selection.aligned if one.utterance.language == source]
            for target in languages:
                if target.name in own:
                    for name in self._draw([one.utterance.id for one in spoken]):
                        planned.setdefault(name, []).append((target, own[target.name]))
        if not planned and self._config.concept and not languages:
            experiment.language_missing = "`concept` names no language."
        elif not planned:
            experiment.language_missing = explain_missing(
                {head: experiment.model.vocabularies[head].labels for head in selection.heads},
                [target.name for target in languages],
            )
        return planned

    def _draw(self, names: Sequence[str]) -> list[str]:
        order = torch.randperm(
            len(names), generator=self._generator, dtype=torch.long, device="cpu"
        )
        return [names[number] for number in order[: self._config.num_utterances].tolist()]

    def _count_rows(self, name: str) -> int:
        """Edited copies of an utterance."""
        ablations = sum(
            2 * len(list_sizes(target, self._num_places)) for target in self._ablated.get(name, ())
        )
        languages = 2 * len(self._modes) * len(self._forced.get(name, ()))
        return len(self._edits.get(name, ())) + ablations + languages

    def run(self, create_progress: Callable[[str, float], Progress]) -> None:
        """Makes everything that is planned."""
        by_name = {one.utterance.id: one for one in self._utterances}
        total = sum(
            self._count_rows(name) * one.utterance.num_seconds for name, one in by_name.items()
        )
        progress = create_progress("edits", total)
        heads = self._experiment.selection.heads
        for row in read_rows(self._config, self._config.split, list(heads)):
            aligned = by_name.get(row.id)
            if aligned is None:
                continue
            utterance = UtterancePass(self._experiment.model, decode_flac(row.audio), aligned.head)
            self._run_one(utterance, aligned, _create_advance(progress, row.num_seconds))
            release_free_memory()
        progress.close()

    def _run_one(
        self, utterance: UtterancePass, aligned: AlignedUtterance, advance: Callable[[int], None]
    ) -> None:
        config, experiment, name = self._config, self._experiment, aligned.utterance.id
        frame_samples = experiment.model.frame_samples
        max_rows = max(
            1, int(config.batch_seconds * SAMPLE_RATE / frame_samples / utterance.num_frames)
        )
        experiment.edits += make_edits(
            utterance,
            self._edits.get(name, ()),
            window=config.window,
            off_distance=config.off_distance,
            max_rows=max_rows,
            advance=advance,
        )
        experiment.ablations += make_ablations(
            experiment.model,
            utterance,
            aligned,
            self._ablated.get(name, ()),
            num_places=self._num_places,
            statistics=experiment.selection.statistics,
            generator=self._generator,
            max_rows=max_rows,
            advance=advance,
        )
        experiment.languages += force_language(
            utterance,
            aligned,
            self._forced.get(name, ()),
            modes=self._modes,
            num_places=self._num_places,
            statistics=experiment.selection.statistics,
            generator=self._generator,
            advance=advance,
        )


def _create_advance(progress: Progress, seconds: float) -> Callable[[int], None]:
    return lambda count: progress.advance(count, count * seconds)
