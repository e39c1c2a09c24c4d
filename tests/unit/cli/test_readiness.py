"""When a front end of a deployment says that it is ready."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from objectstore_app.cli.processes import object_controller
from objectstore_app.cli.processes.object_controller import Readiness
from objectstore_app.iam.keyring import Keyring
from objectstore_app.metadata_service.api import AddUser, User
from objectstore_app.metadata_service.errors import UnavailableError, UserExistsError
from tests.engine.pods import until


class Directory:
    """A router to a directory that answers, or does not."""

    def __init__(self) -> None:
        self.owners = SimpleNamespace(known=True)
        self.answers = True
        self.hangs = False
        self.people: list[User] = []
        self.taken = False

    async def generation(self) -> int:
        if self.hangs:
            await until(lambda: not self.hangs, "it hangs no more")
        self._answer()
        return 1

    async def users(self) -> list[User]:
        self._answer()
        return self.people

    async def mutate_directory(self, mutation: AddUser) -> User:
        self._answer()
        if self.taken:
            raise UserExistsError("add user", mutation.email)
        user = User(id=mutation.id, email=mutation.email, name=mutation.name, created_ms=1)
        self.people.append(user)
        return user

    def _answer(self) -> None:
        if not self.answers:
            raise UnavailableError("ask", "directory")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJECTSTORE_ROOT_ACCESS_KEY", "ROOTROOTROOTROOT")
    monkeypatch.setenv("OBJECTSTORE_ROOT_SECRET_KEY", "secret" * 6)
    monkeypatch.setattr(object_controller, "ADMINISTRATOR_RETRY_S", 0.01)
    monkeypatch.setattr(object_controller, "ASK_S", 0.01)


def readiness(directory: Directory) -> Readiness:
    services = SimpleNamespace(metadata=directory, keyring=Keyring(bytes(32)))
    return Readiness(directory, services)


def test_ready_once_the_map_is_known_and_the_directory_answered() -> None:
    async def run() -> None:
        directory = Directory()
        directory.owners.known = directory.answers = False
        ready = readiness(directory)
        for check in (ready.directory, ready.begun):
            with pytest.raises(UnavailableError, match="map"):
                await check()
        directory.owners.known = True
        for check in (ready.directory, ready.begun):
            with pytest.raises(UnavailableError, match="not answered yet"):
                await check()
        directory.answers = True
        await until(lambda: not ready.waits(), "it is asked again by itself")
        await ready.directory()
        await ready.begun()
        ready.close()

    asyncio.run(run())


def test_silent_directory_has_requests_wait_here_and_later_the_pod_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        directory = Directory()
        ready = readiness(directory)
        await until(lambda: not ready.waits(), "it answers")
        directory.hangs = True
        monkeypatch.setattr(object_controller, "WAITS_AFTER_S", 0.2)
        await until(ready.waits, "its silence is noticed")
        asked = asyncio.get_running_loop().time()
        await ready.directory()  # requests wait for the next owner, here as elsewhere
        await ready.begun()
        monkeypatch.setattr(object_controller, "SILENCE_S_MAX", 0.0)
        with pytest.raises(UnavailableError, match="does not answer"):
            await ready.directory()
        await ready.begun()  # an entry may have requests wait here
        assert asyncio.get_running_loop().time() - asked < 0.1  # nobody waits to be told
        directory.hangs = False
        await until(lambda: not ready.waits(), "it answers again")
        ready.close()

    asyncio.run(run())


@pytest.mark.parametrize("taken", [False, True], ids=["first", "another-was-faster"])
def test_administrator_is_made_as_soon_as_the_directory_answers(*, taken: bool) -> None:
    async def run() -> None:
        directory = Directory()
        directory.answers, directory.taken = False, taken
        ready = readiness(directory)
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError, match="administrator"):
            await ready.administrator()
        directory.answers = True
        async with asyncio.timeout(5):
            await asyncio.wait([ready._making])
        await ready.administrator()
        assert len(directory.people) == (not taken)
        ready.close()

    asyncio.run(run())
