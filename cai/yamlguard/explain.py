"""PyYAML's syntax errors in words that name the fix. Start from `explain`."""

from __future__ import annotations

import yaml

from cai.yamlguard.text import Refusal

# (part of PyYAML's context, part of its problem) -> what to say; the first match counts.
_HINTS = (
    (
        "",
        "mapping values are not allowed",
        "has ': ' inside text; put the text in quotes, or add the ':' missing in the line above",
    ),
    ("", "could not find expected ':'", "has a line without 'key: value'; add the ':'"),
    ("quoted scalar", "unexpected end of stream", "has a quote that is never closed; close it"),
    ("quoted scalar", "unknown escape", "has an unknown escape; use single quotes or '\\\\'"),
    ("quoted scalar", "escape sequence", "has a broken escape; use single quotes or '\\\\'"),
    ("quoted scalar", "document separator", "has a quote that is never closed; close it"),
    ("flow node", "<stream end>", "has an unclosed '[' or '{'; close it"),
    ("flow", "expected ','", "has an unclosed '[' or '{', or a missing ','; add it"),
    (
        "block mapping",
        "expected <block end>",
        "has a line that fits no level above it; align the "
        "keys, and put text that begins with a quote in quotes as a whole",
    ),
    (
        "block collection",
        "expected <block end>",
        "has a line that fits no level above it; align the '-' of the list",
    ),
    ("", "expected the node content", "has no value here; write one"),
    ("", "document start", "has something after the document's end; delete it or indent it"),
    (
        "",
        "sequence entries are not allowed",
        "has a list inside a line; begin the list on its own line",
    ),
    ("", "mapping keys are not allowed", "has a '?' key in a place for text; put it in quotes"),
    ("block scalar", "", "has a broken header after '|' or '>'; leave the rest of the line empty"),
    ("alias", "", "begins with '*', an alias; put the text in quotes"),
    ("anchor", "", "begins with '&', an anchor; put the text in quotes"),
    ("tag", "", "begins with '!', a tag; put the text in quotes"),
    ("directive", "", "has a %-directive; delete the line"),
)


def explain(exc: yaml.MarkedYAMLError, text: str) -> Refusal:
    """The refusal to raise instead of a PyYAML error."""
    mark = exc.problem_mark or exc.context_mark
    if mark is None:
        return Refusal(f"is not valid YAML: {exc.problem}", 1, 1)
    place = (mark.line + 1, mark.column + 1)
    character = text[mark.index] if mark.index < len(text) else ""
    context, problem = exc.context or "", exc.problem or ""
    if character == "\t":
        return Refusal("has a tab where YAML takes spaces only; replace it with spaces", *place)
    if character == "?" and "flow" in context:
        message = "has a '?' between '[' and ']' or '{' and '}'; put the text in quotes"
        return Refusal(message, *place)
    if "cannot start any token" in problem:
        return Refusal(f"has text that begins with '{character}'; put it in quotes", *place)
    for in_context, in_problem, message in _HINTS:
        if in_context in context and in_problem in problem:
            return Refusal(message, *place)
    return Refusal(f"is not valid YAML: {problem}", *place)
