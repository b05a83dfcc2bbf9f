"""From an entry of `chat:` to somebody to talk to: its model loaded, its prompt filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from runner import models, prompts, talk
from runner.chats import Chat
from runner.errors import StepError
from runner.execute import decoding_of, model_of, prompt_of
from runner.models import Loaded
from runner.plan import Plan
from runner.problems import suggest
from runner.step import Decoding, Prompt


@dataclass(frozen=True)
class Talker:
    """A loaded model with its decoding and what it is told. `help` is a line on the commands of a session."""

    name: str
    loaded: Loaded
    decoding: Decoding
    system: str | None
    wrap: Callable[[str], str]
    help: str = talk.HELP.strip()

    def single(self, text: str, seed: int) -> Iterator[str]:
        """The answer to one message, in pieces."""
        return talk.single(self.loaded, self.decoding, self.system, text, seed, self.wrap)

    def session(self, read: Callable[[], str], write: Callable[[str], None], seed: int) -> None:
        """Talk until the user leaves."""
        talk.session(self.loaded, self.decoding, self.system, read, write, seed, wrap=self.wrap)


def open_entry(plan: Plan, name: str, checkpoint: str | None, say: Callable[[str], None]) -> Talker:
    """Load an entry of `chat:`, the first one for ''. Raises StepError where it, or its model, is not there."""
    entry = _entry(plan, name)
    node = entry.model.node
    if node and any(step.name == node.name and step.why for step in plan.steps):
        raise StepError(f"chat.{entry.name}: '{node.name}' is not made yet. Run make {plan.recipe.name}/{node.name}.")
    if node is None and checkpoint:
        raise StepError(
            f"chat.{entry.name}: '{entry.model.name}' is not trained here, so it has no checkpoints. Leave CHECKPOINT out."
        )
    specs = plan.specs
    chosen = checkpoint or str(entry.body.get("checkpoint", "best"))
    model = model_of(specs.model(entry.model, chosen), plan.root)
    decoding = decoding_of(specs.decoding(entry.decoding), plan.root)
    models.prepare(0)
    loaded = models.load([model], plan.root, say, decoding.models)[0]
    prompt = prompt_of(specs.prompt(entry.prompt)) if entry.prompt else loaded.prompt
    texts = dict(plan.recipe.doc.get("texts") or {})
    return Talker(entry.name, loaded, decoding, prompts.system(prompt, entry.given, texts), _wrap(entry, prompt, texts))


def _entry(plan: Plan, name: str) -> Chat:
    held = plan.recipe.chats
    if not held:
        raise StepError(f"{plan.recipe.path}: nobody to talk to. Add an entry under chat:.")
    if name and name not in held:
        raise StepError(f"{plan.recipe.path}: no entry '{name}' under chat:.{suggest(name, held, 'Entries')}")
    return held[name or next(iter(held))]


def _wrap(entry: Chat, prompt: Prompt | None, texts: dict[str, object]) -> Callable[[str], str]:
    """What the typed text becomes: the value of the prompt's one open variable, or the user's turn as it is."""
    if prompt is None or entry.typed is None:
        return lambda text: text
    user = replace(prompt, turns=({"user": prompt.turns[0].get("user", "")},))
    variable = entry.typed
    return lambda text: "\n".join(
        turn["content"] for turn in prompts.messages(user, {**entry.given, variable: text}, texts)
    )
