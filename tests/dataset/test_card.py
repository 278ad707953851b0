"""The card says what is in the data and what is not; the hub's reader takes its header."""

import json
from collections import Counter
from xml.etree import ElementTree

import pytest
import yaml

from cai.dataset.card import card_files, card_text, margins_svg, write_card
from cai.dataset.export import export_rows
from cai.dataset.export.readme import hub_header
from cai.dataset.facts import survey
from cai.dataset.records import encode_row
from cai.errors import ConflictError
from tests.dataset.rows import label, row
from tests.feedback.helpers import constitution

RULES = constitution(
    {"id": "kind", "critique": "Is it kind?", "revision": "Make it kind.", "compare": "Kinder?"}
)


def make_run(folder, rows, *, digest=RULES.digest, **manifest):
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(b"".join(encode_row(one) for one in rows))
    rejected = [("judge", "tie"), ("judge", "tie"), ("draft", "context-length")]
    (folder / "rejected.jsonl").write_bytes(
        b"".join(encode_row({"stage": stage, "reason": why}) for stage, why in rejected)
    )
    content = {
        "format": 1,
        "constitution": {"ref": "test@1", "digest": digest},
        "counts": {"inputs": 7, "kept": 4, "rejected": {"tie": 2, "context-length": 1}},
        **manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def header_of(text):
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_card_of_a_run_has_counts_rejections_judge_and_constitution(tmp_path):
    rows = [row(number, turns=1 + number % 2) for number in range(4)]
    run = make_run(tmp_path / "run", rows, canaries={"asked": 20, "held": 19})
    path = write_card(run, constitution=RULES)
    header, body = header_of(path.read_text())
    assert header["pretty_name"] == "run"
    assert header["size_categories"] == ["n<1K"]
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "rows.jsonl"}]
    for line in (
        "| pairs | 4 |",
        "| inputs | 7 |",
        "| inputs rejected | 3 |",
        "| prompts of several turns | 2 |",
        "| judge | tie | 2 |",
        "| draft | context-length | 1 |",
        "| all | 4 | 0.000 | 0.050 |",
        "| kind | 4 | 0.000 | 0.050 |",
        "Of 20 canary pairs with a known answer, 19 held.",
        RULES.digest,
        "  compare: Kinder?",
        "![Margins of the labels](margins.svg)",
    ):
        assert line in body, line
    assert (run / "margins.svg").exists()


def test_card_of_a_run_in_the_hubs_own_reader(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    path = write_card(make_run(tmp_path / "run", [row(0)]), license="cc-by-4.0")
    card = hub.DatasetCard.load(path)
    assert card.data.license == "cc-by-4.0"
    assert card.data.pretty_name == "run"
    assert "preference" in card.data.tags


def test_another_constitution_is_refused(tmp_path):
    run = make_run(tmp_path / "run", [row(0)], digest="sha256:other")
    with pytest.raises(ConflictError, match="sha256:other"):
        write_card(run, constitution=RULES)


def test_what_is_not_known_is_left_out():
    text = card_text(
        survey([row(0, label=None, constitution=None, policy=None)]),
        title="t",
        files={},
        manifest={},
        rejected=Counter(),
    )
    assert "## Judge" not in text
    assert "## Rejected" not in text
    assert "## Constitution" not in text
    assert "configs" not in text


def test_markup_in_names_and_texts_stays_text():
    odd = constitution({"id": "x", "compare": "```\n# not a heading\n---\n<b>`"})
    title = 'a "title": | with <script> *stars* and\n--- lines'
    text = card_text(
        survey([row(0)]), title=title, files={}, manifest={}, rejected=Counter(), constitution=odd
    )
    header, body = header_of(text)
    assert header["pretty_name"] == title
    assert "<script>" not in body
    assert "\n````text\n" in body


def test_card_of_an_exported_folder_names_its_splits(tmp_path):
    rows = [row(number) for number in range(40)]

    def card(files, _report):
        about = {"title": "mine", "files": files, "manifest": {}, "rejected": {}}
        return card_files(survey(rows), **about)

    export_rows(rows, "ultrafeedback", tmp_path / "uf", card=card)
    header, _ = header_of((tmp_path / "uf" / "README.md").read_text())
    splits = {one["split"] for one in header["configs"][0]["data_files"]}
    assert {"train_prefs", "train_sft", "train_gen"} <= splits
    assert (tmp_path / "uf" / "margins.svg").exists()


def test_facts_are_counted():
    """Margins |2p - 1| of 0.7, 0.7 and 0: bins 13 or 14, and 0."""
    rows = [row(0), row(1), row(2, p_chosen=0.5, source="human", label=None)]
    facts = survey(rows)
    assert facts.sources == {"ai": 2, "human": 1}
    assert facts.principles == {"kind": 2}
    assert facts.margins[0] == 1
    assert sum(facts.margins[13:15]) == 2
    assert facts.share_longer_chosen == 1.0
    assert facts.judge.as_dict()["judge-1"]["position_bias"] == pytest.approx(0.05)


def test_flips_in_rows_reach_the_card():
    facts = survey([row(0, label=label(0.9, 0.3)), row(1)])
    assert facts.judge.as_dict()["judge-1"]["flip_share"] == 0.5


def test_picture_is_well_formed_and_draws_each_bin():
    root = ElementTree.fromstring(margins_svg([0, 5, 10]))
    bars = [one for one in root.iter() if one.tag.endswith("rect")]
    assert [float(bar.get("height")) for bar in bars] == pytest.approx([0, 95, 190])
    ElementTree.fromstring(margins_svg([0] * 20))


def test_header_is_yaml_whatever_the_names_are():
    name = 'x: "y"\n- z 😀 \x85 \u2028 \\'
    text = hub_header({"train": "data/a b: c.jsonl"}, pretty_name=name, license="mit")
    header, _ = header_of(text)
    assert header["pretty_name"] == name
    assert header["configs"][0]["data_files"][0]["path"] == "data/a b: c.jsonl"
