"""Large exports of every kind that is read, written as their programs write them: what the benches read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

AUTHORS = ("Ann", "Bob", "Zoë", "Dmitri Wolf", "+1 555 0100")
START = datetime(2021, 3, 20, tzinfo=UTC)  # a day that cannot be a month
POOL = 4096
RULE = "=" * 62


class Said(NamedTuple):
    """One message: its number, who writes, when (UTC), and what."""

    number: int
    author: str
    time: datetime
    text: str

    @property
    def json(self) -> str:
        return json.dumps(self.text, ensure_ascii=False)

    @property
    def id(self) -> int:
        return 10**17 + self.number

    @property
    def author_id(self) -> int:
        return 300000000 + AUTHORS.index(self.author)


def said() -> Iterator[Said]:
    """Messages without end: one to forty words, now and then an emoji, an accent, a quote or a line break."""
    source = random.Random(0)
    letters = "etaoinshrdlucmfwyp"
    words = ["".join(source.choices(letters, k=source.randint(1, 9))) for _ in range(2000)] + ["café", '"so"', "naïve"]
    texts = []
    for _ in range(POOL):
        made = source.choices(words, k=max(1, min(40, int(source.lognormvariate(2.0, 0.7)))))
        text = " ".join(made) + ("", "", "", "", " 😀")[source.randrange(5)]
        texts.append(text.replace(" ", "\n", 1) if source.random() < 0.02 else text)
    time, number = START, 0
    while True:
        time += timedelta(seconds=source.choice((4, 20, 75, 150, 500)))  # 1 GB of them ends before 2099
        yield Said(number, AUTHORS[source.randrange(len(AUTHORS))], time, texts[source.randrange(POOL)])
        number += 1


Pieces = Iterator[str]


def _listed(before: str, made: Iterator[str], after: str) -> Pieces:
    """Pieces of a JSON list, with a comma between them; send(True) ends it."""
    yield before
    comma = ""
    for piece in made:
        if (yield comma + piece):
            break
        comma = ","
    yield after


def discord() -> Pieces:
    """DiscordChatExporter -f Json."""
    head = (
        '{\n  "guild": {\n    "id": "900",\n    "name": "Den",\n    "iconUrl": "x.png"\n  },\n  "channel": {\n    "id": "800",\n'
        '    "type": "GuildTextChat",\n    "categoryId": "700",\n    "category": "Text",\n    "name": "general",\n    "topic": null\n'
        '  },\n  "dateRange": {\n    "after": null,\n    "before": null\n  },\n  "exportedAt": "2024-01-01T00:00:00+00:00",\n  "messages": ['
    )
    made = (
        f'\n    {{\n      "id": "{one.id}",\n      "type": "Default",\n      "timestamp": "{one.time.isoformat()}",\n'
        '      "timestampEdited": null,\n      "callEndedTimestamp": null,\n      "isPinned": false,\n'
        f'      "content": {one.json},\n      "author": {{\n        "id": "{one.author_id}",\n        "name": "{one.author}",\n'
        f'        "discriminator": "0000",\n        "nickname": "{one.author}",\n        "color": "#1ABC9C",\n        "isBot": false,\n'
        '        "roles": [\n          {\n            "id": "601",\n            "name": "regular",\n            "color": "#1ABC9C",\n'
        '            "position": 3\n          }\n        ],\n        "avatarUrl": "https://cdn.discordapp.com/avatars/1/0123456789abcdef.png?size=512"\n'
        '      },\n      "attachments": [],\n      "embeds": [],\n      "stickers": [],\n      "reactions": [],\n      "mentions": [],\n'
        '      "inlineEmojis": []\n    }'
        for one in said()
    )
    return _listed(head, made, '\n  ],\n  "messageCount": 0\n}\n')


def telegram() -> Pieces:
    """Telegram Desktop's result.json, of one chat."""
    head = '{\n "name": "Friends",\n "type": "private_group",\n "id": 700,\n "messages": ['
    made = (
        f'\n  {{\n   "id": {one.number + 1},\n   "type": "message",\n   "date": "{one.time:%Y-%m-%dT%H:%M:%S}",\n'
        f'   "date_unixtime": "{int(one.time.timestamp())}",\n   "from": "{one.author}",\n   "from_id": "user{one.author_id}",\n'
        f'   "text": {one.json},\n   "text_entities": [\n    {{\n     "type": "plain",\n     "text": {one.json}\n    }}\n   ]\n  }}'
        for one in said()
    )
    return _listed(head, made, "\n ]\n}")


