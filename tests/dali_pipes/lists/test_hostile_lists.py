"""A hostile list opens nothing outside its root and does not hide the videos with valid names."""

import os
import sys
import unicodedata

import pytest

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists import file_status
from dali_pipes.lists.listing import read_list
from tests.support.files.trees import plant, rows
from tools import prepare

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë/naïve.mp4") for form in ("NFC", "NFD"))
HONEST = [
    "two words.mp4",
    'quote\'s "and" more.mp4',
    "#20_Rhythm_&_clap(a)[b];!.avi",
    "-dash.mp4",
    "手-🎬.mp4",
    "{brace}.mp4",
    "a:b|c*?.mp4",
    "$(touch owned) `touch owned`.mp4",
    "%2e%2e%2fsecret.mp4",
    "inner.mp4",  # a link within the root
]
DISHONEST = {
    "file.mp4": "a link leads out of /",
    "folder/secret.mp4": "a link leads out of /",
    "zero.mp4": "a link leads out of /",
    "pipe.mp4": "a pipe, not a file",
    "circle.mp4": "too many levels of symbolic links",
    "gone.mp4": "no such file",
}
_watched: list[set[str]] = []


def _note(event, arguments):
    """Note an opened path while a test watches; there is one audit hook, because hooks cannot be removed."""
    if (
        _watched
        and event in ("open", "os.listdir", "os.scandir")
        and isinstance(arguments[0], str | bytes | os.PathLike)
    ):
        _watched[-1].add(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_note)


@pytest.fixture
def opened():
    """Yield the real paths of all files and folders that are opened during a test."""
    _watched.append(set())
    yield _watched[-1]
    _watched.pop()


@pytest.fixture
def world(tmp_path):
    """Return a folder with a secret file and, below it, a root full of traps."""
    plant(tmp_path, {"secret.mp4": "secret", "secrets/naïve.mp4": "", "root/is-folder.mp4/x": ""})
    root = plant(tmp_path / "root", dict.fromkeys([*HONEST[:-1], DECOMPOSED], "video"))
    for link, target in {
        "inner.mp4": "two words.mp4",
        "file.mp4": "../secret.mp4",
        "folder": "..",
        "zero.mp4": "/dev/zero",
        "circle.mp4": "circle.mp4",
        "Zoe": "../secrets",
    }.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "pipe.mp4")
    return tmp_path


def outside(opened, world):
    """Return the files that were opened outside the root."""
    root = f"{os.path.realpath(world)}/root"
    watched = (os.path.realpath(world), "/dev/zero", "/etc/passwd")
    lists = f"{os.path.realpath(world)}/lists"
    return {path for path in opened if path.startswith(watched) and not path.startswith((root, lists))}


def test_valid_names_are_found_and_hostile_ones_are_never_opened(world, opened):
    lines = [*HONEST, COMPOSED, "Zoe/naïve.mp4", *DISHONEST]
    plant(world, {"lists/train.list": "\ufeff" + "".join(f"{line} 0\r\n" for line in lines)})
    listing = read_list(f"{world}/lists/train.list", Data(root=f"{world}/root", follow_links=False))
    problems = file_status.look(listing).problems
    assert listing.paths[: len(HONEST) + 1] == [*HONEST, DECOMPOSED]
    assert sorted(problems) == list(range(len(HONEST) + 1, len(lines)))
    for number, reason in enumerate(DISHONEST.values(), start=len(HONEST) + 2):
        assert problems[number].startswith(reason)
    assert not outside(opened, world)


@pytest.mark.parametrize("path", ["../secret.mp4", "a/../../secret.mp4", "/etc/passwd", "..", "folder\0.mp4"])
@pytest.mark.parametrize(
    "line",
    ["{path} 0", '{{"path": "{path}", "label": 0}}', "path,label\n{path},0", "{path} 30 0"],
    ids=["plain", "json", "table", "frames"],
)
def test_a_path_that_leaves_the_root_is_refused_at_its_line(world, opened, path, line):
    written = line.format(path=path.replace("\0", "\\u0000") if line.startswith("{{") else path)
    plant(world, {"lists/train.list": f"{written}\n"})
    with pytest.raises(DataError, match=r"train.list:\d: .*(leads out of|lies outside|NUL)"):
        read_list(f"{world}/lists/train.list", Data(root=f"{world}/root", follow_links=False))
    assert not outside(opened, world)


