"""A visit in the terminal: answers streamed, commands between them, hard to break by hand, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from runner import commands, transcripts
from runner.chatting import Cast
from runner.conversation import Conversation
from runner.duet import Duet
from runner.errors import RunnerError
from runner.memories import Choice

SHORT = "/help shows what can be set, /quit leaves (Ctrl-D too), Ctrl-C stops an answer."


class Session:
    """A conversation, or two who talk with each other (`duet`).

    read: gives a line, raises EOFError at the end (as `input` does); write: takes text as it comes, line ends included;
    keep: where the conversation is kept after each turn.
    """

    def __init__(
        self,
        cast: Cast,
        entry: str,
        read: Callable[[], str],
        write: Callable[[str], None],
        seed: int = 0,
        keep: Path | None = None,
    ) -> None:
        self.cast, self.read, self.write, self.seed, self.keep = cast, read, write, seed, keep
        self.unanswered = ""
        self.duet: Duet | None = None
        self.talk: Conversation | None = None
        self.meet(entry)

    def meet(self, entry: str) -> None:
        """Whoever this entry is answers from now on; what was said with another one stays."""
        pair = self.cast.pairs.get(entry)
        if self.keep and bool(pair) != bool(self.duet) and self.records():  # another conversation begins
            self.keep = transcripts.fresh(self.cast.plan.root, self.cast.plan.recipe.label, entry)
        if pair:
            first, second = (self.cast.persona(name) for name in pair.between)
            self.duet, self.talk = Duet(pair, (first, second), self.seed), None
        elif self.talk:
            self.talk.become(self.cast.persona(entry))
        else:
            self.duet, self.talk = None, Conversation(self.cast.persona(entry), self.seed)

    def greet(self) -> None:
        """What stands before the first line that is read."""
        if self.duet:
            first, second = (self.duet.called(at) for at in (0, 1))
            self.write(f"({first} and {second} talk with each other. Enter: the next turn; a number: so many.)\n")
            self.write(f"{first}: {self.duet.turns[0][1].content}\n")
        elif self.talk and self.talk.turns:
            self.write(f"{self.talk.turns[0].content}\n")

    def run(self) -> None:
        """Talk until `/quit` or the end of what is read.

        Ctrl-C while an answer comes keeps what has come; twice at the prompt it goes through to the caller.
        """
        self.greet()
        leaving = False
        while True:
            try:
                typed = self.read().strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                if leaving:
                    raise
                leaving = True  # not the first time: that may have been meant for an answer that has just ended
                self.write("\n(Ctrl-C once more leaves, as Ctrl-D does.)\n")
                continue
            leaving = False
            if typed in ("/quit", "/exit"):
                return
            try:
                self._do(typed)
            except RunnerError as error:
                self.write(f"({error})\n")
            except KeyboardInterrupt:
                self.write("\n")

    def _do(self, typed: str) -> None:
        if typed.startswith("/") and not typed.startswith("//"):
            commands.obey(self, typed[1:])
        elif self.duet:
            self.more(int(typed) if typed.isdecimal() else 1)
        elif typed:
            self.say(typed.removeprefix("/") if typed.startswith("//") else typed)

    def single(self, text: str) -> None:
        """The answer to one message; of two who talk with each other all their turns, the message being the first."""
        if self.duet:
            self.duet.open_with(text)
            self.write(f"{self.duet.called(0)}: {text}\n")
            self.more(self.duet.pair.turns - 1)
        elif self.talk:
            self._stream(self.talk.answer(text))

    def say(self, text: str) -> None:
        """One exchange; an answer that does not come leaves the conversation as it was, and is `unanswered`."""
        assert self.talk is not None
        self.unanswered = text
        waits, told = self.talk.waits, self.talk.tell(text)
        if waits:
            self.write(f"({self.talk.called} answers.)\n")
        try:
            before = len(self.talk.turns)
            self._stream(self.talk.answer(text, told))
            self._show(told.memory, len(self.talk.turns) > before)
        finally:
            self.unanswered = text if len(self.talk.turns) == before else ""
            self._save()

    def more(self, count: int) -> None:
        """So many turns of the two who talk with each other."""
        assert self.duet is not None
        for _ in range(count):
            before = len(self.duet.turns)
            self.write(f"{self.duet.called(self.duet.at)}: ")
            try:
                self._stream(self.duet.next())
            finally:
                self._save()
            if len(self.duet.turns) == before:
                self._show(None, was_said=False)
                return
            self._show(self.duet.turns[-1][1].memory)

    def records(self) -> list[dict[str, object]]:
        """The conversation as rows of a transcript."""
        return (self.duet or self.talk or Empty).records()

    def _stream(self, pieces: Iterator[str]) -> None:
        try:
            for piece in pieces:
                self.write(shown(piece))
        finally:
            pieces.close()  # type: ignore[attr-defined]
        self.write("\n")

    def _show(self, memory: Choice | None, was_said: bool = True) -> None:
        if not was_said:
            self.write("(Nothing was said. /again asks once more, with another seed.)\n")
        if memory and memory.aspect:
            self.write(shown(f"(memory: {memory.aspect}: {memory.text})\n"))

    def _save(self) -> None:
        if self.keep and len(self.records()) > 1:
            transcripts.write(self.keep, self.records())


class Empty:
    """Nobody has said anything."""

    @staticmethod
    def records() -> list[dict[str, object]]:
        return []


def shown(text: str) -> str:
    """A model's words for a terminal: control characters, which could move the cursor or worse, are left out."""
    return "".join(letter for letter in text if letter in "\n\t" or letter.isprintable() or ord(letter) > 0x9F)