def messenger() -> Pieces:
    """A Messenger download: newest first, every byte of UTF-8 written as a letter; one in four has a reaction."""
    head = '{\n  "participants": [\n    {\n      "name": "Ann"\n    },\n    {\n      "name": "Bob"\n    }\n  ],\n  "messages": ['
    made = (
        f'\n    {{\n      "sender_name": {_moji(one.author)},\n      "timestamp_ms": {4 * 10**12 - int(one.time.timestamp() * 1000)},\n'
        f'      "content": {_moji(one.text)},{_REACTION if one.number % 4 == 0 else ""}\n      "is_geoblocked_for_viewer": false,\n'
        '      "is_unsent_image_by_messenger_kid_parent": false\n    }'
        for one in said()
    )
    tail = '\n  ],\n  "title": "Ann",\n  "is_still_participant": true,\n  "thread_path": "inbox/ann_1",\n  "magic_words": []\n}'
    return _listed(head, made, tail)


_REACTION = '\n      "reactions": [\n        {\n          "reaction": "\\u00f0\\u009f\\u0098\\u0086",\n          "actor": "Ann"\n        }\n      ],'


def _moji(text: str) -> str:
    return json.dumps(text.encode().decode("latin-1"))


def whatsapp() -> Pieces:
    """An Android phone's export."""
    return (f"{one.time:%d/%m/%Y}, {one.time:%H:%M} - {one.author}: {one.text}\n" for one in said())


def discord_text() -> Pieces:
    """DiscordChatExporter -f PlainText; the count at its end is added by `write`."""
    yield f"{RULE}\nGuild: Den\nChannel: Text / general\n{RULE}\n\n"
    for one in said():
        yield f"[{one.time:%m/%d/%Y} {one.time.hour % 12 or 12}:{one.time:%M %p}] {one.author}\n{one.text}\n\n\n"


def discord_csv() -> Pieces:
    """DiscordChatExporter -f Csv."""
    yield "AuthorID,Author,Date,Content,Attachments,Reactions\n"
    for one in said():
        yield f'"{one.author_id}","{one.author}","{one.time.isoformat()}",{_quoted(one.text)},"",""\n'


def imessage() -> Pieces:
    """imessage-exporter -f txt."""
    return (
        f"{one.time:%b %d, %Y} {one.time.hour % 12 or 12:2}:{one.time:%M:%S %p}\n{one.author}\n{one.text}\n\n"
        for one in said()
    )


def sillytavern() -> Pieces:
    """A SillyTavern chat."""
    yield '{"user_name":"Ann","character_name":"Bob","create_date":"2024-01-01@00h00m00s","chat_metadata":{}}'
    for one in said():
        if one.number % 2 == 0:
            yield f'\n{{"name":"Ann","is_user":true,"is_system":false,"send_date":"{one.time.isoformat()}","mes":{one.json},"extra":{{}}}}'
            continue
        extra = '"extra":{"api":"koboldcpp","model":"tiny"}'
        told = f'"send_date":"{one.time.isoformat()}","gen_started":"{one.time.isoformat()}","gen_finished":"{one.time.isoformat()}"'
        yield (
            f'\n{{"name":"Bob","is_user":false,"is_system":false,{told},"mes":{one.json},{extra},"swipe_id":0,'
            f'"swipes":[{one.json}],"swipe_info":[{{{told},{extra}}}]}}'
        )


def table_list() -> Pieces:
    return _listed("[", (f"\n  {_flat(one)}" for one in said()), "\n]\n")


