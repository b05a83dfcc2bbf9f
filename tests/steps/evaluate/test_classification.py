from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from runner.errors import DataError, StepError
from runner.step import Input, Model, Out, Step
from runner.steps.evaluate import _baselines, _groups, classification, regression, score
from runner.steps.evaluate._asked import Case
from tests.conftest import make_step, write_parts
from tests.steps.train import classifier_steps
from tests.steps.train.classifier_steps import backbone, texts, trained

THREE = ("wet", "dry", "cold")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone(tmp_path_factory.mktemp("bert"))


def judge(folder: Path, bert: Path, rows: list[dict[str, Any]], name: str = "judge", **keys: Any) -> Model:
    step = classifier_steps.make(folder, bert, {"rows": rows}, **keys)
    made = trained(step, classifier_steps.run(step, folder / "out")[1])
    return Model(name, {}, made.folder, made.base)


@pytest.fixture(scope="module")
def wet(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A classifier of wet and dry that has learned its words."""
    return judge(tmp_path_factory.mktemp("wet"), bert, texts(32), epochs=6)


def evaluate(
    kind: Any, folder: Path, parts: Any, *models: Model, **keys: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts and rows of an evaluation; `beside` are the rows of baselines_from."""
    beside = keys.pop("beside", None)
    name = kind.__name__.rsplit(".", 1)[-1]
    step: Step = make_step("evaluate", name, folder, parts, models=models, **keys)
    if beside:
        step.inputs["baselines_from"] = (Input("known", write_parts(folder / "known", {"rows": beside})),)
    (folder / "made").mkdir(parents=True)
    out = Out(folder / "made")
    try:
        facts = kind.run(step, out)
    finally:
        out.close()
    assert json.dumps(facts, allow_nan=False)
    return facts, [json.loads(line) for line in (folder / "made" / "rows.jsonl").read_text().splitlines()]


def split(labels: tuple[str, ...] = ("wet", "dry")) -> dict[str, list[dict[str, Any]]]:
    return {"train": texts(24, labels), "validation": texts(6, labels, 24), "test": texts(9, labels, 30)}


# Classification


def test_a_whole_split_gives_a_line_a_part_beside_every_baseline(wet: Model, tmp_path: Path) -> None:
    facts, rows = evaluate(classification, tmp_path, split(), wet)
    table = facts["tables"][0]
    assert table["columns"] == ["by", "part", "accuracy", "macro F1", "weighted F1", "MCC", "rows"]
    names = [(row[0], row[1]) for row in table["rows"]]
    assert names == [
        (by, part) for by in ("judge", "majority", "random", "words") for part in ("train", "validation", "test")
    ]
    metrics = facts["metrics"]
    assert metrics["judge"]["test"]["accuracy"] > 0.8 > 0.6 > metrics["majority"]["test"]["accuracy"]
    assert metrics["words"]["test"]["accuracy"] == 1.0 and metrics["judge"]["test"]["rows"] == 9
    assert rows[0] == {
        "id": "0",
        "source": "notes.csv:0",
        "part": "train",
        "text": rows[0]["text"],
        "label": "wet",
        "answers": {name: rows[0]["answers"][name] for name in ("judge", "majority", "random", "words")},
    }
    assert "No text names a label, so there is no baseline of mentions." in facts["notes"]


def test_the_figures_are_those_of_the_rows(wet: Model, tmp_path: Path) -> None:
    facts, rows = evaluate(classification, tmp_path, split(), wet, baselines=["random"], seed=3)
    for name in ("judge", "random"):
        truth = [row["label"] for row in rows if row["part"] == "test"]
        said = [row["answers"][name] for row in rows if row["part"] == "test"]
        found = facts["metrics"][name]["test"]
        assert found["accuracy"] == sum(map(str.__eq__, truth, said)) / 9
        assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))
        assert found["mcc"] == pytest.approx(matthews_corrcoef(truth, said))
    [matrix] = [plot for plot in facts["plots"] if plot["kind"] == "matrix"]
    counts = Counter((row["label"], row["answers"]["judge"]) for row in rows if row["part"] == "test")
    assert matrix["rows"] == ["dry", "wet"] and matrix["values"] == [
        [counts[a, b] for b in ("dry", "wet")] for a in ("dry", "wet")
    ]
    classes = facts["metrics"]["judge"]["test"]["classes"]
    assert {label: one["rows"] for label, one in classes.items()} == Counter(truth)


