"""Two hosts as network namespaces with separate addresses and a cable between them, which can be pulled."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
ADDRESSES = ("10.213.77.1", "10.213.77.2")


class Hosts:
    """The names of the two namespaces, and of the end of the cable in each."""

    def __init__(self):
        self.names = [f"tsm-{os.getpid()}-{number}" for number in (0, 1)]
        self.cables = [f"tsm{os.getpid() % 100_000}{end}" for end in "ab"]

    def enter(self, number: int) -> None:
        """Move this process to a host."""
        with Path("/run/netns", self.names[number]).open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        os.environ["GLOO_SOCKET_IFNAME"] = self.cables[number]

    def pull_the_cable(self) -> None:
        """Stop all packets; neither host is told."""
        for name, cable in zip(self.names, self.cables, strict=True):
            _ip("-n", name, "link", "set", cable, "down")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make two hosts for the block. Raises OSError if namespaces are not allowed."""
    hosts = Hosts()
    try:
        for name in hosts.names:
            _ip("netns", "add", name)
        _ip("link", "add", hosts.cables[0], "type", "veth", "peer", "name", hosts.cables[1])
        for name, cable, address in zip(hosts.names, hosts.cables, ADDRESSES, strict=True):
            _ip("link", "set", cable, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            _ip("-n", name, "link", "set", cable, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in hosts.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(f"ip {' '.join(words)}: {error.stderr.strip()}") from error
