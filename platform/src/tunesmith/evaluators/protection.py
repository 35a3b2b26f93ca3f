"""Which protection evaluators get: what works on this machine, what the policy allows, and in words what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.evaluators import bubblewrap, cgroups, landlock, seccomp


class Policy(StrEnum):
    """`Settings.sandbox`."""

    AUTO = "auto"
    """The best that works here, and say what it is."""
    STRICT = "strict"
    """Refuse to run evaluators unless nothing is missing."""
    OFF = "off"


class Kind(StrEnum):
    """What confines an evaluator."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True)
class Protection:
    """What holds here under a policy."""

    kind: Kind
    degraded: bool
    """Something that bubblewrap with all limits would do is missing."""
    reason: str
    """What it does, or what is missing and why."""

    def as_json(self) -> dict[str, str | bool]:
        """As jobs and evaluators show it."""
        return {"kind": self.kind.value, "degraded": self.degraded, "reason": self.reason}


@dataclass(frozen=True)
class Found:
    """What was found to work on this machine."""

    bubblewrap: str | None
    """Why it does not work; None: it does."""
    disable_userns: bool
    landlock: int
    """Version; 0: none."""
    prlimit: bool
    cgroups: bool


@cache
def probe() -> Found:
    """Try it once per process: start a command in a sandbox and look at what it says."""
    has_limits = shutil.which("prlimit") is not None
    groups = cgroups.available()
    if shutil.which("bwrap") is None:
        why: str | None = "bubblewrap (bwrap) is not installed; on Debian: apt-get install bubblewrap"
        return Found(why, False, landlock.abi(), has_limits, groups)
    disable_userns = True
    why = _try_bubblewrap(disable_userns=True)
    if why is not None and _try_bubblewrap(disable_userns=False) is None:  # before 0.8
        disable_userns, why = False, None
    return Found(why, disable_userns, landlock.abi(), has_limits, groups)


def _try_bubblewrap(*, disable_userns: bool) -> str | None:
    argv = bubblewrap.command(
        ["true"], bubblewrap.View(), tmp_bytes=1 << 20, disable_userns=disable_userns, filtered=False
    )
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    if done.returncode == 0:
        return None
    hint = "user namespaces may be disabled here (inside a container: allow them, or run on the host)"
    return f"bubblewrap does not work: {done.stderr.strip() or f'exit status {done.returncode}'}; {hint}"


def chosen(policy: str) -> Protection:
    """What confines evaluators under this policy.

    Raises FailedPrecondition under `strict` when something is missing, InvalidArgument for an unknown policy.
    """
    if policy not in list(Policy):
        raise InvalidArgument(f"The setting sandbox is {policy!r}; it must be one of {', '.join(Policy)}.")
    if policy == Policy.OFF:
        return Protection(Kind.NONE, True, "switched off (TUNESMITH_SANDBOX=off)")
    found = _best(probe())
    if found.degraded and policy == Policy.STRICT:
        raise FailedPrecondition(
            f"Evaluators are not run: the sandbox policy is strict, but {found.reason}. "
            "Repair that, or set TUNESMITH_SANDBOX=auto to run them with what there is."
        )
    return found


def _best(found: Found) -> Protection:
    missing = [] if found.prlimit else ["prlimit is not there, so no process has limits"]
    missing += [] if seccomp.supported() else ["system calls are not filtered on this processor"]
    if os.geteuid() == 0 and not found.cgroups:
        missing.append(
            "no control group can be made here, so for root nothing bounds how many processes an evaluator starts"
        )
    if found.bubblewrap is None:
        bounds = "limits of each process" + (" and of all together" if found.cgroups else "")
        return Protection(
            Kind.BUBBLEWRAP, bool(missing), "; ".join([f"bubblewrap, its own network, {bounds}", *missing])
        )
    if found.landlock:
        missing += [] if found.landlock >= landlock.WITH_NETWORK else ["this kernel's Landlock bounds no network"]
        missing += [] if found.landlock >= landlock.WITH_SCOPES else ["this kernel's Landlock bounds no signals"]
        said = f"Landlock only, because {found.bubblewrap}; processes are seen, and a port that is allowed is allowed on every host"
        return Protection(Kind.LANDLOCK, True, "; ".join([said, *missing]))
    return Protection(Kind.NONE, True, f"{found.bubblewrap}; and this kernel has no Landlock")


def active(policy: str) -> bool:
    """Whether what a sandboxed command may not write is safe from it. Raises as `chosen` does."""
    return chosen(policy).kind is not Kind.NONE


def describe(policy: str) -> str:
    """One plain line for build logs and for `tunesmith up`. Raises as `chosen` does."""
    found = chosen(policy)
    if found.kind is Kind.NONE:
        return f"sandbox: NONE, evaluator code runs with your own rights: {found.reason}"
    return f"sandbox: {'DEGRADED, ' if found.degraded else ''}{found.reason}"
