"""What parity tests share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.parity import Comparison


@pytest.fixture
def compare(record_property: Any) -> Comparison:
    return Comparison(record_property)
