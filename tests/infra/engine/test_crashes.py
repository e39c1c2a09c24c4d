"""Random programs, random edits, a crash between any two steps: state and world agree again.

A seed makes a history; the failing one is in the test's name and prints what it did.
"""

from __future__ import annotations

import functools
import random

import pytest

from tests.infra.engine.memory import Row, Run, World, survive

SLOTS = 5
HISTORIES_PER_TEST = 25
# Histories that once found a fault: an interrupted step under a former name, an interrupted create
# that adopted another row's thing, what is left of a create whose predecessor was deleted first.
FOUND = (291, 789, 1093, 1585, 2369)


def random_program(rng: random.Random, *, failing: bool = True) -> list[Row]:
    """Things in dependency order; the same slots come back in later programs, changed."""
    rows: list[Row] = []
    for slot in rng.sample(range(SLOTS), rng.randint(0, SLOTS)):
        keys = [f"k{slot}", f"r{slot}"]
        if rng.random() < 0.2:
            keys.reverse()
        earlier = [row.key for row in rows]
        rows.append(
            Row(
                key=keys[0],
                name=f"n{slot}",
                size=rng.randint(1, 2),
                zone=rng.choice("xy"),
                token=rng.choice(["", "s3cret-one", "s3cret-two"]),
                exclusive=rng.random() < 0.4,
                fail=rng.choice(["", "", "", "create", "update"]) if failing else "",
                uses=tuple(rng.sample(earlier, min(len(earlier), rng.randint(0, 2)))),
                after=tuple(rng.sample(earlier, min(len(earlier), rng.randint(0, 1)))),
                box=rng.choice(["", "", "box"]),
                before=rng.choice([None, None, True, False]),
                aliases=rng.choice([(), (keys[1],)]),
            )
        )
    return rows


@pytest.mark.parametrize("group", range(20))
def test_after_crashes_up_makes_state_and_world_agree_and_destroy_leaves_nothing(
    group: int,
) -> None:
    for seed in range(group * HISTORIES_PER_TEST, (group + 1) * HISTORIES_PER_TEST):
        _live_through(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_histories_that_once_found_a_fault(seed: int) -> None:
    _live_through(seed)


def _live_through(seed: int) -> None:
    rng = random.Random(seed)
    print(f"\nseed {seed}")
    world = World()
    for _ in range(rng.randint(0, 3)):
        run, program = Run(world, rng.randint(0, 60)), random_program(rng)
        _tell(run, program, ended=survive(functools.partial(run.up, program)))
    last = random_program(rng, failing=False)
    run = Run(world)
    print(last)
    run.up(last)
    _tell(run, last, ended=True)
    world.check_agrees()
    assert {row.key for row in last} == set(world.rows())

    again = Run(world)
    again.up(last)
    assert not again.calls

    for _ in range(rng.randint(0, 2)):
        run = Run(world, rng.randint(1, 20))
        _tell(run, [], ended=survive(run.destroy))
    Run(world).destroy()
    assert not world.things
    assert not world.half
    assert not world.snapshot().resources


def _tell(run: Run, program: list[Row], *, ended: bool) -> None:
    print("\n ".join(map(str, program)))
    print("  calls", run.calls, "failed", run.failures, "ended", ended)
    print("  world", sorted(run.world.things), "half", run.world.half)
