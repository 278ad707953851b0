"""The report: what is compared and told apart, hostile text, bad input, and a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cai.cli.main import main
from cai.errors import ConfigError, DataError, NotFoundError
from cai.evaluate.eval_report import render_report
from cai.evaluate.eval_report_data import report_data
from cai.evaluate.eval_report_files import write_report
from cai.evaluate.eval_report_sources import Sources, find_sources, read_result
from tests.evaluate.kept import HOSTILE, keep_others, keep_policy, rate, write_runs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations of base and dpo, dpo better in the later; one of each other kind."""
    home = tmp_path_factory.mktemp("home")
    keep_policy(home, "policy-1", {"base": 60, "dpo": 55})
    keep_policy(home, "policy-2", {"base": 61, "dpo": 10})
    keep_others(home)
    write_runs(home)
    return home


def built(home: Path, *names: str, baseline: str | None = None, **options: Any) -> dict[str, Any]:
    pinned = None if baseline is None else read_result(baseline, home)
    return report_data(find_sources(names, home), baseline=pinned, **options)


def test_suites_of_gates_are_told_apart_from_those_held_out(home: Path) -> None:
    held, tuned = built(home)["suites"]
    assert (held["name"], held["is_held_out"], held["used_for"]) == ("harmlessness", True, [])
    assert (tuned["name"], tuned["is_held_out"], tuned["used_for"]) == ("gate", False, ["gates"])
    assert len(held["rows"]) == 4
    page = render_report(built(home))
    assert page.index("Held out") < page.index("harmlessness") < page.index("Tuned on")


def test_a_run_is_compared_with_the_baseline_policy_by_policy(home: Path) -> None:
    """dpo fell from 55 to 10 of 100, base went from 60 to 61: only the first is a change."""
    report = built(home, "policy-2", baseline="policy-1")
    moved = {(c["series"], c["metric"]): c for c in report["changes"]}
    assert moved["dpo", "harmlessness"]["changed"]
    assert moved["dpo", "harmlessness"]["difference"] == pytest.approx(-0.45)
    assert not moved["base", "harmlessness"]["changed"]
    assert {run["id"] for run in report["runs"]} == {"policy-1", "policy-2"}
    page = render_report(report)
    assert "only what changed" in page
    assert 'class="same"' in page


def test_only_what_changed_is_left_with_the_baseline_beside_it(home: Path) -> None:
    report = built(home, "policy-2", "judge-1", baseline="policy-1", only_changed=True)
    rows = {(row["run"], row["policy"]) for suite in report["suites"] for row in suite["rows"]}
    assert rows == {("policy-2", "dpo"), ("policy-1", "dpo")}
    assert {change["series"] for change in report["changes"]} == {"dpo"}
    assert "judges" not in report
    assert "same" not in re.findall(r'class="(\w+)"', render_report(report))


def test_suites_of_another_content_are_not_compared(tmp_path: Path) -> None:
    keep_policy(tmp_path, "a", {"base": 60})
    keep_policy(tmp_path, "b", {"base": 10}, digest="sha256:c")
    found = built(tmp_path, "b", baseline="a")
    assert {one["metric"] for one in found["changes"]} == {"gate", "gate / fraud"}
    assert [suite["name"] for suite in found["suites"]].count("harmlessness") == 2


def test_a_suite_that_training_may_see_is_not_held_out(tmp_path: Path) -> None:
    keep_policy(tmp_path, "a", {"base": 60}, split="train")
    report = built(tmp_path, "a")
    told = {one["name"]: one["is_held_out"] for one in report["suites"]}
    assert told == {"harmlessness": False, "gate": False}
    assert "Held out" not in render_report(report)


def test_a_single_policy_of_the_baseline_stands_for_all(tmp_path: Path) -> None:
    keep_policy(tmp_path, "a", {"base": 60})
    keep_policy(tmp_path, "b", {"dpo": 10})
    found = built(tmp_path, "b", baseline="a")["changes"]
    assert {(one["series"], one["baseline_series"]) for one in found} == {("dpo", "base")}


