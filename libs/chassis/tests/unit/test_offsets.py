"""Offsets of a partition whose records are claimed in any order."""

from __future__ import annotations

from chassis.kafka.offsets import PartitionOffsets
from hypothesis import given
from hypothesis import strategies as st


def offsets_of(*added: int) -> PartitionOffsets:
    offsets = PartitionOffsets()
    for offset in added:
        offsets.add(offset)
    return offsets


def test_nothing_is_committed_before_a_record_is_claimed() -> None:
    assert offsets_of(5, 6).claimed_up_to == 5


def test_a_record_that_is_claimed_out_of_order_waits_for_those_before_it() -> None:
    offsets = offsets_of(5, 6, 7)

    assert not offsets.settle(7)
    assert offsets.settle(5)
    assert offsets.claimed_up_to == 6
    assert offsets.settle(6)
    assert offsets.claimed_up_to == 8


def test_gaps_of_compacted_or_aborted_records_are_skipped() -> None:
    offsets = offsets_of(5, 9)
    offsets.settle(5)
    assert offsets.claimed_up_to == 9
    offsets.settle(9)
    assert offsets.claimed_up_to == 10


@given(st.permutations(range(20)), st.integers(0, 20))
def test_what_is_committed_is_never_above_an_unclaimed_record(order: list[int], claimed: int) -> None:
    offsets = offsets_of(*range(20))
    for offset in order[:claimed]:
        before = offsets.claimed_up_to
        assert offsets.settle(offset) == (offsets.claimed_up_to > before)

    assert offsets.claimed_up_to == min(order[claimed:], default=20)
