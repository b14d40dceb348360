"""Measures codebook features; writes `docs/results/31-…` to `37-….json`.

    python docs/measure_codebook_features.py --corpus CORPUS --recognizer HINDI --pretrained DEMO \
        --aligner ALIGNER --work DIRECTORY --machine '…' [--only cost]

CORPUS is what `prepare` makes of the five sources of `../shared/DATA.md`, HINDI a recogniser
finetuned on an hour of it, ALIGNER the one of `docs/measure_analysis.py`, DEMO what `make demo`
pretrained. An hour of read speech does not make a good recogniser, so that all is measured on
synthetic speech as well: Hindi and Spanish by espeak-ng, for one recogniser that writes both with
the same head. Runs are resumable, what stands is read.
"""

from __future__ import annotations

from typing import Any

from code_cases import Case, Measurement
from measuring import (
    create_parser,
    describe_difference,
    format_rate,
    parse_path,
    run_recipe,
    write_result,
)

from speechvq.analysis.concept_files import ConceptKind, read_concepts

COMMAND = (
    "python docs/measure_codebook_features.py --corpus corpus --recognizer hin_60m/model "
    "--pretrained demo/pretrained/model --aligner aligner/model --work work --machine '…'"
)
_BOTH = ("precision", "recall")
_WHICH = "k = 8, in all 6 layers of the synthetic recogniser, in layers 2 to 5 of that of Hindi."


def measure_tokfsm(it: Measurement) -> None:
    """The paper's own experiment."""
    rows = []
    for preset, seed in (("tiny", 1), ("tiny", 2), ("tiny", 3), ("mini", 1)):
        output = it.work / "tokfsm" / f"{preset}_{seed}"
        if not (output / "metrics.json").exists():
            run_recipe("tokfsm", None, output, [f"preset={preset}", f"seed={seed}"])
        found = it.read(output / "metrics.json")
        interchange = {row["name"]: row["divergence"] for row in found["interchange"]}
        rows.append([
            f"{preset}, seed {seed}",
            *(f"{100 * found[f'legal_transitions{end}']:.1f} %" for end in ("_dense", "")),
            *(f"{found[f'loss{end}']:.3f}" for end in ("_best", "_dense", "")),
            *(f"{found[name]:.3f}" for name in (
                "code_precision", "code_recall", "neuron_precision", "strong_neuron_precision",
                "jsd_all", "jsd_random",
            )),
            f"{interchange['all feed_forward']:.2f}",
        ])  # fmt: skip
    write_result(
        "31-tokfsm.json",
        title="The paper's experiment: a machine whose states are known",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "run", "legal, dense", "legal, codes", "best loss", "loss, dense", "loss, codes",
            "precision of codes", "their recall", "best neurons, as the paper",
            "strongest neurons", "JSD, all codes put in", "JSD, random codes",
            "JSD, feed-forward codes",
        ],
        rows=rows,
        notes=[
            "METHODS B.6.1 asks for: legal ≥ 95 %, loss of codes ≤ dense + 0.05, precision ≥ 0.9 "
            "and ≥ neurons + 0.3, JSD of all ≤ 0.05, of all feed-forward ≤ 0.5, of random codes "
            "≥ 0.8. Precision is that of layer 0, mean over states, on other texts than those of "
            "the choice; neurons at the same recall.",
            "Strongest neurons: inner values too, of either sign, five times as many. The paper "
            "does not compare with those.",
        ],
    )  # fmt: skip


def measure_cost(it: Measurement) -> None:
    """What k costs."""
    rows = []
    for case in (it.get_hindi(), it.get_spoken()):
        dense = it.evaluate(case, "no codes")
        start = it.read(it.evaluate_model(case, "start", case.model) / "metrics.json")
        rows.append([case.title, "before", format_rate(start, "cer"), *["–"] * 6])
        for variant in case.variants:
            run, result = it.train(case, variant), it.evaluate(case, variant)
            metrics, lines = it.read(result / "metrics.json"), it.read_lines(run)
            dev = [line for line in lines if line["split"] == "dev"][-1]
            own = list(dev.get("bottlenecks", {}).values())
            rows.append([
                case.title,
                variant,
                format_rate(metrics, "cer"),
                "–" if result == dense else describe_difference(dense, result),
                f"{100 * dev['cer']:.1f}",
                f"{dev['loss']:.2f}",
                *(
                    [
                        f"{100 * (1 - dev['code_usage']):.1f} %",
                        f"{dev['code_perplexity']:.0f}",
                        f"{min(min(one['perplexity']) for one in own):.0f}",
                    ]
                    if own
                    else ["–"] * 3
                ),
            ])  # fmt: skip
    write_result(
        "32-codes-cost.json",
        title="Recognisers with codes: what they cost",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "400 updates with", "CER on test % (95 %)", "less that without codes",
            "CER on dev %", "loss on dev", "codes unused on dev", "perplexity of 512, mean",
            "least of all",
        ],
        rows=rows,
        notes=[
            "Layers 2 to 5 of 6 (or all) have a codebook of 512 codes for each of 4 heads and one "
            "after the feed-forward part: 20 codebooks (or 30). Runs start from one recogniser "
            "and learn as long; `no codes` is the control. Greedy decoding; intervals and paired "
            "differences by bootstrap.",
            "Synthetic speech shows what codes do in a recogniser that recognises; its scores say "
            "nothing about human speech.",
        ],
    )  # fmt: skip


