"""Columns followed through the graph: what each step's rows hold, and what a step needs that they do not hold.

What a schema may say of a whole kind:

x-reads           alternatives, each a list of columns that the rows of `from:` must have
x-writes          {keeps: whether the columns of `from:` pass through, columns: {name: type}}
x-writes-when     of a key: {value: columns}, in place of those of x-writes where the key has that value
x-types           {column: [types]}: what the columns that it reads must hold (text, number, list, object), where known
x-plain           {column: key}: a warning where of x-reads only this column is there, unless key or columns: is given
x-parts           makes (a split), keeps (a whole split stays one); without it parts are joined
x-header          true: it reads tables; the columns are those of the files in `folder:`, and pass through
x-one-of          exactly one of these keys is given
x-variables       what the kind itself gives to the templates of its prompts
x-prompt-columns  false: prompts may use matrix keys and texts, not columns

And of a key, also where it holds a list, or (free keys) a mapping. Keys take effect in the order of the schema, so an
expression sees the columns that the keys above it make:

x-column          what it names a column for: reads; writes (of type x-column-type); takes (reads, and removes)
x-keeps, x-drops  true: the only columns that stay; those that go
x-leaves          other keys: where one of them is given, the columns named here go
x-forgets         true: where the key is given, only id and the columns that the keys name are written
x-carries         true: the columns named here pass through, though others do not
x-spreads         the name of a key: true here makes a column of each value of the column that that key names
x-renames         true: a mapping {new: old}
x-columns         true: a mapping {standard: ours}; ours stay. Every step has one, `columns:`
x-adds            columns that the step also writes where the key is given, or {name: type}
x-adds-keys       true: a column for each of the mapping's keys; x-column-type of its values: their type, where it is known
x-needs           columns that the step also reads where the key is given, as the keys before it have made them
x-needs-for       {value: columns}: x-needs where the key has this value
x-spares          columns of x-reads that are not needed where the key is given
x-becomes         the type that the column named here has afterwards
x-output          true: one column's name or short types, see runner/outputs.py
x-wraps           the name of a key beside it: each column named here holds a whole row of that reference
x-types-for       {value: {column: [types]}}: x-types where the key has this value
x-levels          true: rows are paired where these columns differ, so together they must have two values
x-jinja           template or expression; its variables are checked
x-variables       names that the step's prompts may use where the key is given
x-roles           of x-ref: prompt, which of its texts are used; all of them without it
x-reads           of x-ref: rows, as above, for the rows that this key names
x-mapped          of x-ref: rows, true where columns: is for these rows too
x-passes          of x-ref: rows, false where no text of those rows gets into the rows written
x-words           true: the most words in the columns that the mapping above it makes
x-fits            {other key: {its value: true, or the choices here}}: what this key goes with
x-among           the name of a key: this one names one of the columns that that key names
x-keyed-by        the name of a key: a mapping here is by the columns that that key names; x-for-all: has all of them
x-within          the name of a key: a column that lies in each column that that key names
x-stands          the names by which the step's prompts see the columns named here, now one and now the other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner import headers, needs, outputs
from runner.effects import apply, stand_for, start
from runner.fields import Found, given, words
from runner.flow import Flow, incoming, type_of
from runner.folders import data_files, dataset_folder
from runner.matrix import shown
from runner.problems import Invalid, Problems
from runner.references import Names, Node
from runner.step import PARTS
from runner.templates import TOLD, Text, check, of_prompt


def follow(nodes: list[Node], known: Names, problems: Problems) -> dict[str, Flow]:
    """The flow out of every step, in order; what cannot work becomes a problem."""
    flows: dict[str, Flow] = {}
    for node in nodes:
        if known.is_lost(node.instance.written, "steps"):
            flows[node.name] = Flow(anything=True, lost=True)
            continue
        before = problems.count
        keys = given(node.body, node.fragment, node.instance.mark)
        seen = _tables(node, problems) if node.fragment.get("x-header") else incoming(node, "from", flows, problems)
        needs.check_mapping(node, seen, problems)
        step = _Through(node, known, flows, problems, keys, seen, start(node, seen))
        flows[node.name] = step.go()
        # One problem is enough: nothing is said of what follows from it.
        upstream = (rows.node.name for held in node.rows.values() for rows in held)
        lost = problems.count > before or bool(node.partial) or any(flows[name].lost for name in upstream)
        flows[node.name].lost |= lost
        flows[node.name].anything |= lost
    return flows


def _tables(node: Node, problems: Problems) -> Flow:
    """The columns of the tables in a step's folder."""
    folder = dataset_folder(node.folder or "")
    patterns = node.body.get("files") or []
    try:
        files = headers.choose(folder, data_files(folder), [patterns] if isinstance(patterns, str) else patterns)
        names = headers.columns(folder, files, node.body.get("encoding"), node.body.get("delimiter"))
    except Invalid as invalid:  # the front matter of its README
        problems.include(invalid.problems)
        names = None
    return Flow(dict.fromkeys(names or (), "any"), anything=names is None)


