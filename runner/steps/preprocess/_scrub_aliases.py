"""Other names for people and things: always the same for the same key and value, and no way back without the key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from runner import locks
from runner.errors import MachineError
from runner.step import Step

FIRST = [
    "Abel", "Ada", "Aiko", "Alma", "Alva", "Amara", "Anouk", "Anselm", "Arlo", "Asta", "Aurel", "Beata", "Benno",
    "Bram", "Brisa", "Caio", "Calla", "Cato", "Cleo", "Dagny", "Dario", "Delia", "Dilan", "Edda", "Eero", "Elio",
    "Elke", "Emil", "Enzo", "Esme", "Ezra", "Fadil", "Farah", "Fern", "Flora", "Gala", "Gideon", "Greta", "Gwen",
    "Hedda", "Hiro", "Ida", "Ilka", "Imre", "Ines", "Inga", "Isko", "Ivo", "Jarek", "Jonna", "Juno", "Kaia", "Kalle",
    "Keiko", "Kian", "Lars", "Leda", "Leif", "Lena", "Lino", "Livia", "Lorin", "Lucia", "Luka", "Mabel", "Magnus",
    "Malin", "Mara", "Marek", "Mila", "Mirko", "Nadja", "Nella", "Nilo", "Noor", "Odin", "Oona", "Orla", "Otis",
    "Paloma", "Petra", "Pia", "Quinn", "Rafa", "Runa", "Sanna", "Selma", "Signe", "Soren", "Suri", "Tamsin", "Tarek",
    "Tilda", "Tobin", "Uma", "Ursa", "Valeska", "Vera", "Vito", "Wanda", "Yara", "Yuna", "Zeno", "Zora",
]  # fmt: skip
FAMILY = [
    "Abara", "Ahlgren", "Albrecht", "Amsel", "Andrade", "Aoki", "Arden", "Baran", "Barlow", "Bastos", "Bekele",
    "Bergström", "Birk", "Boateng", "Brandt", "Cabral", "Calder", "Castel", "Chavez", "Corbin", "Dahl", "Danjuma",
    "Darzi", "Demir", "Dorn", "Duarte", "Eklund", "Elster", "Eriksen", "Falk", "Farkas", "Ferro", "Fiala", "Fontaine",
    "Galvan", "Garrick", "Gerlach", "Goto", "Gruber", "Haas", "Haddad", "Halloran", "Hartwig", "Hayashi", "Holm",
    "Ibarra", "Ilves", "Ito", "Jansson", "Jokinen", "Kaplan", "Karlsen", "Kato", "Keller", "Kessler", "Kimura",
    "Kovac", "Krause", "Laine", "Larkin", "Lehto", "Lindholm", "Lorca", "Madsen", "Marlow", "Mendes", "Mertens",
    "Moreau", "Nakata", "Navarro", "Nkosi", "Novak", "Nyman", "Okafor", "Olander", "Orsini", "Ozturk", "Pallas",
    "Peralta", "Pretorius", "Quist", "Ranta", "Reinholt", "Rocha", "Rostov", "Sato", "Seidel", "Silva", "Soares",
    "Stahl", "Tamm", "Thorne", "Tomasi", "Uddin", "Valdez", "Vasko", "Vidal", "Winther", "Yamane", "Yilmaz", "Zanetti",
    "Zeller",
]  # fmt: skip


class Aliases:
    """Aliases by a key. `avoid`: real names in lower case, which no alias may hold."""

    def __init__(self, key: bytes, avoid: Collection[str] = ()) -> None:
        self._key = key
        self._first = [name for name in FIRST if name.lower() not in avoid] or FIRST
        self._family = [name for name in FAMILY if name.lower() not in avoid] or FAMILY

    def _digest(self, category: str, value: str) -> bytes:
        return hmac.new(self._key, f"{category}\n{value}".encode(), hashlib.sha256).digest()

    def code(self, category: str, value: str) -> str:
        """Eight characters that stand for a value."""
        return self._digest(category, value)[:4].hex()

    def names(self, value: str) -> tuple[str, str, str]:
        """A first name, a family name, and another one for where two people would be called the same."""
        held = self._digest("speakers", value)
        first, family, other = (int.from_bytes(held[at : at + 8]) for at in (0, 8, 16))
        return (
            self._first[first % len(self._first)],
            self._family[family % len(self._family)],
            self._family[other % len(self._family)],
        )

    def instead(self, category: str, value: str) -> str:
        """What stands for an address, a handle or a number."""
        code = self.code(category, value)
        if category == "handles":
            first, family, _ = self.names(value)
            return f"@{first}_{family}".lower()
        return {"emails": f"{code}@example.com", "urls": f"https://example.com/{code}"}.get(
            category, f"<{category.removesuffix('s').upper()} {code}>"
        )


def key_of(step: Step) -> bytes:
    """The secret that aliases hang on: from the environment, else from a file that is made once under the artifacts folder.

    Raises MachineError where the environment lacks it.
    """
    name = step.params.get("salt_env")
    if name:
        if not os.environ.get(name):
            raise MachineError(
                f"{step.name}.salt_env: {name} is not set. Put a long random text into .env ({name}=…), "
                "or leave salt_env out: a key is then kept under the artifacts folder."
            )
        return os.environ[name].encode()
    with locks.held(step.artifacts / "cache" / "aliases.lock", lambda: None):  # one process makes it
        return _kept(step.artifacts / "keys" / "aliases.key")


def _kept(path: Path) -> bytes:
    """The key in a file that only its owner can read; made where it is missing."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        os.replace(part, path)
    return path.read_bytes().strip()
