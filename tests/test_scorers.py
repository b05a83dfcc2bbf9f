from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from runner import encoding, scorers
from runner.errors import StepError
from runner.models import quiet
from runner.step import Model, Out
from runner.steps.merge import lora
from tests.conftest import make_step, make_tokenizer
from tests.steps.train.classifier_steps import backbone, make, run, texts, trained

TEXTS = [row["text"] for row in texts(5)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone(tmp_path_factory.mktemp("bert"))


def foreign(folder: Path, bert: Path, labels: dict[int, str], **keys: Any) -> tuple[Path, Any]:
    """A classifier as transformers alone saves it."""
    torch.manual_seed(1)
    network = AutoModelForSequenceClassification.from_pretrained(
        bert, num_labels=len(labels), id2label=labels, label2id={name: at for at, name in labels.items()}, **keys
    ).eval()
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
    return folder, network


def by_hand(network: Any, folder: Path, text: str) -> torch.Tensor:
    with torch.no_grad():
        return network(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0]


def load(folder: Path, base: Path | None = None) -> scorers.Scorer:
    return scorers.load(Model("judge", {"load": str(folder)}), Path())


# From elsewhere


def test_a_classifier_from_elsewhere_keeps_its_labels(bert: Path, tmp_path: Path) -> None:
    folder, network = foreign(tmp_path / "theirs", bert, {0: "POSITIVE", 1: "NEGATIVE", 2: "NEUTRAL"})
    scorer = load(folder)
    assert (scorer.predict, scorer.labels, scorer.pairs) == ("class", ["POSITIVE", "NEGATIVE", "NEUTRAL"], None)
    found = scorer.scores(TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        assert list(one.values()) == pytest.approx(by_hand(network, folder, text).softmax(-1).tolist(), abs=1e-5)
    assert len(scorer.scores(TEXTS[:1], ["and a pair"])) == 1


def test_regressors_and_models_of_many_labels_from_elsewhere_are_known_by_their_config(
    bert: Path, tmp_path: Path
) -> None:
    folder, network = foreign(tmp_path / "one", bert, {0: "LABEL_0"})
    scorer = load(folder)
    assert (scorer.predict, scorer.labels) == ("number", ["score"])
    assert scorer.scores(TEXTS[:1])[0]["score"] == pytest.approx(by_hand(network, folder, TEXTS[0]).item(), abs=1e-5)
    folder, _ = foreign(tmp_path / "five", bert, dict(enumerate("OCEAN")), problem_type="regression")
    assert (load(folder).predict, load(folder).labels) == ("numbers", list("OCEAN"))
    folder, network = foreign(tmp_path / "many", bert, {0: "joy", 1: "fear"}, problem_type="multi_label_classification")
    scorer = load(folder)
    [one] = scorer.scores(TEXTS[:1])
    assert scorer.predict == "classes"
    assert list(one.values()) == pytest.approx(by_hand(network, folder, TEXTS[0]).sigmoid().tolist(), abs=1e-5)
    assert scorer.says({"joy": 0.7, "fear": 0.6}) == ["joy", "fear"]


def test_an_adapter_with_its_head_from_elsewhere_finds_its_base(bert: Path, tmp_path: Path) -> None:
    quiet()
    plain = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3)
    network = get_peft_model(
        plain, LoraConfig(task_type="SEQ_CLS", target_modules=["query"], init_lora_weights=False)
    ).eval()
    network.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "adapter")
    scorer = load(tmp_path / "adapter")
    assert scorer.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    [one] = scorer.scores(TEXTS[:1])
    assert list(one.values()) == pytest.approx(by_hand(network, bert, TEXTS[0]).softmax(-1).tolist(), abs=1e-5)


