"""What a person is told of a result, and which files are written: as `cli.add_result_arguments` lets them ask."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Sequence

from engine import per_class
from engine.accuracy import Result
from engine.record import replace_file


def publish(
    result: Result, class_names: Sequence[str], args: Namespace, about: dict, say: Callable[[str], None]
) -> None:
    """Say and write what was asked for. `about` says in the JSON file what the result is of."""
    say(result.summary())
    if args.per_class:
        say("\n".join(per_class.lines(result, class_names)))
    if args.confusion:
        per_class.save_confusion(args.confusion, result, class_names)
    if args.json:
        content = {**result.to_json(), "class_names": list(class_names), **about}
        replace_file(args.json, json.dumps(content) + "\n")