def test_the_same_seed_draws_the_same_baseline(wet: Model, tmp_path: Path) -> None:
    made = [evaluate(classification, tmp_path / name, split(), wet)[1] for name in "ab"]
    assert made[0] == made[1]


def test_several_models_share_one_table(wet: Model, bert: Path, tmp_path: Path) -> None:
    other = judge(tmp_path / "other", bert, texts(8), "hasty", max_steps=1)
    facts, _ = evaluate(classification, tmp_path, {"test": texts(9)}, wet, other, baselines=[])
    assert [row[:2] for row in facts["tables"][0]["rows"]] == [["judge", "test"], ["hasty", "test"]]
    assert len([plot for plot in facts["plots"] if plot["kind"] == "matrix"]) == 2


def test_rows_for_the_baselines_may_come_from_elsewhere_and_are_mapped_alike(wet: Model, tmp_path: Path) -> None:
    known = [{"note": row["text"], "mood": row["label"]} for row in texts(12)]
    rows = [{"note": row["text"], "mood": row["label"]} for row in texts(6)]
    facts, _ = evaluate(
        classification, tmp_path, {"rows": rows}, wet, beside=known, columns={"text": "note", "label": "mood"}
    )
    assert set(facts["metrics"]) == {"judge", "majority", "random", "words"}
    without, _ = evaluate(classification, tmp_path / "2", {"rows": texts(6)}, wet)
    assert set(without["metrics"]) == {"judge"}
    assert "No baselines that learn: there is no train part. Name rows for them in baselines_from:." in without["notes"]


def test_a_label_that_the_model_never_learned_counts_as_wrong_and_is_said(wet: Model, tmp_path: Path) -> None:
    facts, _ = evaluate(classification, tmp_path, {"test": texts(9, THREE)}, wet)
    assert facts["notes"][0] == "judge never learned cold: 3 rows of test count as wrong."
    classes = facts["metrics"]["judge"]["test"]["classes"]
    assert classes["cold"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 3}
    strange = [{**row, "label": row["label"].upper()} for row in texts(4)]
    with pytest.raises(DataError, match=r"none of its labels \(DRY, WET\) is known to judge, which says dry, wet"):
        evaluate(classification, tmp_path / "2", {"rows": strange}, wet)


def test_a_class_with_one_row_and_rows_without_label_are_no_trouble(wet: Model, tmp_path: Path) -> None:
    rows = [*texts(6), {"text": "snow", "label": "cold"}, {"text": "mud"}, {"label": "wet", "text": None}]
    facts, _ = evaluate(classification, tmp_path, {"train": rows, "test": texts(1)}, wet)
    assert facts["metrics"]["judge"]["train"]["rows"] == 7 and facts["metrics"]["judge"]["test"]["mcc"] in (
        0.0,
        1.0,
        -1.0,
    )
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "made/rejected.jsonl").read_text().splitlines()]
    assert reasons == ["no label", "no text"]


def test_a_part_without_rows_is_an_error(wet: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"voice.from: validation: no row with a text and a label to judge"):
        evaluate(classification, tmp_path, {"train": texts(4), "validation": []}, wet)


def test_a_limit_takes_the_first_rows_of_each_part(wet: Model, tmp_path: Path) -> None:
    facts, rows = evaluate(classification, tmp_path, split(), wet, limit=4)
    assert [one["rows"] for one in facts["metrics"]["judge"].values()] == [4, 4, 4] and len(rows) == 12


# Joined answers


