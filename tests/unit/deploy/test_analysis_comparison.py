"""Analyses side by side, from the files that an analysis writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from speechvq.analysis.attention import AttentionTally
from speechvq.analysis.attention_section import create_attention_section
from speechvq.analysis.code_table import open_code_table
from speechvq.analysis.config import AnalyzeConfig
from speechvq.analysis.intervals import Estimate
from speechvq.analysis.layer_section import create_layer_section
from speechvq.analysis.phone_section import score_table
from speechvq.analysis.probes import ProbeResult, ProbeSettings
from speechvq.analysis.report import write_analysis
from speechvq.analysis.section import Section
from speechvq.analysis.sharing_rule import SharingRule
from speechvq.analysis.table_sections import create_sharing_of_table
from speechvq.deploy.analysis_comparison import compare_analyses
from speechvq.deploy.analysis_tables import AnalysisTable
from speechvq.deploy.comparison import compare_results
from speechvq.errors import DataError
from tests.support.paired_tables import Name, name_phones, write_table

QUICK_RULE = SharingRule(num_resamples=10, num_permutations=10, num_splits=2)
QUICK_PROBES = ProbeSettings(num_permutations=2, num_resamples=20)


def probe(accuracy: float) -> ProbeResult:
    estimate = Estimate(value=accuracy, low=accuracy - 0.05, high=accuracy + 0.05)
    return ProbeResult(accuracy=estimate, classes=["a", "b"], null_mean=0.5, null_high=0.55)


def write(
    directory: Path, name: Name, *, seed: int, accuracy: float = 0.8, **fields: object
) -> Path:
    """An analysis whose sections are made by what makes them, of planted codes."""
    table = open_code_table(write_table(directory, name, seed=seed))
    config = AnalyzeConfig(
        corpus="corpus", model=f"models/{directory.name}", output=str(directory), **fields
    )
    scores = list(score_table(table, ["hin_Deva", "kan_Knda"], 1))
    tally = AttentionTally(min_frames=21)
    weights = torch.softmax(torch.randn(2, 30, 30, generator=torch.Generator().manual_seed(1)), 2)
    for layer in range(2):
        tally.add(layer, torch.stack([weights] * 2), [30, 30])
    numbers = {"frame_milliseconds": 20.0, "first_centre_milliseconds": 12.5}
    sections = {
        "data": Section(title="Data", numbers=numbers),
        "phones": Section(title="Codes", numbers={"scores": [one.to_json() for one in scores]}),
        "sharing": create_sharing_of_table(table, 1, rule=QUICK_RULE, probes=QUICK_PROBES),
        "layers": create_layer_section(
            [0, 1, 2], {"language": [probe(0.6), probe(accuracy), probe(0.7)]}, {}
        ),
        "attention": create_attention_section(tally, 0.02),
    }
    write_analysis(config, sections, {}, {})
    return directory


@pytest.fixture(scope="module")
def analyses(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A model, the same but for a seed and splits of codes, and a better one."""
    root = tmp_path_factory.mktemp("analyses")
    with pytest.MonkeyPatch.context() as patch:
        # The pictures of one analysis are other tests' business, and slow.
        for place in ("attention_section.draw_heat_map", "sharing_section.draw_heat_map"):
            patch.setattr(f"speechvq.analysis.{place}", lambda *_, **__: "<svg></svg>")
        return (
            write(root / "plain", name_phones(0.5), seed=1),
            write(root / "split", name_phones(0.5, 4), seed=2),
            write(root / "better", name_phones(0.7), seed=3, accuracy=0.95),
        )


def copy(source: Path, target: Path, **changes: object) -> Path:
    """A copy of `analysis.json` alone, with changed keys of its configuration."""
    target.mkdir()
    document = json.loads((source / "analysis.json").read_text("utf-8"))
    document["config"] |= changes
    (target / "analysis.json").write_text(json.dumps(document), encoding="utf-8")
    return target


