"""What a registered resource leads to, over a world in memory."""

from __future__ import annotations

import pytest

from objectstore_infra.engine.errors import EngineError
from objectstore_infra.engine.state import STACK_TYPE
from objectstore_infra.engine.steps import Alias, Goal
from objectstore_infra.engine.values import UNKNOWN, is_secret
from tests.infra.engine.memory import Row, Run, World


def _up(world: World, *rows: Row) -> Run:
    run = Run(world)
    run.up(rows)
    world.check_agrees()
    return run


def test_delete_before_replace_takes_along_dependents_that_cannot_stay() -> None:
    world = World()
    base = Row("base", "base", exclusive=True)
    bound = Row("bound", "bound", exclusive=True, uses=("base",))
    free = Row("free", "free", uses=("base",))
    _up(world, base, bound, free)
    moved = Row("base", "base", exclusive=True, zone="y")
    run = _up(world, moved, bound, free)
    assert run.calls == [
        "delete bound",
        "delete base",
        "create base",
        "create bound",
        "update free",
    ]


def test_a_replacement_comes_before_the_old_one_goes() -> None:
    world = World()
    _up(world, Row("a", "a"))
    assert _up(world, Row("a", "a", zone="y")).calls == ["create a", "delete a"]


def test_delete_before_replace_can_be_asked_for_and_be_forbidden() -> None:
    world = World()
    _up(world, Row("a", "a"), Row("b", "b", exclusive=True))
    run = _up(world, Row("a", "a", zone="y", before=True), Row("b", "b", zone="y", before=False))
    assert run.calls == ["delete a", "create a", "create b", "delete b"]


def test_dependents_are_deleted_first() -> None:
    world = World()
    _up(world, Row("a", "a"), Row("b", "b", after=("a",)), Row("c", "c", uses=("b",)))
    run = Run(world)
    run.destroy()
    assert run.calls == ["delete c", "delete b", "delete a"]


def test_an_alias_keeps_the_thing() -> None:
    world = World()
    _up(world, Row("old", "a"), Row("user", "u", uses=("old",)))
    run = _up(world, Row("new", "a", aliases=("old",)), Row("user", "u", uses=("new",)))
    assert run.calls == []
    assert set(world.rows()) == {"new", "user"}


def test_children_of_a_renamed_component_keep_their_things() -> None:
    world = World()
    for name, aliases in (("one", ()), ("two", (Alias(name="one"),))):
        run = Run(world)
        root = run.deployment.register(Goal(STACK_TYPE, "proj-dev", custom=False))
        box = run.deployment.register(
            Goal("mem:index:Box", name, custom=False, parent=root.urn, aliases=aliases)
        )
        inputs = {"name": "n", "zone": "x", "size": 1}
        run.deployment.register(
            Goal("mem:index:Thing", f"{name}-disk", parent=box.urn, inputs=inputs)
        )
        run.deployment.finish(1)
    assert run.calls == []
    assert set(world.rows()) == {"two-disk"}


def test_ignored_changes_are_not_made() -> None:
    world = World()
    _up(world, Row("a", "a", size=1))
    assert _up(world, Row("a", "a", size=2, ignore=("size",))).calls == []
    with pytest.raises(EngineError, match="ignore_changes with a path"):
        Run(world).up([Row("a", "a", ignore=("size[0]",))])


def test_a_resource_registered_twice_is_refused() -> None:
    with pytest.raises(EngineError, match="registered twice"):
        Run(World()).up([Row("a", "a"), Row("a", "b")])


def test_secrets_stay_secret_in_inputs_and_outputs() -> None:
    world = World()
    _up(world, Row("a", "a", token="s3cret-one"))
    assert "s3cret-one" not in world.document
    row = world.rows()["a"]
    assert is_secret(row.inputs["token"])
    assert is_secret(row.outputs["token"])


def test_a_preview_changes_nothing_and_passes_unknowns_on() -> None:
    world = World()
    run = Run(world, preview=True)
    run.up([Row("a", "a"), Row("b", "b", uses=("a",))])
    assert run.counts == {"create": 2}
    assert run.calls == []
    assert not world.document
    row = run.journal.find("urn:pulumi:dev::proj::mem:index:Thing::b")
    assert row is not None
    assert row.inputs["uses"] == [UNKNOWN]


def test_a_failed_create_is_cleaned_up_when_it_is_no_longer_wanted() -> None:
    world = World()
    with pytest.raises(EngineError, match="no room"):
        Run(world).up([Row("a", "a", fail="create")])
    assert world.half == {"a-x"}
    assert [operation.type for operation in world.snapshot().pending] == ["creating"]
    assert _up(world).calls == ["delete a"]


def test_nothing_protected_is_deleted_even_when_other_things_are() -> None:
    world = World()
    _up(world, Row("a", "a", protect=True), Row("b", "b"))
    for work in (lambda run: run.up([]), Run.destroy):
        run = Run(world)
        with pytest.raises(EngineError, match="protected, so not deleted: a"):
            work(run)
        assert run.calls == []


def test_what_lies_in_something_goes_with_it() -> None:
    world = World()
    inner = Row("inner", "inner", lies_in="outer")
    _up(world, Row("outer", "outer"), inner)
    run = Run(world)
    run.destroy()
    assert run.calls == ["delete outer"]
    assert not world.rows()


def test_what_lies_in_something_that_stays_is_deleted() -> None:
    world = World()
    outer = Row("outer", "outer")
    _up(world, outer, Row("inner", "inner", lies_in="outer"))
    assert world.rows()["inner"].deleted_with == world.rows()["outer"].urn
    run = Run(world)
    run.up([outer])
    assert run.calls == ["delete inner"]
    assert set(world.things) == {"outer-x"}


def test_what_is_retained_is_only_forgotten() -> None:
    world = World()
    _up(world, Row("a", "a", retain=True))
    run = Run(world)
    run.up([])
    assert run.calls == []
    assert set(world.things) == {"a-x"}
    assert not world.rows()
