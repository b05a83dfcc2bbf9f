"""A graph drawn as SVG: boxes in columns by what they need, with lines between them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from statistics import fmean

LETTER, LINE, PAD = 6.6, 15, 9
ACROSS, DOWN = 46, 14


@dataclass(frozen=True)
class Box:
    """One box: the lines of text in it, a class for its colour, and the names of the boxes that it needs."""

    name: str
    lines: tuple[str, ...]
    kind: str
    needs: tuple[str, ...]

    @property
    def width(self) -> float:
        return max(len(line) for line in self.lines) * LETTER + 2 * PAD

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2 * PAD - 4


def svg(boxes: list[Box]) -> str:
    """The <svg> element; boxes come after all that they need."""
    columns = _columns(boxes)
    places: dict[str, tuple[float, float]] = {}
    x = 2.0
    tallest = max(sum(box.height + DOWN for box in column) for column in columns)
    for column in columns:
        y = (tallest - sum(box.height + DOWN for box in column)) / 2 + 2
        for box in column:
            places[box.name] = (x, y)
            y += box.height + DOWN
        x += max(box.width for box in column) + ACROSS
    held = {box.name: box for box in boxes}
    lines = [_line(held[need], places[need], box, places[box.name]) for box in boxes for need in box.needs]
    shapes = [_shape(box, *places[box.name]) for box in boxes]
    width, height = round(x - ACROSS + 2), round(tallest)
    # On a narrow page it scrolls before its words become too small to read
    style = f"max-width:{width}px;min-width:{round(0.7 * width)}px"
    size = f'viewBox="0 0 {width} {height}" style="{style}" role="img" aria-label="the steps of the recipe"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" {size}>{"".join([*lines, *shapes])}</svg>'


def _columns(boxes: list[Box]) -> list[list[Box]]:
    """Boxes by the longest way to them; in a column, near the middle of what they need, so that few lines cross."""
    rank: dict[str, int] = {}
    for box in boxes:
        rank[box.name] = max((rank[need] + 1 for need in box.needs), default=0)
    columns: list[list[Box]] = [[box for box in boxes if rank[box.name] == at] for at in range(max(rank.values()) + 1)]
    height: dict[str, float] = {}
    for column in columns:
        middle = (len(column) - 1) / 2
        column.sort(key=lambda box: fmean([height[need] for need in box.needs]) if box.needs else 0.0)
        height |= {box.name: at - middle for at, box in enumerate(column)}
    return columns


def _shape(box: Box, x: float, y: float) -> str:
    text = "".join(
        f'<text x="{x + PAD:.0f}" y="{y + PAD + 9 + at * LINE:.0f}"{"" if at else " class=" + chr(34) + "name" + chr(34)}>{escape(line)}</text>'
        for at, line in enumerate(box.lines)
    )
    place = f'x="{x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    return f'<g class="{escape(box.kind)}"><rect {place} rx="6"/>{text}</g>'


def _line(first: Box, start: tuple[float, float], second: Box, end: tuple[float, float]) -> str:
    x1, y1 = start[0] + first.width, start[1] + first.height / 2
    x2, y2 = end[0], end[1] + second.height / 2
    bend = (x2 - x1) / 2
    return f'<path d="M{x1:.0f} {y1:.0f} C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"/>'
