"""Questionnaires: what counts as an answer, how it scores, and how that compares with people."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from runner import chat, inventories, models, schema
from runner.errors import DataError, RecipeError, StepError
from runner.inventories import Inventory
from runner.step import Decoding, Model, Prompt
from runner.steps.evaluate import _options, _sheets
from runner.steps.evaluate._sheets import Sheet
from tests.server import Server

ROOT = Path(__file__).resolve().parents[3]
IPIP = ROOT / "datasets/ipip-neo-120"
CHOICES = ROOT / "datasets/type-choices"
SHEETS = ROOT.parent / "shared/data/questionnaires/answers"

SMALL = """\
inventory: 1
title: Small
ask: "{{ statement }} {{ options }} {{ tags }}"
options: {1: never, 2: sometimes, 3: always}
score: SCORE
traits: {A: calm, B: bold}
reference: {A: {mean: 2.0, sd: 0.5, n: 100}}
items:
  - {text: is calm, trait: A}
  - {text: frets, trait: A, reversed: true}
  - {text: is bold, trait: B}
"""


def small(folder: Path, score: str = "mean") -> Inventory:
    (folder / "inventory.yaml").write_text(SMALL.replace("SCORE", score))
    return inventories.read(folder, [folder / "inventory.yaml"])


def ipip() -> Inventory:
    return inventories.read(IPIP, [IPIP / "inventory.yaml"])


# Reading


def test_the_items_that_come_along_are_24_a_trait_and_55_reversed() -> None:
    held = ipip()
    assert [sum(item.trait == trait for item in held.items) for trait in "OCEAN"] == [24] * 5
    assert sum(item.options[0].points[item.trait] == 5 for item in held.items) == 55
    assert [item.trait for item in held.items[:5]] == ["N", "E", "O", "A", "C"]


def test_every_fault_of_an_inventory_has_its_line(tmp_path: Path) -> None:
    text = SMALL.replace("SCORE", "median").replace("trait: B}", "trait: C}").replace("frets, trait: A", "frets")
    (tmp_path / "inventory.yaml").write_text(text)
    with pytest.raises(RecipeError) as found:
        inventories.read(tmp_path, [tmp_path / "inventory.yaml"])
    assert str(found.value).startswith(f"{tmp_path}/inventory.yaml:5:8: score: ")

    (tmp_path / "inventory.yaml").write_text(text.replace("median", "mean"))
    with pytest.raises(RecipeError) as found:
        inventories.read(tmp_path, [tmp_path / "inventory.yaml"])
    assert [line.partition("inventory.yaml:")[2].partition(" ")[0] for line in found.value.lines] == ["10:5:", "11:28:"]


def test_a_folder_without_an_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no inventory\.yaml here"):
        inventories.read(tmp_path, [])


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("2", "2"),
        (" 3. ", "3"),
        ("(1)", "1"),
        ("2 - sometimes", "2"),
        ("2, because I am.", "2"),
        ("Sometimes.", "2"),
        ("10", None),
        ("0", None),
        ("2.5", None),
        ("2 or 3", None),
        ("1-3", None),
        ("2/3", None),
        ("I would say 2", None),
        ("", None),
        ("two", None),
        ("-2", None),
        ("2nd", None),
    ],
)
def test_only_a_reply_that_names_one_option_is_an_answer(tmp_path: Path, said: str, tag: str | None) -> None:
    asked = small(tmp_path).order(0, 0)[0]
    option = _sheets.parse(said, asked)
    assert (option.tag if option else None) == tag


@pytest.mark.parametrize(
    ("said", "text"),
    [("A", "a full room"), ("b.", "a quiet corner"), ("(B)", "a quiet corner"), ("A: yes", "a full room")],
)
def test_a_choice_is_named_by_its_letter(said: str, text: str) -> None:
    asked = inventories.read(CHOICES, [CHOICES / "inventory.yaml"]).order(0, 0)[0]
    option = _sheets.parse(said, asked)
    assert option and option.text == text


@pytest.mark.parametrize("said", ["A good question", "A or B", "A, or B", "Both", "C"])
def test_what_only_looks_like_a_letter_is_no_choice(said: str) -> None:
    asked = inventories.read(CHOICES, [CHOICES / "inventory.yaml"]).order(0, 0)[0]
    assert _sheets.parse(said, asked) is None


def test_another_order_moves_the_letter_and_not_the_meaning() -> None:
    held = inventories.read(CHOICES, [CHOICES / "inventory.yaml"])
    first, turned = held.order(0, 0)[0], held.order(1, 0)[0]
    assert [option.text for option in turned.options.values()] == [
        option.text for option in reversed(first.options.values())
    ]
    assert list(turned.options) == ["A", "B"]
    assert turned.options["B"] == first.options["A"]


# Scoring, by hand


def test_a_mean_is_over_points_with_reversed_items_turned(tmp_path: Path) -> None:
    sheet = Sheet({}, {1: "3", 2: "1", 3: "2"})
    assert _sheets.score(sheet, small(tmp_path), "item") == {"A": 3.0, "B": 2.0}
    assert _sheets.score(sheet, small(tmp_path, "sum"), "item") == {"A": 6.0, "B": 2.0}


def test_a_blank_leaves_out_the_item_or_the_sheet(tmp_path: Path) -> None:
    sheet = Sheet({}, {1: "3", 2: None, 3: "2"})
    assert _sheets.score(sheet, small(tmp_path), "item") == {"A": 3.0, "B": 2.0}
    assert _sheets.score(sheet, small(tmp_path, "sum"), "item") == {"A": 6.0, "B": 2.0}
    assert _sheets.score(sheet, small(tmp_path), "sheet") is None
    assert _sheets.score(Sheet({}, {1: "3", 2: "1", 3: None}), small(tmp_path), "item") is None


def test_choices_are_counted_and_a_tie_goes_to_the_second() -> None:
    held = inventories.read(CHOICES, [CHOICES / "inventory.yaml"])
    every_first = Sheet({}, {item.number: "A" for item in held.items})
    halves = Sheet({}, {item.number: "AB"[item.number % 2] for item in held.items})
    scores = _sheets.score(every_first, held, "item")
    assert scores == {"E": 8, "N": 8, "F": 8, "J": 8, "I": 0, "S": 0, "T": 0, "P": 0}
    assert _sheets.kind_of(scores, held) == "ENFJ"
    tied = _sheets.score(halves, held, "item")
    assert tied and _sheets.kind_of(tied, held) == "ISTP"


def test_a_group_is_compared_by_student_or_welch() -> None:
    near = _sheets.compare([3.0, 3.4, 3.9, 3.1], {"mean": 3.2, "sd": 0.5, "n": 40}, 0.05)
    same = _sheets.compare([4.0, 4.0, 4.0], {"mean": 3.0, "sd": 1.0, "n": 1000}, 0.01)
    assert near and same
    # Student: pooled variance ((3·0.16333) + 39·0.25) / 42 = 0.243810; t = 0.15 / (0.493771·√(1/4 + 1/40))
    assert near.test == "Student"
    assert near.effect == pytest.approx(0.15 / math.sqrt(0.2438095), rel=1e-5)
    assert near.p == pytest.approx(0.566, abs=0.002)
    assert near.low < 0.15 < near.high
    # Welch, as the sheets don't vary at all: t = 1 / (1/√1000)
    assert same.test == "Welch"
    assert same.p < 1e-6
    assert same.effect == pytest.approx(1 / math.sqrt(999 / 1001), rel=1e-9)
    assert _sheets.compare([3.0], {"mean": 3.2, "sd": 0.5, "n": 40}, 0.05) is None


def test_traits_that_go_together_correlate() -> None:
    scored = [{"A": 1.0, "B": 3.0}, {"A": 2.0, "B": 2.0}, {"A": 3.0, "B": 1.0}]
    made = _sheets.correlation(scored, "AB")
    assert made and made[0] == pytest.approx([1, -1])
    assert _sheets.correlation([{"A": 1.0, "B": 2.0}] * 3, "AB") is None
    assert _sheets.correlation([{**one, "C": 2.0} for one in scored], "ABC")[2] == [None] * 3
    assert _sheets.correlation(scored[:2], "AB") is None


# The published sheets


@pytest.mark.skipif(not SHEETS.is_dir(), reason="the published answer sheets are not here")
@pytest.mark.parametrize("blank", ["item", "sheet"])
def test_the_published_sheets_score_as_worked_out_by_place(run_kind: Any, blank: str) -> None:
    reversed_items = {item.number for item in ipip().items if item.options[0].points[item.trait] == 5}
    for path in sorted(SHEETS.glob("*.csv")):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        columns = [name for name in lines[0] if name.startswith("shuffle")]
        whole = [name for name in columns if all(line[name] for line in lines)]
        expected = {}
        for rest, trait in {
            1: "neuroticism",
            2: "extraversion",
            3: "openness",
            4: "agreeableness",
            0: "conscientiousness",
        }.items():
            numbers = [number for number in range(1, 121) if number % 5 == rest]
            means = []
            for name in whole:
                given = {int(line["order-0"]): int(line[name]) for line in lines}
                means.append(sum(6 - given[n] if n in reversed_items else given[n] for n in numbers) / 24)
            expected[trait] = (sum(means) / len(means), statistics.stdev(means))
        rows = [{"source": f"{path.name}:{at}", **line} for at, line in enumerate(lines, 2)]
        ran = run_kind("evaluate.questionnaire", {"blank": blank}, rows, folder=IPIP, files=(IPIP / "inventory.yaml",))
        [(who, made)] = ran.facts["metrics"].items()
        assert who == path.name
        assert made["sheets"] == len(whole)
        found = {trait: (one["mean"], one["sd"]) for trait, one in made["traits"].items()}
        assert found == {trait: pytest.approx(pair) for trait, pair in expected.items()}
        left_out = len(columns) - len(whole)
        assert any("sheets are left out" in note for note in ran.facts["notes"]) == bool(left_out)


def test_blank_answers_can_end_the_step(run_kind: Any, tmp_path: Path) -> None:
    small(tmp_path)
    rows = [{"order-0": n, "shuffle0-test0": "2" if n < 3 else "", "source": f"a.csv:{n}"} for n in (1, 2, 3)]
    with pytest.raises(StepError, match="1 of 3 answers are blank"):
        run_kind(
            "evaluate.questionnaire", {"blank": "stop"}, rows, folder=tmp_path, files=(tmp_path / "inventory.yaml",)
        )


@pytest.mark.parametrize(("answer", "bars"), [("3", 1), ("", 0)])
def test_people_are_drawn_beside_sheets_and_never_alone(run_kind: Any, answer: str, bars: int) -> None:
    rows = [{"order-0": n, "shuffle0-test0": answer, "source": f"a.csv:{n}"} for n in range(1, 121)]
    ran = run_kind("evaluate.questionnaire", {}, rows, folder=IPIP, files=(IPIP / "inventory.yaml",))
    drawn = [plot for plot in ran.facts["plots"] if plot["kind"] == "bars"]
    assert len(drawn) == bars and all(set(plot["series"]) == {"a.csv", "people"} for plot in drawn)


def test_an_answer_that_is_no_option_counts_as_blank_and_is_told(run_kind: Any, tmp_path: Path) -> None:
    small(tmp_path)
    rows = [{"order-0": n, "shuffle0-test0": "3" if n != 2 else "9", "source": f"a.csv:{n}"} for n in (1, 2, 3)]
    ran = run_kind("evaluate.questionnaire", {}, rows, folder=tmp_path, files=(tmp_path / "inventory.yaml",))
    assert ran.facts["metrics"]["a.csv"]["traits"]["calm"]["mean"] == 3.0
    assert ran.facts["notes"] == ["1 answers are none of the options; they count as blank."]


# Asking


@pytest.fixture
def asked(tmp_path: Path, tiny_model: Path, run_kind: Any) -> Any:
    small(tmp_path)

    def ask(prompt: Prompt | None = None, **keys: Any) -> Any:
        how = Decoding("talk", "sample", schema.defaults(schema.mode("sample"), {"max_new_tokens": 4}))
        decodings = {"decoding": how} if keys.pop("words", False) else {}
        return run_kind(
            "evaluate.questionnaire",
            keys,
            folder=tmp_path,
            files=(tmp_path / "inventory.yaml",),
            models={"model": (Model("base", {"load": str(tiny_model)}),)},
            decodings=decodings,
            prompts={"prompt": prompt} if prompt else {},
        )

    return ask


def test_the_likeliest_option_is_the_one_with_the_highest_probability(asked: Any, tiny_model: Path) -> None:
    row = asked().rows()[0]
    loaded = models.load([Model("base", {"load": str(tiny_model)})], tiny_model.parent)[0]
    ids = chat.prompt_ids(
        loaded.tokenizer, [{"role": "user", "content": "is calm 1 = never\n2 = sometimes\n3 = always 1, 2 or 3"}]
    )
    with torch.inference_mode(), loaded.active() as network:
        logits = network(torch.tensor([ids])).logits[0, -1]
    tags = [loaded.tokenizer(tag, add_special_tokens=False).input_ids for tag in "123"]
    expected = torch.stack([logits[tag[0]] for tag in tags]).softmax(0).tolist()
    assert list(row["chances"].values()) == pytest.approx(expected, abs=1e-5)
    assert row["answer"] == max("123", key=lambda tag: row["chances"][tag])


def test_options_of_several_tokens_are_scored_whole(tiny_model: Path) -> None:
    loaded = models.load([Model("base", {"load": str(tiny_model)})], tiny_model.parent)[0]
    pairs = [([5, 6, 7], [10, 11]), ([5, 6, 7], [10, 12]), ([9], [13])]
    with torch.inference_mode(), loaded.active() as network:
        expected = []
        for prompt, answer in pairs:
            logs = network(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            expected.append(sum(float(logs[len(prompt) - 1 + at, token]) for at, token in enumerate(answer)))
    assert _options.log_likelihoods(loaded, pairs) == pytest.approx(expected, abs=1e-4)


def test_each_order_and_repeat_is_a_sheet(asked: Any) -> None:
    rows = asked(words=True, repeats=2, orders=2).rows()
    assert [row["sheet"] for row in rows[::3]] == ["order0-test0", "order0-test1", "order1-test0", "order1-test1"]
    assert all("said" in row for row in rows)


def test_the_same_seed_gives_the_same_answers(asked: Any) -> None:
    first, again, other = (asked(words=True, repeats=2, seed=seed).rows() for seed in (1, 1, 2))
    assert first == again != other


def test_the_prompt_decides_what_is_told(asked: Any) -> None:
    told = asked(Prompt("told", ({"system": "You are calm.", "user": "{{ item }}"},))).rows()
    plain = asked().rows()
    assert told[0]["chances"] != plain[0]["chances"]


def test_an_endpoint_is_asked_each_item_once_a_repeat(tmp_path: Path, run_kind: Any) -> None:
    small(tmp_path)
    how = Decoding("talk", "sample", schema.defaults(schema.mode("sample"), {"max_new_tokens": 4}))
    with Server(reply=lambda body: "2") as server:
        model = Model("far", schema.defaults(schema.entry("endpoint"), {"endpoint": server.url, "model": "m"}))
        ran = run_kind(
            "evaluate.questionnaire",
            {"repeats": 2},
            folder=tmp_path,
            files=(tmp_path / "inventory.yaml",),
            models={"model": (model,)},
            decodings={"decoding": how},
        )
    assert [row["answer"] for row in ran.rows()] == ["2"] * 6
    assert ran.facts["metrics"]["far"]["traits"]["calm"] == {
        "mean": 2.0,
        "sd": 0.0,
        "n": 2,
        "compared": ran.facts["metrics"]["far"]["traits"]["calm"]["compared"],
    }
