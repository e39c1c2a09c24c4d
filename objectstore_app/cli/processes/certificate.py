"""The process that sees to it that the store has a certificate, and ends: at the start, and now and
then to renew a self-signed one in time. The front ends take it from its file.
"""

from __future__ import annotations

import datetime

from ...runtime.supervisor import ChildContext
from ...runtime.tls import ServerTls, ensure_self_signed
from .plan import Plan


def main(plan: Plan, context: ChildContext) -> None:
    settings = plan.settings
    certificate, key = plan.certificate
    if settings.tls is None:
        ensure_self_signed(
            certificate.parent,
            address=settings.listen.host,
            domains=settings.domains,
            now=datetime.datetime.now(datetime.UTC),
        )
    ServerTls(certificate, key)  # refuse a broken pair here, before anything serves
    context.ready()
