"""What can be turned while one talks: temperature, the weights of steering models, lengths. Each value is held against
the schema of the decoding mode, as `check` would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runner import schema
from runner.errors import StepError
from runner.step import Decoding

DRAWN = ("temperature", "top_p", "top_k", "min_p", "best_of", "best_by")  # what drawing tokens takes
TURNED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "no_repeat_ngram", "max_new_tokens", "stop")


def has(how: Decoding, key: str) -> bool:
    """Whether the decoding's mode knows a setting."""
    return key in schema.mode(how.mode)["properties"]


def turned(how: Decoding, **values: Any) -> Decoding:
    """The decoding with other settings. Raises StepError for one that its mode lacks, or a value that it cannot have."""
    lacks = [key for key in values if not has(how, key)]
    if lacks:
        raise StepError(f"{lacks[0]}: decoding '{how.name}' ({how.mode}) has none.")
    if values.get("temperature") == 0:
        return _certain(how, {key: value for key, value in values.items() if key != "temperature"})
    params = {**how.params, **values}
    _check(how.mode, params, values)
    return replace(how, params=params)


def _check(mode: str, params: dict[str, Any], values: dict[str, Any]) -> None:
    for error in schema.validator(f"mode:{mode}").iter_errors({"mode": mode, **params}):
        key = str(error.absolute_path[0]) if error.absolute_path else ""
        if key in values or not key:
            raise StepError(f"{key or mode}: {error.message}.")


def _certain(how: Decoding, values: dict[str, Any]) -> Decoding:
    """Temperature 0 is the most likely token, always: sampling becomes greedy, steering draws no more."""
    mode = "greedy" if how.mode == "sample" else how.mode
    known = schema.mode(mode)["properties"]
    held = {key: value for key, value in {**how.params, **values}.items() if key in known and key not in DRAWN}
    _check(mode, held, values)
    return replace(how, mode=mode, params=held)


def temperature(how: Decoding) -> float | None:
    """How warm a decoding is: 0 where it takes the most likely token and need not, None where it cannot be warmer."""
    return float(how.params.get("temperature") or 0) if has(how, "temperature") else None


def alphas(how: Decoding) -> dict[str, float]:
    """The weights of what a decoding is steered by, by name; '' is the one without a name."""
    params = how.params
    single = {"": float(params["alpha"])} if params.get("expert") or params.get("anti_expert") else {}
    named = (params.get("experts") or {}).items()
    return single | {str(name): float(held.get("alpha", params["alpha"])) for name, held in named}


def with_alpha(how: Decoding, name: str, value: float) -> Decoding:
    """The decoding with another weight for one steering model; '' is the one without a name, or else all of them."""
    held = alphas(how)
    if not held:
        raise StepError(f"alpha: decoding '{how.name}' ({how.mode}) steers with no other model.")
    if name and name not in held:
        names = ", ".join(filter(None, held)) or "none has a name: /alpha 0.8"
        raise StepError(f"alpha: nothing here steers towards '{name}'. There is: {names}.")
    meant = {name} & set(held) or set(held)
    return _weighted(how, {one: value if one in meant else weight for one, weight in held.items()})


def unsteered(how: Decoding) -> Decoding:
    """The decoding with the weight of every steering model at 0, which is as if there were none."""
    held = alphas(how)
    return _weighted(how, dict.fromkeys(held, 0.0)) if held else how


def _weighted(how: Decoding, weights: dict[str, float]) -> Decoding:
    experts = how.params.get("experts") or {}
    values: dict[str, Any] = {"alpha": weights[""]} if "" in weights else {}
    if experts:
        values["experts"] = {name: {**held, "alpha": weights[name]} for name, held in experts.items()}
    return turned(how, **values)


def shown(how: Decoding) -> str:
    """'talk: sample, temperature 0.7, alpha openness 0.8'."""
    said = [f"{key} {how.params[key]}" for key in TURNED if how.params.get(key) is not None and key != "stop"]
    said += [f"alpha {name} {value:g}".replace("  ", " ") for name, value in alphas(how).items()]
    return f"{how.name}: {', '.join([how.mode, *said])}"
