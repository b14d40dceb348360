"""The files of the experiment: `metrics.json` and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechvq import __version__
from speechvq.earlier_results import check_earlier_results
from speechvq.nn.places import Place, Site
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import BarSeries, draw_bars
from speechvq.reporting.page import Metric, Page
from speechvq.tokfsm.config import TokfsmConfig
from speechvq.tokfsm.experiment import TokfsmResult
from speechvq.tokfsm.state_codes import CodebookScores

KIND = "speechvq-tokfsm"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
_FREE = ("output", "device")
"""Keys that change where, never what is found."""
_LIMITS = (
    "One machine, one seed: other seeds differ by a few percent. The best neuron is, as in the "
    "paper, one of the channels that the feed-forward parts of the dense model give, where it is "
    "large; the strong neurons are these and those within, where they are large or small. Codes "
    "and neurons are chosen on other texts than those on which they are measured; the paper's "
    "numbers are of the same texts. A model this small says that the method works, and nothing "
    "about speech."
)


def check_output(config: TokfsmConfig) -> None:
    """Refuses an output directory that holds something else.

    Raises:
        ConfigError: It holds an experiment with another configuration, or other results.
    """
    check_earlier_results(
        Path(config.output) / METRICS_FILE,
        KIND,
        "experiment",
        lambda key, now, before: key in _FREE or now == before,
        asdict(config),
    )


def collect_metrics(config: TokfsmConfig, result: TokfsmResult) -> dict[str, Any]:
    """What `metrics.json` holds, JSON values.

    `code_precision` and `neuron_precision` are those of the feed-forward codebook of layer 0 (or of
    head 0 where there is none): means over states, at the code's recall.
    """
    place = Place(0, config.sites[0] if len(config.sites) == 1 else Site.feed_forward)
    headline = next(one for one in result.states if one.place == place)
    divergence = {one.name: one.divergence for one in result.interchange}
    return {
        "kind": KIND,
        "version": __version__,
        "config": asdict(config),
        "legal_transitions": result.coded.legal,
        "legal_transitions_dense": result.dense.legal,
        "loss": result.coded.loss,
        "loss_dense": result.dense.loss,
        "loss_best": result.best_loss,
        "code_precision": float(headline.codes.precision.mean()),
        "code_recall": float(headline.codes.recall.mean()),
        "neuron_precision": float(headline.neurons.precision.mean()),
        "strong_neuron_precision": float(headline.strong_neurons.precision.mean()),
        "jsd_all": divergence["all"],
        "jsd_random": divergence["random codes"],
        "states": [_describe_scores(one) for one in result.states],
        "states_with_digit": [_describe_scores(one) for one in result.state_digits],
        "interchange": [asdict(one) for one in result.interchange],
        "usage": [
            {
                "place": str(place),
                "tokens": one.num_frames,
                "used": one.num_used.tolist(),
                "perplexity": one.perplexity.tolist(),
                "error": one.error.tolist(),
                "input_norm": one.input_norm.tolist(),
                "output_norm": one.output_norm.tolist(),
                "code_norm": one.code_norm.tolist(),
            }
            for place, one in result.usage.items()
        ],
    }


def write_report(config: TokfsmConfig, result: TokfsmResult) -> str:
    """Writes `report.html`, then `metrics.json` as the sign of completeness.

    Returns:
        What was found, for the terminal.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    metrics = collect_metrics(config, result)
    page = _create_page(config, result, metrics)
    page.write(output / REPORT_FILE)
    text = json.dumps(metrics, ensure_ascii=False, indent=2, allow_nan=False)
    temporary = output / f".{METRICS_FILE}.tmp"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(output / METRICS_FILE)
    return f"{_describe_findings(metrics)}\nThe report is in {output / REPORT_FILE}"


def _describe_findings(metrics: dict[str, Any]) -> str:
    return (
        f"With codebooks {metrics['legal_transitions']:.1%} of the transitions are legal (dense "
        f"{metrics['legal_transitions_dense']:.1%}), the loss is {metrics['loss']:.3f} (dense "
        f"{metrics['loss_dense']:.3f}, best possible {metrics['loss_best']:.3f}). The best code of "
        f"a state has a precision of {metrics['code_precision']:.1%} at a recall of "
        f"{metrics['code_recall']:.1%}, the best neuron at this recall one of "
        f"{metrics['neuron_precision']:.1%} ({metrics['strong_neuron_precision']:.1%} among all "
        "inner values and of either sign). With the codes of another text the next token goes "
        f"where that text would (JSD {metrics['jsd_all']:.3f} of 1), with random codes it does not "
        f"({metrics['jsd_random']:.2f})."
    )


