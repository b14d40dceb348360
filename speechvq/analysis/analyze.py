"""An analysis from beginning to end: code table, then sections, then the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from speechvq.analysis.alignment_files import AlignmentFiles, load_alignments
from speechvq.analysis.attention_section import TITLE as ATTENTION
from speechvq.analysis.attention_section import create_attention_section
from speechvq.analysis.config import AnalyzeConfig, PhoneSourceConfig
from speechvq.analysis.extraction import Extraction, Progress, extract
from speechvq.analysis.frame_times import find_window_samples
from speechvq.analysis.layer_section import TITLE as LAYERS
from speechvq.analysis.layer_section import add_bottlenecks
from speechvq.analysis.letter_phones import LetterPhones
from speechvq.analysis.phone_intervals import PhoneInterval, PhoneSource
from speechvq.analysis.phone_section import create_phone_section
from speechvq.analysis.pitch import can_measure_pitch
from speechvq.analysis.report import (
    REPORT_FILE,
    check_output,
    describe_findings,
    write_analysis,
)
from speechvq.analysis.section import Section, Table
from speechvq.analysis.sharing_rule import SharingRule
from speechvq.analysis.table_sections import create_layers_of_samples, create_sharing_of_table
from speechvq.data.audio import Waveform
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.errors import ConfigError
from speechvq.models.bottlenecks import describe_bottlenecks
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_ctc_model, load_model
from speechvq.models.pretrain_model import PretrainModel
from speechvq.reporting.cells import Cell, Value


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every section is made of.

    Attributes:
        config: The run's.
        model: In evaluation mode, on its device.
        extraction: The code table and what was counted on the way.
        phones: Where phones came from.
    """

    config: AnalyzeConfig
    model: PretrainModel | CTCModel
    extraction: Extraction
    phones: PhoneFinder


@dataclass
class PhoneFinder:
    """Files first, then the recogniser.

    Attributes:
        files: What alignment files say, if there are some.
        recognizer: Aligns what no file names, if there is one.
    """

    files: AlignmentFiles | None = None
    recognizer: LetterPhones | None = None
    sources: list[PhoneSource] = field(init=False)

    def __post_init__(self) -> None:
        self.sources = [one for one in (self.files, self.recognizer) if one is not None]

    def find(self, utterance: Utterance, waveform: Waveform) -> list[PhoneInterval] | None:
        """See `PhoneSource.find`."""
        for source in self.sources:
            found = source.find(utterance, waveform)
            if found is not None:
                return found
        return None


