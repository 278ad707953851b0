"""SFT end to end on a tiny model: what is learned, kept and exported, and what is refused."""

import json
import resource

import pytest
import torch
from safetensors.torch import load_file

from cai.errors import ConfigError, ConflictError, DataError
from cai.files import read_json
from cai.policy.manifest import verify
from cai.train import sft
from cai.train.base import load_policy
from cai.train.curves import read_curves
from tests.train.runs import (
    CONSTITUTION,
    file_names,
    question,
    sft_config,
    write_lines,
    write_run,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def done(model_folder, tmp_path_factory):
    """One finished run that several tests look at: 12 prompts, 2 epochs."""
    folder = tmp_path_factory.mktemp("done")
    config = sft_config(
        folder,
        write_run(folder / "data"),
        model_folder,
        epochs=2,
        learning_rate=5e-3,
        patience=None,
    )
    seen = []
    checkpoint = sft.run(config, progress=seen.append)
    return config, checkpoint, seen


def test_the_policy_is_whole_and_says_where_it_came_from(done, model_folder):
    config, checkpoint, _ = done
    manifest = verify(config.out)
    assert manifest == checkpoint.manifest
    assert (manifest.kind, manifest.method, manifest.name) == ("full", "sft", "tiny")
    assert (manifest.base, manifest.parent) == (model_folder.name, None)
    assert manifest.constitutions == {"kind@1": CONSTITUTION["digest"]}
    assert [(s.name, s.num_rows) for s in manifest.data] == [("data/transcripts.jsonl", 24)]
    assert manifest.seeds == {"seed": 7}
    assert manifest.config["micro_batch_size"] == 4
    assert "run_dir" not in manifest.config
    assert str(config.run_dir.parent) not in manifest.model_dump_json()
    assert len(manifest.probes) == 4


def test_validation_gets_better_and_the_best_is_kept(done):
    config, checkpoint, _ = done
    losses = {r["step"]: r["eval_loss"] for r in read_curves(config.run_dir) if "eval_loss" in r}
    assert min(losses.values()) < 0.7 * losses[min(losses)]
    best = min(losses, key=losses.__getitem__)
    assert checkpoint.metrics["best_step"] == best
    assert checkpoint.metrics["eval_loss"] == losses[best]


def test_training_state_stays_in_the_run_folder(done):
    config, _, seen = done
    assert file_names(config.run_dir)[:2] == ["DONE", "checkpoints"]
    assert not list(config.run_dir.rglob("training_args.bin"))
    assert not [p for p in config.out.rglob("*") if p.suffix in (".pt", ".pth", ".bin")]
    assert [(p.step, p.num_steps) for p in seen] == [(n, 12) for n in range(1, 13)]


def test_the_exported_weights_are_those_of_the_best_checkpoint_rounded(done):
    config, checkpoint, _ = done
    best = config.run_dir / "checkpoints" / f"checkpoint-{int(checkpoint.metrics['best_step'])}"
    kept = load_file(best / "model.safetensors")
    for name, tensor in load_file(config.out / "model.safetensors").items():
        assert torch.equal(tensor, kept[name].to(torch.bfloat16)), name


def test_a_finished_run_is_not_run_again(done):
    config, checkpoint, _ = done
    seen = []
    assert sft.run(config, progress=seen.append) == checkpoint
    assert seen == []


def test_a_trained_policy_can_be_the_next_ones_parent(done, tmp_path, run_folder):
    first, checkpoint, _ = done
    config = sft_config(tmp_path, run_folder, first.out, max_steps=1, name="next")
    manifest = sft.run(config).manifest
    assert (manifest.parent, manifest.parent_digest) == ("tiny", checkpoint.manifest.digest)
    assert manifest.base == checkpoint.manifest.base


def test_loss_is_on_the_assistants_tokens_alone(model_folder, run_folder, tmp_path):
    """The trainer's validation loss is the mean over learned tokens, computed here by hand."""
    config = sft_config(tmp_path, run_folder, model_folder, max_steps=1, learning_rate=1e-12)
    checkpoint = sft.run(config)
    policy = load_policy(str(model_folder), config)
    data = sft.load_demonstrations(config.data, "auto")
    rows = sft.encode(
        policy.encoder, sft.split_by_prompt(data.rows, 0.1, config.seed), policy.config
    )
    total, count = 0.0, 0
    for row in rows.validation:
        with torch.no_grad():
            logprobs = policy.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place in range(1, len(row.ids)):
            if row.is_learnt[place]:
                total -= logprobs[place - 1, row.ids[place]].item()
                count += 1
    assert checkpoint.metrics["eval_loss"] == pytest.approx(total / count, rel=1e-5)


def test_it_stops_early_and_keeps_the_best(model_folder, run_folder, tmp_path):
    config = sft_config(
        tmp_path,
        run_folder,
        model_folder,
        epochs=40,
        patience=2,
        learning_rate=0.05,
        schedule="constant",
    )
    checkpoint = sft.run(config)
    steps = [row["step"] for row in read_curves(config.run_dir)]
    assert steps[-1] < 200
    assert (
        "has not improved in 2 validations" in read_json(config.run_dir / "DONE")["stopped_because"]
    )
    assert checkpoint.metrics["best_step"] < steps[-1]


def test_adapters_are_merged_into_whole_weights(model_folder, run_folder, tmp_path):
    """W + (alpha / rank) · B·A of the best checkpoint's adapter, then rounded."""
    config = sft_config(
        tmp_path, run_folder, model_folder, lora={"rank": 2, "alpha": 8}, max_steps=3
    )
    checkpoint = sft.run(config)
    assert checkpoint.manifest.kind == "full"
    step = int(checkpoint.metrics["best_step"])
    state = config.run_dir / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors"
    adapter = load_file(state)
    name = "model.layers.0.self_attn.q_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
    assert b.abs().max() > 0
    base = load_file(model_folder / "model.safetensors")[f"{name}.weight"].float()
    merged = load_file(config.out / "model.safetensors")[f"{name}.weight"]
    assert torch.equal(merged, (base + 4 * b @ a).to(torch.bfloat16))


def test_adapters_can_stay_apart(model_folder, run_folder, tmp_path):
    config = sft_config(
        tmp_path, run_folder, model_folder, lora={"rank": 2, "merge": False}, max_steps=1
    )
    manifest = sft.run(config).manifest
    assert manifest.kind == "lora"
    assert "adapter_model.safetensors" in manifest.files
    assert "model.safetensors" not in manifest.files
    assert str(model_folder.parent) not in (config.out / "adapter_config.json").read_text()


def test_a_dry_run_shows_what_would_be_learned_and_writes_nothing(
    model_folder, run_folder, tmp_path
):
    config = sft_config(tmp_path, run_folder, model_folder, epochs=3)
    preview = sft.run(config, dry_run=True)
    assert len(preview.samples) == 3
    context, answer = preview.samples[0]
    assert not context.is_learnt
    assert answer.is_learnt
    assert answer.text.endswith("<|im_end|>")
    assert preview.plan.num_train + preview.plan.num_validation == 24
    assert preview.plan.num_steps == 3 * preview.plan.steps_per_epoch
    assert preview.tokens.shortest <= preview.tokens.median <= preview.tokens.longest
    assert 0 < preview.tokens.num_learnt < preview.tokens.total
    json.dumps(preview.as_dict())
    assert file_names(tmp_path) == ["data"]


def test_the_steps_of_packed_rows_are_planned(model_folder, run_folder, tmp_path):
    """22 rows of some 20 tokens go into few rows of 512: one batch."""
    config = sft_config(tmp_path, run_folder, model_folder, epochs=1, packing=True)
    plan = sft.run(config, dry_run=True).plan
    assert plan.num_train <= 4
    assert plan.num_steps == 1


def test_what_the_data_has_and_no_row_was_made_of_is_told(model_folder, tmp_path, caplog):
    rows = [{"prompt": f"q {n}", "completion": "yes", "label": n != 1} for n in range(6)]
    data = write_lines(tmp_path / "m.jsonl", rows)
    config = sft_config(tmp_path, data, model_folder, max_steps=1)
    assert sft.run(config, dry_run=True).as_dict()["left_out"] == {"rejected-answer": 1}
    assert "left out" not in caplog.text
    assert sft.run(config).manifest.metrics["rows_left_out_rejected_answer"] == 1
    assert "left out of the data: 1 rejected-answer" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no demonstrations"),
        ([{"messages": [m.as_dict() for m in question(1)]}], r"m\.jsonl:1: .*no turn"),
        ([{"prompt": "a", "completion": "b"}] * 3, "all 3 rows answer the same prompt"),
        (
            [
                {
                    "messages": [
                        {"role": "user", "content": "a"},
                        {"role": "assistant", "content": "b"},
                    ],
                    "weight": 2,
                }
            ],
            r"m\.jsonl:1: weight is 2",
        ),
    ],
)
def test_data_that_will_not_do_is_refused_before_anything(model_folder, tmp_path, rows, message):
    data = write_lines(tmp_path / "m.jsonl", rows)
    with pytest.raises(DataError, match=message):
        sft.run(sft_config(tmp_path, data, model_folder))
    assert file_names(tmp_path) == ["m.jsonl"]


