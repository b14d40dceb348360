"""The stages of the demo, in order: what `speechvq.demo.stages` runs."""

from __future__ import annotations

from pathlib import Path

from speechvq.demo.config import PLANS, DemoConfig, DemoPlan
from speechvq.demo.stages import ProgressLine, Stage, StageLog, run_stages


def run_line(config: DemoConfig) -> Path:
    """Run the whole demo.

    Args:
        config: The demo's configuration, validated.

    Returns:
        Path of the page.
    """
    output = Path(config.output)
    plan = PLANS[config.preset]
    stages = list_stages(config, plan)
    log = StageLog(output, config)
    run_stages(stages, log)

    from speechvq.demo.page import write_page

    return write_page(output, plan, stages, log.seconds)


def list_stages(config: DemoConfig, plan: DemoPlan) -> list[Stage]:
    """All stages with the command lines of their verbs."""
    output = Path(config.output)
    corpus, pretrained = output / "corpus", output / "pretrained"
    seconds = plan.expected_seconds
    stages = [
        Stage(
            name="synthesize",
            purpose=f"espeak-ng speaks {len(plan.languages)} languages",
            action=lambda: synthesize(config, plan),
            expected_seconds=seconds["synthesize"],
        ),
        Stage(
            name="prepare",
            purpose="audio files and manifest become a Parquet corpus, 16 kHz mono",
            arguments=(
                *("prepare", f"input={output / 'speech'}", f"output={corpus}"),
                f"workers={config.workers}",
            ),
            expected_seconds=seconds["prepare"],
        ),
        Stage(
            name="pretrain",
            purpose="an encoder learns from all languages, without transcripts",
            arguments=(
                *("pretrain", f"corpus={corpus}", f"output={pretrained}"),
                *(*plan.pretrain, f"seed={config.seed}"),
            ),
            expected_seconds=seconds["pretrain"],
        ),
        Stage(
            name="codes",
            purpose="which codes each language uses, on speakers that training never heard",
            action=lambda: count_codes(output, plan),
            expected_seconds=seconds["codes"],
        ),
    ]
    for language in plan.finetuned:
        finetuned = output / "finetuned" / language
        stages += [
            Stage(
                name=f"finetune {language}",
                purpose="the encoder learns to write from transcribed speech",
                arguments=(
                    *("finetune", f"corpus={corpus}", f"model={pretrained / 'model'}"),
                    *(f"language={language}", f"output={finetuned}", *plan.finetune),
                    f"seed={config.seed}",
                ),
                expected_seconds=seconds["finetune"],
            ),
            Stage(
                name=f"evaluate {language}",
                purpose="word and character error rate on the test split",
                arguments=(
                    *("evaluate", f"corpus={corpus}", f"model={finetuned / 'model'}"),
                    *(f"language={language}", "split=test"),
                    f"output={output / 'evaluated' / language}",
                ),
                expected_seconds=seconds["evaluate"],
            ),
        ]
    return stages


def synthesize(config: DemoConfig, plan: DemoPlan) -> None:
    """Speak the sentences of all languages into `<output>/speech`."""
    from speechvq.data.synthetic_corpus import plan_shards, synthesize_corpus

    shards = []
    for chosen, num_train in (
        (plan.finetuned, plan.num_train_finetuned),
        ([code for code in plan.languages if code not in plan.finetuned], plan.num_train),
    ):
        counts = {"train": num_train, "dev": plan.num_dev, "test": plan.num_test}
        shards += plan_shards(chosen, counts, num_voices=plan.num_voices, seed=config.seed)
    progress = ProgressLine()
    seconds = synthesize_corpus(
        Path(config.output) / "speech",
        shards,
        num_workers=config.workers,
        report=lambda done, total: progress.show(f"{done} of {total} sentences"),
    )
    hours = ", ".join(f"{code} {value / 60:.1f}" for code, value in sorted(seconds.items()))
    total = sum(seconds.values()) / 3600
    progress.close(f"{total:.2f} h of speech; minutes a language: {hours}")


def count_codes(output: Path, plan: DemoPlan) -> None:
    """Count the codes of dev and test speech into `<output>/codes.json`."""
    from speechvq.demo.codes import count_codes_of_languages, write_code_counts

    progress = ProgressLine()
    counts = count_codes_of_languages(
        output / "pretrained" / "model",
        output / "corpus",
        plan.languages,
        report=lambda code: progress.show(f"speech of {code}"),
    )
    progress.close(f"{counts.counts[:, :, 0].sum():,} frames of {len(counts.languages)} languages")
    write_code_counts(output / "codes.json", counts)
