"""From the entries of `chat:` to somebody to talk to: models loaded, people read, scorers and passages at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runner import companions, memories, models, schema
from runner.chats import Chat
from runner.errors import StepError
from runner.files import Row
from runner.matrix import Instance
from runner.people import Memory, People, Score
from runner.persona import Finder, Persona
from runner.plan import Plan
from runner.problems import Problems, suggest
from runner.references import Node
from runner.resolve import resolve
from runner.specs import decoding_of, model_of, prompt_of, step_of
from runner.step import Decoding, Input, Model, Step
from runner.strict_yaml import Map
from runner.voices import Away, Here, Lazy, Voice

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """Two entries that talk with each other."""

    name: str
    between: tuple[str, str]
    opener: str | None
    turns: int


class Cast:
    """Everybody under `chat:`. What is loaded once is shared: weights, scorers, encoders.

    checkpoint: best or final for every model that was trained here; None takes what each entry says.
    """

    def __init__(self, plan: Plan, say: Say, checkpoint: str | None = None) -> None:
        if not plan.recipe.chats:
            raise StepError(f"{plan.recipe.path}: nobody to talk to. Add an entry under chat:.")
        self.plan, self.say, self.checkpoint = plan, say, checkpoint
        self._personas: dict[str, Persona] = {}
        self._scorers: dict[str, Any] = {}
        models.prepare(0)

    @property
    def entries(self) -> dict[str, Chat]:
        return self.plan.recipe.chats

    @property
    def pairs(self) -> dict[str, Pair]:
        """The entries with `between:`."""
        made = {}
        for name, body in self.plan.recipe.names.section("chat").items():
            if "between" in body:
                filled = schema.defaults(schema.document()["properties"]["chat"]["additionalProperties"], dict(body))
                first, second = map(str, body["between"])
                made[name] = Pair(name, (first, second), body.get("opener"), filled["turns"])
        return made

    @property
    def first(self) -> str:
        """The default entry: the first in the file."""
        return str(next(iter(self.plan.recipe.names.section("chat"))))

    def find(self, name: str) -> str:
        """The name of an entry, the first for ''. Raises StepError where there is none of that name."""
        held = [*self.entries, *self.pairs]
        if name and name not in held:
            raise StepError(f"{self.plan.recipe.path}: no entry '{name}' under chat:.{suggest(name, held, 'Entries')}")
        return name or self.first

    def persona(self, name: str) -> Persona:
        """An entry, opened. Raises StepError where something that it needs is not made yet."""
        if name not in self._personas:
            self._personas[name] = self._open(self.entries[name])
        return self._personas[name]

    def decoding(self, entry: str, name: str) -> Decoding:
        """Another decoding of the recipe for an entry. Raises StepError where it does not fit."""
        chat, known = self.entries[entry], self.plan.recipe.names
        problems, mark = Problems(), chat.node.instance.mark
        body = Map(mark)
        body.take("model", chat.body)
        body.put("decoding", name, mark, mark)
        node = Node(Instance(entry, entry, chat.given, body, mark, mark), "chat", "", chat.node.fragment)
        resolve(node, known, problems)
        if problems.errors:
            raise StepError(problems.errors[0].message)
        for use in (one for held in node.decodings["decoding"].models.values() for one in held):
            self._expect_made(entry, use.node)
        return decoding_of(self.plan.specs.decoding(node.decodings["decoding"]), self.plan.root)

    # Opening

    def _open(self, chat: Chat) -> Persona:
        for node in self._needs(chat):
            self._expect_made(chat.name, node)
        if chat.model.node is None and self.checkpoint:
            advice = "it has no checkpoints. Leave CHECKPOINT out."
            raise StepError(f"chat.{chat.name}: '{chat.model.name}' is not trained here, so {advice}")
        specs = self.plan.specs
        chosen = self.checkpoint or str(chat.body.get("checkpoint", "best"))
        model = model_of(specs.model(chat.model, chosen), self.plan.root)
        how = decoding_of(specs.decoding(chat.decoding), self.plan.root)
        voice: Voice = Away(model) if "endpoint" in model.entry else Here(model, how, self.plan.root, self.say)
        prompt = prompt_of(specs.prompt(chat.prompt)) if chat.prompt else None
        if prompt is None and isinstance(voice, Here):
            prompt = voice.prompt
        finder, passages = self._finder(chat)
        people = self._people(chat)
        return Persona(
            chat.name,
            voice,
            how,
            prompt,
            dict(chat.given),
            chat.typed,
            dict(self.plan.recipe.doc.get("texts") or {}),
            chat.body.get("opener"),
            people,
            self._memory(chat, people),
            finder,
            passages,
            chat.model.name,
            self._plain(chat, how),
        )

    def _plain(self, chat: Chat, how: Decoding) -> Voice | None:
        """The model under all training of an entry's, to be heard beside it; its weights are often the same."""
        use = chat.model
        while use.node is not None and use.node.models.get("model"):
            use = use.node.models["model"][0]
        if use is chat.model or use.is_endpoint:
            return None
        model = model_of(self.plan.specs.model(use), self.plan.root)
        return Lazy(lambda: Here(model, how, self.plan.root, self.say))

    def _needs(self, chat: Chat) -> Iterator[Node]:
        """The steps that must be made: of a retrieve step only its sources."""
        node = chat.node
        for path, rows in node.rows.items():
            for one in rows:
                yield from _sources(one.node) if path == "take" else [one.node]
        yield from (use.node for _, use in node.model_uses() if use.node)

    def _expect_made(self, entry: str, node: Node | None) -> None:
        if node and any(step.name == node.name and step.why for step in self.plan.steps):
            advice = f"Run make {self.plan.recipe.name}/{node.name}."
            raise StepError(f"chat.{entry}: '{node.name}' is not made yet. {advice}")

    def _inputs(self, node: Node, path: str) -> tuple[Input, ...]:
        store, planned = self.plan.root / "store", self.plan.specs.planned
        return tuple(
            Input(one.node.name, store / planned[one.node.name].key, one.part, one.columns)
            for one in node.rows.get(path, ())
        )

    def _people(self, chat: Chat) -> People | None:
        body = chat.body.get("person")
        if not isinstance(body, Map):
            return None
        rows = [row for one in self._inputs(chat.node, "person.from") for row in _all_rows(one)]
        if not rows:
            raise StepError(f"chat.{chat.name}.person: its rows are none. Look at the step with make show.")
        column = body.get("column") or companions.learned_column(chat.node)
        score = self._score(chat, "person") if "best_by" in body else None
        statement = companions.learned(chat.node, "text")
        return People(str(body["as"]), rows, body.get("which"), body.get("label"), column, score, statement)

    def _memory(self, chat: Chat, people: People | None) -> Memory | None:
        body = chat.body.get("memory")
        if not isinstance(body, Map) or people is None:
            return None
        fragment = chat.node.fragment["properties"]["memory"]
        params = schema.defaults(fragment, dict(body))
        ask = chat.node.prompts.get("memory.ask")
        return Memory(
            memories.rules(params),
            params.get("me", people.name),
            params["user"],
            prompt_of(self.plan.specs.prompt(ask)) if ask else None,
            self._score(chat, "memory") if "best_by" in body else None,
            params["opener"],
            dict(self.plan.recipe.doc.get("texts") or {}),
        )

    def _score(self, chat: Chat, key: str) -> Score:
        """The scorer of `person` or `memory` as a function; its weights are loaded once for all entries."""
        from runner import scorers

        model = self._model(chat, f"{key}.best_by")
        name = str(model.folder or model.entry)
        if name not in self._scorers:
            self._scorers[name] = scorers.load(model, self.plan.root, self.say)
        scorer, which = self._scorers[name], chat.body[key].get("score")
        if scorer.pairs is False:
            raise StepError(f"chat.{chat.name}.{key}.best_by: '{model.name}' reads one text, and scores pairs here.")

        return lambda text, pairs: memories.scores_of(scorer, text, which)(pairs)

    def _model(self, chat: Chat, path: str) -> Model:
        return model_of(self.plan.specs.model(chat.node.models[path][0]), self.plan.root)

    def _finder(self, chat: Chat) -> tuple[Finder | None, tuple[str, ...]]:
        """What finds passages for a message, and the variables that they go into."""
        from runner.steps.preprocess import retrieve

        take = chat.body.get("take")
        if take is None:
            return None, ()
        step = self._retrieve(chat, take)
        find = retrieve.finder(step, self.say)
        given = dict(chat.given)
        return lambda said: find({**given, "query": said}), tuple(step.params["take"])

    def _retrieve(self, chat: Chat, take: Any) -> Step:
        if not isinstance(take, Map):
            return step_of(self.plan.specs.planned[chat.node.rows["take"][0].node.name].spec, self.plan.root)
        sources = {path: path.removeprefix("take.") for path in chat.node.rows if path.startswith("take.take.")}
        inputs = {short: self._inputs(chat.node, path) for path, short in sources.items()}
        params = {"between": "\n\n", **take}
        model: dict[str, tuple[Model, ...]] = {"model": (self._model(chat, "take.model"),)}
        return Step(chat.name, "preprocess", "retrieve", params, self.plan.root, inputs=inputs, models=model)


def _sources(retrieve: Node) -> Iterator[Node]:
    """What a retrieve step takes its passages from."""
    yield from (one.node for path, rows in retrieve.rows.items() if path.startswith("take.") for one in rows)
    yield from (use.node for _, use in retrieve.model_uses() if use.node)


def _all_rows(one: Input) -> Iterator[Row]:
    """The rows of a reference; of a whole split those of every part."""
    for part in one.parts or (None,):
        yield from one.rows(part)
