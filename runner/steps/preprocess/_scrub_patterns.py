"""What strangers could find a person by, found by its shape: addresses, numbers with check digits, tokens."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Where something stands in a text, what it is, and for a known person what to say instead."""

    start: int
    end: int
    category: str
    instead: str | None = None


EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]+@(?:[\w-]+\.)+[\w-]*[^\W\d_][\w-]*")
URL = re.compile(
    r"(?i:\b(?:https?|ftp|wss?|tg|discord|mailto)://?\S+|\bwww\.\S+)"
    r"|(?<![\w@./-])(?:[a-z0-9-]+\.)+(?:(?:com|org|net|edu|gov|io|gg|dev|app)\b(?:/\S*)?|[a-z]{2,}/\S+)"
)
URL_END = ".,;:!?'\"»”’*_~>)]}"  # what ends a sentence and not an address
HANDLE = re.compile(r"<@[!&]?[\w.|-]+>|(?<![\w@/.&=])@(?!everyone\b|here\b|channel\b)[^\W_](?:[\w.-]{0,30}\w)?")
CARD = re.compile(r"(?<![\d.,-])(?:\d[ -]?){12,18}\d(?![\d-])")
CARD_STARTS = re.compile(r"4|5[1-5]|2[2-7]|3[0456789]|6")
IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
IP6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*\d)(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2})(\d{2}(?: ?[A-Z0-9]){11,32})")
IBAN_SIZES = (
    "NO15 BE16 DK18 FI18 FO18 GL18 NL18 MK19 SI19 AT20 BA20 EE20 KZ20 LT20 LU20 XK20 CH21 HR21 LI21 LV21 BG22 BH22 CR22 "
    "DE22 GB22 GE22 IE22 ME22 RS22 VA22 AE23 GI23 IL23 IQ23 TL23 AD24 CZ24 ES24 MD24 PK24 RO24 SA24 SE24 SK24 TN24 VG24 "
    "PT25 ST25 IS26 TR26 FR27 GR27 IT27 MC27 MR27 SM27 AL28 AZ28 BY28 CY28 DO28 EG28 GT28 HU28 LB28 NI28 PL28 SV28 BR29 "
    "PS29 QA29 UA29 JO30 KW30 MU30 SC31 MT31 LC32 RU33"
)
IBANS = {entry[:2]: int(entry[2:]) for entry in IBAN_SIZES.split()}
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[opusr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{18,}|\bxox[abeoprs]-[\w-]{10,}"
    r"|\bhf_\w{30,}|\bsk-[\w-]{18,}|\b[rs]k_(?:live|test)_\w{16,}|\bAIza[\w-]{35}|\bnpm_\w{30,}|\bpypi-[\w-]{40,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|\b\d{8,10}:[\w-]{35}\b|\b[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}",
    re.DOTALL,
)
SPOKEN = re.compile(  # with the word before it: a value alone, once removed, would make the next word one
    r"(?i)\b(?:passwor[dt]|passwd|pwd|kennwort|contraseña|senha|mot de passe|пароль|密码|密碼|パスワード|비밀번호|api[ _-]?key)"
    r"(?:\s*[:=：]\s*\S+|\s+(?:is|ist|est|es)\s+(?=\S*[\d!@#$%^&*])\S+)"
)


def patterns(text: str) -> Iterator[Span]:
    """Everything in a text that has one of the shapes; spans may overlap."""
    yield from (Span(*found.span(), "secrets") for found in SECRET.finditer(text))
    yield from (Span(*found.span(), "secrets") for found in SPOKEN.finditer(text))
    if "@" in text:
        yield from (Span(*found.span(), "emails") for found in EMAIL.finditer(text))
        yield from (Span(*found.span(), "handles") for found in HANDLE.finditer(text))
    if "." in text or "/" in text:
        yield from _urls(text)
    if any(map(str.isdigit, text)):
        yield from _ibans(text)
        yield from (Span(*found.span(), "cards") for found in CARD.finditer(text) if _is_card(found[0]))
        yield from (
            Span(*found.span(), "ips") for found in (*IP4.finditer(text), *IP6.finditer(text)) if _is_ip(found[0])
        )


def _urls(text: str) -> Iterator[Span]:
    for found in URL.finditer(text):
        address = found[0]
        while (
            address and address[-1] in URL_END and not (address[-1] == ")" and address.count("(") >= address.count(")"))
        ):
            address = address[:-1]
        yield Span(found.start(), found.start() + len(address), "urls")


def _ibans(text: str) -> Iterator[Span]:
    for found in IBAN.finditer(text):
        size, end, seen = IBANS.get(found[1], 0), found.start(), 0
        while end < found.end() and seen < size:
            seen += text[end] != " "
            end += 1
        plain = text[found.start() : end].replace(" ", "")
        ends = end == len(text) or not (text[end].isalnum() and text[end].isascii())
        if (
            size
            and seen == size
            and ends
            and int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1
        ):
            yield Span(found.start(), end, "ibans")


def _is_card(text: str) -> bool:
    """Whether digits begin as a card does and their check digit is right (Luhn)."""
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return bool(CARD_STARTS.match(text)) and len(set(digits)) > 1 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text.count(":") != 2 or "::" in text
