"""The graph as a whole: an order to make it in, and what in it nothing uses."""

from __future__ import annotations

from collections.abc import Iterator

from runner.problems import Problems
from runner.references import MODEL_VERBS, Names, Node


def in_order(nodes: list[Node], problems: Problems) -> list[Node]:
    """The steps so that each comes after those it needs, else in the order of the file. A cycle is a problem."""
    done: dict[int, Node] = {}
    for first in nodes:
        stack: list[tuple[Node, Iterator[Node]]] = [(first, first.needs())] if id(first) not in done else []
        while stack:
            node, needs = stack[-1]
            following = next((need for need in needs if id(need) not in done), None)
            if following is None:
                done[id(node)] = node
                stack.pop()
            elif any(following is entry for entry, _ in stack):
                loop = [entry.instance.written for entry, _ in stack]
                loop = [*loop[loop.index(following.instance.written) :], following.instance.written]
                message = f"{following.where}: needs itself: {' → '.join(loop)}. Break the circle."
                problems.add(following.instance.mark, message)
                return []
            else:
                stack.append((following, following.needs()))
    return list(done.values())


def check_unused(known: Names, chats: list[Node], problems: Problems) -> None:
    """Warn of what nothing uses; a matrix key that changes nothing in its step is a problem."""
    for section, what in (("models", "model"), ("prompts", "prompt"), ("decoding", "decoding"), ("texts", "text")):
        held = known.section(section)
        for name in held:
            if (section, name) not in known.used:
                problems.warn(held.keys_at[name], f"{section}.{name}: nothing uses this {what}.")
    read = {need.instance.written for node in [*known.nodes, *chats] for need in node.needs()}
    makes_data = {node.verb for node in known.nodes} <= {"preprocess", "generate"}  # its last rows are what it is for
    for node in known.nodes:
        if node.verb == "preprocess" and node.instance.written not in read and not makes_data:
            problems.warn(node.instance.mark, f"{node.where}: nothing uses its rows.")
        if node.verb in MODEL_VERBS or node.instance.written not in read:
            _check_matrix(node, problems)
    lists = known.section("matrix")
    run_over = {key for node in known.nodes for key in (*node.instance.matrix, *node.instance.used)}
    for name in lists:
        if name not in run_over:
            problems.warn(lists.keys_at[name], f"matrix.{name}: no step runs over this list.")


def _check_matrix(node: Node, problems: Problems) -> None:
    for key in node.instance.matrix:
        if key not in node.instance.used:
            message = (
                f"{node.where}.matrix: '{key}' changes nothing in this step. Use ${{{key}}} in it, or take it out."
            )
            problems.add(node.instance.matrix_mark, message)


def check_lengths(nodes: list[Node], problems: Problems) -> None:
    """Lengths beyond what a model that comes along can read, in steps, in chats and in their decodings."""
    for node in nodes:
        for use in node.models.get("model", []):
            context = use.bundled().get("context")
            held = [(node.body, f"{node.where}.max_length", "max_length")]
            held += [
                (one.body, f"decoding.{one.name}.max_new_tokens", "max_new_tokens") for one in node.decodings.values()
            ]
            for body, where, key in held:
                length = body.get(key)
                if context and isinstance(length, int) and length > context:
                    message = (
                        f"{where}: {length} is more than the {context} tokens that '{use.name}' can read. Lower it."
                    )
                    problems.add(body.values_at[key], message)
