"""The output of --help-config: every setting with its description, default and choices."""

import pytest

from configs import ConfigError, cli
from configs.read import KINDS
from configs.reference import _sentences, reference


def test_every_setting_has_a_description():
    sentences = dict(_sentences())
    assert sentences.keys() == KINDS.keys()
    assert not [key for key, text in sentences.items() if len(text.split()) < 3 and not text.endswith(".")]


def test_a_section_lists_its_settings_with_defaults_and_choices():
    text = reference("optim")
    assert "optim.lr  (required; a number)\n    Base learning rate" in text
    assert "optim.schedule  (default step; one of step, cosine)\n    `step` multiplies" in text
    assert "optim.milestones  (default []; a list of whole numbers)" in text
    assert "train." not in text.replace("train.batch", "")
    assert reference().count("\n    ") >= len(KINDS)
    assert max(map(len, reference().splitlines())) <= 100


def test_one_setting_can_be_asked_for():
    assert reference("model.shift_div").startswith("model.shift_div  (default 8; a whole number)\n    1/shift_div of")
    assert reference("model.shift_div").count("(default") == 1


@pytest.mark.parametrize(
    "what, hint", [("optimm", "did you mean optim"), ("optim.lrr", "did you mean optim.lr"), ("x.y", "there are model")]
)
def test_an_unknown_setting_is_refused_with_a_similar_one(what, hint):
    with pytest.raises(ConfigError, match=f"--help-config: {what}: no such section or setting; {hint}"):
        reference(what)


def test_a_program_prints_the_reference_and_leaves(capsys):
    parser = cli.Parser(prog="train.py")
    cli.add_config_arguments(parser)
    for words, code in ((["--help-config", "eval"], 0), (["--help-config", "nothing"], 2)):
        with pytest.raises(SystemExit) as left:
            parser.parse_args(words)
        assert left.value.code == code
    assert capsys.readouterr().out.startswith("eval.crops  (default center; one of center, three, ten)")
