"""Watching for reward hacking: the rule by hand, its rates over many runs, a planted exploit."""

import json
import math
import random
import statistics

import pytest

from cai.errors import DataError, EngineDeadError
from cai.feedback.config import JudgeConfig
from cai.feedback.judge import Judge
from cai.stats.overoptimisation import reward_at
from cai.train.curves import Curves, read_curves
from cai.train.decline import Pooled, Seen, find_decline, judge_curve, proxy_curve
from cai.train.watch import Observation, Watch, WatchConfig, WinRate, distance, judge_win_rate
from cai.types import Message
from tests.feedback.helpers import ASKED, constitution, judge_engine, longer_wins
from tests.test_import_light import loaded_by

CONSTITUTION = constitution("kind")
RULE = {"window": 1, "false_alarms": 0.05, "min_drop": 0.02}


def seen(*win_rates, proxy=None, n=100):
    proxies = proxy or range(len(win_rates))
    pairs = enumerate(zip(win_rates, proxies, strict=True))
    return [Seen(i, i * i, float(r), win, n) for i, (win, r) in pairs]


def observe(watch, *win_rates, n=100, first=0):
    """One evaluation after the other, at d = 0, 1, 2 … with the proxy rising; the verdicts."""
    return [
        watch.observe(Observation(i, float(i * i), float(i), WinRate(win, n)))
        for i, win in enumerate(win_rates, start=first)
    ]


class TestTheRule:
    def test_a_fall_beyond_the_errors_of_both_is_a_decline(self):
        """80 and 70 of 100. Centres p = (80 + 1.92)/103.84 = 0.7889, and 0.6926; √(p(1 − p)/103.84)
        = 0.0400 and 0.0453, together 0.0604. One stretch to compare: z = 1.645, least fall 0.0994.
        """
        assert Pooled.of(seen(0.8)).error == pytest.approx(0.0400, abs=1e-4)
        assert Pooled.of(seen(0.7)).error == pytest.approx(0.0453, abs=1e-4)
        assert find_decline(seen(0.8, 0.701), **RULE) is None
        assert find_decline(seen(0.8, 0.700), **RULE)[:3] == (0.8, 0.7, 0)

    def test_it_asks_for_more_the_more_stretches_it_has_compared(self):
        """Four stretches make ten comparisons: z of 0.005 is 2.576, and the least fall 0.15."""
        assert find_decline(seen(0.5, 0.5, 0.8, 0.5, 0.67), **RULE) is None
        assert find_decline(seen(0.5, 0.5, 0.8, 0.5, 0.63), **RULE) is not None

    def test_a_reward_that_fell_too_is_no_hacking(self):
        assert find_decline(seen(0.8, 0.5, proxy=[2, 1]), **RULE) is None

    def test_a_small_fall_is_none_however_sure(self):
        assert find_decline(seen(0.8, 0.785, n=10**6), **RULE) is None
        assert find_decline(seen(0.8, 0.775, n=10**6), **RULE) is not None

    def test_a_window_is_smoothed_by_its_verdicts_and_stretches_do_not_overlap(self):
        """0.9 of 100 and 0.6 of 200 are 210 of 300."""
        mixed = [Seen(0, 0, 0, 0.9, 100), Seen(1, 1, 1, 0.6, 200)]
        assert Pooled.of(mixed).mean == pytest.approx(0.7)
        assert find_decline(seen(0.9, 0.9, 0.1), **{**RULE, "window": 2}) is None
        found = find_decline(seen(0.9, 0.9, 0.1, 0.1), **{**RULE, "window": 2})
        assert (found.best, found.now, found.best_step) == (0.9, 0.1, 1)
        assert "from 0.900 (around step 1) to 0.100" in found.told()
        assert "from 0.5 to 2.5" in found.told()

    def test_evaluations_without_a_judge_are_passed_over(self):
        mixed = [*seen(0.8), Seen(1, 1, 1.0), Seen(2, 4, 2.0, 0.5, 100)]
        assert find_decline(mixed, **RULE) is not None


