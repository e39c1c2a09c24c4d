"""The program that watches over a store that serves: nothing but the supervisor."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ...config.settings import serve_settings
from ...core.errors import ObjectStoreError
from ...runtime import logging
from ...runtime.metrics import MetricsBoard
from ...runtime.supervisor import ChildState, Supervisor
from .plan import Plan, child_specs, slots


def main(
    values: Mapping[str, Any],
    shown: Sequence[str],
    board: int,
    listeners: Sequence[int],
    children: Sequence[Mapping[str, Any]],
) -> None:
    """Go on until a signal ends it; `board` and `listeners` are descriptors."""
    settings = serve_settings(**values)
    logging.set_up(settings.log_format, "supervisor")
    plan = Plan(settings, MetricsBoard(slots(settings), board), tuple(listeners))
    supervisor = Supervisor(child_specs(plan), plan.board, on_stop=plan.close_listeners)
    try:
        supervisor.run([ChildState(**child) for child in children])
    except ObjectStoreError as error:
        sys.exit(f"Error: {error}")
