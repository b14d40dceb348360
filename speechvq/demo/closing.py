"""The last words of the demo: what it did, where the page is, how to go on."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from speechvq.demo.page import OWN_DATA
from speechvq.demo.stages import say


def print_closing(page: Path) -> None:
    """Say where everything is and how to do the same with one's own recordings."""
    output = page.parent
    say("")
    say("Done: speech was synthesised and prepared, an encoder pretrained on it without")
    say("transcripts, recognisers finetuned from it and scored on speakers they never heard.")
    say(f"The page:     {page.resolve()}")
    say(f"The speech:   {output / 'speech'}, with the time of every phone in phones.tsv")
    say(f"The corpus:   {output / 'corpus'}")
    say(f"The models:   {output / 'pretrained' / 'model'}, {output / 'finetuned'}/*/model")
    say("")
    say("The same with your own recordings:")
    say("".join(f"    {line}\n" for line in OWN_DATA.splitlines()))


def open_page(page: Path) -> bool:
    """Show the page in a browser, where somebody is there to see it.

    Returns:
        Whether a browser was asked to.
    """
    has_display = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not (has_display and sys.stdout.isatty()):
        return False
    return webbrowser.open(page.resolve().as_uri())
