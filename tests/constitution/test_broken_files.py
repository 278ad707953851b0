"""Every broken constitution file is refused with its file, its line and the way out, at once."""

import sys
import time
import tracemalloc

import pytest

from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.errors import ConstitutionError
from cai.yamlguard import load_yaml_file, validate
from tests.constitution.helpers import TEXT, write

HEAD = "name: kind\nversion: 1\ntitle: t\n"
ONE = HEAD + "principles:\n  - id: a\n    compare: Which is better?\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)

BROKEN = {
    # what is wrong: (the file, the line of the complaint, words of the way out)
    "empty file": ("", 1, "needs 'name', 'version', 'title', 'principles'"),
    "only a comment": ("# nothing\n", 1, "the file is empty"),
    "list at top": ("- a\n- b\n", 1, "must be a mapping"),
    "text at top": ("hello\n", 1, "must be a mapping"),
    "two documents": (ONE + "---\n" + ONE, 7, "keep one per file"),
    "unclosed quote": (HEAD + "principles: 'a\n", 5, "close it"),
    "unclosed list": (HEAD + "principles: [a\n", 5, "unclosed '['"),
    "question in a line's list": (HEAD + "principles: [is it?]\n", 4, "put the text in quotes"),
    "colon in text": (HEAD + "principles:\n  - id: a: b\n", 5, "put the text in quotes"),
    "misaligned key": (HEAD + "principles:\n  - id: a\n   compare: b\n", 6, "align"),
    "line without key": (HEAD + "principles\n", 5, "add the ':'"),
    "tab indentation": (HEAD + "principles:\n\t- id: a\n", 5, "indent with spaces"),
    "tab after spaces": (HEAD + "principles:\n  \t- id: a\n", 5, "replace it with spaces"),
    "duplicate key": (ONE + "title: again\n", 7, "'title' twice, first in line 3"),
    "duplicate nested key": (ONE + "    compare: b\n", 7, "'compare' twice, first in line 6"),
    "anchor": (HEAD + "principles: &p []\n", 4, "anchor, '&p'; delete it"),
    "alias": (HEAD + "principles: *p\n", 4, "alias, '*p'; write its content out"),
    "alias bomb": (BOMB, 1, "anchor, '&a'; delete it"),
    "merge key": ("<<: {a: 1}\n" + ONE, 1, "write the merged keys out"),
    "python object": ("name: !!python/object/apply:os.system [id]\n", 1, "tag, '!!python/object"),
    "own tag": ("name: !secret kind\n", 1, "tag, '!secret'; delete it"),
    "standard tag": ("name: !!str kind\n", 1, "tag, '!!str'; delete it"),
    "YAML directive": ("%YAML 1.1\n---\n" + ONE, 1, "%-directive; delete the line"),
    "tag directive": ("%TAG ! tag:x,2000:\n---\n" + ONE, 1, "%-directive; delete the line"),
    "unknown directive": ("%FOO bar\n---\n" + ONE, 1, "%-directive; delete the line"),
    "number as key": (ONE + "1: a\n", 7, "not text, 1; put it in quotes"),
    "list as key": (ONE + "? [a]\n: b\n", 7, "use text as key"),
    "not UTF-8": (b"name: kind\ntitle: caf\xe9\n", 2, "byte 0xe9 is not UTF-8; save"),
    "UTF-16": (ONE.encode("utf-16"), 1, "save it as UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + ONE.encode(), 1, "save it as UTF-8 without BOM"),
    "NUL": ("name: ki\0nd\n", 1, "U+0000, which is not printable; delete it"),
    "escape sequence": ("name: kind\ntitle: \x1b[31mred\n", 2, "U+001B"),
    "escaped NUL": ('name: "ki\\0nd"\n', 1, "escape for U+0000"),
    "other line break": ("name: kind\u2028version: 1\n", 1, "U+2028"),
    "lone surrogate": ('name: "\\ud800"\n', 1, "escape for U+D800"),
    "escape beyond Unicode": ('name: "\\U00110000"\n', 1, "is not valid YAML"),
    "deep nesting": ("a: " + "[" * 2_000 + "]" * 2_000 + "\n", 1, "deeper than 20 levels"),
    "deep blocks": ("\n".join("  " * i + "a:" for i in range(300)), 21, "deeper than 20 levels"),
    "too many values": ("a: [" + "1," * 20_000 + "]\n", 1, "more than 10,000 values; split it"),
    "20 MB": (b"x" * 20_000_000, 1, "at most 256 kB are read; split it"),
    "huge number": ("version: " + "9" * 5_000 + "\n", 1, "put it in quotes if it is text"),
    "unknown key": (ONE + "prinicples: []\n", 7, "did you mean 'principles'?"),
    "unknown key inside": (ONE + "    critque: a\n", 7, "did you mean 'critique'?"),
    "missing key": ("name: kind\nversion: 1\ntitle: t\n", 1, "'principles' is missing; add it"),
    "key without value": (ONE + "    title:\n", 7, "has no value; write it or delete it"),
    "number as title": (ONE.replace("title: t", "title: 1.10"), 3, "put it in quotes"),
    "text as list": (ONE + "    tags: safety\n", 7, "must be a list; begin each entry with '- '"),
    "bad id": (ONE.replace("id: a", "id: No Insult"), 5, "use up to 64 of a-z, 0-9 and '-'"),
    "long id": (ONE.replace("id: a", "id: " + "a" * 65), 5, "use up to 64"),
    "id of two lines": (
        ONE.replace("id: a", "id: |\n      a\n      b\n    title: t"),
        *(5, "'a b ' is no id"),
    ),
    "key of two lines twice": (HEAD + '"a\\nb": 1\n' * 2, 5, "'a b' twice, first in line 4"),
    "bad name": (ONE.replace("kind", "../kind"), 1, "use up to 64 of a-z"),
    "duplicate id": (ONE + "  - id: a\n    compare: b\n", 7, "give each principle its own"),
    "empty text": (ONE.replace("Which is better?", "''"), 6, "write at least one word"),
    "blank text": (ONE.replace("Which is better?", "'  '"), 6, "write at least one word"),
    "no principle": (HEAD + "principles: []\n", 4, "write at least one entry"),
    "principle without text": (HEAD + "principles:\n  - id: a\n", 5, "add 'critique' and"),
    "critique alone": (ONE + "    critique: a\n", 7, "no 'revision'; add it"),
    "zero weight": (ONE + "    weight: 0\n", 7, "must be greater than 0"),
    "NaN weight": (ONE + "    weight: .nan\n", 7, "not a finite number"),
    "infinite weight": (ONE + "    weight: .inf\n", 7, "not a finite number"),
    "overflowing weight": (ONE + "    weight: 1e999\n", 7, "the number is too large"),
    "weight as text": (ONE + "    weight: '2'\n", 7, "must be a number"),
    "bad composition": (ONE + "composition: vote\n", 7, "'sample', 'mean', 'priority' or 'veto'"),
    "veto without veto": (ONE + "composition: veto\n", 7, "add 'tags: [veto]' to one"),
    "version as text": (ONE.replace("version: 1", "version: '1'"), 2, "without quotes"),
    "version zero": (ONE.replace("version: 1", "version: 0"), 2, "from 1 on, or draft"),
    "version true": (ONE.replace("version: 1", "version: true"), 2, "whole number"),
    "later format": ("format: 2\n" + ONE, 1, "must be 1"),
    "case without answer": (ONE + "    cases: [{prompt: a, better: b}]\n", 7, "'worse' is missing"),
    "case ends with answer": (
        ONE + "    cases:\n      - prompt: [{role: assistant, content: a}]\n"
        "        better: b\n        worse: c\n",
        *(8, "end with the user's"),
    ),
    "bad role": (
        ONE + "    cases:\n      - prompt: [{role: usr, content: a}]\n"
        "        better: b\n        worse: c\n",
        *(8, "did you mean 'user'?"),
    ),
    "extends without a version": ("extends: base\n" + ONE, 1, "as in base@1"),
    "extends a path": ("extends: ../base@1\n" + ONE, 1, "write a name and a version"),
    "extends a list": ("extends: [base@1]\n" + ONE, 1, "must be text"),
    "provenance without digest": (
        ONE + "provenance: {format: json, file: a.json}\n",
        *(7, "'digest' is missing from provenance"),
    ),
    "provenance with another hash": (
        ONE + "provenance: {format: json, file: a.json, digest: 'md5:0'}\n",
        *(7, "provenance.digest"),
    ),
    "half an example": (
        ONE + "few_shot:\n  - messages: [{role: user, content: a}]\n    response: b\n",
        *(8, "'critique' is missing from few_shot[0]"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_line_and_the_way_out(case, tmp_path):
    content, line, way_out = BROKEN[case]
    path = tmp_path / "draft.yaml"
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    began = time.process_time()
    with pytest.raises(ConstitutionError) as caught:
        validate(Constitution, load_yaml_file(path))
    seconds = time.process_time() - began
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}:")
    assert way_out in message
    assert "\n" not in message
    assert seconds < (1 if sys.gettrace() is None else 5), "a coverage tracer slows it by five"


@pytest.mark.parametrize("case", BROKEN)
def test_a_refusal_takes_little_memory(case, tmp_path):
    content, *_ = BROKEN[case]
    path = tmp_path / "draft.yaml"
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    tracemalloc.start()
    with pytest.raises(ConstitutionError):
        validate(Constitution, load_yaml_file(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 20_000_000


CIRCLES = {
    "of one": {"kind": "kind@draft"},
    "of two": {"kind": "other@draft", "other": "kind@draft"},
    "of nine": {"kind": "b1@draft", **{f"b{i}": f"b{(i + 1) % 9}@draft" for i in range(1, 9)},
                "b0": "kind@draft"},
}  # fmt: skip


@pytest.mark.parametrize("case", CIRCLES)
def test_a_circle_is_refused_with_its_line_and_the_way_out(case, tmp_path):
    for name, base in CIRCLES[case].items():
        text = ONE.replace("version: 1", f"version: draft\nextends: {base}")
        write(tmp_path, name=name, text=text)
    began = time.process_time()
    with pytest.raises(ConstitutionError) as caught:
        ConstitutionStore(tmp_path).get("kind@draft")
    assert time.process_time() - began < 1
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/kind/draft.yaml:3:10: ")
    assert "take 'extends' out of one" in message or "write some out" in message


def test_an_alias_bomb_is_refused_within_50_ms(tmp_path):
    path = tmp_path / "draft.yaml"
    path.write_text(BOMB)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(ConstitutionError):
            load_yaml_file(path)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05


def test_the_unbroken_file_is_taken(tmp_path):
    path = tmp_path / "draft.yaml"
    path.write_text(TEXT)
    assert validate(Constitution, load_yaml_file(path)).ref == "kind@draft"
