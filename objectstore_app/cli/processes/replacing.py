"""How a program of this package takes the place of the one before it.

Theory of operation. `objectstore serve` is three programs, one after the other in one process. The
command reads its options. `opening` makes what all processes share, and forks them. `watching` is
the supervisor for the rest of the time. Each takes the place of the one before by an exec, so that
neither children nor supervisor carry what was only needed to get there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_BOOT = Path(__file__).with_name("boot.py")
_PACKAGES = Path(__file__).parents[3]


def replace_process(
    module: str,
    values: Mapping[str, object],
    shown: Sequence[str],
    more: Mapping[str, object] | None = None,
) -> NoReturn:
    """Go on as the `main` of another module of this package: called with `values`, which are the
    settings as given, and the keywords `more`. What is passed on has to be JSON.

    The interpreter leaves out what `site` would do; where modules are found is passed on, without
    links: an upgrade that redirects one must not give this release's processes other modules.
    """
    told = {
        "path": [os.path.realpath(entry) for entry in (*sys.path, str(_PACKAGES))],
        "module": f"{__package__}.{module}",
        "values": values,
        "more": {"shown": shown, **(more or {})},
    }
    descriptor = os.memfd_create(module, 0)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        json.dump(told, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    sys.stdout.flush()
    sys.stderr.flush()
    argv = [sys.executable, "-P", "-S", str(_BOOT), str(descriptor), *shown]
    os.execv(sys.executable, argv)  # noqa: S606 - a shell would only be in the way