@dataclass
class _Through:
    """One step on the way: its keys in order, the columns that they see so far, and those that it writes."""

    node: Node
    known: Names
    flows: dict[str, Flow]
    problems: Problems
    keys: list[Found]
    seen: Flow
    made: Flow

    def go(self) -> Flow:
        needs.check_one_of(self.node, self.problems)
        if "from" in self.node.rows or not self.node.fragment.get("x-reads"):
            needs.check_reads(self.node, self.keys, self.seen, self.problems)
        for found in self.keys:
            if any(name.startswith("x-") for name in found.schema):
                self._check(found)
                self._apply(found)
        if self.node.verb == "train":
            self._check_leak()
        return self._parts()

    def _check(self, found: Found) -> None:
        held = found.schema
        names = held.get("x-column") in ("reads", "takes") or held.get("x-drops") or held.get("x-keeps")
        if names and found.given:  # a column that is only a default may be missing
            needs.check_columns(self.node, found, self.seen, self.problems)
        if held.get("x-renames"):
            needs.check_renamed(self.node, found, self.seen, self.problems)
        needs.check_needs(self.node, found, self.seen, self.problems)
        if held.get("x-levels"):
            needs.check_differs(self.node, found, self.seen, self.problems)
        needs.check_fits(self.node, found, self.problems)
        needs.check_beside(self.node, found, self.seen, self.problems)
        if "x-jinja" in held and isinstance(found.value, str):
            self._check_template(found)
        if found.path in self.node.prompts:
            self._check_prompt(found.path, self.node.prompts[found.path], held.get("x-roles"))
        if found.path in self.node.decodings:
            for path, prompt in self.node.decodings[found.path].prompts.items():
                self._check_prompt(f"{found.path}.{path}", prompt, TOLD)
        if found.path in self.node.rows and found.path != "from":
            self._other(found)

    def _apply(self, found: Found) -> None:
        where = f"{self.node.where}.{found.path}"
        if found.schema.get("x-output") and not outputs.check(found.value, where, self.problems):
            return
        wrapped = None
        if "x-wraps" in found.schema:
            beside = f"{found.path.rpartition('.')[0]}.{found.schema['x-wraps']}".strip(".")
            wrapped = incoming(self.node, beside, self.flows, Problems())
        apply(found, self.seen, self.made, wrapped)
        if any(self.node.body.get(key) for key in found.schema.get("x-leaves", ())):
            for name, _ in words(found):
                self.seen.remove(name)
                self.made.remove(name)
        if found.schema.get("x-forgets") and found.value is not False:
            named = {name for key in self.keys if "x-column" in key.schema for name, _ in words(key)}
            self.made.keep({"id", *named})
        if found.schema.get("x-spreads") and found.value:
            self._spread(str(self.node.body.get(found.schema["x-spreads"], "")))

    def _spread(self, column: str) -> None:
        """A column for each value of another column, where these are known."""
        for value in self.seen.values.get(column, ()):
            self.made.put(shown(value), "any")
        self.made.anything |= column not in self.seen.values

    def _scope(self, columns: bool) -> Flow:
        """What templates may use: columns, the step's matrix values, and what the kind gives."""
        made = self.seen.copy() if columns else Flow()
        for key, value in self.node.instance.matrix.items():
            made.put(key, type_of(value), [value])
        own = [self.node.fragment, *(found.schema for found in self.keys if found.given and found.value is not False)]
        for name in (name for held in own for name in held.get("x-variables", ())):
            made.put(name, "any")
        stand_for(self.keys, made)
        return made

    def _check_template(self, found: Found) -> None:
        expression = found.schema["x-jinja"] == "expression"
        where = f"{self.node.where}.{found.path}"
        used = check(
            Text(found.value, found.mark, where, expression=expression), self._scope(True), self.known, self.problems
        )
        self.node.instance.used |= used
        for name in sorted(used & set(self.node.instance.matrix) & set(self.seen.columns)):
            said = f"{where}: '{name}' is a list that the step runs over and a column too, and here the list's value"
            add = self.problems.add if expression else self.problems.warn
            add(found.mark, f"{said} hides the column. Rename one of them.")
        for name in used if expression else ():
            self.seen.values.pop(name, None)  # the rows that it leaves out may have been all with some value
            self.made.values.pop(name, None)

    def _check_prompt(self, path: str, name: str, roles: Sequence[str] | None) -> None:
        prompts = self.known.section("prompts")
        scope = self._scope(self.node.fragment.get("x-prompt-columns", True))
        used: set[str] = set()
        for text in of_prompt(prompts.get(name), f"prompts.{name}", self.node.where):
            if roles is None or text.role in roles:
                used |= check(text, scope, self.known, self.problems)
        self.node.instance.used |= used
        self._check_words(path, used)

    def _check_words(self, path: str, used: set[str]) -> None:
        """What a prompt is filled with, against what the model can read: a word is a token or more."""
        count = sum(self.seen.words.get(name, 0) for name in used)
        for use in self.node.models.get("model", []):
            context = use.bundled().get("context", count)
            if count > context:
                message = f"{self.node.where}.{path}: up to {count} words of columns are put into it,"
                advice = "Allow fewer words where the columns are made."
                mark = self.node.mark(path.split(".", maxsplit=1)[0])
                self.problems.add(
                    mark, f"{message} more than the {context} tokens that '{use.name}' can read. {advice}"
                )

    def _other(self, found: Found) -> None:
        """Rows that are read by another key than from:."""
        other = incoming(self.node, found.path, self.flows, self.problems)
        if found.schema.get("x-mapped"):
            needs.check_mapping(self.node, other, Problems())
        needs.check_other(self.node, found, other, self.problems)
        if found.schema.get("x-passes", True):
            for part in self.seen.parts or ("",):
                held = self.seen.tests.setdefault(part, {})
                for tests in other.tests.values():
                    held.update(tests)

    def _check_leak(self) -> None:
        """Rows of a test part may never be learned from, whatever they went through."""
        for part in ["train", "validation"] if self.seen.parts else [""]:
            for test, through in self.seen.tests.get(part, {}).items():
                split = test.split(".")[0]
                way = f", through '{through}'" if through and through != split else ""
                message = f"{self.node.where}.from: would learn from rows of '{test}'{way}."
                self.problems.add(self.node.mark("from"), f"{message} Train on '{split}' or its train part.")

    def _makes_messages(self) -> bool:
        """Whether the step's prompt becomes part of what is learned, and not only of what is asked here."""
        written = set(self.node.fragment.get("x-writes", {}).get("columns", ()))
        for held in self.node.fragment["properties"].values():
            written |= {
                *held.get("x-adds", ()),
                *(name for names in held.get("x-writes-when", {}).values() for name in names),
            }
        return bool(written & {"messages", "prompt"})

    def _parts(self) -> Flow:
        node, seen, made = self.node, self.seen, self.made
        written, sort = node.instance.written, node.fragment.get("x-parts")
        made.split = seen.split
        own = [name for path, name in node.prompts.items() if path == "prompt"]
        made.prompts = tuple(own) if own and self._makes_messages() else seen.prompts
        if sort == "makes":
            if seen.split:
                message = (
                    f"{node.where}.from: these rows come from the split '{seen.split}'; a second split lets test rows"
                )
                self.problems.add(node.mark("from"), f"{message} leak. Split once.")
            made.split = written
            made.parts = tuple(part for part in PARTS if part == "train" or node.body.get(part))
            made.tests = {part: {f"{written}.test": ""} if part == "test" else {} for part in made.parts}
            return made
        made.parts = seen.parts if sort == "keeps" else ()
        passed = {part: dict.fromkeys(tests, written) for part, tests in seen.tests.items()}
        joined = {test: written for tests in passed.values() for test in tests}
        made.tests = passed if made.parts or not seen.parts else {"": joined}
        return made
