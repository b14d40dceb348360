"""Self-training: label what has no text, keep what is sure, learn from it, again.

A recogniser transcribes the untranscribed segments of the training split, keeps the labels that
meet all criteria (`speechvq.self_training.selection`), and a student learns from them and the
transcribed speech, augmented: masks, speeds, dropout (noisy student, Park et al. 2020). Each
student starts from the pretrained model, not from its teacher (Xu et al. 2021, Self-training and
pre-training are complementary for speech recognition). dev only says when to stop.
"""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from speechvq.data.index import CorpusIndex
from speechvq.data.label_tables import choose_corpus_normalizer, load_labels
from speechvq.data.records import SAMPLE_RATE
from speechvq.decoding.language_model import SUMMARY_FILE
from speechvq.decoding.scoring import UtteranceScores
from speechvq.deploy.decoding_weights import WEIGHTS_FILE
from speechvq.deploy.recognizer import Recognizer
from speechvq.errors import ConfigError, DataError, ModelError
from speechvq.models.vocabulary import Vocabulary
from speechvq.self_training.config import SelfTrainConfig
from speechvq.self_training.doubtful import write_doubtful
from speechvq.self_training.recognition import Recognition, SegmentRecognizer, recognize_index
from speechvq.self_training.report import write_report
from speechvq.self_training.results import (
    LABELS,
    RoundResult,
    create_result,
    describe_selection,
    read_result,
    score_dev,
    write_decisions,
    write_result,
)
from speechvq.self_training.selection import Criteria, Decision, create_criteria, decide
from speechvq.training.finetune_config import FinetuneConfig
from speechvq.training.label_overlay import load_pool, note_unknown_letters
from speechvq.training.run_directory import RunDirectory
from speechvq.training.selection import describe_index, limit_index

Train = Callable[[FinetuneConfig], RunDirectory]


@dataclass(frozen=True, kw_only=True)
class SelfTrainingData:
    """What the rounds work on.

    Attributes:
        transcribed: Utterances with texts.
        vocabulary: Of these texts.
        pool: Segments of the training split without text.
        dev: Utterances that the rounds are compared on, with texts.
        notes: What was left out or looks wrong, one sentence each.
    """

    transcribed: CorpusIndex
    vocabulary: Vocabulary
    pool: CorpusIndex
    dev: CorpusIndex
    notes: list[str]


def run_self_training(config: SelfTrainConfig) -> RunDirectory:
    """Train in rounds until CER on dev no longer falls, or go on where a run stopped.

    Args:
        config: The run's configuration, validated.

    Returns:
        The run's directory, with `model/` (the best round's), `summary.json`, `report.html`,
        `doubtful.html` and `doubtful.tsv`.

    Raises:
        ConfigError: `output` holds another run, or there are several processes.
        DataError: There is nothing to label or no dev split, or a table does not fit the corpus.
        ModelError: A model cannot be read or has no head for the language.
        InterruptedRunError: A signal ended the run; its state is saved.
        TrainingDivergedError: Updates were not finite; the last checkpoint is kept.
    """
    from speechvq.training.engine import get_world_size
    from speechvq.training.finetuning import run_finetuning

    if get_world_size() > 1:
        raise ConfigError(
            ["Self-training runs as one process: start `speechvq self_train` without torchrun."]
        )
    directory = RunDirectory(config, "self_train")
    directory.check()
    data = load_self_training_data(config)
    directory.write_config()
    for note in data.notes:
        print(f"  note: {note}", flush=True)
    SelfTraining(config, data, directory, run_finetuning).run()
    return directory


