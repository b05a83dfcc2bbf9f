"""A conversation with a model in the terminal: streamed, trimmed to the context, and hard to break by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runner import chat, decoding
from runner.chat import Message
from runner.errors import StepError
from runner.models import Loaded
from runner.step import Decoding

HELP = "/reset forgets the conversation, /quit leaves (Ctrl-D too), Ctrl-C stops an answer.\n"
Wrap = Callable[[str], str]


def _as_typed(text: str) -> str:
    return text


def reply(
    loaded: Loaded, how: Decoding, messages: list[Message], seed: int, context: int | None = None
) -> Iterator[str]:
    """The next answer in pieces, the oldest turns left out where there is no room for it.

    Raises StepError where the last message alone leaves none.
    """
    room = min(context or loaded.context, loaded.context) - how.params["max_new_tokens"]
    return decoding.stream(loaded, chat.fit(loaded.tokenizer, messages, max(0, room)), how, seed)


def single(
    loaded: Loaded, how: Decoding, system: str | None, text: str, seed: int = 0, wrap: Wrap = _as_typed
) -> Iterator[str]:
    """The answer to one message, in pieces."""
    return reply(loaded, how, [*_opening(system), {"role": "user", "content": wrap(text)}], seed)


def session(
    loaded: Loaded,
    how: Decoding,
    system: str | None,
    read: Callable[[], str],
    write: Callable[[str], None],
    seed: int = 0,
    context: int | None = None,
    wrap: Wrap = _as_typed,
) -> list[Message]:
    """Talk until `/quit` or the end of what is read; returns the conversation as it stands.

    read: gives a line, raises EOFError at the end (as `input` does); write: takes text as it comes, line ends included;
    wrap: what the typed text becomes in the user's turn. Ctrl-C while an answer comes keeps what has come; elsewhere it
    goes through to the caller.
    """
    messages = _opening(system)
    while True:
        try:
            typed = read().strip()
        except EOFError:
            return messages
        if typed in ("/quit", "/exit"):
            return messages
        if typed == "/reset":
            messages = _opening(system)
            write("(The conversation begins anew.)\n")
        elif typed.startswith("/"):
            write(HELP)
        elif typed:
            messages = _turn(loaded, how, messages, wrap(typed), write, seed, context)


def _turn(
    loaded: Loaded,
    how: Decoding,
    messages: list[Message],
    text: str,
    write: Callable[[str], None],
    seed: int,
    context: int | None,
) -> list[Message]:
    """The conversation with one exchange more, or as it was where no answer came."""
    asked = [*messages, {"role": "user", "content": text}]
    said: list[str] = []
    try:
        for piece in reply(loaded, how, asked, seed, context):
            said.append(piece)
            write(piece)
    except KeyboardInterrupt:
        pass
    except StepError as error:
        write(f"({error})")
    write("\n")
    answer = "".join(said).strip()
    return [*asked, {"role": "assistant", "content": answer}] if answer else messages


def _opening(system: str | None) -> list[Message]:
    return [{"role": "system", "content": system}] if system else []
