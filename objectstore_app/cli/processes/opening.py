"""The program that starts a store: it makes what all processes share, and forks them.

When all of them serve, it gives its process over to `watching`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ... import __version__
from ...config.settings import ServeSettings, serve_settings
from ...core.errors import ObjectStoreError
from ...media.place import settle_place
from ...media.store import open_store
from ...runtime import logging
from ...runtime.listeners import bind_listeners, raise_descriptor_limit
from ...runtime.metrics import MetricsBoard
from ...runtime.supervisor import Supervisor
from .plan import Plan, child_specs, prepare, slots
from .replacing import replace_process


def main(values: Mapping[str, Any], shown: Sequence[str]) -> None:
    """Serve until a signal ends it."""
    settings = serve_settings(**values)
    logging.set_up(settings.log_format, "supervisor")
    try:
        plan = _open(settings)
        Supervisor(
            child_specs(plan),
            plan.board,
            on_ready=lambda supervisor: _all_serve(supervisor, plan, values, shown),
            on_stop=plan.close_listeners,
            prepare=prepare,
        ).run()
    except ObjectStoreError as error:
        sys.exit(f"Error: {error}")


def _open(settings: ServeSettings) -> Plan:
    """Make the store if need be, hold it, and bind the port. All of it outlives an exec."""
    raise_descriptor_limit()
    store = open_store(settings.data, region=settings.region)
    settle_place(store, settings.ceph)
    store.lock("serve").keep()
    bound = bind_listeners(settings.listen.host, settings.listen.port, settings.workers)
    listeners = tuple(listener.detach() for listener in bound)
    board = MetricsBoard(slots(settings))
    for descriptor in (*listeners, board.descriptor):
        os.set_inheritable(descriptor, True)
    return Plan(settings, board, listeners)


def _all_serve(
    supervisor: Supervisor, plan: Plan, values: Mapping[str, Any], shown: Sequence[str]
) -> None:
    _announce(plan)
    states = supervisor.hand_over()
    if states is not None:
        more = {
            "board": plan.board.descriptor,
            "listeners": plan.listeners,
            "children": [asdict(state) for state in states],
        }
        replace_process("watching", values, shown, more)


def _announce(plan: Plan) -> None:
    settings = plan.settings
    host = settings.listen.host
    shown = f"[{host}]" if ":" in host else host
    with socket.socket(fileno=os.dup(plan.listeners[0])) as listener:
        port = listener.getsockname()[1]
    trust = "" if settings.tls else f"   (self-signed: {plan.certificate[0]})"
    print(
        f"objectstore {__version__} is ready\n"
        f"  S3 endpoint   http://{shown}:{port}\n"
        f"                https://{shown}:{port}{trust}\n"
        f"  data folder   {settings.data}",
        flush=True,
    )
