"""One dialogue as a script: who speaks, what each is told, which memory is drawn on, when it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from runner import memories, prompts
from runner.asking import Answer, Ask, Script, TooLong
from runner.cleaning import clean
from runner.files import Row, digest
from runner.memories import Choice, Rules
from runner.step import Prompt
from runner.steps.generate import _dialogue_stop as ends
from runner.steps.generate import _dialogue_told as told
from runner.steps.generate._dialogue_sides import CHOOSER, JUDGE, Setting, Side

PLACES = 28  # bits of a turn's own sample number: it and the attempts after it stay below 2**31


class Unusable(Exception):
    """A row that no dialogue can be made of; the text is the reason."""


@dataclass
class Talk:
    """A dialogue on its way. `name` tells it from all others of the step: its questions get answers of their own."""

    setting: Setting
    row: Row
    name: str
    turns: list[Row] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    silent: int = 0
    window: dict[str, int] = field(default_factory=dict)  # the most turns that each side is told

    def __post_init__(self) -> None:
        self.seed = f"{self.setting.step.params['seed']} {self.name}"
        self.memories = {
            side.role: memories.of_person(self.row[side.role], side.memory.of, f"{self.name}: {side.role}")
            for side in self.setting.sides.values()
            if side.memory
        }

    def script(self) -> Script[Row]:
        """Have the dialogue; returns what is added to its row. Raises Unusable before anything is asked."""
        self._check()
        self._open()
        ended = yield from self._turns()
        if ended != ends.SILENCE:
            yield from self._farewells()
        return {"turns": self.turns, "transcript": told.transcript(self.turns), "ended": ended, "scores": self.scores}

    def _check(self) -> None:
        for side in self.setting.sides.values():
            wanted = side.memory.first if side.memory else None
            if wanted and wanted not in self.memories[side.role]:
                raise Unusable(f"{side.role} has no memory '{wanted}'")

    # Turns

    def _open(self) -> None:
        """What is said without being asked for."""
        side = self.setting.first
        for one in (side, self.setting.sides[side.other]):
            if one.opener is None:
                return
            drawn = one.opener if isinstance(one.opener, str) else Random(f"{self.seed} opener").choice(one.opener)
            variables = {**self._variables(one), "texts": self.setting.step.texts}
            said = prompts.render(drawn, variables) if isinstance(one.opener, str) else drawn
            if not said.strip():
                raise Unusable("an empty opener")
            self._add(one, Choice(), said.strip())

    def _turns(self) -> Script[str]:
        """Turn after turn; returns why it came to an end."""
        stop = self.setting.stop
        while len(self.turns) < stop.turns:
            side = self._next()
            if not (yield from self._turn(side, side.reminder, remembers=True)):
                return ends.SILENCE
            if side.role == stop.of and len(self.turns) < stop.turns:
                yield from self._judge(side)
                if stop.by_score(self.scores):
                    return ends.SCORE
        return ends.TURNS

    def _farewells(self) -> Script[None]:
        """One of either side, for as long as the side whose turn it is has something to say."""
        for _ in self.setting.sides:
            side = self._next()
            if not side.goodbye or not (yield from self._turn(side, side.goodbye, remembers=False)):
                return

    def _next(self) -> Side:
        if not self.turns:
            return self.setting.first
        return self.setting.sides[self.setting.sides[self.turns[-1]["speaker"]].other]

    def _turn(self, side: Side, wrap: Prompt | None, remembers: bool) -> Script[bool]:
        """One turn of a side; False where it fell silent and the talk is over."""
        choice = (yield from self._choose(side)) if remembers and side.memory else Choice()
        said = yield from self._say(side, wrap, choice)
        self.silent = 0 if said else self.silent + 1
        self.counts["silent turns"] += not said
        said = said or self.setting.step.params["empty"].get("say", "")
        stop = self.setting.stop.silence
        if not said or (stop and self.silent >= stop):
            return False
        self._add(side, choice, said)
        return True

    def _add(self, side: Side, choice: Choice, said: str) -> None:
        turn = {"turn": len(self.turns), "speaker": side.role, "aspect": choice.aspect, "memory": choice.text}
        self.turns.append({**turn, "utterance": said})

    def _say(self, side: Side, wrap: Prompt | None, choice: Choice) -> Script[str]:
        """The next utterance, cleaned; asked for again where nothing is left of it. '' where that does not help."""
        variables = self._variables(side, memory=choice.text)
        for attempt in range(1 + self.setting.step.params["empty"]["again"]):
            answer: Answer = yield from self._answered(side, wrap, variables, attempt)
            self.counts[f"replies: {answer.finish}"] += 1
            said = "" if answer.finish == "content_filter" else self._clean(side, answer.text)
            if said:
                return said
            self.counts["empty replies"] += 1
        return ""

    def _answered(self, side: Side, wrap: Prompt | None, variables: dict[str, Any], attempt: int) -> Script[Answer]:
        """One answer; where the talk is longer than what the model can read, to the talk without its oldest turns."""
        while True:
            kept = self._kept(side)
            try:
                messages = told.messages(self.setting, side, wrap, variables, kept)
                answer: Answer = yield Ask(side.role, messages, self.sample + attempt, variables=variables)
                return answer
            except TooLong:
                if len(kept) < 2:
                    raise
                self.counts["turns told no more"] += 1
                self.window[side.role] = len(kept) - (2 if len(kept) % 2 else 1)  # so that it begins with the other

    def _clean(self, side: Side, text: str) -> str:
        rules = self.setting.step.params.get("clean", ())
        return clean(
            rules, text, (*self.setting.sides, *told.names(self.row, self.setting)), told.last(self.turns, side.other)
        )

    @property
    def sample(self) -> int:
        """A number for the questions of this turn, so that no other dialogue and no other turn shares their answers."""
        return int(digest([self.name, len(self.turns)])[:16], 16) % 2**PLACES << 3

    def _variables(self, side: Side, **more: str) -> dict[str, Any]:
        return {**told.variables(self.setting, self.row, self.turns, side), **more}

    def _kept(self, side: Side) -> list[Row]:
        """The turns that a side is told."""
        most = min(
            self.window.get(side.role, len(self.turns)), self.setting.step.params.get("last_turns", len(self.turns))
        )
        return self.turns[len(self.turns) - most :]

    # Memories and marks

    def _choose(self, side: Side) -> Script[Choice]:
        rule = side.memory
        assert rule, "a side without memories does not choose"
        own = [turn for turn in self.turns if turn["speaker"] == side.role]
        scored = self.setting.scored.get(side.role)

        def question(names: str) -> Ask:
            assert side.choose, "asked only where there is a prompt"
            variables = self._variables(side, choices=names)
            return Ask(
                f"{CHOOSER} {side.role}",
                told.question(self.setting, side.choose, variables),
                self.sample,
                variables=variables,
            )

        choice = yield from memories.choose(
            rule,
            self.memories[side.role],
            self.used,
            Random(f"{self.seed} memory {len(self.turns)}"),
            question if side.choose else None,
            scored(self._history(rule)) if scored else None,
            first=len(own) == (side.opener is not None),
        )
        self.counts[f"memory: {choice.how}"] += 1
        self.used += [choice.aspect] if choice.aspect else []
        return choice

    def _history(self, rule: Rules) -> str:
        """The talk as one text for what scores memories."""
        opened = sum(side.opener is not None for side in self.setting.sides.values())
        return memories.history(self.turns[0 if rule.opener else opened :], rule.history)

    def _judge(self, side: Side) -> Script[None]:
        """Ask for a score of what was just said; a reply without one counts for nothing."""
        stop, judge = self.setting.stop, self.setting.judge
        assert judge, "judged only where there is a prompt"
        variables = self._variables(side)
        messages = told.question(self.setting, judge, variables)
        answer: Answer = yield Ask(JUDGE, messages, self.sample, variables=variables)
        score = ends.read_score(answer.text, stop.low, stop.high)
        if score is None:
            self.counts["scores: unclear"] += 1
        else:
            self.scores.append(int(score) if score.is_integer() else score)
