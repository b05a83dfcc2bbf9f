"""What a Slack message says: markup of mentions, links and dates as the words that people saw."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TAG = re.compile(r"<([@#!][^<>\n]+|[A-Za-z][A-Za-z0-9+.-]*:[^<>\n]+)>")
UPLOADED = re.compile(r"<@[^<>]+>\s+uploaded a file: <[^<>]+>(?: and commented: (?P<words>.*))?$", re.DOTALL)


def said(message: dict[str, Any], people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """The text of a message; where it has none, that of its rich-text blocks."""
    text = str(message.get("text") or "")
    if "upload" in message or "file" in message:  # until 2018 Slack itself wrote these words
        found = UPLOADED.match(text)
        text = (found["words"] or "") if found else text
    made = plain(text, people, channels)
    if not made.strip():
        made = blocks(message.get("blocks"), people, channels)
    if not made.strip() and message.get("subtype") == "bot_message":  # a person's attachments are other people's words
        parts = [one.get(key) for one in message.get("attachments") or [] for key in ("pretext", "text")]
        made = "\n".join(plain(part, people, channels) for part in parts if isinstance(part, str) and part)
    return made


def plain(text: str, people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """Slack's mrkdwn with its tags resolved and its three entities read; bold and italic stay as they are."""
    made = TAG.sub(lambda found: _tag(found[1], people, channels), text) if "<" in text else text
    if "&" not in made:
        return made
    return made.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _tag(inner: str, people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    target, bar, label = inner.partition("|")
    kind, name = target[0], target[1:]
    if kind == "@":
        return "@" + (people.get(name) or label or name)
    if kind == "#":
        return "#" + (label or channels.get(name) or name)
    if kind == "!":
        if label:
            return label
        word, _, group = name.partition("^")
        return f"@{word}" if word in ("here", "channel", "everyone") else f"@{group}" if word == "subteam" else ""
    return label if bar and label else target.removeprefix("mailto:").removeprefix("tel:")


def blocks(held: Any, people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """The text of rich_text and section blocks, a line each."""
    lines = []
    for block in held if isinstance(held, list) else []:
        if block.get("type") == "rich_text":
            lines += [_element(element, people, channels) for element in block.get("elements") or []]
        elif isinstance(block.get("text"), dict):
            lines.append(plain(str(block["text"].get("text") or ""), people, channels))
    return "\n".join(line for line in lines if line)


def _element(element: dict[str, Any], people: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """One element of rich text with everything in it."""
    kind, inner = element.get("type"), element.get("elements") or []
    if kind == "rich_text_list":
        return "\n".join("• " + _element(one, people, channels) for one in inner)
    made = "".join(_element(one, people, channels) for one in inner)
    if kind == "rich_text_quote":
        return "\n".join(f"> {line}" for line in made.split("\n"))
    if kind == "rich_text_preformatted":
        return f"```\n{made}\n```"
    if inner:
        return made
    leaves = {
        "text": str(element.get("text") or ""),
        "link": str(element.get("text") or element.get("url") or ""),
        "user": "@" + (people.get(str(element.get("user_id"))) or str(element.get("user_id"))),
        "channel": "#" + (channels.get(str(element.get("channel_id"))) or str(element.get("channel_id"))),
        "emoji": f":{element.get('name')}:",
        "broadcast": f"@{element.get('range')}",
        "date": str(element.get("fallback") or ""),
    }
    return leaves.get(str(kind), "")
