"""The trainers' settings: where they come from, what is refused, what size and device choose."""

from pathlib import Path

import pytest

from cai.errors import ConfigError
from cai.train.config import (
    CONFIGS,
    DpoConfig,
    PpoConfig,
    RewardConfig,
    SftConfig,
    load_config,
)

NEEDED = {"data": (Path("run"),), "name": "p", "run_dir": Path("r"), "out": Path("o")}


def sft(*sets, **given):
    return load_config(SftConfig, sets=sets, **(NEEDED | given))


def test_a_flag_overrides_set_overrides_file_overrides_default(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 5\nseed: 1\nbatch_size: 8\ndata: [elsewhere]\n")
    config = load_config(SftConfig, file=file, sets=["seed=2", "batch_size=16"], **NEEDED, seed=3)
    assert (config.epochs, config.batch_size, config.seed) == (5, 16, 3)
    assert config.data == (Path("run"),)
    assert config.max_grad_norm == 1.0


def test_an_unknown_key_is_refused_with_the_closest_one(tmp_path):
    with pytest.raises(ConfigError, match="'learning_rat'; did you mean 'learning_rate'"):
        sft("learning_rat=1e-4")
    with pytest.raises(ConfigError, match=r"'lora\.rnk'; did you mean 'rank'"):
        sft("lora.rnk=4")
    with pytest.raises(ConfigError, match=r"'watch\.kl_budgett'; did you mean 'kl_budget'"):
        load_config(DpoConfig, sets=["watch.kl_budgett=3"], **NEEDED)
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 5\nbatch_siz: 8\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:2:1: unknown key 'batch_siz'; did you mean"):
        load_config(SftConfig, file=file, **NEEDED)


def test_a_file_of_another_trainer_is_refused(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("type: dpo\n")
    with pytest.raises(ConfigError, match="type is 'dpo' and this is 'cai train sft'"):
        load_config(SftConfig, file=file, **NEEDED)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=x", "epochs is the text 'x' and must be a number"),
        ("epochs=-1", "epochs is -1"),
        ("validation_share=1", "less than 1"),
        ("precision=fp16", "'auto', 'fp32' or 'bf16'"),
        ("name=../x", "name is"),
        ("epochs", "write key=value"),
        ("micro_batch_size=5", "batch_size 32 is no multiple of micro_batch_size 5"),
    ],
)
def test_a_value_that_will_not_do_is_named(assignment, message):
    with pytest.raises(ConfigError, match=message):
        sft(assignment, **({"name": None} if assignment.startswith("name") else {}))


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="'data' is missing; give --data"):
        load_config(SftConfig)


def test_lora_is_switched_on_with_its_defaults_or_by_a_key():
    assert sft("lora=true").lora.rank == 16
    assert sft("lora.rank=4").lora.rank == 4
    assert sft("lora=false").lora is None


def test_the_learning_rate_falls_with_the_root_of_the_size():
    """1e-5 at 7B; a hundredth of the size has ten times the rate; 1.3M: 7.3e-4; LoRA ten times."""
    assert sft().resolved(7_000_000_000).learning_rate == 1e-5
    assert sft().resolved(70_000_000).learning_rate == 1e-4
    assert sft().resolved(1_318_272).learning_rate == 7.3e-4
    assert sft("lora=true").resolved(7_000_000_000).learning_rate == 1e-4
    assert sft("lora=true").resolved(1_318_272).learning_rate == 2e-3  # the largest
    assert load_config(DpoConfig, **NEEDED).resolved(7_000_000_000).learning_rate == 1e-6
    assert sft("learning_rate=0.5").resolved(7_000_000_000).learning_rate == 0.5


def test_size_and_device_choose_what_was_left_open():
    small, large = sft().resolved(1_000_000, context=512), sft().resolved(7_000_000_000)
    assert (small.micro_batch_size, small.max_length) == (32, 512)
    assert small.gradient_checkpointing is False
    assert (large.micro_batch_size, large.max_length) == (1, 2048)
    assert large.gradient_checkpointing is True
    assert sft().resolved(1_000_000, has_bf16=True).precision == "bf16"
    assert sft().resolved(1_000_000).precision == "fp32"
    assert sft(max_length=4096).resolved(1_000_000, context=512).max_length == 512


def test_processes_share_a_batch_evenly():
    assert sft().resolved(1_000_000, world_size=4).micro_batch_size == 8
    with pytest.raises(ValueError, match="batch_size 32 is no multiple of the 3 processes"):
        sft().resolved(1_000_000, world_size=3)
    with pytest.raises(ValueError, match="8 rows, is no multiple of micro_batch_size 32"):
        sft("micro_batch_size=32").resolved(1_000_000, world_size=4)


def test_paths_and_speed_do_not_decide_the_result():
    one = sft().settled()
    other = sft(run_dir=Path("x"), out=Path("y"), num_threads=4, report_to=("wandb",)).settled()
    assert one == other
    assert sft("seed=8").settled() != one
    assert sft("lora.rank=4").settled()["lora.rank"] == 4


def test_a_horizon_of_the_kl_coefficient_below_an_iteration_is_refused():
    """With it the coefficient would change by more than a fifth at once, and may fall below 0."""
    sets = ["reward=r", "rollout_size=256", "kl_horizon=40"]
    assert load_config(PpoConfig, sets=sets, **NEEDED).kl_horizon == 40  # not in use
    with pytest.raises(ConfigError, match=r"kl_horizon 40 is below rollout_size 256; raise it to"):
        load_config(PpoConfig, sets=[*sets, "kl_target=6"], **NEEDED)
    sets[2] = "kl_horizon=256"
    assert load_config(PpoConfig, sets=[*sets, "kl_target=6"], **NEEDED).kl_horizon == 256


def test_a_reward_model_of_adapters_alone_is_refused():
    """It is sealed as a whole model, so the end of the training would be too late."""
    with pytest.raises(ConfigError, match=r"a reward model is exported whole; leave .*merge out"):
        load_config(RewardConfig, sets=["lora.merge=false"], **NEEDED)
    assert load_config(RewardConfig, sets=["lora=true"], **NEEDED).lora.merge


def test_every_field_of_every_trainer_says_what_it_is():
    import ast

    for name in ("config", "config_common", "config_preference", "config_ppo"):
        path = Path("cai/train") / f"{name}.py"
        tree = ast.parse((Path(__file__).parents[2] / path).read_text())
        for model in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for field, after in zip(model.body, [*model.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.dump(field):
                    said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    assert said, f"{path}: {model.name}.{ast.unparse(field.target)}"


def test_every_trainer_has_its_config():
    assert set(CONFIGS) == {"sft", "reward", "dpo", "ppo"}
    for name, kind in CONFIGS.items():
        assert kind.model_fields["type"].default == name
