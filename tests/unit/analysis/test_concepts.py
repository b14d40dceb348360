"""From a corpus and a model with bottlenecks to concepts and report; what is said of mistakes."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from speechvq.analysis.alignment_files import load_alignments
from speechvq.analysis.concept_config import ConceptsConfig
from speechvq.analysis.concept_files import ConceptKind, read_concepts
from speechvq.analysis.concept_split import divide_corpus
from speechvq.analysis.concepts import find_concepts, read_sexes
from speechvq.analysis.frame_times import compute_frame_times
from speechvq.analysis.letter_frames import align_letters
from speechvq.analysis.phone_intervals import label_frames
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.errors import ConfigError, DataError
from speechvq.models.ctc_model import CTCModel
from speechvq.models.directory import load_model, save_model
from speechvq.nn.bottleneck_sites import attach_bottleneck, bypass_bottlenecks, capture_codes
from speechvq.nn.code_placement import place_codebooks
from speechvq.nn.places import Place, Site

from .test_analyze import NoProgress

PLACES = (Place(0, Site.heads), Place(1, Site.feed_forward))


@pytest.fixture(scope="module")
def coded_models(corpus, recognizer_directory, tmp_path_factory) -> list[Path]:
    """The recogniser with bottlenecks, of two seeds."""
    rows = list(read_utterances(corpus))[:4]
    directories = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = load_model(recognizer_directory)
        for place in PLACES:
            attach_bottleneck(model, place, codebook_size=10, num_active=2)
        waveforms = [torch.from_numpy(decode_flac(row.audio))[None] for row in rows]
        place_codebooks(
            model,
            lambda model=model, waveforms=waveforms: [
                model.encoder(one, torch.tensor([one.size(1)])) for one in waveforms
            ],
            generator=torch.Generator().manual_seed(seed),
        )
        directories.append(tmp_path_factory.mktemp("coded") / f"model{seed}")
        save_model(directories[-1], model)
    return directories


def run(config: ConceptsConfig) -> tuple[str, dict]:
    notes: list[str] = []
    text = find_concepts(
        config, device=torch.device("cpu"), create_progress=NoProgress, note=notes.append
    )
    assert notes[0].endswith("to measure on")
    assert any("2 of 2 places" in note for note in notes)
    return text, json.loads((Path(config.output) / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(corpus, coded_models, tmp_path_factory):
    sexes = tmp_path_factory.mktemp("tables") / "sexes.tsv"
    sexes.write_text("source\tspeaker\tsex\ntones\ts1\tf\ntones\ts2\tm\n", encoding="utf-8")
    config = ConceptsConfig(
        model=str(coded_models[0]),
        second=str(coded_models[1]),
        corpus=str(corpus),
        output=str(tmp_path_factory.mktemp("out") / "concepts"),
        alignments=[str(corpus.parent / "phones.tsv")],
        sex_table=str(sexes),
        min_support=5,
        min_utterances=2,
        num_permutations=9,
        num_neuron_frames=100,
        num_cards=1,
        batch_seconds=3.0,
    )
    return config, *run(config)


def test_every_codebook_and_concept_has_a_row(finished, coded_models) -> None:
    config, text, metrics = finished
    found = read_concepts(Path(config.output), model=coded_models[0])
    assert found.language == ("hin_Deva", "mdw_Latn")
    concepts = {(row.kind, row.concept) for row in found.concepts}
    books = {(row.place, row.head) for row in found.concepts}
    assert books == {(PLACES[0], 0), (PLACES[0], 1), (PLACES[1], 0)}
    assert len(found.concepts) == len(concepts) * len(books)
    kinds = {kind for kind, _ in concepts}
    assert kinds >= set(ConceptKind) - {ConceptKind.pitch}
    assert {name for kind, name in concepts if kind is ConceptKind.phone} == {"a", "i", "sil"}
    assert {name for kind, name in concepts if kind is ConceptKind.letter} == {"a", "b", "|"}
    best = [row for row in found.concepts if row.is_best_place]
    assert {(row.kind, row.concept) for row in best} == concepts
    assert len(best) == len(concepts)
    assert all(row.p is not None and row.p_adjusted >= row.p for row in found.concepts)
    assert metrics["model_digest"] == found.model_digest
    assert "The concepts are in" in text


def test_scores_are_those_of_codes_and_labels(finished, corpus, coded_models) -> None:
    config, _, metrics = finished
    model = load_model(coded_models[0])
    frames: dict[tuple, set[int]] = defaultdict(set)
    for row in pq.read_table(Path(config.output) / "codes.parquet").to_pylist():
        frames[row["utt"], row["frame"], row["layer"], row["site"], row["head"]].add(row["code"])
    assert all(1 <= len(codes) <= 2 for codes in frames.values())
    alignments = load_alignments(config.alignments)
    labels = {}
    for row in read_utterances(corpus):
        waveform = decode_flac(row.audio)
        times = compute_frame_times(model.encoder.front_end, model.num_frames(len(waveform)))
        intervals = alignments.find(row, waveform)
        if intervals is not None:
            labels |= {(row.id, t): one for t, one in enumerate(label_frames(intervals, times))}
        outputs = {}
        with torch.no_grad(), capture_codes(model, outputs.__setitem__):
            batch = torch.from_numpy(waveform)[None]
            if row.language in model.heads:
                model(batch, torch.tensor([batch.size(1)]), language=row.language)
            else:
                model.encoder(batch, torch.tensor([batch.size(1)]))
        for frame in (0, len(times) - 1):
            own = frames[row.id, frame, 1, "feed_forward", 0]
            assert own == set(outputs[PLACES[1]].codes[0, frame, 0].tolist())
    assert sum(metrics["frames"].values()) * 3 == len(frames)
    parts = divide_corpus(config).parts
    known = [key for key, phone in labels.items() if phone is not None]
    rows = read_concepts(Path(config.output)).concepts
    for row in (one for one in rows if one.kind is ConceptKind.phone):
        place = (row.layer, str(row.site), row.head)
        for part, expected in (
            ("dev", (row.dev_precision, row.dev_recall, row.dev_support)),
            ("test", (row.precision, row.recall, row.support)),
        ):
            keys = [key for key in known if parts[key[0]] == part]
            own = {key for key in keys if labels[key] == row.concept}
            fired = {key for key in keys if row.code in frames[(*key, *place)]}
            hits = len(own & fired)
            scores = hits / max(1, len(fired)), hits / len(own), len(own)
            assert scores == pytest.approx(expected, abs=1e-6)
        union = {key for key in keys if frames[(*key, *place)] & set(row.codes)}
        joint = len(own & union) / max(1, len(union)), len(own & union) / len(own)
        assert joint == pytest.approx((row.union_precision, row.union_recall), abs=1e-6)


def test_the_report_is_heard_and_the_metrics_are_whole(finished) -> None:
    config, _, metrics = finished
    page = (Path(config.output) / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 6
    assert "data:audio/flac;base64" in page
    assert "data:image/png;base64" in page
    assert "Agreement of two seeds" in page
    assert metrics["rule"].startswith("There is no split dev here")
    assert "by utterance" in metrics["rule"]
    assert len(metrics["by_codebook"]) == len(metrics["agreement"]) == 3
    assert metrics["codebooks"]["codes"] == 30
    assert metrics["codebooks"]["codes_same_phone_across_languages"] is not None
    phone = metrics["kinds"]["phone"]
    assert phone["measured"] == 2  # without silence
    assert phone["p"] >= 0.1
    assert 0 <= phone["median_neuron_precision"] <= 1
    assert not [path for path in Path(config.output).iterdir() if path.name.startswith(".")]


def test_the_same_search_may_be_run_again_and_no_other(finished) -> None:
    config, text, _ = finished
    before = (Path(config.output) / "concepts.json").read_bytes()
    assert run(replace(config, batch_seconds=60.0, num_cards=0))[0] == text
    assert (Path(config.output) / "concepts.json").read_bytes() == before
    with pytest.raises(ConfigError, match="another search for concepts: `seed` is 2 now"):
        run(replace(config, seed=2))


def test_without_phones_and_neurons_the_others_are_found(corpus, coded_models, tmp_path) -> None:
    config = ConceptsConfig(
        model=str(coded_models[0]),
        corpus=str(corpus),
        output=str(tmp_path / "out"),
        language=["hin_Deva"],
        num_permutations=0,
        num_neuron_frames=0,
        num_cards=0,
    )
    _, metrics = run(config)
    assert set(metrics["missing"]) >= {"phone", "letter", "language", "sex"}
    assert "alignments=" in metrics["missing"]["phone"]
    assert metrics["kinds"]["voicing"]["median_permuted_precision"] is None
    assert metrics["agreement"] is None
    rows = read_concepts(tmp_path / "out").concepts
    assert all(row.p is None and row.neuron_precision is None for row in rows)
    voiced = next(row for row in rows if row.concept == "voiced")
    assert voiced.support > 30


def test_what_cannot_work_is_said(corpus, coded_models, recognizer_directory, tmp_path) -> None:
    config = ConceptsConfig(
        model=str(coded_models[0]), corpus=str(corpus), output=str(tmp_path / "out")
    )
    with pytest.raises(ConfigError, match="speechvq bottleneck"):
        run(replace(config, model=str(recognizer_directory)))
    with pytest.raises(ConfigError, match="`dense` must be a model without bottlenecks"):
        run(replace(config, dense=str(coded_models[1])))
    with pytest.raises(ConfigError, match="`second` must have the bottlenecks"):
        run(replace(config, second=str(recognizer_directory)))
    with pytest.raises(DataError, match="there is one utterance only, `tones/audio/"):
        run(replace(config, limit=1, language=["hin_Deva"]))
    with pytest.raises(DataError, match="`language` must be among"):
        run(replace(config, language=["deu_Latn"]))
    with pytest.raises(DataError, match="has no utterance"):
        run(replace(config, where="source=nowhere"))
    with pytest.raises(ConfigError, match="`dev_split` and `test_split` must differ"):
        run(replace(config, dev_split="test"))
    assert not (tmp_path / "out").exists()


def test_sides_without_a_frame_are_said(corpus, coded_models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CTCModel, "num_frames", lambda model, num_samples: 0)
    config = ConceptsConfig(
        model=str(coded_models[0]), corpus=str(corpus), output=str(tmp_path / "out")
    )
    with pytest.raises(DataError, match="utterances of the dev side are shorter than a frame"):
        run(config)


def test_letters_that_the_vocabulary_lacks_are_no_concept(recognizer_directory) -> None:
    model = load_model(recognizer_directory)
    vocabulary = model.vocabularies["mdw_Latn"]
    waveform = np.zeros(16_000, dtype=np.float32)
    times = compute_frame_times(model.encoder.front_end, 40)
    logits = torch.zeros(40, len(vocabulary.labels))
    found = align_letters(model, "azb", "mdw_Latn", waveform, times, logits=logits)
    assert found is not None
    assert {"a", "b", None} == set(found)


def test_tables_of_sexes_are_read(tmp_path) -> None:
    path = tmp_path / "sexes.tsv"
    path.write_text("speaker\tsex\nx\tf\ny\t\n", encoding="utf-8")
    assert read_sexes(path) == {"x": "f"}
    path.write_text("speaker,sex\nx,f\n", encoding="utf-8")
    with pytest.raises(DataError, match="columns speaker and sex"):
        read_sexes(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_sexes(tmp_path / "nothing.tsv")


def test_neurons_are_those_behind_bypassed_bottlenecks(
    corpus, coded_models, recognizer_directory
) -> None:
    from speechvq.analysis.concept_pass import capture_neurons, run_model

    waveforms = [decode_flac(row.audio) for row in read_utterances(corpus)][:2]
    found: list[dict[int, torch.Tensor]] = [{}, {}]
    dense, coded = load_model(recognizer_directory), load_model(coded_models[0])
    with capture_neurons(dense, [0, 1], found[0].__setitem__):
        run_model(dense, waveforms, "hin_Deva")
    with bypass_bottlenecks(coded), capture_neurons(coded, [0, 1], found[1].__setitem__):
        run_model(coded, waveforms, "hin_Deva")
    for layer in (0, 1):
        assert torch.equal(found[0][layer], found[1][layer])
        assert np.ptp(found[0][layer].numpy()) > 0
