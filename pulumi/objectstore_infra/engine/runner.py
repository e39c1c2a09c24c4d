"""Runs a Pulumi program in a process of its own: `python -P runner.py`, settings on standard input.

The settings are one line of JSON (a command line could be read by other users, and they contain
secrets). The engine keeps the other end open; when it closes, the engine is gone and so is this
process. The exit code is 0 when the program ran to its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import signal
import sys
import threading
import traceback

import pulumi
import pulumi.runtime


def main() -> int:
    """Run the program; gives the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the engine's business
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_engine, daemon=True).start()
    pulumi.runtime.set_all_config(settings["config"], settings["secret_keys"])
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            project=settings["project"],
            stack=settings["stack"],
            monitor=settings["monitor"],
            engine=settings["engine"],
            parallel=settings["parallel"],
            dry_run=settings["preview"],
            organization="organization",
            root_directory=settings["directory"],
        )
    )
    program = settings["main"]
    os.chdir(settings["directory"])
    sys.argv = [program]
    sys.path.insert(0, os.path.dirname(program))
    # Tasks that are still waiting when the program failed would each be complained about.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    def run() -> None:
        runpy.run_path(program, run_name="__main__")

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(run))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception:  # noqa: BLE001 whatever a program raises is shown as its failure
        pulumi.log.error(f"the program failed:\n{traceback.format_exc().rstrip()}")
        return 1
    return 0


def _die_with_engine() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    CODE = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of a failed program may wait for answers that never come.
    os._exit(CODE)