def measure_concepts(it: Measurement) -> None:
    """What codes stand for."""
    rows, phones, agreement, headline = [], [], [], []
    for case in (it.get_spoken(), it.get_hindi()):
        output = it.find_concepts(case)
        metrics = it.read(output / "metrics.json")
        for kind, one in metrics["kinds"].items():
            rows.append([
                case.title,
                kind,
                f"{one['measured']} of {one['concepts']}",
                *(_percent(one[f"median_{name}"]) for name in (
                    "precision", "recall", "neuron_precision", "any_neuron_precision",
                    "permuted_precision",
                )),
                "–" if one["p"] is None else f"{one['p']:.3f}",
                _percent(one["share_precise"]),
                " at ".join(_percent(one[f"median_union_{name}"]) for name in _BOTH),
            ])  # fmt: skip
        agreement.append(_describe_agreement(case, metrics))
        one = metrics["kinds"]["phone"]
        headline.append({
            "what": f"{case.title}, codes in hidden layers: precision of a phone's best code / "
            "best neuron of that layer at its recall / permuted labels, medians on test",
            "figure": " / ".join(_percent(one[f"median_{name}"]) for name in (
                "precision", "neuron_precision", "permuted_precision",
            )),
        })  # fmt: skip
        phones += [
            [case.title, row.concept, f"{row.place} {row.head}", row.support,
             *map(_percent, (row.precision, row.recall)), f"{row.lift:.1f}",
             *map(_percent, (row.neuron_precision, row.permuted_precision))]
            for row in read_concepts(output / "concepts.json").concepts
            if row.kind is ConceptKind.phone and row.is_best_place
        ]  # fmt: skip
    write_result(
        "33-codes-concepts.json",
        title="What codes of bottlenecks stand for",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "concepts", "frequent ones", "precision of codes", "their recall",
            "best neuron of the layer", "of any layer", "permuted labels", "p",
            "with a precise code", "unions of codes",
        ],
        rows=rows,
        notes=[
            f"{_WHICH} Medians over concepts, each at the place that was best on dev; codes, "
            "neurons and unions are chosen on dev and measured on test, neurons at the recall of "
            "the code, those of the recogniser without codes. Precise: precision ≥ 50 % at a "
            "recall ≥ 10 %. Language and pitch are scored by utterances, no speaker on both sides.",
            *agreement,
            "Phones of synthetic speech are espeak-ng's own events; those of Hindi are aligned by "
            "a recogniser and epitran and right to within a letter or so.",
        ],
        headline=headline,
    )  # fmt: skip
    write_result(
        "34-codes-phones.json",
        title="Every phone and its best code",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "phone", "place", "frames on test", "precision", "recall", "lift",
            "best neuron of the layer", "permuted labels",
        ],
        rows=phones,
        notes=["All phones, frequent or rare, as `speechvq concepts` chose their codes on dev."],
    )  # fmt: skip


