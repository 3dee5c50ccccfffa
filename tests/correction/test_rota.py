"""When entries of a bank are drawn anew."""

import numpy as np
import pytest

from semiclip.correction._rota import Rota


def make(period, size=8, at_first=2):
    place = np.arange(size)
    return Rota(place, np.full(size, size), period, at_first)


def test_a_costly_bank_starts_with_two_and_grows_as_fast_as_it_is_renewed():
    rota = make(period=32)
    there = [int((rota.versions(epoch) >= 0).sum()) for epoch in range(0, 33, 4)]
    assert there == [2, 3, 4, 5, 6, 7, 8, 8, 8]  # one of eight in each fourth of 32 epochs
    drawn = [len(rota.turn(epoch)[0]) for epoch in range(200)]
    assert [epoch for epoch in range(30) if drawn[epoch]] == [0, 4, 8, 12, 16, 20, 24, 25, 29]
    assert sum(drawn[:30]) == 10
    assert sum(drawn[102:134]) == 8  # each once in a period
    assert [int((make(3).versions(epoch) >= 0).sum()) for epoch in range(4)] == [3, 5, 8, 8]
    assert (make(1).versions(0) == 0).all()


@pytest.mark.parametrize("period", [1, 2, 3, 16, 34])
def test_an_entry_lasts_a_period_and_a_resumed_run_has_the_same(period):
    whole = make(period)
    held = []
    for epoch in range(4 * period + 8):
        whole.turn(epoch)
        held.append(whole.held)
        resumed = make(period)
        entries, versions = resumed.turn(epoch)
        np.testing.assert_array_equal(resumed.held, whole.held)
        np.testing.assert_array_equal(versions, whole.held[entries])
    for before, after in zip(held[8 + 2 * period :], held[8 + 3 * period :], strict=False):
        np.testing.assert_array_equal(after - before, period)


def test_without_a_period_entries_are_drawn_once():
    rota = make(period=0)
    assert rota.turn(0)[0].tolist() == list(range(8))
    assert rota.turn(7)[0].size == 0
