"""A recogniser whose codes write exactly one label each, a tiny one on noise, and its corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from speechvq.analysis.concept_files import ConceptKind, write_concepts
from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import SAMPLE_RATE, Utterance
from speechvq.models.build import create_ctc_model
from speechvq.models.ctc_model import CTCModel
from speechvq.models.digest import compute_model_digest
from speechvq.models.directory import save_model
from speechvq.models.vocabulary import build_character_vocabulary
from speechvq.nn.bottleneck_sites import attach_bottleneck, list_bottlenecks
from speechvq.nn.places import Place, Site
from tests.support.steering import (
    STRENGTH,
    TEXTS,
    NoPositions,
    SpelledFrontEnd,
    create_config,
    create_row,
)


@pytest.fixture
def planted() -> CTCModel:
    """Frames pick code n where label n is spelled; code n adds 5 to logit n, code 7 to none.

    Nothing else reaches the logits, and no frame knows of any other.
    """
    torch.manual_seed(0)
    model = create_ctc_model(create_config(1), {"x": build_character_vocabulary(["abcd"])}).eval()
    encoder, layer = model.encoder, model.encoder.transformer.layers[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        encoder.front_end = SpelledFrontEnd()
        encoder.positions = NoPositions()
        encoder.projection = nn.Linear(8, 16)
        encoder.projection.weight.copy_(10 * torch.eye(16)[:, 8:])
        encoder.projection.bias.zero_()
        encoder.transformer.norm = nn.Identity()
        layer.feed_forward_norm.weight.fill_(1.0)
        layer.feed_forward.input.weight.copy_(torch.eye(16))
        layer.feed_forward.output.weight.copy_(torch.eye(16)[:, [*range(8, 16), *range(8)]])
        layer.feed_forward.output.weight[8:] = 0.0
        model.heads["x"].weight.copy_(torch.eye(16)[:7])
        place = Place(0, Site.feed_forward)
        one = attach_bottleneck(model, place, codebook_size=8, num_active=1)
        one.codebooks.copy_(STRENGTH * torch.eye(16)[None, :8])
    return model.eval()


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory) -> Path:
    """A recogniser with one head for both alphabets, codes of both sites, and `concepts.json`."""
    torch.manual_seed(3)
    model = create_ctc_model(create_config(), {"joint": build_character_vocabulary(["abकख"])})
    for place in (Place(0, Site.heads), Place(1, Site.feed_forward)):
        attach_bottleneck(model, place, codebook_size=12, num_active=2)
    directory = tmp_path_factory.mktemp("steering") / "model"
    save_model(directory, model)
    rows = [
        create_row(kind, name, place, head, number, (number, 11))
        for kind, names in (
            (ConceptKind.letter, "abकख"),
            (ConceptKind.phone, ("A", "unheard")),
            (ConceptKind.language, TEXTS),
        )
        for number, name in enumerate(names)
        for place, one in list_bottlenecks(model).items()
        for head in range(one.num_codebooks)
    ]
    write_concepts(
        directory.parent / "concepts.json",
        rows,
        model_digest=compute_model_digest(directory),
        language=list(TEXTS),
    )
    return directory


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Two utterances of each language in dev and in test; `phones.tsv` beside it for dev."""
    directory = tmp_path_factory.mktemp("corpus") / "corpus"
    rows = ["path\tphone\tstart_seconds\tend_seconds"]
    with CorpusWriter(directory, normalizer="basic-1") as writer:
        for split in ("dev", "test"):
            for language, text in TEXTS.items():
                for number in range(2):
                    rng = np.random.default_rng(number)
                    waveform = rng.normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
                    path = f"{split}/{language}-{number}.flac"
                    writer.add(
                        Utterance(
                            id=f"noise/{path}",
                            language=language,
                            split=split,
                            audio=encode_flac(waveform),
                            num_samples=len(waveform),
                            text=text,
                            source="noise",
                            recording=path,
                            path=path,
                        )
                    )
                    if split == "dev":
                        rows.append(f"{path}\tA\t0.0\t1.0")
    (directory.parent / "phones.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return directory
