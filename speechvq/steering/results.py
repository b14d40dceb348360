"""What stands in `steering.json`: sums by concept and over all, and every edit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechvq import __version__
from speechvq.analysis.concept_files import ConceptKind
from speechvq.analysis.report import to_plain
from speechvq.data.records import SAMPLE_RATE
from speechvq.durable import write_durably
from speechvq.earlier_results import check_earlier_results
from speechvq.models.digest import compute_model_digest
from speechvq.steering.config import SteerConfig
from speechvq.steering.experiment import Experiment
from speechvq.steering.forcing import ArmSummary, MadeEdit, summarize_arms
from speechvq.steering.language import LanguageSummary, summarize_languages
from speechvq.steering.necessity import AblationSummary, MadeAblation, summarize_ablations
from speechvq.steering.plan import ArmKind, CodeSetting
from speechvq.steering.recording import SteeredRecording
from speechvq.steering.targets import Target

KIND = "speechvq-steering"
STEERING_FILE = "steering.json"
REPORT_FILE = "report.html"
_FREE = ("output", "device", "batch_seconds")
"""Keys that change where and how fast, never what is found."""


@dataclass(frozen=True, kw_only=True)
class ConceptResult:
    """What came out for one concept, or for all of a kind.

    Attributes:
        key: "letter:a"; of all, "letter".
        places: Its codebooks with codes, the best first; of all, empty.
        labels: By which it is written; of all, empty.
        num_spans: Spans in which it was forced.
        arms: By arm.
        ablations: By kind and number of codebooks.
    """

    key: str
    places: list[str]
    labels: list[str]
    num_spans: int
    arms: list[ArmSummary]
    ablations: list[AblationSummary]


@dataclass(frozen=True, kw_only=True)
class SteeringResults:
    """Everything that the report shows.

    Attributes:
        all: Over all concepts of a kind, by kind.
        concepts: One by one.
        languages: By language, mode and kind of codes.
        frequency_ratio: How far random codes' frequency was from that of the concept's codes on
            dev: the median of the larger over the smaller; NaN without any.
    """

    all: list[ConceptResult]
    concepts: list[ConceptResult]
    languages: list[LanguageSummary]
    frequency_ratio: float


def check_output(config: SteerConfig) -> None:
    """Refuses an output directory that holds something else.

    Raises:
        ConfigError: It holds steering with another configuration, or other results.
    """
    check_earlier_results(
        Path(config.output) / STEERING_FILE,
        KIND,
        "steering",
        lambda key, now, before: key in _FREE or now == before,
        asdict(config),
    )


def sum_up(config: SteerConfig, experiment: Experiment) -> SteeringResults:
    """Sums up all edits, by concept and over all of a kind."""
    edits: dict[str, list[MadeEdit]] = {}
    for edit in experiment.edits:
        edits.setdefault(edit.planned.target, []).append(edit)
    ablations: dict[str, list[MadeAblation]] = {}
    for ablation in experiment.ablations:
        ablations.setdefault(ablation.target, []).append(ablation)

    def create(key: str, targets: Sequence[Target]) -> ConceptResult:
        one = targets[0] if key == targets[0].key else None
        own = [edit for target in targets for edit in edits.get(target.key, ())]
        return ConceptResult(
            key=key,
            places=[] if one is None else _name_places(one, config.places),
            labels=[] if one is None else _name_labels(experiment, one),
            num_spans=len({(e.planned.target, e.planned.utterance, e.planned.span) for e in own}),
            arms=summarize_arms(own, seed=config.seed),
            ablations=summarize_ablations(
                [made for target in targets for made in ablations.get(target.key, ())],
                seed=config.seed,
            ),
        )

    by_kind: dict[ConceptKind, list[Target]] = {}
    for target in experiment.targets:
        by_kind.setdefault(target.kind, []).append(target)
    return SteeringResults(
        all=[create(kind.value, targets) for kind, targets in by_kind.items()],
        concepts=[create(target.key, [target]) for target in experiment.targets],
        languages=summarize_languages(experiment.languages, seed=config.seed),
        frequency_ratio=_compare_frequencies(experiment),
    )


def _name_places(target: Target, num_places: int) -> list[str]:
    return [f"{row.place} codebook {row.head} code {row.code}" for row in target.rows[:num_places]]


def _name_labels(experiment: Experiment, target: Target) -> list[str]:
    found = {
        experiment.model.vocabularies[head].labels[label]
        for head, labels in target.labels.items()
        for label in labels.tolist()
    }
    return sorted(found)


def _compare_frequencies(experiment: Experiment) -> float:
    counts = experiment.selection.statistics.code_counts

    def count(setting: CodeSetting) -> int:
        return 1 + int(counts[setting.place][setting.head, setting.code])

    own: dict[tuple[Any, ...], list[int]] = {}
    random: dict[tuple[Any, ...], list[int]] = {}
    for made in experiment.edits:
        planned = made.planned
        table = {ArmKind.codes: own, ArmKind.random: random}.get(planned.arm.kind)
        if table is not None and len(planned.settings) == planned.arm.num_places:
            key = (planned.target, planned.utterance, planned.span, planned.arm.num_places)
            table[key] = [count(one) for one in planned.settings]
    ratios = [
        max(first, second) / min(first, second)
        for key, drawn in random.items()
        if key in own
        for first, second in zip(own[key], drawn, strict=True)
    ]
    return float(np.median(ratios)) if ratios else float("nan")


def write_experiment(config: SteerConfig, experiment: Experiment, results: SteeringResults) -> None:
    """Writes `steering.json`."""
    selection = experiment.selection
    _write(
        config,
        {
            "use": "experiment",
            "num_utterances": len(selection.aligned),
            "num_not_aligned": selection.num_failed,
            "dev_frames": selection.statistics.num_frames,
            "frequency_ratio": results.frequency_ratio,
            "skipped": experiment.skipped,
            "language_missing": experiment.language_missing,
            "all": [asdict(one) for one in results.all],
            "concepts": [asdict(one) for one in results.concepts],
            "languages": [asdict(one) for one in results.languages],
            "edits": [_describe_edit(one) for one in experiment.edits],
            "ablations": [asdict(one) for one in experiment.ablations],
            "forced_languages": [asdict(one) for one in experiment.languages],
        },
    )


def _describe_edit(made: MadeEdit) -> dict[str, Any]:
    planned = made.planned
    return {
        "concept": planned.target,
        "utterance": planned.utterance,
        "span": list(planned.span),
        "replaced": planned.replaced,
        "arm": planned.arm.kind.value,
        "mode": planned.arm.mode.value,
        "codes": [[str(one.place), one.head, one.code] for one in planned.settings],
        **asdict(made.measures),
    }


def write_recording(config: SteerConfig, steered: SteeredRecording) -> None:
    """Writes `steering.json` of one recording."""
    texts = steered.model.vocabularies[steered.head].labels
    frames = []
    for log_probs in (steered.before, steered.after):
        best = log_probs.max(-1)
        frames.append(
            [
                [texts[label], round(value, 4)]
                for label, value in zip(
                    best.indices.tolist(), best.values.exp().tolist(), strict=True
                )
            ]
        )
    _write(
        config,
        {
            "use": "recording",
            "language": steered.head,
            "before": steered.texts[0],
            "after": steered.texts[1],
            "edits": [
                {
                    "place": str(edit.place),
                    "head": edit.head,
                    "code": edit.code,
                    "mode": edit.mode.value,
                    "frames": list(edit.span),
                }
                for edit in steered.edits
            ],
            "effect": steered.effect,
            "span_kl": steered.span_kl,
            "off_kl": steered.off_kl,
            "frame_seconds": steered.model.frame_samples / SAMPLE_RATE,
            "best_labels_before": frames[0],
            "best_labels_after": frames[1],
        },
    )


def _write(config: SteerConfig, content: dict[str, Any]) -> None:
    document = {
        "kind": KIND,
        "version": __version__,
        "model_digest": compute_model_digest(config.model),
        "config": asdict(config),
        **content,
    }
    lines = [f"{json.dumps(key)}: {_dump(value)}" for key, value in to_plain(document).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_durably(Path(config.output) / STEERING_FILE, text.encode("utf-8"))


def _dump(value: Any) -> str:
    """JSON; of lists of objects one a line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(_dump_line(one) for one in value) + "\n]"
    return _dump_line(value)


def _dump_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