def find_row(table: AnalysisTable, title: str, *starts: str) -> list:
    (found,) = (one for one in table.tables if one.title == title)
    values = [[getattr(cell, "value", cell) for cell in row] for row in found.rows]
    return next(row for row in values if tuple(row[: len(starts)]) == starts)


def test_models_stand_side_by_side_with_differences(analyses) -> None:
    table = compare_results(analyses)
    assert isinstance(table, AnalysisTable)
    assert table.comparison.warnings == []
    assert table.columns[1:] == ["plain", "split", "better", "split − plain", "better − plain"]
    scores = [
        next(
            one["pnmi"]
            for one in json.loads((path / "analysis.json").read_text())["sections"]["phones"][
                "scores"
            ]
            if one["name"] == "model, codebook 0"
        )
        for path in analyses
    ]
    row = find_row(table, "Codes and phones", "best codebook: PNMI")
    assert row[1:4] == scores
    assert row[4:] == pytest.approx([scores[1] - scores[0], scores[2] - scores[0]])
    used = find_row(table, "Codes and phones", "best codebook: codes used")
    assert used[1:4] == [8, 32, 8]
    # Splits are no progress once the perplexity is the same; better codes are.
    split, better = (table.comparison.paired[place].equal["pnmi"].difference for place in (1, 2))
    assert split.low < 0 < split.high
    assert better.low > 0
    assert find_row(table, "Codes at equal perplexity", "better", "PNMI")[6] < 0.5
    decision = find_row(table, "Sharing", "hin_Deva–kan_Knda, codebook 0: decision")
    assert decision[1:4] == ["shared"] * 3
    assert find_row(table, "Sharing", "source: verdict")[1] == "there is one source only"
    skill = find_row(table, "Layers", "language probe: skill")
    assert skill[1:4] == pytest.approx([0.6, 0.6, 0.9])
    assert find_row(table, "Layers", "language probe: best layer")[1:4] == [1, 1, 1]
    estimate = table.comparison.subtract(2, ("Layers", "language probe", "skill"))
    assert estimate is not None
    assert (estimate.low, estimate.high) == pytest.approx((0.3 - 0.02**0.5, 0.3 + 0.02**0.5))
    assert find_row(table, "Attention", "all heads: local heads")[1].endswith(" of 4")


def test_the_reference_is_the_first_or_the_best(analyses) -> None:
    best = compare_analyses(analyses, against="best")
    assert best.reference == 2
    first = compare_analyses(analyses[:1] + analyses[2:])
    one, other = best.paired[0].own["pnmi"], first.paired[1].own["pnmi"]
    assert one.difference.value == pytest.approx(-other.difference.value)


def test_an_analysis_without_scores_is_never_the_best(analyses, tmp_path) -> None:
    """One phone has no PNMI."""
    single = copy(analyses[0], tmp_path / "single")
    document = json.loads((single / "analysis.json").read_text("utf-8"))
    for score in document["sections"]["phones"]["scores"]:
        score |= {"pnmi": None, "pnmi_adjusted": None}
    (single / "analysis.json").write_text(json.dumps(document), encoding="utf-8")
    assert compare_analyses([single, analyses[1]], against="best").reference == 1


def test_files_hold_what_the_table_holds(analyses, tmp_path) -> None:
    table = compare_results(analyses[:2])
    for name in ("c.html", "c.json", "c.tsv", "c.csv"):
        table.write(tmp_path / name)
    document = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert document["kind"] == "analysis-comparison"
    numbers = {
        (one["item"], one["measure"]): one for one in document["analyses"][1]["measurements"]
    }
    pnmi = numbers["best codebook", "PNMI"]
    assert pnmi["low"] < pnmi["value"] < pnmi["high"]
    assert pnmi["difference"]["low"] < pnmi["difference"]["value"]
    assert document["analyses"][0]["codes_against_reference"] is None
    paired = document["analyses"][1]["codes_against_reference"]
    assert paired["own"]["pnmi"]["difference"] == pnmi["difference"]
    assert paired["unit"] == "speaker"
    with (tmp_path / "c.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    (row,) = (
        one
        for one in rows
        if (one["analysis"], one["item"], one["measure"]) == ("split", "best codebook", "PNMI")
    )
    assert float(row["value"]) == pnmi["value"]
    assert float(row["difference_low"]) == pnmi["difference"]["low"]
    assert any(one["section"] == "Codes at equal perplexity" for one in rows)
    assert (tmp_path / "c.csv").read_text("utf-8").count("\n") == len(rows) + 1
    page = (tmp_path / "c.html").read_text("utf-8")
    assert page.count("<svg") == 4  # codes, sharing, one probe, attention
    assert page.count("<table") == 5


