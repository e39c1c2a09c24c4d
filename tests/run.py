"""`make test`: every stage that this machine can run, cheap ones first, the first failure ends it.

A stage is a command with a time limit. One marked `ahead` begins with the first one, gives way to
the others, and is waited for at its place. The tests of one marked `spread` run in several workers
at once: none may count on another, or on a port or folder that is not its own. Stages marked
`deployed` run against one real deployment on VMs of its own (stack `test`), made once by the stage
`up` and always destroyed, whatever failed. Where this machine cannot carry one they are skipped,
and the reason is said. What each stage prints is shown as it comes and kept in
build/test/STAGE.log; the last line counts everything: `N passed, N failed, N skipped`.

Usage: python -m tests.run [--list] [--keep-going] [STAGE…]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from defusedxml import ElementTree

from tests import deployment

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "test"
BIN = Path(sys.executable).parent
WORKERS_MAX = 4
STOP_GRACE_S = 20
COPY_GRACE_S = 5
AHEAD_LINES_MAX = 20

Counts = Counter[str]


@dataclass(frozen=True)
class Stage:
    """A command that runs in the repository's root, for at most `limit_s`.

    `folders` are the tests it covers, by folder or file; a stage without any counts as one test. A
    `deployed` stage needs the deployment.
    """

    name: str
    about: str
    argv: tuple[str, ...]
    limit_s: int
    folders: tuple[str, ...] = ()
    deployed: bool = False
    ahead: bool = False

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    @property
    def results(self) -> Path:
        return LOGS / f"{self.name}.xml"


def tool(name: str, about: str, *argv: str, limit_s: int = 300, deployed: bool = False) -> Stage:
    return Stage(name, about, (str(BIN / argv[0]), *argv[1:]), limit_s, (), deployed)


def suite(
    name: str,
    about: str,
    folder: str,
    *options: str,
    limit_s: int = 300,
    deployed: bool = False,
    spread: bool = False,
) -> Stage:
    """A stage of pytest; the tests of one that is `spread` run on all processors at once."""
    results = f"--junitxml={LOGS / name}.xml"
    workers = workers_options() if spread else ()
    argv = (str(BIN / "pytest"), results, "-rs", "--durations=3", *workers, *options, folder)
    return Stage(name, about, argv, limit_s, (folder,), deployed)


def workers_options() -> tuple[str, ...]:
    """A worker for each processor, in the folder's order; idle ones take from the others' rest."""
    workers = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    return ("-n", str(workers), "--dist", "worksteal") if workers > 1 else ()


def on_deployment(action: str, about: str, limit_s: int) -> Stage:
    argv = ("python", "-m", "tests.deployment", action)
    return tool(action, about, *argv, limit_s=limit_s, deployed=True)


BUNDLE = Stage(
    "bundle",
    "all that a deployment is made of",
    (str(BIN / "objectstore"), "bundle", "build"),
    limit_s=1800,
    deployed=True,
    ahead=True,
)
PURE = ("-m", "not deployment")
DEPLOYED = ("-m", "deployment")

STAGES = (
    tool("ruff", "lint", "ruff", "check", "."),
    tool("format", "formatting", "ruff", "format", "--check", "."),
    tool("layers", "import rules", "lint-imports"),
    suite("tidy", "the style card", "tests/tidy"),
    tool("types", "mypy, strict", "mypy"),
    suite("unit", "runtime, configuration, commands", "tests/unit", spread=True),
    suite("protocol", "the S3 dialect, no I/O", "tests/protocol"),
    on_deployment("host", "make this machine able to deploy", limit_s=600),
    suite("engine", "log, view, recovery, kill -9", "tests/engine", limit_s=600, spread=True),
    suite("s3", "every operation over real sockets", "tests/s3", limit_s=600),
    suite("faults", "processes killed, disks full or lying", "tests/faults", *PURE, limit_s=900),
    suite("lab", "real clients, a store on this machine", "tests/e2e", limit_s=600),
    BUNDLE,
    suite(
        "infra", "spec, provider, embedded engine", "tests/infra", *PURE, limit_s=1200, spread=True
    ),
    suite("ansible", "roles, playbooks, bundle", "tests/ansible", *PURE, limit_s=900),
    tool(
        "ceph-host",
        "install Ceph where it is missing",
        *("python", "-m", "tests.ceph.host"),
        limit_s=600,
    ),
    suite("ceph", "the store on RADOS, a real cluster", "tests/ceph", limit_s=900),
    suite("zookeeper", "pods' coordination, a real ensemble", "tests/zookeeper", limit_s=600),
    on_deployment("up", "deploy four VMs", limit_s=1200),
    on_deployment("up-again", "nothing changes, under a minute", limit_s=120),
    suite("validation", "what runs on the VMs", "tests/validation", deployed=True, spread=True),
    suite(
        "drift",
        "changes made by hand are put right",
        "tests/infra",
        *DEPLOYED,
        limit_s=600,
        deployed=True,
    ),
    suite("lab-vms", "real clients through the envoy", "tests/e2e", limit_s=600, deployed=True),
    suite(
        "faults-vms",
        "parts of it die under load",
        "tests/faults/cluster/test_store.py",
        limit_s=600,
        deployed=True,
    ),
    suite(
        "upgrade",
        "upgrades under load",
        "tests/ansible",
        "-m",
        "deployment",
        limit_s=2400,
        deployed=True,
    ),
    on_deployment("down", "nothing is left", limit_s=300),
)  # fmt: skip - one row a stage reads as a table


def run_stage(stage: Stage, environment: dict[str, str]) -> Counts:
    """Run one stage, its output shown and logged; returns what passed, failed and was skipped."""
    stage.results.unlink(missing_ok=True)
    process = subprocess.Popen(
        stage.argv,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert isinstance(process.stdout, BufferedReader)
    copying = threading.Thread(target=copy_output, args=[process.stdout, stage.log], daemon=True)
    copying.start()
    try:
        code = process.wait(stage.limit_s)
    except subprocess.TimeoutExpired:
        code = 1
        say(f"stage {stage.name}: stopped after its limit of {stage.limit_s} s")
    finally:
        stop(process)
        copying.join(COPY_GRACE_S)  # what a stage left running may hold the pipe open
    counts = count(stage)
    if code != 0 and not counts["failed"]:
        counts["failed"] += 1
    elif code == 0 and not stage.folders:
        counts["passed"] += 1
    return counts


def begin_ahead(stage: Stage) -> subprocess.Popen[bytes]:
    """Start a stage before its turn, at a low priority; its output is only logged."""
    with stage.log.open("wb") as log:
        return subprocess.Popen(
            ("nice", "-n", "10", *stage.argv),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish_ahead(stage: Stage, process: subprocess.Popen[bytes]) -> Counts:
    """Wait for a stage that began before its turn, and show the end of what it said."""
    try:
        code = process.wait(stage.limit_s)
    except subprocess.TimeoutExpired:
        code = 1
        say(f"stage {stage.name}: stopped after its limit of {stage.limit_s} s")
    stop(process)
    lines = stage.log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-AHEAD_LINES_MAX:]), flush=True)
    return Counter({"failed" if code else "passed": 1})


def copy_output(pipe: BufferedReader, log: Path) -> None:
    """Show and keep what a stage prints, as it comes."""
    with log.open("wb") as copy:
        while piece := pipe.read1():
            copy.write(piece)
            copy.flush()
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the stage's process group, first asking; harmless when it has ended."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


def count(stage: Stage) -> Counts:
    """The results that pytest wrote, if it got so far."""
    counts: Counts = Counter()
    if not stage.results.exists():
        return counts
    for found in ElementTree.parse(stage.results).getroot().iter("testsuite"):
        failed = int(found.get("failures", 0)) + int(found.get("errors", 0))
        skipped = int(found.get("skipped", 0))
        counts["failed"] += failed
        counts["skipped"] += skipped
        counts["passed"] += int(found.get("tests", 0)) - failed - skipped
    return counts


def run_all(stages: list[Stage], *, keep_going: bool) -> int:
    """Run the stages in order; returns the exit code."""
    began = time.monotonic()
    total: Counts = Counter()
    rows: list[str] = []
    obstacle = deployment.obstacle()
    deployed = False
    ahead: dict[str, subprocess.Popen[bytes]] = {}
    try:
        if not obstacle:
            ahead = {stage.name: begin_ahead(stage) for stage in stages if stage.ahead}
        for stage in stages:
            if stage.deployed and obstacle:
                rows.append(row(stage, 0, f"skipped: {obstacle}"))
                total["skipped"] += 1
                continue
            say(f"stage {stage.name}: {stage.about}")
            deployed = deployed or stage.name == "up"
            needs_endpoint = stage.deployed and bool(stage.folders)
            environment = deployment.environment() if needs_endpoint else {}
            started = time.monotonic()
            if stage.ahead:
                counts = finish_ahead(stage, ahead.pop(stage.name))
            else:
                counts = run_stage(stage, environment)
            deployed = deployed and (stage.name != "down" or bool(counts["failed"]))
            total.update(counts)
            rows.append(row(stage, time.monotonic() - started, summary(counts)))
            if counts["failed"]:
                say(f"stage {stage.name} failed; its whole output: {stage.log.relative_to(ROOT)}")
                if not keep_going:
                    break
    except deployment.DeploymentError as error:
        say(str(error))
        total["failed"] += 1
    finally:
        for process in ahead.values():
            stop(process)
        if deployed:
            deployment.show_logs()
            deployment.destroy()
    rows.append(f"{time.monotonic() - began:7.1f} s  in all")
    say("what took how long\n" + "\n".join(rows))
    print(summary(total), flush=True)
    return 1 if total["failed"] else 0


def row(stage: Stage, seconds: float, result: str) -> str:
    return f"{seconds:7.1f} s  {stage.name:<11} {stage.about:<38} {result}"


def summary(counts: Counts) -> str:
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"{counts['passed']} passed, {counts['failed']} failed{skipped}"


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.run", description="Run the stages of `make test`.")
    parser.add_argument("--list", action="store_true", help="list the stages and stop")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failed stage")
    names = [stage.name for stage in STAGES]
    parser.add_argument("stage", nargs="*", help="only these: " + ", ".join(names))
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{stage.name:<11} {stage.about}" for stage in STAGES))
        return 0
    unknown = sorted(set(given.stage) - set(names))
    if unknown:
        parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(names)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, end)
    chosen = [stage for stage in STAGES if not given.stage or stage.name in given.stage]
    return run_all(chosen, keep_going=given.keep_going)


if __name__ == "__main__":
    sys.exit(main())
