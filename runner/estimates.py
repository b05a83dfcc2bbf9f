"""Memory and time of training steps before they run, from what is known without torch: sizes, rows, this machine.

Weights, gradients and optimizer states as in ZeRO (Rajbhandari et al. 2020); activations as the trainers' own
`rows_at_once` counts them; of the operations a parameter and token 2 for a forward pass and 4 for a backward one, 2
where only an adapter learns (Kaplan et al. 2020). The constants are measured; docs/estimates.md says how well they fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from runner import schema, shapes
from runner.files import loads
from runner.machine import Machine
from runner.shapes import Shape

GIB = 2**30
LETTERS, TURN = 4.0, 6  # letters a token of English talk, and tokens that a template adds to a turn
SAMPLED = 300  # rows that are looked at
PROCESS = {"cpu": 0.7 * GIB, "cuda": 0.8 * GIB}  # what the libraries hold beside any model
START = 15.0  # seconds until they are loaded
STATES = {"8bit": 2.0, "adafactor": 0.1, "sgd": 0.0, "lion": 4.0}  # bytes a trained parameter; AdamW holds 8
HEAD = 0.6  # the share of tokens that the output layer runs for


@dataclass(frozen=True)
class Rows:
    """What a step learns from: rows of both parts, and the tokens of a row on average, of the ninth in ten, at most."""

    train: int
    checked: int
    mean: float
    usual: float
    longest: float


@dataclass(frozen=True)
class Estimate:
    """trained: parameters that learn; memory: bytes; seconds: None where the rows or the machine are not known."""

    shape: Shape
    trained: int
    dtype: str
    memory: float
    rows: Rows | None
    seconds: float | None


COLUMNS = ["trains", "parameters", "that learn", "memory", "time"]


def table(specs: list[dict[str, Any]], root: Path, machine: Machine) -> tuple[list[list[str]], list[str]]:
    """A row of COLUMNS for each `train` step, and a line for each that will not fit."""
    rows, lines = [], []
    for spec in specs:
        made = training(spec, root, machine)
        if made is None:
            rows.append([spec["name"], "unknown until its model is here", "", "", ""])
            continue
        size = f"{'about ' if made.shape.guessed else ''}{_count(made.shape.parameters)}, {made.dtype}"
        rows.append([spec["name"], size, _count(made.trained), f"{made.memory / GIB:.1f} GiB", _time(made, machine)])
        if made.memory > machine.free:
            sizes = f"needs about {made.memory / GIB:.1f} GiB, and {machine.free / GIB:.1f} GiB are free: will not fit"
            lines.append(f"{spec['name']}: {sizes}. {_advice(spec)}")
    return rows, lines


def _count(number: int) -> str:
    size, unit = (number / 1e9, "billion") if number >= 1e9 else (number / 1e6, "million")
    return f"{size:.3g} {unit}"


def _time(made: Estimate, machine: Machine) -> str:
    if made.rows is None:
        return "unknown until its rows are made"
    if made.seconds is None:
        return f"unknown on {machine.name}"
    size, unit = (made.seconds, "s") if made.seconds < 100 else (made.seconds / 60, "min")
    size, unit = (size, unit) if made.seconds < 6000 else (made.seconds / 3600, "hours")
    return f"about {size:.0f} {unit} for {made.rows.train} rows"


def training(spec: dict[str, Any], root: Path, machine: Machine) -> Estimate | None:
    """What a `train` step would take, None where the size of its model is not known here."""
    entry, bits = _under(spec["models"]["model"][0])
    shape = shapes.find(entry, root)
    if shape is None:
        return None
    keys, rows = spec["params"], _rows(spec, root)
    trained = _adapter(shape, keys["lora"]) if keys.get("lora") else shape.parameters
    size = 2 if machine.halves and keys.get("lora") else 4
    weights = float(shape.parameters * size)
    if bits:
        weights = shape.body * bits / 8 * 1.1 + (shape.parameters - shape.body) * 4
    optimizer = str((keys.get("arguments") or {}).get("optim", ""))
    states = next((held for name, held in STATES.items() if name in optimizer), 8.0)
    memory = PROCESS[machine.device] + weights + trained * (4 + states + (4 if keys.get("lora") else 0))
    tokens, twice = _at_once(spec, shape, rows, machine)
    memory += tokens * _each(shape) / (shape.layers if twice else 1)
    memory += 0 if spec["kind"] == "classifier" else tokens * HEAD * shape.vocabulary * 4 * 3
    dtype = f"{bits} bits" if bits else "bfloat16" if size == 2 else "float32"
    return Estimate(shape, trained, dtype, memory, rows, _seconds(spec, shape, rows, twice, machine))


def _advice(spec: dict[str, Any]) -> str:
    """What to change in a step that will not fit."""
    _, bits = _under(spec["models"]["model"][0])
    if not spec["params"].get("lora"):
        return "Try lora: {rank: 8}, or a smaller model."
    if not bits:
        return "Try bits: 4 on its model, or a smaller one."
    return "Try a smaller model, or lower max_length and batch_at_once."


def _under(model: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The `models:` entry at the bottom of a chain, and its bits where nothing above it has made it whole."""
    if model["entry"]:
        return model["entry"], model["entry"].get("bits")
    entry, bits = _under(model["base"])
    return entry, bits if model["checkpoint"] != "model" else None  # what is merged is whole


