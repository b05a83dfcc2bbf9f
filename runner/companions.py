"""What an entry of `chat:` has beside its model, proved: a person, the person's memories, retrieved passages."""

from __future__ import annotations

from collections.abc import Iterator

from runner.fields import given
from runner.flow import Flow, incoming
from runner.problems import Mark, Problems, suggest
from runner.references import Names, Node
from runner.strict_yaml import Map
from runner.templates import TOLD, of_prompt
from runner.templates import check as check_text

# What the prompt that asks for a memory is told, beside with: and the person, as in a dialogue
ASKED = ("role", "me", "heard", "said", "memory", "choices", "transcript")


def check(node: Node, prompt: str | None, known: Names, flows: dict[str, Flow], problems: Problems) -> None:
    """Everything that needs no more than the entry and the columns of the rows that it names."""
    turns = known.section("prompts").get(prompt or "")
    if isinstance(turns, list) and len(turns) > 1:
        said = f"'{prompt}' is a chain of {len(turns)}, and a chat goes its own way"
        problems.add(node.mark("prompt"), f"{node.where}.prompt: {said}. Use a single one.")
    person = incoming(node, "person.from", flows, Problems())
    if isinstance(node.body.get("person"), Map):
        _check_person(node, person, problems)
    if isinstance(node.body.get("memory"), Map):
        _check_memory(node, person, problems)
    _check_take(node, problems)


def _at(node: Node, *path: str) -> Mark:
    """Where a nested value stands."""
    held: Map = node.body
    for key in path[:-1]:
        held = held[key]
    return held.values_at[path[-1]]


def _check_person(node: Node, rows: Flow, problems: Problems) -> None:
    body: Map = node.body["person"]
    where = f"{node.where}.person"
    for name in {str(body["as"])} & {*(node.body.get("with") or {}), "memory"}:
        given_by = "with:" if name in (node.body.get("with") or {}) else "memory:"
        problems.add(_at(node, "person", "as"), f"{where}.as: '{name}' is given by {given_by} too. Take another name.")
    for key in ("column", "label"):
        _check_column(f"{where}.{key}", str(body.get(key, "")), body.values_at.get(key), rows, problems)
    _check_scorer(node, "person", ("column", "score"), problems)
    if "best_by" in body:
        if "which" in body:
            problems.add(_at(node, "person", "which"), f"{where}: which and best_by both say who it is. Keep one.")
        if "column" not in body and learned_column(node) is None and node.models.get("person.best_by"):
            scorer = node.models["person.best_by"][0].name
            advice = "Name it: column: statement.supporter, say."
            said = f"which column of a person '{scorer}' reads is not plain (its text_pair is none of '{body['as']}')"
            problems.add(_at(node, "person", "best_by"), f"{where}.best_by: {said}. {advice}")
        elif "column" not in body:
            column = learned_column(node) or ""
            _check_column(f"{where}.best_by", column, _at(node, "person", "best_by"), rows, problems)


def learned(node: Node, column: str) -> str | None:
    """What the scorer of `person.best_by` learned as text or text_pair: the column that its training step names."""
    uses = node.models.get("person.best_by", ())
    columns = uses[0].node.body.get("columns") if uses and uses[0].node else None
    held = columns.get(column) if isinstance(columns, Map) else None
    return held if isinstance(held, str) else None


def learned_column(node: Node) -> str | None:
    """The column of a person that the scorer learned as text_pair: what stands after `as`."""
    prefix, held = f"{node.body['person']['as']}.", learned(node, "text_pair") or ""
    return held.removeprefix(prefix) if held.startswith(prefix) else None


def _check_column(where: str, column: str, mark: Mark | None, rows: Flow, problems: Problems) -> None:
    if column and mark and not rows.lost and not rows.has(column):
        hint = suggest(column, rows.columns, "They have")
        problems.add(mark, f"{where}: the people have no column '{column}'.{hint}")


def _check_scorer(node: Node, key: str, only: tuple[str, ...], problems: Problems) -> None:
    """What counts with best_by alone; and that it is a model that was trained to score pairs, where that is known."""
    body: Map = node.body[key]
    for name in only:
        if name in body and "best_by" not in body:
            said = f"{node.where}.{key}.{name}: counts with best_by: alone. Give that, or remove this."
            problems.add(body.keys_at[name], said)
    for use in node.models.get(f"{key}.best_by", ()):
        columns = use.node.body.get("columns") if use.node else None
        if isinstance(columns, Map) and "text" in columns and "text_pair" not in columns:
            said = f"{node.where}.{key}.best_by: '{use.name}' learned from one text, and scores pairs here."
            problems.add(use.mark, f"{said} Train one with text_pair.")


