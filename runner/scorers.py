"""A trained classifier or regressor, ready to score texts: our own folders, adapters with their head, and foreign ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import safe_open

from runner import adapters, encoding, heads, models
from runner.encoding import Encoded
from runner.errors import StepError
from runner.heads import About, Towers
from runner.places import Say, nothing
from runner.step import Advance, Model

FAR = 1_000_000  # tokens: as many as the network reads
LARGE = 2_000_000_000  # bytes of weights from which scoring uses the hardware's fastest type
HEAD = re.compile(r"\.(score|classifier|classifier\.out_proj|out_proj|logits_proj)\.weight$")
AT_ONCE = {"cpu": 4096, "cuda": 32_768}  # tokens of one batch, padding included
WINDOW = 4096  # texts sorted by length together
Scores = dict[str, float]


@dataclass
class Scorer:
    """A model with its tokenizer and what it predicts.

    predict: class, classes (any number of labels), number or numbers
    labels:  the classes in the order of the outputs, or the names of the numbers
    pairs:   whether it judges two texts together; None where that is not known, of a model trained elsewhere
    length:  the tokens that it reads of a text, or of a pair; `cut`: how many so far were longer
    """

    name: str
    about: About
    tokenizer: Any
    network: Any
    cut: int = 0

    @property
    def predict(self) -> str:
        return self.about.predict

    @property
    def labels(self) -> list[str]:
        return self.about.labels

    @property
    def pairs(self) -> bool | None:
        return self.about.pairs

    @property
    def length(self) -> int:
        return self.about.length

    def scores(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        advance: Advance = lambda amount=1, note="": None,
    ) -> list[Scores]:
        """One mapping a text, in their order: of classes the probability by label, of numbers the value by name.

        Raises StepError where it judges pairs and has none, or the other way round.
        """
        made = self.values(texts, pairs, advance)
        return [dict(zip(self.labels, map(float, row), strict=True)) for row in made]

    def values(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        advance: Advance = lambda amount=1, note="": None,
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """As `scores`, an array of shape (texts, labels)."""
        if self.pairs is not None and self.pairs != (pairs is not None):
            needs = "judges pairs: it needs text_pair beside text" if self.pairs else "reads one text, not pairs"
            raise StepError(f"{self.name}: {needs}.")
        made = np.zeros((len(texts), len(self.labels)))
        for start in range(0, len(texts), WINDOW):
            part = slice(start, start + WINDOW)
            made[part] = self._window(list(texts[part]), list(pairs[part]) if pairs is not None else None, advance)
        return made

    def says(self, scores: Scores) -> Any:
        """The answer in one text's scores: the likeliest class, the classes likelier than not, or the one number."""
        if self.predict == "class":
            return max(scores, key=lambda label: scores[label])
        if self.predict == "classes":
            return [label for label, value in scores.items() if value > 0.5]
        return next(iter(scores.values())) if self.predict == "number" else dict(scores)

    def notes(self) -> list[str]:
        """What a report should say of the texts so far."""
        kept = {"start": "beginnings", "end": "ends"}[self.about.keep]
        many = f"{self.cut} texts are" if self.cut != 1 else "1 text is"
        return [f"{self.name}: {many} longer than {self.length} tokens; their {kept} were read."] if self.cut else []

    def _window(self, texts: list[str], pairs: list[str] | None, advance: Advance) -> Any:
        encoded, cut = self.about.encode(self.tokenizer, texts, pairs)
        self.cut += cut
        made = np.zeros((len(texts), len(self.labels)))
        for chosen in _batches([encoding.size(one) for one in encoded]):
            made[chosen] = self._batch([encoded[at] for at in chosen])
            advance(len(chosen))
        return made

    @torch.inference_mode()
    def _batch(self, encoded: list[Encoded]) -> Any:
        inputs = encoding.pad(encoded, self.tokenizer.pad_token_id, models.device())
        logits = self.network(**inputs).logits.float()
        if self.predict == "class":
            logits = logits.softmax(-1)
        elif self.predict == "classes":
            logits = logits.sigmoid()
        return logits.cpu().double().numpy()