@pytest.fixture(scope="module")
def letters(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two models of one letter each: W or D by the first word, A or B by the second."""
    folder = tmp_path_factory.mktemp("letters")
    return [
        judge(folder / name, bert, [{**row, "label": row["label"][at]} for row in joined(32)], name, epochs=10)
        for at, name in enumerate(("first", "second"))
    ]


def joined(count: int) -> list[dict[str, Any]]:
    both = [("mud", "W"), ("sand", "D")], [("Watson", "A"), ("Holmes", "B")]
    rows = []
    for at in range(count):
        (one, first), (other, second) = both[0][at % 2], both[1][at // 2 % 2]
        rows.append({"text": f"{one} and {other}", "label": first + second})
    return rows


def test_answers_of_several_models_are_joined_and_counted_letter_by_letter(
    letters: list[Model], tmp_path: Path
) -> None:
    facts, rows = evaluate(classification, tmp_path, {"train": joined(12), "test": joined(8)}, *letters, join=True)
    assert set(facts["metrics"]) == {"joined", "majority", "random", "words"}
    assert facts["metrics"]["joined"]["test"]["accuracy"] > 0.7
    assert rows[0]["answers"]["joined"] in ("WA", "WB", "DA", "DB")
    table = next(one for one in facts["tables"] if one["title"] == "Letter by letter")
    assert table["columns"] == ["by", "part", "DW", "AB", "mean"]
    found = facts["metrics"]["joined"]["test"]["letters"]
    right = [
        sum(row["label"][at] == row["answers"]["joined"][at] for row in rows if row["part"] == "test") / 8
        for at in (0, 1)
    ]
    assert [found["DW"], found["AB"]] == right and found["mean"] == pytest.approx(sum(right) / 2)


def test_joining_needs_models_and_labels_that_they_can_make(letters: list[Model], tmp_path: Path) -> None:
    with pytest.raises(StepError, match="glues the answers of several models, and there is one"):
        evaluate(classification, tmp_path / "1", {"rows": joined(4)}, letters[0], join=True)
    with pytest.raises(DataError, match="no label is what these models make together"):
        evaluate(classification, tmp_path / "2", {"rows": texts(4)}, *letters, join=True)
    rows = [*joined(4), {"text": "mud", "label": "WX"}]
    facts, _ = evaluate(classification, tmp_path / "3", {"rows": rows}, *letters, join=True, baselines=[])
    assert "The models cannot make WX: 1 rows of rows count as wrong." in facts["notes"]


# Baselines


def test_mentions_say_the_label_that_a_text_names_most_often() -> None:
    told = ["An INTP, no, INTPs and one ENFJ", "nothing here", "enfj enfj intp"]
    cases = [Case({}, text, None, "") for text in told]
    assert _baselines.mentions(["wa", "db"], "db", [Case({}, "Watson, wa", None, "")]) == (["wa"], 1)
    assert _baselines.mentions(["wa", "db"], "db", [Case({}, "Watson", None, "")]) == (["db"], 0)
    assert _baselines.mentions(["ENFJ", "INTP"], "ISTJ", cases) == (["INTP", "ISTJ", "ENFJ"], 2)


def test_the_leak_is_shown_where_texts_name_their_label(wet: Model, tmp_path: Path) -> None:
    rows = [{**row, "text": f"{row['text']} so {row['label']}"} for row in texts(8)]
    facts, _ = evaluate(classification, tmp_path, {"train": rows, "test": texts(4)}, wet)
    assert facts["metrics"]["mentions"]["train"]["accuracy"] == 1.0
    assert "Texts that name a label: 100.0% of train, 0.0% of test." in facts["notes"]


def test_chance_draws_labels_as_often_as_they_occur() -> None:
    said = _baselines.drawn(Counter({"often": 90, "rare": 10}), {"test": 5000}, 0)["test"]
    assert 0.08 < said.count("rare") / 5000 < 0.12
    assert _baselines.majority(Counter({"b": 2, "a": 2, "c": 1})) == "a"


# Regression


def damp(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"text": row["text"], "label": {"wet": 1.0, "dry": 0.0}[row["label"]]} for row in rows]


def test_numbers_are_judged_part_by_part_beside_mean_chance_and_words(bert: Path, tmp_path: Path) -> None:
    model = judge(tmp_path / "model", bert, damp(texts(32)), predict="number", epochs=8)
    parts = {name: damp(rows) for name, rows in split().items()}
    facts, rows = evaluate(regression, tmp_path, parts, model, threshold=0.5)
    assert list(facts["metrics"]) == ["judge", "mean", "random", "words"]
    found = facts["metrics"]["judge"]["test"]
    assert found["mae"] < 0.35 and found["r2"] > 0.3 and found["spearman"] > 0.5 and found["accuracy"] > 0.8
    assert (
        facts["metrics"]["mean"]["train"]["r2"] == pytest.approx(0, abs=1e-6)
        and "spearman" not in facts["metrics"]["mean"]["test"]
    )
    assert [row["answers"]["mean"] for row in rows] == [0.5] * 39
    table = facts["tables"][0]
    assert table["columns"][2:] == ["MAE", "RMSE", "R²", "Spearman", "accuracy at 0.5", "rows"]
    with pytest.raises(StepError, match=r"voice.model: judge predicts number. Use evaluate: regression"):
        evaluate(classification, tmp_path / "2", {"test": texts(3)}, model)


def test_several_numbers_have_a_line_each_whatever_their_order(bert: Path, tmp_path: Path) -> None:
    def both(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"text": row["text"], "label": {"damp": row["label"], "dust": 1 - row["label"]}} for row in damp(rows)]

    model = judge(tmp_path / "model", bert, both(texts(32)), predict="numbers", epochs=8)
    turned = [{**row, "label": dict(reversed(row["label"].items()))} for row in both(texts(8))]
    straight, _ = evaluate(regression, tmp_path / "1", {"rows": both(texts(8))}, model)
    facts, rows = evaluate(regression, tmp_path / "2", {"rows": turned}, model)
    each = facts["metrics"]["judge"]["rows"]["numbers"]
    assert list(each) == ["dust", "damp"] and each == {
        name: straight["metrics"]["judge"]["rows"]["numbers"][name] for name in each
    }
    assert facts["metrics"]["judge"]["rows"]["mae"] == pytest.approx((each["damp"]["mae"] + each["dust"]["mae"]) / 2)
    assert set(rows[0]["label"]) == set(rows[0]["answers"]["judge"]) == {"damp", "dust"}
    with pytest.raises(StepError, match="judge says 2 numbers and the labels hold 1"):
        evaluate(regression, tmp_path / "3", {"rows": damp(texts(4))}, model)


def test_one_row_has_no_correlation_and_no_nonsense(bert: Path, tmp_path: Path) -> None:
    model = judge(tmp_path / "model", bert, damp(texts(8)), predict="number", max_steps=1)
    facts, _ = evaluate(regression, tmp_path, {"rows": damp(texts(1))}, model)
    assert "r2" not in facts["metrics"]["judge"]["rows"] and facts["tables"][0]["rows"][0][4:6] == ["–", "–"]


# Scores


def test_scores_are_written_row_by_row_and_summed_up_by_group(wet: Model, tmp_path: Path) -> None:
    rows = [{**row, "alpha": at // 4 / 2, "side": row["label"]} for at, row in enumerate(texts(12))]
    facts, made = evaluate(score, tmp_path, {"rows": rows}, wet, by=["side", "alpha"])
    assert len(made) == 12 and made[0]["predicted"] == "wet" and set(made[0]["scores"]) == {"dry", "wet"}
    assert made[0]["side"] == "wet" and sum(made[0]["scores"].values()) == pytest.approx(1, abs=1e-5)
    chosen = [row["scores"]["wet"] for row in made if row["side"] == "wet" and row["alpha"] == 0.5]
    group = facts["metrics"]["judge"]["wet, 0.5"]
    assert group["mean"]["wet"] == pytest.approx(sum(chosen) / 2, abs=1e-5) and group["rows"] == 2
    assert group["sd"]["wet"] == pytest.approx(abs(chosen[0] - chosen[1]) / 2**0.5, abs=1e-5)
    assert [row[:2] for row in facts["tables"][0]["rows"]][:3] == [["dry", "0.0"], ["dry", "0.5"], ["dry", "1.0"]]
    lines = facts["plots"][1]
    assert (lines["kind"], lines["x"], lines["title"]) == ("lines", "alpha", "wet, by judge")
    assert set(lines["series"]) == {"wet", "dry"} and [point[0] for point in lines["series"]["wet"]] == [0.0, 0.5, 1.0]


def test_scores_without_groups_and_of_several_models_are_bars(wet: Model, bert: Path, tmp_path: Path) -> None:
    other = judge(tmp_path / "other", bert, damp(texts(8)), "damp", predict="number", max_steps=1)
    facts, made = evaluate(score, tmp_path, {"rows": [*texts(4), {"text": " "}]}, wet, other)
    assert [row["model"] for row in made] == ["judge"] * 4 + ["damp"] * 4 and isinstance(made[4]["predicted"], float)
    assert [plot["kind"] for plot in facts["plots"]] == ["bars", "bars"]
    assert set(facts["plots"][0]["errors"]) == {"dry", "wet"} and facts["metrics"]["damp"]["all"]["rows"] == 4
    with pytest.raises(DataError, match="no row has a text to score"):
        evaluate(score, tmp_path / "2", {"rows": [{"text": ""}]}, wet)


def test_running_sums_are_mean_and_deviation() -> None:
    sums, values = _groups.Sums(), [1e6 + one for one in (4.0, 7.0, 13.0, 16.0)]
    for value in values:
        sums.add({"a": value}, None)
    assert (
        sums.means["a"] == 1e6 + 10
        and sums.deviation("a") == pytest.approx(30**0.5)
        and _groups.Sums(1, {}, {"a": 0.0}).deviation("a") == 0
    )