def _describe_agreement(case: Case, metrics: Any) -> str:
    """How far two seeds agree, over codebooks."""
    found = metrics["agreement"]
    means = {
        name: sum(one[name] for one in found) / len(found)
        for name in ("agreement", "random_agreement", "same_phone", "random_same_phone")
    }
    return (
        f"{case.title}, two seeds, codes matched on dev: active together in "
        f"{_percent(means['agreement'])} of the cases on test (matched at random "
        f"{_percent(means['random_agreement'])}), with the same main phone "
        f"{_percent(means['same_phone'])} ({_percent(means['random_same_phone'])})."
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(estimate: Any) -> str:
    return "{value:.2f} ({low:.2f} – {high:.2f})".format(**estimate)


def _share(estimate: Any) -> str:
    """A share in percent; the interval is symmetric and may reach beyond what a share can be."""
    low, high = max(0.0, estimate["low"]), min(1.0, estimate["high"])
    return f"{100 * estimate['value']:.1f} ({100 * low:.1f} – {100 * high:.1f})"


def _fall(estimate: Any) -> str:
    """A difference in points."""
    return "{:.1f} ({:.1f} … {:.1f})".format(
        *(100 * estimate[name] + 0.0 for name in ("value", "low", "high"))
    )


def measure_steering(it: Measurement) -> None:
    """What switching codes does."""
    arms, needed, languages, notes, headline = [], [], [], [], []
    for case in (it.get_spoken(), it.get_hindi()):
        found = it.read(it.steer(case) / "steering.json")
        for kind in found["all"]:
            written: dict[str, str] = {}
            for one in kind["arms"]:
                arm = one["arm"]
                arms.append([
                    case.title, kind["key"], arm["kind"], arm["mode"], arm["num_places"],
                    one["num_edits"], _interval(one["effect"]),
                    _interval(one["effect_without_blank"]), _share(one["success"]),
                    _percent(one["off_share"]), _share(one["rest_change"]),
                ])  # fmt: skip
                if arm["mode"] == "all" and arm["kind"] in ("codes", "random codes"):
                    written.setdefault(arm["kind"], _percent(one["success"]["value"]))
            if kind["key"] == "letter":
                headline.append({
                    "what": f"{case.title}: a letter is written where its codes are forced into "
                    "spans of others / where random codes as frequent are",
                    "figure": " / ".join(written.values()),
                })  # fmt: skip
            for one in kind["ablations"]:
                needed.append([
                    case.title, kind["key"], one["kind"], one["num_places"], one["own_total"],
                    _share(one["own_before"]), _fall(one["own_drop"]),
                    _share(one["other_before"]), _fall(one["other_drop"]),
                ])  # fmt: skip
        for one in found["languages"]:
            languages.append([
                one["target"], one["source"], one["kind"], one["mode"], one["num_utterances"],
                *(_share(one[name]) for name in (
                    "share_before", "share_after", "cer_before", "cer_after",
                )),
            ])  # fmt: skip
        if found["language_missing"]:
            notes.append(f"{case.title}: no language forced. {found['language_missing']}")
    shared = (
        f"{_WHICH} Codes are chosen on dev (`speechvq concepts`); intervals by bootstrap over "
        "utterances."
    )
    write_result(
        "35-steering.json",
        title="Forcing codes of concepts",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "concepts", "what is forced", "mode", "codebooks", "spans",
            "effect, nats (95 %)", "among letters, nats", "written in the span, %",
            "KL off the span over that within", "rest of the text changed, %",
        ],
        rows=arms,
        notes=[
            "Spans of other letters, in which the concept is neither said nor recognised; span and "
            "two frames to each side are patched. Effect: log of the concept's mass over all "
            "labels there, the blank one of them, after minus before. " + shared,
        ],
        headline=headline,
    )  # fmt: skip
    write_result(
        "36-codes-needed.json",
        title="Taking codes of concepts out",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "recogniser", "concepts", "what is taken out", "codebooks", "letters",
            "recall of the concept's letters, %", "its fall, points", "recall of all others, %",
            "its fall, points",
        ],
        rows=needed,
        notes=["All codes of a concept's union give nothing, in whole utterances. " + shared],
    )  # fmt: skip
    write_result(
        "37-language-steering.json",
        title="Forcing codes of languages",
        machine=it.options.machine,
        command=COMMAND,
        columns=[
            "codes of", "spoken", "what is forced", "mode", "utterances",
            "letters of that language before, %", "after, %", "CER before, %", "after, %",
        ],
        rows=languages,
        notes=[
            "Synthetic Hindi and Spanish in a recogniser that writes both with one head; codes are "
            "forced in all frames. " + shared,
            *notes,
        ],
    )  # fmt: skip


PARTS = {
    "tokfsm": measure_tokfsm,
    "cost": measure_cost,
    "concepts": measure_concepts,
    "steering": measure_steering,
}


def main() -> None:
    """Entry point."""
    parser = create_parser(__doc__, "corpus", "work")
    parser.add_argument("--recognizer", type=parse_path, required=True, help="of Hindi")
    parser.add_argument("--pretrained", type=parse_path, required=True, help="of `make demo`")
    parser.add_argument("--aligner", type=parse_path, required=True, help="that places phones")
    parser.add_argument("--only", choices=PARTS, help="one part")
    measurement = Measurement(parser.parse_args())
    for name, measure in PARTS.items():
        if measurement.options.only in (None, name):
            measure(measurement)


if __name__ == "__main__":
    main()
