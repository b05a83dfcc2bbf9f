"""The Batch API by the official client: a file of questions goes up, a batch is begun and waited for, its results come down.

Nothing is paid for twice: a file is sent first, and a batch is begun only where the file has none yet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal, TypeVar

import httpx2
from openai import APIError, NotFoundError, OpenAI
from openai.types import Batch

from runner import questions
from runner.chat import Message
from runner.endpoint import api_keys, fault_of, refusal
from runner.errors import ServiceError
from runner.service import Fault
from runner.step import Model

PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
FIRST_LOOK, LOOK = 2.0, 60.0  # seconds between looks at a batch, at first and at last
ENDED = ("completed", "expired", "cancelled")
LATEST = 1000  # batches of the account that are looked through for one whose id was lost
T = TypeVar("T")


class Gone(Exception):
    """The endpoint does not know a batch, or no longer holds its results."""


class Failed(Exception):
    """A batch that was not begun on; its text says why in one line."""


class BatchApi:
    """The files and batches of one models: entry, by its first key at its first address. It raises ServiceError.

    asked: the messages that no error may show.
    """

    def __init__(self, model: Model, say: Callable[[str], None], asked: Callable[[], list[Message]]) -> None:
        self.name, self.say, self._asked = model.name, say, asked
        self.url, self.key = questions.endpoints(model)[0], api_keys(model)[0]
        self._timeout, self._retries = model.entry.get("timeout", 120), model.entry.get("retries", 6)
        self._client = OpenAI(api_key=self.key, base_url=self.url, timeout=self._timeout, max_retries=self._retries)

    def send(self, content: bytes) -> str:
        """The id of a file of questions."""
        try:
            return self._try(lambda: self._client.files.create(file=("questions.jsonl", content), purpose="batch")).id
        except Gone as error:
            raise ServiceError(f"models.{self.name}: {self.url} has no Batch API. Leave batch: out.") from error

    def begin(self, file: str, fresh: bool) -> str:
        """The id of a file's batch, which is begun unless it has been; fresh: nobody can have begun it."""
        for attempt in range(self._retries + 1):
            known = None if fresh and not attempt else self._try(lambda: self._of_file(file))
            if known:
                return known
            try:
                return self._begun(file)
            except (APIError, httpx2.HTTPError) as error:
                fault = self._fault(error)
                if fault.sort not in ("again", "busy") or attempt == self._retries:
                    raise self.error(fault.reason) from error
                time.sleep(min(LOOK, fault.after or FIRST_LOOK * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _begun(self, file: str) -> str:
        once = self._client.with_options(max_retries=0).batches
        return once.create(input_file_id=file, endpoint=PATH, completion_window="24h").id

    def _of_file(self, file: str) -> str | None:
        latest = islice(self._client.batches.list(limit=100), LATEST)
        return next((batch.id for batch in latest if batch.input_file_id == file), None)

    def wait(self, number: str) -> Batch:
        """The batch, once it has ended. Raises Failed, Gone."""
        said, pause = "", FIRST_LOOK
        while True:
            batch = self._try(lambda: self._client.batches.retrieve(number))
            if batch.status == "failed":
                why = (batch.errors.data if batch.errors else None) or []
                fault = refusal(400, why[0].model_dump() if why else None, {"messages": self._asked()}, self.key)
                raise Failed(f"batch {number} has failed{fault.reason.removeprefix('HTTP 400')}")
            if batch.status != said:
                said, counts = batch.status, batch.request_counts
                done = f", {counts.completed} of {counts.total} answered" if counts and counts.total else ""
                self.say(f"{self.name}: batch {number} is {said.replace('_', ' ')}{done}")
            if batch.status in ENDED:
                return batch
            time.sleep(pause)
            pause = min(LOOK, pause * 1.5)

    def results(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The lines of a batch's answers, then of its errors. Raises Gone."""
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                yield from self._lines(file)

    def _lines(self, file: str) -> Iterator[dict[str, Any]]:
        try:
            with self._client.files.with_streaming_response.content(file) as response:
                for line in response.iter_lines():
                    held = json.loads(line) if line.strip() else {}
                    if not isinstance(held, dict):
                        raise self.error("results that are no JSON objects")
                    yield held
        except NotFoundError as error:
            raise Gone from error
        except ValueError as error:
            raise self.error("results that are not JSON") from error
        except (APIError, httpx2.HTTPError) as error:
            raise self.error(self._fault(error).reason) from error

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except NotFoundError as error:
            raise Gone from error
        except (APIError, httpx2.HTTPError) as error:
            raise self.error(self._fault(error).reason) from error

    def _fault(self, error: Exception) -> Fault:
        return fault_of(error, {"messages": self._asked()}, self.key, self._timeout)

    def error(self, reason: str) -> ServiceError:
        return ServiceError(f"models.{self.name}: {reason}. What is answered is kept: run again later.")

    def close(self) -> None:
        self._client.close()
