"""What stands under a header of a plain text export: the text, the blocks in braces after it, the file's footer."""

from __future__ import annotations

import re
from itertools import pairwise

RULE = re.compile(r"={62}")
FOOTER = re.compile(r"Exported (\d[^()]*) message\(s\)")
NOTICE = re.compile(
    r"Added .+ to the group\.|Added a recipient\.|Left the group\.|Removed .+ from the group\.|Removed a recipient\."
    r"|Started a call that lasted [\d\s.,]+ minutes?\.|Changed the channel name(: .+|\.)|Changed the channel icon\."
    r"|Pinned a message\.|Started a thread\.|Joined the server\."
)
_STARTS = ("Added ", "Left ", "Removed ", "Started ", "Changed ", "Pinned ", "Joined ")
BLOCKS = ("{Forwarded Message}", "{Attachments}", "{Embed}", "{Stickers}", "{Reactions}")  # in the order of the file
ADDRESS = re.compile(r"https?://\S+|.+[\\/].+|.+\.\w{1,5}")


def is_notice(text: str) -> bool:
    """Whether Discord wrote the text, not the person named above it; its texts are English in every culture."""
    return text.startswith(_STARTS) and NOTICE.fullmatch(text) is not None


def announced(body: list[str]) -> int | None:
    """The count of the footer, where it ends these lines."""
    if not any(line.startswith("=") for line in body[-8:]):
        return None
    lines = [line for line in body[-8:] if line]
    if len(lines) < 3 or not (RULE.fullmatch(lines[-1]) and RULE.fullmatch(lines[-3])):
        return None
    found = FOOTER.fullmatch(lines[-2])
    return int(re.sub(r"\D", "", found[1])) if found else None


def without_footer(body: list[str]) -> list[str]:
    if announced(body) is None:
        return body
    return body[: max(place for place, line in enumerate(body) if FOOTER.fullmatch(line)) - 1]


def two_exports(body: list[str]) -> bool:
    """Whether another export begins in these lines."""
    return any(RULE.fullmatch(line) and after.startswith("Guild: ") for line, after in pairwise(body))


def leaves_gap(body: list[str], blanks: int) -> bool:
    """Whether the lines end with the gap that comes before a header: `blanks` empty lines, after reactions one."""
    return body[-blanks:] == [""] * blanks or (body[-1:] == [""] and body[-3:-2] == [BLOCKS[-1]])


def cut(body: list[str]) -> tuple[str, list[str], list[str]]:
    """The text of a message, the names of the blocks under it, and the addresses of its attachments."""
    end = len(body)
    while end and body[end - 1] == "":
        end -= 1
    for place, line in enumerate(body[:end]):
        if line in BLOCKS and (place == 0 or body[place - 1] == ""):
            blocks = _blocks(body[place:end])
            if blocks:
                return "\n".join(body[: max(place - 1, 0)]), blocks[0], blocks[1]
    return "\n".join(body[:end]), [], []


def _blocks(lines: list[str]) -> tuple[list[str], list[str]] | None:
    """Read lines as blocks to the message's end, in the order they come in; None where they were typed."""
    names: list[str] = []
    attachments: list[str] = []
    while lines:
        name = lines[0]
        if name not in BLOCKS or (names and BLOCKS.index(name) <= BLOCKS.index(names[-1])):
            return None
        names.append(name)
        if name == "{Forwarded Message}":
            return (names, []) if any(line.startswith("Originally sent: ") for line in lines) else None
        if name == "{Embed}":
            return names, attachments  # embeds may hold anything; nothing after them is needed
        if name == "{Reactions}":
            return (names, attachments) if len(lines) == 2 else None
        size = lines.index("") if "" in lines else len(lines)
        if size < 2 or not all(map(ADDRESS.fullmatch, lines[1:size])):
            return None
        attachments += lines[1:size] if name == "{Attachments}" else []
        lines = lines[size:]
        while lines and lines[0] == "":
            lines = lines[1:]
    return names, attachments
