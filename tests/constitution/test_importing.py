"""Other forms come in as valid drafts, with their provenance, and go out again."""

import json

import pytest

from cai.constitution.exporting import FORMATS, exported
from cai.constitution.forms import anthropic, model_spec
from cai.constitution.forms.table import FORMS
from cai.constitution.importing import import_file
from cai.constitution.lint import lint
from cai.constitution.release import release
from cai.constitution.store import ConstitutionStore
from cai.errors import ConflictError, ConstitutionError
from cai.files import digest_file
from tests.constitution.helpers import TEXT, parse, write

ANTHROPIC = "anthropic-CritiqueRevisionInstructions.json"

COMPARES = ["\nWhich reply is kinder? Options:", "\nChoose the calmer reply. Options:"]
SWARM = {
    "constitutions": [{"critic": "Is it rude?", "revision": "Be polite."}] * 2,
    "system_chat": [
        [
            {"role": role, "content": text}
            for role, text in zip(
                ["user", "assistant"] * 3,
                ["Hi", "Go away", "Is it rude?", "Very.", "Be polite.", "Hello!"],
                strict=True,
            )
        ]
    ],
}
SPEC = """\
# The spec of nobody {#top}

Words before all.

## Be calm {#be_calm authority=root}

Stay **calm**, see [?](#other_rule)[^a1] and [this](http://x.example).

- A list of details.

!!! meta "Commentary"
    Left out.

More reasons.

**Example**: calm under fire

~~~xml
<developer>
You serve tea.
</developer>
<user>
Hurry up!
</user>
<comparison>
<assistant> <!-- BAD: shouting -->
NO!
</assistant>
<assistant> <!-- GOOD -->
Right away.
</assistant>
</comparison>
~~~

**Example**: only one answer

~~~xml
<user>
# not a heading {#x authority=root}
</user>
<comparison>
<assistant> <!-- GOOD -->
Yes.
</assistant>
</comparison>
~~~

### Other rule {#other_rule authority=guideline}

Another.
"""


@pytest.fixture
def store(tmp_path):
    return ConstitutionStore(tmp_path / "constitutions")


def imported(store, tmp_path, value, **options):
    file = tmp_path / "source"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    done = import_file(store, file, name="new", **options)
    return done, store.get("new@draft")


def test_anthropics_instructions_make_16_principles_and_go_back_whole(store, shared_data):
    file = shared_data / ANTHROPIC
    done = import_file(store, file, name="new", note="no licence is given")
    assert (done.form, done.num_principles) == ("anthropic-critique", 16)
    made = store.get("new@draft")
    original = json.loads(file.read_text())
    for principle, (key, entry) in zip(made.principles, original.items(), strict=True):
        assert principle.id == key
        assert entry["prompt"] == [f"\n\nCritiqueRequest: {principle.critique}\n\nCritique:"]
        assert entry["edit_request"] == f"\n\nRevisionRequest: {principle.revision}\n\nRevision:"
    assert json.loads(exported(made, "anthropic-critique")) == original
    assert made.provenance.model_dump() == {
        "format": "anthropic-critique",
        "file": ANTHROPIC,
        "digest": digest_file(file),
        "note": "no licence is given",
    }
    assert [one for one in lint(done.path) if one.severity == "error"] == []
    assert release(store, "new").ref == "new@1"


def test_the_comparison_principles_come_and_go(store, tmp_path):
    done, made = imported(store, tmp_path, COMPARES)
    assert done.form == "anthropic-compare"
    assert [(one.id, one.compare) for one in made.principles] == [
        ("choice0", "Which reply is kinder?"),
        ("choice1", "Choose the calmer reply."),
    ]
    assert json.loads(exported(made, "anthropic-compare")) == COMPARES


def test_llm_swarms_principles_and_examples_come_and_go(store, tmp_path):
    done, made = imported(store, tmp_path, SWARM)
    assert (done.form, done.num_principles) == ("llm-swarm", 2)
    (example,) = made.few_shot
    assert (example.response, example.critique, example.revision) == ("Go away", "Very.", "Hello!")
    assert json.loads(exported(made, "llm-swarm")) == SWARM


def test_llm_swarms_older_form_is_a_list_alone(store, tmp_path):
    assert imported(store, tmp_path, SWARM["constitutions"])[0].form == "llm-swarm"