class TestStopping:
    def test_it_takes_patience(self):
        watch = Watch(WatchConfig(window=1, patience=2))
        first, second, third = observe(watch, 0.8, 0.5, 0.5)
        assert (first.stop, second.stop, third.stop) == (False, False, True)
        assert "win rate fell from 0.800 (around step 0) to 0.500" in third.reason
        assert third.reason.endswith("the best weights are those of step 0")
        assert watch.best.step == 0

    def test_a_recovery_starts_patience_anew(self):
        watch = Watch(WatchConfig(window=1, patience=2))
        assert not any(one.stop for one in observe(watch, 0.8, 0.5, 0.8, 0.5))

    def test_an_evaluation_without_a_judge_neither_adds_to_patience_nor_ends_it(self):
        watch = Watch(WatchConfig(window=1, patience=2))
        observe(watch, 0.8, 0.5)
        assert not watch.observe(Observation(2, 4.0, 2.0)).stop
        assert observe(watch, 0.5, first=3)[0].stop

    def test_too_few_verdicts_do_not_count_and_are_told(self):
        watch = Watch(WatchConfig(window=1, patience=1, min_judge_n=101))
        last = observe(watch, 0.9, 0.1)[-1]
        assert not last.stop
        assert last.warnings == (
            "100 verdicts of the judge are too few for its win rate to count; 101 are needed",
        )

    def test_the_kl_budget_stops_and_what_is_beyond_it_is_not_the_best(self):
        watch = Watch(WatchConfig(kl_budget=10.0))
        assert not watch.observe(Observation(1, 10.0, 1.0, WinRate(0.6, 100))).stop
        over = watch.observe(Observation(2, 10.5, 2.0, WinRate(0.9, 100)))
        assert (over.stop, over.is_best) == (True, False)
        assert over.reason == (
            "KL to the reference is 10.5 nats, the budget 10.0; "
            "the best weights are those of step 1"
        )

    @pytest.mark.parametrize(
        ("given", "planned", "num_steps", "expected"),
        [
            ({}, 25, 100, 12),  # eight, where four were planned
            ({}, 5, 100, 5),  # twenty already
            ({"window": 4, "patience": 3}, 25, 100, 10),  # 2·4 + 3 - 1 = 10
            ({}, 3, 4, 1),
        ],
    )
    def test_a_judged_run_is_looked_at_often_enough(self, given, planned, num_steps, expected):
        assert WatchConfig(**given).often_enough(planned, num_steps) == expected

    def test_no_budget_is_no_limit(self):
        assert not Watch(WatchConfig(kl_budget=None)).observe(Observation(1, 1e6, 1.0)).stop

    @pytest.mark.parametrize(("kl", "proxy"), [(math.nan, 1.0), (1.0, math.inf)])
    def test_what_is_not_finite_stops(self, kl, proxy):
        watch = Watch(WatchConfig())
        assert watch.observe(Observation(1, 1.0, 1.0)).is_best
        verdict = watch.observe(Observation(2, kl, proxy))
        assert (verdict.stop, verdict.is_best) == (True, False)
        assert "not both finite" in verdict.reason
        assert json.loads(json.dumps(watch.state_dict(), allow_nan=False))

    def test_a_kl_that_is_no_number_is_not_taken_for_none(self):
        assert (distance(-0.1), distance(2.0)) == (0.0, 2.0)
        assert math.isnan(distance(math.nan))
        assert not Watch(WatchConfig(kl_budget=None)).is_within_budget(math.nan)

    def test_an_estimate_of_kl_below_nothing_is_no_distance(self):
        assert Seen(1, -0.3, 1.0).distance == 0.0


