"""The documentation names what exists: commands, flags, settings, routes, errors; and its links and make targets lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

REPO = Path(__file__).parents[2]
REFERENCE = REPO / "docs" / "reference"
PAGES = [
    REPO / name
    for name in (
        "README.md",
        "sdk/README.md",
        "platform/README.md",
        "examples/gsm8k/README.md",
        "examples/svg_agent/README.md",
    )
]
PAGES += sorted((REPO / "docs").rglob("*.md"))


def read(name: str) -> str:
    return (REFERENCE / name).read_text()


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(f"{name} {child}", found)


def every_command() -> dict[str, click.Command]:
    from eval_protocol.cli import cli as ep
    from tunesmith.cli import main as tunesmith

    return {**dict(commands("tunesmith", tunesmith)), **dict(commands("ep", ep))}


def test_every_command_and_flag_is_in_the_reference() -> None:
    text = read("cli.md")
    found = every_command()
    assert {"tunesmith up", "tunesmith rftj cancel", "ep create rft", "ep local-test"} <= found.keys()
    missing = [name for name in found if f"`{name}`" not in text]
    for name, command in found.items():
        flags = (p.opts[0] for p in command.params if isinstance(p, click.Option))
        missing += [f"{name} {flag}" for flag in flags if f"`{flag}`" not in text]
    assert not missing


def test_every_option_of_the_plugin_is_in_the_reference() -> None:
    source = (REPO / "sdk/src/eval_protocol/pytest/plugin.py").read_text()
    options = set(re.findall(r'"(--ep-[a-z-]+)"', source))
    assert len(options) > 15
    assert not [option for option in sorted(options) if f"`{option}`" not in read("cli.md")]


def test_every_setting_is_in_the_reference() -> None:
    from eval_protocol.settings import NOT_BUILT, RunSettings
    from tunesmith.settings import Settings

    names = [f"`{name}` | `TUNESMITH_{name.upper()}`" for name in Settings.model_fields]
    names += [f"`EP_{name.upper()}`" for name in RunSettings.model_fields if name != "input_params"]
    names += [f"`{name}`" for name in (*NOT_BUILT, "EP_INPUT_PARAMS_JSON")]
    for file in ("settings.py", "rollouts/destination.py", "cli/secrets.py"):
        source = (REPO / "sdk/src/eval_protocol" / file).read_text()
        names += [f"`{name}`" for name in re.findall(r'"((?:EP|FIREWORKS|OPENAI)_[A-Z_]+)"', source) if name != "EP_"]
    assert not [name for name in names if name not in read("settings.md")]


def routes(found: list[Any]) -> Iterator[str]:
    """`GET /path` of every route; FastAPI keeps included routers whole."""
    for route in found:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes(inner.routes)
        else:
            yield from (f"{method} {route.path}" for method in route.methods - {"HEAD"})


def test_every_route_is_in_the_reference(tmp_path: Path) -> None:
    from tunesmith.server.app import create_app
    from tunesmith.settings import Settings

    app = create_app(Settings(data_dir=tmp_path))
    try:
        served = set(routes(app.router.routes))
    finally:
        app.state.control.sessions.kw["bind"].dispose()
    documented = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", read("api.md"), re.MULTILINE))
    assert len(served) > 50
    assert served == documented


def test_every_error_code_and_job_state_is_in_the_reference() -> None:
    from tunesmith import errors
    from tunesmith.db import jobs

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.TunesmithError)]
    rows = [line for line in read("errors.md").splitlines() if line.startswith("| `")]
    assert not [k.__name__ for k in kinds if not any(f"`{k.code}`" in r and f"| {k.status} |" in r for r in rows)]
    states = {v for v in vars(jobs).values() if isinstance(v, str) and v.startswith("JOB_STATE_")}
    assert len(states) > 6
    assert not [state for state in states if f"`{state}`" not in read("training.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named <= targets
