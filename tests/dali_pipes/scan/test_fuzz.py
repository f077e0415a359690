"""Randomly edited files are identical to a plain decode or refused; nothing crashes or hangs."""

from collections import Counter

import pytest

from tests.support.fuzz import fuzz, summary, write_sources

ALLOWED = {"identical", "refused"}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


def test_some_edited_files_are_identical_or_refused(sources):
    found = [entry for entry in fuzz(sources, range(60), "full", 1) if entry[2] not in ALLOWED]
    assert found == []


@pytest.mark.slow
def test_many_edited_files_are_identical_or_refused(sources):
    found = list(fuzz(sources, range(2000), "full", 2))
    print(summary(Counter(outcome for _, _, outcome, _ in found)))
    assert [entry for entry in found if entry[2] not in ALLOWED] == []