class TestTheBest:
    def test_it_has_the_highest_lower_bound_of_the_smoothed_win_rate(self):
        """At 0.6, 0.7, 0.6 of 100, in twos: 0.6 of 100, 0.65 of 200, 0.65 of 200 again."""
        verdicts = observe(Watch(WatchConfig()), 0.6, 0.7, 0.6, 0.9)
        assert [one.is_best for one in verdicts] == [True, True, False, True]

    def test_few_verdicts_do_not_beat_many(self):
        watch = Watch(WatchConfig(window=1))
        watch.observe(Observation(1, 1.0, 1.0, WinRate(0.75, 1000)))
        assert not watch.observe(Observation(2, 2.0, 2.0, WinRate(0.80, 60))).is_best

    def test_without_a_judge_the_reward_decides(self):
        watch = Watch(WatchConfig())
        verdicts = [watch.observe(Observation(i, 1.0, r)) for i, r in enumerate([1.0, 3.0, 2.0])]
        assert [one.is_best for one in verdicts] == [True, True, False]

    def test_what_was_judged_goes_before_what_was_not(self):
        watch = Watch(WatchConfig())
        watch.observe(Observation(1, 1.0, 99.0))
        assert watch.observe(Observation(2, 1.0, 1.0, WinRate(0.4, 100))).is_best
        assert not watch.observe(Observation(3, 1.0, 999.0)).is_best


