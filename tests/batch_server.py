"""The loopback server of tests/server.py with files and batches: what is asked in a batch is answered as if it were asked at once."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.server import Server, error, http

Held = dict[str, Any]


@dataclass
class BatchServer(Server):
    """A batch takes `looks` looks until it has ended, as `ends`: completed, expired, cancelled or failed.

    done: the share of its lines that are answered; lost: the answers to so many creations never arrive; why: what a batch
    that fails says; results: what stands in place of them; hidden: ids of files and batches that are not known any more.
    """

    looks: int = 1
    ends: str = "completed"
    done: float = 1.0
    lost: int = 0
    why: str = "Too many tokens."
    results: str = ""
    hidden: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Held] = field(default_factory=dict)

    async def answer(self, path: str, headers: dict[str, str], content: bytes) -> bytes | None:
        path = path.removeprefix("/v1").partition("?")[0]
        if path == "/files":
            return self._taken(headers["content-type"], content)
        if path == "/batches":
            return await self._begun(json.loads(content)) if content else self._listed()
        kind, _, name = path.strip("/").partition("/")
        name = name.removesuffix("/content")
        if kind in ("files", "batches") and (name in self.hidden or name not in {**self.files, **self.batches}):
            return error(404, "No such object.")
        if kind == "files":
            return http(200, self.files[name], {"Content-Type": "application/jsonl"})
        if kind == "batches":
            return http(200, json.dumps(await self._looked(self.batches[name])).encode())
        return await super().answer(path, headers, content)

    def _taken(self, kind: str, content: bytes) -> bytes:
        boundary = re.search(r"boundary=([^;]+)", kind)
        assert boundary
        parts = content.split(b"--" + boundary[1].encode())
        body = next(part for part in parts if b'name="file"' in part).partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        name = f"file-{len(self.files) + 1}"
        self.files[name] = body
        held = {
            "id": name,
            "object": "file",
            "bytes": len(body),
            "created_at": 0,
            "filename": "q",
            "status": "processed",
        }
        return http(200, json.dumps({**held, "purpose": "batch"}).encode())

    async def _begun(self, asked: Held) -> bytes | None:
        name = f"batch_{len(self.batches) + 1}"
        held = {"id": name, "object": "batch", "created_at": len(self.batches), "status": "validating", "looks": 0}
        self.batches[name] = {**held, **asked}
        if self.lost:
            self.lost -= 1
            return None
        return http(200, json.dumps(self.batches[name]).encode())

    def _listed(self) -> bytes:
        held = [batch for name, batch in reversed(self.batches.items()) if name not in self.hidden]
        return http(200, json.dumps({"object": "list", "data": held, "has_more": False}).encode())

    async def _looked(self, batch: Held) -> Held:
        """The batch as it is now; at the last look it is worked on."""
        batch["looks"] += 1
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if batch["looks"] > self.looks:
                await self._work(batch, lines)
        batch["request_counts"] = {"total": len(lines), "completed": batch.get("answers", 0), "failed": 0}
        return batch

    async def _work(self, batch: Held, lines: list[Held]) -> None:
        batch["status"] = self.ends
        if self.ends == "failed":
            batch["errors"] = {
                "object": "list",
                "data": [{"code": "token_limit_exceeded", "message": self.why}],
            }
            return
        good: list[Held] = []
        bad: list[Held] = []
        for at, line in enumerate(lines):
            if at >= self.done * len(lines):
                if self.ends == "expired":
                    bad.append({"custom_id": line["custom_id"], "response": None, "error": {"code": "batch_expired"}})
                continue
            self.requests += 1
            self.bodies.append(line["body"])
            refused = self.refuse(line["body"], "")
            whole = error(*refused) if refused else await self._answered(line["body"], "", 0)
            assert whole
            head, _, content = whole.partition(b"\r\n\r\n")
            status = int(head.split()[1])
            response = {"status_code": status, "request_id": f"req-{self.requests}", "body": json.loads(content)}
            (good if status == 200 else bad).append(
                {"custom_id": line["custom_id"], "response": response, "error": None}
            )
        batch["answers"] = len(good)
        for key, found in (("output_file_id", good[::-1]), ("error_file_id", bad)):  # in an order of its own
            if found:
                batch[key] = f"file-{len(self.files) + 1}"
                self.files[batch[key]] = "".join(json.dumps(line) + "\n" for line in found).encode()
                self.files[batch[key]] = self.results.encode() or self.files[batch[key]]
        await asyncio.sleep(0)
