"""What training steps share: batches, checkpoints that survive a kill, the best model kept, the folders at the end."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from peft import PeftModel
from transformers import TrainerCallback

from runner import models
from runner.chat import IGNORED, Example
from runner.files import file_digest, link
from runner.places import public_name, remember
from runner.step import WHOLE, Advance, Model, Prompt, Step
from runner.steps.train import _launch

FEATURES = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
# Saving a checkpoint may take this share of the time
SHARE = 0.02


def store(examples: Iterator[Example], path: Path, features: Features = FEATURES) -> Dataset:
    """Write examples to an Arrow file and map it into memory, so that no data set has to fit there.

    Of several processes the first one writes, and only there the examples are made.
    """
    if _launch.leads():
        path.parent.mkdir(parents=True, exist_ok=True)
        with ArrowWriter(path=str(path), features=features) as writer:
            for example in examples:
                writer.write(example)
            writer.finalize()
    _launch.together()
    return Dataset.from_file(str(path))


def with_silent(data: Dataset) -> Dataset:
    """The examples and after them one of which nothing is learned."""
    silent = {"input_ids": [data[0]["input_ids"][0]] * 2, "labels": [IGNORED] * 2}
    return concatenate_datasets([data, Dataset.from_list([silent], features=data.features)])


def lengths(data: Dataset, column: str = "input_ids") -> list[int]:
    """How many tokens each example has, in one column."""
    made: list[int] = pc.list_value_length(data.data.column(column)).to_pylist()
    return made


def learned(data: Dataset) -> int:
    """How many tokens are learned, in all."""
    return int(pc.sum(pc.not_equal(pc.list_flatten(data.data.column("labels")), IGNORED)).as_py())


def largest(data: Dataset, column: str = "input_ids") -> int:
    """The largest token id."""
    return int(pc.max(pc.list_flatten(data.data.column(column))).as_py())


def settle(network: Any) -> None:
    """What is trained, in float32: TRL makes an adapter over weights in bits bfloat16, in which small steps are lost, and
    which a CPU multiplies slowly."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def rows_at_once(config: Any, sizes: list[int], batch: int) -> tuple[int, bool]:
    """How many rows of a batch go through the network together, and whether activations must be computed twice.

    Enough to keep the hardware busy (about 512 tokens on a CPU, 16,384 on a GPU) and no more than memory holds.
    """
    text, longest, usual = config.get_text_config(), max(sizes), sorted(sizes)[len(sizes) * 9 // 10]
    width = 16 * text.hidden_size + 6 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    each = 4 * text.num_hidden_layers * width
    gpu = models.device() == "cuda"
    room = (0.6 if gpu else 0.4) * models.free_memory()
    busy = 16_384 if gpu else 512
    fits = min(room / (each * longest), 4 * busy / longest, busy / usual)
    at_once = next(size for size in range(min(batch, max(1, int(fits))), 0, -1) if batch % size == 0)
    return at_once, each * longest > room


# Checkpoints


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; all others, torn ones too, are deleted. trainer_state.json is written last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in found if _whole(path)]
    _launch.together()
    for path in found if _launch.leads() else ():
        if path not in whole[-1:]:
            shutil.rmtree(path)
    _launch.together()
    return whole[-1] if whole else None


def _whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


class Watch(TrainerCallback):
    """Shows progress, keeps the best model, and asks for a checkpoint as often as it costs little."""

    def __init__(
        self, advance: Advance, keep: Callable[[Any], None], best: str, cost: float, tokens: Callable[[], int]
    ) -> None:
        self.advance, self.keep, self.best, self.tokens = advance, keep, best, tokens
        self.cost = cost
        self.began = self.saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **held: Any) -> None:
        self.began = self.saved = time.monotonic()
        if state.global_step:
            self.advance(state.global_step, note="resumed")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **held: Any) -> None:
        if logs and "loss" in logs:
            speed = self.tokens() / self.seconds()
            self.advance(1, note=f"loss {logs['loss']:.3f}, {speed:.0f} tokens/s")

    def seconds(self) -> float:
        """Since training began, or went on."""
        return time.monotonic() - self.began

    def on_step_end(self, args: Any, state: Any, control: Any, **held: Any) -> None:
        due = state.global_step >= state.max_steps or time.monotonic() - self.saved > self.cost / SHARE
        if _launch.agreed(due):
            control.should_save = True
            self.saved = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **held: Any) -> None:
        now = time.monotonic()
        self.cost, self.saved = now - self.saved, now

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **held: Any) -> None:
        values = [entry[f"eval_{self.best}"] for entry in state.log_history if f"eval_{self.best}" in entry]
        better = min if self.best == "loss" else max
        if len(values) == 1 or values[-1] == better(values) != better(values[:-1]):
            self.keep(model)
        self.saved = time.monotonic()


