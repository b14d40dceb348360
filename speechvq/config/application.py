"""Starts a recipe: composes its configuration, checks it, runs it, turns errors into exit codes.

    def main() -> None:
        launch(run, PretrainConfig, "pretrain")

Hydra does the composing, sweeps and launchers; the check comes first, before anything is written,
and names every problem in one message (DESIGN.md D2, D12).
"""

from __future__ import annotations

import difflib
import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from speechvq.config.sweep import (
    check_launcher,
    check_single_init,
    finish_sweep,
    list_variants,
    plan_sweep,
    run_in_sweep,
    wait_for_runs,
)
from speechvq.errors import (
    ConfigError,
    InterruptedRunError,
    NoSpaceError,
    SpeechvqError,
    TrainingDivergedError,
)

ConfigT = TypeVar("ConfigT")

CONF = next(
    path
    for parent in (1, 2)
    if (path := Path(__file__).resolve().parents[parent] / "conf").is_dir() or parent == 2
)
"""The YAML files: inside the package in a wheel, beside it in a checkout."""

_MULTIRUN_FLAGS = frozenset({"--multirun", "-m"})
_INFORMATION_FLAGS = frozenset(
    {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--resolve",
     "--package", "-p", "--shell-completion", "-sc"}
)  # fmt: skip

_SHARED_ERRORS = (ConfigError, InterruptedRunError, TrainingDivergedError)
"""Errors that all ranks of a run meet alike."""


def launch(run: Callable[[ConfigT], object], schema: type[ConfigT], name: str) -> None:
    """Run a recipe with the configuration of the command line, then leave the process.

    Args:
        run: The recipe.
        schema: Its configuration's dataclass; a method `validate() -> list[str]` is called.
        name: The verb: the name of its YAML file.
    """
    import hydra

    from speechvq.config.schemas import register_schemas

    arguments = sys.argv[1:]
    is_sweep = _is_sweep(arguments)
    if is_sweep and not _INFORMATION_FLAGS & set(arguments):
        _exit_on_error(lambda: check_single_init(_wrap_lists(schema, arguments, is_sweep=True)))
    _exit_on_error(lambda: register_schemas(name, schema, arguments))
    if not _INFORMATION_FLAGS & set(arguments):
        _exit_on_error(lambda: _check(name, schema, arguments))

    sys.argv[1:] = _wrap_lists(schema, arguments, is_sweep=is_sweep)
    if is_sweep and not _INFORMATION_FLAGS & set(arguments):
        _launch_sweep(run, schema, name, sys.argv[1:])

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
    def main(config: Any) -> None:
        _exit_on_error(lambda: run(_to_object(config, schema)))

    main()


def _launch_sweep(
    run: Callable[[ConfigT], object], schema: type[ConfigT], name: str, arguments: list[str]
) -> NoReturn:
    """Run all runs of a sweep, then leave with its exit code."""
    import hydra

    sweep = plan_sweep(
        _list_own_overrides(arguments),
        lambda overrides: _compose_output(name, schema, overrides),
    )

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
    def main(config: Any) -> int:
        return run_in_sweep(
            sweep, config, lambda one: _to_object(one, schema), run, _find_own_error
        )

    flags = [argument for argument in arguments if argument.startswith("-")]
    own = [f"hydra.sweep.dir={_quote(sweep.records)}", "hydra.sweep.subdir=."]
    sys.argv[1:] = [*flags, *own, *(a for a in arguments if a not in flags)]
    code = 0
    with wait_for_runs():
        try:
            main()
        except SystemExit as error:  # Hydra has told why
            code = error.code if isinstance(error.code, int) else 1
    sys.exit(finish_sweep(sweep) or code)


def load_config(schema: type[ConfigT], name: str, overrides: Iterable[str] = ()) -> ConfigT:
    """Compose and check a configuration from Python, as the command line would.

    Args:
        schema: The configuration's dataclass.
        name: The verb.
        overrides: `key=value` pairs.

    Returns:
        The configuration.

    Raises:
        ConfigError: Names every problem.
    """
    from speechvq.config.schemas import register_schemas

    overrides = list(overrides)
    register_schemas(name, schema, overrides)
    return _compose_checked(name, schema, overrides)


