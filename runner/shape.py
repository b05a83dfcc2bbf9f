"""The shape of a recipe: the same verdict as the editor schema gives, in our own words and with places."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from runner.problems import ALL, Lost, Problems, near, suggest
from runner.schema import VERBS, document, kinds, modes, validator, verb_of
from runner.strict_yaml import Map, Seq
from runner.wording import Path, key_mark, leaves, say, show

_CLOSED = ("matrix", "like")  # decide which steps there are, so no ${…} may stand there


def check_document(doc: Map, problems: Problems, since: Map | None = None, before: Lost | None = None) -> Lost:
    """Check a whole recipe's shape; returns what of it cannot be used. In steps and decoding `${…}` may stand for any
    value: it is checked once filled in.

    `since` is the recipe that `doc` was patched from: what it shares with that is not checked again. Of a step that was
    wrong `before` only what was patched is.
    """
    lost = _outline(doc, problems)
    for section, held in document()["properties"].items():
        if held.get("x-names") and isinstance(doc.get(section), Map):
            lost |= {(section, name) for name in _names(doc, section, problems)}
    for section, check in _ENTRIES.items():
        for name, value in _entries(doc, section, since):
            if since and section == "steps" and (section, name) in (before or ()):
                check_filled(value, since["steps"][name], name, doc, problems)
            elif not check(value, name, doc, problems):
                lost.add((section, name))
    for path, turn in _turns(doc, since):
        if not _check("entry:prompt", turn, path, doc, problems, final=True):
            lost.add(("prompts", str(path[1])))
    return lost


def _outline(doc: Map, problems: Problems) -> Lost:
    """Check the file down to its entries, which have schemas of their own."""
    sections = document()["properties"]
    lost: Lost = {(section, ALL) for key in doc if key not in sections for section in near(key, sections)}
    for error in validator("document").iter_errors(doc):
        for leaf in leaves(error):
            section, name, *_ = (*leaf.absolute_path, ALL, ALL)
            lost |= {(str(section), str(name))} if section != ALL else set()
            for mark, message in say(leaf, doc, ()):
                problems.add(mark or doc.mark, message)
    return lost


def _check_model(value: Map, name: str, doc: Map, problems: Problems) -> bool:
    kind = "entry:endpoint" if "endpoint" in value else "entry:load"
    return _check(kind, value, ("models", name), doc, problems, final=True)


def without(doc: Map, lost: Lost) -> Map:
    """The recipe without what cannot be used, so that the rest of it can be checked."""
    made = Map(doc.mark)
    for section, held in doc.items():
        if (section, ALL) in lost:
            continue
        made.take(section, doc)
        if isinstance(held, Map) and any(name == section for name, _ in lost):
            kept = Map(held.mark)
            for name in held:
                if (section, name) not in lost:
                    kept.take(name, held)
                elif section == "steps" and (usable := _usable(held[name])):
                    kept.put(name, usable, held.keys_at[name], held.values_at[name])
            made[section] = kept
    return made


def _usable(step: Any) -> Map | None:
    """A step without the keys that are wrong, so that what its other keys name is checked; None where nothing can be."""
    verb = verb_of(step) if isinstance(step, Map) and "like" not in step else None
    if verb is None or step[verb] not in kinds(verb):
        return None
    wrong = set()
    for error in validator(f"step:{verb}/{step[verb]}").iter_errors(step):
        known = error.schema.get("properties", {})
        strangers = [key for key in step if key not in known] if error.validator == "additionalProperties" else []
        wrong |= {str(error.absolute_path[0])} if error.absolute_path else set(strangers)
    made = Map(step.mark)
    for key in step:
        if key not in wrong:
            made.take(key, step)
    return made if "matrix" not in wrong else None


def _entries(doc: Map, section: str, since: Map | None) -> Iterator[tuple[str, Map]]:
    """The mappings of a section that are not the same as before."""
    held, before = doc.get(section), since.get(section) if since else None
    for name, value in held.items() if isinstance(held, Map) else ():
        if isinstance(value, Map) and not (isinstance(before, Map) and before.get(name) is value):
            yield name, value


def _turns(doc: Map, since: Map | None) -> Iterator[tuple[Path, Map]]:
    """The prompts, and the turns of those that are chains."""
    for name, value in _entries(doc, "prompts", since):
        yield ("prompts", name), value
    held = doc.get("prompts")
    for name, value in held.items() if isinstance(held, Map) else ():
        for place, turn in enumerate(value) if isinstance(value, Seq) else ():
            if isinstance(turn, Map):
                yield ("prompts", name, place), turn


def _names(doc: Map, section: str, problems: Problems) -> Iterator[str]:
    """The keys of a section that are no names, each of them a problem."""
    for name in doc[section]:
        if not is_name(name):
            message = f"{section}.{name}: not a name. Use letters, digits, - and _, a letter first."
            problems.add(doc[section].keys_at[name], message)
            yield name


def is_name(name: str) -> bool:
    """Letters, digits, - and _, a letter first."""
    return name[:1].isascii() and name[:1].isalpha() and all(c.isascii() and (c.isalnum() or c in "-_") for c in name)


def check_chat(value: Map, name: str, doc: Map, problems: Problems) -> bool:
    """An entry has a model and a decoding, or two others that talk with each other and no key of its own beside that."""
    entry, where = document()["properties"]["chat"]["additionalProperties"], f"chat.{name}"
    before, pair = problems.count, "between" in value
    missing = [] if pair else [key for key in entry["x-either"]["else"]["required"] if key not in value]
    for key in missing:
        if not any(suggest(other, [key]).startswith(" Did") for other in value if other not in entry["properties"]):
            problems.add(
                key_mark(doc, ("chat", name)),
                f"{where}: needs '{key}'. {entry['properties'][key]['description']}",
            )
    for key in (key for key in value if key in entry["x-either"]["then" if pair else "else"]["properties"]):
        if pair:
            said = f"{where}.{key}: between: lets two entries talk as they are. Write it in the two entries."
        else:
            said = f"{where}.{key}: only two entries that talk take turns. It goes with between:. Remove it."
        problems.add(value.keys_at[key], said)
    return not missing and problems.count == before


def check_decoding(value: Map, path: Path, doc: Map, problems: Problems, final: bool = False) -> bool:
    """Check one entry of decoding: by the schema of its mode."""
    mode, known = value.get("mode"), modes()
    if isinstance(mode, str) and mode in known:
        return _check(f"mode:{mode}", value, path, doc, problems, final)
    where = ".".join(map(str, path))
    if "mode" not in value:
        problems.add(key_mark(doc, path), f"{where}: needs 'mode'. One of: {', '.join(known)}.")
    else:
        message = f"{where}.mode: {show(mode)} is no decoding mode.{suggest(str(mode), known)}"
        problems.add(value.values_at["mode"], message)
    return False


def check_step(value: Map, name: str, doc: Map, problems: Problems) -> bool:
    """Check one step by the fragment of its kind. A step with `like:` is checked once it has the other step's keys."""
    if "like" in value:
        if not isinstance(value["like"], str):
            said = f"{show(value['like'])} is not the name of a step. Name one."
            problems.add(value.values_at["like"], f"steps.{name}.like: {said}")
        return isinstance(value["like"], str)
    verb = _verb(value, name, doc, problems)
    if verb is None:
        return False
    kind, known = value[verb], kinds(verb)
    if not isinstance(kind, str) or kind not in known:
        said = f"{show(kind)} is no kind of {verb}."
        said += suggest(str(kind), known, "Kinds") or " No kind exists yet."
        problems.add(value.values_at[verb], f"steps.{name}.{verb}: {said}")
        return False
    return _check(f"step:{verb}/{kind}", value, ("steps", name), doc, problems, final=False)


