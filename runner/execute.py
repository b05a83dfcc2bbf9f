"""One step: lock, build in <key>.part, step.json last, sync, rename. A killed step leaves a .part that the next run goes on with."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner import recording, schema, shards
from runner.digests import Digests
from runner.errors import DataError, StepError
from runner.files import digest, sync_folder, write_json, write_text
from runner.folders import data_files
from runner.keys import KEY_LENGTH, Spec, material
from runner.locks import held
from runner.plan import link
from runner.recording import NOT_OUTPUT
from runner.specs import step_of
from runner.step import UNREAD, Bar, Out, no_bar

Say = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""


def execute(
    plan: dict[str, Any],
    key: str,
    root: Path,
    say: Say = quiet,
    bar: Bar = no_bar,
    shard: shards.Shard | None = None,
) -> dict[str, Any] | None:
    """Make one step of a plan, unless it is made; returns its step.json where it ran, None where nothing was to do.

    shard: of a kind that can be made in shares, only that one is made; the last of them makes the step.
    Raises RunnerError where the step, its data or the machine does not allow it; the .part folder stays for the next run.
    """
    spec = plan["steps"][key]
    store = root / "store"
    with _plain_words(root):
        if shard and not (store / key / "step.json").is_file() and not _shared(spec, root, shard, say, bar):
            return None
        with held(store / f"{key}.lock", lambda: say(f"{spec['name']}: another run is making it; waiting")):
            done = None
            if not (store / key / "step.json").is_file():
                _check_inputs(spec, root)
                done = _linked(plan, spec, root, say) or _built(plan, spec, root, say, bar, shard)
                shards.remove(store, key)
            link(root, plan["label"], spec["name"], key)
    return done


def _shared(spec: Spec, root: Path, shard: shards.Shard, say: Say, bar: Bar) -> bool:
    """Make one share of a step; False while the step itself cannot be made: shares of it, or what it reads, are missing."""
    store = root / "store"
    needed = [one["key"] for inputs in spec["inputs"].values() for one in inputs]
    if not all((store / key / "step.json").is_file() for key in needed):
        say(f"{spec['name']}: waits for the other shares of what it reads")
        return False
    fragment = schema.fragment(spec["verb"], spec["kind"])
    if not fragment.get("x-shards"):
        return True

    def work(folder: Path) -> None:
        _check_inputs(spec, root)
        out = Out(folder, bar, lambda line: say(f"{spec['name']} {shard[0]}/{shard[1]}: {line}"))
        try:
            with _device(fragment, root, spec, say):
                _module(spec).run(replace(step_of(spec, root), shard=shard), out)
        finally:
            out.close()

    return shards.share(store, spec["key"], shard, work, lambda line: say(f"{spec['name']}: {line}"))


def look_ahead(spec: Spec, root: Path) -> str | None:
    """What a step is going to ask and what that costs; None where what it reads is not made, or its kind cannot tell."""
    needed = [one["key"] for inputs in spec["inputs"].values() for one in inputs]
    if not all((root / "store" / key / "step.json").is_file() for key in needed):
        return None
    found = getattr(_module(spec), "forecast", None)
    return str(found(step_of(spec, root))) if found else None


@contextmanager
def _plain_words(root: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise
        raise StepError(
            f"{error.filename or root}: {error.strerror}. Nothing finished is lost: mend that and run again."
        ) from error
    except Exception as error:
        if "No space left on device" not in str(error):
            raise
        raise StepError(
            f"{root}: No space left on device. Nothing finished is lost: free some and run again."
        ) from error


def _check_inputs(spec: Spec, root: Path) -> None:
    """What the step reads must be made, and its data as it was when the plan was written."""
    problems = []
    for path, inputs in spec["inputs"].items():
        missing = [one["step"] for one in inputs if not (root / "store" / one["key"] / "step.json").is_file()]
        problems += [f"{spec['name']}.{path}: '{name}' is not made yet. Run it first." for name in missing]
    if spec["folder"]:
        folder = Path(spec["folder"])
        digests = Digests(root / "cache" / "files.json")
        now = {str(path.relative_to(folder)): digests.of(path) for path in data_files(folder)}
        changed = sorted(name for name in {*now, *spec["files"]} if now.get(name) != spec["files"].get(name))
        problems += [f"{folder / name}: changed since the plan was made. Run again." for name in changed]
    if problems:
        raise DataError(*problems)


def _shallow(spec: Spec, root: Path) -> str:
    """The key by the content of the inputs instead of their keys: equal for a step that would do the same again."""
    made = material(spec)

    def content(value: Any) -> Any:
        if isinstance(value, dict):
            held = {name: content(item) for name, item in value.items() if name != "key"}
            return (
                held | {"content": _content(root, value["key"], value.get("part"))}
                if isinstance(value.get("key"), str)
                else held
            )
        return [content(item) for item in value] if isinstance(value, list) else value

    return digest(
        {name: content(value) if name in ("inputs", "models", "decodings") else value for name, value in made.items()}
    )[:KEY_LENGTH]


def _content(root: Path, key: str, part: str | None) -> Any:
    """The digests of what a reader sees of a step: its files, less what it rejected; only one file for a part."""
    outputs = json.loads((root / "store" / key / "step.json").read_text(encoding="utf-8"))["outputs"]
    return (
        outputs.get(f"{part}.jsonl") if part else {name: value for name, value in outputs.items() if name not in UNREAD}
    )


def _linked(plan: dict[str, Any], spec: Spec, root: Path, say: Say) -> dict[str, Any] | None:
    """Early cut-off: a finished step with equal parameters and equal inputs is taken over, file by file, by hard links."""
    pointer = root / "cache" / "content" / _shallow(spec, root)
    other = root / "store" / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None
    if other is None or not (other / "step.json").is_file() or other.name == spec["key"]:
        return None
    part = _fresh_part(root, spec["key"])
    for path in sorted(other.rglob("*")):
        if path.is_file() and path.name not in NOT_OUTPUT:
            (part / path.relative_to(other)).parent.mkdir(parents=True, exist_ok=True)
            _hard_link(path, part / path.relative_to(other))
    record: dict[str, Any] = json.loads((other / "step.json").read_text(encoding="utf-8"))
    record |= {"key": spec["key"], "spec": spec, "same_as": other.name}
    _finish(part, record)
    say(f"{spec['name']}: its inputs hold the same content as before; taken over")
    return record


def _hard_link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)  # a file system without hard links


def _fresh_part(root: Path, key: str) -> Path:
    part = root / "store" / f"{key}.part"
    if part.is_dir():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part


def _module(spec: Spec) -> Any:
    """The kind's module."""
    return importlib.import_module(f"runner.steps.{spec['verb']}.{spec['kind'].replace('-', '_')}")


