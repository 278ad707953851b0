"""The figures of a replay, by hand: differences of log-probs over the continuation alone."""

import pytest

from cai.errors import ContextLengthError
from cai.policy.manifest import Probe
from cai.policy.probes import ProbeReport, default_tolerance, replay
from cai.types import TokenLogprob


class Engine:
    """Gives every token the log-prob -1, but -2 to token 9; more than six tokens are too many."""

    async def prompt_logprobs(self, prompt, *, top=0):
        if len(prompt.ids) > 6:
            raise ContextLengthError("too long")
        return tuple(TokenLogprob(i, "", -2.0 if i == 9 else -1.0) for i in prompt.ids[1:])


def probe(prompt, continuation, *logprobs):
    return Probe(prompt_ids=prompt, continuation_ids=continuation, logprobs=logprobs)


async def test_the_largest_and_the_mean_difference_and_where():
    """|-1 + 1.25| = 0.25, |-2 + 1.5| = 0.5 and |-1 + 1| = 0: mean 0.75 / 3."""
    probes = [probe((9, 9, 9), (1,), -1.0), probe((1,), (1, 9), -1.25, -1.5)]
    assert await replay(Engine(), probes) == ProbeReport(0.5, 0.25, 3, 1)


async def test_no_probes_show_nothing():
    assert await replay(Engine(), ()) == ProbeReport(0.0, 0.0, 0, -1)


async def test_an_engine_that_refuses_a_probe_says_why_itself():
    with pytest.raises(ContextLengthError, match="too long"):
        await replay(Engine(), [probe((1,), (1,) * 9, *[-1.0] * 9)])


def test_the_tolerance_follows_what_the_engine_computes_in():
    assert (
        default_tolerance("float32") < default_tolerance("bfloat16") == default_tolerance("float16")
    )
