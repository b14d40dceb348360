"""Writes what is said in audio files: `speechvq transcribe FILES… --model DIR --output-dir DIR`.

FILES are audio of any format and length, or folders of it. Without --output-dir the texts are
printed. Exit code 0: all files are transcribed; 5: some could not be, all others are; 2: nothing
could be, or nothing was begun.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from speechvq.deploy.transcript_files import SUFFIXES
from speechvq.errors import SpeechvqError

_NOTHING_DONE_EXIT_CODE = 2
_SOME_FAILED_EXIT_CODE = 5


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(prog="speechvq transcribe", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file, or folder of them")
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="model directory that `finetune` left"
    )
    parser.add_argument(
        "--output-dir", metavar="DIR", help="where transcripts go (default: print the texts)"
    )
    parser.add_argument(
        "--output-format",
        default="txt",
        metavar="NAME,…",
        help=f"{', '.join(SUFFIXES)}, some of them with commas between, or all (default: txt)",
    )
    parser.add_argument(
        "--language",
        metavar="L",
        help="such as hin_Deva (default: of each file, the head that is surest of it)",
    )
    parser.add_argument(
        "--lm",
        action="append",
        default=[],
        metavar="DIR",
        help="language model that `train_lm` left; again for another language",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)"
    )
    parser.add_argument(
        "--batch-seconds",
        type=float,
        metavar="S",
        help="audio in a batch (default: 240 on a GPU, single windows on a CPU)",
    )
    parser.add_argument(
        "--keep-truncated",
        action="store_true",
        help="transcribe a file that ends before its header says as far as it goes",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that stand in the way, and transcribe again what is done",
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Transcribes, says what came of it, and returns the exit code."""
    from speechvq.deploy.progress import format_clock
    from speechvq.deploy.transcription_inputs import show_path
    from speechvq.deploy.transcription_run import TranscribeOptions, transcribe_files

    names = options.output_format.split(",")
    outcome = transcribe_files(
        TranscribeOptions(
            files=options.files,
            model=options.model,
            output_dir=options.output_dir,
            formats=tuple(SUFFIXES) if "all" in names else tuple(dict.fromkeys(names)),
            language=options.language,
            lms=tuple(options.lm),
            batch_seconds=options.batch_seconds,
            device=options.device,
            overwrite=options.overwrite,
            keep_truncated=options.keep_truncated,
        )
    )
    for path, problem in outcome.failures:
        print(f"speechvq: {show_path(path)}: {problem}", file=sys.stderr)
    print(
        f"transcribed {outcome.num_done} files, {format_clock(outcome.seconds)} of audio; done "
        f"before: "
        f"{outcome.num_skipped}; failed: {len(outcome.failures)}",
        file=sys.stderr,
    )
    if not outcome.failures:
        return 0
    has_transcripts = outcome.num_done + outcome.num_skipped > 0
    return _SOME_FAILED_EXIT_CODE if has_transcripts else _NOTHING_DONE_EXIT_CODE


def main() -> int:
    """Runs the verb `transcribe` and returns the exit code."""
    try:
        return run(parse_arguments())
    except SpeechvqError as error:
        print(f"speechvq: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
