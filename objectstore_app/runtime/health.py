"""Health and metrics: the few paths that the runtime answers itself.

`/_health/live` says that the process serves, and that none hangs that it answers for;
`/_health/ready` that it should get requests: every check passes and it is not draining. An entry
that chooses among processes asks `/_health/ready?entry`: one that can only have requests wait, as
all may have to, says so by a header of Envoy's and is taken if no other one is better. `/_metrics`
is Prometheus text. A bucket's name cannot begin with an underscore, so path-style requests never
collide; a host name that holds a bucket goes to the application whatever its path.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ..core.errors import ObjectStoreError
from .http import SYSTEM_OPERATION, Application, Request, Response
from .metrics import Counters, MetricsBoard, StoreFacts, render

ENTRY = b"entry"
DEGRADED = ("X-Envoy-Degraded", "true")

Check = Callable[[], Awaitable[None]]
"""Returns when all is well; raises an ObjectStoreError that says what is not."""


@dataclass(frozen=True, slots=True)
class SystemRoutes:
    """Answers health and metrics in front of an application.

    `checks` are those of readiness, `entry_checks` what an entry is told in their place, `living`
    those of life; `waits` tells whether requests would wait for others here, `draining` whether the
    process is on its way out; `publish` stores this process's counters before they are added up;
    `facts` are the store's, where it is at hand.
    """

    version: str
    role: str
    checks: Mapping[str, Check]
    board: MetricsBoard
    counters: Counters
    slot: int
    draining: Callable[[], bool]
    domains: tuple[str, ...] = ()
    facts: Callable[[], Awaitable[StoreFacts]] | None = None
    living: Mapping[str, Check] = field(default_factory=dict)
    entry_checks: Mapping[str, Check] | None = None
    waits: Callable[[], bool] = lambda: False

    def wrap(self, application: Application) -> Application:
        """The application with the system's routes before it."""

        def handle(request: Request) -> Awaitable[Response]:
            if request.target.startswith(b"/_") and not self._names_bucket(request):
                return self._handle(request, application)
            return application(request)

        return handle

    async def _handle(self, request: Request, application: Application) -> Response:
        response = await self._answer(request)
        return await application(request) if response is None else response

    def _names_bucket(self, request: Request) -> bool:
        host = request.headers.get(b"host", b"").decode("latin-1").lower()
        return any(f".{domain}" in host for domain in self.domains)

    async def _answer(self, request: Request) -> Response | None:
        path, _, query = request.target.partition(b"?")
        if path not in (b"/_health/live", b"/_health/ready", b"/_metrics"):
            return None
        request.note["operation"] = SYSTEM_OPERATION
        if request.method not in ("GET", "HEAD"):
            return Response(405, [("Allow", "GET, HEAD")])
        if path == b"/_metrics":
            self.board.store(self.slot, self.counters)
            text = render(self.board, self.version, await self._facts())
            return Response(200, [("Content-Type", "text/plain; version=0.0.4")], text)
        if path == b"/_health/live":
            hangs = await _reasons(self.living)
            hung = any(hangs.values())
            return self._json(503 if hung else 200, "not live" if hung else "live", hangs)
        checks = self.checks
        if query == ENTRY and self.entry_checks is not None:
            checks = self.entry_checks
        draining = {"draining": "the process is ending" if self.draining() else ""}
        reasons = draining | await _reasons(checks)
        ready = not any(reasons.values())
        response = self._json(200 if ready else 503, "ready" if ready else "not ready", reasons)
        if query == ENTRY and self.waits():
            response.headers.append(DEGRADED)
        return response

    async def _facts(self) -> StoreFacts | None:
        """None where they are not to be had now; the page tells the counters then."""
        if self.facts is None:
            return None
        try:
            return await self.facts()
        except ObjectStoreError:
            return None

    def _json(self, status: int, word: str, reasons: Mapping[str, str]) -> Response:
        checks = {
            name: {"ok": not reason, "reason": reason} if reason else {"ok": True}
            for name, reason in reasons.items()
        }
        answer = {"status": word, "version": self.version, "role": self.role, "checks": checks}
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        return Response(status, headers, (json.dumps(answer) + "\n").encode())


async def _reasons(checks: Mapping[str, Check]) -> dict[str, str]:
    """For each check, what is wrong; empty text when nothing is."""
    reasons = {}
    for name, check in checks.items():
        try:
            await check()
            reasons[name] = ""
        except ObjectStoreError as error:
            reasons[name] = str(error)
    return reasons