def _verb(value: Map, name: str, doc: Map, problems: Problems) -> str | None:
    """The one verb of a step; None, and a problem, where it has none or several."""
    verbs = [verb for verb in value if verb in VERBS]
    if len(verbs) == 1:
        return verbs[0]
    near = [key for key in value if suggest(key, VERBS, cutoff=0.75).startswith(" Did")]
    if verbs:
        message = f"steps.{name}: two verbs, {' and '.join(verbs[:2])}. Make two steps of it."
        problems.add(value.keys_at[verbs[1]], message)
    elif near:
        problems.add(value.keys_at[near[0]], f"steps.{name}: unknown key '{near[0]}'.{suggest(near[0], VERBS)}")
    else:
        message = f"steps.{name}: no verb. Begin with one of: {', '.join(VERBS)}."
        problems.add(key_mark(doc, ("steps", name)), message)
    return None


_ENTRIES = {
    "models": _check_model,
    "decoding": lambda value, name, doc, problems: check_decoding(value, ("decoding", name), doc, problems),
    "steps": check_step,
    "chat": check_chat,
}


def check_filled(filled: Map, written: Map, name: str, doc: Map, problems: Problems) -> bool:
    """Check those keys of a step that ${…} changed, now that it is filled in."""
    changed = Map(filled.mark)
    for key in filled:
        if filled[key] is not written.get(key):
            changed.take(key, filled)
    verb = verb_of(filled)
    if not changed or not verb or _fits(f"part:{verb}/{filled[verb]}", json.dumps(changed)):
        return True
    return _check(f"part:{verb}/{filled[verb]}", changed, ("steps", name), doc, problems, final=True)


@lru_cache(maxsize=10_000)
def _fits(name: str, value: str) -> bool:
    """Whether a value, as JSON, has the right shape; the many steps of a matrix share most of theirs."""
    return validator(name).is_valid(json.loads(value))


def _check(name: str, value: Map, path: Path, doc: Map, problems: Problems, final: bool) -> bool:
    fine = True
    for error in validator(name).iter_errors(value):
        for leaf in leaves(error):
            if not final and _is_open(leaf.instance, leaf.absolute_path):
                continue
            fine = False
            for mark, message in say(leaf, value, path):
                problems.add(mark or key_mark(doc, path), message)
    return fine


def _is_open(value: Any, path: Any) -> bool:
    """Whether a text still has a ${…} to be filled in."""
    return isinstance(value, str) and "${" in value and not (path and path[0] in _CLOSED)