def _check(name: str, schema: type[Any], arguments: list[str]) -> None:
    """Check the command line's configuration; of a sweep, each value of each key."""
    if any(argument.startswith("-") for argument in set(arguments) - _MULTIRUN_FLAGS):
        # --config-name, --config-dir and friends change what is composed; Hydra checks those.
        return
    overrides = _list_own_overrides(arguments)
    variants = [overrides]
    if _is_sweep(arguments):
        check_launcher(arguments)
        variants = list_variants(_wrap_lists(schema, overrides, is_sweep=True))
    problems: dict[str, None] = {}
    for variant in variants:
        try:
            _compose_checked(name, schema, variant)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def _list_own_overrides(arguments: list[str]) -> list[str]:
    """Return the overrides of the recipe's keys, without Hydra's own."""
    return [a for a in arguments if not a.lstrip("+~").startswith(("-", "hydra.", "hydra/"))]


def _is_sweep(arguments: list[str]) -> bool:
    return bool(_MULTIRUN_FLAGS & set(arguments))


def _compose_checked(name: str, schema: type[ConfigT], overrides: list[str]) -> ConfigT:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = _wrap_lists(schema, overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        try:
            config = compose(name, overrides)
        except Exception as error:
            found = {o: _find_problem(compose, name, o, schema) for o in overrides}
            problems = [problem for problem in found.values() if problem is not None]
            # Values that are right on their own are still checked, so that one message has it all.
            rest = [override for override, problem in found.items() if problem is None]
            problems += _validate_if_possible(compose, name, rest, schema)
            raise ConfigError(problems or [_clean_message(error)]) from error
    return _to_object(config, schema)


def _compose_output(name: str, schema: type[Any], overrides: list[str]) -> str:
    """Return the `output` of one run."""
    return str(_compose_checked(name, schema, overrides).output)


def _validate_if_possible(
    compose: Callable[..., Any], name: str, overrides: list[str], schema: type[Any]
) -> list[str]:
    try:
        _to_object(compose(name, overrides), schema)
    except ConfigError as error:
        return list(error.problems)
    except Exception:
        return []
    return []


def _to_object(config: Any, schema: type[ConfigT]) -> ConfigT:
    """Turn a DictConfig into the dataclass and validate it.

    Keys that are required and were not given keep the mark `???`, so that `validate` can name all
    of them at once.
    """
    from omegaconf import OmegaConf

    config = config.copy()
    OmegaConf.set_readonly(config, False)
    missing = sorted(OmegaConf.missing_keys(config))
    for key in missing:
        OmegaConf.update(config, key, "")
    value = OmegaConf.to_object(config)
    if not isinstance(value, schema):
        raise TypeError(f"The configuration must be a {schema.__name__}, but is {type(value)}.")
    for key in missing:
        *path, last = key.split(".")
        setattr(functools.reduce(getattr, path, value), last, "???")
    validate = getattr(value, "validate", None)
    problems = validate() if validate is not None else []
    if problems:
        raise ConfigError(problems)
    return value


def _find_problem(
    compose: Callable[..., Any], name: str, override: str, schema: type[Any]
) -> str | None:
    """Return what is wrong with one override, or None."""
    try:
        compose(name, [override])
    except Exception as error:
        return _explain(error, override, schema)
    return None


def _explain(error: Exception, override: str, schema: type[Any]) -> str:
    """Say what is wrong with an override in the house's sentence."""
    key = override.split("=", 1)[0].lstrip("+~")
    message = _clean_message(error)
    if key in _list_keys(schema):  # of something within: `edits=[{layr: 3}]`
        return f"`{override}`: {message}"
    if "Could not override" in message or "Could not append" in message or "not in" in message:
        known = sorted(_list_keys(schema))
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = (
            f" Did you mean `{close[0]}`?"
            if close
            else f" Known keys: {', '.join(k for k in known if '.' not in k)}."
        )
        return f"`{key}` is not a key of this run.{hint}"
    return f"`{override}`: {message}"


def _clean_message(error: Exception) -> str:
    """Return the first meaningful lines of one of Hydra's errors."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    kept = [line for line in lines if not re.match(r"(full_key|object_type|reference_type)", line)]
    return " ".join(kept[:4])


def _list_keys(schema: type[Any], prefix: str = "") -> Iterable[str]:
    from dataclasses import fields, is_dataclass
    from typing import get_type_hints

    yield from ("preset", "quantizer") if not prefix else ()
    hints = get_type_hints(schema)
    for item in fields(schema):
        yield f"{prefix}{item.name}"
        kind = hints[item.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _list_keys(kind, f"{prefix}{item.name}.")


def _wrap_lists(schema: type[Any], overrides: list[str], *, is_sweep: bool = False) -> list[str]:
    """Bring overrides into Hydra's grammar.

    `corpus=DIR` stands for `corpus=[DIR]`; texts such as `where=source=radio` are quoted. In a
    sweep commas part the values of the runs: `corpus=A,B` are two runs, `corpus=[A,B]` is one.
    """
    from typing import get_args, get_origin, get_type_hints

    hints = get_type_hints(schema)
    lists = {name for name, kind in hints.items() if get_origin(kind) is list}
    texts = {name for name, kind in hints.items() if kind is str or str in get_args(kind)}
    wrapped = []
    for override in overrides:
        key, mark, value = override.partition("=")
        name = key.lstrip("+")
        is_function = is_sweep and re.fullmatch(r"[a-z]+\(.*\)", value)  # such as `range(1,4)`
        if mark and value and not is_function:
            if name in lists and not value.startswith("["):
                override = f"{key}={_wrap_list(value, is_sweep)}"
            elif name in texts - lists and not value.startswith(("${", "???")):
                override = f"{key}={_quote_text(value, is_sweep)}"
        wrapped.append(override)
    return wrapped


def _wrap_list(value: str, is_sweep: bool) -> str:
    items = [_quote(item) for item in value.split(",")]
    return ",".join(f"[{item}]" for item in items) if is_sweep else f"[{','.join(items)}]"


def _quote_text(value: str, is_sweep: bool) -> str:
    is_one = not is_sweep or value[0] in "'\""
    return _quote(value) if is_one else ",".join(_quote(item) for item in value.split(","))


def _quote(text: str) -> str:
    """Quote what Hydra's grammar would not take as a plain word."""
    if re.fullmatch(r"[\w./:~%@?*+-]+", text, re.ASCII) or text[:1] in "'\"":
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _exit_on_error(action: Callable[[], object]) -> None:
    """Run something; print our own errors without a traceback and leave with their code."""
    try:
        action()
    except KeyboardInterrupt:
        print("speechvq: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        known = _find_own_error(error)
        if known is None:
            raise
        _leave(known)


def _find_own_error(error: Exception) -> SpeechvqError | None:
    """Return what an exception means to the user, or None if it is a defect of ours."""
    if isinstance(error, SpeechvqError):
        return error
    full = _find_full_disk(error)
    if full is None:
        return None
    return NoSpaceError(
        f"The disk is full, or a quota or limit of file size is reached ({full}). What was saved "
        "before is intact: make room and run the same command again."
    )


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Full disk, quota, and limit of a file's size (`ulimit -f`)."""


def _find_full_disk(error: BaseException | None) -> str | None:
    """Return what could not be written if a full disk is behind an error, or None.

    Libraries put errors of their own around it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if any(os.strerror(number) in str(error) for number in _NO_ROOM):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _leave(error: SpeechvqError) -> NoReturn:
    """Print an error and leave with its code.

    Of errors that all ranks of a run meet alike, rank 0 speaks; others name the rank.
    """
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    if rank == "0":
        print(f"speechvq: {error}", file=sys.stderr, flush=True)
    elif not isinstance(error, _SHARED_ERRORS):
        print(f"speechvq (rank {rank}): {error}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)
