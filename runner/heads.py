"""Networks with a head that judges whole texts: a fresh head on any backbone, a trained one with or without LoRA, two towers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import SequenceClassifierOutput

from runner import encoding, models
from runner.errors import StepError
from runner.files import read_json
from runner.places import Say, nothing
from runner.step import Model

NAME = "scorer.json"
PROBLEMS = {
    "class": "single_label_classification",
    "classes": "multi_label_classification",
    "number": "regression",
    "numbers": "regression",
}


@dataclass(frozen=True)
class About:
    """What a scorer's folder remembers of training, in scorer.json.

    predict:       class, classes, number or numbers
    labels:        the classes in the order of the outputs, or the names of the numbers
    length, keep:  tokens that are read of a text or pair, from its start or its end
    pairs:         whether text and text_pair are judged together; None where that is not known
    towers:        whether their vectors are compared: the prediction is scale · cosine + offset
    """

    predict: str
    labels: list[str]
    length: int
    keep: str = "start"
    pairs: bool | None = None
    towers: bool = False
    scale: float = 1.0
    offset: float = 0.0

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
        (folder / NAME).write_text(text, encoding="utf-8", newline="\n")

    def encode(self, tokenizer: Any, texts: Any, pairs: Any) -> tuple[list[encoding.Encoded], int]:
        """Texts as this model reads them, and how many were cut."""
        encode = encoding.encode_apart if self.towers else encoding.encode
        return encode(tokenizer, texts, pairs, self.length, self.keep)


def remembered(folder: Path) -> About | None:
    """What a folder of ours remembers, None for one from elsewhere."""
    held = read_json(folder / NAME)
    known = {field.name for field in fields(About)}
    return About(**{key: value for key, value in held.items() if key in known}) if held else None


def told(folder: Path, outputs: int, length: int) -> About:
    """What the folder of a model from elsewhere says of itself in config.json, for a head of so many outputs."""
    config = read_json(folder / "config.json") or {}
    names = {int(at): name for at, name in (config.get("id2label") or {}).items()}
    labels = [str(names.get(at, f"LABEL_{at}")) for at in range(outputs)]
    problem = config.get("problem_type")
    if problem == "regression" or (outputs == 1 and problem is None):
        labels = ["score"] if labels == ["LABEL_0"] else labels
        return About("number" if outputs == 1 else "numbers", labels, length)
    return About("classes" if problem == PROBLEMS["classes"] else "class", labels, length)


# Networks


class Towers(torch.nn.Module):
    """One encoder for two texts: scale · cosine of the means of their token vectors + offset, as one logit of shape (rows, 1)."""

    def __init__(self, encoder: Any, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.frozen, self.config = encoder, False, encoder.config
        self.line = torch.nn.Parameter(torch.tensor([scale, offset], device=models.device()))

    def freeze(self, frozen: bool) -> None:
        """Leave the encoder's weights as they are: then the line alone is trained."""
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.encoder.dtype
        return dtype

    def train(self, mode: bool = True) -> Towers:
        """Frozen weights are never in training mode: no dropout."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def similarity(self, input_ids: Tensor, attention_mask: Tensor, pair_ids: Tensor, pair_mask: Tensor) -> Tensor:
        """The cosines, of shape (rows,)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return cosine_similarity(self._vectors(input_ids, attention_mask), self._vectors(pair_ids, pair_mask))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pair_ids: Tensor, pair_mask: Tensor
    ) -> SequenceClassifierOutput:
        found = self.similarity(input_ids, attention_mask, pair_ids, pair_mask)
        return SequenceClassifierOutput(logits=(self.line[0] * found + self.line[1]).unsqueeze(1))

    def _vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        return (hidden * weights).sum(1) / weights.sum(1)


def head_names(network: Any) -> list[str]:
    """The modules beside the backbone that hold weights: the head, or what stands in front of it too."""
    children = network.named_children()
    return [
        name for name, part in children if name != network.base_model_prefix and any(True for _ in part.parameters())
    ]


def load_tokenizer(model: Model, artifacts: Path, say: Say = nothing) -> Any:
    """The tokenizer, padding on the right, with a pad token in any case: its end token where it has none."""
    folder = models.place(model, artifacts, say)
    models.quiet()
    code = model.entry.get("trust_remote_code", False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=code)
    except (OSError, ValueError) as error:
        raise StepError(f"{model.name}: {folder}: {str(error).splitlines()[0]}") from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise StepError(
                f"{model.name}: its tokenizer has no pad token and no end token. Set pad_token in its files."
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def fit(network: Any, tokenizer: Any) -> int:
    """Make network and tokenizer agree on the pad token and on token types; returns the most tokens that they read.

    A decoder's head finds the last token by its pad token. RoBERTa's positions begin after its own, which therefore stays.
    """
    config, counted = network.config.get_text_config(), None
    types = (getattr(config, "type_vocab_size", None) or 0) > 1
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    for name, part in network.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            counted = part.num_embeddings - part.padding_idx - 1
    if counted is None:
        config.pad_token_id = tokenizer.pad_token_id
    most = counted or getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(most, tokenizer.model_max_length))


def load_fresh(
    model: Model, artifacts: Path, about: About, dtype: torch.dtype, say: Say = nothing
) -> tuple[Any, set[str]]:
    """A backbone with a head for these labels, and the names of the weights that are new.

    A head that is there already and has as many outputs stays. Raises StepError where there is no such architecture.
    """
    folder = models.place(model, artifacts, say)
    models.quiet()
    if about.towers:
        return Towers(models.read_weights(AutoModel, model, folder, dtype), about.scale, about.offset), set()
    code, config = model.entry.get("trust_remote_code", False), models.read_config(model, folder)
    try:
        with torch.device("meta"):
            heads = head_names(AutoModelForSequenceClassification.from_config(config, trust_remote_code=code))
    except ValueError as error:
        advice = "Name an encoder such as minilm, or a decoder such as smollm2-135m."
        raise StepError(f"{model.name}: transformers has no classifier for {config.model_type}. {advice}") from error
    network, info = models.read_weights(
        AutoModelForSequenceClassification,
        model,
        folder,
        dtype,
        heads,
        num_labels=len(about.labels),
        id2label=dict(enumerate(about.labels)),
        label2id={name: at for at, name in enumerate(about.labels)},
        problem_type=PROBLEMS[about.predict],
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return network, {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}


def trained_in_full(network: Any, missing: set[str]) -> list[str]:
    """The modules that LoRA leaves alone and training writes: the head, and whatever else has no weights yet."""
    heads = head_names(network)
    others = {name.rpartition(".")[0] for name in missing if name.split(".")[0] not in heads}
    return [*heads, *sorted(others)]
