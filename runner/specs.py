"""A spec of a plan, which is JSON, as what a kind is given: the step with its models, prompts and decodings."""

from __future__ import annotations

from pathlib import Path

from runner import adapters
from runner.keys import Spec
from runner.step import Decoding, Input, Model, Prompt, Step


def step_of(spec: Spec, root: Path) -> Step:
    """The step as its kind sees it."""
    folder = Path(spec["folder"]).absolute() if spec["folder"] else None
    return Step(
        name=spec["name"],
        verb=spec["verb"],
        kind=spec["kind"],
        params={key: value for key, value in spec["params"].items() if key != spec["verb"]},
        artifacts=root,
        matrix=spec["matrix"],
        texts=spec["texts"],
        inputs={
            path: tuple(
                Input(one["step"], root / "store" / one["key"], one["part"], one["columns"], one["named"])
                for one in held_
            )
            for path, held_ in spec["inputs"].items()
        },
        models={path: tuple(model_of(one, root) for one in held_) for path, held_ in spec["models"].items()},
        prompts={path: prompt_of(one) for path, one in spec["prompts"].items()},
        decodings={path: decoding_of(one, root) for path, one in spec["decodings"].items()},
        learned=prompt_of(spec["learned"]) if spec["learned"] else None,
        folder=folder,
        files=tuple(folder / name for name in spec["files"]) if folder else (),
    )


def model_of(spec: Spec, root: Path) -> Model:
    """An entry, or what a step has made over its base. Raises StepError as runner/adapters.py does."""
    if spec["entry"]:
        return adapters.over_base(Model(spec["name"], spec["entry"], files=spec["files"]))
    base = model_of(spec["base"], root) if spec["base"] else None
    return Model(spec["name"], {}, root / "store" / spec["key"] / spec["checkpoint"], base)


def prompt_of(spec: Spec) -> Prompt:
    """A prompt with the files that it includes."""
    return Prompt(spec["name"], tuple(spec["turns"]), spec["includes"])


def decoding_of(spec: Spec, root: Path) -> Decoding:
    """A decoding with the models and prompts that it names."""
    models = {path: tuple(model_of(one, root) for one in held_) for path, held_ in spec["models"].items()}
    return Decoding(
        spec["name"],
        spec["mode"],
        spec["params"],
        models,
        {path: prompt_of(one) for path, one in spec["prompts"].items()},
    )
