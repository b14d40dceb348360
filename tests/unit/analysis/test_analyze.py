"""From a corpus and a model to the report, with models of random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from speechvq.analysis.analyze import analyze
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.representations import list_layers, read_layer
from speechvq.data.audio import decode_flac
from speechvq.data.corpus import read_utterances
from speechvq.errors import ConfigError, DataError
from speechvq.models.directory import load_model


class NoProgress:
    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def advance(self, count: int, seconds: float) -> None:
        self.left -= seconds

    def close(self) -> None:
        assert abs(self.left) < 1e-6


def run(config: AnalyzeConfig) -> tuple[str, dict]:
    notes: list[str] = []
    text = analyze(
        config, device=torch.device("cpu"), create_progress=NoProgress, note=notes.append
    )
    assert notes[-1] == "section 5 of 5: attention"
    return text, json.loads((Path(config.output) / "analysis.json").read_text(encoding="utf-8"))


def create_config(corpus, model, output, **fields) -> AnalyzeConfig:
    return AnalyzeConfig(
        corpus=str(corpus),
        model=str(model),
        output=str(output),
        **{"min_frames": 5, "num_sampled_frames": 200, "batch_seconds": 3.0} | fields,
    )


@pytest.fixture(scope="module")
def analysis(corpus, encoder_directory, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "analysis"
    alignments = [str(corpus.parent / "phones.tsv")]
    config = create_config(corpus, encoder_directory, output, alignments=alignments)
    return config, *run(config), output


def read_rows(output: Path, name: str) -> list[dict]:
    table = pq.read_table(output / "codes.parquet")
    return [row for row in table.to_pylist() if row["utterance"] == name]


def test_the_table_has_the_models_codes_and_the_corpuss_phones(analysis, corpus, encoder_directory):
    _, _, _, output = analysis
    model = load_model(encoder_directory)
    for row in read_utterances(corpus):
        frames = read_rows(output, row.id)
        waveform = torch.from_numpy(decode_flac(row.audio))[None]
        with torch.no_grad():
            codes, _ = model.extract_codes(waveform, torch.tensor([waveform.shape[1]]))
        assert [[one["group_0"], one["group_1"]] for one in frames] == codes[0].tolist()
        assert [one["frame"] for one in frames] == list(range(len(frames)))
        assert {one["language"] for one in frames} == {row.language}
        expected = None if row.speaker is None else f"tones/{row.speaker}"
        assert {one["speaker"] for one in frames} == {expected}
        phones = {one["phone"] for one in frames}
        assert phones == ({None} if "-5.flac" in row.id else {"sil", "a", "i"})
    assert {"random_0", "kmeans_1"} <= set(pq.read_schema(output / "codes.parquet").names)


def test_kmeans_of_mfcc_knows_the_tones(analysis):
    _, text, found, _ = analysis
    scores = {score["name"]: score for score in found["sections"]["phones"]["scores"]}
    kmeans = scores["k-means of MFCC, codebook 0"]
    assert kmeans["pnmi"] > 0.5 > kmeans["pnmi_chance"]
    assert {"model, all codebooks", "model, codebook 1", "model, all codebooks, hin_Deva"} <= set(
        scores
    )
    assert kmeans["num_phones"] == 3
    assert "hours of audio a minute" in text
    assert found["hours_per_minute"] > 0


def test_alignments_fit_in_time(analysis):
    """The shift with the largest PNMI is none, for codes that know the tones."""
    found = analysis[2]["sections"]["phones"]["shift"]
    assert len(found["frames"]) == len(found["pnmi"]["kmeans"]) == 9
    assert found["frames"][int(np.argmax(found["pnmi"]["kmeans"]))] == 0
    assert abs(found["best_milliseconds"]["kmeans"]) < 10
    data = analysis[2]["sections"]["data"]
    assert (data["frame_milliseconds"], data["first_centre_milliseconds"]) == (20, 17.5)
    assert data["alignments"]["utterances_without_phones"] == 2
    assert data["alignments"]["labels_outside_audio"] == 0


def test_samples_are_the_models_layers(analysis, encoder_directory, corpus):
    _, _, found, output = analysis
    assert list_layers(output) == found["sections"]["data"]["layers"] == [0, 1, 2]
    sample = read_layer(output, 1)
    row = next(iter(read_utterances(corpus)))
    place = sample.utterance_ids.tolist().index(row.id)
    model = load_model(encoder_directory)
    waveform = torch.from_numpy(decode_flac(row.audio))[None]
    with torch.no_grad():
        out = model.encoder(waveform, torch.tensor([waveform.shape[1]]), return_layers=True)
    np.testing.assert_allclose(sample.utterances[place], out.layers[1][0].mean(0), atol=1e-4)
    table = pq.read_table(output / "codes.parquet", columns=["utterance", "frame"]).to_pylist()
    rows = sample.frame_rows.tolist()
    mine = next(place for place, one in enumerate(rows) if table[one]["utterance"] == row.id)
    vector = out.layers[1][0, table[rows[mine]]["frame"]]
    np.testing.assert_allclose(sample.frames[mine], vector, atol=5e-3)


def test_the_report_begins_with_findings_and_ends_with_limits(analysis):
    html = (analysis[3] / "report.html").read_text(encoding="utf-8")
    places = [
        html.index(text)
        for text in ("Findings</h2>", "uncertainty about the ", "Data</h2>",
                     "Codes and phones</h2>", "What cannot be concluded</h2>")
    ]  # fmt: skip
    assert places == sorted(places)
    assert "no alignment names 2 of 12 utterances" in html.lower()
    assert "://" not in html.replace("http://www.w3.org", "")


def test_another_analysis_is_refused_and_the_same_is_repeated(analysis):
    config = analysis[0]
    with pytest.raises(ConfigError, match="`min_frames` is 6 now and was 5"):
        run(replace(config, min_frames=6))


def test_batches_change_nothing(analysis, tmp_path):
    config = replace(
        analysis[0], output=str(tmp_path / "x"), batch_seconds=0.1, num_sampled_frames=0, layers=[]
    )
    run(config)
    by = [("utterance", "ascending"), ("frame", "ascending")]
    ours, theirs = (
        pq.read_table(Path(output) / "codes.parquet").sort_by(by)
        for output in (config.output, analysis[0].output)
    )
    assert ours.to_pylist() == theirs.to_pylist()


def test_a_recogniser_has_no_codes_and_the_section_says_so(corpus, recognizer_directory, tmp_path):
    config = create_config(
        corpus,
        recognizer_directory,
        tmp_path / "x",
        alignments=[str(corpus.parent / "phones.tsv")],
        control_size=6,
        limit=2,
    )
    _, found = run(config)
    section = found["sections"]["phones"]
    assert "no quantiser" in section["missing"]
    assert {score["name"] for score in section["scores"]} >= {"k-means of MFCC, codebook 0"}
    assert "group_0" not in pq.read_schema(tmp_path / "x" / "codes.parquet").names


def test_without_phones_the_section_says_why(corpus, encoder_directory, tmp_path):
    config = create_config(
        corpus, encoder_directory, tmp_path / "x", language=["mdw_Latn"], limit=1, controls=[]
    )
    _, found = run(config)
    assert "alignments=" in found["sections"]["phones"]["missing"]
    assert any("one language" in text for text in found["sections"]["data"]["limits"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": ["dev"]}, r"\(test\), but has 'dev'"),
        ({"language": ["eng_Latn"]}, "but has 'eng_Latn'"),
        ({"where": "source=radio"}, "no utterance"),
        ({"layers": [7]}, "to 2, but has 7"),
    ],
)
def test_what_is_not_there_is_refused(corpus, encoder_directory, tmp_path, fields, message):
    with pytest.raises(DataError, match=message):
        run(create_config(corpus, encoder_directory, tmp_path / "x", **fields))


def test_all_problems_of_a_configuration_are_named():
    config = AnalyzeConfig(limit=-1, controls=["magic"], min_confidence=2.0, control_size=1)
    problems = "\n".join(config.validate())
    for key in ("corpus", "model", "output", "limit", "controls", "min_confidence", "control_size"):
        assert f"`{key}`" in problems