def _describe_scores(one: CodebookScores) -> dict[str, Any]:
    return {
        "place": str(one.place),
        "head": one.head,
        "used_codes": one.num_used,
        "precision": float(one.codes.precision.mean()),
        "recall": float(one.codes.recall.mean()),
        "lift": float(one.codes.lift.mean()),
        "neuron_precision": float(one.neurons.precision.mean()),
        "strong_neuron_precision": float(one.strong_neurons.precision.mean()),
        "concepts": [
            {
                "support": int(support),
                "code": int(code),
                "precision": float(precision),
                "recall": float(recall),
                "neuron": int(neuron),
                "neuron_precision": float(other),
            }
            for support, code, precision, recall, neuron, other in zip(
                one.codes.support,
                one.codes.chosen,
                one.codes.precision,
                one.codes.recall,
                one.neurons.chosen,
                one.neurons.precision,
                strict=True,
            )
        ],
    }


def _create_page(config: TokfsmConfig, result: TokfsmResult, metrics: dict[str, Any]) -> Page:
    page = Page(
        "Codes and states",
        f"A machine of {config.num_states} states told in digits, after “Codebook Features”",
        footer=f"speechvq {__version__} tokfsm",
    )
    page.add_heading("Findings")
    page.add_headline(
        [
            Metric(
                label="legal transitions",
                value=f"{result.coded.legal:.1%}",
                detail=f"dense {result.dense.legal:.1%}",
            ),
            Metric(
                label="precision of a state's code",
                value=f"{metrics['code_precision']:.1%}",
                detail=f"best neuron {metrics['neuron_precision']:.1%}, {config.num_states} states",
            ),
            Metric(
                label="JSD with all codes exchanged",
                value=f"{metrics['jsd_all']:.3f}",
                detail=f"random codes {metrics['jsd_random']:.2f}",
            ),
        ]
    )
    page.add_paragraph(_describe_findings(metrics))
    page.add_heading("Models")
    page.add_table(
        ["model", "loss (nats a token)", "legal transitions"],
        [
            ["dense", result.dense.loss, _to_cell(result.dense.legal)],
            ["with codebooks", result.coded.loss, _to_cell(result.coded.legal)],
            ["one who knows the machine", result.best_loss, _to_cell(1.0)],
        ],
    )
    page.add_heading("Codes of states")
    for title, scores in (("States", result.states), ("States with a digit", result.state_digits)):
        _add_scores(page, title, scores)
    page.add_heading("Codes exchanged")
    page.add_table(
        ["codes", "JSD (none = 1)", "next token legal"],
        [[one.name, one.divergence, _to_cell(one.legal)] for one in result.interchange],
        caption="Codes of another text at the last token. 0: the next token is distributed as "
        "after that text; legal: for the state of that text.",
    )
    names = [one.name for one in result.interchange]
    bars = BarSeries(name="JSD", values=[one.divergence for one in result.interchange])
    page.add_figure(
        draw_bars(names, [bars], y_label="JSD (none = 1)"),
        caption="Distance to the text that the codes came from.",
    )
    page.add_heading("Usage of codes")
    page.add_table(
        [
            "place",
            "head",
            "used",
            "perplexity",
            "error",
            "length of inputs",
            "of means",
            "of codes",
        ],
        [
            [
                *(str(place), head, int(one.num_used[head])),
                *(
                    float(values[head])
                    for values in (
                        *(one.perplexity, one.error, one.input_norm, one.output_norm),
                        one.code_norm,
                    )
                ),
            ]
            for place, one in result.usage.items()
            for head in range(len(one.num_used))
        ],
        caption=f"Of {config.codebook_size} codes each.",
    )
    page.add_heading("What cannot be concluded")
    page.add_paragraph(_LIMITS)
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(asdict(config), ensure_ascii=False, indent=2))
    return page


def _add_scores(page: Page, title: str, scores: Sequence[CodebookScores]) -> None:
    rows: list[list[Cell | Value]] = [
        [
            *(str(one.place), one.head, one.num_used),
            *(
                _to_cell(float(values.mean()))
                for values in (
                    *(one.codes.precision, one.codes.recall),
                    *(one.neurons.precision, one.strong_neurons.precision),
                )
            ),
        ]
        for one in scores
    ]
    number = len(scores[0].codes.support) if scores else 0
    page.add_table(
        [
            *("place", "head", "used codes", "precision of codes", "recall"),
            *("precision of neurons", "of strong neurons"),
        ],
        rows,
        caption=f"{title}: means over {number} concepts of the best code, and of the best neuron "
        "of the dense model at the same recall.",
    )


def _to_cell(share: float) -> Cell:
    return Cell(value=share, text=f"{share:.1%}")
