"""Label scoring and log-probs never share a batch, and nobody waits for ever."""

import asyncio

import pytest

from cai.engine.lanes import Lanes


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Holds a lane until it is told to end; `kinds` has what is held now."""

    def __init__(self, lanes: Lanes, held: list[str]) -> None:
        self.lanes, self.held = lanes, held

    def start(self, kind: str) -> tuple[asyncio.Task, asyncio.Event]:
        end = asyncio.Event()
        lane = self.lanes.logprobs if kind == "logprobs" else self.lanes.scoring_in_turn

        async def run() -> None:
            async with lane():
                self.held.append(kind)
                assert len(set(self.held)) == 1, "both kinds at once"
                await end.wait()
                self.held.remove(kind)

        return asyncio.create_task(run()), end


@pytest.fixture
def held() -> list[str]:
    return []


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


@pytest.fixture
def work(lanes, held) -> Work:
    return Work(lanes, held)


async def test_scoring_is_free_until_log_probs_run(lanes):
    with lanes.scoring() as first, lanes.scoring() as second:
        assert first
        assert second
    async with lanes.logprobs():
        with lanes.scoring() as held:
            assert not held
    with lanes.scoring() as held:
        assert held


async def test_log_probs_wait_for_the_scoring_in_flight_and_new_scoring_does_not_wait(lanes, work):
    with lanes.scoring():
        task, end = work.start("logprobs")
        await settle()
        assert work.held == []
        with lanes.scoring() as held:
            assert not held, "else log-probs would wait for ever"
    await settle()
    assert work.held == ["logprobs"]
    end.set()
    await task


async def test_turns_are_taken_in_order(work):
    first, end_first = work.start("logprobs")
    await settle()
    scoring, end_scoring = work.start("scoring")
    later, end_later = work.start("logprobs")
    await settle()
    assert work.held == ["logprobs"], "a later one does not overtake the scoring that waits"
    end_first.set()
    await settle()
    assert work.held == ["scoring"]
    end_scoring.set()
    await settle()
    assert work.held == ["logprobs"]
    end_later.set()
    await asyncio.gather(first, scoring, later)


async def test_neighbours_of_one_kind_run_together(work):
    blocker, end_blocker = work.start("logprobs")
    await settle()
    started = [work.start("scoring") for _ in range(3)]
    await settle()
    end_blocker.set()
    await settle()
    assert work.held == ["scoring"] * 3
    for _, end in started:
        end.set()
    await asyncio.gather(blocker, *(task for task, _ in started))


async def test_one_that_is_cancelled_while_it_waits_lets_the_others_on(lanes, work):
    blocker, end_blocker = work.start("logprobs")
    await settle()
    waiting, _ = work.start("scoring")
    behind, end_behind = work.start("logprobs")
    await settle()
    waiting.cancel()
    await settle()
    assert work.held == ["logprobs", "logprobs"], "nothing stands between them any more"
    end_blocker.set()
    end_behind.set()
    await asyncio.gather(blocker, behind)
    with lanes.scoring() as held:
        assert held


async def test_a_turn_that_comes_together_with_a_cancel_is_given_back(lanes, work):
    blocker, end_blocker = work.start("logprobs")
    await settle()
    waiting, _ = work.start("scoring")
    await settle()
    end_blocker.set()
    await blocker  # the turn is given here, and the waiting task has not run yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), lanes.logprobs():
        pass


async def test_an_error_inside_leaves_the_lane(lanes):
    with pytest.raises(ValueError, match="x"):
        async with lanes.logprobs():
            raise ValueError("x")
    with pytest.raises(ValueError, match="y"), lanes.scoring():
        raise ValueError("y")
    async with asyncio.timeout(1), lanes.logprobs():
        pass
