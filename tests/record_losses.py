"""Writes the committed loss series of training anew: python -m tests.record_losses. Read the difference before it is kept.

A series that changes means that training does: raise the kind's x-revision, and say why in the changelog.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERIES = Path(__file__).parent / "data" / "losses.json"
Curves = dict[str, list[list[float]]]


def sft(folder: Path, model: Path, **keys: Any) -> Curves:
    """Twelve updates of LoRA on the two-layer model, with a look at the validation part every four."""
    from tests.steps.train import sft_steps

    step = sft_steps.make(folder, model, epochs=2.4, check_every=4, lora={"rank": 4}, **keys)
    return dict(sft_steps.run(step, folder / "out")[0]["curves"])


KINDS: dict[str, Callable[..., Curves]] = {"sft": sft}


def main() -> None:
    from tests.conftest import make_tiny_model

    with tempfile.TemporaryDirectory() as place:
        model = make_tiny_model(Path(place) / "model")
        made = {name: series(Path(place) / name, model) for name, series in KINDS.items()}
    lines = [f' "{name}": {json.dumps(series)}' for name, series in made.items()]
    SERIES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
