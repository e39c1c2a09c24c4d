"""The operations on a stack: what `objectstore stack …` calls."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TextIO, cast

from .deletion import Deleter
from .display import Display, redact
from .errors import EngineError, StateError, StoppedError
from .events import Control
from .journal import Journal
from .monitor import EngineService, ResourceMonitor
from .passphrase import Crypter, find_passphrase
from .plugins import PluginHost
from .project import Project, StackConfig, load_config, stack_salt, write_setting
from .refresh import Refresher
from .state import STACK_TYPE, Snapshot, decode, encode
from .statefile import StateFile
from .steps import Deployment
from .values import Json, Properties, is_secret, plain_properties

PARALLEL = 16
# How long a program may go on after the last step, once the operation is stopping.
PROGRAM_GRACE_S = 5.0
INTERRUPTED = 130


def default_state_dir() -> Path:
    """Where stacks are kept: `$OBJECTSTORE_STATE_DIR`, else below the home folder."""
    given = os.environ.get("OBJECTSTORE_STATE_DIR")
    return Path(given) if given else Path.home() / ".local" / "state" / "objectstore"


@dataclass(frozen=True, slots=True)
class Output:
    """Where an operation writes, and how."""

    stream: TextIO
    as_json: bool = False


class Stack:
    """One stack of one project."""

    def __init__(
        self, directory: Path, name: str, state_dir: Path, say: Callable[[str], None]
    ) -> None:
        """Use the project in `directory`; `say` takes the few notes that are no output.

        Raises:
            ProjectError: there is no usable project there.
        """
        self.project = Project.load(directory)
        self.project.stack_file(name)  # refuses names that cannot be
        self.name = name
        self._state_dir = state_dir
        self._say = say
        self._file = StateFile(state_dir, self.project.name, name)
        self._crypter_for = functools.cache(self._make_crypter)

    def exists(self) -> bool:
        """Whether the stack has a state."""
        return self._file.path.exists()

    def has_resources(self) -> bool:
        """Whether the state holds anything, without opening its secrets."""
        document = self._file.read_document()
        deployment = document.get("deployment") if isinstance(document, dict) else None
        return bool(deployment and deployment.get("resources"))

    def init(self) -> bool:
        """Create an empty state; says whether there was none."""
        with self._file.lock("init"):
            if self.exists():
                return False
            self._file.use(self._crypter(Snapshot()))
            self._file.save([], [])
            return True

    def preview(self, output: Output) -> int:
        """Show what `up` would do; gives the exit code."""
        run = _Run(self, "preview", output, self._load(), lock=None)
        return run.execute(run.up)

    def up(self, output: Output, *, refresh: bool = False) -> int:
        """Bring the world to what the program says; gives the exit code."""
        with self._file.lock("up") as lock:
            run = _Run(self, "up", output, self._load(), lock=lock)
            return run.execute(lambda: run.up(refresh=refresh))

    def refresh(self, output: Output) -> int:
        """Bring the state to what the world is; gives the exit code."""
        with self._file.lock("refresh") as lock:
            run = _Run(self, "refresh", output, self._load(), lock=lock)
            return run.execute(run.refresh)

    def destroy(self, output: Output) -> int:
        """Delete everything; gives the exit code."""
        with self._file.lock("destroy") as lock:
            run = _Run(self, "destroy", output, self._load(), lock=lock)
            return run.execute(run.destroy)

    def export(self, *, show_secrets: bool = False) -> Mapping[str, Json]:
        """The stack's deployment document.

        Raises:
            StateError: there is none, or its secrets do not open.
        """
        snapshot = self._load(required=True)
        crypter = self._crypter(snapshot)
        return encode(snapshot.resources, snapshot.pending, crypter, show_secrets=show_secrets)

    def import_(self, document: object) -> int:
        """Replace the state by a deployment document; gives the number of its resources.

        Raises:
            StateError: it is not usable, or belongs to another stack.
        """
        with self._file.lock("import"):
            snapshot = decode(document, self._crypter_for)
            prefix = f"urn:pulumi:{self.name}::{self.project.name}::"
            for row in snapshot.resources:
                if not row.urn.startswith(prefix):
                    raise StateError(
                        f"{row.urn} is not of stack {self.name!r} of project {self.project.name!r}"
                    )
            self._file.use(self._crypter(snapshot))
            self._file.save(snapshot.resources, snapshot.pending)
            return len(snapshot.resources)

    def outputs(self, *, show_secrets: bool = False) -> Properties:
        """The stack's outputs.

        Raises:
            StateError: the stack has no state.
        """
        resources = self._load(required=True).resources
        found = next((row.outputs for row in resources if row.type == STACK_TYPE), {})
        if show_secrets:
            return plain_properties(found)
        return {
            key: "[secret]" if is_secret(value) else redact(value) for key, value in found.items()
        }

    def set_config(self, key: str, value: str, *, secret: bool) -> None:
        """Set one of the stack's settings in its file."""
        crypter = self._crypter(self._load()) if secret else None
        write_setting(self.project, self.name, key, value, crypter)

    def get_config(self, key: str) -> str:
        """One of the stack's settings, opened if it is secret.

        Raises:
            EngineError: it is not set.
        """
        qualified = self.project.qualify(key)
        values = self.config(Snapshot()).values
        if qualified not in values:
            raise EngineError(
                f"{qualified} is not set for stack {self.name!r}",
                hint=f"objectstore stack config set {key} VALUE",
            )
        return values[qualified]

    def cancel(self) -> int | None:
        """Ask the operation under way to stop; gives its process id, None if there is none."""
        owner = self._file.owner()
        if owner is None:
            return None
        os.kill(owner[0], signal.SIGINT)
        return owner[0]

    def config(self, snapshot: Snapshot) -> StackConfig:
        """The stack's settings."""
        return load_config(self.project, self.name, lambda: self._crypter(snapshot))

    def open_for_writing(self, snapshot: Snapshot) -> StateFile:
        """The state file, ready to be written to."""
        self._file.use(self._crypter(snapshot))
        return self._file

    def _load(self, *, required: bool = False) -> Snapshot:
        document = self._file.read_document()
        if document is None:
            if required:
                raise StateError(
                    f"stack {self.name!r} has no state yet", hint="run `objectstore stack up`"
                )
            return Snapshot()
        return decode(document, self._crypter_for)

    def _crypter(self, snapshot: Snapshot) -> Crypter:
        # The stack file's salt comes first, as with the real command; a new one stays in the state.
        return self._crypter_for(stack_salt(self.project, self.name) or snapshot.salt)

    def _make_crypter(self, salt: str) -> Crypter:
        return Crypter(self._passphrase, salt)

    @functools.cached_property
    def _passphrase(self) -> str:
        passphrase, made = find_passphrase(self._state_dir)
        if made:
            self._say(f"made a passphrase for the stacks' secrets; it is kept in {made}")
        return passphrase


