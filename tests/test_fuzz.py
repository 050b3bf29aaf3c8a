"""Streams that were altered: never a crash, a hang, too much memory, or rows that are silently others."""

import fuzzing
import pytest


@pytest.fixture(scope="module")
def made():
    return fuzzing.bases()


@pytest.mark.parametrize(
    ("streams", "seed"), [(1_500, 0), pytest.param(100_000, 1, marks=pytest.mark.slow)], ids=["1,500", "100,000"]
)
def test_altered_streams_are_refused_or_give_only_rows_that_are_right(made, streams, seed):
    found = fuzzing.campaign(streams, seed, made)
    assert found["failures"] == {}
    assert (found["crashes"], found["hangs"], found["wrong_silently"]) == (0, 0, 0)
    assert found["refused"] > 0.4 * streams
    assert found["recovered"] > 0.1 * streams
    # A chunk may decode to 64 MB, and is held as whole numbers of 8 bytes, in columns, and in the type that it had.
    assert found["grown_mb"] < 600


def test_a_stream_that_was_not_altered_is_whole(made):
    for base in made:
        assert fuzzing.outcome(base, base.data, False, recover=False) == "whole"
        assert fuzzing.outcome(base, base.parts.sealed(), False, recover=False) == "whole"
