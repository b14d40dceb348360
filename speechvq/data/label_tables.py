"""Tables of texts for utterances that came without: `id`, `text`, and whatever columns else.

What self-training labels and what people correct have this one form, tabs or commas between the
columns, quoted as spreadsheets do. With a column `checked` only rows that have something in it
count, so that a list that nobody has looked at yet says nothing. A text that is empty says that the
utterance cannot be understood.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechvq.data.corpus import list_partitions, read_corpus_info, read_utterances
from speechvq.data.text import TextNormalizer, get_normalizer
from speechvq.durable import write_durably
from speechvq.errors import DataError

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""What makes a spreadsheet compute a cell (OWASP, "CSV Injection"), marked or not. `editor.js` has
the same.
"""
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUM_NAMED = 5


@dataclass(frozen=True)
class Labels:
    """Texts by utterance, of one or several tables.

    Attributes:
        texts: Normalised; none is empty.
        unusable: Utterances that cannot be understood.
    """

    texts: dict[str, str]
    unusable: frozenset[str]


def load_labels(
    paths: Sequence[str | Path],
    corpora: Sequence[str | Path],
    *,
    languages: Sequence[str],
    split: str,
) -> Labels:
    """Read tables and check them against the corpora that they belong to.

    Args:
        paths: Tables; each utterance may have one text.
        corpora: Directories that `prepare` made.
        languages: What all utterances must be of.
        split: The only split that may be learned from.

    Raises:
        DataError: A table cannot be read, names an utterance that the corpora lack or that is of
            another split or language, or gives two texts to one utterance; names file and id.
    """
    labels: dict[str, str] = {}
    sources: dict[str, Path] = {}
    for path in map(Path, paths):
        for name, text in read_label_table(path).items():
            if labels.setdefault(name, text) != text:
                raise DataError(
                    f"{path}: utterance `{name}` has another text than in {sources[name]}; leave "
                    "one of them out."
                )
            sources.setdefault(name, path)
    codes = _find_languages(sources, corpora, languages, split)
    normalize = choose_corpus_normalizer(corpora)
    texts = {name: normalize(text, codes[name]) for name, text in labels.items()}
    return Labels(
        {name: text for name, text in texts.items() if text},
        frozenset(name for name, text in texts.items() if not text),
    )


def choose_corpus_normalizer(corpora: Sequence[str | Path]) -> TextNormalizer:
    """Return the normaliser that the transcripts of the (first) corpus went through."""
    name = str(read_corpus_info(corpora[0]).get("normalizer", "none"))
    return get_normalizer("verbatim" if name == "none" else name)


def read_label_table(path: Path) -> dict[str, str]:
    """Read one table.

    Args:
        path: A file; `.csv` has commas between its columns, any other name tabs.

    Returns:
        Texts by utterance, as they stand there, in the table's order.

    Raises:
        DataError: The file cannot be read, or has no columns `id` and `text`, or names an utterance
            twice; names the line.
    """
    dialect = "excel" if path.suffix.lower() == ".csv" else "excel-tab"
    rows = csv.DictReader(io.StringIO(_read_text(path), newline=""), dialect=dialect)
    texts: dict[str, str] = {}
    try:
        columns = [name.strip() for name in rows.fieldnames or []]
        if not {"id", "text"} <= set(columns):
            raise DataError(
                f"{path} must have the columns `id` and `text`, but has "
                f"{', '.join(map(repr, columns)) or 'none'}."
            )
        rows.fieldnames = columns
        for row in rows:
            name = restore_cell((row["id"] or "").strip())
            is_checked = "checked" not in columns or (row["checked"] or "").strip()
            if not name or not is_checked:
                continue
            if name in texts:
                raise DataError(
                    f"{path}, line {rows.line_num}: utterance `{name}` stands there twice; leave "
                    "one of the lines out."
                )
            texts[name] = restore_cell((row["text"] or "").strip())
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}.") from None
    return texts


def write_label_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table that `read_label_table` and spreadsheets read, whole or not at all.

    Args:
        path: The file, tabs between the columns.
        columns: Heads, `id` and `text` among them.
        rows: As many cells each.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, dialect="excel-tab", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([neutralize_cell(str(cell)) for cell in row] for row in rows)
    write_durably(path, buffer.getvalue().encode())


def neutralize_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; `restore_cell` undoes it."""
    return f"'{text}" if _FORMULA.match(text) else text


def restore_cell(text: str) -> str:
    """Return what `neutralize_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
        return content.decode(encoding).replace("\0", "")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): it must be a table of text in UTF-8, such as "
            "`doubtful.html` saves, or a spreadsheet's export."
        ) from None


def _find_languages(
    sources: Mapping[str, Path],
    corpora: Sequence[str | Path],
    languages: Sequence[str],
    split: str,
) -> dict[str, str]:
    """Return the language of each utterance; refuse what must not be learned from."""
    unknown = dict(sources)
    codes: dict[str, str] = {}
    for corpus in corpora:
        for partition in list_partitions(corpus):
            is_allowed = partition.split == split and partition.language in languages
            rows = read_utterances(
                corpus, splits=[partition.split], languages=[partition.language], columns=["id"]
            )
            found = [row.id for row in rows if row.id in unknown]
            if found and not is_allowed:
                raise DataError(
                    f"{unknown[found[0]]}: {_name(found)} of split `{partition.split}`, language "
                    f"{partition.language}; only utterances of split `{split}`, language "
                    f"{' or '.join(languages)}, may be learned from. Leave them out."
                )
            for name in found:
                codes[name] = partition.language
                del unknown[name]
    if unknown:
        names = list(unknown)
        raise DataError(
            f"{unknown[names[0]]}: {_name(names)} not in {', '.join(map(str, corpora))}: the table "
            "belongs to another corpus, or its ids were changed."
        )
    return codes


def _name(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_NUM_NAMED])
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
