"""Templates and expressions of a recipe, checked: every variable is a column, a matrix key or given by the kind."""

from __future__ import annotations

from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from runner import prompts as jinja
from runner.flow import Flow
from runner.problems import Mark, Problems, suggest
from runner.references import Names
from runner.strict_yaml import Map, Seq

TOLD = ("system", "user", "prefill")  # the texts of a prompt that a model is told; assistant is what training learns


class Text(NamedTuple):
    """One template with its place; `by` says for whom it is checked, `role` which text of a prompt it is."""

    text: str
    mark: Mark
    where: str
    role: str = ""
    by: str = ""
    expression: bool = False


def of_prompt(prompt: Any, where: str, by: str = "") -> list[Text]:
    """The texts of a prompt, or of the chain of prompts, with their places."""
    if isinstance(prompt, Seq):
        return [text for place, turn in enumerate(prompt) for text in of_prompt(turn, f"{where}.{place}", by)]
    if not isinstance(prompt, Map):
        return []
    held = ((role, text) for role, text in prompt.items() if isinstance(text, str))
    return [Text(text, prompt.values_at[role], f"{where}.{role}", role, by) for role, text in held]


def check(text: Text, scope: Flow, known: Names, problems: Problems) -> set[str]:
    """Check one template's variables against what is there; returns the names of those that it uses."""
    try:
        found = jinja.uses(text.text, text.expression)[0]
    except TemplateSyntaxError as error:
        said = str(error.message).rstrip(".")
        advice = "" if said.startswith("No ") else " Check braces and quotes."
        problems.add(text.mark, f"{text.where}: not Jinja: {said}.{advice}")
        return set()
    for path in sorted(found):
        if path[0] == "texts":
            _check_texts(path, text, scope, known, problems)
        else:
            _check_variable(path, text, scope, problems)
    return {path[0] for path in found} - {"texts"}


def _check_variable(path: jinja.Use, text: Text, scope: Flow, problems: Problems) -> None:
    used = f", used by {text.by}" if text.by else ""
    name = path[0]
    if not scope.has(name):
        hint = suggest(name, scope.top(), "There are")
        hint = hint or " There are none here: write the words out, or give the step a matrix."
        problems.add(text.mark, f"{text.where}{used}: no variable '{name}'.{hint}")
        return
    for key in path[1:]:
        inside = [held for held in scope.inside(name) if "." not in held]
        if key.startswith("?") or hasattr(dict, key) or not inside:
            return
        if key not in inside:
            hint = suggest(key, inside, "It has")
            problems.add(text.mark, f"{text.where}{used}: '{name}' has no '{key}'.{hint}")
            return
        name = f"{name}.{key}"


def _check_texts(path: jinja.Use, text: Text, scope: Flow, known: Names, problems: Problems) -> None:
    """Every cell that texts.a[b][c] can mean is there, as far as b and c are known."""
    places: list[tuple[Any, str]] = [(known.section("texts"), "texts")]
    if len(path) > 1:
        known.used.add(("texts", path[1]))
    for key in path[1:]:
        choices = scope.values.get(key[1:]) if key.startswith("?") else [key]
        if choices is None:
            return
        following = []
        for held, shown in places:
            if not isinstance(held, Map):
                if choices != [key] or not hasattr(str, key):
                    problems.add(
                        text.mark, f"{text.where}: {shown} is one text, not a table. Leave out [{key.strip('?')}]."
                    )
                return
            for choice in map(str, choices):
                if choice in held:
                    following.append((held[choice], f"{shown}.{choice}"))
                else:
                    hint = suggest(choice, held, "It has")
                    problems.add(text.mark, f"{text.where}: {shown} has no '{choice}'.{hint}")
        places = following
