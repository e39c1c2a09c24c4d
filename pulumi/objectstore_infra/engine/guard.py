"""Runs one provider plugin and makes sure that it does not outlive the engine.

`python guard.py EXECUTABLE ARGUMENT…`. The engine holds the other end of this process's standard
input and writes nothing to it; when that end closes, because the engine closed it or died, whatever
way it died, the plugin and everything it started is told to end, then killed. The lock of the stack
is inherited here and not by the plugin, so the next operation waits until this one is gone.

Standard library only, and a script: it must start in no time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

GRACE_MS = 5_000


def main() -> int:
    """Run the plugin until it ends or the engine goes; gives the plugin's exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the engine's business
    plugin = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    # The plugin's end and the engine's end are both waited for, on descriptors.
    plugin_end = os.pidfd_open(plugin.pid)
    poll = select.poll()
    poll.register(plugin_end, select.POLLIN)
    poll.register(sys.stdin.fileno(), select.POLLIN)
    if not _has_ended(poll.poll(), plugin_end):
        _signal_group(plugin.pid, signal.SIGTERM)
        poll.unregister(sys.stdin.fileno())
        poll.poll(GRACE_MS)
    # Also after an end of its own: what the plugin started must not go on without it.
    _signal_group(plugin.pid, signal.SIGKILL)
    return plugin.wait()


def _has_ended(events: list[tuple[int, int]], descriptor: int) -> bool:
    return any(fd == descriptor for fd, _ in events)


def _signal_group(group: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal_number)


if __name__ == "__main__":
    sys.exit(main())