def test_our_folder_copied_elsewhere_is_a_model_as_any_other(bert: Path, tmp_path: Path) -> None:
    for keys in ({}, {"lora": {"rank": 2}}):
        where = tmp_path / str(len(keys))
        step = make(where, bert, max_steps=2, **keys)
        _, folder = run(step, where / "out")
        own = scorers.load(trained(step, folder), Path()).scores(TEXTS)
        shutil.copytree(folder / "best", where / "moved")
        if keys:  # an adapter names its base, here the name of a folder
            config = json.loads((where / "moved" / "adapter_config.json").read_text())
            assert config["base_model_name_or_path"] == bert.name
            config["base_model_name_or_path"] = str(bert)
            (where / "moved" / "adapter_config.json").write_text(json.dumps(config))
        scorer = load(where / "moved")
        assert scorer.labels == ["dry", "wet"] and scorer.scores(TEXTS) == own


def test_a_merged_classifier_is_a_whole_model_with_the_same_scores(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, max_steps=4, lora={"rank": 4}, learning_rate=0.01)
    _, folder = run(step, tmp_path / "out")
    own = trained(step, folder)
    (tmp_path / "merged").mkdir()
    facts = lora.run(make_step("merge", "lora", tmp_path / "m", {}, models=[own]), Out(tmp_path / "merged"))
    whole = scorers.load(Model("whole", {}, tmp_path / "merged/model", own), Path())
    assert facts["metrics"]["parameters"] > 0 and not (tmp_path / "merged/model/adapter_config.json").exists()
    for one, other in zip(whole.scores(TEXTS), scorers.load(own, Path()).scores(TEXTS), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


# What does not fit


def test_a_model_without_a_head_is_refused(bert: Path) -> None:
    with pytest.raises(
        StepError, match=r"judge: bert\d has no trained head \(classifier.bias is missing\)\. Train it first"
    ):
        load(bert)


def test_an_adapter_without_a_head_or_for_another_base_is_refused_in_one_line(bert: Path, tmp_path: Path) -> None:
    step = make(tmp_path, bert, max_steps=1, lora={"rank": 2})
    _, folder = run(step, tmp_path / "out")
    other = backbone(tmp_path / "gpt2", "gpt2")
    with pytest.raises(StepError, match=r"judge: .*does not fit") as raised:
        scorers.load(Model("judge", {}, folder / "best", Model("base", {"load": str(other)})), Path())
    assert "\n" not in str(raised.value)
    quiet()
    headless = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
    made = get_peft_model(headless, LoraConfig(target_modules=["query"]))
    made.save_pretrained(tmp_path / "headless")
    make_tokenizer(None).save_pretrained(tmp_path / "headless")
    with pytest.raises(StepError, match="the adapter holds no head"):
        load(tmp_path / "headless")


def test_a_tokenizer_without_any_pad_or_end_token_is_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "bare")
    tokenizer = make_tokenizer(None)
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(StepError, match="no pad token and no end token"):
        load(tmp_path / "bare")


# Texts as tokens


def test_an_empty_text_is_one_token_and_gets_a_score(tmp_path: Path) -> None:
    step = make(tmp_path, backbone(tmp_path / "gpt2", "gpt2"), max_steps=1)
    _, folder = run(step, tmp_path / "out")
    found = scorers.load(trained(step, folder), Path()).scores(["", "", "mud"])
    assert found[0] == pytest.approx(found[1], abs=1e-5) and set(found[0]) == {"wet", "dry"}


@pytest.mark.parametrize("keep", ["start", "end"])
def test_the_longer_text_of_a_pair_is_cut_first(keep: str) -> None:
    tokenizer = make_tokenizer(None)
    long, short = " ".join(str(at) for at in range(50)), "the mud"
    alone = len(tokenizer("\n\n" + short)["input_ids"])
    [made], cut = encoding.encode(tokenizer, [long], [short], 20, keep)
    told = tokenizer.decode(made["input_ids"])
    assert cut == 1 and len(made["input_ids"]) == 20 and told.endswith("\n\nthe mud")
    assert told.startswith("0 1 2") == (keep == "start") and ("49\n" in told) == (keep == "end")
    assert alone < 20


def test_padding_is_on_the_right_and_masked() -> None:
    made = encoding.pad([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}], 1)
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]] and made["attention_mask"].tolist() == [
        [1, 1, 1],
        [1, 0, 0],
    ]
