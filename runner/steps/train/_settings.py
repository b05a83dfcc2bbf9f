"""Recipe keys as the settings that all of TRL's trainers know."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, prepare_model_for_kbit_training

from runner import bits, models
from runner.errors import StepError
from runner.files import loads
from runner.step import Out, Step
from runner.steps.train import _launch, _tracking, _training


def common(step: Step, out: Out, network: Any, sizes: list[int], checked: bool) -> dict[str, Any]:
    """What our keys and the machine decide, less what only one trainer knows. sizes: tokens of each row; checked:
    whether there is a validation part. Raises ValueError where batch_at_once does not divide batch."""
    keys = step.params
    share = keys["batch"] // _launch.processes()  # the rows of an update that are this process's
    at_once, _ = _training.rows_at_once(network.config, sizes, share)
    at_once = keys.get("batch_at_once", 1 if keys.get("packing") else at_once)  # packed rows are laid end to end
    if share % at_once:
        of = f"batch: {keys['batch']}" + (f" on {_launch.processes()} processes" if share != keys["batch"] else "")
        raise ValueError(f"batch_at_once: {at_once} does not divide {of}.")
    stop = keys.get("stop_early") or {"on": keys["best"]}
    return {
        "output_dir": str(out.folder / "checkpoints"),
        "seed": keys["seed"],
        "num_train_epochs": keys["epochs"],
        "max_steps": keys.get("max_steps", -1),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": share // at_once,
        "warmup_steps": keys["warmup"],
        "weight_decay": keys["weight_decay"],
        "eval_strategy": "steps" if checked else "no",
        "eval_steps": keys.get("check_every", -(-len(sizes) // keys["batch"])),
        "save_strategy": "no",  # _training.Watch asks for checkpoints
        "save_total_limit": keys["keep_checkpoints"],
        "metric_for_best_model": stop["on"],
        "greater_is_better": stop["on"] != "loss",
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "use_cpu": models.device() == "cpu",
        "deepspeed": _launch.deepspeed(step),
        **_tracking.settings(step),
    }


def free(network: Any, sizes: list[int], batch: int) -> dict[str, Any]:
    """What the machine decides unless `arguments:` does."""
    _, twice = _training.rows_at_once(network.config, sizes, batch // _launch.processes())
    half = models.precision() == torch.bfloat16
    pinned = models.device() != "cpu"
    return {"activation_checkpointing": twice, "bf16": half, "dataloader_pin_memory": pinned}


def lora(network: Any, keys: dict[str, Any]) -> LoraConfig:
    """An adapter's configuration. Raises ValueError where it would touch the output layer."""
    targets = keys["targets"]
    head = next(name for name, module in network.named_modules() if module is network.get_output_embeddings())
    if targets != "all" and head.split(".")[-1] in targets:
        raise ValueError(f"lora.targets: {head} is the output layer, which LoRA leaves alone. Remove it.")
    return LoraConfig(
        r=keys["rank"],
        lora_alpha=keys.get("alpha", 2 * keys["rank"]),
        lora_dropout=keys["dropout"],
        target_modules="all-linear" if targets == "all" else targets,
        task_type="CAUSAL_LM",
    )


def expect_tokens(step: Step, network: Any, last: int) -> None:
    """Raises StepError where the rows have a token, of which `last` is the largest, that the network does not know."""
    rows = network.get_input_embeddings().weight.shape[0]
    if last >= rows:
        name = step.models["model"][0].name
        advice = "Its tokenizer belongs to another model: use the files that were published together."
        raise StepError(f"{step.name}.model: '{name}' knows {rows} tokens, and the rows have token {last}. {advice}")


def for_bits(network: Any) -> Any:
    """Weights in 4 or 8 bits made ready for an adapter, as in QLoRA: frozen, what is not in bits in float32 (layer norms,
    embeddings, head). Where activations are computed twice, TRL lets gradients through the inputs."""
    return bits.ready(prepare_model_for_kbit_training(network, use_gradient_checkpointing=False), trains=True)


def ended(out: Out) -> dict[str, Any] | None:
    """The facts of a training that was killed after its end, before the end of the step."""
    side = out.folder / "side.jsonl"
    lines = side.read_text(encoding="utf-8").splitlines() if side.is_file() else []
    found = [line for line in lines if line.startswith('{"ended"') and line.endswith("}")]
    return dict(loads(found[-1])["ended"]) if found else None
