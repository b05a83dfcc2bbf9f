"""`generate: dialogue`: two people talk, each with a prompt, a model and memories of its own; one row a dialogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from runner import asking, making, memories
from runner import forecast as forecasts
from runner.asking import Answer, Ask, Refused, Script, Unanswered
from runner.errors import DataError
from runner.files import Row, digest
from runner.forecast import Forecast
from runner.making import Made, Numbered
from runner.memories import Scores
from runner.step import Decoding, Model, Out, Step
from runner.steps.generate import _dialogue_facts as facts
from runner.steps.generate._dialogue_sides import CHOOSER, JUDGE, Scored, Setting, at, setting
from runner.steps.generate._dialogue_talk import Talk, Unusable

Pair = tuple[Model, Decoding]
Named = tuple[int, tuple[str, str | None, Row]]  # number, (name, part, row)
TURNED_DOWN = "the endpoint refuses a question"


def run(step: Step, out: Out) -> dict[str, Any]:
    """Each row with turns (turn, speaker, aspect, memory, utterance), transcript, ended (score, turns, silence), scores,
    tokens, and cost (US dollars by the models' prices, whether or not the cache held the answers).

    Raises StepError where the keys make no dialogue, DataError where rows lack what is named, ServiceError where
    dialogues are left without an answer: the next run goes on with them.
    """
    held = setting(step)
    held = replace(held, scored={} if step.joins else _scored(step, out))
    total = sum(1 for _ in _rows(step))
    if not total and not step.shard:
        raise DataError(f"{step.name}: there are no pairs to talk.")
    speakers = lambda: asking.speakers(step, out, _pairs(step))  # noqa: E731
    made = making.make(step, out, _scripts(held), speakers, total, ahead=lambda: _ahead(held))
    return made if step.shard else facts.of_all(made, list(held.sides))


def forecast(step: Step) -> Forecast:
    """What the step is going to ask, before it does. A trained chooser of memories is not loaded for that."""
    return _ahead(setting(step))


def _ahead(held: Setting) -> Forecast:
    total = sum(1 for _ in _rows(held.step))
    return forecasts.forecast(held.step, _pairs(held.step), _scripts(held), total, _questions(held))


def _questions(held: Setting) -> float:
    """About how many questions the longest dialogue asks."""
    sides = list(held.sides.values())
    turns = held.stop.turns - sum(side.opener is not None for side in sides)
    asked = turns * sum(side.choose is not None for side in sides) / 2 + turns * (held.judge is not None) / 2
    return max(1.0, turns + asked + sum(side.goodbye is not None for side in sides))


def _scripts(held: Setting) -> Callable[[], Iterator[Numbered]]:
    pairs = _pairs(held.step)
    return lambda: ((number, _script(held, pairs, *named)) for number, named in _rows(held.step))


def _pairs(step: Step) -> dict[str, Pair]:
    """Who is asked, by name: the roles, who chooses their memories, and the judge."""
    made = {}
    for role in step.params["between"]:
        model, decoding = at(step.models, "model", role), at(step.decodings, "decoding", role)
        assert model and decoding, "the check asks for one of either role"
        made[role] = model[0], decoding
        if at(step.prompts, "memory.ask", role):
            chooser = step.models.get("memory.model", model)[0], step.decodings.get("memory.decoding", decoding)
            made[f"{CHOOSER} {role}"] = chooser
        if role == step.params["stop"].get("of"):
            made[JUDGE] = step.models.get("stop.model", model)[0], step.decodings.get("stop.decoding", decoding)
    return made


def _scored(step: Step, out: Out) -> Mapping[str, Scored]:
    """The trained model that scores the memories of each role, loaded once for both."""
    named = {role: at(step.models, "memory.best_by", role) for role in step.params["between"]}
    if not any(named.values()):
        return {}
    from runner import scorers  # an endpoint's dialogues need no weights here

    different = {model.name: model for models in named.values() for model in models or ()}
    loaded = {name: scorers.load(model, step.artifacts, out.log) for name, model in different.items()}
    which = (step.params.get("memory") or {}).get("score")

    def of(scorer: Any) -> Scored:
        def talk(said: str) -> Scores:
            return memories.scores_of(scorer, said, which)

        return talk

    return {role: of(loaded[models[0].name]) for role, models in named.items() if models}


def _rows(step: Step) -> Iterator[Named]:
    """This process's share of the rows, each with its number, a name that no other has, and its part of a split."""
    return making.share(enumerate(_named(step)), step.shard)


def _named(step: Step) -> Iterator[tuple[str, str | None, Row]]:
    seen: Counter[str] = Counter()
    for part in step.parts() or (None,):
        for row in islice(step.rows(part), step.params.get("limit")):
            name = str(row["id"]) if row.get("id") is not None else digest(row)[:20]
            seen[name] += 1
            yield f"{name}/{seen[name]}" if seen[name] > 1 else name, part, row


def _script(held: Setting, pairs: Mapping[str, Pair], name: str, part: str | None, row: Row) -> Script[list[Made]]:
    """One dialogue, its answers counted. Raises DataError where the row lacks a person."""
    missing = [role for role in held.sides if role not in row]
    if missing:
        raise DataError(f"{name}: no column '{missing[0]}', which between: names. It has: {', '.join(row)}.")
    row = {**row, "id": name}
    tally = facts.Tally(name, held.step, pairs)
    try:
        talk = Talk(held, row, name)
        made = yield from _counted(talk.script(), tally)
    except Unusable as error:
        return [Made(row, part, str(error))]
    except Refused as error:
        return [Made(row, part, TURNED_DOWN, [tally.provenance()], [*tally.side(), {"id": name, "why": str(error)}])]
    counts = {**talk.counts, **facts.counts(made)}
    return [Made({**row, **made, **tally.columns()}, part, None, [tally.provenance()], tally.side(), counts)]


def _counted(script: Script[Row], tally: facts.Tally) -> Script[Row]:
    """A talk's script, each of its answers told to the tally."""
    try:
        ask = next(script)
        while True:
            assert isinstance(ask, Ask), "a talk asks one question at a time"
            try:
                answer: Answer = yield ask
            except Unanswered as error:
                ask = script.throw(error)
                continue
            tally.add(ask, answer)
            ask = script.send(answer)
    except StopIteration as ended:
        made: Row = ended.value
        return made
    finally:
        script.close()