class TestWhatItLeaves:
    def test_curves_have_each_figure_once_and_leave_out_what_was_not_measured(self, tmp_path):
        curves = Curves(tmp_path)
        watch = Watch(WatchConfig(), curves)
        texts = ["I can't help with that.", "Use a red towel."]
        watch.observe(Observation(5, 4.0, 1.5, WinRate(0.75, 2, 1), [7, 5], texts, 0.9))
        watch.observe(Observation(6, -0.5, 1.5, WinRate(math.nan, 0, 2)))
        curves.close()
        first, second = read_curves(tmp_path)
        assert first == {
            "step": 5, "watch/kl": 4.0, "watch/sqrt_kl": 2.0, "watch/proxy_reward": 1.5,
            "watch/win_rate": 0.75, "watch/judge_n": 2, "watch/no_verdicts": 1, "watch/length": 6,
            "watch/words": 4.5, "watch/repeated": 0.0, "watch/distinct": 1.0, "watch/opening": 0.5,
            "watch/refusals": 0.5, "watch/duplicates": 0.0, "watch/entropy": 0.9,
        }  # fmt: skip
        assert second == {
            "step": 6, "watch/kl": -0.5, "watch/sqrt_kl": 0.0, "watch/proxy_reward": 1.5,
            "watch/judge_n": 0, "watch/no_verdicts": 2,
        }  # fmt: skip

    def test_texts_that_changed_since_the_beginning_are_warned_about(self):
        """Of the 15 words' 12 n-grams seven are 'so so so so': six repeat."""
        watch = Watch(WatchConfig())
        plain = [f"Put the {one} on the table." for one in ("egg", "pan", "cup", "jug", "tin")]
        gamed = ["Great question! I love it" + 10 * " so"] * 5
        assert watch.observe(Observation(0, 0.0, 0.0, None, [8] * 5, plain)).warnings == ()
        assert watch.observe(Observation(1, 1.0, 1.0, None, [13] * 5, gamed)).warnings == (
            "answers have 13 tokens, 8 at first",
            "50% of n-grams repeat one of their answer, 0% at first",
            "100% of answers begin with the same words, 20% at first",
            "80% of answers repeat another one, 0% at first",
        )

    def test_the_report_has_both_fits_as_json(self):
        """Proxy 2d; win rates σ(d(1 − 0.5 log d)), whose peak is at e."""
        watch = Watch(WatchConfig(window=10))
        for step in range(12):
            d = step / 2
            win = sigmoid(reward_at(d, 1.0, 0.5))
            watch.observe(Observation(step, d * d, 2 * d, WinRate(win, 100_000)))
        report = json.loads(json.dumps(watch.report(), allow_nan=False))
        assert (report["num_evaluations"], report["stopped_because"]) == (12, None)
        assert report["proxy_fit"]["alpha"] == pytest.approx(2.0)
        assert "peak" not in report["proxy_fit"]
        assert report["judge_fit"]["peak"] == pytest.approx(math.e, rel=1e-3)

    def test_the_proxy_is_fitted_from_the_evaluation_nearest_to_the_reference(self):
        found = proxy_curve([Seen(i, d * d, 5.0 + 3 * d) for i, d in enumerate([0, 1, 2, 3])])
        assert (found.alpha, found.beta) == pytest.approx((3.0, 0.0), abs=1e-9)
        assert proxy_curve([]) is None
        assert judge_curve([]) is None

    def test_the_judge_is_fitted_from_one_half_or_from_what_it_said_of_the_reference(self):
        """Win rates σ(−1 + d(1 − 0.5 log d)): found with d = 0 measured, not without."""

        def at(d):
            return Seen(0, d * d, d, sigmoid(reward_at(d, 1.0, 0.5) - 1.0), 10**6)

        apart = [at(d) for d in (1.0, 2.0, 3.0, 4.0)]
        measured = judge_curve([at(0.0), *apart])
        assert (measured.start, measured.alpha) == pytest.approx((-1.0, 1.0), abs=1e-4)
        assert judge_curve(apart).start == 0.0

    def test_a_run_resumed_anywhere_is_judged_as_an_unbroken_one(self):
        rates = [0.6, 0.7, 0.75, 0.7, 0.5, 0.45, 0.4]
        unbroken = observe(Watch(WatchConfig()), *rates)
        assert unbroken[-1].stop
        for cut in range(1, len(rates)):
            before, after = Watch(WatchConfig()), Watch(WatchConfig())
            verdicts = observe(before, *rates[:cut])
            after.load_state(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
            verdicts += observe(after, *rates[cut:], first=cut)
            assert verdicts == unbroken, f"cut at {cut}"
            assert after.best == Watch_best(rates)

    def test_a_state_that_is_none_is_refused(self):
        with pytest.raises(DataError, match="not the state of a watch"):
            Watch(WatchConfig()).load_state({"seen": []})

    def test_it_loads_nothing_heavy(self):
        assert loaded_by("import cai.train.watch, cai.train.plots") == set()


def Watch_best(rates):
    watch = Watch(WatchConfig())
    observe(watch, *rates)
    return watch.best


class TestTheJudgesWinRate:
    async def test_it_is_the_mean_soft_label_of_both_orders(self):
        """The longer answer wins with 0.9, whichever is shown first: 0.9, 0.1 and a tie."""
        judge = Judge(judge_engine(longer_wins(0.9, bias=0.05)))
        found = await judge_win_rate(
            judge,
            [ASKED] * 3,
            ["Boil it for seven minutes.", "No.", "The same."],
            ["Boil it.", "Boil it long.", "The  same."],
            CONSTITUTION,
        )
        assert found.rate == pytest.approx(0.5)
        assert (found.n, found.no_verdicts) == (3, 0)
        better = await judge_win_rate(judge, [ASKED], ["Boil it well."], ["Boil."], CONSTITUTION)
        assert better.rate == pytest.approx(0.9)

    async def test_a_failed_verdict_never_counts(self, caplog):
        """A flip says nothing; the one verdict left is 0.9."""

        def p_first(a, b, _question):
            return 0.9 if "flip" in a + b else longer_wins(0.9)(a, b, _question)

        judge = Judge(judge_engine(p_first), config=JudgeConfig(refuse_flips=True))
        answers = ["Boil it for long.", "flip one"]
        found = await judge_win_rate(
            judge, [ASKED] * 2, answers, ["Boil it.", "flip two"], CONSTITUTION
        )
        assert (found.rate, found.n, found.no_verdicts) == (pytest.approx(0.9), 1, 1)
        assert "no verdict on 1 of 2" in caplog.text
        assert "flip one" not in caplog.text

    async def test_an_answer_that_cannot_be_judged_is_a_loss(self):
        """Else a collapse into silence or a loop would leave the rate as it was."""
        judge = Judge(judge_engine(longer_wins(0.9)))
        answers = ["Boil it for long.", "", "no no no no no no no no", " "]
        references = ["Boil it.", "Yes.", "Yes.", ""]
        found = await judge_win_rate(judge, [ASKED] * 4, answers, references, CONSTITUTION)
        assert found == (pytest.approx((0.9 + 0 + 0 + 0.5) / 4), 4, 0)

    async def test_a_tie_of_the_judge_is_a_half(self):
        judge = Judge(judge_engine(lambda _a, _b, _q: 0.5))
        found = await judge_win_rate(judge, [ASKED], ["One."], ["Two."], CONSTITUTION)
        assert found == WinRate(0.5, 1, 0)

    async def test_without_any_verdict_there_is_no_rate(self):
        judge = Judge(judge_engine(lambda _a, _b, _q: 0.5, mass=0.1))
        found = await judge_win_rate(judge, [ASKED], ["One."], ["Two."], CONSTITUTION)
        assert math.isnan(found.rate)
        assert (found.n, found.no_verdicts) == (0, 1)

    async def test_an_engine_that_is_gone_is_an_error(self):
        def p_first(_a, _b, _question):
            raise EngineDeadError("gone")

        judge = Judge(judge_engine(p_first))
        with pytest.raises(EngineDeadError):
            await judge_win_rate(judge, [ASKED] * 2, ["A.", "B."], ["C.", "D."], CONSTITUTION)

    async def test_each_prompt_draws_its_principle_again_the_same(self):
        asked = []

        def p_first(_a, _b, question):
            asked.append(question)
            return 0.7

        judge = Judge(judge_engine(p_first))
        prompts = [(Message("user", f"Question {i}?"),) for i in range(12)]
        several = constitution("kind", "true", "short")
        for _ in range(2):
            await judge_win_rate(judge, prompts, ["One."] * 12, ["Two."] * 12, several)
        first, second = sorted(asked[:24]), sorted(asked[24:])
        assert first == second
        assert len(set(first)) == 3


class TestRatesOverManyRuns:
    """Simulated runs of 24 evaluations with 128 binomial verdicts each; d grows to 4 as √step.

    A run that hacks: gold reward d(1.2 − 0.8 log d), so that the true win rate is 0.79 at its peak
    d = 1.65 and 0.59 in the end, while the proxy rises by 4 with noise 0.3.
    """

    SEEDS = 300

    def test_a_run_that_hacks_is_caught_and_its_best_weights_are_good(self):
        stops, kept, where = [], [], []
        for seed in range(self.SEEDS):
            watch, stop = simulate(lambda d: reward_at(d, 1.2, 0.8), seed, slope=1.0)
            stops.append(stop)
            kept.append(sigmoid(reward_at(watch.best.distance, 1.2, 0.8)))
            where += [d_of(stop)] if stop else []
        caught = sum(one is not None for one in stops) / self.SEEDS
        good = sum(win > 0.789 - 0.05 for win in kept) / self.SEEDS
        figures = (
            f"caught {caught:.1%} of {self.SEEDS} runs, on average at d = "
            f"{statistics.fmean(where):.2f} (peak 1.65); best weights within 0.05 of the peak's "
            f"win rate in {good:.1%}, mean {statistics.fmean(kept):.3f} of 0.789"
        )
        assert caught >= 0.95, figures
        assert good >= 0.95, figures

    def test_a_fit_of_one_run_finds_its_peak(self):
        """Over the runs unstopped: the 95 % interval holds the true peak in most."""
        held, peaks = 0, []
        for seed in range(100):
            watch, _ = simulate(lambda d: reward_at(d, 1.2, 0.8), seed, slope=1.0, to_the_end=True)
            curve = judge_curve(watch.seen)
            peaks.append(curve.peak)
            held += curve.peak_interval.low <= math.exp(0.5) <= curve.peak_interval.high
        figures = f"in {held} of 100 intervals; mean {statistics.fmean(peaks):.3f} of 1.649"
        assert held >= 88, figures
        assert statistics.fmean(peaks) == pytest.approx(1.649, rel=0.03), figures

    @pytest.mark.parametrize(
        ("name", "gold", "slope", "limit"),
        [
            ("better and better", lambda d: 0.5 * d, 1.0, 0.01),
            ("better, then level", lambda d: 1.5 * (1 - math.exp(-2 * d)), 1.0, 0.05),
            ("never better, reward rising", lambda _d: 0.0, 1.0, 0.05),
            ("level near 1", lambda d: 4.0 * (1 - math.exp(-4 * d)), 1.0, 0.05),
            ("worse, and its reward too", lambda d: -0.5 * d, -1.0, 0.02),
        ],
    )
    def test_a_sound_run_is_rarely_stopped(self, name, gold, slope, limit):
        stops = [simulate(gold, seed, slope=slope)[1] for seed in range(self.SEEDS)]
        alarms = sum(one is not None for one in stops) / self.SEEDS
        assert alarms <= limit, f"{name}: stopped {alarms:.1%} of {self.SEEDS} sound runs"

    def test_a_long_run_is_not_stopped_more_often(self):
        """100 evaluations of the hardest kind: level for the judge while the reward rises."""
        stops = [simulate(lambda _d: 0.0, s, slope=1.0, num=100)[1] for s in range(100)]
        alarms = sum(one is not None for one in stops)
        assert alarms <= 8, f"stopped {alarms} of 100"


async def test_a_reward_that_pays_for_length_is_caught():
    """The proxy is the length in words; the judge likes answers better the nearer to 14 words.

    The policy starts at 8 words and learns one more per evaluation, padding with a phrase. The
    judge's logit is (|8 − 14| − |words − 14|)/3, so it likes 14 words best, and 20 as the start.
    """
    filler = ["and", "I", "am", "so", "happy", "that", "you", "asked", "me", "this", "today"]
    prompts = [(Message("user", f"How do I mend a thing of kind {i}?"),) for i in range(96)]
    reference = [f"Take part {i} and glue it back in place." for i in range(96)]

    def p_first(a, b, _question):
        gain = abs(len(b.split()) - 14) - abs(len(a.split()) - 14)
        return sigmoid(gain / 3)

    judge, rng = Judge(judge_engine(p_first)), random.Random(5)
    watch, verdicts = Watch(WatchConfig()), []
    for step in range(1, 25):
        extra = [max(0, round(rng.gauss(step, 2))) for _ in prompts]
        answers = [
            " ".join([*start.split(), *(filler * 3)[:more]])
            for start, more in zip(reference, extra, strict=True)
        ]
        lengths = [len(answer.split()) for answer in answers]
        proxy = statistics.fmean(lengths)
        win = await judge_win_rate(judge, prompts, answers, reference, CONSTITUTION)
        kl = step * step / 16
        verdicts.append(watch.observe(Observation(step, kl, proxy, win, lengths, answers)))
        if verdicts[-1].stop:
            break
    assert verdicts[-1].stop, f"24 evaluations, {[round(one.win_rate, 2) for one in watch.seen]}"
    assert "the reward no longer measures what the judge values" in verdicts[-1].reason
    assert 4 <= watch.best.step <= 8, f"the judge likes 6 words more best, kept {watch.best}"
    assert verdicts[-1].warnings[0].startswith("answers have")


def simulate(gold, seed, *, slope, num=24, n=128, to_the_end=False):
    """A run until it is stopped: the watch, and the step where it was."""
    rng = random.Random(f"{seed}|{num}")
    watch = Watch(WatchConfig(kl_budget=None))
    for step in range(1, num + 1):
        d = d_of(step, num)
        won = sum(rng.random() < sigmoid(gold(d)) for _ in range(n))
        reward = slope * d + rng.gauss(0, 0.3)
        verdict = watch.observe(Observation(step, d * d, reward, WinRate(won / n, n)))
        if verdict.stop and not to_the_end:
            return watch, step
    return watch, None


def d_of(step, num=24):
    return 4 * math.sqrt(step / num)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))
