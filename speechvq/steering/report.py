"""The page of an experiment, and what the terminal says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from speechvq import __version__
from speechvq.analysis.intervals import Estimate
from speechvq.nn.code_edits import EditMode
from speechvq.reporting.cells import Cell, Value
from speechvq.reporting.charts import BarSeries, Series, draw_bars, draw_scatter
from speechvq.reporting.page import Metric, Page
from speechvq.steering.config import SteerConfig
from speechvq.steering.examples import Example, create_examples
from speechvq.steering.experiment import Experiment
from speechvq.steering.forcing import ArmSummary
from speechvq.steering.necessity import AblationKind, AblationSummary
from speechvq.steering.plan import ArmKind
from speechvq.steering.report_cells import (
    clip,
    show_nats,
    show_number,
    show_percent,
    show_points,
    show_share,
    tell,
    tell_points,
    tell_share,
)
from speechvq.steering.report_texts import EXPLAIN_ABLATION, EXPLAIN_LANGUAGE, LIMITS, explain_arms
from speechvq.steering.results import (
    REPORT_FILE,
    ConceptResult,
    SteeringResults,
    sum_up,
    write_experiment,
)

Row = list[Cell | Value]


def write_report(config: SteerConfig, experiment: Experiment) -> str:
    """Writes `report.html`, then `steering.json` as the sign of completeness.

    Returns:
        What was found, for the terminal.
    """
    results = sum_up(config, experiment)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    findings = describe_findings(results, experiment)
    page = _create_page(config, experiment, results, findings)
    page.write(output / REPORT_FILE)
    write_experiment(config, experiment, results)
    return "\n".join([*findings, f"The report is in {output / REPORT_FILE}"])


def find_arm(arms: Sequence[ArmSummary], kind: ArmKind, mode: EditMode) -> ArmSummary | None:
    """The summary of an arm in the most codebooks."""
    found = [one for one in arms if one.arm.kind is kind and one.arm.mode is mode]
    return max(found, key=lambda one: one.arm.num_places, default=None)


def describe_findings(results: SteeringResults, experiment: Experiment) -> list[str]:
    """Sentences with what was found."""
    texts = []
    for one in results.all:
        modes = list(dict.fromkeys(arm.arm.mode for arm in one.arms))
        for mode in (mode for mode in modes if mode is not EditMode.append):
            codes = find_arm(one.arms, ArmKind.codes, mode)
            random = find_arm(one.arms, ArmKind.random, mode)
            if codes is not None and random is not None:
                texts.append(
                    f"{one.key}, mode {mode}, {one.num_spans:,} spans: forcing the codes changes "
                    f"the log mass of the concept's labels by {tell(codes.effect)} nats (random "
                    f"codes as frequent {tell(random.effect)}); it is written there in "
                    f"{tell_share(codes.success)} of the spans (random codes "
                    f"{tell_share(random.success)}); KL off the span is {codes.off_share:.1%} of "
                    "that within."
                )
            added = find_arm(one.arms, ArmKind.difference, mode)
            if added is not None:
                texts.append(
                    f"{one.key}: a difference of means of the same length changes it by "
                    f"{tell(added.effect)} nats, and is written in {tell_share(added.success)}."
                )
        for ablation in one.ablations:
            if ablation.kind is AblationKind.codes:
                control = _find_control(one.ablations, ablation)
                other = "" if control is None else f", random codes {tell_points(control.own_drop)}"
                texts.append(
                    f"{one.key}, codes taken out of {ablation.num_places} codebooks: recall of the "
                    f"concept's own letters falls by {tell_points(ablation.own_drop)} points"
                    f"{other}; of all other letters by {tell_points(ablation.other_drop)}."
                )
    if experiment.language_missing:
        texts.append(f"No language was forced. {experiment.language_missing}")
    return texts


def _create_page(
    config: SteerConfig, experiment: Experiment, results: SteeringResults, findings: list[str]
) -> Page:
    page = Page(
        "Steering by codes",
        f"{config.model} on {config.corpus}, split {config.split}",
        footer=f"speechvq {__version__} steer",
    )
    page.add_heading("Findings")
    _add_headline(page, results)
    for text in findings:
        page.add_paragraph(text)
    selection = experiment.selection
    page.add_facts(
        {
            "utterances with spans": len(selection.aligned),
            "transcripts that do not fit": selection.num_failed,
            "frames of dev": selection.statistics.num_frames,
            "random codes: frequency off by a factor of": show_number(results.frequency_ratio),
        }
    )
    page.add_heading("Codes forced")
    page.add_paragraph(explain_arms(config), tone="note")
    for one in results.all:
        _add_arms(page, one)
    _add_concepts(page, results.concepts)
    page.add_heading("Codes taken out")
    page.add_paragraph(EXPLAIN_ABLATION, tone="note")
    _add_ablations(page, results)
    page.add_heading("Languages forced")
    if results.languages:
        page.add_paragraph(EXPLAIN_LANGUAGE, tone="note")
        _add_languages(page, results)
    else:
        page.add_paragraph(experiment.language_missing or "`kinds` has no language.")
    _add_examples(page, create_examples(config, experiment))
    if experiment.skipped:
        page.add_heading("Concepts left out")
        page.add_table(["concept", "why"], [list(one) for one in experiment.skipped.items()])
    page.add_heading("What cannot be concluded")
    page.add_paragraph(LIMITS)
    with page.section("Configuration"):
        page.add_preformatted(json.dumps(asdict(config), ensure_ascii=False, indent=2))
    return page


def _add_headline(page: Page, results: SteeringResults) -> None:
    metrics = []
    for one in results.all[:1]:
        modes = [arm.arm.mode for arm in one.arms]
        if not modes:
            continue
        mode = EditMode.all if EditMode.all in modes else modes[0]
        codes = find_arm(one.arms, ArmKind.codes, mode)
        random = find_arm(one.arms, ArmKind.random, mode)
        if codes is None or random is None:
            continue
        metrics += [
            Metric(
                label=f"effect, mode {mode}, nats",
                value=f"{codes.effect.value:.2f}",
                detail=f"random codes {tell(random.effect)}",
            ),
            Metric(
                label="written in the span",
                value=f"{codes.success.value:.0%}",
                detail=f"random codes {tell_share(random.success)}",
            ),
            Metric(
                label="KL off the span over KL within",
                value=f"{codes.off_share:.1%}",
                detail=f"{one.num_spans:,} spans",
            ),
        ]
        for ablation in one.ablations[:1]:
            metrics.append(
                Metric(
                    label="recall lost without the codes, points",
                    value=f"{100 * ablation.own_drop.value:z.1f}",
                    detail=f"other letters {tell_points(ablation.other_drop)}",
                )
            )
    if metrics:
        page.add_headline(metrics)


_COLUMNS = [
    *("what is done", "mode", "codebooks", "edits", "effect, nats", "without blank", "written"),
    *("KL within", "KL off", "off / within", "rest changed"),
]


def _add_arms(page: Page, one: ConceptResult) -> None:
    rows: list[Row] = [
        [
            *(str(arm.arm.kind), str(arm.arm.mode), arm.arm.num_places, arm.num_edits),
            *(show_nats(arm.effect), show_nats(arm.effect_without_blank), show_share(arm.success)),
            *(show_number(arm.window_kl.value), show_number(arm.off_kl.value)),
            *(show_percent(arm.off_share), show_share(arm.rest_change, most=math.inf)),
        ]
        for arm in one.arms
    ]
    page.add_table(_COLUMNS, rows, caption=f"All concepts of kind {one.key}.")
    modes = list(dict.fromkeys(arm.arm.mode for arm in one.arms))
    kinds = [kind for kind in ArmKind if any(arm.arm.kind is kind for arm in one.arms)]
    for key, label in (("effect", "effect, nats"), ("success", "written in the span")):
        series = []
        for kind in kinds:
            found = [find_arm(one.arms, kind, mode) for mode in modes]
            values = [Estimate() if arm is None else getattr(arm, key) for arm in found]
            values = [clip(value) for value in values] if key == "success" else values
            series.append(
                BarSeries(
                    name=str(kind),
                    values=[value.value for value in values],
                    low=[value.low for value in values],
                    high=[value.high for value in values],
                )
            )
        page.add_figure(
            draw_bars([str(mode) for mode in modes], series, y_label=label, size=(7.2, 3.2)),
            caption=f"{one.key}: {label} by mode, in all codebooks, with 95 % intervals.",
        )


def _add_concepts(page: Page, concepts: Sequence[ConceptResult]) -> None:
    rows: list[Row] = []
    points: list[tuple[float, float]] = []
    for one in concepts:
        modes = [arm.arm.mode for arm in one.arms]
        if not modes:
            continue
        strongest = EditMode.all if EditMode.all in modes else modes[0]
        arms = {kind: find_arm(one.arms, kind, strongest) for kind in ArmKind}
        codes, random = arms[ArmKind.codes], arms[ArmKind.random]
        if codes is None or random is None:
            continue
        weak = find_arm(one.arms, ArmKind.codes, EditMode.one)
        rows.append(
            [
                *(_name(one), one.num_spans, show_nats(codes.effect)),
                *(
                    None if arm is None else show_number(arm.effect.value)
                    for arm in (random, arms[ArmKind.other], arms[ArmKind.difference])
                ),
                None if weak is None else show_number(weak.effect.value),
                Cell(
                    value=codes.success.value,
                    text=f"{tell_share(codes.success)} ({tell_share(random.success)})",
                ),
                show_percent(codes.off_share),
            ]
        )
        points.append((random.effect.value, codes.effect.value))
    if not rows:
        return
    page.add_figure(
        draw_scatter(
            [Series(name="concepts", x=[x for x, _ in points], y=[y for _, y in points])],
            x_label="effect of random codes, nats",
            y_label="effect of the codes, nats",
            size=(5.2, 3.6),
        ),
        caption="Each point is a concept: its own codes against random codes on the same spans.",
    )
    page.add_table(
        [
            *("concept", "spans", "effect, nats", "random codes", "another concept"),
            *("difference of means", "mode one", "written (random)", "off / within"),
        ],
        rows,
        caption="Each concept in the strongest mode that was asked for, in all codebooks; 95 % "
        "intervals over utterances. Fewer spans than asked for: there were no more.",
    )
    with page.section("Which codes were forced"):
        page.add_table(
            ["concept", "codes, the best codebook first"],
            [[_name(one), "; ".join(one.places)] for one in concepts],
        )


def _name(one: ConceptResult) -> str:
    """A concept, a phone with the letters that write it."""
    is_letter = one.key == f"letter:{''.join(one.labels)}"
    return one.key if is_letter else f"{one.key} ({' '.join(one.labels)})"


def _add_ablations(page: Page, results: SteeringResults) -> None:
    columns = [
        *("concept", "codebooks", "utterances", "letters", "recall", "own drop"),
        *("random", "others' drop", "random "),
    ]
    for name, concepts in (
        ("Over all, drops of recall in points.", results.all),
        ("Each concept.", results.concepts),
    ):
        rows: list[Row] = []
        for one in concepts:
            for ablation in one.ablations:
                if ablation.kind is AblationKind.codes:
                    control = _find_control(one.ablations, ablation)
                    rows.append(
                        [
                            *(one.key, ablation.num_places, ablation.num_utterances),
                            *(ablation.own_total, show_share(ablation.own_before)),
                            show_points(ablation.own_drop),
                            None if control is None else show_points(control.own_drop),
                            show_points(ablation.other_drop),
                            None if control is None else show_points(control.other_drop),
                        ]
                    )
        page.add_table(columns, rows, caption=name)


def _add_languages(page: Page, results: SteeringResults) -> None:
    page.add_table(
        [
            *("forced", "spoken", "what is done", "mode", "utterances", "own letters before"),
            *("after", "CER before", "CER after"),
        ],
        [
            [
                *(one.target, one.source, str(one.kind), str(one.mode), one.num_utterances),
                *(show_share(one.share_before), show_share(one.share_after)),
                *(
                    show_share(one.cer_before, most=math.inf),
                    show_share(one.cer_after, most=math.inf),
                ),
            ]
            for one in results.languages
        ],
    )


def _add_examples(page: Page, examples: Sequence[Example]) -> None:
    if not examples:
        return
    page.add_heading("Examples")
    page.add_paragraph(
        "Edits in all codebooks, spread evenly from what worked best to what worked least. The "
        "patch lies between the lines; rows are the blank and the labels that come up, in order "
        "of time. Words before the edit stand above, after it below.",
        tone="note",
    )
    for one in examples:
        planned, measures = one.made.planned, one.made.measures
        tag = one.language.replace("_", "-")
        with page.card():
            page.add_paragraph(
                f"{planned.target} in place of {planned.replaced}, mode {planned.arm.mode}: effect "
                f"{measures.effect:.2f} nats, {'written' if measures.success else 'not written'}; "
                f"{planned.utterance}",
                language=tag,
            )
            page.add_audio(one.audio)
            page.add_figure(
                one.picture,
                caption=f"Rows from the top: {' · '.join(one.row_labels)}",
                alt="Posteriors before and after the edit",
            )
            page.add_alignment(one.pairs, language=tag)


def _find_control(
    ablations: Sequence[AblationSummary], ablation: AblationSummary
) -> AblationSummary | None:
    return next(
        (
            one
            for one in ablations
            if one.kind is AblationKind.random and one.num_places == ablation.num_places
        ),
        None,
    )
