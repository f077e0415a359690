"""A web page in one file: nothing in it is loaded from elsewhere or runs, and all text is escaped.

Class names, paths and settings are whatever somebody wrote; only `Markup` is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

from engine.screen import printable

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } th { text-align: left }
td, th { padding: .15rem 1.2rem .15rem 0; vertical-align: top; overflow-wrap: anywhere }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr:nth-child(even) { background: #f6f6f6 }
svg { width: 100%; height: auto }
summary { cursor: pointer }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


class Markup(str):
    """HTML, as opposed to text."""


class Number(str):
    """A number as it is to be shown."""


def page(title: str, *parts: Markup) -> str:
    """The whole file."""
    return PAGE.substitute(title=text(title), body="\n".join(parts))


def text(content: object) -> Markup:
    """Anything as text, escaped; markup as it is."""
    return content if isinstance(content, Markup) else Markup(escape(printable(str(content))))


def section(title: str, *parts: Markup) -> Markup:
    """Parts under a heading."""
    return Markup("\n".join([f"<h2>{text(title)}</h2>", *parts]))


def paragraph(content: object) -> Markup:
    return Markup(f"<p>{text(content)}</p>")


def folded(summary: str, part: Markup) -> Markup:
    """A part that opens at a click."""
    return Markup(f"<details><summary>{text(summary)}</summary>\n{part}\n</details>")


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    """Rows of cells; numbers stand right. An empty header is left out."""
    head = "".join(f"<th>{text(name)}</th>" for name in header)
    lines = ["".join(map(_cell, row)) for row in rows]
    return Markup("<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in filter(None, [head, *lines])) + "\n</table>")


def _cell(content: object) -> str:
    kind = ' class="number"' if isinstance(content, int | float | Number) else ""
    return f"<td{kind}>{text(content)}</td>"
