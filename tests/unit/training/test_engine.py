"""The bridge to fairseq2."""

from __future__ import annotations

import pytest

pytest.importorskip("fairseq2")

from fairseq2.error import OperationalError
from fairseq2.gang import GangError

from speechvq.errors import DataError
from speechvq.training.engine import is_lost_rank


def nest(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (nest(OperationalError("A gang error."), GangError("`barrier()` failed.")), True),
        (RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer"), True),
        (DataError("corpus/part-0.parquet is damaged"), False),
        (RuntimeError("a defect"), False),
    ],
)
def test_failed_collective_operation_is_told_from_other_errors(
    error: Exception, expected: bool
) -> None:
    assert is_lost_rank(error) is expected
