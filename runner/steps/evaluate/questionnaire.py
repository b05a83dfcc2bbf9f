"""`evaluate: questionnaire`: an inventory put to models, or answers that are there already, scored and compared."""

from __future__ import annotations

import statistics
from typing import Any

from runner import inventories, models, prompts
from runner.chat import Message
from runner.errors import StepError
from runner.inventories import Asked, Inventory
from runner.step import Model, Out, Step, listed
from runner.steps.evaluate import _options, _sheets, _words
from runner.steps.evaluate._sheets import Sheet

Scored = dict[str, list[dict[str, float]]]


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows, one an answer: item, text, answer (a tag, or null), what was said or the options' chances; a table of traits."""
    assert step.folder is not None
    inventory = inventories.read(step.folder, step.files)
    if step.params.get("limit"):
        inventory = inventories.first(inventory, step.params["limit"])
    held = _asked(step, inventory, out) if step.models.get("model") else _given(step, inventory, out)
    scored, notes = _score(step, held, inventory)
    return _facts(step, scored, inventory) | {"notes": notes}


def _given(step: Step, inventory: Inventory, out: Out) -> list[Sheet]:
    held = _sheets.sheets(step.rows(), inventory)
    with out.rows() as rows:
        for sheet in held:
            rows.write_all({**sheet.columns, "item": number, "answer": tag} for number, tag in sheet.answers.items())
    return held


def _asked(step: Step, inventory: Inventory, out: Out) -> list[Sheet]:
    """A sheet for each model, order of options and repeat."""
    models.prepare(step.params["seed"])
    orders = [inventory.order(which, step.params["seed"]) for which in range(step.params["orders"])]
    made = []
    with out.rows() as rows:
        for model in step.models["model"]:
            for sheet, asked, answers in _run_through(step, model, orders, out):
                for one, (tag, more) in zip(asked, answers, strict=True):
                    sheet.answers[one.item.number] = tag
                    said = {"item": one.item.number, "text": one.item.text, "answer": tag, **more}
                    rows.write(
                        {"id": f"{model.name}-{sheet.columns['sheet']}-{one.item.number}", **sheet.columns, **said}
                    )
                made.append(sheet)
    return made


def _run_through(step: Step, model: Model, orders: list[list[Asked]], out: Out) -> Any:
    """(sheet, items, an answer for each) for each order and repeat."""
    repeats = step.params["repeats"] if "decoding" in step.decodings else 1
    runs = [(f"order{at}-test{test}", order) for at, order in enumerate(orders) for test in range(repeats)]
    questions = [(one, _conversation(step, model, one)) for _, order in runs for one in order]
    ask = _words.ask if "decoding" in step.decodings else _options.choose
    answers = iter(ask(step, model, questions, out))
    for name, order in runs:
        yield Sheet({"model": model.name, "sheet": name}), order, [next(answers) for _ in order]


def _conversation(step: Step, model: Model, asked: Asked) -> list[Message]:
    """The item in the prompt, or alone: what the model was trained to be told is not added."""
    prompt = step.prompts.get("prompt")
    told = {**step.matrix, "item": asked.text, "statement": asked.item.text}
    if prompt:
        made = prompts.messages(prompt, told, step.texts)
        return made if "user" in prompt.turns[0] else [*made, {"role": "user", "content": asked.text}]
    return [{"role": "user", "content": asked.text}]


def _score(step: Step, held: list[Sheet], inventory: Inventory) -> tuple[Scored, list[str]]:
    """The scores of the sheets by group, and what was left out."""
    names = listed(step.params.get("by"))
    scored: Scored = {}
    notes = []
    for sheet in held:
        scores = _sheets.score(sheet, inventory, step.params["blank"])
        group = ", ".join(str(sheet.columns.get(name, "")) for name in names) or _usual(sheet)
        scored.setdefault(group, [])
        if scores is not None:
            scored[group].append(scores)
    known = {item.number: {option.tag for option in item.options} for item in inventory.items}
    answers = [(number, tag) for sheet in held for number, tag in sheet.answers.items()]
    blank = sum(tag is None for _, tag in answers)
    outside = sum(tag is not None and tag not in known[number] for number, tag in answers)
    left_out = len(held) - sum(map(len, scored.values()))
    if blank and step.params["blank"] == "stop":
        raise StepError(f"{step.name}: {blank} of {len(answers)} answers are blank, and blank: stop was asked for.")
    notes += [f"{blank} of {len(answers)} answers are blank."] if blank else []
    notes += [f"{outside} answers are none of the options; they count as blank."] if outside else []
    notes += [f"{left_out} of {len(held)} sheets are left out: not all traits could be scored."] if left_out else []
    return scored, notes