def _adapter(shape: Shape, lora: dict[str, Any]) -> int:
    return int(lora["rank"] * shape.layers * sum(rows + columns for rows, columns in shape.inside))


def _each(shape: Shape) -> float:
    """Bytes of activations a token, as _training.rows_at_once counts them."""
    return 4.0 * shape.layers * (16 * shape.hidden + 6 * shape.intermediate)


def _at_once(spec: dict[str, Any], shape: Shape, rows: Rows | None, machine: Machine) -> tuple[float, bool]:
    """Tokens that go through the network together, and whether activations are computed twice."""
    keys, sequences = spec["params"], 2 if spec["kind"] == "dpo" else 1
    longest = min(rows.longest, sequences * keys["max_length"]) if rows else keys["max_length"]
    usual = min(rows.usual, longest) if rows else longest
    if keys.get("packing"):
        longest = usual = keys["max_length"]
    gpu = machine.device == "cuda"
    room, busy = (0.6 if gpu else 0.4) * machine.free, 16_384 if gpu else 512
    fits = min(room / (_each(shape) * longest), 4 * busy / longest, busy / usual)
    most = min(keys["batch"], max(1, int(fits)))
    count = keys.get("batch_at_once") or next(one for one in range(most, 0, -1) if keys["batch"] % one == 0)
    return count * longest, _each(shape) * longest > room


def _seconds(spec: dict[str, Any], shape: Shape, rows: Rows | None, twice: bool, machine: Machine) -> float | None:
    if rows is None or machine.speed is None:
        return None
    keys = spec["params"]
    updates = keys.get("max_steps") or keys["epochs"] * rows.train / keys["batch"]
    looks = updates * keys["batch"] / rows.train if not keys.get("check_every") else updates / keys["check_every"]
    forward = 2.0 * (shape.body + HEAD * shape.vocabulary * shape.hidden)
    learning = forward * ((2 if keys.get("lora") else 3) + twice)
    work = rows.mean * (updates * keys["batch"] * learning + looks * rows.checked * forward)
    if spec["kind"] == "dpo":
        work += rows.mean * (rows.train + rows.checked) * forward  # what the reference says
    return START + float(work) / machine.speed


# What is learned from


def _rows(spec: dict[str, Any], root: Path) -> Rows | None:
    """Counts from step.json, tokens from the first rows; None where an input is not made yet."""
    counts = {"train": 0, "validation": 0}
    sizes: list[float] = []
    for one in spec["inputs"].get("from", []):
        folder = root / "store" / one["key"]
        try:
            made = loads((folder / "step.json").read_text(encoding="utf-8"))["rows"]["out"]
        except OSError:
            return None
        whole = one["part"] is None and "train" in made
        counts["train"] += made["train"] if whole else made.get(one["part"] or "rows", 0)
        counts["validation"] += made.get("validation", 0) if whole else 0
        sizes += _sizes(folder / f"{'train' if whole else one['part'] or 'rows'}.jsonl", spec)
    if not sizes or not counts["train"]:
        return None
    sizes.sort()
    return Rows(counts["train"], counts["validation"], sum(sizes) / len(sizes), sizes[len(sizes) * 9 // 10], sizes[-1])


def _sizes(path: Path, spec: dict[str, Any]) -> list[float]:
    """About how many tokens each of the first rows has."""
    mapping = spec["params"].get("columns") or {}
    fragment = schema.fragment(spec["verb"], spec["kind"])
    names = {name for names in fragment["x-reads"] for name in names} | {"completion", "text_pair"}
    with path.open(encoding="utf-8") as lines:
        rows = [loads(line) for line in islice(lines, SAMPLED)]
    columns = [mapping.get(name, name) for name in sorted(names)]
    return [sum(map(_tokens, (row.get(column) for column in columns if isinstance(column, str)))) for row in rows]


def _tokens(value: Any) -> float:
    if isinstance(value, str):
        return len(value) / LETTERS
    turns: Iterator[Any] = (
        (one.get("content") for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())
    )
    return sum(TURN + _tokens(turn) for turn in turns)
