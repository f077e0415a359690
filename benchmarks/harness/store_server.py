"""A store for tests and measurements: a folder over HTTP with ranges, ETags, PUT, delays, faults and counts.

    with serving(folder) as store:
        store.delay = 0.02  # seconds before each answer
        store.fault = lambda number: 503 if number % 20 == 0 else None
        ... store.url ... store.requests, store.sent

One event loop in a thread answers all requests: thousands may wait at once.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

CUT = "cut"  # the fault of a truncated body
_REQUEST = re.compile(rb"(GET|HEAD|PUT) (\S+) HTTP/1.1\r\n")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


class Request(NamedTuple):
    """A request and the bytes that it asked for."""

    method: str
    path: str
    first: int
    end: int | None


class StoreServer:
    """The server; its attributes may be changed while it runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = ""
        self.delay: float  # seconds before each answer
        self.lateness: Callable[[int], float]  # additional seconds, by the number of the request, from 0
        self.fault: Callable[[int], int | str | None]  # status or CUT, by the number of the request
        self.requests: list[Request]
        self.sent: int  # bytes of bodies
        self.reset()

    def reset(self) -> None:
        """Count from 0 again, without delays and faults."""
        self.requests, self.sent, self.delay = [], 0, 0.0
        self.fault, self.lateness = lambda number: None, lambda number: 0.0

    def put(self, number: int, request: Request, content: bytes) -> tuple[int, bytes, bytes, bool]:
        """Write a file, whole or not at all, and return the answer as `answer` does."""
        fault = self.fault(number)
        if fault:
            return fault if isinstance(fault, int) else HTTPStatus.OK, b"Content-Length: 0\r\n", b"", fault == CUT
        file = Path(self.folder, request.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{number}.unfinished")
        unfinished.write_bytes(content)
        unfinished.replace(file)
        status = file.stat()
        return HTTPStatus.CREATED, _headers(status.st_size, status.st_mtime_ns) + b"Content-Length: 0\r\n", b"", False

    def answer(self, number: int, request: Request) -> tuple[int, bytes, bytes, bool]:
        """Return status, headers and body of the answer to a request, and whether the connection then ends."""
        fault = self.fault(number)
        file = f"{self.folder}/{request.path}"
        if isinstance(fault, int) or not os.path.isfile(file):
            return fault if isinstance(fault, int) else HTTPStatus.NOT_FOUND, b"Content-Length: 0\r\n", b"", False
        descriptor = os.open(file, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            size, headers = status.st_size, _headers(status.st_size, status.st_mtime_ns)
            if request.first >= size > 0:
                return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"Content-Length: 0\r\n", b"", False
            end = size if request.end is None else min(request.end, size)
            length = end - request.first
            data = os.pread(descriptor, length, request.first) if request.method == "GET" else b""
        finally:
            os.close(descriptor)
        headers += b"Content-Length: %d\r\n" % length
        if request.end is not None:
            headers += b"Content-Range: bytes %d-%d/%d\r\n" % (request.first, end - 1, size)
        code = HTTPStatus.OK if request.end is None else HTTPStatus.PARTIAL_CONTENT
        return code, headers, data[: len(data) // 2] if fault == CUT else data, fault == CUT


@lru_cache(maxsize=1024)
def _headers(size: int, mtime_ns: int) -> bytes:
    tag = hashlib.md5(f"{mtime_ns} {size}".encode(), usedforsecurity=False).hexdigest()
    changed = email.utils.formatdate(mtime_ns / 1e9, usegmt=True)
    return f'ETag: "{tag}"\r\nLast-Modified: {changed}\r\n'.encode()


class _Connection(asyncio.Protocol):
    """A connection with a sequence of requests."""

    def __init__(self, server: StoreServer):
        self._server, self._received = server, bytearray()
        self._head = b""  # of a request whose body has not arrived

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._head or _END in self._received:
            if not self._head:
                head, self._received = self._received.split(_END, 1)
                self._head = bytes(head) + b"\r\n"
            length = int(found[1]) if (found := _LENGTH.search(self._head)) else 0
            if len(self._received) < length:
                return
            body, self._received = bytes(self._received[:length]), self._received[length:]
            head, self._head = self._head, b""
            self._begin(head, body)

    def _begin(self, head: bytes, body: bytes) -> None:
        method, path = _REQUEST.match(head).groups()
        asked = _RANGE.search(head)
        first, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, None)
        request = Request(method.decode(), unquote(path.decode()).lstrip("/"), first, end)
        server = self._server
        number = len(server.requests)
        server.requests.append(request)
        wait = server.delay + server.lateness(number)
        asyncio.get_running_loop().call_later(wait, self._answer, number, request, body)

    def _answer(self, number: int, request: Request, content: bytes) -> None:
        server = self._server
        put = request.method == "PUT"
        code, headers, body, ends = server.put(number, request, content) if put else server.answer(number, request)
        server.sent += len(body)
        if not (put and ends):
            head = b"HTTP/1.1 %d %b\r\n%b\r\n" % (code, HTTPStatus(code).phrase.encode(), headers)
            self._transport.write(head + body)
        if ends:
            self._transport.close()


@contextmanager
def serving(folder: Path) -> Iterator[StoreServer]:
    """Serve a folder while the block runs."""
    server, loop, started = StoreServer(folder), asyncio.new_event_loop(), threading.Event()

    async def listen() -> asyncio.Server:
        listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=4096)
        server.url = "http://{}:{}".format(*listening.sockets[0].getsockname())
        started.set()
        return listening

    loop.create_task(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