def test_the_model_specs_sections_are_principles_with_cases(store, tmp_path):
    done, made = imported(store, tmp_path, SPEC)
    assert (done.form, done.num_principles, done.num_cases) == ("model-spec", 2, 1)
    calm, other = made.principles
    assert (calm.id, calm.title, calm.tags) == ("be-calm", "Be calm", ("authority-root",))
    assert calm.compare == (
        "Which answer follows this rule better? Be calm. Stay calm, see other rule and this."
    )
    assert calm.rationale == "More reasons."
    assert calm.references == ("#be_calm",)
    (case,) = calm.cases
    assert [(turn.role, turn.content) for turn in case.messages] == [
        ("system", "You serve tea."),
        ("user", "Hurry up!"),
    ]
    assert (case.better, case.worse) == ("Right away.", "NO!")
    assert (other.id, other.cases) == ("other-rule", ())


def test_what_we_write_as_a_model_spec_has_the_cases_when_it_is_read_again(store, tmp_path):
    _, made = imported(store, tmp_path, exported(parse(), "model-spec"))
    assert [one.id for one in made.principles] == ["no-insult", "be-brief"]
    assert made.principles[0].cases == parse().principles[0].cases


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_our_own_forms_keep_the_digest(store, tmp_path, form):
    before = parse()
    text = exported(before, form)
    if form == "json":
        _, made = imported(store, tmp_path, text)
        assert made.model_copy(update={"provenance": None}).principles == before.principles
        assert made.provenance.format == "json"
    else:
        assert parse(text).digest == before.digest


def test_json_whose_digest_is_not_its_own_is_refused(store, tmp_path):
    text = exported(parse(), "json").replace("insults less", "insults more")
    with pytest.raises(ConstitutionError, match=r"says that its digest is .* it was edited"):
        imported(store, tmp_path, text)


def test_what_is_extended_is_written_out_on_export(store, tmp_path):
    write(store.root)
    release(store, "kind")
    text = "name: c\nversion: draft\ntitle: t\nextends: kind@1\nprinciples: []\n"
    write(store.root, name="c", text=text)
    child = store.get("c@draft")
    assert parse(exported(child, "yaml")).principles == parse().principles


def test_an_import_overwrites_nothing(store, tmp_path):
    imported(store, tmp_path, COMPARES)
    with pytest.raises(ConflictError, match="exists; edit it"):
        imported(store, tmp_path, COMPARES)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{", {}, r"source:1:2: is not JSON: Expecting property name"),
        ("{}", {}, "source: has none of the forms that are read: json, anthropic-critique"),
        ("[]", {}, "has none of the forms"),
        ("[" * 100_000, {}, "nested too deeply"),
        (COMPARES, {"form": "llm-swarm"}, "source: does not have the form 'llm-swarm'"),
        (COMPARES, {"form": "llm-swam"}, "no form 'llm-swam'; did you mean 'llm-swarm'"),
        ({"name": "n", "title": "t", "principles": [{"id": "a"}]}, {}, "has no text for any step"),
        ({**SWARM, "system_chat": [[]]}, {}, r"system_chat\[0\] does not end with question"),
        ({**SWARM, "system_chat": [3]}, {}, r"system_chat\[0\] is no list of turns"),
        ([" Options:"], {}, "write at least one word"),
    ],
)
def test_what_cannot_be_read_is_refused_by_file(store, tmp_path, content, options, message):
    with pytest.raises(ConstitutionError, match=message):
        imported(store, tmp_path, content, **options)
    assert store.names() == ()


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(store, tmp_path):
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    with pytest.raises(ConstitutionError, match="byte 0 is not UTF-8"):
        import_file(store, tmp_path / "bad", name="n")
    with pytest.raises(ConstitutionError, match="cannot be read: No such file"):
        import_file(store, tmp_path / "none", name="n")


@pytest.mark.parametrize("form", ["anthropic-critique", "llm-swarm"])
def test_a_form_without_anything_to_hold_is_refused(form):
    only = TEXT[: TEXT.index("  - id: no-insult")] + TEXT[TEXT.index("  - id: be-brief") :]
    with pytest.raises(ConstitutionError, match="has 'critique'; export another form"):
        exported(parse(only), form)


def test_ids_that_would_be_the_same_are_told_apart(store, tmp_path):
    entry = {"prompt": ["\n\nCritiqueRequest: a\n\nCritique:"], "edit_request": "b"}
    _, made = imported(store, tmp_path, {"A b": entry, "a_B": entry})
    assert [one.id for one in made.principles] == ["a-b", "a-b-2"]


def test_every_form_is_offered():
    assert set(FORMATS) == {*FORMS, "yaml"}
    assert anthropic.kebab("!!") == "principle"
    assert not model_spec.is_form("# a heading\n")
