"""Each mistake of `support.mistakes` gives the answer in docs/mistakes.md: a few lines, never a traceback."""

import pytest

from tests.support.mistakes import MISTAKES, answer, write_data
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "mistakes.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_data(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gives_the_documented_answer(folder, command):
    code, text = answer(command, folder)
    assert code == 2
    assert "Traceback" not in text
    assert f"`{command}`\n\n```\n{text}\n```\n" in DOCUMENT