def test_the_alignment_tax_is_a_column_against_the_oldest_or_the_pinned(home: Path) -> None:
    (row,) = built(home, "bench-0", "bench-1")["benchmarks"]
    assert row == built(home, "bench-1", "bench-0")["benchmarks"][0]
    base, other = row["cells"]
    assert (base["policy"], base["is_base"], "tax" in base) == ("base", True, False)
    assert other["tax"]["difference"] == pytest.approx(-0.1)
    (row,) = built(home, "bench-0", baseline="bench-1")["benchmarks"]
    assert row["cells"][0]["policy"] == "dpo"
    assert "−10.0 points" in render_report(built(home))


def test_a_benchmark_of_other_settings_is_no_base_and_pays_no_tax(home: Path) -> None:
    """bench-2 asked 50 items where the two others asked 100, so it is a base of its own."""
    kept = [one for name in ("bench-0", "bench-1") for one in find_sources((name,), home).results]
    settings = {**kept[0].result.settings, "limit": 50}
    update = {"id": "bench-2", "created_at": "2025-01-01", "settings": settings}
    unlike = replace(kept[0], result=kept[0].result.model_copy(update=update))
    sources = Sources([unlike, *kept])
    (row,) = report_data(sources)["benchmarks"]
    assert [(cell["run"], cell["is_base"], "tax" in cell) for cell in row["cells"]] == [
        ("bench-2", True, False),
        ("bench-0", True, False),
        ("bench-1", False, True),
    ]
    report = report_data(sources, baseline=unlike)
    assert not any(cell.get("tax") for cell in report["benchmarks"][0]["cells"])
    assert "changes" not in report


def test_revisions_are_shares_of_what_is_not_at_fault(home: Path) -> None:
    (found,) = built(home)["revisions"]
    last = found["steps"][2]
    assert last["harmlessness"]["rate"] == pytest.approx(1 - 0.2)
    assert last["helpfulness"]["rate"] == pytest.approx(1 - 0.1)
    low, high = rate(20)["ci"]
    assert last["harmlessness"]["ci"] == pytest.approx([1 - high, 1 - low])


def test_sections_without_data_are_absent(home: Path) -> None:
    report = built(home, "arena-1")
    assert set(report) == {"format", "created_at", "runs", "baseline", "only_changed", "arenas"}
    everything = built(home)
    assert {"over_optimisation", "curves", "reliability", "attribution", "revised"} <= set(
        everything
    )
    assert everything["over_optimisation"][0]["fit"]["alpha"] == pytest.approx(1.0, abs=0.5)
    (test,) = everything["others"]
    assert test["recommendation"] == "promote: dpo: it is better"
    assert test["figures"][0]["figure"] == {"value": 0.2, "ci": [0.1, 0.3], "n": 80}


def test_the_same_prompt_stands_side_by_side_where_outcomes_differ(home: Path) -> None:
    first = built(home, "policy-2", baseline="policy-1")["transcripts"][0]
    assert [side["outcome"] for side in first["answers"]] in (
        ["failed", "passed"],
        ["passed", "failed"],
    )


def test_hostile_text_stays_text_and_the_page_needs_nothing_from_outside(home: Path) -> None:
    page = render_report(built(home))
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#|\./)', page)
    assert "url(" not in page
    assert "@import" not in page


def test_every_figure_leads_to_its_run_and_its_folder(home: Path, tmp_path: Path) -> None:
    page, data = write_report(built(home), tmp_path / "out" / "report.html")
    text = page.read_text()
    anchors = set(re.findall(r'href="#(run-\d+)"', text))
    targets = dict(re.findall(r'<tr id="(run-\d+)"><td class="wrap"><a href="([^"]*)"', text))
    assert anchors <= set(targets)
    for link in targets.values():
        assert (page.parent / link).is_dir(), link
    assert json.loads(data.read_text()) == json.loads(json.dumps(built(home) | {
        "created_at": json.loads(data.read_text())["created_at"]
    }))  # fmt: skip


def test_nothing_to_report_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no results in .*evals.*cai eval policy REF"):
        built(tmp_path)


