"""Pages that publish and compare: everything is there, escaped, and nothing from outside."""

from pathlib import Path

import pytest

from cai.constitution.diff import compare
from cai.constitution.schema import Case, Principle
from cai.constitution.store import ConstitutionStore
from cai.errors import NotFoundError
from cai.evaluate.constitution_history import FILE_NAME, changelog_text, history, write_changelog
from cai.evaluate.constitution_pages import diff_page, published_page
from cai.evaluate.constitution_results import ResultStore
from cai.evaluate.constitution_tests import run_tests
from tests.constitution.helpers import write
from tests.evaluate.taste import judge, made, principle

SHIPPED = Path("constitutions")
EVIL = "<script>alert(1)</script>"


async def test_a_published_constitution_has_reasons_cases_results_and_changes(tmp_path):
    case = Case(prompt=EVIL, better="b", worse="w")
    old = made(principle("kind"))
    new = made(
        principle("kind", rationale="Because.", author="Ada", references=("A book.",), title=EVIL),
        Principle(id="calm", compare="Is it calm?", cases=(case,)),
        version=2,
    )
    store = ResultStore(tmp_path)
    store.save(await run_tests(new, judge(model="judge-7")))
    page = published_page(new, history=[compare(old, new)], results=store.of(new.digest))
    for word in (
        "Because.",
        "by Ada",
        "A book.",
        "judge-7",
        "held",
        "failed",
        "taste@1 to taste@2",
    ):
        assert word in page
    assert "&lt;script&gt;" in page
    for forbidden in ("<script", "http://", "https://", "src=", "@import"):
        assert forbidden not in page


def test_a_diff_page_has_the_words_that_came_and_went():
    old = made(principle("kind"), principle("calm"))
    new = made(principle("kind", asks="mild"), principle("warm"), version=2)
    page = diff_page(compare(old, new))
    assert "<del>kind</del><ins>mild</ins>" in page
    assert "<ins>Is it warm?</ins>" in page
    assert "<del>Is it calm?</del>" in page
    assert "Both mean the same" in diff_page(compare(old, old))


@pytest.mark.parametrize("name", ConstitutionStore(SHIPPED).names())
def test_a_shipped_changelog_is_what_the_releases_say(name):
    """Else: cai constitution changelog NAME --write."""
    text = (SHIPPED / name / FILE_NAME).read_text()
    assert text == changelog_text(ConstitutionStore(SHIPPED), name)


def test_a_name_without_releases_has_no_history(tmp_path):
    write(tmp_path)
    with pytest.raises(NotFoundError, match="'kind' has no release"):
        history(ConstitutionStore(tmp_path), "kind")
    with pytest.raises(NotFoundError):
        write_changelog(ConstitutionStore(tmp_path), "kind")
