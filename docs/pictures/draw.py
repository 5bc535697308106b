#!/usr/bin/env python3
"""Draws the pictures of docs/order.md. With --check, only says whether they are up to date.

A picture is as small as it can be, has its own ground, and follows the reader's wish for
light or dark, so that it is read in every theme of the book.
"""

import sys
from html import escape
from pathlib import Path

STYLE = """
.ground{fill:#fff;stroke:#d0d7de}.line{stroke:#8c959f;stroke-width:1.5}
.arrow{stroke:#0969da;stroke-width:1.8;fill:none}.head{fill:#0969da}
.held{stroke:#bc4c00}.headheld{fill:#bc4c00}.wait{stroke:#bc4c00;stroke-width:4}
.bar{fill:#0969da}.late{fill:#8250df}text{font:13px sans-serif;fill:#1f2328}
.top{font-weight:bold}.note{fill:#57606a;font-size:12px}.mid{text-anchor:middle}
.end{text-anchor:end}
@media(prefers-color-scheme:dark){.ground{fill:#161b22;stroke:#30363d}.line{stroke:#6e7681}
.arrow{stroke:#58a6ff}.head,.bar{fill:#58a6ff}.held,.wait{stroke:#f0883e}.headheld{fill:#f0883e}
.late{fill:#bc8cff}text{fill:#e6edf3}.note{fill:#9ea7b3}}
"""

TOP = 48
ROW = 30