def _usual(sheet: Sheet) -> str:
    return str(sheet.columns.get("model") or sheet.columns.get("file") or "all")


def _facts(step: Step, scored: Scored, inventory: Inventory) -> dict[str, Any]:
    level = step.params["level"]
    metrics: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for group, held in scored.items():
        metrics[group] = {"sheets": len(held), "traits": {}}
        rows += [] if held else [[group, "", "no sheet", 0, "", "", ""]]
        if inventory.opposites and held:
            metrics[group]["types"] = [_sheets.kind_of(one, inventory) for one in held]
        for trait, name in inventory.traits.items():
            values = [one[trait] for one in held if trait in one]
            if not values:
                continue
            sd = statistics.stdev(values) if len(values) > 1 else 0.0
            made: dict[str, Any] = {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}
            people = inventory.reference.get(trait)
            compared = _sheets.compare(values, people, level) if people else None
            if compared:
                made["compared"] = vars(compared)
            metrics[group]["traits"][name] = made
            rows.append([group, name, f"{made['mean']:.2f} ± {sd:.2f}", len(values), *_beside(people, compared)])
    return {
        "metrics": metrics,
        "tables": _tables(inventory, rows, metrics),
        "plots": _plots(scored, inventory, metrics),
    }


def _beside(people: dict[str, float] | None, compared: _sheets.Compared | None) -> list[str]:
    if not people:
        return ["", "", ""]
    shown = f"{people['mean']:.2f} ± {people['sd']:.2f}"
    if not compared:
        return [shown, "", ""]
    p = "< 0.001" if compared.p < 0.001 else f"{compared.p:.3f}"
    return [shown, f"{compared.effect:+.2f}", f"{p} ({compared.test})"]


def _tables(inventory: Inventory, rows: list[list[Any]], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    columns = ["who", "trait", "score", "sheets", "people", "effect (d)", "p"]
    if not inventory.reference:
        columns, rows = columns[:4], [row[:4] for row in rows]
    made = [{"title": inventory.title, "columns": columns, "rows": rows}]
    types = [[group, ", ".join(held["types"])] for group, held in metrics.items() if "types" in held]
    return (
        [*made, {"title": f"{inventory.title}: types", "columns": ["who", "type by sheet"], "rows": types}]
        if types
        else made
    )


def _plots(scored: Scored, inventory: Inventory, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    series, errors = {}, {}
    for group, held in metrics.items():
        series[group] = {name: one["mean"] for name, one in held["traits"].items()}
        errors[group] = {name: one["sd"] for name, one in held["traits"].items()}
    if inventory.reference:
        series["people"] = {inventory.traits[trait]: one["mean"] for trait, one in inventory.reference.items()}
        errors["people"] = {inventory.traits[trait]: one["sd"] for trait, one in inventory.reference.items()}
    bars = {"kind": "bars", "y": "score", "series": series, "errors": errors, "shared": ["people"]}
    # People alone, without a sheet beside them, would look like a score
    scored_any = any(held["traits"] for held in metrics.values())
    made: list[dict[str, Any]] = [{"title": inventory.title, **bars}] if scored_any else []
    names = list(inventory.traits.values())
    related = _sheets.correlation([one for held in scored.values() for one in held], inventory.traits)
    if related:
        title = f"{inventory.title}: correlation of traits over sheets"
        made.append({"title": title, "kind": "matrix", "rows": names, "columns": names, "values": related})
    return made
