from __future__ import annotations

import base64
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import DataError
from runner.step import Prompt

REAL = Path(__file__).resolve().parents[4] / "shared/data/chats/sillytavern"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the published data is not beside the checkout")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*texts: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 6, 0, 0, 0))
    return SIGNATURE + header + b"".join(texts) + chunk(b"IDAT", zlib.compress(b"\0" * 5)) + chunk(b"IEND", b"")


def packed(card: Any) -> bytes:
    return base64.b64encode(json.dumps(card).encode())


def text_chunk(card: Any, keyword: bytes = b"chara") -> bytes:
    return chunk(b"tEXt", keyword + b"\0" + packed(card))


def v1(**more: Any) -> dict[str, Any]:
    return dict.fromkeys(("description", "personality", "scenario", "first_mes", "mes_example"), "") | {
        "name": "Ada",
        **more,
    }


def v2(**more: Any) -> dict[str, Any]:
    return {"spec": "chara_card_v2", "spec_version": "2.0", "data": v1(**more)}


def v3(**more: Any) -> dict[str, Any]:
    return {"spec": "chara_card_v3", "spec_version": "3.0", "data": v1(group_only_greetings=[], **more)}


@pytest.fixture
def read(run_kind, tmp_path):
    """`read({"a.json": {...}, "b.png": png(...)})` writes the cards and runs the step on them."""

    def run(written: dict[str, Any], /, **params: Any):
        for name, content in written.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return read_folder(run_kind, tmp_path, **params)

    return run


def read_folder(run_kind, folder: Path, prompts: Any = None, **params: Any):
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
    return run_kind(
        "preprocess.character_card",
        {"folder": "datasets/x", **params},
        folder=folder,
        files=files,
        prompts=prompts or {},
    )


def failure(read, written: dict[str, Any], /, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(written, **params)
    return str(caught.value)


def one(ran) -> dict[str, Any]:
    (row,) = ran.rows()
    return row


def charx(tmp_path: Path, **members: bytes) -> bytes:
    path = tmp_path.parent / f"{tmp_path.name}.charx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path.read_bytes()


def test_a_card_gives_its_texts_and_nothing_that_may_not_reach_a_prompt(read):
    notes = {"creator_notes": "secret", "creator": "me", "character_version": "secret", "tags": ["secret"]}
    card = v2(
        description="D",
        personality="P",
        scenario="S",
        first_mes="F",
        system_prompt="Be {{char}}. {{original}}",
        post_history_instructions="H",
        alternate_greetings=["G", ""],
        **notes,
    )
    ran = read({"a.json": card})
    assert one(ran) == {
        "id": "a.json",
        "source": "a.json",
        "name": "Ada",
        "description": "D",
        "personality": "P",
        "scenario": "S",
        "system_prompt": "Be Ada.",
        "post_history": "H",
        "greeting": "F",
        "greetings": ["G"],
        "examples": [],
        "lore": [],
    }
    assert "secret" not in json.dumps(ran.rows())


@pytest.mark.parametrize(
    "card", [v1(description="D"), v2(description="D"), v3(description="D"), {"char_name": "Ada", "char_persona": "D"}]
)
def test_every_version_is_read(read, card):
    row = one(read({"a.json": card}))
    assert (row["name"], row["description"]) == ("Ada", "D")


@pytest.mark.parametrize(
    "body",
    [
        text_chunk(v2(description="D")),
        text_chunk(v2(description="D"), b"Chara"),
        chunk(b"zTXt", b"chara\0\0" + zlib.compress(packed(v2(description="D")))),
        chunk(b"iTXt", b"chara\0\0\0en\0x\0" + packed(v2(description="D"))),
        chunk(b"iTXt", b"chara\0\1\0en\0x\0" + zlib.compress(packed(v2(description="D")))),
        chunk(b"tEXt", b"chara\0" + json.dumps(v2(description="D")).encode()),
        chunk(b"tEXt", b"Software\0x") + text_chunk(v1(description="old")) + text_chunk(v3(description="D"), b"ccv3"),
    ],
)
def test_a_card_is_found_in_a_picture(read, body):
    assert one(read({"a.png": png(body)}))["description"] == "D"


def test_a_card_is_found_in_an_archive(read, tmp_path):
    raw = charx(tmp_path, card_json=json.dumps(v3(description="D")).encode(), assets_png=b"x")
    assert one(read({"a.charx": raw}))["description"] == "D"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{char}} {{Char}} <BOT> <bot>", "Ada Ada Ada Ada"),
        ("{{user}} <USER>", "Sam Sam"),
        ("a{{// note}}b{{comment: c}}c{{hidden_key:k}}d", "abcd"),
        ("{{reverse:abc}}", "cba"),
        ("{{random:one}} {{pick::two}}", "one two"),
        ("{{roll:d1}}", "1"),
        ("{{random:{{char}}}}", "Ada"),
        ("{{time}} {x} {{}}", "{{time}} {x} {{}}"),
    ],
)
def test_macros_are_resolved(read, text, shown):
    assert one(read({"a.json": v1(description=text)}, user="Sam"))["description"] == shown


