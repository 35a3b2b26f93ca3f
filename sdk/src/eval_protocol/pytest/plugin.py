"""The pytest plugin: collects decorated functions whatever their name, one item per experiment, and calls the runner.

Every pytest run of an environment that has the SDK imports this file, so it imports nothing but the standard library and pytest;
the rest comes when a file with an evaluation is collected. It needs no other plugin.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eval_protocol.evaluation.experiments import Experiment
    from eval_protocol.evaluation.report import ExperimentReport
    from eval_protocol.evaluation.spec import EvaluationSpec
    from eval_protocol.settings import RunSettings

OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("--ep-max-rows", "max_dataset_rows", {"metavar": "N|all", "help": "run on the first N rows only"}),
    ("--ep-num-runs", "num_runs", {"type": int, "metavar": "N", "help": "rollouts per row"}),
    (
        "--ep-max-concurrent-rollouts",
        "max_concurrent_rollouts",
        {"type": int, "metavar": "N", "help": "rollouts at once"},
    ),
    (
        "--ep-max-concurrent-evaluations",
        "max_concurrent_evaluations",
        {"type": int, "metavar": "N", "help": "scores at once"},
    ),
    ("--ep-print-summary", "print_summary", {"action": "store_true", "help": "print a short summary on stderr"}),
    ("--ep-summary-json", "summary_json", {"metavar": "PATH", "help": "write the summary to a .json file or a folder"}),
    ("--ep-max-retry", "max_retry", {"type": int, "metavar": "N", "help": "tries after a failed rollout's first"}),
    (
        "--ep-fail-on-max-retry",
        "fail_on_max_retry",
        {"choices": ("true", "false"), "help": "fail the evaluation when a rollout failed for good"},
    ),
    (
        "--ep-no-upload",
        "no_upload",
        {"action": "store_true", "help": "accepted; results stay on this machine either way"},
    ),
    ("--ep-jsonl-path", "jsonl_path", {"metavar": "PATH", "help": "rows to use in place of the decorator's"}),
    (
        "--ep-no-op-rollout-processor",
        "use_no_op_rollout_processor",
        {"action": "store_true", "help": "score the messages that are there, call no model"},
    ),
    ("--ep-output-dir", "output_dir", {"metavar": "DIR", "help": "write experiment_results/{experiment}.jsonl there"}),
)
REPORTS = pytest.StashKey[list["ExperimentReport"]]()
SETTINGS = pytest.StashKey["RunSettings"]()
INVOCATIONS = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; each is an override of the run's settings."""
    group = parser.getgroup("eval-protocol", "evaluations (Eval Protocol)")
    for flag, name, details in OPTIONS:
        group.addoption(flag, dest=f"ep_{name}", default=None, **details)
    group.addoption(
        "--ep-completion-params",
        action="append",
        metavar="JSON",
        help="completion_params to use in place of the decorator's; may be repeated",
    )
    group.addoption(
        "--ep-input-param",
        action="append",
        metavar="KEY=VALUE|@FILE.json",
        help="merged into every completion_params; may be repeated",
    )
    group.addoption("--ep-reasoning-effort", metavar="EFFORT", help="reasoning_effort of every completion_params")
    group.addoption("--ep-success-threshold", type=float, metavar="X", help="passed_threshold of the score")
    group.addoption("--ep-se-threshold", type=float, metavar="X", help="largest standard error that passes")


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, if any were given: a wrong one ends pytest before it collects."""
    if _overrides(config):
        _settings(config)


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """Make one item per experiment of a decorated function; not where another file's function is only imported."""
    if not hasattr(obj, "__ep_spec__"):
        return None
    from eval_protocol.errors import EvalProtocolError  # noqa: PLC0415 - see the module's docstring

    try:
        return _items(collector, name, obj)
    except EvalProtocolError as error:
        raise collector.CollectError(str(error)) from error


def _items(collector: pytest.Module | pytest.Class, name: str, obj: object) -> list[pytest.Item]:
    from eval_protocol.evaluation.decorator import spec_of  # noqa: PLC0415 - see the module's docstring
    from eval_protocol.evaluation.experiments import experiments, override  # noqa: PLC0415

    spec = spec_of(obj)
    if spec.file.resolve() != Path(collector.path).resolve():
        return []
    settings = _settings(collector.config)
    spec = override(spec, settings)
    items: list[pytest.Item] = []
    for experiment in experiments(spec, settings):
        shown = f"{name}[{experiment.label}]" if experiment.label else name
        items.append(EvaluationItem.from_parent(collector, name=shown, spec=spec, experiment=experiment, obj=obj))
    return items