def _built(
    plan: dict[str, Any], spec: Spec, root: Path, say: Say, bar: Bar, shard: shards.Shard | None = None
) -> dict[str, Any]:
    """Run the kind's module in the .part folder and write step.json."""
    fragment = schema.fragment(spec["verb"], spec["kind"])
    part = root / "store" / f"{spec['key']}.part"
    if not (part.is_dir() and fragment.get("x-resumes")):
        part = _fresh_part(root, spec["key"])
    joins = shards.folders(root / "store", spec["key"], shard[1]) if shard and fragment.get("x-shards") else []
    step = replace(step_of(spec, root), joins=tuple(joins))
    out = Out(part, bar, lambda line: say(f"{spec['name']}: {line}"))
    say(f"{spec['name']}: {spec['verb']} {spec['kind']}")
    started = time.time()
    try:
        with _device(fragment, root, spec, say):
            facts = _module(spec).run(step, out) or {}
    finally:
        out.close()
    record = recording.record(plan, spec, root, part, facts, time.time() - started)
    _finish(part, record)
    write_text(root / "cache" / "content" / _shallow(spec, root), spec["key"] + "\n")
    return record


@contextmanager
def _device(fragment: dict[str, Any], root: Path, spec: Spec, say: Say) -> Iterator[None]:
    """Steps that load models run one at a time: side by side they slow each other, or run out of memory.

    What an endpoint answers needs no device here.
    """
    entries = [one["entry"] for held_ in spec["models"].values() for one in held_]
    if not fragment.get("x-device") or (entries and all("endpoint" in entry for entry in entries)):
        yield
        return
    with held(root / "cache" / "device.lock", lambda: say(f"{spec['name']}: waits for the device")):
        yield


def _finish(part: Path, record: dict[str, Any]) -> None:
    """step.json last, everything on disk, then the rename that makes the step exist."""
    final = part.with_suffix("")
    write_json(part / "step.json", record)
    sync_folder(part)
    if final.is_dir():
        shutil.rmtree(final)  # a folder without step.json: somebody deleted it
    os.replace(part, final)
