"""The training runs that tests/bench_sft.py compares, each in a process of its own: `python -m tests.sft_runs WHAT …`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROWS, HELD_OUT, BATCH, RANK, RATE = 40, 24, 4, 8, 2e-4
OURS, FACTORY = "ours", "LLaMA-Factory"
# TRL's settings: as documented, and by hand; TRL's defaults stand where nothing is said
TRL: dict[str, dict[str, Any]] = {
    "TRL, as documented": {"per_device_train_batch_size": BATCH},
    "TRL, by hand": {
        "per_device_train_batch_size": BATCH,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    },
    "TRL, packed": {
        "per_device_train_batch_size": 1,
        "max_length": 512,
        "gradient_checkpointing": False,
        "packing": True,
    },
}


def rows() -> list[dict[str, Any]]:
    """Conversations of real sentences, with the unequal lengths of chats: half are short, a few are long."""
    folder = ROOT / "datasets" / "detective"
    said = []
    for path in sorted(folder.glob("*.json")):
        said += [one["content"] for one in json.loads(path.read_text(encoding="utf-8"))["messages"] if one["content"]]
    dice, made = random.Random(0), []
    for at in range(ROWS + HELD_OUT):
        turns = max(1, min(12, round(dice.lognormvariate(0.0, 0.9))))
        messages = [{"role": "system", "content": "You are Holmes, a consulting detective. You answer briefly."}]
        for _ in range(turns):
            messages.append({"role": "user", "content": dice.choice(said)})
            messages.append({"role": "assistant", "content": dice.choice(said)})
        made.append({"id": str(at), "messages": messages})
    return made


class Clock:
    """Seconds and processor seconds since it was made, and while it ran."""

    def __init__(self) -> None:
        self.made = time.perf_counter()
        self.seconds = self.cpu = 0.0

    def start(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds, self.cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]

    def told(self, tokens: int, made: Path) -> dict[str, Any]:
        around = time.perf_counter() - self.made - self.seconds
        return {"tokens": tokens, "seconds": self.seconds, "cpu": self.cpu, "around": around, "made": str(made)}


def ours(model: Path, folder: Path) -> dict[str, Any]:
    from runner.step import Model, Out
    from runner.steps.train import sft
    from tests.conftest import make_step

    clock = Clock()

    @contextmanager
    def bar(label: str, total: int) -> Iterator[Any]:
        clock.start()
        yield lambda amount=1, note="": None
        clock.stop()

    keys = {
        "lora": {"rank": RANK},
        "batch": BATCH,
        "epochs": 1,
        "learning_rate": RATE,
        "warmup": 0,
        "loss": "completion",
    }
    base = Model("base", {"load": str(model)})
    step = make_step("train", "sft", folder, {"rows": rows()[:ROWS]}, models=[base], **keys)
    facts = sft.run(step, Out(folder, bar))
    return clock.told(facts["metrics"]["tokens"], folder / "final")


def theirs(name: str, model: Path, folder: Path) -> dict[str, Any]:
    """The script of TRL's documentation, for rows of prompt and completion."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from runner.models import prepare

    class Timed(TrainerCallback):
        def on_train_begin(self, *given: Any, **named: Any) -> None:
            clock.start()

        def on_train_end(self, *given: Any, **named: Any) -> None:
            clock.stop()

    prepare(0)
    clock = Clock()
    held = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows()[:ROWS]]
    settings = {"learning_rate": RATE, "num_train_epochs": 1, "bf16": False, "use_cpu": True, "report_to": "none"}
    trainer = SFTTrainer(
        model=str(model),
        args=SFTConfig(output_dir=str(folder), disable_tqdm=True, **settings, **TRL[name]),
        train_dataset=Dataset.from_list(held),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
        callbacks=[Timed()],
    )
    trainer.train()
    trainer.save_model(str(folder / "final"))
    return clock.told(sum(map(len, trainer.train_dataset["input_ids"])), folder / "final")


def factory(model: Path, folder: Path) -> dict[str, Any]:
    """LLaMA-Factory with the same rows and settings; LLAMAFACTORY names its llamafactory-cli."""
    clock = Clock()
    held = [{"messages": row["messages"]} for row in rows()[:ROWS]]
    (folder / "rows.json").write_text(json.dumps(held), encoding="utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    about = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags | {"system_tag": "system"},
    }
    (folder / "dataset_info.json").write_text(json.dumps({"rows": about}), encoding="utf-8")
    settings = {
        "model_name_or_path": str(model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": RANK,
        "lora_alpha": 2 * RANK,
        "lora_target": "all",
        "dataset_dir": str(folder),
        "dataset": "rows",
        "template": "chatml",
        "mask_history": True,
        "cutoff_len": 1024,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "num_train_epochs": 1,
        "output_dir": str(folder / "final"),
        "use_cpu": True,
        "report_to": "none",
    }
    (folder / "train.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML too
    command = [os.environ["LLAMAFACTORY"], "train", str(folder / "train.yaml")]
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    results = json.loads((folder / "final" / "train_results.json").read_text(encoding="utf-8"))
    clock.seconds = results["train_runtime"]
    spent = os.times()
    clock.cpu = spent.children_user + spent.children_system  # with its start: it tells no less
    return clock.told(tokens_of(model), folder / "final")


def tokens_of(model: Path) -> int:
    from transformers import AutoTokenizer

    from runner import chat

    tokenizer = AutoTokenizer.from_pretrained(model)
    return sum(len(chat.encode(tokenizer, row["messages"])["input_ids"]) for row in rows()[:ROWS])


def measured(model: Path, adapters: dict[str, str]) -> dict[str, float]:
    """The loss of each adapter, and of the model without one, on the same answers of held-out rows."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from runner import chat
    from runner.models import prepare
    from runner.steps._losses import pad, totals

    prepare(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    examples = [chat.encode(tokenizer, row["messages"], "completion") for row in rows()[ROWS:]]
    made = {}
    for name, adapter in {"the base": "", **adapters}.items():
        network = AutoModelForCausalLM.from_pretrained(model)
        if adapter:
            network = PeftModel.from_pretrained(network, adapter)
        made[name] = totals(network.eval(), [pad([one], tokenizer.pad_token_id) for one in examples]).loss
    return made


def work(model: Path) -> dict[str, float]:
    """Of the positions that the plain script computes: the share of padding, and of those whose logits are learned."""
    from transformers import AutoTokenizer

    from runner import chat

    tokenizer = AutoTokenizer.from_pretrained(model)
    examples = [chat.encode(tokenizer, row["messages"], "completion") for row in rows()[:ROWS]]
    random.Random(0).shuffle(examples)
    sizes = [len(one["input_ids"]) for one in examples]
    padded = sum(BATCH * max(sizes[at : at + BATCH]) for at in range(0, ROWS, BATCH))
    learned = sum(label != chat.IGNORED for one in examples for label in one["labels"])
    return {"padding": 1 - sum(sizes) / padded, "learned": learned / padded}


def main(words: list[str]) -> dict[str, Any]:
    from runner.machine import settle

    settle()
    if words[0] == "model":
        from runner.models import ensure_bundled

        folder = ensure_bundled("smollm2-135m", Path(os.environ.get("ARTIFACTS", ROOT / "artifacts")))
        return {"folder": str(folder), "work": work(folder)}
    if words[0] == "loss":
        return measured(Path(words[1]), json.loads(words[2]))
    name, model, folder = words[1], Path(words[2]), Path(words[3])
    folder.mkdir(parents=True)
    return (
        ours(model, folder)
        if name == OURS
        else factory(model, folder)
        if name == FACTORY
        else theirs(name, model, folder)
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