def test_a_nickname_is_what_char_means(read):
    row = one(read({"a.json": v3(description="{{char}}", nickname="Addie")}))
    assert (row["name"], row["description"]) == ("Ada", "Addie")


def test_what_is_random_never_changes_and_unknown_macros_are_told(read):
    card = v1(description="{{random:a,b,c,d,e,f}}{{roll:d20}}", personality="{{time}}")
    first = read({"a.json": card})
    assert first.rows() == read({}).rows()
    assert first.facts["notes"] == ["1 times {{time}} stands in the texts as it is: no known macro."]


EXAMPLES = "<START>\r\n{{user}}: Hi\r\n{{char}}: Hello.\r\n*waves*\r\nAda: Again\r\n<start>\r\nAda: Alone\r\n<START>\r\nSam: Q\r\n{{char}}: A\r\n{{user}}: Bye"


def test_example_messages_become_dialogues(read):
    ran = read({"a.json": v1(mes_example=EXAMPLES)}, rows="examples", user="Sam")
    assert [[(m["role"], m["content"]) for m in row["messages"]] for row in ran.rows()] == [
        [("user", "Hi"), ("assistant", "Hello.\n*waves*\nAgain")],
        [("user", "Q"), ("assistant", "A")],
    ]
    assert [row["id"] for row in ran.rows()] == ["a.json#1", "a.json#3"]
    assert [reason for reason, _ in ran.rejected] == ["no answer to learn"]
    assert ran.facts["metrics"]["cut_after_the_last_answer"] == 1


def test_a_prompt_may_use_the_cards_texts(read):
    prompts = {"prompt": Prompt("p", ({"system": "You are {{ name }}. {{ description }}"},))}
    ran = read({"a.json": v1(description="D", mes_example=EXAMPLES)}, rows="examples", prompts=prompts)
    assert ran.rows()[0]["messages"][0] == {"role": "system", "content": "You are Ada. D"}


def test_examples_that_stand_in_the_description_are_taken_out_of_it(read):
    text = "[Ada: kind]\n<START>\n{{user}}: Hi\n{{char}}: Hello\n[Genre: fantasy]"
    row = one(read({"a.json": v1(description=text)}))
    assert row["description"] == "[Ada: kind]\n[Genre: fantasy]"
    assert row["examples"] == [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]]


BOOK = {
    "entries": [
        {
            "keys": ["sea"],
            "content": "@@depth 4\n@@role user\nThe sea is {{char}}'s.",
            "enabled": True,
            "insertion_order": 2,
        },
        {
            "keys": ["hill", "moor"],
            "content": "The hill.",
            "enabled": True,
            "insertion_order": 1,
            "constant": True,
            "id": 9,
        },
        {"keys": ["x"], "content": "Off.", "enabled": False, "insertion_order": 3},
    ]
}


