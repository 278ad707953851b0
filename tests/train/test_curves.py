"""Curves survive kills: a torn line is cut, and what comes after the resumed step is dropped."""

from cai.train.curves import Curves, read_curves


def test_what_was_added_is_read_in_order(tmp_path):
    curves = Curves(tmp_path)
    curves.add(1, {"loss": 2.5, "epoch": 0.5})
    curves.add(2, {"eval_loss": 2})
    curves.close()
    expected = [{"step": 1, "loss": 2.5, "epoch": 0.5}, {"step": 2, "eval_loss": 2}]
    assert read_curves(tmp_path) == expected


def test_what_is_no_finite_number_is_left_out(tmp_path):
    curves = Curves(tmp_path)
    curves.add(1, {"a": float("nan"), "b": float("inf"), "c": "text", "d": True, "e": 0.5})
    curves.close()
    assert read_curves(tmp_path) == [{"step": 1, "e": 0.5}]


def test_rows_after_the_resumed_step_and_a_torn_line_are_dropped(tmp_path):
    curves = Curves(tmp_path)
    for step in (1, 2, 3, 4):
        curves.add(step, {"loss": step})
    curves.close()
    with (tmp_path / "curves.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    resumed = Curves(tmp_path, after=2)
    resumed.add(3, {"loss": 30})
    resumed.close()
    assert [(row["step"], row["loss"]) for row in read_curves(tmp_path)] == [
        (1, 1),
        (2, 2),
        (3, 30),
    ]


def test_a_run_that_starts_over_has_no_old_rows(tmp_path):
    curves = Curves(tmp_path)
    curves.add(1, {"loss": 1})
    curves.close()
    Curves(tmp_path, after=0).close()
    assert read_curves(tmp_path) == []
