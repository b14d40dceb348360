"""Writes `docs/results.md` and the table of results in `README.md` from `docs/results/*.json`.

    python docs/make_results.py            # write both
    python docs/make_results.py --check    # exit code 1 when they are not up to date

One JSON file is one measurement, saved when it was made:

    title      what was measured
    date       2026-11-23
    machine    processor, cores, memory, GPU
    commands   list of command lines, as typed
    columns    heads of the table of figures
    rows       rows of the table; numbers as they were printed
    notes      list of sentences: number of runs, what the figures do not say (optional)
    headline   list of {"what", "figure"} for README.md (optional)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
REQUIRED = {"title", "date", "machine", "commands", "columns", "rows"}
OPTIONAL = {"notes", "headline"}
BEGIN, END = "<!-- results: begin (docs/make_results.py) -->", "<!-- results: end -->"
NOTHING = "Nothing has been measured yet."

Entry = Mapping[str, Any]


def load_entries(folder: Path) -> list[Entry]:
    """Read all measurements, in the order of their file names."""
    entries: list[Entry] = []
    for path in sorted(folder.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        missing, unknown = REQUIRED - set(entry), set(entry) - REQUIRED - OPTIONAL
        if missing or unknown:
            raise SystemExit(
                f"{path.name}: must have the keys {sorted(REQUIRED)}; missing {sorted(missing)}, "
                f"unknown {sorted(unknown)}."
            )
        wrong = [row for row in entry["rows"] if len(row) != len(entry["columns"])]
        if wrong:
            raise SystemExit(
                f"{path.name}: every row must have {len(entry['columns'])} cells, but has {wrong}."
            )
        entries.append({"file": path.name, **entry})
    return entries


def format_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def format_entry(entry: Entry) -> str:
    """One section of `docs/results.md`."""
    commands = "\n".join(entry["commands"])
    notes = "".join(f"\n- {note}" for note in entry.get("notes", []))
    return (
        f"## {entry['title']}\n\n"
        f"{entry['date']}, {entry['machine']} (`results/{entry['file']}`)\n\n"
        f"```sh\n{commands}\n```\n\n{format_table(entry['columns'], entry['rows'])}\n"
        + (f"{notes}\n" if notes else "")
    )


def format_results(entries: Sequence[Entry]) -> str:
    """The whole of `docs/results.md`."""
    head = (
        "# Results\n\n"
        "Every figure stands beside the command that made it, the day and the machine. "
        "This page is written by\n`python docs/make_results.py` from `docs/results/*.json`: change "
        "those, not this.\n\n"
    )
    return head + ("\n".join(format_entry(entry) for entry in entries) or f"{NOTHING}\n")


def format_headline(entries: Sequence[Entry]) -> str:
    """The table of `README.md`."""
    rows = [
        [line["what"], line["figure"], f"`{'`<br>`'.join(entry['commands'])}`"]
        for entry in entries
        for line in entry.get("headline", [])
    ]
    return format_table(["what", "measured", "command"], rows) if rows else NOTHING


def replace_headline(readme: str, table: str) -> str:
    """Put the table between the two marks of the README."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md must have the lines `{BEGIN}` and `{END}`.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Write or check both files."""
    entries = load_entries(DOCS / "results")
    readme = DOCS.parent / "README.md"
    wanted = {
        DOCS / "results.md": format_results(entries),
        readme: replace_headline(readme.read_text(encoding="utf-8"), format_headline(entries)),
    }
    stale = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is not up to date: run `python docs/make_results.py`.")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
