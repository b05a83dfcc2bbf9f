"""One endpoint at work in a thread of its own: what is known is not asked again, what fails is tried again, limits hold."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

from runner import questions
from runner.abilities import Shape, shaped, simpler
from runner.asking import Answer, Ask, Refused, TooLong, Unanswered
from runner.errors import RunnerError, ServiceError
from runner.lanes import Lane, Lanes
from runner.replies import Replies, Reply
from runner.spending import Spending
from runner.step import Model

AT_FIRST = 3  # so many questions without an answer, and none with one: the endpoint is plainly wrong
IN_A_ROW = 20  # so many later on: it is out of order
FOREVER = 900.0  # seconds that a server may ask us to wait
BUSY_TRIES = 20
FIRST_PAUSE = 0.5  # seconds before a question is asked again; twice as long each time
LONGEST = 60.0
TOO_LONG = re.compile(
    r"context[_ ](length|window|size)|too long|too many tokens|maximum (input|prompt) length", re.IGNORECASE
)


@dataclass
class Fault(Exception):
    """Why a request has no answer. sort: busy (too much at a time), again, no (this question never), stop."""

    sort: str
    reason: str
    after: float | None = None
    told: str = ""  # what the server said, to find out which parameter it does not know; shown to nobody
    slow: bool = False  # a sign of too much at a time as well


Send = Callable[[Lane, dict[str, Any], str], Awaitable[Reply]]


@dataclass(frozen=True)
class Question:
    """A request, the keys that its answer may be under, and what it may cost at most."""

    ask: Ask
    body: dict[str, Any]
    keys: list[str]
    tokens: int
    most: tuple[int, float]


class Service:
    """The endpoint of one models: entry. `submit` may be called from any thread; `send` is given to it."""

    def __init__(self, model: Model, lanes: Lanes, send: Send, replies: Replies, spending: Spending) -> None:
        self.model, self.lanes, self.replies, self.spending = model, lanes, replies, spending
        self.at_once = lanes.most * 2
        self._send = send
        self._waiting: dict[str, list[Future[Answer]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: RunnerError | None = None
        self._failures = 0
        self._proved = replies.has_any(questions.asked(model))
        self._can = f"can {questions.asked(model)[0]}"
        known = replies.known(self._can)
        self._shape, self._sure = Shape.remembered(known), False  # sure: an answer came to a request put like this
        self._retries, self._timeout = model.entry.get("retries", 6), model.entry.get("timeout", 120)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"endpoint {model.name}", daemon=True)
        self._thread.start()

    # From the thread that asks

    def submit(self, question: Question) -> Future[Answer]:
        """The answer to come; at once where the cache holds it."""
        future: Future[Answer] = Future()
        reply = self.replies.get(*question.keys)
        if reply is not None:
            self.spending.cached += 1
            future.set_result(answer_of(reply))
        else:
            self._loop.call_soon_threadsafe(self._take_in, question, future)
        return future

    def flush(self) -> None:
        """Nothing: questions are sent as they come."""

    def close(self, patience: float) -> None:
        """Nothing more is sent; what is on its way is waited for, so that nothing paid for is lost. May be called twice."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._finish(patience), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    # In its own thread

    async def _finish(self, patience: float) -> None:
        self._stop(ServiceError(f"models.{self.model.name}: closed."))
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=min(patience, self._timeout + 5))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        for client in {id(lane.client): lane.client for lane in self.lanes.lanes}.values():
            await client.close()

    def _stop(self, error: RunnerError) -> None:
        if self._stopped is None:
            self._stopped = error
            self.lanes.end(error)

    def _take_in(self, question: Question, future: Future[Answer]) -> None:
        key = question.keys[0]
        if self._stopped:
            future.set_exception(self._stopped)
        elif key in self._waiting:  # asked at this moment: one answer for both
            self._waiting[key].append(future)
        else:
            self._waiting[key] = [future]
            task = self._loop.create_task(self._answer(question))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        """Whatever ended a question without an answer goes to who asked it."""
        self._tasks.discard(task)
        left = self._waiting.pop(key, [])
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for future in left:
            future.set_exception(error or RuntimeError("no answer"))

    async def _answer(self, question: Question) -> None:
        pause = 0.05
        while (found := self.replies.claim(*question.keys)) is False:  # another process asks the same
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 1.5)
            if self._stopped:
                raise self._stopped
        if not isinstance(found, bool):
            self.spending.cached += 1
            self._give(question, answer_of(found))
            return
        try:
            reply, cost = await self._asked(question)
        except BaseException:
            self.replies.release(question.keys[0])
            raise
        self._give(question, replace(answer_of(reply), cached=False, cost=cost))

    def _give(self, question: Question, answer: Answer) -> None:
        first, *others = self._waiting.pop(question.keys[0])
        first.set_result(answer)
        for future in others:
            self.spending.cached += 1
            future.set_result(replace(answer, cached=True, cost=0.0))

    async def _asked(self, question: Question) -> tuple[Reply, float]:
        """Ask until there is an answer, or no sense in it. Raises Unanswered, or what stops everything."""
        tries = busy = 0
        while True:
            lane = await self.lanes.take(question.tokens)
            epoch, took = lane.epoch, 0.0
            try:
                reply, cost = await self._put(lane, question)
                took = reply["input"] + reply["output"] - question.tokens
                lane.went_well()
                return reply, cost
            except Fault as fault:
                if fault.sort == "busy" or fault.slow:
                    lane.slow(epoch, fault.after)
                busy, tries = (busy + 1, tries) if fault.sort == "busy" else (busy, tries + 1)
                self._judge(fault, tries, busy)
                pause = self._pause_after(fault, tries, busy)
            finally:
                self.lanes.give(lane, took)
            await self._pause(pause)

    def _pause_after(self, fault: Fault, tries: int, busy: int) -> float:
        """Seconds before the same question is put again; where a lane has to wait, another may take it at once."""
        if fault.after is not None:
            return 0.0 if fault.sort == "busy" else fault.after
        longest: float = FIRST_PAUSE * 2 ** (max(tries, min(busy, 8)) - 1)
        return min(LONGEST, longest) * random.uniform(0.5, 1)

    async def _put(self, lane: Lane, question: Question) -> tuple[Reply, float]:
        """One question, put otherwise for as long as the endpoint does not know how; what it knows is remembered."""
        shape, schema = self._shape, question.ask.schema
        while True:
            body = shaped(question.body, schema, shape)
            try:
                reply, cost = await self._sent(lane, body, question)
            except Fault as fault:
                sure = self._sure and shape == self._shape
                other = simpler(body, fault.told, fault.sort == "no", sure, shape)
                if other is None:
                    raise
                shape = other
                continue
            self._proved, self._failures = True, 0
            if shape != self._shape or (schema and not self._sure):
                self._shape, self._sure = shape, self._sure or bool(schema)
                self.replies.remember(self._can, shape.to_remember())
            return reply, cost

    async def _sent(self, lane: Lane, body: dict[str, Any], question: Question) -> tuple[Reply, float]:
        """One request: within the budget, and its answer kept."""
        while not self._held(question):
            await self._pause(0.02)
        cost, reply = 0.0, {"input": 0, "output": 0}
        try:
            reply = await self._send(lane, body, question.keys[0])
            price = self.model.entry.get("price") or {"input": 0, "output": 0}
            cost = (reply["input"] * price["input"] + reply["output"] * price["output"]) / 1e6
            names = questions.asked(self.model)
            place = names.index(f"{lane.url} {self.model.entry['model']}")
            self.replies.put(question.keys[place], names[place], reply, question.keys[0])
        finally:
            self.spending.book(question.most, reply["input"], reply["output"], cost)
        return reply, cost

    def _held(self, question: Question) -> bool:
        try:
            return self.spending.hold(*question.most)
        except ServiceError as error:
            self._stop(error)
            raise

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past the end of everything."""
        end = self._loop.time() + seconds
        while (left := end - self._loop.time()) > 0:
            if self._stopped:
                raise self._stopped
            await asyncio.sleep(min(left, 0.25))

    def _judge(self, fault: Fault, tries: int, busy: int) -> None:
        """Raise where it makes no sense to ask this again, or to ask anything."""
        name = f"models.{self.model.name}"
        if fault.sort == "stop" or (fault.after or 0) > FOREVER:
            wait = f" It asks to wait for {fault.after:.0f} s." if fault.after else ""
            error = ServiceError(f"{name}: {fault.reason}.{wait} What is answered is kept: run again later.")
            self._stop(error)
            raise error
        if fault.sort != "no" and tries <= self._retries and busy <= BUSY_TRIES:
            return
        if fault.sort == "no" and TOO_LONG.search(f"{fault.reason} {fault.told}"):
            raise TooLong(fault.reason)
        self._failures += 1
        if fault.sort == "no" and self._proved and self._failures < IN_A_ROW:
            raise Refused(fault.reason)
        if self._failures >= (IN_A_ROW if self._proved else AT_FIRST):
            said = f"no answer to {self._failures} questions one after another, the last: {fault.reason}"
            error = ServiceError(f"{name}: {said}. Mend that and run again: what is answered is kept.")
            self._stop(error)
            raise error
        raise Unanswered(fault.reason)


def answer_of(reply: Reply) -> Answer:
    """A kept answer."""
    return Answer(reply["text"], reply["finish"], reply["input"], reply["output"], True, 0.0, reply.get("request"))
