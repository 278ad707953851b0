"""A dataset card: README.md in the hub's form, and the picture of margins beside it.

Says what the data is made of, by which constitution and judge, and what was left out and why.
Start from `write_card(run, constitution=...)`; `card_files` is for an exported folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cai.constitution.schema import Constitution, Principle
from cai.dataset.export.exporting import read_rows
from cai.dataset.export.readme import hub_header
from cai.dataset.facts import NUM_MARGIN_BINS, Facts, survey
from cai.dataset.records import MANIFEST, REJECTED, ROWS
from cai.errors import ConflictError
from cai.files import read_json, read_jsonl, replace_text

CARD = "README.md"
PICTURE = "margins.svg"


def write_card(
    run: Path,
    *,
    out: Path | None = None,
    constitution: Constitution | None = None,
    title: str | None = None,
    license: str | None = None,
) -> Path:
    """Write the card of a run directory, and its picture, into `out` (the run itself without one).

    Raises ConflictError when `constitution` is not the one that the run was made by.
    """
    manifest = read_json(run / MANIFEST) if (run / MANIFEST).exists() else {}
    made_by = manifest.get("constitution", {}).get("digest")
    if constitution is not None and made_by not in (None, constitution.digest):
        raise ConflictError(
            f"{run}: made by a constitution of digest {made_by}, and {constitution.ref} has "
            f"{constitution.digest}; give the one it was made by",
            param="constitution",
        )
    facts = survey(read_rows(run))
    rejected = Counter((row["stage"], row["reason"]) for row in read_jsonl(run / REJECTED))
    files = card_files(
        facts,
        title=title or run.name,
        files={"train": ROWS},
        manifest=manifest,
        rejected=rejected,
        constitution=constitution,
        license=license,
    )
    folder = out or run
    for name, text in files.items():
        replace_text(folder / name, text)
    return folder / CARD


def card_files(facts: Facts, **about: Any) -> dict[str, str]:
    """The card and its picture, by file name. `about` is what `card_text` takes."""
    return {PICTURE: margins_svg(facts.margins), CARD: card_text(facts, **about)}


def card_text(
    facts: Facts,
    *,
    title: str,
    files: Mapping[str, str],
    manifest: Mapping[str, Any],
    rejected: Mapping[tuple[str, str], int],
    constitution: Constitution | None = None,
    license: str | None = None,
) -> str:
    """The whole README.md. A part of which nothing is known is left out."""
    header = hub_header(files, pretty_name=title, license=license, num_rows=facts.num_pairs)
    parts = [
        header,
        f"# {_plain(title)}",
        _summary(facts, manifest),
        _counts(facts, manifest),
        _rejections(rejected),
        _judges(facts, manifest),
        _labelers(manifest),
        _margins(facts),
        _constitution(facts, constitution),
        _CAUTION,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def margins_svg(counts: Sequence[int]) -> str:
    """A bar for each bin of the margin |2p - 1|, from undecided on the left to certain."""
    width, height, left, bottom = 640, 260, 50, 40
    step, tallest = (width - left - 10) / len(counts), max(1, *counts)
    scale = (height - bottom - 30) / tallest
    bars = "".join(
        f'<rect x="{left + i * step:.1f}" y="{height - bottom - n * scale:.1f}" '
        f'width="{step - 2:.1f}" height="{n * scale:.1f}" fill="#4c78a8">'
        f"<title>{i / len(counts):.2f} to {(i + 1) / len(counts):.2f}: {n}</title></rect>"
        for i, n in enumerate(counts)
    )
    ticks = "".join(
        f'<text x="{left + share * (width - left - 10):.1f}" y="{height - bottom + 16}" '
        f'text-anchor="middle">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    base = height - bottom
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12" fill="#777">'
        "<title>Margins of the labels</title>"
        f"{bars}{ticks}"
        f'<line x1="{left}" y1="{base}" x2="{width - 10}" y2="{base}" stroke="#777"/>'
        f'<text x="{left - 6}" y="34" text-anchor="end">{tallest}</text>'
        f'<text x="{left - 6}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{(left + width) / 2}" y="{height - 6}" text-anchor="middle">'
        "margin |2p - 1| of the label</text></svg>\n"
    )


def _summary(facts: Facts, manifest: Mapping[str, Any]) -> str:
    made_by = manifest.get("constitution", {}).get("ref")
    by = f" under the constitution `{made_by}`" if made_by else ""
    policies = ", ".join(f"`{_code(name)}`" for name, _ in facts.policies.most_common(5))
    answered = f" Answers are by {policies}." if policies else ""
    return (
        f"{facts.num_pairs:,} pairs of answers, each with the probability that the chosen one is "
        f"better{by}.{answered} Every judged label can be traced to its principle, the digest of "
        "the constitution, the judge, and the raw log-probabilities in both orders."
    )


def _counts(facts: Facts, manifest: Mapping[str, Any]) -> str:
    counts = manifest.get("counts", {})
    rows: list[tuple[str, object]] = [("pairs", facts.num_pairs)]
    rows += [(f"pairs labelled by {name}", n) for name, n in sorted(facts.sources.items())]
    if counts:
        rows.append(("inputs", counts.get("inputs")))
        rows.append(("inputs kept", counts.get("kept")))
        rows.append(("inputs rejected", sum(counts.get("rejected", {}).values())))
        rows.append(("prompts that came again", counts.get("duplicates")))
    rows.append(("prompts of several turns", _num_multi_turn(facts)))
    if facts.num_pairs:
        rows.append(("mean characters, chosen", round(facts.chars_chosen / facts.num_pairs)))
        rows.append(("mean characters, rejected", round(facts.chars_rejected / facts.num_pairs)))
        rows.append(("chosen is the longer", facts.share_longer_chosen))
    return "## Counts\n\n" + _table(("what", "how many"), [r for r in rows if r[1] is not None])


def _num_multi_turn(facts: Facts) -> int:
    return sum(n for turns, n in facts.num_turns.items() if turns > 1)


def _rejections(rejected: Mapping[tuple[str, str], int]) -> str:
    if not rejected:
        return ""
    rows = [
        (stage, reason, n)
        for (stage, reason), n in sorted(rejected.items(), key=lambda one: (-one[1], one[0]))
    ]
    return "## Rejected inputs\n\n" + _table(("stage", "reason", "inputs"), rows)


_JUDGE_COLUMNS = {
    "pairs": "pairs",
    "flip_share": "flips with the order",
    "position_bias": "position bias",
    "known": "known labels",
    "accuracy": "accuracy",
    "calibration_error": "calibration error",
    "brier": "Brier score",
    "temperature": "temperature that fits",
}


def _judges(facts: Facts, manifest: Mapping[str, Any]) -> str:
    """The run's own measurements, which count refused labels too; else those of the rows."""
    measured = manifest.get("judge_stats") or facts.judge.as_dict()
    if not measured:
        return ""
    parts = ["## Judge"]
    for policy, tally in measured.items():
        parts.append(f"`{_code(policy)}`")
        rows = [("all", *_cells(tally))]
        rows += [(name, *_cells(one)) for name, one in tally.get("principles", {}).items()]
        parts.append(_table(("principle", *_JUDGE_COLUMNS.values()), rows))
    if canaries := manifest.get("canaries"):
        asked, held = canaries.get("asked", 0), canaries.get("held", 0)
        parts.append(f"Of {asked} canary pairs with a known answer, {held} held.")
    parts.append(
        "A flip is a verdict that goes with the position and not with the answer; the bias is the "
        "mean probability of the answer shown first, less 0.5."
    )
    return "\n\n".join(parts)