class _Run:
    """One operation under way: its services, its plugins, its signals."""

    def __init__(
        self, stack: Stack, operation: str, output: Output, snapshot: Snapshot, lock: int | None
    ) -> None:
        self._stack = stack
        self._operation = operation
        self._preview = operation == "preview"
        self._control = Control()
        self._display = Display(output.stream, as_json=output.as_json, preview=self._preview)
        self._config = stack.config(snapshot)
        secrets = (self._config.values[key] for key in self._config.secret_keys)
        self._display.hide(secrets)
        writer = None if self._preview else stack.open_for_writing(snapshot)
        self._journal = Journal(snapshot, writer)
        self._engine = EngineService(self)
        self._host = PluginHost(
            stack.project.provider_dirs,
            self._engine.address,
            lambda plugin, line: self._display.log("info", "", f"{plugin}: {line}"),
            lock,
        )
        self._deleter = Deleter(
            self._journal, self._host, self._display, self._control, preview=self._preview
        )
        self._refresher = Refresher(self._journal, self._deleter, self._display, self._control)

    def log(self, severity: str, urn: str, message: str) -> None:
        """Take a log line; an error of the program fails the operation."""
        if severity != "error":
            self._display.log(severity, urn, message)
        elif not self._control.stopped:
            # After a stop, the program only complains about that.
            self._display.fail(self._journal.find(urn) if urn else None, message)
            self._control.stop(failed=True)

    def execute(self, work: Callable[[], None]) -> int:
        """Do the operation's work; gives the exit code."""
        self._display.headline(
            f"{self._operation}: stack {self._stack.name} of {self._stack.project.name}"
        )
        with self._signals():
            self._engine.start()
            try:
                work()
            except StoppedError:
                pass  # said by what stopped it
            except EngineError as error:
                if not self._control.failed:
                    self._display.fail(None, str(error))
                self._control.stop(failed=True)
            finally:
                self._control.wait()
                self._host.stop()
                self._engine.stop()
        return self._conclude()

    def up(self, *, refresh: bool = False) -> None:
        """Run the program, then delete what it no longer has."""
        self._refresher.recover(PARALLEL)
        if refresh:
            self._refresher.refresh_all(PARALLEL)
        deployment = Deployment(
            self._stack.project.name,
            self._stack.name,
            self._journal,
            self._host,
            self._display,
            self._control,
            self._config,
            preview=self._preview,
        )
        self._run_program(deployment)
        deployment.finish(PARALLEL)

    def refresh(self) -> None:
        """Read every resource."""
        self._refresher.refresh_all(PARALLEL)

    def destroy(self) -> None:
        """Delete every resource."""
        self._refresher.recover(PARALLEL)
        self._deleter.refuse_protected(self._journal.old())
        self._deleter.clean_interrupted()
        self._deleter.delete_all(self._journal.old(), PARALLEL)
        self._journal.settle()

    def _run_program(self, deployment: Deployment) -> None:
        project = self._stack.project
        if not project.main.is_file():
            raise EngineError(f"there is no program: {project.main}")
        monitor = ResourceMonitor(
            deployment,
            project.name,
            self._stack.name,
            self._config,
            preview=self._preview,
            parallel=PARALLEL,
        )
        monitor.start()
        settings = {
            "project": project.name,
            "stack": self._stack.name,
            "directory": str(project.directory),
            "main": str(project.main),
            "monitor": monitor.address,
            "engine": self._engine.address,
            "parallel": PARALLEL,
            "preview": self._preview,
            "config": dict(self._config.values),
            "secret_keys": sorted(self._config.secret_keys),
        }
        program = subprocess.Popen(
            [sys.executable, "-P", "-u", str(Path(__file__).with_name("runner.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            stdin, stdout = cast("IO[str]", program.stdin), cast("IO[str]", program.stdout)
            reader = threading.Thread(target=self._show_program, args=(stdout,), daemon=True)
            reader.start()
            stdin.write(json.dumps(settings) + "\n")
            stdin.flush()
            code = self._wait_for(program)
            self._control.wait()
            reader.join(PROGRAM_GRACE_S)
        finally:
            program.kill()
            program.wait()
            monitor.stop()
        if self._control.stopped:
            raise StoppedError
        if code != 0:
            raise EngineError(f"the program ended with code {code}; nothing was deleted")

    def _wait_for(self, program: subprocess.Popen[str]) -> int:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return program.wait(0.2)
            if self._control.stopped:
                self._control.wait()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return program.wait(PROGRAM_GRACE_S)
                program.kill()

    def _show_program(self, stream: IO[str]) -> None:
        for line in stream:
            self._display.log("info", "", line)

    def _conclude(self) -> int:
        name = self._operation
        if self._display.failures:
            again = "" if self._preview else "what was done is recorded; run it again to go on"
            self._display.summary(f"{name} failed", again)
            return 1
        if self._control.stopped:
            self._display.summary(f"{name} stopped", "run it again to go on")
            return INTERRUPTED
        self._display.summary(f"{name} done")
        return 0

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            if self._control.stopped:
                os._exit(INTERRUPTED)  # the guards end the plugins
            self._control.stop(failed=False)
            # From a thread: the interrupted code may hold the display's lock.
            text = "stopping after the steps under way; again to stop at once"
            threading.Thread(target=self._display.log, args=("warning", "", text)).start()

        former = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
