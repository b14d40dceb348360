"""fairseq's manifests: `train.tsv` (a root, then paths with lengths) with `train.wrd` and
`train.ltr` beside it, as IndicWav2Vec and Shrutilipi give them.

Lengths are in samples of each file's own rate, which the manifest does not say; so they are not
taken for declared lengths.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from speechvq.data.formats.rows import (
    BadRow,
    RawRow,
    Rows,
    find_language_in,
    get_folder,
    join_path,
    read_lines,
)
from speechvq.data.tree import FileTree
from speechvq.errors import DataError


def detect_fairseq(tree: FileTree) -> bool:
    """Returns whether a TSV begins with a root and goes on with paths and lengths."""
    return any(_is_manifest(tree, path) for path in tree.find_files(".tsv")[:64])


def read_fairseq(tree: FileTree) -> Rows:
    """Reads every manifest of the input; its name is the split.

    Raises:
        DataError: If the transcripts of a manifest are more or fewer than its files.
    """
    for path in tree.find_files(".tsv"):
        if _is_manifest(tree, path):
            yield from _read_manifest(tree, path)


def _is_manifest(tree: FileTree, path: str) -> bool:
    try:
        lines = read_lines(tree, path)
        root, first = next(lines, (0, "\t"))[1], next(lines, (0, ""))[1]
    except DataError:
        return False
    cells = first.split("\t")
    return "\t" not in root and len(cells) == 2 and cells[1].strip().isdecimal()


def _read_manifest(tree: FileTree, path: str) -> Rows:
    lines = list(read_lines(tree, path))
    transcripts = _read_transcripts(tree, path, len(lines) - 1)
    prefix = _find_prefix(tree, path, lines[0][1].strip(), lines[1][1].partition("\t")[0])
    language = find_language_in(tree, path)
    for (number, line), transcript in zip(lines[1:], transcripts, strict=True):
        name, separator, length = line.partition("\t")
        if not separator or not length.strip().isdecimal():
            yield BadRow(f"{path}:{number}", "The line must be a path, a tab and a length.")
            continue
        yield RawRow(
            where=f"{path}:{number}",
            path=join_path(prefix, name),
            language=language,
            split=PurePosixPath(path).stem,
            transcript=transcript or None,
        )


def _read_transcripts(tree: FileTree, path: str, num_rows: int) -> list[str]:
    for suffix in (".wrd", ".ltr"):
        name = str(PurePosixPath(path).with_suffix(suffix))
        if not tree.exists(name):
            continue
        lines = tree.read_text(name).split("\n")
        if lines and not lines[-1]:
            lines.pop()
        if len(lines) != num_rows:
            raise DataError(
                f"{tree.location}/{name} has {len(lines)} lines, but {path} has {num_rows} files:"
                " which transcript belongs to which file is unknown."
            )
        if suffix == ".ltr":
            lines = ["".join(line.split()).replace("|", " ") for line in lines]
        return [line.strip() for line in lines]
    return [""] * num_rows


def _find_prefix(tree: FileTree, path: str, root: str, first: str) -> str:
    """Returns the folder of the input that the manifest's root stands for: the data has moved since
    the manifest was written.
    """
    parts = PurePosixPath(root).parts
    candidates = (
        [root] if PurePosixPath(root).is_absolute() else [join_path(get_folder(path), root)]
    )
    candidates += ["/".join(parts[begin:]) for begin in range(1, len(parts))]
    candidates += [get_folder(path), ""]
    for candidate in candidates:
        if tree.exists(join_path(candidate, first)):
            return candidate
    return get_folder(path)
