"""What can be typed in a visit beside what is said: `/persona`, `/alpha` and the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import dials, transcripts
from runner.errors import StepError
from runner.problems import suggest

if TYPE_CHECKING:
    from runner.talk import Session

HELP = """\
/persona [name]     who answers: an entry under chat:; alone: who there is
/person [who]       the person: a number, an id or a name; alone: who there is
/match text         let the scorer choose the person whom this text suits
/decoding [name]    how answers are made: a name under decoding:; alone: how they are now
/alpha [name] 0.8   the weight of a steering model, or of all of them
/temperature 0.7    and so /top_p, /top_k, /min_p, /repetition_penalty, /max_new_tokens
/seed 1             another seed, other answers
/again              the last message once more, with the next seed
/more 5             so many turns of two who talk with each other; a number does the same, Enter is one
/save file          keep the conversation there: .md is for reading, anything else is JSON Lines
/reset              forget the conversation
/quit               leave (Ctrl-D too); Ctrl-C stops an answer
//text              say something that begins with /
"""
LISTED = 20  # people that are named at once


def obey(session: Session, typed: str) -> None:
    """Do what a command says; a line about it is written. Raises StepError where that cannot be done."""
    name, _, rest = typed.partition(" ")
    known = {**COMMANDS, **{key: _setting(key) for key in dials.TURNED if key != "stop"}}
    if name not in known:
        session.write(f"(No command /{name}.{suggest(name, known, 'There are')})\n")
        return
    said = known[name](session, rest.strip())
    if said:
        session.write(said if said.endswith("\n") else f"({said})\n")


def _persona(session: Session, rest: str) -> str:
    held = [*session.cast.entries, *session.cast.pairs]
    if not rest:
        now = session.talk.persona.name if session.talk else session.duet.pair.name if session.duet else ""
        return f"{now} answers. There are: {', '.join(held)}."
    name = session.cast.find(rest)
    session.meet(name)
    if session.duet:
        session.greet()
        return ""
    return f"{name} answers from now on."


def _person(session: Session, rest: str) -> str:
    talk = session.talk
    if talk is None or talk.persona.people is None:
        raise StepError("there is no person to choose here. Entries with person: have one.")
    people = talk.persona.people
    if rest:
        return f"{talk.choose(rest)} answers from now on."
    names = [f"{at + 1} {people.called(at)}" for at in range(min(LISTED, len(people.rows)))]
    more = f" … {len(people.rows)} in all" if len(people.rows) > LISTED else ""
    return f"{talk.called or 'Your first words decide who'} answers. There are: {', '.join(names)}{more}."


def _match(session: Session, rest: str) -> str:
    talk = session.talk
    if talk is None or talk.persona.people is None or talk.persona.people.score is None:
        raise StepError("nothing scores who fits here. Entries with person: {best_by: …} do.")
    if not rest:
        raise StepError("say who you are or what you need: /match I have lost my job.")
    ranked = ", ".join(f"{name} {score:.3g}" for name, score in talk.match(rest)[:5])
    return f"{talk.called} answers from now on. Best: {ranked}."


def _hows(session: Session) -> list[Any]:
    return session.duet.hows if session.duet else [session.talk.how] if session.talk else []


def _set(session: Session, change: Callable[[Any], Any]) -> str:
    """Change how answers are made, of both where two talk, and say how they are made now."""
    made = [change(how) for how in _hows(session)]
    if session.duet:
        session.duet.hows = made
    elif session.talk:
        session.talk.how = made[0]
    return "; ".join(dict.fromkeys(map(dials.shown, made)))


def _decoding(session: Session, rest: str) -> str:
    if not rest:
        known = ", ".join(session.cast.plan.recipe.names.section("decoding"))
        return f"{'; '.join(dict.fromkeys(map(dials.shown, _hows(session))))}. There are: {known}."
    if session.talk is None:
        raise StepError("two who talk with each other keep their own decodings.")
    session.talk.how = session.cast.decoding(session.talk.persona.name, rest)
    return dials.shown(session.talk.how)


def _alpha(session: Session, rest: str) -> str:
    name, _, value = rest.rpartition(" ")
    if not rest:
        return "; ".join(dict.fromkeys(map(dials.shown, _hows(session))))
    return _set(session, lambda how: dials.with_alpha(how, name.strip(), _number(value, "/alpha openness 0.8")))


def _setting(key: str) -> Callable[[Session, str], str]:
    def set_it(session: Session, rest: str) -> str:
        value = _number(rest, f"/{key} {1 if key in ('top_k', 'no_repeat_ngram', 'max_new_tokens') else 0.7}")
        return _set(session, lambda how: dials.turned(how, **{key: value}))

    return set_it


def _number(text: str, example: str) -> float | int:
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e9:
        raise StepError(f"'{text}' is no number. Such as: {example}")
    return value


def _seed(session: Session, rest: str) -> str:
    value = _number(rest, "/seed 1")
    if not isinstance(value, int):
        raise StepError(f"'{rest}' is no whole number. Such as: /seed 1")
    session.seed = value
    for held in (session.talk, session.duet):
        if held:
            held.seed = value
    return f"seed {value}"


def _again(session: Session, rest: str) -> str:
    _seed(session, str(session.seed + 1))
    if session.duet:
        session.duet.turns = session.duet.turns[:-1] or session.duet.turns
        session.more(1)
        return ""
    asked = session.unanswered or (session.talk.take_back() if session.talk else "")
    if not asked:
        raise StepError("there is nothing to answer again.")
    session.say(asked)
    return ""


def _more(session: Session, rest: str) -> str:
    if not session.duet:
        raise StepError("only two who talk with each other go on by themselves: an entry with between:.")
    if rest and not rest.isdecimal():
        raise StepError(f"'{rest}' is no number of turns. Such as: /more 5")
    session.more(int(rest) if rest else session.duet.pair.turns)
    return ""


def _save(session: Session, rest: str) -> str:
    if not rest:
        raise StepError("say where to: /save talk.md")
    path = Path(rest).expanduser()
    transcripts.write(path, session.records())
    return f"{path}: written, {len(session.records())} turns."


def _reset(session: Session, rest: str) -> str:
    for held in (session.talk, session.duet):
        if held:
            held.reset()
    if session.duet or (session.talk and session.talk.turns):
        session.write("(The conversation begins anew.)\n")
        session.greet()
        return ""
    return "The conversation begins anew."


COMMANDS: dict[str, Callable[[Session, str], str]] = {
    "help": lambda session, rest: HELP,
    "persona": _persona,
    "person": _person,
    "match": _match,
    "decoding": _decoding,
    "alpha": _alpha,
    "seed": _seed,
    "again": _again,
    "more": _more,
    "save": _save,
    "reset": _reset,
}