def load_self_training_data(config: SelfTrainConfig) -> SelfTrainingData:
    """Load and check what the rounds work on.

    Raises:
        DataError: There is nothing to label or no dev split, or a table does not fit the corpus.
    """
    from speechvq.training.recognition_data import load_split, load_transcribed

    notes: list[str] = []
    transcribed, vocabularies = load_transcribed(config, notes)
    vocabulary = vocabularies[config.code]
    pool = load_pool(config, transcribed, notes)
    tables = [*config.labels, *config.corrections]
    if tables:
        labels = load_labels(
            tables, config.corpus, languages=config.language, split=config.train_split
        )
        note_unknown_letters(labels.texts, vocabulary, notes)
        known = labels.texts.keys() | labels.unusable
        pool = pool.select(_mask(pool, lambda name: name not in known))
        notes.append(
            f"{len(labels.texts)} texts of {', '.join(tables)} are used as transcripts; "
            f"{len(labels.unusable)} segments are marked as not to be understood and left out."
        )
    if len(pool) == 0:
        raise DataError(
            f"{', '.join(config.corpus)}: split `{config.train_split}` has no untranscribed "
            f"segment of `language={config.code}`, so that there is nothing to label. Prepare "
            "untranscribed speech with it, or set `max_train_seconds`."
        )
    dev = limit_index(load_split(config, config.dev_split, config.language), config.max_dev_seconds)
    if len(dev) == 0:
        raise DataError(
            f"{', '.join(config.corpus)}: no transcribed utterance of `language={config.code}` "
            f"in split `{config.dev_split}`; without it nothing says when labels do harm."
        )
    if config.lm is not None and config.max_train_seconds is not None:
        _note_language_model(config.lm, notes)
    return SelfTrainingData(
        transcribed=transcribed, vocabulary=vocabulary, pool=pool, dev=dev, notes=notes
    )