def table_compact() -> Pieces:
    return _listed("[", (_flat(one) for one in said()), "]")


def table_lines() -> Pieces:
    return (f"{_flat(one)}\n" for one in said())


def _flat(one: Said) -> str:
    return f'{{"user": {one.author_id}, "time": "{one.time.isoformat()}", "text": {one.json}, "score": {one.number % 97 / 7}}}'


def table_csv() -> Pieces:
    yield "user,time,text,score\n"
    for one in said():
        yield f"{one.author_id},{one.time.isoformat()},{_quoted(one.text)},{one.number % 97 / 7}\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def dialogues() -> Pieces:
    """Conversations of six messages, a line each, in OpenAI's format."""
    return (f'{{"messages": [{_turns(talk)}]}}\n' for talk in zip(*[said()] * 6, strict=False))


def sharegpt() -> Pieces:
    """The same in ShareGPT's format, as one list."""
    made = (
        f'\n {{"id": "{talk[0].number}", "conversations": [{_sides(talk)}]}}'
        for talk in zip(*[said()] * 6, strict=False)
    )
    return _listed("[", made, "\n]")


def _turns(talk: tuple[Said, ...]) -> str:
    return ", ".join(
        f'{{"role": "{("user", "assistant")[n % 2]}", "content": {one.json}}}' for n, one in enumerate(talk)
    )


def _sides(talk: tuple[Said, ...]) -> str:
    return ", ".join(f'{{"from": "{("human", "gpt")[n % 2]}", "value": {one.json}}}' for n, one in enumerate(talk))


def paragraphs() -> Pieces:
    """Text of one paragraph a line."""
    return (f"{one.text.replace(chr(10), ' ')}\n" for one in said())


def write(path: Path, pieces: Callable[[], Pieces], size: int) -> None:
    """Write an export of about `size` bytes, whole: lists are closed, counts told."""
    written = count = 0
    made = pieces()
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for piece in made:
            stream.write(piece)
            written += len(piece.encode())
            count += 1
            if written >= size:
                break
        if pieces in (discord, telegram, messenger, table_list, table_compact, sharegpt):
            stream.write(made.send(True).replace('"messageCount": 0', f'"messageCount": {count - 1}'))  # type: ignore[attr-defined]
        elif pieces is discord_text:
            stream.write(f"{RULE}\nExported {count - 1} message(s)\n{RULE}\n")


def slack(folder: Path, size: int) -> None:
    """An unpacked Slack export of one channel, 2000 messages a day."""
    users = [
        {"id": f"U{300000000 + n}", "name": name, "profile": {"display_name": name}} for n, name in enumerate(AUTHORS)
    ]
    (folder / "users.json").write_text(json.dumps(users), encoding="utf-8")
    (folder / "channels.json").write_text('[{"id": "C1", "name": "general"}]', encoding="utf-8")
    (folder / "general").mkdir()
    source, written, day = said(), 0, START
    while written < size:
        made = ",".join(_posted(one) for one in islice(source, 2000))
        text = f"[{made}\n]"
        (folder / "general" / f"{day:%Y-%m-%d}.json").write_text(text, encoding="utf-8")
        written, day = written + len(text.encode()), day + timedelta(days=1)


def _posted(one: Said) -> str:
    text = json.dumps(one.text.replace("&", "&amp;"))
    return (
        f'\n    {{\n        "client_msg_id": "0123-{one.number}",\n        "type": "message",\n        "text": {text},\n'
        f'        "user": "U{one.author_id}",\n        "ts": "{int(one.time.timestamp())}.{one.number % 1000000:06}",\n        "team": "T1",\n'
        f'        "blocks": [\n            {{\n                "type": "rich_text",\n                "block_id": "b{one.number}",\n'
        '                "elements": [\n                    {\n                        "type": "rich_text_section",\n                        "elements": [\n'
        f'                            {{\n                                "type": "text",\n                                "text": {text}\n'
        "                            }\n                        ]\n                    }\n                ]\n            }\n        ]\n    }"
    )
