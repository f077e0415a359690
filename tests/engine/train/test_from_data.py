"""Settings that a recipe leaves to the data: the choices, the settings that are kept, and the lists of the split."""

from dataclasses import replace

import pytest
import torch

import configs
from configs import ConfigError
from dali_pipes.lists.listing import read_list
from engine import runtime
from engine.runs import checkpoint, checkpoint_files, run_folder
from engine.train import from_data


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a list of 2 classes x `count` videos and gives `finetune.yaml` for it."""
    monkeypatch.chdir(tmp_path)

    def config(*overrides, count=50, name="{label}/take{n:03}.mp4"):
        rows = [f"{name.format(label='ab'[label], n=n)} {label}\n" for label in range(2) for n in range(count)]
        (tmp_path / "mine.list").write_text("".join(rows))
        return configs.load("finetune.yaml", ["data.train=mine.list", *overrides])

    return config


@pytest.mark.parametrize(
    ("count", "words", "batch", "epochs", "lr"),
    [
        (50, ["model.pretrained=none"], 8, 60, 0.2),  # 80 videos: 10 steps an epoch, 700 steps would be 70 epochs
        (300, ["model.pretrained=none"], 16, 24, 0.2),  # 480 videos: 30 steps, as configs/pan4.yaml has
        (50, [], 8, 40, 0.04),  # 1,000 steps would be 100 epochs
        (300, [], 16, 34, 0.04),  # 1,000 steps
        (300, ["model.pretrained=TSM_k400.pth"], 16, 20, 0.001),  # 600 steps
        (5000, [], 32, 12, 0.04),
    ],
)
def test_batch_length_and_rate_follow_from_the_size_of_the_set_and_the_weights(own, count, words, batch, epochs, lr):
    config = from_data.choose(own(*words, count=count), ranks=1).config
    assert (config.train.batch, config.train.epochs) == (batch, epochs)
    assert (config.optim.lr, config.optim.lr_for_batch) == (lr, 64)
    from_nothing = "model.pretrained=none" in words
    assert config.optim.fc_lr_mult == ((1, 1) if from_nothing else (5, 10))
    assert (config.model.dropout, config.model.fc_std) == ((0.2, 0.01) if from_nothing else (0.5, 0.001))


def test_weights_given_on_the_command_line_count_as_those_of_the_recipe(own, tmp_path):
    assert from_data.choose(own(), ranks=1, weights="best.pt").config.optim.lr == 0.001
    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7), "fc.weight": torch.zeros(1000, 8)}, tmp_path / "imagenet.pth")
    for start in ([], ["model.pretrained=imagenet.pth"]):
        weights = None if start else "imagenet.pth"
        assert from_data.choose(own(*start), ranks=1, weights=weights).config.optim.lr == 0.04


def test_a_batch_is_no_larger_than_a_small_set(own):
    """One video of each class is held out of six: a batch of 8 would never be full."""
    assert from_data.choose(own(count=3), ranks=1).config.train.batch == 4


@pytest.mark.parametrize("ranks", [1, 3, 8, 24])
def test_a_batch_splits_over_the_ranks(own, ranks):
    batch = from_data.choose(own(count=300), ranks=ranks).config.train.batch
    assert configs.batch_per_rank(batch, ranks) >= 1


@pytest.mark.parametrize(("ranks", "batch", "epochs"), [(1, 6, 18), (2, 6, 18), (4, 12, 35)])
def test_repeated_clips_make_an_epoch_longer_and_a_batch_whole_videos(own, ranks, batch, epochs):
    """80 videos give 240 clips: 40 or 20 steps. Without repeats a batch has 8 clips and an epoch 10 steps."""
    config = from_data.choose(own("clip.repeats=3", "model.pretrained=none", count=50), ranks=ranks).config
    assert (config.train.batch, config.train.epochs) == (batch, epochs)


def test_settings_given_by_the_user_are_kept(own):
    given = ["model.num_classes=5", "train.name=me", "train.epochs=3", "train.batch=4", "optim.lr=0.5", "data.val="]
    given += ["model.dropout=0.3", "model.fc_std=0.02"]
    config = own(*given)
    chosen = from_data.choose(config, ranks=1)
    assert (chosen.config, chosen.texts) == (config, {})


def test_names_classes_and_both_sides_come_from_the_list(own, tmp_path):
    chosen = from_data.choose(own(), ranks=1)
    chosen.write_lists(keep=False)
    config = chosen.config
    assert (config.train.name, config.model.num_classes, config.derived_from_data()) == ("mine", 2, [])
    sides = [read_list(source, config.data) for source in (config.data.train, config.data.val)]
    assert [len(side.paths) for side in sides] == [80, 20]
    every = read_list("mine.list")
    assert sorted(side.path(row) for side in sides for row in range(len(side.paths))) == sorted(
        map(every.path, range(100))
    )
    assert config.data.train == "runs/mine/data/train.list"
    assert config.data.divided == 100


@pytest.mark.parametrize(
    ("source", "name"),
    [("my.videos/", "my.videos"), ("all.csv:train", "all"), ("sub/list.of.mine.csv", "list.of.mine"), ("/", "videos")],
)
def test_a_run_is_named_after_its_folder_or_list(tmp_path, monkeypatch, source, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.videos").mkdir()
    (tmp_path / "all.csv").touch()
    config = configs.load("finetune.yaml", [f"data.train={source}"])
    assert from_data.named(config).train.name == name


def test_a_resumed_run_keeps_its_split_though_the_list_has_grown(own):
    from_data.choose(own(), ranks=1).write_lists(keep=False)
    grown = from_data.choose(own(count=60), ranks=1)
    grown.write_lists(keep=True)
    assert len(read_list(grown.config.data.train, grown.config.data).paths) == 80
    grown.write_lists(keep=False)
    assert len(read_list(grown.config.data.train, grown.config.data).paths) == 96


def test_a_resumed_run_keeps_what_it_chose_though_videos_are_lost_or_ranks_differ(own):
    first = from_data.choose(own(count=100), ranks=1).config
    given = own("train.epochs=7", count=31)
    again = from_data.choose(given, ranks=3, before=first)
    assert again.config == replace(first, train=replace(first.train, epochs=7))
    assert from_data.choose(own(count=31), ranks=3).config != first


def test_a_resumed_run_says_nothing_of_a_division_that_it_does_not_use(own):
    first = from_data.choose(own(), ranks=1)
    again = from_data.choose(own(count=60), ranks=1, before=first.config)
    assert (len(first.notes), again.notes) == (2, [])


@pytest.mark.parametrize(
    ("setting", "change"),
    [("data.held_out=0.5", "0.2 -> 0.5"), ("data.group_regex=take0", "empty -> take0"), ("data.group=x", "empty -> x")],
)
def test_a_resumed_run_refuses_to_be_divided_in_another_way(own, setting, change):
    first = from_data.choose(own(), ranks=1).config
    with pytest.raises(ConfigError, match=f"{setting.partition('=')[0]}: {change}: without effect"):
        from_data.choose(own(setting), ranks=1, before=first)


def test_factors_of_the_classifier_given_by_the_user_are_kept_at_the_first_start_and_later(own):
    words = ["model.pretrained=none", "optim.fc_lr_mult=[3,3]"]
    first = from_data.choose(own(*words), ranks=1).config
    assert first.optim.fc_lr_mult == (3, 3)
    words = ["model.pretrained=none", "optim.fc_lr_mult=[2,2]"]
    assert from_data.choose(own(*words), ranks=1, before=first).config.optim.fc_lr_mult == (2, 2)
    assert from_data.choose(own(words[0]), ranks=1, before=first).config.optim.fc_lr_mult == (3, 3)


def test_a_resumed_run_reads_its_lists_from_the_folder_to_which_the_videos_have_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        for take in range(3):
            (tmp_path / "old" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "old" / label / f"{take}.mp4").write_bytes(b"video")
    before = from_data.choose(configs.load("finetune.yaml", ["data.train=old", "train.name=run"]), ranks=1)
    before.write_lists(keep=False)
    (tmp_path / "old").rename(tmp_path / "new")
    given = configs.load("finetune.yaml", ["data.train=new", "train.name=run"])
    data = from_data.choose(given, ranks=1, before=before.config).config.data
    assert (data.train, data.root) == (before.config.data.train, str(tmp_path / "new"))
    (tmp_path / "old").mkdir()
    assert from_data.choose(given, ranks=1, before=before.config).config.data.root == str(tmp_path / "old")


def test_a_run_that_has_saved_nothing_chooses_anew(own, tmp_path):
    config = from_data.choose(own(), ranks=1).config
    assert from_data.settings_before(own()) is None
    run_folder.open_run(config).close()
    assert from_data.settings_before(own()) is None
    checkpoint.save(checkpoint_files.step_file(config.train.folder / "checkpoints", 1), {}, step=1)
    assert from_data.settings_before(own()) == config


def test_a_file_of_the_user_is_not_replaced(own, tmp_path):
    chosen = from_data.choose(own(), ranks=1)
    (tmp_path / "runs/mine/data").mkdir(parents=True)
    (tmp_path / "runs/mine/data/val.list").write_text("kept")
    with pytest.raises(ConfigError, match=r"runs/mine/data/val\.list"):
        chosen.write_lists(keep=True)
    assert (tmp_path / "runs/mine/data/val.list").read_text() == "kept"


def test_recordings_stay_on_one_side(own):
    chosen = from_data.choose(
        own(r"data.group_regex=take0\d"), ranks=1
    )  # takes 000 to 009 are one recording, and so on
    train, val = (text for file, text in chosen.texts.items() if file.suffix == ".list")
    groups = [{line.split()[0][2:8] for line in text.splitlines()} for text in (train, val)]
    assert groups[0] | groups[1] == {f"take0{n}" for n in range(5)}
    assert groups[0].isdisjoint(groups[1])


def test_a_class_that_cannot_be_held_out_is_pointed_out(own, tmp_path):
    config = own()
    (tmp_path / "mine.list").write_text("".join(f"{n}.mp4 {n // 5}\n" for n in range(6)))
    assert "5 videos to train on, 1 video held out, none of class 1" in from_data.choose(config, ranks=1).notes


def test_recordings_that_names_show_on_both_sides_are_pointed_out(own, tmp_path):
    config = own()
    rows = [f"seq{n}_{part}.mp4 {n % 2}\n" for n in range(20) for part in "xyz"]
    (tmp_path / "mine.list").write_text("".join(rows))
    assert any("data.group_regex" in note for note in from_data.choose(config, ranks=1).notes)
    grouped = replace(config, data=replace(config.data, group_regex=r"seq\d+"))
    assert not any("data.group_regex" in note for note in from_data.choose(grouped, ranks=1).notes)


def test_a_column_of_a_table_names_recordings(own, tmp_path):
    config = own("data.group=camera")
    rows = [f"{n}.mp4,{n % 2},{'north' if n % 3 else n}\n" for n in range(30)]
    (tmp_path / "mine.csv").write_text("".join(["path,label,camera\n", *rows]))
    config = replace(config, data=replace(config.data, train="mine.csv"))
    train, val = (text for file, text in from_data.choose(config, ranks=1).texts.items() if file.suffix == ".list")
    north = {f"{n}.mp4" for n in range(30) if n % 3}
    sides = [north & {line.split()[0] for line in text.splitlines()} for text in (train, val)]
    assert north in sides and set() in sides
    assert any(" recordings to train on, " in note for note in from_data.choose(config, ranks=1).notes)


def test_classes_of_very_different_sizes_are_pointed_out(own, tmp_path):
    config = own()
    (tmp_path / "mine.list").write_text("".join(f"{n}.mp4 {int(n < 10)}\n" for n in range(100)))
    (note,) = [note for note in from_data.choose(config, ranks=1).notes if "data.balance" in note]
    assert note.startswith("the largest class has 9 times as many videos as the smallest")
    balanced = replace(config, data=replace(config.data, balance="classes"))
    assert not any("data.balance" in note for note in from_data.choose(balanced, ranks=1).notes)


@pytest.mark.parametrize("elsewhere", ["videos", "mine"])
def test_a_list_of_absolute_paths_is_split_wherever_the_videos_are(own, tmp_path, elsewhere):
    folder = tmp_path / elsewhere
    (tmp_path / "mine").mkdir()
    rows = [f"{folder}/{n}.mp4 {n % 2}\n" for n in range(30)] + ["near.mp4 0\n"]
    (tmp_path / "mine/all.list").write_text("".join(rows))
    config = own()
    chosen = from_data.choose(replace(config, data=replace(config.data, train="mine/all.list")), ranks=1)
    chosen.write_lists(keep=False)
    read = [read_list(name, chosen.config.data) for name in (chosen.config.data.train, chosen.config.data.val)]
    found = {listing.path(row) for listing in read for row in range(len(listing.paths))}
    assert found == {*(f"{folder}/{n}.mp4" for n in range(30)), f"{tmp_path}/mine/near.mp4"}


@pytest.mark.parametrize(
    ("names", "words", "pointed_out"),
    [
        (["turn left", "turn right"], [], "clip.flip_pairs=[0,1]"),
        (["Left_up", "Right_up", "left_down", "right_down"], [], "clip.flip_pairs=[0,1,2,3]"),
        (["turn left", "turn right"], ["clip.flip=0"], ""),
        (["turn left", "turn right"], ["clip.flip_pairs=[0,1]"], ""),
        (["turn left", "walk"], [], ""),
    ],
)
def test_mirrored_clips_of_left_and_right_are_pointed_out(own, tmp_path, names, words, pointed_out):
    config = own(*words)
    rows = [f"{name}/{take}.mp4" for name in names for take in range(10)]
    (tmp_path / "named.csv").write_text("path,label\n" + "".join(f"{row},{row.split('/')[0]}\n" for row in rows))
    config = replace(config, data=replace(config.data, train="named.csv"))
    notes = [note for note in from_data.choose(config, ranks=1).notes if "clip.flip" in note]
    assert len(notes) == bool(pointed_out) and all(pointed_out in note for note in notes)


def test_labels_that_a_flip_exchanges_are_checked_once_the_classes_are_counted(own):
    assert from_data.choose(own("clip.flip_pairs=[0,1]"), ranks=1).config.clip.flip_pairs == (0, 1)
    with pytest.raises(ConfigError, match=r"clip\.flip_pairs: 2 is not a label below model\.num_classes=2"):
        from_data.choose(own("clip.flip_pairs=[1,2]"), ranks=1)


def test_one_class_is_refused(own, tmp_path):
    config = own()
    (tmp_path / "mine.list").write_text("".join(f"{n}.mp4 0\n" for n in range(30)))
    with pytest.raises(ConfigError, match="has 1 class; a network needs at least two"):
        from_data.choose(config, ranks=1)


def test_programs_other_than_training_refuse_settings_chosen_from_data(own):
    with pytest.raises(ConfigError, match=r"model\.num_classes: train.py chooses it from the data; set it here"):
        runtime.resolve(own())


def test_synthetic_clips_cannot_choose_settings_from_data(own):
    config = own()
    config = replace(config, data=replace(config.data, source="synthetic"))
    with pytest.raises(ConfigError, match=r"train\.batch: is chosen from data.train, which synthetic clips lack"):
        from_data.choose(config, ranks=1)
