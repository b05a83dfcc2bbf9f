"""What a step's key is made of: everything that decides its output, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from runner import schema

KEY_LENGTH = 20
Spec = dict[str, Any]


def material(spec: Spec) -> Any:
    """What a key is made of: no names, no paths, nothing that is default or does not change the output."""
    fragment = schema.fragment(spec["verb"], spec["kind"])
    params = copy.deepcopy(schema.without_defaults(fragment, spec["params"]))
    for path in _named(spec):
        _drop(params, path)
    return {
        **{key: spec[key] for key in ("verb", "kind", "revision", "matrix", "texts", "files")},
        "params": params,
        "inputs": {
            path: [{key: one[key] for key in ("key", "part", "columns")} for one in held]
            for path, held in spec["inputs"].items()
        },
        "models": {path: [model_material(one) for one in held] for path, held in spec["models"].items()},
        "prompts": {path: _unnamed(one) for path, one in spec["prompts"].items()},
        "decodings": {path: _decoding_material(one) for path, one in spec["decodings"].items()},
        "learned": _unnamed(spec["learned"]) if spec["learned"] else None,
    }


def model_material(model: Spec) -> Spec:
    """The part of a model's spec that decides what it is."""
    if model["entry"]:
        kind = "endpoint" if "endpoint" in model["entry"] else "load"
        return {"entry": schema.without_defaults(schema.entry(kind), model["entry"]), "files": model["files"]}
    return {"key": model["key"], "checkpoint": model["checkpoint"]}


def _decoding_material(decoding: Spec) -> Spec:
    params = copy.deepcopy(schema.without_defaults(schema.mode(decoding["mode"]), decoding["params"]))
    for path in _named(decoding):
        _drop(params, path)
    models = {path: [model_material(one) for one in held] for path, held in decoding["models"].items()}
    return {
        "mode": decoding["mode"],
        "params": params,
        "models": models,
        "prompts": {path: _unnamed(one) for path, one in decoding["prompts"].items()},
    }


def _unnamed(prompt: Spec) -> Spec:
    return {key: value for key, value in prompt.items() if key != "name"}


def _named(spec: Spec) -> Iterator[str]:
    """The keys of a step or a decoding that hold names of others. Several models keep theirs: their rows carry them."""
    for section in ("inputs", "prompts", "decodings"):
        yield from spec.get(section, {})
    yield from (path for path, models in spec["models"].items() if not isinstance(_at(spec["params"], path), list))
    yield "folder"


def _at(params: Any, path: str) -> Any:
    for key in path.split("."):
        params = params.get(key) if isinstance(params, dict) else None
    return params


def _drop(params: dict[str, Any], path: str) -> None:
    above, _, last = path.rpartition(".")
    held = _at(params, above) if above else params
    if isinstance(held, dict):
        held.pop(last, None)