def test_a_class_named_dot_dot_does_not_leave_the_root(world, opened):
    (world / "root" / "...").symlink_to("..")
    plant(world, {"---QUuC4vJs_000084_000094.mp4": "", "lists/train.csv": "..,---QUuC4vJs,84,94,train\n"})
    opened.clear()
    listing = read_list(f"{world}/lists/train.csv", Data(root=f"{world}/root", follow_links=False))
    assert rows(listing) == [("---QUuC4vJs_000084_000094.mp4", 0)]
    assert not outside(opened, world)


@pytest.mark.parametrize("name", ["pipe", "zero"])
def test_lists_and_their_companions_are_regular_files(world, name):
    lists = plant(world / "lists", {"testlist01.txt": "Archery/v_Archery_g01_c02.avi\n"})
    trap = lists / "classInd.txt"
    os.mkfifo(trap) if name == "pipe" else trap.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"testlist01.txt:1: needs classInd.txt"):
        read_list(f"{lists}/testlist01.txt")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read_list(str(trap))


def test_written_lists_contain_only_valid_names(world, opened, capsys):
    lines = [*HONEST, *DISHONEST, "two words.mp4"]
    plant(world, {"lists/train.list": "".join(f"{line} 0\n" for line in lines)})
    words = [
        f"{world}/lists/train.list",
        "--root",
        f"{world}/root",
        "--no-follow-links",
        "--out",
        f"{world}/lists/made",
    ]
    assert prepare.main(["lists", *words]) == 0
    assert "train: 17 annotated, 10 found, 1 missing, 5 not to be used, 1 duplicate" in capsys.readouterr().out
    made = read_list(f"{world}/lists/made/train.list", Data(root=f"{world}/root", follow_links=False))
    assert made.paths == HONEST
    assert not outside(opened, world)


def test_links_below_the_root_are_followed_unless_that_is_forbidden(world):
    lines = ["file.mp4", "folder/secret.mp4", f"{world}/root/file.mp4"]
    plant(world, {"lists/train.list": "".join(f"{line} 0\n" for line in lines)})
    listing = read_list(f"{world}/lists/train.list", Data(root=f"{world}/root"))
    assert not file_status.look(listing).problems
    listing = read_list(f"{world}/lists/train.list", Data(root=f"{world}/root", follow_links=False))
    for problem in file_status.look(listing).problems.values():
        to = f"{world}/root to {world}/secret.mp4"
        assert problem == f"a link leads out of {to}, which data.follow_links=false forbids"


@pytest.mark.parametrize("source", ["root", "root/train.list"])
def test_without_a_root_links_must_stay_in_the_folder_of_the_list(world, opened, source):
    plant(world, {"root/train.list": "class/link.mp4 0\n", "root/class/good.mp4": "video"})
    (world / "root/class/link.mp4").symlink_to("../../secret.mp4")
    refusal = f"a link leads out of {world}/root to {world}/secret.mp4, which data.follow_links=false forbids"
    assert refusal not in file_status.look(read_list(f"{world}/{source}")).problems.values()
    opened.clear()
    listing = read_list(f"{world}/{source}", Data(follow_links=False))
    problems = {listing.paths[row]: reason for row, reason in file_status.look(listing).problems.items()}
    assert problems["class/link.mp4"] == refusal
    assert f"{os.path.realpath(world)}/secret.mp4" not in outside(opened, world)


def test_without_a_root_absolute_paths_must_stay_in_the_folder_of_the_list(world):
    plant(world, {"root/train.list": f"{world}/root/inner.mp4 0\n{world}/secret.mp4 0\n"})
    assert len(read_list(f"{world}/root/train.list").paths) == 2
    with pytest.raises(DataError, match=f"train.list:2: {world}/secret.mp4 lies outside the list's folder, "):
        read_list(f"{world}/root/train.list", Data(follow_links=False))