def _check_memory(node: Node, rows: Flow, problems: Problems) -> None:
    body: Map = node.body["memory"]
    where = f"{node.where}.memory"
    if "person" not in node.body:
        advice = "Give person:, whose memories these are."
        problems.add(node.body.keys_at["memory"], f"{where}: nobody has memories here. {advice}")
        return
    _check_scorer(node, "memory", ("at_least", "score", "history", "opener", "me", "user"), problems)
    if "ask" in body and "best_by" in body:
        problems.add(_at(node, "memory", "best_by"), f"{where}: ask and best_by both choose a memory. Keep one.")
    of = str(body["of"])
    _check_column(f"{where}.of", of, _at(node, "memory", "of"), rows, problems)
    if rows.has(of) and not rows.reads_as(of, ("object",)):
        said = f"{where}.of: '{of}' holds {rows.columns[of]}, and memories are an object with a text for each aspect."
        problems.add(_at(node, "memory", "of"), f"{said} Name another column.")
    aspects = rows.inside(of)
    for path, name, mark in _aspects(body) if aspects else ():
        if name not in aspects:
            hint = suggest(name, [one for one in aspects if "." not in one], "It has")
            problems.add(mark, f"{where}.{path}: '{of}' has no aspect '{name}'.{hint}")


def _aspects(body: Map) -> Iterator[tuple[str, str, Mark]]:
    """The aspects that the rules of a memory name."""
    if "first" in body:
        yield "first", str(body["first"]), body.values_at["first"]
    if isinstance(body.get("otherwise"), Map):
        yield "otherwise.use", str(body["otherwise"]["use"]), body["otherwise"].values_at["use"]
    left = body.get("leave_out") or ()
    for name, mark in zip(left, left.items_at, strict=True) if left else ():
        yield "leave_out", str(name), mark


def _check_take(node: Node, problems: Problems) -> None:
    """A retrieve step, one of it; and a value for what its passages must have the same."""
    found = next((one for one in given(node.body, node.fragment, node.instance.mark) if one.path == "take"), None)
    if found is None:
        return
    rows, kind = node.rows.get("take", ()), found.schema.get("x-kind")
    where = f"{node.where}.take"
    if kind and rows and rows[0].node.kind != kind:
        name = rows[0].node.instance.written
        problems.add(found.mark, f"{where}: '{name}' is {rows[0].node.kind}; name a preprocess: {kind} step.")
        return
    if len(rows) > 1:
        shown = ", ".join(one.node.name for one in rows[:4])
        problems.add(found.mark, f"{where}: '{found.value}' means {len(rows)} steps ({shown}). Name one of them.")
    has = {*(node.body.get("with") or {})}
    missing = sorted(grouped(node) - has) if kind or isinstance(found.value, Map) else []
    if missing:
        shown = " and ".join(f"'{name}'" for name in missing)
        problems.add(found.mark, f"{where}: passages must have the same {shown}. Give values under with:.")


def grouped(node: Node) -> set[str]:
    """The names whose values decide which passages are taken."""
    take, rows = node.body.get("take"), node.rows.get("take", ())
    same = take.get("same") if isinstance(take, Map) else rows[0].node.body.get("same") if rows else None
    return {str(same)} if isinstance(same, str) else set(map(str, same or ()))


def check_question(node: Node, known: Names, scope: Flow, problems: Problems) -> set[str]:
    """The prompt that asks for a memory, against what it is told; returns the variables that it uses."""
    name = node.prompts.get("memory.ask")
    told = scope.copy()
    told.anything = False
    for variable in ASKED:
        told.put(variable, "any")
    texts = of_prompt(known.section("prompts").get(name or ""), f"prompts.{name}", f"{node.where}.memory.ask")
    used = {one for text in texts if text.role in TOLD for one in check_text(text, told, known, problems)}
    if name and "choices" not in used:
        said = (
            f"{node.where}.memory.ask: '{name}' does not say what there is to choose from. Use {{{{ choices }}}} in it."
        )
        problems.add(_at(node, "memory", "ask"), said)
    return used - {*ASKED}


def check_used(node: Node, provided: Flow, used: set[str], problems: Problems) -> None:
    """What is looked up for each answer must be in what the model is told."""
    for key in ("memory", "take"):
        names = ["memory"] if key == "memory" else _passages(node)
        if key in node.body and names and not used & {*names}:
            shown = " or ".join(f"{{{{ {name} }}}}" for name in names)
            message = f"{node.where}.{key}: the prompt does not use it. Put {shown} into it, or remove {key}:."
            problems.add(node.body.keys_at[key], message)


def _passages(node: Node) -> list[str]:
    """The variables that hold passages."""
    take, rows = node.body.get("take"), node.rows.get("take", ())
    held = take if isinstance(take, Map) else rows[0].node.body if rows else None
    return list(held["take"]) if held is not None and isinstance(held.get("take"), Map) else []
