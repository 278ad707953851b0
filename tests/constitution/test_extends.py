"""`extends`: principles laid over a base's by id, places that stay the file's, circles refused."""

import pytest

from cai.constitution.release import new_draft, release
from cai.constitution.schema import Constitution
from cai.constitution.store import MAX_BASES, ConstitutionStore
from cai.errors import ConflictError, ConstitutionError, TamperedReleaseError
from tests.constitution.helpers import TEXT, write

HEAD = "name: child\nversion: draft\ntitle: More\nextends: kind@1\n"


@pytest.fixture
def store(tmp_path):
    """kind@1 with two principles, no-insult and be-brief."""
    store = ConstitutionStore(tmp_path)
    write(tmp_path)
    release(store, "kind")
    return store


def child(store: ConstitutionStore, rest: str, *, name: str = "child", head: str = HEAD):
    path = store.root / name / "draft.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(head.replace("name: child", f"name: {name}") + rest)
    return store.get(f"{name}@draft")


def test_the_base_comes_first_and_new_principles_after(store):
    made = child(store, "principles:\n  - id: extra\n    compare: Which is warmer?\n")
    assert [one.id for one in made.principles] == ["no-insult", "be-brief", "extra"]
    assert (made.title, made.extends) == ("More", "kind@1")


def test_a_principle_with_the_bases_id_changes_what_it_sets_in_its_place(store):
    made = child(store, "principles:\n  - {id: no-insult, weight: 3, compare: Which is politer}\n")
    changed, untouched = made.principles
    assert (changed.weight, changed.compare) == (3, "Which is politer")
    assert changed.critique == "Point out any insult."
    assert len(changed.cases) == 1
    assert untouched == store.get("kind@1").principle("be-brief")


def test_composition_and_examples_come_from_the_base_unless_set(store):
    write(
        store.root, name="mean", text=TEXT.replace("principles:", "composition: mean\nprinciples:")
    )
    release(store, "mean")
    head = HEAD.replace("kind@1", "mean@1")
    assert child(store, "principles: []\n", head=head).composition == "mean"
    own = child(store, "composition: sample\nprinciples: []\n", head=head)
    assert own.composition == "sample"


def test_the_digest_is_that_of_the_content_written_out(store):
    made = child(store, "principles:\n  - {id: be-brief, weight: 2}\n")
    written_out = Constitution.model_validate(made.model_dump(exclude={"extends"}))
    assert made.digest == written_out.digest
    same = child(store, "principles: []\n").model_copy(update={"title": "Be kind"})
    assert Constitution.model_validate(same.model_dump()).digest == store.get("kind@1").digest


def test_bases_may_have_bases(store):
    child(store, "principles:\n  - {id: extra, compare: Which is warmer}\n")
    release(store, "child")
    made = child(
        store,
        "principles:\n  - {id: extra, weight: 2}\n",
        name="grandchild",
        head=HEAD.replace("kind@1", "child@1"),
    )
    assert [(one.id, one.weight) for one in made.principles] == [
        *(("no-insult", 1), ("be-brief", 1), ("extra", 2))
    ]


def test_an_edit_of_a_base_is_seen_at_once(store):
    made = child(store, "principles: []\n", head=HEAD.replace("kind@1", "kind@draft"))
    assert made.principles[0].critique == "Point out any insult."
    write(store.root, text=TEXT.replace("any insult", "every insult"))
    assert store.get("child@draft").principles[0].critique == "Point out every insult."


@pytest.mark.parametrize(
    ("rest", "place", "message"),
    [
        ("principles:\n  - {id: be-brief, compare: 3}\n", "6:29", "principles[1].compare is the n"),
        ("principles:\n  - id: x\n    wieght: 3\n", "7:5", "unknown key 'wieght' in principles[2]"),
        ("principles:\n  - id: x\n", "6:5", "'x' has no text for any step"),
        (
            "principles:\n  - {id: be-brief, weight: 2}\n  - {id: be-brief, weight: 3}\n",
            *("7:10", "the id 'be-brief' stands 2 times"),
        ),
        ("principles: none\n", "5:13", "must be a list"),
    ],
)
def test_a_mistake_is_told_at_its_own_line(store, rest, place, message):
    with pytest.raises(ConstitutionError) as caught:
        child(store, rest)
    assert f"draft.yaml:{place}: " in caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("kind", "write the version too, as in kind@1"),
        ("kind@7", "no constitution 'kind@7'; versions: 1, draft"),
        ("knd@1", "did you mean 'kind@1'"),
        ("../kind@1", "is no constitution; write name@2"),
        ("child@draft", "extends goes in a circle: child@draft > child@draft; take 'extends' out"),
    ],
)
def test_a_base_that_cannot_be_had_is_told_at_the_line_of_extends(store, extends, message):
    with pytest.raises(ConstitutionError) as caught:
        child(store, "principles: []\n", head=HEAD.replace("kind@1", f"'{extends}'"))
    assert "child/draft.yaml:4:10: " in caught.value.message
    assert message in caught.value.message


def test_a_circle_is_told_with_all_that_are_in_it_wherever_one_begins(store):
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        with pytest.raises(ConstitutionError):
            child(
                store, "principles: []\n", name=one, head=HEAD.replace("kind@1", f"{other}@draft")
            )
    with pytest.raises(ConstitutionError) as caught:
        store.get("b@draft")
    assert "b/draft.yaml:4:10: extends goes in a circle: " in caught.value.message
    assert "b@draft > c@draft > a@draft > b@draft" in caught.value.message


def test_a_chain_of_bases_has_an_end(store):
    before = "kind@1"
    for number in range(MAX_BASES):
        head = HEAD.replace("kind@1", before)
        child(store, "principles: []\n", name=f"n{number}", head=head)
        before = f"n{number}@draft"
    with pytest.raises(ConstitutionError, match=f"more than {MAX_BASES} extend one another"):
        child(store, "principles: []\n", name="last", head=HEAD.replace("kind@1", before))


def test_a_release_cannot_stand_on_a_draft(store):
    child(store, "principles: []\n", head=HEAD.replace("kind@1", "kind@draft"))
    with pytest.raises(ConstitutionError, match="a release cannot extend kind@draft"):
        release(store, "child")


def test_an_edited_base_breaks_what_stands_on_it_by_name(store):
    child(store, "principles: []\n")
    release(store, "child")
    path = store.path("kind", 1)
    path.write_text(path.read_text().replace("any insult", "no insult"))
    with pytest.raises(ConstitutionError, match=r"extends kind@1, which cannot be had: .*edited"):
        store.get("child@1")
    with pytest.raises(TamperedReleaseError):
        store.get("kind@1")


def test_a_new_draft_may_begin_on_a_base(store):
    text = new_draft(store, "fresh", extends="kind@1").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schema.json\nname: fresh\n")
    assert store.get("fresh@draft").extends == "kind@1"
    with pytest.raises(ConflictError):
        new_draft(store, "fresh", extends="kind@1")


def test_a_copied_release_keeps_braces_in_its_text(store):
    write(store.root, text=TEXT.replace("Be kind", "Be {name}"))
    release(store, "kind")
    store.path("kind", "draft").unlink()
    new_draft(store, "kind")
    assert store.get("kind@draft").title == "Be {name}"