def test_answers_that_do_not_fit_are_counted_and_too_many_refused(
    model_folder, run_folder, tmp_path
):
    with pytest.raises(DataError, match="24 of 24 rows are longer than 8 tokens"):
        sft.run(sft_config(tmp_path, run_folder, model_folder, max_length=8))
    long = [{"prompt": "a", "completion": "word " * 300}]
    short = [{"prompt": f"q {n}", "completion": "yes"} for n in range(6)]
    data = write_lines(tmp_path / "m.jsonl", [*long, *short])
    config = sft_config(tmp_path / "2", data, model_folder, max_length=200, max_steps=1)
    assert sft.run(config).metrics["rows_left_out"] == 1


def test_a_folder_in_the_way_is_refused_before_training(model_folder, run_folder, tmp_path):
    config = sft_config(tmp_path, run_folder, model_folder)
    config.out.mkdir(parents=True)
    (config.out / "thesis.txt").write_text("x")
    with pytest.raises(ConflictError, match="exists and is no policy"):
        sft.run(config)
    assert not config.run_dir.exists()


def test_a_full_disk_stops_the_run_and_leaves_it_ready_to_go_on(model_folder, run_folder, tmp_path):
    """No file may grow beyond 300 kB, and the first checkpoint has weights of 1.7 MB."""
    config = sft_config(tmp_path, run_folder, model_folder, max_steps=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written: .*; make room"):
            sft.run(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not config.out.exists()
    assert sft.run(config).manifest.name == "tiny"


def test_packing_without_flash_attention_is_refused(model_folder, run_folder, tmp_path):
    with pytest.raises(ConfigError, match="packing needs flash attention"):
        sft.run(sft_config(tmp_path, run_folder, model_folder, packing=True))
