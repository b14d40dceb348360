"""The demo's page, from a corpus, counts, curves and scores that the library made."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from speechvq.data.audio import encode_flac
from speechvq.data.corpus import CorpusWriter
from speechvq.data.records import Utterance
from speechvq.decoding.config import EvaluateConfig
from speechvq.decoding.scoring import score_utterances
from speechvq.demo.closing import open_page, print_closing
from speechvq.demo.codes import CodeCounts, write_code_counts
from speechvq.demo.config import PLANS, DemoConfig, DemoPreset
from speechvq.demo.line import list_stages
from speechvq.demo.page import write_page
from speechvq.demo.results import count_codebooks, extract_curve, extract_rate
from speechvq.deploy.evaluation_files import write_evaluation
from speechvq.deploy.evaluation_result import Evaluation, Result
from speechvq.reporting.page import Page

PLAN = PLANS[DemoPreset.ci]
TEXTS = ["एक दो <पाँच>", "चार तीन छह", "सात आठ", "नौ दस", "एक", "दो", "तीन"]
LINES = [
    {"step": 1, "split": "train", "contrastive_loss": 4.6, "loss": 4.7, "perplexity": [9.0, 8.0]},
    {"step": 2, "split": "train", "contrastive_loss": 4.5, "loss": 4.6, "perplexity": [7.0, None]},
    {"step": 2, "split": "dev", "contrastive_loss": 4.4, "loss": 4.5, "cer": 0.5, "accuracy": None},
]


def _write_corpus(path):
    rng = np.random.default_rng(1)
    with CorpusWriter(path, normalizer="basic-1") as writer:
        for language in PLAN.finetuned:
            for number in range(len(TEXTS)):
                waveform = rng.normal(0, 0.1, 8000).astype(np.float32)
                writer.add(
                    Utterance(
                        id=f"{language}/{number}",
                        language=language,
                        split="test",
                        audio=encode_flac(waveform),
                        num_samples=len(waveform),
                        text=TEXTS[number],
                        speaker=f"speaker {number}",
                    )
                )


def _write_scores(output, language):
    hypotheses = [text.replace("दो", "दस") for text in TEXTS]
    results = [
        Result(
            id=f"{language}/{number}",
            language=language,
            speaker="s",
            seconds=0.5,
            reference=TEXTS[number],
            hypothesis=hypotheses[number],
        )
        for number in range(len(TEXTS))
    ]
    evaluation = Evaluation(
        config=EvaluateConfig(output=str(output / "evaluated" / language)),
        results=results,
        scores=score_utterances(TEXTS, hypotheses, normalizer="basic-1"),
        corpus_normalizer="basic-1",
        model_digest="",
        device="cpu",
        recognition_seconds=1.0,
        num_untranscribed=0,
        shared_speakers=None,
        unwritable={},
    )
    write_evaluation(evaluation, Page("scores"))


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    _write_corpus(output / "corpus")
    for name in ("pretrained", *(f"finetuned/{language}" for language in PLAN.finetuned)):
        (output / name).mkdir(parents=True)
        text = "".join(json.dumps(line) + "\n" for line in LINES)
        (output / name / "metrics.jsonl").write_text(text)
    for language in PLAN.finetuned:
        _write_scores(output, language)
    counts = np.random.default_rng(2).integers(0, 9, (len(PLAN.languages), 2, 2, 6))
    write_code_counts(output / "codes.json", CodeCounts(languages=PLAN.languages, counts=counts))
    stages = list_stages(DemoConfig(output=str(output), preset=DemoPreset.ci), PLAN)
    return write_page(output, PLAN, stages, {stage.name: 61.0 for stage in stages})


def test_the_page_stands_alone(page_path):
    html = page_path.read_text(encoding="utf-8")
    assert page_path.name == "index.html"
    assert not re.search(r'(src|href)="(?!data:|#)', html)


def test_the_page_has_what_it_promises(page_path):
    html = page_path.read_text(encoding="utf-8")
    assert html.count("<audio") == 5 * len(PLAN.finetuned)
    # 2 of 13 words are wrong.
    assert html.count("15.4 %") >= 2 * len(PLAN.finetuned)
    assert "95 % interval" in html
    assert "Recogniser: Hindi" in html
    assert html.count(">1:01 min<") == 4 + 2 * len(PLAN.finetuned)
    assert "speechvq pretrain corpus=" in html
    assert "Perplexity of each codebook" in html
    assert "Codebook 2." in html
    assert "&lt;पाँच&gt;" in html
    assert "<पाँच>" not in html


def test_curves_leave_out_what_is_missing():
    assert extract_curve(LINES, "train", "perplexity", 1) == ([1], [8.0])
    assert extract_curve(LINES, "train", "perplexity", 2) == ([], [])
    assert extract_curve(LINES, "dev", "accuracy") == ([], [])
    assert extract_curve(LINES, "dev", "cer") == ([2], [0.5])
    assert count_codebooks(LINES) == 2
    assert count_codebooks([]) == 0


def test_rates_without_numbers_are_dashes():
    rate = extract_rate({"wer": None, "wer_interval": None}, "wer")
    assert (rate.format(), rate.format_interval()) == ("–", "")
    rate = extract_rate({"wer": 0.314, "wer_interval": [0.3, 0.33]}, "wer")
    assert (rate.format(), rate.format_interval()) == ("31.4 %", "95 % interval 30.0 to 33.0 %")


def test_the_closing_names_page_and_next_steps(page_path, capsys):
    print_closing(page_path)
    text = capsys.readouterr().out
    assert str(page_path.resolve()) in text
    assert "speechvq prepare input=my_recordings" in text


@pytest.mark.parametrize(
    ("display", "is_tty", "opened"), [(":0", True, 1), (":0", False, 0), ("", True, 0)]
)
def test_a_browser_is_asked_only_where_somebody_sees_it(
    page_path, monkeypatch, display, is_tty, opened
):
    urls = []
    monkeypatch.setattr("webbrowser.open", lambda url: urls.append(url) or True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_tty)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    assert open_page(page_path) is bool(opened)
    assert urls == [page_path.resolve().as_uri()] * opened
