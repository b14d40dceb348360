import csv
import json
import shutil

import pytest

from speechvq.decoding.config import EvaluateConfig
from speechvq.deploy.comparison import compare_results
from speechvq.deploy.evaluation import evaluate
from speechvq.deploy.evaluation_files import read_results
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


def read_rows(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_evaluations_are_ranked_and_tested_against_the_best_or_the_first(run_evaluation):
    blank = run_evaluation("blank", text="")
    worse = run_evaluation("worse", text="x y z v w x y z")
    table = compare_results([worse, blank, blank])
    assert "100.0 %" in table.to_text()
    rows = read_rows(table)
    assert [row["rank"] for row in rows] == [1, 1, 3]
    assert [row["evaluation"] for row in rows] == [str(blank), str(blank), str(worse)]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"].value == 0
    assert rows[2]["difference"].value > 0
    assert rows[2]["difference"].tone == "bad"
    assert "over 10 utterances" in " ".join(table.notes)
    assert table.to_page().render().count("<tr>") == 1 + 3
    first = read_rows(compare_results([worse, blank, blank], against="first"))
    assert first[2]["difference"] is None
    assert first[0]["difference"].value == -rows[2]["difference"].value
    # Of two, the first is the baseline.
    assert read_rows(compare_results([worse, blank]))[1]["difference"] is None
    with pytest.raises(DataError, match="`against` must be one of best, first"):
        compare_results([worse, blank], against="worst")


def test_several_languages_are_ranked_by_their_mean(run_evaluation):
    # Hindi has 4 words a sentence and Mboshi 1 to 2: all utterances together are mostly Hindi.
    hindi = run_evaluation("hindi", text="नमस्ते दुनिया")
    mboshi = run_evaluation("mboshi", text="ngá")
    table = compare_results([hindi, mboshi])
    for entry in table.boards[0].entries:
        rates = [entry.languages[name].rate for name in ("hin_Deva", "mdw_Latn")]
        assert entry.score == pytest.approx(sum(rates) / 2)
        metrics = json.loads((entry.path / "metrics.json").read_text("utf-8"))
        assert entry.score == pytest.approx(metrics["wer_mean_over_languages"])
        assert [entry.rates["wer"].low, entry.rates["wer"].high] == metrics["wer_interval"]
    scores = [entry.score for entry in table.boards[0].entries]
    assert scores == sorted(scores)
    assert {"mean over languages", "hin_Deva", "mdw_Latn"} <= set(table.columns)


def test_leaderboards_are_written_as_json_and_tables(run_evaluation, tmp_path):
    paths = [run_evaluation("one"), run_evaluation("two", text="ngá")]
    table = compare_results(paths)
    for name in ("board.json", "board.csv", "board.tsv", "board.html"):
        table.write(tmp_path / name)
    board = json.loads((tmp_path / "board.json").read_text("utf-8"))["boards"][0]
    assert [entry["rank"] for entry in board["entries"]] == [1, 2]
    assert board["bootstrap_over"] == "10 utterances"
    with (tmp_path / "board.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wer"]) for row in rows] == [one["wer"]["rate"] for one in board["entries"]]
    assert {row["normalizer"] for row in rows} == {"basic-1"}
    assert rows[0]["wer_mdw_Latn"]
    tabs = (tmp_path / "board.tsv").read_text("utf-8").splitlines()
    assert len(tabs) == 3
    assert all(line.count("\t") == tabs[0].count("\t") for line in tabs)
    assert (tmp_path / "board.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_order_of_rows_does_not_matter(run_evaluation):
    one = run_evaluation("one")
    two = run_evaluation("two")
    lines = (two / "hypotheses.tsv").read_text(encoding="utf-8").splitlines()
    (two / "hypotheses.tsv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n", "utf-8")
    table = compare_results([one, two])
    test = table.boards[0].entries[1].tests["wer"]
    assert (test.difference, test.low, test.high) == (0, 0, 0)


def test_results_without_the_newer_columns_are_ranked_too(run_evaluation, tmp_path):
    one = run_evaluation("one")
    old = tmp_path / "old"
    shutil.copytree(one, old)
    path = old / "hypotheses.tsv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("".join(line.rsplit("\t", 3)[0] + "\n" for line in lines), "utf-8")
    results, counts = read_results(old)
    newer, same = read_results(one)
    assert [one.hypothesis for one in results] == [one.hypothesis for one in newer]
    assert results[0].confidences is None
    assert (counts["words"].errors == same["words"].errors).all()
    assert len(compare_results([one, old]).boards) == 1


def test_other_test_sets_references_and_normalisers_get_tables_of_their_own(
    run_evaluation, tmp_path
):
    one = run_evaluation("one")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    path = two / "hypotheses.tsv"
    path.write_text(path.read_text("utf-8").replace("\tनमस्ते", "\tनमस्", 1), "utf-8")
    smaller = run_evaluation("smaller", limit=2)
    other = run_evaluation("other", normalizer="verbatim")
    table = compare_results([one, two, smaller, other, one])
    assert [[entry.path for entry in board.entries] for board in table.boards] == [
        [one, one],
        [two],
        [smaller],
        [other],
    ]
    assert "cannot be ranked together" in table.to_text()
    assert "3 different test sets" in table.to_text()
    assert "2 text normalisers" in table.to_page().render()


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
