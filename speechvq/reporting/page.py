"""One self-contained HTML page: text, tables, pictures, alignments and audio, without any network.

Stands at the end of every line: recipes turn results into calls of `Page`, then `write` leaves one
file that opens offline, follows the reader's light or dark mode, prints, and shows right-to-left
and Indic text properly (`dir="auto"`, `lang`). All text is escaped by Jinja's autoescape; a
content security policy in the page forbids everything that is not in the file.
"""

from __future__ import annotations

import base64
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from speechvq.reporting.cells import (
    Cell,
    Value,
    check_tone,
    find_numeric_columns,
    format_value,
    render_cell,
)

Block = dict[str, object]
_AUDIO_TYPES = ((b"fLaC", "audio/flac"), (b"RIFF", "audio/wav"), (b"OggS", "audio/ogg"))
_SVG_ID = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One big number at the top of a page.

    Attributes:
        label: What it is.
        value: The number as text ("31.4 %") or a bare number.
        detail: A line below, such as its interval or its n.
        tone: "", "note", "good", "warning" or "bad".
    """

    label: str
    value: Value
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class EditorEntry:
    """One text that a person can correct.

    Attributes:
        id: What the saved table calls it.
        text: What stands in the field at first.
        audio: A whole FLAC, WAV or Ogg file.
        note: A line above the field, such as why the text is doubtful.
        second_text: Another proposal, taken with a click; "" for none.
    """

    id: str
    text: str
    audio: bytes
    note: str = ""
    second_text: str = ""


class Page:
    """An HTML page that grows block by block and is written once.

    Args:
        title: The page's title and first heading.
        subtitle: A sentence below it.
        footer: Where the page comes from, such as the command and the version.
        language: BCP 47 tag of the page's own prose.
    """

    def __init__(
        self, title: str, subtitle: str = "", *, footer: str = "", language: str = "en"
    ) -> None:
        self._title = title
        self._subtitle = subtitle
        self._footer = footer
        self._language = language
        self._blocks: list[Block] = []
        self._open: list[list[Block]] = [self._blocks]
        self._contents: list[dict[str, str]] = []
        self._anchors: set[str] = set()
        self._num_figures = 0
        self._has_editor = False

    def add_heading(self, text: str, *, level: int = 2) -> None:
        """Adds a heading; those of level 2 are listed at the top of the page.

        Args:
            text: The heading.
            level: 2 (default), 3 or 4.
        """
        if level not in (2, 3, 4):
            raise ValueError(f"`level` must be 2, 3 or 4, but is {level}.")
        anchor = self._create_anchor(text)
        self._add("heading", text=text, level=level, anchor=anchor)
        if level == 2:
            self._contents.append({"text": text, "anchor": anchor})

    def add_paragraph(self, text: str, *, tone: str = "", language: str | None = None) -> None:
        """Adds a paragraph; with tone "good", "warning" or "bad" it is a box, with "note" quiet."""
        check_tone(tone)
        self._add("paragraph", text=text, tone=tone, language=language)

    def add_preformatted(self, text: str) -> None:
        """Adds text in fixed width, such as a command or a configuration."""
        self._add("preformatted", text=text)

    def add_headline(self, metrics: Sequence[Metric]) -> None:
        """Adds a row of big numbers."""
        for metric in metrics:
            check_tone(metric.tone)
        shown = [
            {
                "label": metric.label,
                "value": format_value(metric.value),
                "detail": metric.detail,
                "tone": metric.tone,
            }
            for metric in metrics
        ]
        self._add("headline", metrics=shown)

    def add_facts(self, facts: Mapping[str, Cell | Value]) -> None:
        """Adds a list of keys and values."""
        self._add("facts", facts=[(key, render_cell(value)) for key, value in facts.items()])

    def add_table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell | Value]],
        *,
        caption: str = "",
        sortable: bool = True,
    ) -> None:
        """Adds a table; a column of nothing but numbers is right-aligned and sorts by size.

        Args:
            columns: C heads.
            rows: Rows of C values or cells each.
            caption: A sentence above the table.
            sortable: Whether a click on a head sorts.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise ValueError(
                    f"Row {number} of the table must have {len(columns)} cells, "
                    f"one a column, but has {len(row)}."
                )
        numeric = find_numeric_columns(rows, len(columns))
        rendered = [
            [render_cell(cell, numeric=numeric[i]) for i, cell in enumerate(row)] for row in rows
        ]
        self._add(
            "table",
            columns=list(columns),
            numeric=numeric,
            rows=rendered,
            caption=caption,
            sortable=sortable,
        )

    def add_figure(self, picture: str | bytes, *, caption: str = "", alt: str = "") -> None:
        """Adds a picture.

        Args:
            picture: An SVG of `speechvq.reporting.charts` (str; it is put in as it is, so never one
                from outside) or a PNG (bytes).
            caption: A sentence below it.
            alt: What it shows, for those who do not see it; the caption where empty.
        """
        self._num_figures += 1
        svg, uri = Markup(""), ""
        if isinstance(picture, bytes):
            if not picture.startswith(b"\x89PNG"):
                raise ValueError("`picture` must be SVG text or the bytes of a PNG.")
            uri = encode_data_uri(picture, "image/png")
        else:
            if not picture.lstrip().startswith("<svg") or "<script" in picture.lower():
                raise ValueError("`picture` must start with `<svg` and hold no script.")
            # Ids are shared by all SVGs of a page: each figure gets its own.
            svg = Markup(_SVG_ID.sub(rf"\g<1>f{self._num_figures}-", picture))
        self._add("figure", svg=svg, uri=uri, caption=caption, alt=alt or caption)

    def add_audio(self, audio: bytes, *, label: str = "", language: str | None = None) -> None:
        """Adds a player with the audio inside the page.

        Args:
            audio: A whole FLAC, WAV or Ogg file.
            label: A line above the player.
            language: BCP 47 tag of the label.
        """
        self._add("audio", uri=_encode_audio(audio), label=label, language=language)

    def add_editor(
        self,
        entries: Sequence[EditorEntry],
        *,
        file_name: str,
        stamp: str,
        language: str | None = None,
    ) -> None:
        """Adds fields with players; a button saves those that were checked as a table.

        The table has the columns `id`, `text` and `checked` (`speechvq.data.label_tables`).

        Args:
            entries: In the order in which they are shown.
            file_name: What the table is called.
            stamp: Tells this page from others, so that a reload finds what was typed.
            language: BCP 47 tag of the texts.
        """
        shown = [
            {
                "id": one.id,
                "text": one.text,
                "uri": _encode_audio(one.audio),
                "note": one.note,
                "second": one.second_text,
            }
            for one in entries
        ]
        self._has_editor = True
        self._add("editor", entries=shown, file=file_name, stamp=stamp, language=language)

    def add_alignment(
        self, pairs: Sequence[tuple[str | None, str | None]], *, language: str | None = None
    ) -> None:
        """Adds a coloured alignment of words (or characters).

        Args:
            pairs: (reference, hypothesis) of each position; None where a side has nothing.
            language: BCP 47 tag of the words.
        """
        words = [
            {"kind": find_edit_kind(ref, hyp), "reference": ref or "–", "hypothesis": hyp or "–"}
            for ref, hyp in pairs
        ]
        self._add("alignment", words=words, language=language)

    def add_alignment_legend(self) -> None:
        """Adds the line that explains the colours of alignments; once a page is enough."""
        self._add("alignment_legend")

    @contextmanager
    def section(self, title: str, *, open: bool = False) -> Iterator[None]:
        """Whatever is added within goes into a section that folds; printing opens it."""
        with self._nested("section", title=title, open=open):
            yield

    @contextmanager
    def grid(self) -> Iterator[None]:
        """Whatever is added within stands side by side where the window is wide enough."""
        with self._nested("grid"):
            yield

    @contextmanager
    def card(self) -> Iterator[None]:
        """Whatever is added within is framed as one thing, such as one utterance."""
        with self._nested("card"):
            yield

    def render(self) -> str:
        """Returns the page as HTML."""
        scripts = ["page.js", *(["editor.js"] if self._has_editor else [])]
        return _load_template().render(
            title=self._title,
            subtitle=self._subtitle,
            footer=self._footer,
            language=self._language,
            blocks=self._blocks,
            contents=self._contents,
            style=Markup(_read_asset("page.css")),
            script=Markup("\n".join(map(_read_asset, scripts))),
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the page as one file, whole or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_text(self.render(), encoding="utf-8")
        temporary.replace(target)

    def _add(self, kind: str, **fields: object) -> None:
        self._open[-1].append({"kind": kind, **fields})

    @contextmanager
    def _nested(self, kind: str, **fields: object) -> Iterator[None]:
        children: list[Block] = []
        self._add(kind, children=children, **fields)
        self._open.append(children)
        try:
            yield
        finally:
            self._open.pop()

    def _create_anchor(self, text: str) -> str:
        stem = "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "part"
        anchor, number = stem, 2
        while anchor in self._anchors:
            anchor, number = f"{stem}-{number}", number + 1
        self._anchors.add(anchor)
        return anchor


def encode_data_uri(data: bytes, media_type: str) -> str:
    """Returns bytes as a `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _encode_audio(audio: bytes) -> str:
    for magic, media_type in _AUDIO_TYPES:
        if audio.startswith(magic):
            return encode_data_uri(audio, media_type)
    raise ValueError(f"`audio` must be FLAC, WAV or Ogg, but starts with {audio[:4]!r}.")


def find_edit_kind(reference: str | None, hypothesis: str | None) -> str:
    """Returns "equal", "substitute", "delete" or "insert" for one aligned position."""
    if reference is None and hypothesis is None:
        raise ValueError("An aligned position needs a reference or a hypothesis, but has neither.")
    if reference is None:
        return "insert"
    if hypothesis is None:
        return "delete"
    same = unicodedata.normalize("NFC", reference) == unicodedata.normalize("NFC", hypothesis)
    return "equal" if same else "substitute"


@cache
def _load_template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    return environment.from_string(_read_asset("page.html.jinja"))


@cache
def _read_asset(name: str) -> str:
    return resources.files("speechvq.reporting").joinpath(name).read_text(encoding="utf-8").rstrip()