def _batches(sizes: list[int]) -> Iterator[list[int]]:
    """Numbers of texts of like length, as many at a time as keep the hardware busy; the longest first."""
    order = sorted(range(len(sizes)), key=lambda at: -sizes[at])
    start = 0
    while start < len(order):
        count = max(1, AT_ONCE[models.device()] // max(1, sizes[order[start]]))
        yield order[start : start + count]
        start += count


def load(model: Model, artifacts: Path, say: Say = nothing) -> Scorer:
    """A model as a scorer: a `models:` entry (a folder or Hub id of a classifier, or of an adapter with its head), or a
    training step's. An adapter is merged into its base, unless that is quantised.

    Raises StepError where the model has no head or does not fit its base, MachineError where it does not fit in here.
    """
    say(f"loading {model.name}")
    folder, tokenizer = models.place(model, artifacts, say), heads.load_tokenizer(model, artifacts, say)
    adapter = (folder / adapters.CONFIG).is_file()
    under = (model.base or adapters.base(model, folder)) if adapter else model
    about = heads.remembered(folder) or heads.told(folder, _outputs(model, folder, adapter), FAR)
    dtype = _dtype(under, artifacts, say)
    network, missing = heads.load_fresh(under, artifacts, about, dtype, say)
    if adapter:
        network = _adapted(model, network, folder, bool(under.entry.get("bits")))
    elif missing and not about.towers:
        advice = "Train it first with train: classifier, or name a model that was trained to classify."
        raise StepError(f"{model.name}: {folder.name} has no trained head ({min(missing)} is missing). {advice}")
    length = min(about.length, heads.fit(network, tokenizer))
    return Scorer(model.name, replace(about, length=length), tokenizer, network.eval().requires_grad_(False))


def _outputs(model: Model, folder: Path, adapter: bool) -> int:
    """How many outputs a head from elsewhere has."""
    if not adapter:
        return int(models.read_config(model, folder).num_labels)
    path = folder / "adapter_model.safetensors"
    if path.is_file():
        with safe_open(path, "pt") as held:
            sizes = [held.get_slice(name).get_shape() for name in held.keys() if HEAD.search(name)]  # noqa: SIM118
        if sizes:
            return int(sizes[0][0])
    raise StepError(f"{model.name}: {path}: the adapter holds no head. Save it with modules_to_save, or train it here.")


def _dtype(model: Model, artifacts: Path, say: Say) -> torch.dtype:
    """float32, but for large models what the hardware does best: numbers are not rounded where that costs little."""
    size = sum(path.stat().st_size for path in models.place(model, artifacts, say).glob("*.safetensors"))
    return models.precision() if size > LARGE or model.entry.get("bits") else torch.float32


def _adapted(model: Model, network: Any, folder: Path, quantised: bool) -> Any:
    """The network with the adapter, and the head in it, put on."""
    towers = network if isinstance(network, Towers) else None
    try:
        made = PeftModel.from_pretrained(
            towers.encoder if towers else network, str(folder), autocast_adapter_dtype=False
        )
    except (RuntimeError, ValueError) as error:
        said = "; ".join(str(error).splitlines()[1:2] or [str(error)]).strip()
        raise StepError(
            f"{model.name}: the adapter does not fit the model under it: {said}. Name its own base."
        ) from error
    made = made if quantised else made.merge_and_unload()
    if towers is None:
        return made
    towers.encoder = made
    return towers


def save(scorer: Scorer, folder: Path) -> Any:
    """Write a whole scorer as a Hub folder that loads again; returns the network that was written."""
    network = scorer.network.encoder if isinstance(scorer.network, Towers) else scorer.network
    network.save_pretrained(folder)
    scorer.tokenizer.save_pretrained(folder)
    scorer.about.write(folder)
    return network