def test_what_cannot_be_compared_is_named(analyses, tmp_path) -> None:
    changed = copy(analyses[0], tmp_path / "dev", split=["dev"], seed=7)
    found = compare_analyses([analyses[0], changed])
    assert any("`split` (['test'], ['dev'])" in text for text in found.warnings)
    assert any("`seed` (1, 7)" in text and "same way" in text for text in found.warnings)
    # The code table was not copied: no differences of codes, and the reason.
    assert found.paired == {}
    assert any("codes.parquet cannot be read" in text for text in found.notes)
    assert found.subtract(1, ("Codes and phones", "best codebook", "PNMI")) is None
    text = compare_results([analyses[0], changed]).to_text()
    assert "WARNING: Numbers of" in text


def test_controls_that_should_be_equal_and_are_not_are_told(analyses, tmp_path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    quantizer = {"kind": "gumbel", "num_codebooks": 1, "codebook_size": 8}
    (model / "config.json").write_text(json.dumps({"model": {"quantizer": quantizer}}))
    first = copy(analyses[0], tmp_path / "a", model=str(model))
    second = copy(analyses[0], tmp_path / "b", model=str(model))
    assert compare_analyses([first, second]).warnings == []
    row = find_row(compare_results([first, second]), "Codes and phones", "quantiser: kind and size")
    assert row[1] == "gumbel 1 × 8"
    file = second / "analysis.json"
    document = json.loads(file.read_text("utf-8"))
    for score in document["sections"]["phones"]["scores"]:
        score["pnmi"] *= 0.9
    file.write_text(json.dumps(document), encoding="utf-8")
    (warning,) = compare_analyses([first, second]).warnings
    assert "k-means controls" in warning


def test_other_phones_and_other_utterances_are_told(analyses, tmp_path) -> None:
    target = copy(analyses[0], tmp_path / "other")
    write_table(target, name_phones(0.5), seed=1, speech_seed=9, speakers=8)
    warnings = compare_analyses([analyses[0], target]).warnings
    assert any("6 utterances with phones stand in only one" in text for text in warnings)
    assert any("do not have the same phones" in text for text in warnings)


def test_sections_that_are_missing_are_told(analyses, tmp_path) -> None:
    target = copy(analyses[0], tmp_path / "bare")
    file = target / "analysis.json"
    document = json.loads(file.read_text("utf-8"))
    document["sections"] = {
        "phones": {"missing": "no frame has a phone."},
        "layers": {"missing": "no representations were kept."},
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    table = compare_results([analyses[0], target])
    assert isinstance(table, AnalysisTable)
    assert f"{target.name} has no section on phones: no frame has a phone." in " ".join(table.notes)
    assert find_row(table, "Layers", "language probe: skill")[2] is None
    assert "this analysis does not have it" in " ".join(table.notes)
    table.to_page().render()
    both = compare_results([target, target])
    assert "no representations were kept" in both.to_text()


def test_damaged_and_mixed_directories_are_refused(analyses, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(DataError, match=r"is an analysis and .*other not"):
        compare_results([analyses[0], other])
    (other / "analysis.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="is no analysis"):
        compare_results([analyses[0], other])
    (other / "analysis.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        compare_results([analyses[0], other])
    damaged = copy(analyses[0], tmp_path / "damaged")
    document = json.loads((damaged / "analysis.json").read_text("utf-8"))
    del document["sections"]["attention"]["windows"]
    (damaged / "analysis.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="lacks numbers that this version compares"):
        compare_results([analyses[0], damaged])
