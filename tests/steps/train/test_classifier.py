from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from runner import scorers
from runner.errors import DataError, StepError
from runner.step import Model
from runner.steps.train import _labels
from runner.steps.train._classify import loss_of
from tests.steps.train.classifier_steps import backbone, make, run, texts, trained

KINDS = ("bert", "roberta", "llama", "gpt2", "gpt_neo")
# One encoder and one decoder for what does not hang on the architecture; `make test-all` tries all
SOME = [kind if kind in ("bert", "llama") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
HEADS = {"bert": "classifier", "roberta": "classifier", "llama": "score", "gpt2": "score", "gpt_neo": "score"}


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def judge(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any], Path]:
    """A trained classifier of three labels: its step, facts and folder."""
    labels = ("wet", "dry", "cold")
    parts = {"train": texts(48, labels), "validation": texts(12, labels, 48)}
    folder = tmp_path_factory.mktemp("judge")
    step = make(folder, bert, parts, best="accuracy", epochs=6)
    return step, *run(step, folder / "out")


def scores(model: Model, rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    return scorers.load(model, Path()).scores([row["text"] for row in rows], pairs)


# It learns


@pytest.mark.parametrize("kind", KINDS)
def test_every_backbone_learns_and_says_the_same_after_saving(kind: str, tmp_path: Path) -> None:
    step = make(tmp_path, backbone(tmp_path / kind, kind), best="accuracy", epochs=8)
    facts, folder = run(step, tmp_path / "out")
    losses = [value for _, value in facts["curves"]["loss"]]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    found = scores(trained(step, folder), texts(8, start=32))
    right = sum(
        max(one, key=lambda label: one[label]) == row["label"]
        for one, row in zip(found, texts(8, start=32), strict=True)
    )
    assert right / 8 == facts["metrics"]["validation"]["best"]["accuracy"] > 0.8
    assert all(sum(one.values()) == pytest.approx(1) for one in found)


@pytest.mark.parametrize("kind", SOME)
def test_lora_trains_the_head_whole_and_never_wraps_it(kind: str, tmp_path: Path) -> None:
    step = make(tmp_path, backbone(tmp_path / kind, kind), lora={"rank": 4}, learning_rate=0.01)
    facts, folder = run(step, tmp_path / "out")
    held = load_file(folder / "final" / "adapter_model.safetensors")
    head = [name for name in held if f".{HEADS[kind]}." in name]
    assert head and not any("lora" in name for name in head)
    assert {name.rsplit(".", 1)[-1] for name in head} <= {"weight", "bias"}
    assert sum("lora_A" in name for name in held) >= 2 * 4
    config = json.loads((folder / "final" / "adapter_config.json").read_text())
    assert config["modules_to_save"] and config["base_model_name_or_path"] == kind
    assert facts["curves"]["loss"][-1][1] < facts["curves"]["loss"][0][1]


def test_the_head_changes_while_it_trains_with_lora(bert: Path, tmp_path: Path) -> None:
    heads = []
    for steps in (1, 6):
        _, folder = run(make(tmp_path / str(steps), bert, lora={"rank": 2}, max_steps=steps), tmp_path / f"{steps}/out")
        held = load_file(folder / "final" / "adapter_model.safetensors")
        heads.append(next(held[name] for name in held if "classifier" in name and "weight" in name))
    assert not torch.equal(*heads)


@pytest.mark.parametrize("kind", SOME)
def test_frozen_layers_stay_as_they_are_and_the_others_learn(kind: str, tmp_path: Path) -> None:
    model = backbone(tmp_path / kind, kind)
    _, folder = run(make(tmp_path, model, freeze=1, max_steps=3), tmp_path / "out")
    ours = AutoModelForSequenceClassification.from_pretrained(folder / "final").base_model.state_dict()
    theirs = AutoModel.from_pretrained(model).state_dict()
    same = {name for name in theirs if name in ours and torch.equal(ours[name], theirs[name])}
    first = {name for name in theirs if re.search(r"embed|wte|wpe|(layer|layers|h)\.0\.", name)}
    assert first <= same and any(re.search(r"(layer|layers|h)\.1\.", name) for name in set(theirs) - same)
    with pytest.raises(StepError, match=r"voice.freeze: the model has 2 layers"):
        run(make(tmp_path / "2", model, freeze=3), tmp_path / "2/out")


def test_merged_and_unmerged_adapters_say_the_same(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, lora={"rank": 4}, learning_rate=0.01)
    _, folder = run(step, tmp_path / "out")
    rows = texts(6)
    merged = scores(trained(step, folder), rows)
    tokenizer = AutoTokenizer.from_pretrained(folder / "best")
    plain = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
    network = PeftModel.from_pretrained(plain, folder / "best").eval()
    for row, said in zip(rows, merged, strict=True):
        with torch.no_grad():
            chances = network(**tokenizer(row["text"], return_tensors="pt")).logits.softmax(-1)[0]
        assert [said["dry"], said["wet"]] == pytest.approx(chances.tolist(), abs=1e-5)


def test_batches_of_any_size_and_padding_do_not_change_a_score(judge: Any) -> None:
    step, _, folder = judge
    rows = texts(9, ("wet", "dry", "cold"))
    together = scores(trained(step, folder), rows)
    alone = [scores(trained(step, folder), [row])[0] for row in rows[:3]]
    for one, other in zip(together, alone, strict=False):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_loss_series_does_not_depend_on_how_a_batch_is_cut(bert: Path, tmp_path: Path) -> None:
    series = []
    for size in (8, 2):
        step = make(tmp_path / str(size), bert, batch_at_once=size, class_weights="balanced", epochs=2)
        series.append([value for _, value in run(step, tmp_path / f"{size}/out")[0]["curves"]["loss"]])
    assert series[0] == pytest.approx(series[1], rel=0.05)


def test_training_twice_gives_the_same_weights(bert: Path, tmp_path: Path) -> None:
    made = [run(make(tmp_path / name, bert, epochs=2), tmp_path / name / "out") for name in "ab"]
    one, other = (load_file(folder / "final" / "model.safetensors") for _, folder in made)
    assert made[0][0]["curves"] == made[1][0]["curves"] and all(torch.equal(one[key], other[key]) for key in one)


# Labels


def test_the_order_of_the_labels_is_written_down_and_loads_elsewhere(judge: Any) -> None:
    _, facts, folder = judge
    held = json.loads((folder / "best" / "scorer.json").read_text())
    config = json.loads((folder / "best" / "config.json").read_text())
    assert held["predict"] == "class" and held["labels"] == ["cold", "dry", "wet"]
    assert (
        config["id2label"] == {"0": "cold", "1": "dry", "2": "wet"}
        and config["problem_type"] == "single_label_classification"
    )
    assert facts["tables"][0]["rows"] == [["cold", 16, 4], ["dry", 16, 4], ["wet", 16, 4]]


def test_a_label_that_only_validation_has_keeps_its_place(bert: Path, tmp_path: Path) -> None:
    parts = {"train": texts(16), "validation": texts(6, ("wet", "dry", "cold"))}
    facts, folder = run(make(tmp_path, bert, parts, max_steps=1), tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["labels"] == ["cold", "dry", "wet"]
    assert facts["notes"][0] == "No training row has the label cold: it is never learned, but keeps its place."


def test_labels_in_the_recipe_decide_the_order_whatever_the_rows_hold(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, {"rows": texts(16)}, max_steps=1, labels=["wet", "cold", "dry"])
    _, folder = run(step, tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["labels"] == ["wet", "cold", "dry"]


def test_a_label_that_the_recipe_does_not_name_is_told(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, {"rows": texts(9, ("wet", "dry", "cold"))}, labels=["wet", "dry"])
    with pytest.raises(DataError, match=r"voice.labels: does not name 'cold', which 3 rows have\. Add it"):
        run(step, tmp_path / "out")


def test_numbers_as_labels_are_in_the_order_of_numbers(bert: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": at % 11} for at, row in enumerate(texts(33))]
    _, folder = run(make(tmp_path, bert, {"rows": rows}, max_steps=1), tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["labels"] == [str(at) for at in range(11)]


def test_a_class_with_one_row_is_said_and_rows_without_text_or_label_are_left_out(bert: Path, tmp_path: Path) -> None:
    rows = [*texts(12), texts(3, ("cold",))[0], {"text": "  ", "label": "wet"}, {"text": "mud", "label": None}]
    facts, folder = run(make(tmp_path, bert, {"rows": rows}, max_steps=1), tmp_path / "out")
    assert "Only one training row each has the label cold." in facts["notes"]
    reasons = [json.loads(line)["reason"] for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert reasons == ["no text", "no label"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "mud", "label": "wet"}] * 3, "nothing to tell apart: all of them are 'wet'"),
        ([{"text": "mud", "label": None}] * 3, "nothing to tell apart: none has a label"),
        ([{"text": "", "label": one} for one in ("wet", "dry")], "no row of the train part has a text and a label"),
    ],
)
def test_rows_of_which_nothing_can_be_learned_are_refused_in_one_line(
    rows: Any, said: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises((DataError, StepError), match=said):
        run(make(tmp_path, bert, {"rows": rows}), tmp_path / "out")


def test_a_step_that_is_given_only_test_rows_is_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no training rows"):
        run(make(tmp_path, bert, {"test": texts(4), "validation": texts(4)}), tmp_path / "out")


def test_a_tokenizer_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    other = tmp_path / "small"
    config = AutoConfig.from_pretrained(bert)
    config.vocab_size = 100
    AutoModel.from_config(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(bert).save_pretrained(other)
    with pytest.raises(
        StepError, match=r"voice.model: 'base' knows 100 tokens, and the rows have token \d+\. Its tokenizer"
    ):
        run(make(tmp_path, other), tmp_path / "out")


# Weights, smoothing, stopping


def test_balanced_weights_have_mean_one_and_reach_the_loss() -> None:
    target = _labels.Target("class", ["cold", "dry", "wet"], {"train": _labels.Counter({"dry": 6, "wet": 2})})
    step = type("Step", (), {"params": {"class_weights": "balanced"}, "name": "voice"})
    found = _labels.weights(step, target)  # type: ignore[arg-type]
    assert found == [1.0, 8 / 12, 2.0]
    logits, labels = torch.randn(8, 3), torch.tensor([1, 1, 1, 1, 1, 1, 2, 2])
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    wanted = (each * torch.tensor(found)[labels]).sum() / 8
    assert loss_of("class", found, 0.0)({"logits": logits}, labels) == pytest.approx(wanted.item())


def test_weights_by_label_change_what_is_learned_and_strange_ones_are_told(bert: Path, tmp_path: Path) -> None:
    parts = {"rows": texts(24)}
    means = []
    for weight in (1.0, 50.0):
        step = make(tmp_path / str(weight), bert, parts, max_steps=6, class_weights={"wet": weight})
        _, folder = run(step, tmp_path / f"{weight}/out")
        means.append(sum(one["wet"] for one in scores(trained(step, folder), texts(10))) / 10)
    assert means[1] > means[0] + 0.03
    with pytest.raises(StepError, match="class_weights: no label 'warm'"):
        run(make(tmp_path, bert, parts, class_weights={"warm": 2}), tmp_path / "out")


def test_stopping_early_keeps_the_best_by_the_named_figure(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, best="accuracy", epochs=40, check_every=2, stop_early={"after": 2})
    facts, _ = run(step, tmp_path / "out")
    seen = [value for _, value in facts["curves"]["validation_accuracy"]]
    assert facts["metrics"]["updates"] < 160 and facts["metrics"]["validation"]["best"]["accuracy"] == max(seen)
    assert any(note.startswith("Stopped early") for note in facts["notes"])


def test_a_loss_that_is_no_number_ends_the_step_in_one_line(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"the loss is not a number at update \d+\. Lower learning_rate"):
        run(make(tmp_path, bert, learning_rate=1e30, epochs=20), tmp_path / "out")


def test_arguments_of_transformers_are_passed_on(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, arguments={"lr_scheduler_type": "constant", "label_smoothing_factor": 0.2}, epochs=1)
    facts, _ = run(step, tmp_path / "out")
    assert facts["metrics"]["updates"] == 4


# Long texts


def test_texts_that_are_too_long_are_counted_and_cut_at_the_end_or_at_the_start(bert: Path, tmp_path: Path) -> None:
    rows = [
        {"text": f"{first} {'and ' * 60}{last}", "label": label}
        for first, last, label in [("mud", "sand", "a"), ("sand", "mud", "b")] * 8
    ]
    said = {}
    for keep in ("start", "end"):
        step = make(tmp_path / keep, bert, {"rows": rows}, keep=keep, max_length=20, epochs=20)
        facts, folder = run(step, tmp_path / keep / "out")
        ends = {"start": "beginnings", "end": "ends"}[keep]
        assert facts["notes"][0] == f"16 texts of the rows are longer than 20 tokens: their {ends} are read."
        said[keep] = scores(
            trained(step, folder), [{"text": "mud " + "and " * 60 + "mud"}, {"text": "sand " + "and " * 60 + "sand"}]
        )
        scorer = scorers.load(trained(step, folder), Path())
        scorer.scores([row["text"] for row in rows[:3]])
        assert scorer.notes() == [f"judge: 3 texts are longer than 20 tokens; their {ends} were read."]
    assert said["start"][0]["a"] > 0.7 and said["end"][0]["b"] > 0.7


def test_max_length_beyond_what_the_model_reads_is_cut_to_that(bert: Path, tmp_path: Path) -> None:
    _, folder = run(make(tmp_path, bert, max_steps=1, max_length=4096), tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["length"] == 130
    assert "the model reads 130 tokens" in (folder / "step.log").read_text()


def test_roberta_reads_as_many_tokens_as_it_has_positions_after_its_pad_token(tmp_path: Path) -> None:
    step = make(tmp_path, backbone(tmp_path / "roberta", "roberta"), max_steps=1, max_length=4096)
    _, folder = run(step, tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["length"] == 129
    assert scores(trained(step, folder), [{"text": "mud " * 500}])[0]["wet"] > 0


# Pairs and towers


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Whether two texts are about the same weather: neither tells it alone."""
    rows = []
    for at in range(start, start + count):
        first, second = ("mud", "sand")[at % 2], ("mud", "sand")[at // 2 % 2]
        rows.append({"text": first, "text_pair": second, "label": float(first == second)})
    return rows


@pytest.mark.parametrize("kind", ["bert", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_pairs_are_judged_together(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "label": ["other", "same"][int(row["label"])]} for row in pairs(32)]
    step = make(tmp_path, backbone(tmp_path / kind, kind), {"rows": rows}, epochs=60, learning_rate=0.005)
    _, folder = run(step, tmp_path / "out")
    found = scores(trained(step, folder), rows[:4])
    assert [max(one, key=lambda label: one[label]) for one in found] == [row["label"] for row in rows[:4]]
    with pytest.raises(StepError, match="judge: judges pairs: it needs text_pair"):
        scores(trained(step, folder), [{"text": "mud"}])


def test_two_towers_learn_which_texts_belong_together(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, {"rows": pairs(32)}, predict="number", towers="trained", epochs=12, learning_rate=0.002)
    facts, folder = run(step, tmp_path / "out")
    found = [one["number"] for one in scores(trained(step, folder), pairs(4))]
    assert found == pytest.approx([1.0, 0.0, 0.0, 1.0], abs=0.3)
    assert facts["curves"]["loss"][-1][1] < 0.05
    held = json.loads((folder / "best" / "scorer.json").read_text())
    assert held["towers"] and held["pairs"] and held["scale"] > 0


def test_frozen_towers_keep_their_encoder_and_fit_the_line_alone(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, {"rows": pairs(16)}, predict="number", towers="frozen", epochs=1)
    facts, folder = run(step, tmp_path / "out")
    ours, theirs = load_file(folder / "best" / "model.safetensors"), load_file(bert / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    found = [one["number"] for one in scores(trained(step, folder), pairs(4))]
    assert found[0] == pytest.approx(1.0, abs=0.2) and found[1] == pytest.approx(0.0, abs=0.2)
    assert facts["curves"]["loss"][0][1] < 0.05  # where it begins: the best line


def test_towers_with_lora_load_as_an_adapter(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, {"rows": pairs(16)}, predict="number", towers="trained", lora={"rank": 4}, epochs=4)
    _, folder = run(step, tmp_path / "out")
    assert (folder / "best" / "adapter_config.json").is_file()
    assert len(scores(trained(step, folder), pairs(4))) == 4


@pytest.mark.parametrize("towers", [None, "trained"])
def test_a_pair_with_one_empty_side_is_learned_and_one_without_any_text_is_left_out(
    bert: Path, tmp_path: Path, towers: str | None
) -> None:
    rows = pairs(8)
    empty = [{**rows[0], "text": ""}, {**rows[1], "text_pair": " "}]  # a talk's first turn has no history
    none = [{**rows[0], "text": " ", "text_pair": ""}, {**rows[0], "text": None}, {**rows[0], "text_pair": None}]
    keys = {"predict": "number", "max_steps": 2} | ({"towers": towers} if towers else {})
    step = make(tmp_path, bert, {"rows": [*rows, *empty, *none]}, **keys)
    facts, folder = run(step, tmp_path / "out")
    assert facts["metrics"]["rows"] == 10
    reasons = [json.loads(line)["reason"] for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert reasons == ["no text", "no text", "no text_pair"]
    assert all(math.isfinite(one["number"]) for one in scores(trained(step, folder), empty))


def test_towers_without_pairs_and_frozen_ones_with_lora_are_refused(bert: Path, tmp_path: Path) -> None:
    numbers = [{"text": row["text"], "label": 1.0} for row in texts(4)]
    with pytest.raises(StepError, match="there is no text_pair"):
        run(make(tmp_path, bert, {"rows": numbers}, predict="number", towers="trained"), tmp_path / "out")
    keys = {"predict": "number", "towers": "frozen", "lora": {"rank": 2}}
    with pytest.raises(StepError, match=r"frozen weights take no lora"):
        run(make(tmp_path / "2", bert, {"rows": pairs(4)}, **keys), tmp_path / "out2")


# Numbers


def test_one_number_begins_at_the_mean_and_gets_nearer(bert: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": {"wet": "4.5", "dry": 3}[row["label"]]} for row in texts(32)]
    step = make(tmp_path, bert, {"train": rows, "validation": rows[:8]}, predict="number", best="mae", epochs=12)
    facts, folder = run(step, tmp_path / "out")
    assert facts["curves"]["loss"][0][1] < 1.5  # begun at 0 it would be above 14
    best = facts["metrics"]["validation"]["best"]
    assert best["mae"] < 0.3 and best["r2"] > 0.5 and best["spearman"] > 0.5
    found = scores(trained(step, folder), texts(2))
    assert [list(one) for one in found] == [["number"], ["number"]]
    assert found[0]["number"] == pytest.approx(4.5, abs=0.5)


@pytest.mark.parametrize("form", ["list", "object"])
def test_several_numbers_are_learned_by_name(form: str, bert: Path, tmp_path: Path) -> None:
    values = {"wet": [1.0, 0.0], "dry": [0.0, 1.0]}
    names = ["damp", "dust"]
    made = {"list": lambda label: values[label], "object": lambda label: dict(zip(names, values[label], strict=True))}[
        form
    ]
    rows = [{**row, "label": made(row["label"])} for row in texts(32)]
    keys = {"names": names} if form == "list" else {}
    step = make(tmp_path, bert, {"rows": rows}, predict="numbers", epochs=12, **keys)
    facts, folder = run(step, tmp_path / "out")
    [wet, dry] = scores(trained(step, folder), texts(2))
    assert list(wet) == names and wet["damp"] > 0.7 > 0.3 > wet["dust"] and dry["dust"] > 0.7
    assert facts["curves"]["loss"][0][1] == pytest.approx(0.25, abs=0.1)


def test_columns_that_the_label_is_mapped_from_name_the_numbers(bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "damp": 1, "dust": at % 2} for at, row in enumerate(texts(8))]
    step = make(tmp_path, bert, {"rows": rows}, predict="numbers", max_steps=1, columns={"label": ["damp", "dust"]})
    _, folder = run(step, tmp_path / "out")
    assert json.loads((folder / "best" / "scorer.json").read_text())["labels"] == ["damp", "dust"]


def test_labels_that_are_no_numbers_are_left_out_with_the_reason(bert: Path, tmp_path: Path) -> None:
    odd = [{"text": "mud", "label": held} for held in ("wet", None, [1, 2], float("1e999"))]
    rows = [*({"text": row["text"], "label": 1.5} for row in texts(8)), *odd[:3]]
    _, folder = run(make(tmp_path, bert, {"rows": rows}, predict="number", max_steps=1), tmp_path / "out")
    reasons = [json.loads(line)["reason"] for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert reasons == ["the label is not a number", "no label", "label does not hold 1 numbers"]


# The folders


def test_folders_hold_no_path_and_the_card_says_what_was_learned(judge: Any, bert: Path) -> None:
    _, _, folder = judge
    for name in ("best", "final"):
        texts_ = [path.read_text() for path in (folder / name).glob("*.*") if path.suffix != ".safetensors"]
        assert not any("/tmp" in text or str(bert) in text for text in texts_)
    card = (folder / "best" / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "| labels, in order | cold, dry, wet |" in card
    assert sorted(path.name for path in folder.iterdir()) == ["best", "final", "side.jsonl", "step.log"]


def test_a_classifier_goes_on_from_a_classifier_with_its_order_of_labels(judge: Any, tmp_path: Path) -> None:
    _, _, folder = judge
    held = json.loads((folder / "best" / "scorer.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (folder / "best").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "scorer.json").write_text(json.dumps(held | {"labels": ["wet", "cold", "dry"]}))
    parts = {"rows": texts(12, ("wet", "dry", "cold"))}
    _, after = run(make(tmp_path, copy, parts, max_steps=1), tmp_path / "out")
    assert json.loads((after / "best" / "scorer.json").read_text())["labels"] == ["wet", "cold", "dry"]


@pytest.mark.slow
def test_weights_in_four_bits_learn_by_an_adapter_and_load_again(tmp_path: Path) -> None:
    step = make(tmp_path, backbone(tmp_path / "llama", "llama"), bits=4, lora={"rank": 4}, learning_rate=0.01, epochs=8)
    facts, folder = run(step, tmp_path / "out")
    losses = [value for _, value in facts["curves"]["loss"]]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert any(".score." in name for name in load_file(folder / "best" / "adapter_model.safetensors"))
    found = scores(trained(step, folder), texts(8, start=32))
    right = sum(one[row["label"]] > 0.5 for one, row in zip(found, texts(8, start=32), strict=True))
    assert right / 8 == facts["metrics"]["validation"]["best"]["accuracy"] > 0.8
    with pytest.raises(StepError, match="cannot be trained"):
        run(make(tmp_path / "2", tmp_path / "llama", bits=4), tmp_path / "2/out")
