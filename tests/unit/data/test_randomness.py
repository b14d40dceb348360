"""Generators without memory."""

from __future__ import annotations

import numpy as np

from speechvq.data.randomness import create_generator


def test_generator_depends_on_its_key_only() -> None:
    first = create_generator(1, "crop", 0, "a").random(4)
    create_generator(1, "crop", 0, "b").random(100)
    np.testing.assert_array_equal(first, create_generator(1, "crop", 0, "a").random(4))
    assert not np.array_equal(first, create_generator(1, "mask", 0, "a").random(4))


def test_parts_of_a_key_do_not_run_together() -> None:
    assert create_generator("ab", "c").random() != create_generator("a", "bc").random()
    assert create_generator(1).random() != create_generator("1").random()


def test_numbers_are_the_same_on_every_platform() -> None:
    np.testing.assert_allclose(
        create_generator(1, "golden").random(3),
        [0.3244793945472505, 0.33057839650983956, 0.5757739377179986],
        rtol=0,
        atol=1e-15,
    )
