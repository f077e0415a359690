"""Turn lists, annotations and class folders into rows of (path, label)."""

from dali_pipes.lists.listing import Listing, read_list

__all__ = ["Listing", "read_list"]
