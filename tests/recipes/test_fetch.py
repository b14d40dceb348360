"""`python -m data_prep.fetch` from the outside: problems are told before anything is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_problems_are_told_at_once(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_prep.fetch", f"output={tmp_path}/out"]
    done = subprocess.run(
        [*command, f"urls={tmp_path}/none.txt", "sleep_seconds=-1", "language=hindi"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    for key in ("`urls`", "`sleep_seconds`", "`language`"):
        assert key in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