class Picture:
    def __init__(self, title, width, height):
        self.title, self.width, self.height = title, width, height
        self.parts = []

    def text(self, x, y, words, kind=""):
        self.parts.append(f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, kind="line"):
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"/>')

    def bar(self, x, y, height, kind="bar"):
        shape = f'x="{x}" y="{y}" width="9" height="{height}" rx="3"'
        self.parts.append(f'<rect {shape} class="{kind}"/>')

    def arrow(self, x1, y1, x2, y2, held=False):
        """A straight one, with its head at the second point."""
        back = -7 if x2 > x1 else 7
        self.line(x1, y1, x2 + back, y2, "arrow held" if held else "arrow")
        head = f"{x2},{y2} {x2 + back},{y2 - 4} {x2 + back},{y2 + 4}"
        kind = "headheld" if held else "head"
        self.parts.append(f'<polygon points="{head}" class="{kind}"/>')

    def svg(self):
        ground = f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
            f'height="{self.height}" viewBox="0 0 {self.width} {self.height}" role="img">'
            f"<title>{escape(self.title)}</title><style>{STYLE.strip()}</style>"
            f'{ground} rx="8" class="ground"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def sequence(title, columns, rows, width=640):
    """Time runs downwards. A row is a list of what is at one time:
    (FROM, TO, LABEL) an arrow between columns, (FROM, TO, LABEL, "held") one that an
    embargo is about, (COLUMN, NOTE) a note behind a column's line, or
    (COLUMN, ROWS, "waits") a line that is held back for so many rows."""
    height = TOP + ROW * len(rows) + 14
    picture = Picture(title, width, height)
    for x, name in columns:
        picture.text(x, 24, name, "top mid")
        picture.line(x, 34, x, height - 10)
    for number, row in enumerate(rows):
        y = TOP + ROW * number + 8
        for item in row:
            if item[-1] == "waits":
                x = columns[item[0]][0]
                picture.line(x, y - 8, x, y + ROW * item[1] - 16, "wait")
            elif len(item) == 2:
                picture.text(columns[item[0]][0] + 10, y + 4, item[1], "note")
            else:
                start, end = columns[item[0]][0], columns[item[1]][0]
                picture.arrow(start, y, end, y, held=len(item) == 4)
                picture.text((start + end) // 2, y - 5, item[2], "mid")
    return picture


def one_client():
    columns = [(90, "thread"), (270, "vat A"), (500, "vat B: the object")]
    rows = [[(0, 1, name), (1, 2, f"call {name}"), (2, name)] for name in "abc"]
    return sequence("The calls a, b and c of one thread arrive in this order.", columns, rows)


def threads():
    columns = [(90, "thread 1"), (230, "thread 2"), (500, "the object")]
    rows = [
        [(0, 2, "a"), (2, "a")],
        [(1, 2, "x"), (2, "x: somewhere")],
        [(0, 2, "b"), (2, "b: after a")],
        [(1, 2, "y"), (2, "y: after x")],
        [(0, 2, "c"), (2, "c: after b")],
    ]
    return sequence("Calls of two threads mix; those of each keep their order.", columns, rows)


def clone():
    columns = [(90, "original"), (250, "clone"), (500, "the object")]
    rows = [
        [(0, 2, "a"), (2, "a")],
        [(0, 1, "clone()")],
        [(1, 2, "x"), (2, "x: after a")],
        [(0, 2, "b"), (2, "b: before or after x")],
    ]
    title = "A call of a clone arrives after those that were made before it was cloned."
    return sequence(title, columns, rows, 680)


def pipelined():
    columns = [(60, "vat A"), (440, "vat B")]
    rows = [
        [(0, 1, "#1 open()")],
        [(0, 1, "#2 read() on the results of #1"), (1, "waits for #1, not for A")],
        [(0, 1, "#3 read() on the results of #1"), (1, "after #2")],
        [(1, 0, "the results of #1")],
        [(0, 1, "#4 read() on the file"), (1, "after #3")],
    ]
    return sequence("Calls on results that are not there yet, and calls after them.", columns, rows)


def embargo():
    columns = [(110, "vat A: the object"), (330, "vat A"), (610, "vat B")]
    rows = [
        [(1, 2, "call 1 on p")],
        [(1, 2, "call 2 on p")],
        [(2, 1, "p is your object"), (2, "Resolve")],
        [(1, 2, "is that all?", "held"), (2, "Disembargo"), (1, 4, "waits")],
        [(2, 1, "call 1"), (0, "")],
        [(2, 1, "call 2"), (1, 0, "1")],
        [(2, 1, "that was all", "held"), (1, 0, "2"), (2, "Disembargo")],
        [(1, 0, "3, which was held back"), (1, "the embargo is over")],
        [(1, 0, "4"), (1, "without a message from now on")],
    ]
    title = "An embargo holds call 3 back until calls 1 and 2 have come around."
    return sequence(title, columns, rows, 720)


def objects():
    picture = Picture("When the methods of objects run, by their kind.", 640, 200)
    kinds = [
        ("Serial (default)", [("a", 0, 2, 0), ("b", 2, 1, 0), ("c", 3, 2, 0)], ""),
        ("Concurrent", [("a", 0, 3, 0), ("b", 1, 3, 1), ("c", 2, 3, 2)], ""),
        ("Inline", [("a", 0, 2, 0), ("b", 2, 1, 0), ("c", 3, 2, 0)], "on the thread that delivers"),
    ]
    for column, (name, runs, note) in enumerate(kinds):
        x = 24 + column * 205
        picture.text(x, 28, name, "top")
        picture.text(x, 46, note, "note")
        for row, (call, *_) in enumerate(runs):
            y = 72 + row * 24
            picture.text(x, y + 4, call)
            picture.arrow(x + 14, y, x + 44, y)
        for call, start, length, lane in runs:
            left = x + 58 + lane * 34
            late = "late" if name != "Concurrent" and start > 0 else "bar"
            picture.bar(left, 60 + start * 24, length * 24 - 3, late)
            picture.text(left + 13, 74 + start * 24, call)
    picture.text(24, 192, "left: when calls arrive; bars: when their methods run", "note")
    return picture


def no_order():
    picture = Picture("Calls by two ways to one object mix.", 680, 120)
    for y, name in [(36, "p"), (84, "q")]:
        picture.text(24, y + 4, f"{name}, a capability", "top")
        picture.line(150, y, 300, y, "arrow")
        picture.line(300, y, 360, 60, "arrow")
    picture.arrow(360, 60, 430, 60)
    picture.text(440, 64, "the object", "top")
    picture.text(440, 84, "calls through p and through q mix", "note")
    return picture


PICTURES = {
    "order-one-client": one_client,
    "order-threads": threads,
    "order-clone": clone,
    "order-pipelined": pipelined,
    "order-embargo": embargo,
    "order-objects": objects,
    "order-none": no_order,
}


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(f"usage: {sys.argv[0]} [--check]")
    folder = Path(__file__).parent
    stale = []
    for name, draw in PICTURES.items():
        path, drawn = folder / f"{name}.svg", draw().svg()
        if check and (not path.exists() or path.read_text() != drawn):
            stale.append(path.name)
        if not check:
            path.write_text(drawn)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run docs/pictures/draw.py")


if __name__ == "__main__":
    main()
