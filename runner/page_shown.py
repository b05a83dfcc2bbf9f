"""What the controls of the chat page show for an entry and a visit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from runner import dials, visits
from runner.conversation import Said
from runner.visits import Visit

if TYPE_CHECKING:
    from runner.serving import Floor

MOST_ALPHAS = 8  # sliders


def chats(floor: Floor, visit: Visit, entry: str) -> list[Any]:
    """Both talks of a visit: the persona's, and the one beside it."""
    if entry in floor.cast.pairs:
        return [visits.shown_pair(visit["pair"]), []]
    persona = floor.personas[entry]
    talk = visits.talk_of(visit, "turns", persona, persona.decoding, 0)
    return [visits.shown(talk.turns), visits.shown([Said.read(turn) for turn in visit["beside"]])]


def controls(floor: Floor, entry: str, visit: Visit) -> list[Any]:
    """Updates of: person, match, matched, temperature, more, side by side, the alphas."""
    persona = floor.personas.get(entry)
    people = persona.people if persona else None
    scored = bool(people and people.score)
    alphas = dials.alphas(persona.decoding) if persona else {}
    heat = dials.temperature(persona.decoding) if persona else None
    sliders = [
        gr.update(
            visible=True, label=f"alpha {name}".strip(), value=value, minimum=min(-2, value), maximum=max(4, value)
        )
        for name, value in alphas.items()
    ]
    hidden = [gr.update(visible=False)] * (MOST_ALPHAS - len(sliders))
    return [
        people_of(floor, entry, visit),
        gr.update(visible=scored),
        gr.update(visible=False),
        gr.update(visible=heat is not None, value=heat or 0),
        gr.update(visible=persona is None),
        gr.update(visible=persona is not None),
        *sliders[:MOST_ALPHAS],
        *hidden,
    ]


def people_of(floor: Floor, entry: str, visit: Visit) -> Any:
    """An update of the drop-down of people."""
    persona = floor.personas.get(entry)
    people = persona.people if persona else None
    if people is None:
        return gr.update(visible=False, choices=[], value=None)
    choices: list[tuple[str, int]] = [(people.called(at), at) for at in range(len(people.rows))]
    if people.score:
        choices.insert(0, ("whoever suits your first words", -1))
    held = visit["person"]
    value = held if held is not None else -1 if people.score else people.at_first(0)
    return gr.update(visible=True, choices=choices, value=value)


def sound(visit: Any) -> Visit:
    """A visit as the browser had it; one that is none begins anew."""
    made = visits.fresh()
    return {**made, **visit} if isinstance(visit, dict) and set(visit) == set(made) else made