class SelfTraining:
    """The rounds of a run.

    Args:
        config: The run's configuration.
        data: What they work on.
        directory: The run's files.
        train: Finetunes, or goes on with it.
    """

    def __init__(
        self,
        config: SelfTrainConfig,
        data: SelfTrainingData,
        directory: RunDirectory,
        train: Train,
    ) -> None:
        self._config = config
        self._data = data
        self._directory = directory
        self._train = train
        self._criteria: Criteria = create_criteria(config, data.transcribed, data.vocabulary)
        self._normalize = choose_corpus_normalizer(config.corpus)
        self._results: list[RoundResult] = []

    def run(self) -> None:
        """Run all rounds that are not done."""
        self._finish_round(self._run_seed())
        reason = f"All {self._config.rounds} rounds are done."
        for number in range(1, self._config.rounds + 1):
            result = self._run_round(number)
            if result is None:
                reason = f"Round {number} kept no label: {self._explain_nothing(number)}"
                break
            self._finish_round(result)
            if number - self._find_best().number >= self._config.patience:
                reason = (
                    f"CER on dev did not fall in {self._config.patience} round"
                    f"{'s' if self._config.patience > 1 else ''} after round "
                    f"{self._find_best().number}."
                )
                break
        print(f"self_train: {reason}", flush=True)
        self._adopt_best()
        self._write_summary(reason)

    def _run_seed(self) -> RoundResult:
        place = self._place(0)
        done = read_result(place)
        if done is not None:
            return done
        if self._config.model is not None:
            model = Path(self._config.model).absolute()
        else:
            tables = [*self._config.labels, *self._config.corrections]
            model = self._finetune(0, self._config.pretrained, tables)
        return create_result(0, model, self._score(0, model), {})

    def _run_round(self, number: int) -> RoundResult | None:
        """Label, select, learn, score; None if no label is kept."""
        place = self._place(number)
        done = read_result(place)
        if done is not None:
            return done
        teacher = Path(self._results[-1].model)
        decisions = self._label(number, teacher)
        write_decisions(place, decisions)
        write_doubtful(self._directory.path, decisions, self._data.pool, self._config, number)
        num_kept = sum(one.is_kept for one in decisions)
        if not num_kept:
            return None
        print(
            f"self_train round {number}: kept {num_kept:,} of {len(decisions):,} labels",
            flush=True,
        )
        tables = [*self._config.labels, *self._config.corrections, str(place / LABELS)]
        start = self._config.pretrained if self._config.start == "pretrained" else str(teacher)
        model = self._finetune(number, start, tables)
        heard = self._recognize_dev(number - 1, teacher)
        dev_decisions = self._decide(self._data.dev, heard, 1.0)
        scores = score_dev(self._data.dev, heard, self._normalize)
        selection = describe_selection(decisions, dev_decisions, scores)
        return create_result(number, model, self._score(number, model), selection)

    def _label(self, number: int, teacher: Path) -> list[Decision]:
        heard = recognize_index(
            self._load(teacher),
            self._data.pool,
            self._place(number) / "pool.jsonl",
            batch_seconds=self._config.recognize_seconds,
            verb=f"label, round {number}",
        )
        return self._decide(self._data.pool, heard, self._config.get_keep_share(number))

    def _decide(
        self, index: CorpusIndex, heard: dict[str, Recognition], share: float
    ) -> list[Decision]:
        lengths = (index.num_samples / SAMPLE_RATE).tolist()
        seconds = dict(zip(index.ids, lengths, strict=True))
        return decide([heard[name] for name in index.ids], seconds, self._criteria, share)

    def _finetune(self, number: int, start: str | None, tables: list[str]) -> Path:
        """Finetune on the transcribed speech and the tables; returns the recogniser."""
        output = self._place(number) / "run"
        config = self._config.create_finetune_config(output, model=start, labels=tables)
        model = self._train(config).model
        tuned = None if self._config.model is None else Path(self._config.model) / WEIGHTS_FILE
        if tuned is not None and tuned.exists():
            shutil.copyfile(tuned, model / WEIGHTS_FILE)  # so that rounds differ in labels only
        return model

    def _score(self, number: int, model: Path) -> UtteranceScores:
        heard = self._recognize_dev(number, model)
        return score_dev(self._data.dev, heard, self._normalize)

    def _recognize_dev(self, number: int, model: Path) -> dict[str, Recognition]:
        return recognize_index(
            self._load(model),
            self._data.dev,
            self._place(number) / "dev.jsonl",
            batch_seconds=self._config.recognize_seconds,
            verb=f"dev, round {number}",
        )

    def _load(self, model: Path) -> SegmentRecognizer:
        config = self._config
        recognizer = Recognizer.load(
            model,
            device=config.device,
            lm=[] if config.lm is None else [config.lm],
            decoder=config.decoder,
        )
        if config.lm is not None and config.code not in recognizer.decoders:
            raise ModelError(f"`lm` must be of `language={config.code}`, but {config.lm} is not.")
        return SegmentRecognizer(recognizer, config.code, config.second_decoding)

    def _place(self, number: int) -> Path:
        place = self._directory.path / "rounds" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _find_best(self) -> RoundResult:
        return min(self._results, key=lambda one: (one.cer, one.number))

    def _finish_round(self, result: RoundResult) -> None:
        """Note that a round is done; its model becomes the run's if it is the best so far."""
        place = self._place(result.number)
        is_new = read_result(place) is None
        self._results.append(result)
        print(result.describe(), flush=True)
        if is_new:
            write_result(place, result)
            self._adopt_best()
            self._write_summary("The run is not finished.")

    def _adopt_best(self) -> None:
        """Make the best round's model the run's, unless it is already."""
        source, target = Path(self._find_best().model), self._directory.model
        weights = "model.safetensors"
        is_there = (target / weights).exists()
        if not (is_there and filecmp.cmp(source / weights, target / weights, shallow=False)):
            _replace_directory(source, target)

    def _explain_nothing(self, number: int) -> str:
        decisions = self._label(number, Path(self._results[-1].model))
        counts: dict[str, int] = {}
        for one in decisions:
            counts[str(one.reason)] = counts.get(str(one.reason), 0) + 1
        reason, count = max(counts.items(), key=lambda item: item[1])
        return (
            f"{count:,} of {len(decisions):,} for “{reason}”. Lower the floor that is meant, or "
            "transcribe more."
        )

    def _write_summary(self, reason: str) -> None:
        best = self._find_best()
        summary = {
            "verb": "self_train",
            "language": self._config.code,
            "best": {"round": best.number, "cer": best.cer, "wer": best.wer},
            "seed": {"cer": self._results[0].cer, "wer": self._results[0].wer},
            "stopped": reason,
            "rounds": [asdict(one) for one in self._results],
            "transcribed": describe_index(self._data.transcribed),
            "untranscribed": describe_index(self._data.pool),
            "dev": describe_index(self._data.dev),
            "criteria": self._criteria.describe(),
            "notes": self._data.notes,
        }
        self._directory.write_summary(summary)
        write_report(self._directory.path, self._config, self._results, summary)


def _mask(index: CorpusIndex, is_wanted: Callable[[str], bool]) -> np.ndarray:
    return np.array([is_wanted(name) for name in index.ids], dtype=bool)


def _replace_directory(source: Path, target: Path) -> None:
    """Copy a directory; a half-made copy never has its name."""
    work = target.with_name("model.tmp")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


def _note_language_model(directory: str, notes: list[str]) -> None:
    """Say so if the language model may know texts that count as untranscribed."""
    try:
        summary = json.loads((Path(directory) / SUMMARY_FILE).read_text(encoding="utf-8"))
        corpus = summary["config"]["corpus"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if corpus:
        notes.append(
            f"The language model {directory} was trained on transcripts of {corpus}: with "
            "`max_train_seconds` it may know texts that count as untranscribed here."
        )