def test_a_lorebook_gives_passages_in_its_order(read):
    ran = read({"a.json": v2(character_book=BOOK)}, rows="lore")
    assert ran.rows() == [
        {
            "id": "a.json#9",
            "source": "a.json#9",
            "name": "Ada",
            "text": "The hill.",
            "keys": ["hill", "moor"],
            "constant": True,
        },
        {
            "id": "a.json#1",
            "source": "a.json#1",
            "name": "Ada",
            "text": "The sea is Ada's.",
            "keys": ["sea"],
            "constant": False,
        },
    ]
    assert [reason for reason, _ in ran.rejected] == ["switched off"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"a.json": {"entries": {}}}, "a.json: no character card: it looks like a lorebook without a card."),
        ({"a.json": {"x": 1}}, "it looks like an object with the keys x."),
        ({"a.json": [1]}, "a JSON list in the file, no character card."),
        ({"a.json": b"nope"}, "a.json: what is in the file is not JSON"),
        ({"a.json": v2(name=" ")}, "a.json: the card has no name."),
        ({"a.json": v2(description=["D"])}, "a.json: description is a list, no text"),
        ({"a.json": v2(description="\ud83d")}, "not JSON ('utf-8' codec can't encode"),
        ({"a.png": png()}, "a.png: a picture without a character card in it."),
        ({"a.png": png(text_chunk(v2()))[:60]}, "a.png: the picture is cut off."),
        ({"a.png": png(chunk(b"tEXt", b"chara\0abc"))}, "a.png: the card in the picture is damaged"),
        ({"a.png": png(chunk(b"zTXt", b"chara\0\0junk"))}, "a.png: the card in the picture is damaged"),
        ({"a.jpg": b"\xff\xd8\xff\xe0"}, "a.jpg: a JPEG picture; a card's text lies in a PNG."),
        ({"a.webp": b"RIFFxxxx"}, "a.webp: a WebP picture"),
        ({"a.charx": b"PK\x03\x04"}, "a.charx: the archive is damaged or locked"),
        ({}, "no file here. Put character cards"),
    ],
)
def test_what_is_no_card_is_refused_with_a_sentence(read, written, said):
    assert said in failure(read, written)


def test_an_archive_without_a_card_is_refused(read, tmp_path):
    assert "an archive without card.json" in failure(read, {"a.charx": charx(tmp_path, other_json=b"{}")})


def test_what_unpacks_to_an_absurd_size_is_refused(read, tmp_path):
    bomb = b" " * (17 << 20)
    files = {
        "a.charx": charx(tmp_path, card_json=bomb),
        "b.png": png(chunk(b"zTXt", b"chara\0\0" + zlib.compress(bomb))),
        "c.json": bomb,
    }
    lines = failure(read, files).splitlines()
    assert ["unpacks to more than" in line or "no character card is so long" in line for line in lines] == [True] * 3


def test_cards_without_examples_or_lore_say_so(read):
    assert "no example dialogues in 1 cards" in failure(read, {"a.json": v1(description="D")}, rows="examples")
    assert "no lorebook entries in 1 cards" in failure(read, {}, rows="lore")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}<>\r"), max_size=60)


@settings(max_examples=50, deadline=None)
@given(
    made=st.fixed_dictionaries(dict.fromkeys(("description", "personality", "scenario", "first_mes"), TEXT)),
    spec=st.sampled_from([v1, v2, v3]),
)
def test_any_card_comes_back_out_of_its_picture(run_kind, tmp_path_factory, made, spec):
    folder = tmp_path_factory.mktemp("cards")
    (folder / "a.png").write_bytes(png(text_chunk(spec(**made))))
    row = one(read_folder(run_kind, folder))
    assert [row[key] for key in ("description", "personality", "scenario", "greeting")] == [
        made[key].strip() for key in ("description", "personality", "scenario", "first_mes")
    ]


@real
def test_the_published_card_is_read_from_its_picture(run_kind):
    row = one(read_folder(run_kind, REAL))
    assert (row["name"], len(row["lore"]), len(row["examples"])) == ("Seraphina", 4, 1)
    assert row["description"].startswith("[Seraphina's Personality=") and "<START>" not in row["description"]
    assert [message["role"] for message in row["examples"][0]] == ["user", "assistant"] * 2
    assert row["greeting"].startswith("*You wake with a start")
    assert "contest winner" not in json.dumps(row)
    assert len(read_folder(run_kind, REAL, rows="lore").rows()) == 4
