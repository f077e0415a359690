"""A web page in one file: nothing in it is loaded from elsewhere or runs, and all text is escaped.

Class names, paths and settings are whatever somebody wrote; only `Markup` is taken as it stands. Readable in light and
dark, on a telephone and on paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from engine.console import printable

MOST_OPEN = 20  # rows of a folded table that is shown unfolded

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d5dae0; --stripe: #f5f7f9; --bar: #cfe3f5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #3a414a; --stripe: #1a1f26; --bar: #1d3f5e }
  body { background: #101318 }
}
body { font: .95rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink) }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere }
h2 { margin: 2.5rem 0 1rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; font-size: 1.25rem }
dl, .pictures { display: grid; gap: .8rem 1.6rem; margin: 1rem 0 }
dl { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
dt, figcaption, small { color: var(--soft); font-size: .85rem }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums } dd small { display: block }
.pictures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0 } figcaption { text-align: center } svg { width: 100%; height: auto } svg text { fill: currentColor }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th { text-align: left; border-bottom: 1px solid var(--line) }
td, th { padding: .15rem 1.2rem .15rem .3rem; vertical-align: top; overflow-wrap: anywhere; min-width: 4rem }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.share { background: linear-gradient(var(--bar), var(--bar)) no-repeat 0 / var(--share) 100% padding-box }
td.share { min-width: 5rem; padding-right: .5rem; border-right: .7rem solid transparent }
tr:nth-child(even) { background-color: var(--stripe) }
summary { cursor: pointer }
@media print {
  :root { font-size: 11px } body { margin: 0; max-width: none } h2 { break-after: avoid }
  figure, tr, dl div { break-inside: avoid } .pictures { grid-template-columns: repeat(3, 1fr) }
  .share { print-color-adjust: exact } details::details-content { content-visibility: visible; block-size: auto }
}
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


class Share(Number):
    """A fraction, shown as a percentage with a bar behind it."""

    def __new__(cls, fraction: float) -> Share:
        return super().__new__(cls, f"{100 * fraction:.2f} %")


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


def facts(rows: Iterable[tuple[str, object, object]]) -> Markup:
    """What matters most, large: (name, value, what is to be said of it)."""
    shown = (f"<dt>{text(name)}</dt><dd>{text(value)}{_aside(said)}</dd>" for name, value, said in rows)
    return Markup("<dl>\n" + "\n".join(f"<div>{fact}</div>" for fact in shown) + "\n</dl>")


def _aside(said: object) -> str:
    return f"<small>{text(said)}</small>" if said else ""


def pictures(drawings: Iterable[tuple[str, Markup]]) -> Markup:
    """(caption, SVG element), as many in a row as there is room for."""
    figures = (f"<figure><figcaption>{text(caption)}</figcaption>\n{svg}</figure>" for caption, svg in drawings)
    return Markup('<div class="pictures">\n' + "\n".join(figures) + "\n</div>")


def folded(summary: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table that opens at a click, and is open where it is short."""
    rows = list(rows)
    state = " open" if len(rows) <= MOST_OPEN else ""
    return Markup(f"<details{state}><summary>{text(summary)}</summary>\n{table(header, rows)}\n</details>")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Rows of cells; a column of nothing but numbers stands right. An empty header is left out."""
    rows = [list(row) for row in rows]
    right = [all(isinstance(cell, int | float | Number) for cell in column) for column in zip(*rows, strict=True)]
    head = [_cell("th", name, number) for name, number in zip(header, right or [False] * len(header), strict=False)]
    lines = [[_cell("td", *cell) for cell in zip(row, right, strict=True)] for row in rows]
    body = "\n".join(f"<tr>{''.join(line)}</tr>" for line in filter(None, [head, *lines]))
    return Markup(f"<table>\n{body}\n</table>")


def _cell(element: str, content: object, number: bool) -> str:
    kinds = [kind for kind, so in (("number", number), ("share", isinstance(content, Share))) if so]
    attributes = ' class="' + " ".join(kinds) + '"' if kinds else ""
    if isinstance(content, Share):
        attributes += f' style="--share: {content.removesuffix(" %")}%"'
    return f"<{element}{attributes}>{text(content)}</{element}>"
