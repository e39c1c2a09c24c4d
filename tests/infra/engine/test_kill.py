"""kill -9 of the real engine at any step of a provider, then `up`: state and world agree.

`test_crashes` covers every point many times in memory; here it is real processes: what the engine
leaves behind is ended, the lock is free again, and the state on disk is whole.
"""

from __future__ import annotations

import random
import signal

import pytest

from tests.infra.engine.conftest import Sandbox

SECRET = "s3cret-s3cret"
pytestmark = pytest.mark.timeout(300)


def _program(rng: random.Random) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for slot in rng.sample(range(4), rng.randint(2, 4)):
        earlier = [row["key"] for row in rows]
        rows.append(
            {
                "key": f"k{slot}",
                "size": rng.randint(1, 3),
                "zone": rng.choice("xy"),
                "token": SECRET,
                "exclusive": slot % 2 == 0,
                "uses": rng.sample(earlier, min(1, len(earlier))),
            }
        )
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_after_kill_up_makes_state_and_world_agree_and_destroy_leaves_nothing(
    sandbox: Sandbox, seed: int
) -> None:
    rng = random.Random(seed)
    shown = ""
    for operation in ("up", "up", "destroy"):
        last = _program(rng)
        sandbox.program(*last)
        process = sandbox.start(operation, TINY_KILL=str(rng.randint(1, 8)))
        output, _ = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), output
        shown += output
        if operation == "up":
            shown += sandbox.run("up")
            sandbox.check_agrees()
            assert {row["key"] for row in last} == {
                thing["name"] for thing in sandbox.things().values()
            }
    sandbox.run("destroy")
    assert not sandbox.things()
    assert not sandbox.resources()
    assert SECRET not in shown
    assert SECRET not in sandbox.state_file.read_text()
