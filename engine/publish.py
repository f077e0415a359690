"""What a person is told of a result, and which files are written: as `cli.add_result_arguments` lets them ask."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dali_pipes import DataError
from engine import per_class
from engine.accuracy import Result
from engine.files import replace_file


def publish(
    result: Result, class_names: Sequence[str], args: Namespace, about: dict, say: Callable[[str], None]
) -> None:
    """Say and write what was asked for. `about` says in the JSON file what the result is of. Raises DataError."""
    say(result.summary())
    if args.per_class:
        say("\n".join(per_class.lines(result, class_names)))
    if args.confusion:
        with writing(args.confusion):
            per_class.save_confusion(args.confusion, result, class_names)
    if args.json:
        content = {**result.to_json(), "class_names": list(class_names), **about}
        with writing(args.json):
            replace_file(args.json, json.dumps(content) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a disk refuses, an error that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
