"""The results of a conversion in a store, and the record of them: an object with a JSON line for each result.

A result that is complete has its source in its line, and size and version of the object. The others are named before
they are written, so after a kill what is there is known to be no file of a user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeVar

from configs import ConfigError
from dali_pipes.lists.store_status import look_in_store
from dali_pipes.storage.faults import with_retries
from dali_pipes.storage.objects import look_at_object
from dali_pipes.storage.opening import read_all
from dali_pipes.storage.uploads import Upload, new_object
from tools.data.conversion.convert import DONE
from tools.data.conversion.files import identity
from tools.data.conversion.shards import Shard

Result = TypeVar("Result")


class StoredResults:
    """The results below a URL; `names` are those that this command writes."""

    def __init__(self, out: str, names: Sequence[str], force: bool):
        """Raises ConfigError if an object is in the way that no earlier run wrote. `force` allows to replace it."""
        self.out = out
        looks = look_in_store([f"{out}/{name}" for name in [DONE, *names]], out)
        self._there = {name: [*look[:2]] for name, look in zip([DONE, *names], looks, strict=True) if look[-1] is False}
        self._lines = {line["result"]: line for line in self._read()} if DONE in self._there else {}
        in_the_way = [name for name in self._there if name not in self._lines and name != DONE]
        if not self._lines and DONE in self._there:
            in_the_way = [DONE]
        if in_the_way and not force:
            raise ConfigError(
                f"{out}/{in_the_way[0]}: is in the way: not written by prepare.py pack; --force replaces it, or name "
                "another place"
            )
        self._names = names

    def _read(self) -> list[dict]:
        with suppress(ValueError, KeyError, TypeError):
            return [json.loads(line) for line in read_all(f"{self.out}/{DONE}").decode().splitlines()]
        return []

    def has(self, source: Shard, name: str) -> bool:
        """Tell whether the result was made of this version of the source, and is unchanged."""
        line = self._lines.get(name, {})
        return line.get("source") == identity(source) and line.get("seen") == self._there.get(name, ())

    def size(self, name: str) -> int:
        """Return the bytes of a result that is there."""
        return self._there[name][0]

    def begin(self) -> None:
        """Name all results in the record."""
        self._lines = {name: self._lines.get(name, {"result": name}) for name in [*self._lines, *self._names]}
        self._save()

    def write(self, name: str, source: Shard, write: Callable[[Upload], Result]) -> Result:
        """Write a result as `write` does, anew if the store fails for a while, and record it."""
        result = self._put(name, write)
        self._there[name] = [*with_retries(f"{self.out}/{name}", nullcontext, look_at_object, f"{self.out}/{name}")]
        self._lines[name] = {"result": name, "source": identity(source), "seen": self._there[name]}
        self._save()
        return result

    def put(self, name: str, content: bytes) -> None:
        """Write a result that is written in every run."""
        self._put(name, lambda upload: upload.write(content))

    def _put(self, name: str, write: Callable[[Upload], Result]) -> Result:
        def whole() -> Result:
            with new_object(f"{self.out}/{name}") as upload:
                return write(upload)

        return with_retries(f"{self.out}/{name}", nullcontext, whole)

    def _save(self) -> None:
        self.put(DONE, "".join(f"{json.dumps(line)}\n" for line in self._lines.values()).encode())
