"""Tables and figures of the documents equal the recorded results."""

import json
from statistics import mean

import pytest

from benchmarks import tables


def test_the_tables_of_the_document_are_those_of_the_results():
    text = tables.DOCUMENT.read_text()
    assert set(tables._PLACE.findall(text)), "there are tables"
    assert tables.with_tables(text) == text, "run python benchmarks/tables.py"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_has_a_marker_in_the_document_and_rows(name):
    assert f"<!-- table {name} -->" in tables.DOCUMENT.read_text()
    head, *body = tables.TABLES[name]()
    assert body and all(len(row) == len(head) for row in body)


def test_later_runs_take_the_place_of_earlier_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    (tmp_path / "a.jsonl").write_text('{"case": "x/1", "n": 1}\n{"case": "y", "n": 2}\n{"case": "x/1", "n": 3}\n')
    assert [record["n"] for record in tables.records("a.jsonl", "x/")] == [3]


def ratios(*files, case):
    """Return the speed-up of this project over others in these cases."""
    return [record["ours_over_it"] for file in files for record in tables.records(file, case)]


def figures():
    """Yield every measured figure of the README, computed from the results."""
    decoded = {}
    for line in (tables.RESULTS / "gop.jsonl").read_text().splitlines():
        record = json.loads(line)
        decoded.setdefault(record["version"], []).append(record["decoded_per_clip"])
    original, *cut = (round(mean(of_videos)) for of_videos in decoded.values())
    yield f"about {round(original, -1)} → {cut[1]} → {cut[2]} |"
    yield f"| {' / '.join(map(str, cut))} |"
    feed = [ratios("peers.jsonl", case=f"feed/gop{gop}/DataLoader")[0] for gop in (1, 16, 250)]
    yield f"| {' / '.join(f'{ratio:.1f}x' for ratio in feed)} |"
    both = "peers.jsonl", "peers_epyc.jsonl"
    tuned, published = (ratios(*both, case=f"step/.*/MIT, {how}") for how in ("tuned", "as published"))
    ranges = (f"{min(found):.1f}x to {max(found):.1f}x" for found in (tuned, published))
    yield f"| {' / '.join(ranges)} |"
    milliseconds = [record["ms_per_clip"]["1 thread"] for record in tables.records("cut.jsonl", "cut/")]
    yield f"| {min(milliseconds):.2f} to {max(milliseconds):.2f} ms |"
    (folded,) = tables.records("bytes.jsonl", "folded")
    yield f"| {100 * (folded['over_none'] - 1):.1f} % |"
    demo = json.loads((tables.RESULTS / "demo_cpu.json").read_text())
    yield f"| {demo['seconds']} s |"
    pan4 = map(json.loads, (tables.RESULTS / "pan4_cpu.jsonl").read_text().splitlines())
    for scores in (demo["scores"].values(), pan4):
        tsm, tsn = (f"{one['correct']} of {one['evaluated']}" for one in scores)
        yield f"| TSM {tsm}, TSN {tsn} |"


def test_the_figures_of_the_readme_are_those_of_the_results():
    text = (tables.ROOT / "README.md").read_text()
    assert [figure for figure in figures() if figure not in text] == []
