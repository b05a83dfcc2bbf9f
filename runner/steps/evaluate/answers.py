"""`evaluate: answers`: the same questions to one or several models, side by side, by the decoding that chat uses."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from runner import chat, decoding, models, prompts
from runner.chat import Message
from runner.errors import StepError
from runner.files import Row
from runner.models import Loaded
from runner.step import Out, Prompt, Step

Asked = tuple[str, str, list[Message], Row]  # id, question, conversation, the row that it comes from


def run(step: Step, out: Out) -> dict[str, Any]:
    """Rows {id, question, answers: {model: text}} and a table of them. Raises StepError where nothing is asked."""
    seed, how = step.params["seed"], step.decodings["decoding"]
    models.prepare(seed)
    if not step.params.get("questions") and not step.inputs.get("from"):
        raise StepError(f"{step.name}: nothing to ask. Give questions: or from:.")
    loaded = models.load(step.models["model"], step.artifacts, out.log, how.models)
    told = _prompt_for_all(step, loaded)
    made: dict[str, list[str]] = {}
    asked: list[Asked] = []
    for one in loaded:
        prompt = step.prompts.get("prompt") or one.prompt or told
        asked = [*_questions(step, prompt), *_rows(step)]
        talks = [
            chat.fit(one.tokenizer, messages, one.context - how.params["max_new_tokens"]) for _, _, messages, _ in asked
        ]
        told_too = [{**row, **step.matrix, "texts": step.texts} for *_, row in asked]  # for experts' own prompts
        with out.progress(f"{one.name} answers", len(talks)) as advance:
            made[one.name] = decoding.answers(one, talks, how, seed, told_too, advance)
    answers = [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]
    with out.rows() as rows:
        for (name, question, *_), given in zip(asked, answers, strict=True):
            rows.write({"id": name, "question": question, "answers": given})
    cells = [[question, *given.values()] for (_, question, *_), given in zip(asked, answers, strict=True)]
    return {"tables": [{"title": "Answers", "columns": ["question", *made], "rows": cells}]}


def _prompt_for_all(step: Step, loaded: list[Loaded]) -> Prompt | None:
    """What a model that remembers no prompt is told, so that all are asked alike: what the others were trained with."""
    found = [one.prompt for one in loaded if one.prompt]
    if any(one != found[0] for one in found) and len(found) < len(loaded):
        raise StepError(f"{step.name}: its models were trained with different prompts. Say prompt: for all of them.")
    return found[0] if found else None


def _questions(step: Step, prompt: Prompt | None) -> list[Asked]:
    asked = step.params.get("questions") or []
    return [(f"question-{at}", text, _conversation(step, prompt, text), {}) for at, text in enumerate(asked, 1)]


def _conversation(step: Step, prompt: Prompt | None, question: str) -> list[Message]:
    """The prompt with the question as the user's turn, or in the one variable that its own user turn leaves open."""
    user = {"role": "user", "content": question}
    if prompt is None:
        return [user]
    if "user" not in prompt.turns[0]:
        system = prompts.system(prompt, step.matrix, step.texts)
        return [{"role": "system", "content": system}, user] if system else [user]
    free = {path[0] for path in prompts.uses(prompt.turns[0]["user"])[0]} - {"texts", *step.matrix}
    if len(free) != 1:
        raise StepError(
            f"{step.name}: the prompt '{prompt.name}' needs one open variable for the question, not {len(free)}."
        )
    asks = {role: text for role, text in prompt.turns[0].items() if role in ("system", "user")}
    return prompts.messages(replace(prompt, turns=(asks,)), {**step.matrix, free.pop(): question}, step.texts)


def _rows(step: Step) -> list[Asked]:
    """Conversations without the answer that they end with; each with the system message that it came with."""
    part = None if not step.parts() else "test" if "test" in step.parts() else step.parts()[-1]
    made = []
    for at, row in enumerate(islice(step.rows(part), step.params.get("limit")), 1):
        messages = chat.conversation(row)
        while messages and messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if messages and messages[-1]["role"] == "user":
            made.append((str(row.get("id", f"row-{at}")), messages[-1]["content"], messages, row))
    return made
