"""TRL's DPOTrainer, with what a CPU, a kill and a careful reader ask of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils as trl
from datasets import Dataset
from peft import PeftModel
from transformers import TrainerControl
from trl import DPOTrainer

from runner.errors import StepError
from runner.files import dumps, loads
from runner.steps.train import _launch, _pairs, _training
from runner.steps.train._shared import LengthGrouped, expect_number, keep_stop_out

# Our names of what TRL records
NAMES = {
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "chosen": "rewards/chosen",
    "rejected": "rewards/rejected",
}


class Trainer(DPOTrainer):
    """TRL's trainer with five differences: rows come as token ids; those of a batch are of like length; a pair counts
    the same whatever the shape of its batch; `reference` computes what the given model says; no number is an error."""

    control: TrainerControl
    seen = 0  # tokens that were learned from in this process

    def __init__(
        self, reference: Callable[[Trainer, Dataset, str, int], Dataset], dropout: float, **named: Any
    ) -> None:
        self._reference = reference
        super().__init__(**named)
        self.loss_is_scaled_for_ga = True
        if isinstance(self.model, PeftModel):  # TRL turns off all dropout; what the recipe asks of the adapter stays
            for name, module in self.model.named_modules():
                if "lora_dropout" in name and isinstance(module, torch.nn.Dropout):
                    module.p = dropout

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """None for checkpoints: the finished folders get ours."""

    def whole_state(self) -> dict[str, Any] | None:
        """The weights put together where each process holds a piece of them; all processes must ask."""
        return self.accelerator.get_state_dict(self.model_wrapped) if self._in_pieces else None

    @property
    def _in_pieces(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _prepare_dataset(self, dataset: Dataset, *given: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        return self._reference(self, dataset, name, batch_size)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(train_dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * _launch.processes()
        return LengthGrouped(lengths(self.train_dataset), batch, self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        count = torch.tensor(sum(len(batch["input_ids"]) // 2 for batch in batch_samples), device=device)
        made: torch.Tensor = self.accelerator.gather(count).sum()
        return made

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss = super().compute_loss(model, inputs, return_outputs)
        if num_items_in_batch is None:
            return loss
        self.seen += int(inputs["attention_mask"].sum())
        return loss * (len(inputs["input_ids"]) // 2 * self.accelerator.num_processes / num_items_in_batch)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **named)
        expect_number(loss, self.state)
        return loss

    @torch.no_grad()
    def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
        """Means over all pairs; TRL's are over batches, of which the last may be small."""
        model = self.model_wrapped if self._in_pieces else self.model
        model.eval()
        sizes, sums = lengths(self.eval_dataset), Counter[str]()
        order = sorted(range(len(sizes)), key=lambda row: -sizes[row])
        for batch in self.get_eval_dataloader(self.eval_dataset.select(order)):
            inputs = self._prepare_inputs(batch)
            with self.compute_loss_context_manager():
                loss = float(self.compute_loss(model, inputs))
            count = len(inputs["input_ids"]) // 2
            means = {name: self._metrics["eval"][theirs][-1] for name, theirs in NAMES.items()} | {"loss": loss}
            sums.update({name: count * value for name, value in means.items()} | {"pairs": count})
        self._metrics["eval"].clear()
        sums = Counter(dict(zip(sums, _launch.summed(list(sums.values())), strict=True)))
        metrics = {f"eval_{name}": value / sums["pairs"] for name, value in sums.items() if name != "pairs"}
        expect_number(metrics["eval_loss"], self.state)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        keep_stop_out(self.control, self.state)
        return metrics


@contextmanager
def answers_alone() -> Iterator[None]:
    """TRL runs the output layer for the answers' tokens alone where there is Triton; here, on a CPU too."""
    asked = trl._use_triton  # noqa: SLF001 -- TRL has no switch for it
    trl._use_triton = lambda device: device.type == "cpu" or asked(device)  # noqa: SLF001
    try:
        yield
    finally:
        trl._use_triton = asked  # noqa: SLF001


def lengths(data: Dataset) -> list[int]:
    """How many tokens each pair has, its prompt counted once."""
    made = [_training.lengths(data, f"{name}_ids") for name in _pairs.COLUMNS]
    return [sum(sizes) for sizes in zip(*made, strict=True)]


def reference(trainer: Trainer, data: Dataset, batch: int, path: Path, advance: Any) -> Dataset:
    """The data with the log-probabilities that the given model, before any training, gives to both answers.

    They are written beside `path` as they come, a line a batch, the longest pairs first: a killed run goes on from
    there. Of several processes each takes its share.
    """
    sizes, count = lengths(data), _launch.processes()
    order = sorted(range(len(sizes)), key=lambda row: -sizes[row])
    place = trainer.accelerator.process_index
    files = [path.with_name(f"{path.name}.{one}of{count}") for one in range(count)]
    held = len(_held(files[place]))
    advance(held)
    with files[place].open("a", encoding="utf-8") as file:
        for start in range(held, len(order[place::count]), batch):
            rows = [data[row] for row in order[place::count][start : start + batch]]
            inputs = {name: value.to(trainer.args.device) for name, value in trainer.data_collator(rows).items()}
            made = torch.stack(trainer.compute_ref_log_probs(trainer.model, inputs), 1)
            if not made.isfinite().all():
                raise StepError("what the given model says is not a number. Look at its weights and their type.")
            file.write(dumps(made.tolist()) + "\n")
            file.flush()
            advance(len(rows))
    _launch.together()
    found = {
        row: pair for one, file in enumerate(files) for row, pair in zip(order[one::count], _held(file), strict=True)
    }
    for place, name in enumerate(("ref_chosen_logps", "ref_rejected_logps")):
        data = data.add_column(name, [found[row][place] for row in range(len(sizes))])
    return data


def _held(path: Path) -> list[list[float]]:
    """What is written already; a last line that a kill tore is cut off."""
    if not path.is_file():
        return []
    held = path.read_bytes()
    whole = held[: held.rfind(b"\n") + 1]
    if whole != held:
        path.write_bytes(whole)
    return [pair for line in whole.decode().splitlines() for pair in loads(line)]
