"""How `generate` asks models. A script is a Python generator that yields questions and is sent the answers; `drive`
runs many of them at once, against endpoints and against weights loaded here alike.

A question that failed after all retries raises `Unanswered` inside its script. What the script returns is its result.
Whatever else a speaker raises (a budget that ran out, an endpoint that is plainly wrong) ends the whole drive.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from runner.files import canonical
from runner.replies import Replies
from runner.spending import Spending
from runner.step import Decoding, Model, Out, Step

Message = dict[str, str]
T = TypeVar("T")
CACHE = "cache/replies.sqlite"  # under artifacts/


@dataclass(frozen=True)
class Ask:
    """One question to one speaker.

    to:        which speaker: "model", or a role of a dialogue
    messages:  {role, content}; a last assistant message is a prefill: the answer goes on from it
    sample:    the n-th answer to the same question, part of its cache key and of its seed
    schema:    the JSON Schema that the answer is to have; loaded weights are held to it, endpoints are asked for it
    variables: for the prompts of other models that the decoding names
    """

    to: str
    messages: Sequence[Message]
    sample: int = 0
    schema: dict[str, Any] | None = None
    variables: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What was answered, without the prefill; why it ended; its tokens; whether the cache held it; US dollars paid."""

    text: str
    finish: str = "stop"  # stop, length or content_filter
    input: int = 0
    output: int = 0
    cached: bool = False
    cost: float = 0.0
    request: str | None = None


class Unanswered(Exception):
    """A question has no answer after all retries. Its text is one line without the question."""


class Refused(Unanswered):
    """An endpoint that answers others will not take this question: asking again would not help."""


class TooLong(Refused):
    """The question is longer than what the model can read: a shorter one may be answered."""


Asked = Ask | list[Ask]
Script = Generator[Asked, Any, T]


class Speaker(Protocol):
    """Who answers. `submit` returns at once; `flush` works on what is waiting where answers come in batches."""

    at_once: int  # how many questions keep it busy

    def submit(self, ask: Ask) -> Future[Answer]: ...
    def flush(self) -> None: ...
    def close(self, patience: float) -> None: ...  # seconds that questions on their way are waited for


def drive(
    scripts: Iterable[tuple[int, Script[T]]], speakers: Mapping[str, Speaker], at_once: int | Callable[[], int]
) -> Iterator[tuple[int, T | Unanswered]]:
    """Run scripts, `at_once` of them at a time (a number, or what says how many now), and give (number, result) as they end.

    A script is taken from the iterable when there is room for it, so memory does not grow with their number. A script
    that lets `Unanswered` pass ends with it as its result; any other error of a script or a speaker is raised here.
    """
    waiting = iter(scripts)
    answered: SimpleQueue[_Open[T]] = SimpleQueue()
    held: dict[int, _Open[T]] = {}
    more = True
    try:
        while True:
            while more and len(held) < (at_once if isinstance(at_once, int) else at_once()):
                found = next(waiting, None)
                if found is None:
                    more = False
                    break
                one = _Open(found[0], found[1], answered)
                held[id(one)] = one
                if one.go_on(speakers):
                    del held[id(one)]
                    yield one.number, one.result
            if not held:
                return
            if answered.empty():
                for speaker in {id(one): one for one in speakers.values()}.values():
                    speaker.flush()
            one = answered.get()
            if one.go_on(speakers):
                del held[id(one)]
                yield one.number, one.result
    finally:
        for one in held.values():
            one.script.close()


class _Open(Generic[T]):
    """A script on its way, and the answers that it waits for."""

    def __init__(self, number: int, script: Script[T], answered: SimpleQueue[_Open[T]]) -> None:
        self.number, self.script, self.answered = number, script, answered
        self.asked: Ask | list[Ask] | None = None
        self.futures: list[Future[Answer]] = []
        self.missing = 0
        self.result: T | Unanswered

    def go_on(self, speakers: Mapping[str, Speaker]) -> bool:
        """Send the answers in and put the next questions; whether the script has ended."""
        try:
            while True:
                self.asked = self._sent()
                asks = self.asked if isinstance(self.asked, list) else [self.asked]
                self.futures = [speakers[ask.to].submit(ask) for ask in asks]
                if self._wait():
                    return False
        except StopIteration as ended:
            self.result = ended.value
        except Unanswered as error:
            self.result = error
        return True

    def _sent(self) -> Ask | list[Ask]:
        """The script's next questions."""
        if self.asked is None:
            return next(self.script)
        try:
            answers = [future.result() for future in self.futures]
        except Unanswered as error:
            return self.script.throw(error)
        return self.script.send(answers if isinstance(self.asked, list) else answers[0])

    def _wait(self) -> bool:
        """Whether there is anything to wait for; the last answer puts this script into the queue."""
        if all(future.done() for future in self.futures):
            return False
        self.missing, lock = len(self.futures), Lock()

        def one_more(future: Future[Answer]) -> None:
            with lock:
                self.missing -= 1
                last = not self.missing
            if last:
                self.answered.put(self)

        for future in self.futures:
            future.add_done_callback(one_more)
        return True


class Speakers(dict[str, Speaker]):
    """Speakers by name, in a with statement; at its end what is on its way is still taken in, and all is closed."""

    def __init__(self, spending: Spending, replies: Replies) -> None:
        super().__init__()
        self.spending, self.replies = spending, replies

    @property
    def at_once(self) -> int:
        """So many scripts keep them busy."""
        return sum({id(one): one.at_once for one in self.values()}.values())

    def __enter__(self) -> Speakers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        patience = 2.0 if kind is not None and not issubclass(kind, Exception) else 600.0
        with ExitStack() as stack:  # where one cannot close, the others still do
            stack.callback(self.replies.close)
            for speaker in {id(one): one for one in self.values()}.values():
                stack.callback(speaker.close, patience)


def speakers(step: Step, out: Out, named: Mapping[str, tuple[Model, Decoding]] | None = None) -> Speakers:
    """Who a step asks, by name: endpoints, or weights that are loaded when the first question comes to them.

    named: a model and a decoding for each name; without it, "model" stands for the step's `model:` and `decoding:`. Names
    with the same model and decoding share one speaker. The step's `seed:` and `budget:` hold for all of them.
    Raises MachineError where a key is not in the environment.
    """
    asked = named or {"model": (step.models["model"][0], step.decodings["decoding"])}
    made = Speakers(Spending(step.params.get("budget") or {}), Replies(step.artifacts / CACHE))
    different: list[tuple[tuple[Model, Decoding], Speaker]] = []
    services: dict[str, Any] = {}
    for name, (model, decoding) in asked.items():
        known = next((speaker for pair, speaker in different if pair == (model, decoding)), None)
        if known is None and "endpoint" in model.entry:
            from runner import batches, endpoint

            service = services.get(canonical(model.entry))
            if service is None:
                batched = model.entry.get("batch")
                service = batches.Batches(model, made, out.log) if batched else endpoint.service(model, made)
            services[canonical(model.entry)] = service
            known = endpoint.Endpoint(service, decoding, step.params.get("seed", 0))
        elif known is None:
            from runner.decoding import _speaker

            known = _speaker.Local(model, decoding, step, out.log, made)
        different.append(((model, decoding), known))
        made[name] = known
    return made
