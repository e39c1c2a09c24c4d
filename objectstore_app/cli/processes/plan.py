"""Which processes a store has, and what they are told.

A child imports its own module after the fork; what front ends need is imported before, for they
share it. This module is part of each of these processes: it imports little.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from ...config.settings import ServeSettings
from ...core.limits import DRAIN_TIMEOUT_S
from ...core.room import is_short
from ...runtime import logging
from ...runtime.metrics import MetricsBoard
from ...runtime.supervisor import ChildContext, ChildSpec

STOP_MARGIN_S = 5.0
WRITER_STOP_S = 30.0
SHORT_STOP_S = 10.0
CERTIFICATE_EVERY_S = 3600.0
WRITERS_STAGE, FRONT_ENDS_STAGE = 0, 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process of a store may know. `listeners` are descriptors, one a front end."""

    settings: ServeSettings
    board: MetricsBoard
    listeners: tuple[int, ...]

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The files of the certificate and its key: those given, else the store's own."""
        if self.settings.tls is not None:
            return self.settings.tls
        folder = self.settings.data / "tls"
        return folder / "cert.pem", folder / "key.pem"

    def close_listeners(self, but: int = -1) -> None:
        """Once all who have a listener closed it, the port is free."""
        for listener in self.listeners:
            if listener != but:
                os.close(listener)


def slots(settings: ServeSettings) -> int:
    """How many processes count, the supervisor included."""
    return settings.workers + 5


def child_specs(plan: Plan) -> list[ChildSpec]:
    """The processes of a store, the supervisor aside."""
    settings = plan.settings

    def child(
        role: str,
        stage: int,
        stop_s: float,
        *,
        number: int | None = None,
        every_s: float = 0.0,
        at_start: bool = False,
        hurried: Callable[[], bool] | None = None,
    ) -> ChildSpec:
        name = role if number is None else f"{role}-{number}"
        main = partial(_become, plan, role, number or 0)
        return ChildSpec(name, role, stage, main, stop_s, every_s, at_start, hurried)

    every_s = CERTIFICATE_EVERY_S
    specs = [child("certificate", WRITERS_STAGE, SHORT_STOP_S, every_s=every_s, at_start=True)]
    specs.append(child("writer", WRITERS_STAGE, WRITER_STOP_S, number=0))
    every_s = settings.atlas.interval_s
    if every_s:
        hurried = partial(is_short, settings.data)
        specs.append(
            child("atlas", FRONT_ENDS_STAGE, SHORT_STOP_S, every_s=every_s, hurried=hurried)
        )
    drain_s = DRAIN_TIMEOUT_S + settings.drain_grace_s + STOP_MARGIN_S
    for number in range(settings.workers):
        specs.append(child("front-end", FRONT_ENDS_STAGE, drain_s, number=number))
    return specs


def prepare(stage: int) -> None:
    """Import what the children of a stage have in common, before the first of them is forked."""
    import_module("...metadata_service.client", __package__)
    if stage == FRONT_ENDS_STAGE:
        import_module(".front_end", __package__)


def _become(plan: Plan, role: str, number: int, context: ChildContext) -> None:
    """Run a child's main function, whose imports are its own."""
    logging.set_up(plan.settings.log_format, role)
    if role == "front-end":
        from . import front_end

        front_end.main(plan, context, number)
        return
    plan.close_listeners()
    if role == "writer":
        from . import writer

        writer.main(plan, context)
    elif role == "atlas":
        from . import atlas

        atlas.main(plan, context)
    else:
        from . import certificate

        certificate.main(plan, context)
