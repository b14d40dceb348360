"""`speechvq concepts` from beginning to end: models, a pass over dev and test, scores, report."""

from __future__ import annotations

import csv
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from speechvq.analysis.analyze import create_phone_finder
from speechvq.analysis.concept_cards import collect_cards
from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import CONCEPTS_FILE, write_concepts
from speechvq.analysis.concept_pass import ConceptPass, Model
from speechvq.analysis.concept_report import (
    CODES_FILE,
    Run,
    check_output,
    write_report,
)
from speechvq.analysis.concept_scoring import ConceptScorer
from speechvq.analysis.concept_split import DEV, TEST, divide_corpus
from speechvq.analysis.concept_spool import Spool, write_codes
from speechvq.analysis.extraction import Progress
from speechvq.errors import ConfigError, DataError
from speechvq.models.bottlenecks import describe_bottlenecks
from speechvq.models.ctc_model import CTCModel
from speechvq.models.digest import compute_model_digest
from speechvq.models.directory import load_model
from speechvq.nn.bottleneck_sites import list_bottlenecks, list_layers

_REMEDY = (
    "`speechvq bottleneck` trains one, and `speechvq.nn.bottleneck_sites.attach_bottleneck` puts "
    "bottlenecks into any model (docs/codebook_features.md)"
)


def find_concepts(
    config: ConceptsConfig,
    *,
    device: torch.device,
    create_progress: Callable[[float], Progress],
    note: Callable[[str], None],
) -> str:
    """Finds what codes stand for and writes the report.

    Args:
        config: What is looked for in what.
        device: Where the models run.
        create_progress: Called with the seconds of audio to go through.
        note: Called with what is done next.

    Returns:
        What was found and where the report is, for the terminal.

    Raises:
        ConfigError: The configuration cannot work, or `output` holds something else.
        ModelError: A model cannot be read.
        DataError: Corpus or alignments cannot be read, or there is too little to divide.
    """
    problems = config.validate()
    if problems:
        raise ConfigError(problems)
    check_output(config)
    begin = time.perf_counter()
    model, dense, second = _load_models(config, device)
    sexes = None if config.sex_table is None else read_sexes(Path(config.sex_table))
    division = divide_corpus(config)
    note(f"{division.count(DEV):,} utterances to choose on, {division.count(TEST):,} to measure on")
    phones = create_phone_finder(config, device)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".concepts.", dir=output))
    spool = Spool(work)
    try:
        record = ConceptPass(
            config,
            model,
            dense=dense,
            second=second,
            phones=phones,
            aligner=phones.recognizer.model if phones.recognizer is not None else None,
            division=division,
            spool=spool,
        ).run(create_progress(division.seconds))
        for part in (DEV, TEST):
            if not record.splits[part].num_frames:
                raise DataError(
                    f"All {division.count(part):,} utterances of the {part} side are shorter than "
                    "a frame; take in longer ones with `dev_split`, `test_split` or `limit`."
                )
        note(f"writing {CODES_FILE}")
        write_codes(
            output / CODES_FILE,
            [
                (
                    record.splits[part].utterances,
                    record.splits[part].lengths,
                    {place: record.get_codes(part, place) for place in list_bottlenecks(model)},
                )
                for part in (DEV, TEST)
            ],
        )
        scorer = ConceptScorer(config, record, sexes)
        findings = scorer.score(model, note)
        digest = compute_model_digest(config.model)
        write_concepts(
            output / CONCEPTS_FILE,
            findings.rows,
            model_digest=digest,
            language=division.languages,
        )
        note("audio of the best codes")
        cards = collect_cards(config, record, scorer, division, model)
        run = Run(
            config=config,
            division=division,
            record=record,
            findings=findings,
            bottlenecks=describe_bottlenecks(model),
            model_digest=digest,
            cards=cards,
            seconds=time.perf_counter() - begin,
        )
        return write_report(run)
    finally:
        spool.close()
        shutil.rmtree(work, ignore_errors=True)


def read_sexes(path: Path) -> dict[str, str]:
    """Reads who is of which sex.

    Args:
        path: Tab-separated with the columns `speaker` and `sex`, and maybe `source`.

    Returns:
        By `<source>/<speaker>`, or by speaker where there is no source.

    Raises:
        DataError: It cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`sex_table`: {path} cannot be read: {error}.") from None
    if not rows or not {"speaker", "sex"} <= set(rows[0]):
        raise DataError(
            f"`sex_table`: {path} must have rows with the columns speaker and sex, between tabs."
        )
    return {
        f"{row['source']}/{row['speaker']}" if row.get("source") else row["speaker"]: row["sex"]
        for row in rows
        if row["speaker"] and row["sex"]
    }


def _load_models(
    config: ConceptsConfig, device: torch.device
) -> tuple[Model, Model | None, Model | None]:
    model = load_model(config.model).eval().to(device)
    shapes = describe_bottlenecks(model)
    if not shapes:
        raise ConfigError(
            [f"`model` must have bottlenecks of codes, but {config.model} has none: {_REMEDY}."]
        )
    others: list[Model | None] = []
    problems = []
    heads = list(model.heads) if isinstance(model, CTCModel) else []
    if config.head is not None and config.head not in heads:
        problems.append(
            f"`head` must be one that `model` has ({', '.join(heads) or 'none'}), but is "
            f"{config.head}."
        )
    for key, path in (("dense", config.dense), ("second", config.second)):
        other = None if path is None else load_model(path).eval().to(device)
        others.append(other)
        if other is None:
            continue
        if key == "dense" and list_bottlenecks(other):
            problems.append(f"`dense` must be a model without bottlenecks, but {path} has some.")
        if key == "second" and describe_bottlenecks(other) != shapes:
            problems.append(
                f"`second` must have the bottlenecks that `model` has, but {path} has others."
            )
        hops = [one.encoder.front_end.frame_samples for one in (model, other)]
        if hops[0] != hops[1] or len(list_layers(model)) != len(list_layers(other)):
            problems.append(
                f"`{key}` must have as many layers and frames as `model`, but {path} has "
                f"{len(list_layers(other))} layers and frames of {hops[1]} samples; `model` has "
                f"{len(list_layers(model))} and {hops[0]}."
            )
    if problems:
        raise ConfigError(problems)
    return model, others[0], others[1]
