"""Convert measured training steps into a row of engine/compile_table.jsonl, by which `runtime.compile=auto` chooses."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.network.scale import FORMS_MEASURED
from engine import compile_table


def write(records: Path, device: str, capability: str, table: Path = compile_table.FILE) -> list[dict]:
    """Add a row per precision of which both modes were measured in `records`; return the rows.

    A mode's time is that of its fastest form of the shift. Without records nothing is written.
    """
    rows = []
    for precision, modes in _fastest(records).items():
        if modes.keys() >= {"eager", "compiled"}:
            times = {f"{mode}_ms": ms for mode, ms in modes.items()}
            rows.append({"device": device, "capability": capability, "precision": precision, **times})
            compile_table.add(rows[-1], table)
    return rows


def _fastest(records: Path) -> dict[str, dict[str, float]]:
    """Return the milliseconds of the fastest TSM step by precision and mode."""
    found: dict[str, dict[str, float]] = {}
    lines = records.read_text().splitlines() if records.exists() else []
    for record in map(json.loads, lines):
        section, _, rest = record["case"].partition("/")
        if section == "steps" and "ms" in record:
            precision, mode, form = rest.split("/")
            if form in FORMS_MEASURED:
                modes = found.setdefault(precision, {})
                modes[mode] = min(record["ms"], modes.get(mode, record["ms"]))
    return found
