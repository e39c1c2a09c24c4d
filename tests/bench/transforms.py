"""What compression and encryption cost: our store alone, plain, encrypted and compressed.

The same cases over the same kind of bodies (text that compresses to a half), one store after the
other; the kind stands behind the name of each case.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from .cases import Bench
from .outcome import CaseError
from .recorder import Plan, say
from .results import Missed, Results
from .systems import OUR_SYSTEM, Server, launch_ours, our_binary

KINDS = {
    "plain": (),
    "AES-256": ("--encryption", "AES256"),
    "zstd": ("--compression", "zstd"),
}
GROUPS = frozenset({"4k", "1m", "64m"})


def run(plan: Plan, results: Results) -> None:
    """Measure all kinds; what fails is noted in the results."""
    plan = replace(plan, groups=GROUPS, connections=(16,), seconds=max(plan.seconds // 2, 1))
    for kind, options in KINDS.items():
        system = replace(OUR_SYSTEM, launch=partial(launch_ours, options=options))
        try:
            with (
                tempfile.TemporaryDirectory(prefix="bench-transforms-", dir=plan.folder) as folder,
                Server(system, our_binary(), Path(folder)) as server,
            ):
                server.start()
                Bench(server, plan, results, variant=kind, text=True).run_groups()
        except CaseError as error:
            results.missed.append(Missed(system.name, f"transforms, {kind}", str(error)))
            say(f"  transforms, {kind}: {error}")
