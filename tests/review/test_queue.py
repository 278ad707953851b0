"""The queue: who gets what, leases, what is refused, and that nothing tells whose answer it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cai.db import Database
from cai.errors import ConflictError, InputError, NotFoundError
from cai.review.queue import Added, ReviewQueue
from cai.review.records import Given, Opinion, hashed, is_swapped
from tests.policy.registering import opened
from tests.postgres import postgres
from tests.review.things import choice_for, pair, single


class Clock:
    """A time that only moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with opened(tmp_path_factory.mktemp("home")) as database:
        yield database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(shared: Database, clock: Clock) -> ReviewQueue:
    """An empty queue: the tables are emptied, as making a database takes long."""
    with shared.begin() as connection:
        for table in ("review_leases", "review_decisions", "review_items"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    return ReviewQueue(shared, clock=clock)


def add(queue: ReviewQueue, *drafts, **options) -> Added:
    return queue.add(drafts, source="file", actor="me", **{"random_share": 0.0, **options})


def test_a_rater_is_told_nothing_of_policies_judges_or_the_sample(queue: ReviewQueue) -> None:
    add(queue, pair(origin={"row": "secret-row"}), random_share=1.0)
    shown = queue.next("ann")
    assert shown is not None
    told = json.dumps(shown._asdict())
    for hidden in ("new", "old", "judge", "0.9", "secret", "random", "file"):
        assert hidden not in told
    assert set(shown._asdict()) == {"id", "kind", "prompt", "answers", "until"}


def test_sides_are_shuffled_by_a_hash_and_the_choice_finds_its_way_back(
    queue: ReviewQueue,
) -> None:
    """Of 200 pairs about half are shown turned; every vote for the good answer is kept as that."""
    drafts = [pair(number) for number in range(200)]
    turned = sum(is_swapped(draft.id, "ann") for draft in drafts)
    assert 80 <= turned <= 120
    assert any(is_swapped(d.id, "ann") != is_swapped(d.id, "bob") for d in drafts)
    add(queue, *drafts[:12])
    while choice_for(queue, "ann"):
        pass
    found = list(queue.reviewed())
    assert len(found) == 12
    for item, (decision,) in found:
        side = item.answers[0 if decision.choice == "a" else 1]
        assert side[0]["content"].startswith("good")
    assert {decision.is_swapped for _, (decision,) in found} == {True, False}


def test_the_place_of_a_side_says_nothing_of_who_was_chosen() -> None:
    first = [pair(number).answers[0][0]["content"].startswith("good") for number in range(200)]
    assert 80 <= sum(first) <= 120


def test_uncertain_and_disputed_items_come_first(queue: ReviewQueue) -> None:
    """1 - 2|p - 0.5| is 0.2, 0.8 and 0.1; two judges on two sides add 1 to an uncertainty of 1."""
    split = [Opinion(by=name, kind="judge", p_a=p) for name, p in (("x", 0.9), ("y", 0.1))]
    drafts = [pair(0, 0.9), pair(1, 0.6), pair(2, 0.95), pair(3, opinions=split)]
    add(queue, *drafts)
    order = [choice_for(queue, "ann") for _ in drafts]
    assert order == [drafts[index].id for index in (3, 1, 0, 2)]
    assert queue.next("ann") is None


def test_the_random_share_is_drawn_without_regard_to_the_judge(queue: ReviewQueue) -> None:
    """0.2 of 400, and of the 200 undecided and the 200 clear ones alike."""
    add(queue, *(pair(n, 0.5 if n % 2 else 0.99) for n in range(400)), random_share=0.2)
    records = queue.page(limit=1000, only_decided=False).records
    drawn = [one.item for one in records if one.item.is_random]
    assert 60 <= len(drawn) <= 100
    unsure = sum(one.p_a == 0.5 for one in drawn)
    assert 0.35 < unsure / len(drawn) < 0.65


def test_random_items_come_between_in_their_share_and_in_an_order_of_their_own(
    queue: ReviewQueue,
) -> None:
    drafts = [pair(n, 0.5 + n / 100) for n in range(40)]
    add(queue, *drafts, random_share=0.5)
    known = {one.item.id: one.item for one in queue.page(limit=99, only_decided=False).records}
    items = [known[str(choice_for(queue, "ann"))] for _ in range(20)]
    drawn = [item for item in items if item.is_random]
    assert 4 <= len(drawn) <= 16
    places = [hashed("place", 0, item.id) for item in drawn]
    assert places == sorted(places)
    others = [item.priority for item in items if not item.is_random]
    assert others == sorted(others, reverse=True)


def test_two_raters_do_not_get_the_same_item_until_a_lease_runs_out(
    queue: ReviewQueue, clock: Clock
) -> None:
    add(queue, pair(0, 0.6), pair(1, 0.9))
    first, second = queue.next("ann", lease_s=10), queue.next("bob", lease_s=10)
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert queue.next("cat") is None
    again = queue.next("ann", lease_s=10)
    assert again == first
    assert queue.counts()["leased"] == 2
    clock.now += 11
    third = queue.next("cat", lease_s=10)
    assert third is not None
    assert third.id == first.id
    with pytest.raises(ConflictError, match="ran out and others have it now"):
        queue.decide(first.id, "ann", Given(choice="tie"))
    assert queue.decide(second.id, "bob", Given(choice="tie")).choice == "tie"  # still free


def test_as_many_raters_as_wanted_and_each_once(queue: ReviewQueue) -> None:
    add(queue, pair(), target=2)
    assert choice_for(queue, "ann") == choice_for(queue, "bob") == pair().id
    assert queue.next("ann") is None
    assert queue.next("cat") is None
    counts = queue.counts()
    assert (counts["items"], counts["open"], counts["leased"]) == (1, 0, 0)


def test_who_skips_is_not_asked_again_and_does_not_count(queue: ReviewQueue) -> None:
    add(queue, pair())
    shown = queue.next("ann")
    assert shown is not None
    queue.decide(shown.id, "ann", Given(choice="skip", comment=" no idea "))
    assert queue.next("ann") is None
    assert choice_for(queue, "bob") == shown.id
    ((_, (skipped, _)),) = queue.reviewed()
    assert (skipped.choice, skipped.comment) == ("skip", "no idea")


def test_raters_who_disagree_bring_an_item_forward(queue: ReviewQueue) -> None:
    """0.2 against 0.4 by the judge alone; two votes against each other add 1 to the first."""
    add(queue, pair(0, 0.9), pair(1, 0.8), target=3)
    for rater, wanted in (("ann", "good"), ("bob", "bad")):
        assert choice_for(queue, rater, "good") == pair(1).id
        assert choice_for(queue, rater, wanted) == pair(0).id
    assert choice_for(queue, "cat") == pair(0).id


def test_the_same_content_is_one_item_and_new_opinions_join_it(queue: ReviewQueue) -> None:
    assert add(queue, pair()) == Added(1, 0)
    other = pair(opinions=[Opinion(by="other", kind="judge", p_a=0.3)])
    assert add(queue, pair(p_a=0.2), other) == Added(0, 2)
    (one,) = queue.page(only_decided=False).records
    assert sorted(opinion.by for opinion in one.item.opinions) == ["judge", "other"]
    good_first = one.item.answers[0][0]["content"].startswith("good")
    assert one.item.p_a == pytest.approx(0.6 if good_first else 0.4)
    assert one.item.priority == pytest.approx(0.8 + 1)


@pytest.mark.parametrize(
    ("draft", "given", "param"),
    [
        (pair(), {}, "choice"),
        (pair(), {"rating": 3}, "choice"),
        (pair(), {"choice": "a", "rating": 3}, "choice"),
        (single("x"), {"choice": "a"}, "rating"),
        (single("x"), {"choice": "tie"}, "rating"),
        (single("x"), {"choice": "rating"}, "rating"),
    ],
)
def test_what_cannot_be_said_of_an_item_is_refused(
    queue: ReviewQueue, draft, given, param: str
) -> None:
    add(queue, draft)
    queue.next("ann")
    with pytest.raises(InputError) as caught:
        queue.decide(draft.id, "ann", Given(**given))
    assert caught.value.param == param
    assert queue.page().records == ()


def test_an_item_is_decided_once_by_those_who_were_given_it(queue: ReviewQueue) -> None:
    add(queue, single("x"), target=2)
    id = single("x").id
    with pytest.raises(ConflictError, match="was not given to 'ann'; take one with next"):
        queue.decide(id, "ann", Given(rating=3))
    queue.next("ann")
    assert queue.decide(id, "ann", Given(rating=3)).rating == 3
    with pytest.raises(ConflictError, match="'ann' decided this item already, at 20"):
        queue.decide(id, "ann", Given(rating=4))
    with pytest.raises(NotFoundError, match="there is no review item 'rv-0'"):
        queue.decide("rv-0", "ann", Given(rating=3))


def test_pages_go_on_after_an_item(queue: ReviewQueue) -> None:
    add(queue, *(pair(number) for number in range(5)))
    first = queue.page(limit=2, only_decided=False)
    second = queue.page(limit=3, after=first.records[-1].item.id, only_decided=False)
    assert (first.has_more, second.has_more) == (True, False)
    ids = [one.item.id for one in (*first.records, *second.records)]
    assert ids == [pair(number).id for number in range(5)]
    with pytest.raises(NotFoundError):
        queue.page(after="rv-none")


@pytest.mark.parametrize("wrong", [{"target": 0}, {"target": 99}, {"random_share": float("nan")}])
def test_an_import_that_makes_no_sense_is_refused(queue: ReviewQueue, wrong) -> None:
    with pytest.raises(InputError):
        add(queue, pair(), **wrong)


def test_postgresql_does_the_same(tmp_path: Path) -> None:
    from cai.db import open_database
    from cai.settings import Settings

    with postgres(tmp_path) as url:
        settings = Settings(home=tmp_path / "home", database_url=url)
        with open_database(settings) as database:
            queue = ReviewQueue(database)
            add(queue, *(pair(number) for number in range(3)), random_share=0.5)
            while choice_for(queue, "ann"):
                pass
            assert len(list(queue.reviewed())) == 3
            assert queue.counts()["open"] == 0