def test_an_unknown_run_is_told_with_the_closest_name(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no result or run 'polcy-1'; did you mean 'policy-1'"):
        built(home, "polcy-1")
    with pytest.raises(NotFoundError, match="no result or run 'pp-1'; did you mean 'ppo-1'"):
        built(home, "pp-1")
    with pytest.raises(NotFoundError, match=r"holds none of result\.json, curves\.jsonl"):
        built(home, str(tmp_path))
    with pytest.raises(ConfigError, match="name it: --baseline RUN_ID"):
        built(home, only_changed=True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("evals/x/result.json", '{"format": 2}', "has format 2, and this version reads up to 1"),
        ("evals/x/result.json", '{"figures": {"a": [NaN]}}', "figures.a.0 is not a number"),
        ("evals/x/result.json", "{", "not valid JSON"),
        ("evals/x/result.json", '{"id": "x"}', "it is no result of an evaluation"),
        ("runs/x/curves.jsonl", '{"step": 1, "loss": NaN}\n', r"curves.jsonl:1: loss is not a nu"),
        ("runs/x/curves.jsonl", '{"loss": 1}\n', "'step' should be a number"),
        ("runs/x/manifest.json", '{"format": 9}', "has format 9"),
        ("demo/report.json", '{"revisions": 3}', "'revisions' should be a list"),
        ("demo/report.json", '{"revisions": [{"harmful": {"rate": Infinity}}]}', "not a number"),
    ],
)
def test_a_file_that_will_not_do_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        built(tmp_path, str(path.parent))
    assert str(path) in caught.value.message


def test_the_command_writes_both_files_or_prints_json(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CAI_HOME", str(home))
    out = tmp_path / "r.html"
    argv = ["eval", "report", "policy-2", "--baseline", "policy-1"]
    assert main([*argv, "--out", str(out)]) == 0
    assert "4 figures differ" in capsys.readouterr().err
    assert out.is_file()
    assert out.with_suffix(".json").is_file()
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline"] == "policy-1"
    for wrong in (["--out", "r.txt"], ["--baseline", "polcy-1"]):
        assert main(["eval", "report", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


MEASURE = """<script>
const drawn = [...document.querySelectorAll("svg.plot, .bars svg")].map(svg =>
  [...svg.querySelectorAll(".series, .at")].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width + box.height > 0;
  }).length);
parent.postMessage({width: innerWidth, scroll: document.documentElement.scrollWidth, drawn}, "*");
</script>"""
FRAMES = """<script>
const found = [];
onmessage = event => { found.push(event.data); document.title = JSON.stringify(found); };
</script>
<iframe src="measured.html" width="1280" style="border: 0"></iframe>
<iframe src="measured.html" width="390" style="border: 0"></iframe>"""


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no Chromium is installed (chromium, chromium-browser, google-chrome)")


def browse(page: Path, width: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window; what its console says is on stderr."""
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr",
        f"--window-size={width},3000", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_plots_in_colour_without_an_error(
    home: Path, tmp_path: Path, width: int
) -> None:
    """The first two colours of series are in the picture, and the console has nothing."""
    image = pytest.importorskip("PIL.Image")
    page, _ = write_report(built(home, baseline="policy-1"), tmp_path / "report.html")
    shot = browse(page, width, f"--screenshot={tmp_path / 'shot.png'}")
    assert "CONSOLE" not in shot.stderr
    with image.open(tmp_path / "shot.png") as picture:
        assert picture.size[0] == width
        colours = {rgb: n for n, rgb in picture.convert("RGB").getcolors(1 << 24)}
    for series in ((0x1F, 0x6F, 0xB2), (0xB8, 0x50, 0x0F)):
        assert colours.get(series, 0) > 200


def test_no_plot_is_empty_and_no_page_wider_than_its_window(home: Path, tmp_path: Path) -> None:
    """Measured in frames, as a window of a browser cannot be as narrow as a telephone."""
    page = render_report(built(home, baseline="policy-1"))
    (tmp_path / "measured.html").write_text(page.replace("</body>", f"{MEASURE}</body>"))
    frames = tmp_path / "frames.html"
    frames.write_text(FRAMES)
    dom = browse(frames, 1400, "--virtual-time-budget=3000", "--dump-dom").stdout
    told = re.search(r"<title>(.*?)</title>", dom)
    assert told is not None
    found = {one["width"]: one for one in json.loads(told[1])}
    assert set(found) == {1280, 390}
    for width, one in found.items():
        assert one["scroll"] <= width
        assert len(one["drawn"]) > 15
        assert min(one["drawn"]) >= 1


def test_the_check_of_the_console_sees_an_error(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<script>nothing.there</script>")
    assert "CONSOLE" in browse(page, 390, "--dump-dom").stderr
