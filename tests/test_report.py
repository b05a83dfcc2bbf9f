"""The report: one page from what steps recorded, safe whatever is in the data, alone or beside another recipe's."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runner import drawing, figures, look, plan, recipe
from runner.drawing import Box
from tests import project
from tests.test_drivers import environment

RECIPE = """\
recipe: 1
title: Two <script>alert(1)</script> voices
matrix:
  who: [holmes, watson]
steps:
  chats: {preprocess: discord, folder: datasets/chat}
  mine: {matrix: [who], preprocess: select, from: chats, where: speaker == who}
  health: {matrix: [who], evaluate: text, from: mine}
  rated: {preprocess: select, from: chats, add: {rating: "{{ text | length % 3 }}"}}
  marks: {evaluate: judge, from: rated, by: speaker}
variants:
  few: {steps: {rated: {limit: 5}}}
"""


def run(folder: Path, *command: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "runner", *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = project.make(tmp_path_factory.mktemp("report"))
    (made / "recipes/voices.yaml").write_text(RECIPE)
    run(made, "run", "voices")
    return made


class Tags(HTMLParser):
    """Every tag that is opened must be closed."""

    VOID = ("meta", "br", "hr", "img", "link", "input", "use", "path", "rect", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag


def test_the_page_shows_tables_plots_rows_and_how_to_make_it_again(folder: Path) -> None:
    path = Path(run(folder, "report", "voices").strip())
    text = path.read_text(encoding="utf-8")
    assert path == folder / "artifacts/voices/report.html"
    for shown in ("self-BLEU", "95% interval", "make run R=voices", "mine × 2", "<td>holmes</td>", "python"):
        assert shown in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == []


def test_nothing_of_the_data_becomes_part_of_the_page(folder: Path) -> None:
    text = Path(run(folder, "report", "voices").strip()).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "Two &lt;script&gt;alert(1)&lt;/script&gt; voices" in text
    assert not re.search(r'(?:src|href)="(?!#)', text), "the page loads nothing from elsewhere"


def test_two_recipes_stand_side_by_side_with_what_differs(folder: Path) -> None:
    run(folder, "run", "voices", "--variant", "few")
    text = Path(run(folder, "report", "voices,voices@few").strip()).read_text(encoding="utf-8")
    assert "What differs" in text
    assert "limit null → 5" in text
    assert "<td>voices@few</td><td>holmes</td>" in text


def test_a_recipe_of_which_nothing_is_made_has_no_report(tmp_path: Path) -> None:
    made = project.make(tmp_path)
    said = subprocess.run(
        [sys.executable, "-m", "runner", "report", "small"],
        cwd=made,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (1, "recipes/small.yaml: nothing is made yet. Run make run R=small.\n")


def test_a_report_of_a_half_made_recipe_says_what_is_missing(tmp_path: Path) -> None:
    made = project.make(tmp_path)
    (made / "recipes/voices.yaml").write_text(RECIPE)
    run(made, "run", "voices", "--target", "step/health")
    text = Path(run(made, "report", "voices").strip()).read_text(encoding="utf-8")
    assert "Not made yet: rated, marks." in text


@pytest.mark.parametrize(
    "plot",
    [
        {
            "title": "a",
            "kind": "lines",
            "x": "alpha",
            "y": "score",
            "series": {"high": [[0.25, 1.0], [4.0, 2.0]], "low": []},
        },
        {
            "title": "b",
            "kind": "bars",
            "y": "mean",
            "series": {"<a> & b": {"x": 1.0}},
            "errors": {"<a> & b": {"x": 0.1}},
        },
        {"title": "c", "kind": "bars", "y": "mean", "series": {"a": {"x": 1.0}, "b": {"y": 2.0}}},
        {"title": "d", "kind": "matrix", "rows": ["a"], "columns": ["a", "b"], "values": [[1, None]]},
        {"title": "e", "kind": "matrix", "rows": list("ab"), "columns": list("ab"), "values": [[0, 0], [0, 0]]},
    ],
    ids=lambda plot: plot["title"],
)
def test_every_kind_of_plot_is_drawn_the_same_each_time(plot: dict[str, Any]) -> None:
    first, again = figures.svg(plot), figures.svg(plot)
    assert first == again
    assert first.startswith("<svg") and first.rstrip().endswith("</svg>")
    tags = Tags()
    tags.feed(first)
    assert tags.open == []


def test_boxes_come_after_what_they_need(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ARTIFACTS", raising=False)
    text = look.svg(plan.make(recipe.load(Path("recipes/voices.yaml"))))
    places = {name: float(x) for x, name in re.findall(r'<text x="(\d+)" y="\d+" class="name">([^<]+)<', text)}
    assert places["chats"] < places["mine × 2"] < places["health × 2"]
    assert places["chats"] < places["rated"] < places["marks"]


def test_a_drawn_name_cannot_break_out() -> None:
    text = drawing.svg([Box("a", ("<b>", "&"), 'x" onload="y', ())])
    assert "<b>" not in text and 'onload="y' not in text