def _labelers(manifest: Mapping[str, Any]) -> str:
    """How far people agree, where several labelled the same pairs."""
    found = manifest.get("agreement")
    if not found:
        return ""
    rows: list[tuple[str, object]] = [("all: share that agrees", found.get("share_agreed", ""))]
    if "fleiss_kappa" in found:
        rows.append(("all: Fleiss' κ", found["fleiss_kappa"]))
    rows += [(f"{two}: Cohen's κ", value) for two, value in found.get("cohen_kappa", {}).items()]
    many = f"{found['labelers']:,} people labelled {found['pairs']:,} pairs together."
    return f"## Labelers\n\n{many}\n\n" + _table(("labelers", "agreement"), rows)


def _cells(tally: Mapping[str, Any]) -> list[object]:
    return [tally.get(name, "") for name in _JUDGE_COLUMNS]


def _margins(facts: Facts) -> str:
    if not facts.num_pairs:
        return ""
    low = sum(facts.margins[: NUM_MARGIN_BINS // 10])
    return (
        f"## Margins\n\n![Margins of the labels]({PICTURE})\n\n"
        f"{low:,} of {facts.num_pairs:,} labels lie within 0.45 to 0.55."
    )


def _constitution(facts: Facts, constitution: Constitution | None) -> str:
    known = [(ref, digest, n) for (ref, digest), n in facts.constitutions.most_common()]
    if not known and constitution is None:
        return ""
    parts = ["## Constitution"]
    if known:
        parts.append(_table(("reference", "digest", "pairs"), known))
    if constitution is not None:
        head = [f"title: {constitution.title}", f"composition: {constitution.composition}"]
        body = [_principle(one) for one in constitution.principles]
        parts.append(f"`{constitution.ref}`, digest `{constitution.digest}`:")
        parts.append(_fenced("\n\n".join(["\n".join(head), *body])))
    return "\n\n".join(parts)


def _principle(principle: Principle) -> str:
    lines = [f"{principle.id} (weight {principle.weight:g})"]
    for name in ("critique", "revision", "compare"):
        if text := getattr(principle, name):
            lines.append(f"  {name}: {text}")
    return "\n".join(lines)


_CAUTION = (
    "## Before you use it\n\n"
    "Labels with source `ai` are a model's opinion under the principles above, with that model's "
    "errors. Prompts may ask for harm, and rejected answers may give it. Hold a part of the "
    "prompts out by prompt, not by row: several pairs share one."
)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return _plain(str(value))


def _plain(text: str) -> str:
    """Text that stays text in Markdown: no markup, one line, no table cell of its own."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escape(" ".join(text.split()), quote=False))


def _code(text: str) -> str:
    return text.replace("`", "'")


def _fenced(text: str) -> str:
    """Text as it stands, in a fence longer than any that it holds."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
