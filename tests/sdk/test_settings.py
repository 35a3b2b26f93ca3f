"""Environment, profile, and which key goes where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eval_protocol.errors import NotBuiltYet, ProfileError, RolloutError, UsageError
from eval_protocol.models import EvaluationRow, Message
from eval_protocol.rollouts.destination import ModelRouting, id_path
from eval_protocol.settings import RunSettings, load_profile


def write_profile(home: Path, **values: str) -> None:
    (home / ".tunesmith").mkdir(exist_ok=True)
    (home / ".tunesmith" / "profile.json").write_text(json.dumps(values))


def row() -> EvaluationRow:
    made = EvaluationRow(messages=[Message(role="user", content="q")])
    made.input_metadata.row_id = "w"
    ids = made.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id, ids.run_id = "r", "i", "e", "n"
    return made


IDS = "/rollout_id/r/invocation_id/i/experiment_id/e/run_id/n/row_id/w"


def test_the_profile_is_what_up_wrote(clean: Path):
    assert load_profile({}) is None
    write_profile(clean, api_base="http://127.0.0.1:7777/", api_key="k", account_id="local")
    profile = load_profile({})
    assert profile is not None
    assert (profile.api_base, profile.api_key, profile.account_id) == ("http://127.0.0.1:7777", "k", "local")
    assert "k" not in repr(profile).replace("tunesmith", "").split("api_base")[0]
    assert "api_key" not in repr(profile)


def test_the_pair_of_the_environment_wins_over_the_profile(clean: Path):
    write_profile(clean, api_base="http://127.0.0.1:7777", api_key="k", account_id="local")
    profile = load_profile({"FIREWORKS_API_BASE": "http://other:1/", "FIREWORKS_API_KEY": "fw"})
    assert profile is not None
    assert (profile.api_base, profile.api_key) == ("http://other:1", "fw")


def test_a_lone_key_never_goes_to_another_host(clean: Path):
    lone = load_profile({"FIREWORKS_API_KEY": "fw"})
    assert lone is not None
    assert lone.api_base == "https://api.fireworks.ai"
    write_profile(clean, api_base="http://127.0.0.1:7777", api_key="k", account_id="local")
    stored = load_profile({"FIREWORKS_API_KEY": "fw"})
    assert stored is not None
    assert stored.api_key == "k"


def test_a_lone_base_needs_the_key_of_the_same_host(clean: Path):
    with pytest.raises(ProfileError, match="no key for it"):
        load_profile({"FIREWORKS_API_BASE": "http://other:1"})
    write_profile(clean, api_base="http://localhost:7777", api_key="k", account_id="local")
    profile = load_profile({"FIREWORKS_API_BASE": "http://127.0.0.1:7777"})
    assert profile is not None
    assert profile.api_key == "k"
    with pytest.raises(ProfileError, match="no key for it"):
        load_profile({"FIREWORKS_API_BASE": "http://127.0.0.1:7778"})


def test_a_broken_profile_says_where_it_is(clean: Path):
    (clean / ".tunesmith").mkdir()
    (clean / ".tunesmith" / "profile.json").write_text("{")
    with pytest.raises(ProfileError, match=r"profile\.json"):
        load_profile({})


def test_overrides_are_typed():
    settings = RunSettings.from_environment(
        {
            "EP_MAX_DATASET_ROWS": "None",
            "EP_NUM_RUNS": "3",
            "EP_COMPLETION_PARAMS": '{"model": "m"}',
            "EP_PASSED_THRESHOLD": '{"success": 0.5, "standard_error": null}',
            "EP_NO_UPLOAD": "1",
            "EP_FAIL_ON_MAX_RETRY": "false",
        }
    )
    assert settings.max_dataset_rows == "all"
    assert settings.num_runs == 3
    assert settings.completion_params == [{"model": "m"}]
    assert settings.passed_threshold == {"success": 0.5, "standard_error": None}
    assert settings.no_upload
    assert settings.fail_on_max_retry is False
    assert RunSettings.from_environment({"EP_MAX_DATASET_ROWS": "7"}).max_dataset_rows == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EP_NUM_RUNS", "many"),
        ("EP_MAX_DATASET_ROWS", "few"),
        ("EP_COMPLETION_PARAMS", "{"),
        ("EP_PRINT_SUMMARY", "maybe"),
        ("EP_PASSED_THRESHOLD", "high"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str):
    with pytest.raises(UsageError, match=name):
        RunSettings.from_environment({name: value})


def test_what_is_not_built_is_refused():
    with pytest.raises(NotBuiltYet, match="EP_USE_PRIORITY_SCHEDULER"):
        RunSettings.from_environment({"EP_USE_PRIORITY_SCHEDULER": "1"})
    assert RunSettings.from_environment({"EP_USE_PRIORITY_SCHEDULER": "0"}).num_runs is None


def test_explicit_base_wins_and_the_path_is_completed(clean: Path):
    write_profile(clean, api_base="http://127.0.0.1:7777", api_key="k", account_id="local")
    routing = ModelRouting.read({"EP_LLM_API_BASE": "http://llm:1/v1", "EP_MODEL_BASE_URL": "http://gateway:1"})
    given = routing.destination({"model": "openai/m", "api_base": "http://mine:1/v1", "api_key": "a"}, row())
    assert (given.url, given.model, given.api_key) == ("http://mine:1/v1/chat/completions", "m", "a")
    env = routing.destination({"model": "accounts/a/models/m"}, row())
    assert (env.url, env.api_key) == ("http://llm:1/v1/chat/completions", None)


def test_the_gateway_gets_the_ids_and_its_own_key():
    environ = {"EP_MODEL_BASE_URL": "http://gateway:1/", "EP_REMOTE_API_KEY": "rk", "OPENAI_API_KEY": "o"}
    destination = ModelRouting.read(environ).destination({"model": "openai/gpt"}, row())
    assert destination.url == f"http://gateway:1{IDS}/chat/completions"
    assert destination.api_key == "rk"


def test_models_of_the_platform_go_through_its_gateway(clean: Path):
    with pytest.raises(RolloutError, match="tunesmith up"):
        ModelRouting.read({}).destination({"model": "accounts/a/models/m"}, row())
    write_profile(clean, api_base="http://127.0.0.1:7777", api_key="k", account_id="local")
    for name in ("accounts/a/models/m", "fireworks_ai/accounts/a/models/m"):
        destination = ModelRouting.read({}).destination({"model": name}, row())
        assert destination.url == f"http://127.0.0.1:7777/litellm-gateway{IDS}/chat/completions"
        assert (destination.model, destination.api_key) == ("accounts/a/models/m", "k")


def test_the_hosted_service_has_its_own_path():
    destination = ModelRouting.read({"FIREWORKS_API_KEY": "fw"}).destination({"model": "accounts/f/models/m"}, row())
    assert destination.url == "https://api.fireworks.ai/inference/v1/chat/completions"
    assert destination.api_key == "fw"


def test_openai_is_the_last_resort_and_needs_its_key():
    with pytest.raises(RolloutError, match="OPENAI_API_KEY"):
        ModelRouting.read({}).destination({"model": "gpt-x"}, row())
    destination = ModelRouting.read({"OPENAI_API_KEY": "o"}).destination({"model": "openai/gpt-x"}, row())
    assert (destination.url, destination.model) == ("https://api.openai.com/v1/chat/completions", "gpt-x")
    local = ModelRouting.read({"OPENAI_BASE_URL": "http://l:1/v1"}).destination({"model": "m"}, row())
    assert (local.url, local.api_key) == ("http://l:1/v1/chat/completions", None)


def test_other_providers_are_refused_with_the_way_out():
    with pytest.raises(RolloutError, match=r"\[litellm\].*api_base"):
        ModelRouting.read({"OPENAI_API_KEY": "o"}).destination({"model": "anthropic/claude"}, row())


def test_keys_stay_with_their_own_origin(clean: Path):
    write_profile(clean, api_base="http://127.0.0.1:7777", api_key="k", account_id="local")
    routing = ModelRouting.read({"OPENAI_API_KEY": "o", "FIREWORKS_API_KEY": "fw"})

    def key(base: str) -> str | None:
        return routing.destination({"model": "m", "api_base": base}, row()).api_key

    assert key("http://localhost:7777/v1") == "k"
    assert key("http://127.0.0.1:7778/v1") is None
    assert key("https://api.openai.com/v1") == "o"
    assert key("http://api.openai.com/v1") is None
    assert key("https://api.openai.com.evil.example/v1") is None


def test_unsafe_ids_go_into_the_path_as_their_hash():
    asked = row()
    asked.input_metadata.row_id = "a/b c"
    asked.execution_metadata.run_id = None
    path = id_path(asked)
    assert path.startswith("/rollout_id/r/invocation_id/i/experiment_id/e/run_id/none/row_id/")
    assert "a/b" not in path
    assert " " not in path
