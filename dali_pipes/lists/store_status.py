"""Look up the videos of a list in a store: with LIST requests for 1,000 objects each, or with HEAD over plain HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from dali_pipes.errors import DataError, attempt
from dali_pipes.storage.faults import with_retries
from dali_pipes.storage.objects import list_objects, look_at_object
from dali_pipes.storage.opening import index_of, split_member
from dali_pipes.storage.shards import Index

NO_SUCH_FILE = "no such file"
_THREADS = 32

Look = tuple[int, int, bool] | str  # (size, stamp, False: no folder of frames), or the error text


def look_in_store(urls: Sequence[str], folder: str) -> list[Look]:
    """Look up each of these videos below a folder. Members of shards are looked up in the index of their shard."""
    places = [split_member(url) or (url, None) for url in urls]
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = _sizes(folder, dict.fromkeys(whole for whole, _ in places), pool)
        shards = dict.fromkeys(whole for whole, member in places if member is not None and whole in sizes)
        indices = dict(zip(shards, pool.map(lambda shard: _index(shard, *sizes[shard]), shards), strict=True))
    return [_look(*place, sizes, indices) for place in places]


def _sizes(folder: str, urls: Iterable[str], pool: ThreadPoolExecutor) -> dict[str, tuple[int, int]]:
    """Return size and stamp of the existing objects."""
    try:
        found = with_retries(folder, nullcontext, lambda: list(list_objects(folder)))
        return {url: (size, stamp) for url, size, stamp in found}
    except NotImplementedError:
        answers = pool.map(lambda url: attempt(with_retries, url, nullcontext, look_at_object, url), urls)
        return {url: answer for url, answer in zip(urls, answers, strict=True) if not isinstance(answer, DataError)}


def _index(shard: str, size: int, stamp: int) -> Index | DataError:
    return attempt(index_of, shard, stamp, size)


def _look(
    whole: str, member: str | None, sizes: dict[str, tuple[int, int]], indices: dict[str, Index | DataError]
) -> Look:
    """Return size and stamp of an object or of its member, or the error text."""
    if whole not in sizes:
        return NO_SUCH_FILE
    size, stamp = sizes[whole]
    if member is not None:
        index = indices[whole]
        if isinstance(index, DataError):
            return index.reason
        if reason := index.fault(member):
            return reason
        (_, size), stamp = index.members[member], index.stamp
    return (size, stamp, False) if size else "is empty (0 bytes)"