def checkpoint_cost(network: Any) -> float:
    """A first guess of the seconds that a checkpoint takes: three float32 copies of what is trained at 200 MB/s."""
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    return 0.02 + 12 * trained / 2e8


# The folders at the end


def save(
    network: Any,
    tokenizer: Any,
    model: Model,
    learned: Prompt | None,
    folder: Path,
    state: dict[str, Any] | None = None,
) -> None:
    """A Hub folder (weights or adapter, tokenizer with its template), whole or not there, with no path in it.

    state: the weights, where several processes hold a piece of each.
    """
    part = folder.with_name(f"{folder.name}.part")
    for stale in (part, folder):
        shutil.rmtree(stale, ignore_errors=True)
    if isinstance(network, PeftModel):
        config, name = network.peft_config["default"], network.peft_config["default"].base_model_name_or_path
        config.base_model_name_or_path = public_name(model)
        network.save_pretrained(part, state_dict=state, save_embedding_layers=False)
        config.base_model_name_or_path = name
    else:
        network.save_pretrained(part, state_dict=state)
    tokenizer.save_pretrained(part)
    remember(learned, part)
    os.replace(part, folder)


def same(folder: Path, other: Path) -> None:
    """Make `other` hold the same files as `folder`, without a second copy on disk where it has hard links."""
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder, other, copy_function=link)


def card(folder: Path, model: Model, adapter: bool, facts: dict[str, Any]) -> None:
    """The folder's README.md: base, settings and figures; no time, no path, no recipe. Never written into a link."""
    head = ["---", f"base_model: {public_name(model)}", f"library_name: {'peft' if adapter else 'transformers'}"]
    head += ["pipeline_tag: text-generation", "tags: [persona, trl]", "---", "", "# A persona model", ""]
    lines = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    (folder / "README.md").unlink(missing_ok=True)
    text = "\n".join([*head, "| setting | value |", "|---|---|", *lines, ""])
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def digests(step: Step) -> dict[str, str]:
    """For the model card: the SHA-256 of the rows that were learned from, and of those that were looked at."""
    made: dict[str, list[str]] = {}
    for entry in step.inputs.get("from", ()):
        parts = entry.parts or (entry.part or WHOLE,)
        for part in (part for part in parts if part != "test" or entry.part):
            told = "checked on" if part == "validation" and entry.parts else "learned from"
            made.setdefault(f"rows {told} (SHA-256)", []).append(file_digest(entry.folder / f"{part}.jsonl"))
    return {name: ", ".join(f"`{one}`" for one in held) for name, held in made.items()}


def hardware(args: Any, network: Any, threads: int) -> dict[str, Any]:
    """What the machine decided, for step.json."""
    return {
        "device": models.device(),
        "dtype": str(network.dtype).removeprefix("torch."),
        "autocast": "bfloat16" if args.bf16 else None,
        "threads": threads,
        "batch_at_once": args.per_device_train_batch_size,
        "activation_checkpointing": bool(args.activation_checkpointing),
        "attention": network.config._attn_implementation,  # noqa: SLF001 -- it has no public name
        "processes": _launch.processes(),
        "distributed": args.distributed_state.distributed_type.value if _launch.processes() > 1 else None,
    }


def curve(history: list[dict[str, Any]], name: str, most: int = 500) -> list[list[float]]:
    """[[step, value], …] of a logged value, thinned to at most `most` points, the last one kept."""
    points = [[entry["step"], entry[name]] for entry in history if name in entry]
    if len(points) <= most:
        return points
    return [*points[: -1 : -(-len(points) // (most - 1))], points[-1]]
