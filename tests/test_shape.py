"""The shape of the tree: small folders, few short modules, short functions, documented names, plain docstrings."""

from tests.support import counts


def test_no_folder_holds_more_than_16_modules():
    folder, modules = counts.largest_folder()
    assert modules <= 16, folder


def test_few_modules_are_shorter_than_40_lines():
    assert len(counts.short_modules()) <= 20, counts.short_modules()


def test_no_function_is_longer_than_60_lines():
    assert not counts.long_functions()


def test_public_names_are_documented():
    documented, public = counts.public_documented()
    assert documented >= 0.87 * public


def test_docstrings_begin_with_a_verb_or_a_name_and_not_with_a_question_word():
    questions = [f"{text.place}: {text.text.splitlines()[0]}" for text in counts.docstrings() if text.is_a_question]
    assert not questions, "\n".join(questions)
