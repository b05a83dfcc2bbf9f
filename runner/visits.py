"""What the chat page does, without its looks: a visit is JSON that lies in the visitor's browser, and each answer is made
from it. Nothing of a talk stays on the server."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from runner import dials
from runner.chatting import Pair
from runner.conversation import Conversation, Said
from runner.decoding import Ended
from runner.desk import Desk
from runner.duet import Duet
from runner.persona import Persona, Told
from runner.step import Decoding

Visit = dict[str, Any]  # {"turns": [...], "beside": [...], "pair": [[side, turn], …], "person": number or None}
Chat = list[dict[str, Any]]  # what the page shows: {role, content}


def fresh() -> Visit:
    """A visit that begins."""
    return {"turns": [], "beside": [], "pair": [], "person": None}


def how_of(persona: Persona, temperature: float, alphas: dict[str, float]) -> Decoding:
    """The persona's decoding with what the page's sliders say, where it has that."""
    how = persona.decoding
    if dials.temperature(how) not in (None, temperature):
        how = dials.turned(how, temperature=temperature)
    for name, value in alphas.items():
        how = dials.with_alpha(how, name, value)
    return how


def talk_of(visit: Visit, key: str, persona: Persona, how: Decoding, seed: int) -> Conversation:
    """The conversation of a visit, with this persona from now on."""
    talk = Conversation(persona, seed)
    talk.how = how
    if visit[key]:
        talk.turns = [Said.read(turn) for turn in visit[key]]
    if persona.people and visit["person"] is not None:
        talk.person, talk.waits = min(visit["person"], len(persona.people.rows) - 1), False
    return talk


def duet_of(visit: Visit, pair: Pair, sides: tuple[Persona, Persona], seed: int, opener: str = "") -> Duet:
    """The talk of two as the visit holds it, or a new one; finding out who suits whom takes a while then."""
    if visit["pair"]:
        duet = Duet(pair, sides, seed, visit["person"])
        duet.turns = [(at, Said.read(turn)) for at, turn in visit["pair"]]
        return duet
    duet = Duet(pair, sides, seed)
    if opener:
        duet.open_with(opener)
    return duet


def with_duet(visit: Visit, duet: Duet) -> Visit:
    """The visit with the talk of two as it stands now."""
    turns = [(at, {**said.record(), "persona": duet.called(at)}) for at, said in duet.turns]
    return {**visit, "pair": turns, "person": duet.people}


def shown(turns: list[Said]) -> Chat:
    """Turns for the page."""
    return [_message(turn, turn.role) for turn in turns]


def growing(turns: list[Said], text: str, told: Told | None, so_far: str) -> Chat:
    """Turns with an exchange that is not at its end."""
    memory, passages = (told.memory, told.passages) if told else (None, {})
    return shown([*turns, Said("user", text), Said("assistant", so_far or "…", memory, passages)])


def shown_pair(turns: list[tuple[int, dict[str, Any]]]) -> Chat:
    """Two who talk: the first on the right, where the visitor's words stand else."""
    roles = ("user", "assistant")
    return [_message(Said.read(turn), roles[at], str(turn.get("persona", ""))) for at, turn in turns]


def _message(turn: Said, role: str, name: str = "") -> dict[str, Any]:
    """A turn; what it was made with stands under it, in small print."""
    content = plain(f"{name}: {turn.content}" if name else turn.content)
    if turn.memory and turn.memory.aspect:
        content += f'<div class="memory">memory, {plain(turn.memory.aspect)}: {plain(turn.memory.text)}</div>'
    for variable, text in turn.passages.items():
        if text:
            content += f'<details class="memory"><summary>{plain(variable)}</summary>{plain(text)}</details>'
    return {"role": role, "content": content}


def plain(text: str) -> str:
    """Text for a component that shows HTML: every sign of it is what it looks like, and control characters are seen."""
    seen = "".join(one if one in "\n\t" or ord(one) >= 32 else chr(0x2400 + ord(one)) for one in text)
    return html.escape(seen, quote=False)


async def said(
    desk: Desk, work: Callable[[], Generator[Told | str, None, Ended]], stop: asyncio.Event
) -> AsyncIterator[tuple[Told | None, str, str]]:
    """(told, text so far, how it ended) as an answer grows; how is '' until then, and 'stopped' where the visitor wished so."""
    pieces = desk.pieces(work)
    told: Told | None = None
    text = ""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                yield told, text, "stopped"
                return
            piece = coming.result()
            if isinstance(piece, Ended):
                yield told, text, piece.finish
                return
            if isinstance(piece, Told):
                told = piece
            else:
                text += piece
            yield told, text, ""
    finally:
        stopped.cancel()
        await pieces.aclose()  # type: ignore[attr-defined]
