"""A web server on this machine for tests of downloads, with ranges and connections that break off."""

from __future__ import annotations

from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


class Site:
    """The files of a folder under `address`; `asked` holds the path and the range of each request."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.address = ""
        self.asked: list[tuple[str, str | None]] = []
        self.breaks_after: list[int] = []
        """Bytes after which the next connections break off."""
        self.knows_ranges = True

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args):
        self.site = site
        super().__init__(*args)

    def do_GET(self):
        span = self.headers.get("Range")
        self.site.asked.append((self.path, span))
        path = self.site.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404, "File not found")
            return
        content, date = path.read_bytes(), formatdate(path.stat().st_mtime, usegmt=True)
        start = int(span[6:-1]) if span and self.site.knows_ranges and self.headers["If-Range"] == date else 0
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Last-Modified", date)
        self.end_headers()
        most = self.site.breaks_after.pop(0) if self.site.breaks_after else len(content)
        self.wfile.write(content[start : start + most])

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder: Path):
    """Serve a folder while the block runs; yield the Site."""
    site = Site(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, site)) as server:
        site.address = f"http://127.0.0.1:{server.server_port}"
        server.handle_error = lambda *_: None  # clients that hang up are part of the tests
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield site
        server.shutdown()
