"""Make the pictures of docs/images: python docs/images/make.py RUN [--chromium PROGRAM]

Takes the folder of a finished run of `make demo`, such as runs/demo. Writes report.png and clips.png, the upper parts
of the report and of the page that `prepare.py show` makes with the settings of the run, and terminal.png, the last
lines that it printed. Needs Chromium; the pictures have few colours, so that they stay small.
"""

from __future__ import annotations

import argparse
import html
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 1100, 1212  # of a page, in pixels
SHOWN = 720  # width of a picture
COLOURS = {"report": 48, "clips": 48, "terminal": 8}
LINES = 9
EPOCH = "3"  # its first clips are of all classes
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0;background:#101318">
<pre style="font:13px/1.45 monospace;color:#e6e9ed;padding:16px;margin:0;white-space:pre-wrap">{text}</pre></body>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--chromium", default="chromium", metavar="PROGRAM")
    arguments = parser.parse_args()
    out = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        pages = {
            "report": arguments.run / "report.html",
            "clips": write_clips(arguments.run, Path(folder)),
            "terminal": write_terminal(arguments.run, Path(folder)),
        }
        for name, page in pages.items():
            shot = Path(folder, f"{name}.png")
            photograph(arguments.chromium, page, shot)
            save_small(shot, out / f"{name}.png", COLOURS[name])
            print(f"{out / name}.png: {(out / name).with_suffix('.png').stat().st_size / 1000:.0f} kB")


def write_clips(run: Path, folder: Path) -> Path:
    """Make the page of training clips with the settings of a run."""
    page = folder / "clips.html"
    command = [str(ROOT / "tools/prepare.py"), "show", "--config", str(run.resolve()), "--epoch", EPOCH, "--clips", "6"]
    subprocess.run(
        [sys.executable, *command, "--out", str(page)], check=True, cwd=ROOT
    )  # where the paths of the run start
    return page


def write_terminal(run: Path, folder: Path) -> Path:
    """Make a page that looks like the terminal in which a run ends."""
    command = (run / "command.txt").read_text().splitlines()[-1].partition("  ")[2]
    printed = (run / "log.txt").read_text().splitlines()[-LINES:]
    page = folder / "terminal.html"
    page.write_text(TERMINAL.format(text=html.escape("\n".join([f"$ python {command}", "...", *printed]))))
    return page


def photograph(chromium: str, page: Path, shot: Path) -> None:
    """Let Chromium draw a page."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    command = [chromium, *options, f"--screenshot={shot}", page.resolve().as_uri()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def save_small(shot: Path, target: Path, colours: int) -> None:
    """Scale a picture down, cut empty space off below, and store it with few colours."""
    with Image.open(shot) as picture:
        rgb = picture.convert("RGB")
    empty = Image.new("RGB", rgb.size, rgb.getpixel((0, rgb.height - 1)))
    _, _, _, bottom = ImageChops.difference(rgb, empty).getbbox() or (0, 0, *rgb.size)
    cropped = rgb.crop((0, 0, rgb.width, min(rgb.height, bottom + 16)))
    scaled = cropped.resize((SHOWN, round(cropped.height * SHOWN / cropped.width)), Image.Resampling.LANCZOS)
    scaled.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