def _settings(config: pytest.Config) -> RunSettings:
    if SETTINGS not in config.stash:
        from eval_protocol.errors import UsageError  # noqa: PLC0415 - see the module's docstring
        from eval_protocol.settings import RunSettings  # noqa: PLC0415

        try:
            config.stash[SETTINGS] = RunSettings.from_environment({**os.environ, **_overrides(config)})
        except UsageError as error:
            # After pytest_configure only the environment can be wrong, and pytest shows that as a collection error.
            raise pytest.UsageError(_named_by_flag(str(error), config)) from error
    return config.stash[SETTINGS]


def _named_by_flag(message: str, config: pytest.Config) -> str:
    """The settings' complaint with the flag in place of the variable that it stands for, where a flag was given."""
    given = _overrides(config)
    for flag, name, _ in OPTIONS:
        variable = f"EP_{name.upper()}"
        if variable in given and message.startswith(f"{variable} "):
            return f"{flag} {given[variable]}{message.removeprefix(variable)}"
    return message


def _overrides(config: pytest.Config) -> dict[str, str]:
    """The options as the environment variables that they override."""
    values: dict[str, str] = {}
    for _, name, _ in OPTIONS:
        value = getattr(config.option, f"ep_{name}", None)
        if value is not None and value is not False:
            values[f"EP_{name.upper()}"] = "1" if value is True else str(value)
    if config.option.ep_completion_params:
        listed = [_parse_json("--ep-completion-params", text) for text in config.option.ep_completion_params]
        values["EP_COMPLETION_PARAMS"] = json.dumps(
            [params for entry in listed for params in (entry if isinstance(entry, list) else [entry])]
        )
    extra = _input_params(config)
    if extra:
        known = json.loads(os.environ.get("EP_INPUT_PARAMS_JSON") or "{}")
        values["EP_INPUT_PARAMS_JSON"] = json.dumps({**known, **extra})
    threshold = {
        "success": config.option.ep_success_threshold,
        "standard_error": config.option.ep_se_threshold,
    }
    if any(value is not None for value in threshold.values()):
        values["EP_PASSED_THRESHOLD"] = json.dumps(threshold)
    return values


def _input_params(config: pytest.Config) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for text in config.option.ep_input_param or []:
        if text.startswith("@"):
            params.update(_parse_json(text, Path(text[1:]).read_text()))
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise pytest.UsageError(f"--ep-input-param {text}: write KEY=VALUE or @FILE.json.")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    if config.option.ep_reasoning_effort:
        params["reasoning_effort"] = config.option.ep_reasoning_effort
    return params


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise pytest.UsageError(f"{where} is not valid JSON: {error}") from error


class EvaluationItem(pytest.Item):
    """One experiment."""

    def __init__(self, *, spec: EvaluationSpec, experiment: Experiment, obj: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.experiment = experiment
        self.obj = obj
        """The decorated function, as for ordinary test items."""
        marks = [mark for mark in getattr(obj, "pytestmark", []) if mark.name != "parametrize"]
        self.own_markers.extend(marks)
        self.keywords.update((mark.name, mark) for mark in marks)

    def runtest(self) -> None:
        """Run the experiment; raise when it did not pass."""
        import asyncio  # noqa: PLC0415 - see the module's docstring

        from eval_protocol.evaluation import local_ui, progress, runner  # noqa: PLC0415

        for line in local_ui.open_once(self.spec, _settings(self.config), self._invocation_id()):
            self._say(line)
        report = asyncio.run(
            runner.run_experiment(
                self.spec,
                self.experiment,
                _settings(self.config),
                invocation_id=self._invocation_id(),
                progress=progress.for_stream(),
            )
        )
        self.config.stash.setdefault(REPORTS, []).append(report)
        if report.failure is not None:
            raise report.failure

    def _say(self, line: str) -> None:
        """A line between pytest's own, which would be captured otherwise."""
        plugins = self.config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if reporter is not None:
            with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
                reporter.ensure_newline()
                reporter.write_line(line)

    def _invocation_id(self) -> str:
        """`EP_INVOCATION_ID`, else one per evaluation and session."""
        from eval_protocol.models.ids import new_id  # noqa: PLC0415 - see the module's docstring

        given = _settings(self.config).invocation_id
        known = self.config.stash.setdefault(INVOCATIONS, {})
        return given or known.setdefault(f"{self.path}::{self.spec.name}", new_id())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Our own errors say all there is to say; a traceback through the runner would bury it."""
        from eval_protocol.errors import EvalProtocolError  # noqa: PLC0415 - see the module's docstring

        if isinstance(excinfo.value, EvalProtocolError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the evaluation is written."""
        return self.path, self.spec.line - 1, self.name


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The scores and the closing box, after everything else."""
    reports = config.stash.get(REPORTS, [])
    if reports:
        from eval_protocol.evaluation.runner import closing_lines  # noqa: PLC0415 - see the module's docstring

        terminalreporter.ensure_newline()
        for line in closing_lines(reports, _settings(config)):
            terminalreporter.write_line(line)
