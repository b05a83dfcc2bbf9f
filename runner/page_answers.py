"""What is said on the chat page: answers that grow, the next turns of two who talk, who suits the visitor, transcripts."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from runner import dials, transcripts, visits
from runner.conversation import Conversation
from runner.desk import Busy
from runner.duet import Duet
from runner.errors import RunnerError
from runner.page_shown import chats, people_of, sound
from runner.persona import Persona
from runner.step import Decoding
from runner.visits import Visit

if TYPE_CHECKING:
    from runner.serving import Floor

MOST_VISITORS = 1000  # whose Stop is remembered


class Answers:
    """The handlers of the page that let somebody speak."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.stops: dict[str, asyncio.Event] = {}

    async def send(
        self,
        text: str,
        visit: Visit,
        entry: str,
        temperature: float,
        seed: int,
        side: bool,
        request: gr.Request,
        *alphas: float,
    ) -> AsyncIterator[list[Any]]:
        """The visitor's words, and the answer as it grows; with two who talk, their next turn."""
        visit, how = sound(visit), Set(temperature, int(seed or 0), alphas)
        if entry in self.floor.cast.pairs:
            if text.strip() and visit["pair"]:
                gr.Info("Two who talk with each other do not hear you. New talk: your words open it.")
            updates = self._turns(visit, entry, how, 1, text.strip(), request)
        else:
            updates = self._answers(visit, entry, how, side, text.strip(), request)
        async for update in updates:
            yield update

    async def once_more(
        self, visit: Visit, entry: str, temperature: float, seed: int, side: bool, request: gr.Request, *alphas: float
    ) -> AsyncIterator[list[Any]]:
        """The last answer once more, with the next seed."""
        visit, how = sound(visit), Set(temperature, int(seed or 0) + 1, alphas)
        if entry in self.floor.cast.pairs:
            visit = {**visit, "pair": visit["pair"][:-1] if len(visit["pair"]) > 1 else visit["pair"]}
            updates = self._turns(visit, entry, how, 1, "", request)
        else:
            asked = [turn["content"] for turn in visit["turns"] if turn["role"] == "user"][-1:]
            shorter = {key: visit[key][:-2] if visit[key][-2:-1] else [] for key in ("turns", "beside")}
            updates = self._answers({**visit, **shorter} if asked else visit, entry, how, side, "".join(asked), request)
        async for update in updates:
            yield [*update, how.seed]

    async def go_on(
        self, visit: Visit, entry: str, temperature: float, seed: int, side: bool, request: gr.Request, *alphas: float
    ) -> AsyncIterator[list[Any]]:
        """Five turns more of two who talk."""
        how = Set(temperature, int(seed or 0), alphas)
        async for update in self._turns(sound(visit), entry, how, 5, "", request):
            yield update

    async def _answers(
        self, visit: Visit, entry: str, how: Set, side: bool, text: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        """Updates of: text, talk, beside, visit, person. The persona answers first, then the base model."""
        persona, stop = self.floor.personas[entry], self._stop(request)
        both: list[Any] = [gr.skip(), gr.skip()]
        voices = [("turns", persona), ("beside", persona.base())] if text else []
        for at, (key, voice) in enumerate(voices[: 2 if side else 1]):
            try:
                made = how.of(voice, steered=key == "turns")
                talk = visits.talk_of(visit, key, voice, made, how.seed)
                async for told, said, end in visits.said(self.floor.desk(voice), work_of(talk, text), stop):
                    if end and told and said.strip():
                        talk.keep(text, told, said.strip(), end)
                    both[at] = visits.shown(talk.turns) if end else visits.growing(talk.turns, text, told, said)
                    yield ["", *both, gr.skip(), gr.skip()]
            except (RunnerError, Busy) as problem:
                gr.Warning(html.escape(str(problem) or "Too many are waiting. Try again in a moment."))
                yield [text, *both, gr.skip(), gr.skip()]
                break
            visit = {**visit, key: talk.records()}
            if voice.people and key == "turns":
                visit["person"] = talk.person
        yield [gr.skip(), *chats(self.floor, visit, entry), visit, people_of(self.floor, entry, visit)]

    async def _turns(
        self, visit: Visit, entry: str, how: Set, count: int, opener: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        """Updates of: text, talk, beside, visit, person, for so many turns of two."""
        pair, stop = self.floor.cast.pairs[entry], self._stop(request)
        first, second = (self.floor.personas[name] for name in pair.between)
        for _ in range(count):
            held: list[Duet] = []

            def work(visit: Visit = visit, held: list[Duet] = held) -> Any:
                held.append(visits.duet_of(visit, pair, (first, second), how.seed, opener))
                told = held[0].tell()
                yield told
                return (yield from held[0].answer(told))

            try:
                async for told, said, end in visits.said(self.floor.here, work, stop):
                    if end and told and said.strip():
                        held[0].keep(told, said.strip(), end)
                    if held:
                        visit = visits.with_duet(visit, held[0])
                        name = held[0].called(held[0].at)
                        growing = [] if end else [(held[0].at, {"role": "", "content": said or "…", "persona": name})]
                        yield ["", visits.shown_pair([*visit["pair"], *growing]), gr.skip(), gr.skip(), gr.skip()]
            except (RunnerError, Busy) as problem:
                gr.Warning(html.escape(str(problem) or "Too many are waiting. Try again in a moment."))
                break
            yield ["", visits.shown_pair(visit["pair"]), gr.skip(), visit, gr.skip()]
            if stop.is_set():
                break

    async def find(self, text: str, visit: Visit, entry: str) -> list[Any]:
        """Let the scorer choose the person whom this text suits."""
        people = self.floor.personas[entry].people
        if people is None or not text.strip():
            return [gr.skip()] * 3

        def work() -> Any:
            yield from ()
            return people.ranked(text)

        try:
            ranked = [found async for found in self.floor.here.pieces(work)][-1]
        except (RunnerError, Busy) as problem:
            gr.Warning(html.escape(str(problem) or "Too many are waiting. Try again in a moment."))
            return [gr.skip()] * 3
        visit = {**sound(visit), "person": ranked[0][0]}
        best = "\n".join(f"{people.called(at)}: {score:.3g}" for at, score in ranked[:5])
        return [visit, people_of(self.floor, entry, visit), gr.update(value=best, visible=True)]

    def file(self, visit: Visit, entry: str, suffix: str) -> list[str]:
        """The transcript as a file: its name and its text."""
        visit = sound(visit)
        turns = [turn for _, turn in visit["pair"]] if entry in self.floor.cast.pairs else visit["turns"]
        if suffix == ".txt":
            return [f"{entry}.txt", transcripts.markdown(turns)]
        return [f"{entry}.jsonl", transcripts.lines(turns)]

    def _stop(self, request: gr.Request) -> asyncio.Event:
        """What this visitor's Stop sets."""
        event = self.stops[str(request.session_hash)] = asyncio.Event()
        while len(self.stops) > MOST_VISITORS:
            self.stops.pop(next(iter(self.stops)))
        return event

    def halt(self, request: gr.Request) -> None:
        """Stop what is being said to this visitor."""
        if event := self.stops.get(str(request.session_hash)):
            event.set()


@dataclass(frozen=True)
class Set:
    """What the sliders say."""

    temperature: float
    seed: int
    alphas: tuple[float, ...]

    def of(self, persona: Persona, steered: bool) -> Decoding:
        """A persona's decoding so set; what is not steered keeps the weights that it has."""
        values = dict(zip(dials.alphas(persona.decoding), self.alphas, strict=False)) if steered else {}
        return visits.how_of(persona, self.temperature, values)


def work_of(talk: Conversation, text: str) -> Any:
    def work() -> Any:
        told = talk.tell(text)
        yield told
        return (yield from talk.persona.answer(told, talk.how, talk.seed))

    return work
