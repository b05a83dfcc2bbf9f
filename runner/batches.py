"""An endpoint asked in batches: what waits at the same time goes into one file, is answered within a day, and costs less.

A chain's first turns are one batch, its second turns the next. Answers go into the cache of all answers. Batches on their
way are remembered beside it: by the file of their questions, before there is anything to pay, so that a killed run finds
them in any case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from runner import batch_api, questions
from runner.abilities import Shape, shaped, simpler
from runner.asking import Answer, Refused, Speakers, TooLong, Unanswered
from runner.batch_api import BatchApi, Failed, Gone
from runner.chat import Message
from runner.endpoint import read, refusal
from runner.files import dumps
from runner.replies import Reply
from runner.service import TOO_LONG, Fault, Question, answer_of
from runner.step import Model

AT_ONCE, BYTES = (
    20_000,
    150_000_000,
)  # lines and size of a file, which are held in memory; OpenAI takes 50,000 and 200 MB
Most = Mapping[str, tuple[int, float]]  # what is held of the budget for each question; None where another run held it


class Batches:
    """The batches of one models: entry. One thread uses it."""

    at_once = AT_ONCE

    def __init__(self, model: Model, speakers: Speakers, say: Callable[[str], None]) -> None:
        self.model, self.replies, self.spending = model, speakers.replies, speakers.spending
        self.api = BatchApi(model, say, self._messages)
        self._asked = f"{self.api.url} {model.entry['model']}"
        self._can, self._ours = f"can {questions.asked(model)[0]}", f"batch {self._asked} "
        self._shape, self._sure = Shape.remembered(self.replies.known(self._can)), False
        self._waiting: dict[str, tuple[Question, list[Future[Answer]]]] = {}

    def submit(self, question: Question) -> Future[Answer]:
        """The answer to come; at once where the cache holds it."""
        future: Future[Answer] = Future()
        reply = self.replies.get(*question.keys)
        if reply is not None:
            self.spending.cached += 1
            future.set_result(answer_of(reply))
        else:
            self._waiting.setdefault(question.keys[0], (question, []))[1].append(future)
        return future

    def flush(self) -> None:
        """Send what waits, unless a batch on its way holds it, and wait until there are answers."""
        count = len(self._waiting)
        while self._waiting and len(self._waiting) == count:
            mine = self._claimed()
            keys = {question.keys[0] for question in mine}
            known = self.replies.all_known(self._ours).items()
            found = {name: held for name, held in known if keys & {*held["keys"]}}  # of runs that have ended
            for name, held in found.items():
                self._take_in(name, held, None)
            if not found and not (mine and self._send(mine)):
                time.sleep(batch_api.FIRST_LOOK)  # another process asks these, or holds what is left of the budget

    def close(self, patience: float) -> None:
        """Batches on their way stay there: the next run takes their answers in."""
        self.api.close()

    def _messages(self) -> list[Message]:
        return [message for question, _ in self._waiting.values() for message in question.body["messages"]]

    def _claimed(self) -> list[Question]:
        """The questions that are ours to ask; those that another process has had answered get their answers."""
        mine = []
        for question, _ in list(self._waiting.values()):
            found = self.replies.claim(*question.keys)
            if not isinstance(found, bool):
                self.spending.cached += 1
                self._give(question, answer_of(found))
            elif found:
                mine.append(question)
        return mine

    def _send(self, mine: Sequence[Question]) -> bool:
        """Send as many as a file and the budget hold, and take their answers in; False where the budget holds none now."""
        lines: dict[str, bytes] = {}
        size = 0
        for question in mine[:AT_ONCE]:
            asked = shaped(question.body, question.ask.schema, self._shape)
            line = {"custom_id": question.keys[0], "method": "POST", "url": batch_api.PATH, "body": asked}
            written = (dumps(line) + "\n").encode()
            size += len(written)
            if (lines and size > BYTES) or not self.spending.hold(*question.most):
                break
            lines[question.keys[0]] = written
        if not lines:
            return False
        file = self.api.send(b"".join(lines.values()))
        held: dict[str, Any] = {"batch": None, "keys": list(lines)}
        self.replies.remember(self._ours + file, held)  # from here on it is found again
        held["batch"] = self.api.begin(file, fresh=True)
        self.replies.remember(self._ours + file, held)
        self.api.say(f"{self.model.name}: {len(lines)} questions are sent as batch {held['batch']}")
        self._take_in(self._ours + file, held, {key: self._waiting[key][0].most for key in lines})
        return True

    # Taking in

    def _take_in(self, name: str, held: dict[str, Any], most: Most | None) -> None:
        """Wait for a batch, and give what it answers."""
        here = [key for key in held["keys"] if key in self._waiting]
        faults: dict[str, Fault] = {}
        try:
            batch = self.api.wait(held["batch"] or self.api.begin(name.removeprefix(self._ours), fresh=False))
            for line in self.api.results(batch):
                if str(line.get("custom_id")) in self._waiting:
                    self._line(line, most, faults)
        except Failed as error:
            self.replies.remember(name, None)
            raise self.api.error(str(error)) from error
        except Gone as error:
            self.replies.remember(name, None)
            if most:
                raise self.api.error(f"batch {held['batch']} or its results are not there") from error
            self.api.say(f"{self.model.name}: batch {held['batch']} is not there any more, and is sent again")
            return
        for key in here:
            if key in self._waiting and key not in faults:
                faults[key] = Fault("again", f"batch {batch.id} is {batch.status} without it")
        # What another recipe has asked in it stays to be taken in
        left = [key for key in held["keys"] if key not in here and not self.replies.get(key)]
        self.replies.remember(name, {"batch": batch.id, "keys": left} if left else None)
        if len(faults) < len(here):
            self.replies.remember(self._can, self._shape.to_remember())
        self._fail(faults, most, len(faults) < len(here) or self.replies.has_any([self._asked]))

    def _line(self, line: dict[str, Any], most: Most | None, faults: dict[str, Fault]) -> None:
        """Give one answer, or note why there is none."""
        question, _ = self._waiting[line["custom_id"]]
        held = line.get("response")
        response = held if isinstance(held, dict) else {}
        status, body = response.get("status_code"), response.get("body")
        try:
            if status != 200:
                error = line.get("error") or (body.get("error") if isinstance(body, dict) else None)
                raise refusal(status if isinstance(status, int) else 408, error, question.body, self.api.key)
            reply = read(body, question.body)
        except Fault as fault:
            faults[question.keys[0]] = fault
            return
        self._keep(question, reply | {"request": response.get("request_id") or reply["request"]}, most)

    def _keep(self, question: Question, reply: Reply, most: Most | None) -> None:
        price = self.model.entry.get("price") or {"input": 0, "output": 0}
        cost = (reply["input"] * price["input"] + reply["output"] * price["output"]) / 1e6
        key = question.keys[0]
        self.replies.put(question.keys[questions.asked(self.model).index(self._asked)], self._asked, reply, key)
        self.spending.book(most[key] if most else None, reply["input"], reply["output"], cost)
        self._sure = self._sure or bool(question.ask.schema)
        self._give(question, replace(answer_of(reply), cached=False, cost=cost))

    def _give(self, question: Question, answer: Answer) -> None:
        _, (first, *others) = self._waiting.pop(question.keys[0])
        first.set_result(answer)
        for future in others:
            self.spending.cached += 1
            future.set_result(replace(answer, cached=True, cost=0.0))

    def _fail(self, faults: Mapping[str, Fault], most: Most | None, proved: bool) -> None:
        """Tell who asked; questions that were put in words which the endpoint does not know wait for the next batch."""
        shape, wrong = self._shape, None
        for key, fault in faults.items():
            question, futures = self._waiting[key]
            self.spending.book(most[key] if most else None, 0, 0, 0.0)
            sent = shaped(question.body, question.ask.schema, shape)
            other = simpler(sent, fault.told, fault.sort == "no", self._sure, shape)
            if other:
                self._shape = other
                continue
            wrong = wrong or fault
            del self._waiting[key]
            self.replies.release(key)
            for future in futures:
                future.set_exception(_unanswered(fault, proved))
        if wrong and not proved:
            raise self.api.error(f"no answer to {len(faults)} questions, the first: {wrong.reason}")


def _unanswered(fault: Fault, proved: bool) -> Unanswered:
    if fault.sort == "no" and proved:
        return TooLong(fault.reason) if TOO_LONG.search(f"{fault.reason} {fault.told}") else Refused(fault.reason)
    return Unanswered(fault.reason)
