import json
import shutil

import pytest

from speechvq.decoding.config import EvaluateConfig
from speechvq.deploy.comparison import compare_results
from speechvq.deploy.evaluation import evaluate
from speechvq.deploy.word_confidences import Recognized
from speechvq.errors import DataError
from speechvq.reporting.page import Page


@pytest.fixture
def run_evaluation(corpus, recognizer_directory, tmp_path, monkeypatch):
    def run(name, *, text=None, **changes):
        with monkeypatch.context() as patch:
            if text is not None:
                found = Recognized(text=text, confidences=(0.5,) * len(text.split()))
                patch.setattr(
                    "speechvq.deploy.evaluation.recognize_with_confidences",
                    lambda recognizer, waves, language: [found] * len(waves),
                )
            config = EvaluateConfig(
                corpus=str(corpus),
                model=str(recognizer_directory),
                output=str(tmp_path / name),
                device="cpu",
                **changes,
            )
            # The page is another test's business, and slow.
            patch.setattr("speechvq.deploy.evaluation.create_report", lambda *_: Page("x"))
            evaluate(config)
        return tmp_path / name

    return run


def test_evaluations_are_compared_with_the_first(run_evaluation):
    blank = run_evaluation("blank", text="")
    worse = run_evaluation("worse", text="x y z v w x y z")
    table = compare_results([blank, worse, blank])
    text = table.to_text()
    assert "100.0 %" in text
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["rate"] for row in rows[:4]] == ["WER", "WER", "WER", "CER"]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"].value > 0
    assert rows[1]["difference"].tone == "bad"
    assert rows[2]["difference"].value == 0
    assert table.to_page().render().count("<tr>") == 1 + 3 * 3


def test_order_of_rows_does_not_matter(run_evaluation):
    one = run_evaluation("one")
    two = run_evaluation("two")
    lines = (two / "hypotheses.tsv").read_text(encoding="utf-8").splitlines()
    (two / "hypotheses.tsv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n", "utf-8")
    table = compare_results([one, two])
    assert table.rows[1][table.columns.index("difference")].value == 0


def test_other_test_sets_are_refused(run_evaluation):
    one = run_evaluation("one")
    two = run_evaluation("two", limit=2)
    with pytest.raises(DataError, match=r"6 utterances are only in the first.*hin_Deva/test-2"):
        compare_results([one, two])


def test_other_references_and_normalisers_are_refused(run_evaluation, tmp_path):
    one = run_evaluation("one")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    path = two / "hypotheses.tsv"
    path.write_text(path.read_text("utf-8").replace("\tनमस्ते", "\tनमस्", 1), "utf-8")
    with pytest.raises(DataError, match="different references"):
        compare_results([one, two])
    other = run_evaluation("other", normalizer="verbatim")
    with pytest.raises(DataError, match="one text normaliser"):
        compare_results([one, other])


def test_damaged_table_names_the_row(run_evaluation):
    one = run_evaluation("one")
    path = one / "hypotheses.tsv"
    lines = path.read_text("utf-8").split("\n")
    lines[2] = lines[2].rsplit("\t", 1)[0]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError, match="row 3"):
        compare_results([one, one])


def test_other_results_are_compared_by_their_numbers(tmp_path):
    for name, loss in (("a", 1.5), ("b", 2.5)):
        (tmp_path / name).mkdir()
        summary = {"loss": loss, "codes": {"perplexity": 9}, "note": "x", f"only_{name}": 1}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    table = compare_results([tmp_path / "a", tmp_path / "b"])
    assert table.rows == [["loss", 1.5, 2.5], ["codes.perplexity", 9, 9]]
    assert "2 numbers" in table.notes[0]


def test_kinds_do_not_mix(run_evaluation, tmp_path):
    one = run_evaluation("one")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text('{"loss": 1}')
    with pytest.raises(DataError, match="of one kind"):
        compare_results([one, tmp_path / "run"])
    with pytest.raises(DataError, match=r"no metrics\.json"):
        compare_results([one, tmp_path])
    with pytest.raises(DataError, match="At least two"):
        compare_results([one])
