"""Who answers: weights loaded here, or an endpoint. Terminal, page and API ask both in the same way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

from runner import chat, decoding, models
from runner.chat import Message
from runner.decoding import Ended
from runner.errors import StepError
from runner.models import Loaded
from runner.step import Decoding, Model, Prompt

Say = Callable[[str], None]
Pieces = Generator[str, None, Ended]


class Voice(Protocol):
    """`answer` gives the pieces of one answer and returns how it ended; closing the generator stops the work.

    at_once: how many answers it can make at the same time
    """

    at_once: int

    def answer(self, messages: Sequence[Message], how: Decoding, seed: int, variables: dict[str, Any]) -> Pieces: ...


class Here:
    """Weights of this machine; the oldest turns are left out where there is no room for them."""

    at_once = 1

    def __init__(self, model: Model, how: Decoding, root: Path, say: Say, context: int | None = None) -> None:
        self.model, self.root, self.say, self.context = model, root, say, context
        self._ready: dict[str, Loaded] = {}
        self.loaded(how)

    def loaded(self, how: Decoding) -> Loaded:
        """The model with what a decoding names beside it; weights that are in memory are shared."""
        if how.name not in self._ready:
            made = models.load([self.model], self.root, self.say, how.models, keep=True)
            self._ready[how.name] = made[0]
        return self._ready[how.name]

    @property
    def prompt(self) -> Prompt | None:
        """What the model's folder remembers of training."""
        return next(iter(self._ready.values())).prompt

    def _length(self, message: Message) -> int:
        tokenizer = next(iter(self._ready.values())).tokenizer
        return len(tokenizer(message["content"], add_special_tokens=False).input_ids)

    def answer(self, messages: Sequence[Message], how: Decoding, seed: int, variables: dict[str, Any]) -> Pieces:
        """Raises StepError where the last message alone leaves no room for an answer."""
        loaded = self.loaded(how)
        most = min(self.context or loaded.context, loaded.context)
        begun = [one for one in messages[-1:] if one["role"] == "assistant"]
        room = most - min(how.params["max_new_tokens"], most // 2) - sum(map(self._length, begun))
        fitting = [*chat.fit(loaded.tokenizer, messages[: len(messages) - len(begun)], max(0, room)), *begun]
        if len(chat.prompt_ids(loaded.tokenizer, fitting)) > most - 1:
            raise StepError(f"{loaded.name}: this message leaves no room in its context of {most} tokens. Shorten it.")
        return (yield from decoding.stream(loaded, fitting, how, seed, variables))


class Away:
    """A model behind an endpoint; its tokens are counted by guess, four characters to one."""

    at_once = 16

    def __init__(self, model: Model) -> None:
        from runner import endpoint, questions  # the client library alone takes a second to import

        self.model, self._endpoint, self._questions = model, endpoint, questions
        endpoint.api_keys(model)  # says at once that a key is missing

    def answer(self, messages: Sequence[Message], how: Decoding, seed: int, variables: dict[str, Any]) -> Pieces:
        """Raises ServiceError where the endpoint fails."""
        said = 0
        for piece in self._endpoint.stream(self.model, messages, how, seed):
            said += len(piece)
            yield piece
        tokens = -(-said // self._questions.CHARACTERS)
        full = tokens >= how.params["max_new_tokens"]
        return Ended(self._questions.size(list(messages)), tokens, "length" if full else "stop")


class Lazy:
    """A voice that is loaded when it is first heard."""

    at_once = 1

    def __init__(self, make: Callable[[], Voice]) -> None:
        self._make = make
        self._voice: Voice | None = None

    def answer(self, *asked: Any) -> Any:
        """As the voice answers."""
        self._voice = self._voice or self._make()
        return (yield from self._voice.answer(*asked))