def analyze(
    config: AnalyzeConfig,
    *,
    device: torch.device,
    create_progress: Callable[[float], Progress],
    note: Callable[[str], None],
) -> str:
    """Analyses a model and writes the report.

    Args:
        config: What is analysed on what.
        device: Where the model runs.
        create_progress: Called with the seconds of audio to go through.
        note: Called with what is done next.

    Returns:
        What was found and where the report is, for the terminal.

    Raises:
        ConfigError: The configuration cannot work, or `output` holds something else.
        ModelError: The model cannot be read.
        DataError: Corpus or alignments cannot be read, or nothing is selected.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    check_output(config)
    model = load_model(config.model).eval().to(device)
    phones = create_phone_finder(config, device)
    if config.controls:
        note(f"fitting {' and '.join(config.controls)} codes of MFCC to compare with")
    extraction = extract(config, model, phones=phones, create_progress=create_progress)
    material = Material(config=config, model=model, extraction=extraction, phones=phones)
    sections: dict[str, Section] = {}
    for key, create in PARTS.items():
        note(f"section {len(sections) + 1} of {len(PARTS)}: {key}")
        sections[key] = create(material)
    frames = sum(extraction.num_frames.values())
    numbers: dict[str, Any] = {
        "num_frames": frames,
        "hours": sum(extraction.seconds.values()) / 3600,
        "hours_per_minute": extraction.hours_per_minute,
        "frames_per_second": frames / max(extraction.elapsed_seconds, 1e-9),
    }
    speed = f"{extraction.hours_per_minute:.3g} hours of audio a minute"
    facts = {
        "audio": f"{numbers['hours']:.2f} h in {len(extraction.seconds)} languages",
        "frames": f"{frames:,}",
        "speed": f"{speed} ({numbers['frames_per_second']:,.0f} frames a second)",
    }
    write_analysis(config, sections, facts, numbers)
    lines = describe_findings(list(sections.values()))
    return "\n".join([*lines, speed, f"The report is in {Path(config.output) / REPORT_FILE}"])


def create_phone_finder(config: PhoneSourceConfig, device: torch.device) -> PhoneFinder:
    """Opens the sources of phones that the configuration names."""
    files = recognizer = None
    if config.alignments:
        files = load_alignments(
            config.alignments,
            tier=config.tier,
            phone_map=config.phone_map,
            shift_seconds=config.alignment_shift,
        )
    if config.recognizer is not None:
        model = load_ctc_model(config.recognizer).eval().to(device)
        recognizer = LetterPhones(model, config.min_confidence)
    return PhoneFinder(files, recognizer)


def create_data_section(material: Material) -> Section:
    """What was read, and how alignments fit."""
    extraction, phones = material.extraction, material.phones
    front_end = material.model.encoder.front_end
    hop = 1000 * front_end.frame_samples / SAMPLE_RATE
    offset = 500 * find_window_samples(front_end) / SAMPLE_RATE
    rows: list[list[Cell | Value]] = [
        [
            *(language, extraction.num_utterances[language], extraction.seconds[language] / 3600),
            *(extraction.num_frames[language], extraction.num_labelled[language]),
        ]
        for language in extraction.num_utterances
    ]
    total, labelled = (sum(x.values()) for x in (extraction.num_frames, extraction.num_labelled))
    section = Section(
        title="Data",
        findings=[
            f"{total:,} frames of {sum(extraction.num_utterances.values()):,} utterances in "
            f"{len(rows)} languages; of {labelled:,} ({labelled / max(1, total):.0%}) the phone is "
            "known.",
            f"The centre of frame t lies {hop:g} · t + {offset:g} ms after the begin of its "
            "utterance, and a frame has the phone within which its centre lies.",
        ],
        tables=[
            Table(columns=["language", "utterances", "hours", "frames", "with phone"], rows=rows)
        ],
        numbers={
            "frame_milliseconds": hop,
            "first_centre_milliseconds": offset,
            "utterances_too_short": extraction.num_too_short,
            "layers": extraction.layers,
        },
    )
    section.warnings.extend(extraction.problems)
    if extraction.num_too_short:
        section.warnings.append(
            f"{extraction.num_too_short:,} utterances are shorter than a frame and left out."
        )
    if len(rows) == 1:
        section.limits.append("There is one language: nothing is said about sharing between them.")
    if phones.files is not None:
        counts = phones.files.counts
        section.numbers["alignments"] = counts.to_json(phones.files.num_unmatched)
        section.warnings.extend(_describe_alignments(phones.files))
    if phones.recognizer is not None:
        section.numbers["forced_alignment"] = phones.recognizer.to_json()
        section.findings.extend(_describe_forced(phones.recognizer))
        section.limits.append(
            "Phones that were placed by a recogniser's letters are right to within a letter or so, "
            "and their names are those of the spelling, not of what was said."
        )
    return section


def _describe_alignments(files: AlignmentFiles) -> list[str]:
    counts = files.counts
    texts = []
    if counts.num_unaligned:
        total = counts.num_unaligned + counts.num_utterances
        texts.append(f"No alignment names {counts.num_unaligned:,} of {total:,} utterances.")
    if files.num_unmatched:
        texts.append(
            f"{files.num_unmatched:,} recordings in the alignments are no utterance that was read."
        )
    if counts.num_outside:
        texts.append(
            f"{counts.num_outside:,} labels lie outside of their audio: "
            f"{'; '.join(counts.outside)}. Are they those of other audio?"
        )
    return texts


def _describe_forced(recognizer: LetterPhones) -> list[str]:
    texts = [
        f"{language}: of {one.num_words:,} words that the recogniser aligned, {one.num_kept:,} "
        f"have a confidence of at least {recognizer.min_confidence:g} (mean "
        f"{one.confidence_sum / max(1, one.num_words):.2f})."
        for language, one in sorted(recognizer.counts.items())
    ]
    if recognizer.without_g2p:
        names = ", ".join(sorted(recognizer.without_g2p))
        texts.append(f"There are no rules from letters to phones for {names}.")
    return texts


def create_codes_section(material: Material) -> Section:
    """Codes and phones."""
    model = material.model
    return create_phone_section(
        material.config,
        material.extraction.table,
        model.quantizer if isinstance(model, PretrainModel) else None,
        frame_seconds=model.encoder.front_end.frame_samples / SAMPLE_RATE,
        languages=list(material.extraction.num_utterances),
    )


def create_sharing_part(material: Material) -> Section:
    """Codes shared across languages."""
    extraction = material.extraction
    min_frames = max(SharingRule.min_frames, material.config.min_frames)
    section = create_sharing_of_table(
        extraction.table,
        material.config.seed,
        pitch=extraction.pitch or None,
        rule=SharingRule(min_frames=min_frames),
    )
    if not can_measure_pitch():
        section.limits.append(
            "Low and high voices were not matched: their pitch needs torchaudio, which "
            '`pip install "speechvq[train]"` brings.'
        )
    return section


def create_layer_part(material: Material) -> Section:
    """Layers, from the samples that were kept."""
    config = material.config
    if not config.num_sampled_frames:
        return Section(title=LAYERS, missing="`num_sampled_frames` is 0, so none were kept.")
    section = create_layers_of_samples(Path(config.output), material.extraction.table, config.seed)
    add_bottlenecks(section, describe_bottlenecks(material.model))
    return section


def create_attention_part(material: Material) -> Section:
    """Where attention heads look."""
    watched = material.extraction.attention
    if watched is None:
        return Section(title=ATTENTION, missing="`num_attention_utterances` is 0.")
    hop = material.model.encoder.front_end.frame_samples
    examples = list(watched.examples.values())
    return create_attention_section(
        watched.tally, hop / SAMPLE_RATE, examples, num_too_long=watched.num_too_long
    )


PARTS: dict[str, Callable[[Material], Section]] = {
    "data": create_data_section,
    "phones": create_codes_section,
    "sharing": create_sharing_part,
    "layers": create_layer_part,
    "attention": create_attention_part,
}
"""The sections by their key in `analysis.json`, in the order of the page."""
