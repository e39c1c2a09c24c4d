"""The admin API under `/_admin/v1/`: people, buckets and keys, as JSON, for administrators.

Requests carry the same SigV4 signatures as S3's. Every error is a JSON object with a code, a
message and the request's id. What exists is described in `admin_openapi`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from ..core.errors import ObjectStoreError
from ..core.limits import KIB
from ..iam.errors import InvalidIdentityError
from ..iam.identity import new_identity
from ..metadata_service.api import User
from ..metadata_service.errors import UserExistsError, UserMissingError
from ..object_controller.people import add_person, find_person, remove_person
from ..protocol.routing import Location
from ..protocol.target import Query, split_target
from ..runtime.http import Request, Response
from .admin_answers import error_answer, json_answer, not_allowed, not_found, view_answer
from .admin_buckets import answer_buckets, answer_usage
from .admin_keys import answer_keys
from .admin_openapi import DOCUMENT_JSON
from .authentication import authenticate
from .bodies import read_small_body
from .call import Call
from .failures import as_s3_error
from .services import Services

PREFIX = b"/_admin/v1/"
REQUEST_BYTES_MAX = 64 * KIB


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """A person as the API tells it; DESIGN's `{id, email, name, access_keys}` and the role."""

    id: str
    email: str
    name: str
    administrator: bool
    access_keys: tuple[str, ...]


class AddedUserView(UserView, frozen=True, kw_only=True):
    """What adding answers: the only time that the secret is told."""

    access_key: str
    secret_key: str


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request to add a person."""

    email: str
    name: str = ""
    access_key: str = ""
    secret_key: str = ""
    administrator: bool = False


async def handle_admin(services: Services, request: Request) -> Response:
    """Answer one request whose target starts with PREFIX."""
    try:
        return await _answer(services, request)
    except InvalidIdentityError as error:
        return error_answer(request, 400, "InvalidArgument", str(error))
    except UserExistsError as error:
        return error_answer(request, 409, "UserExists", str(error))
    except UserMissingError as error:
        return error_answer(request, 404, "NoSuchUser", str(error))
    except ObjectStoreError as error:
        told = as_s3_error(error)
        return error_answer(request, told.status, told.code, told.message)


async def _answer(services: Services, request: Request) -> Response:
    path, _, _ = request.target.partition(b"?")
    resource, *rest = path[len(PREFIX) :].decode("latin-1").split("/")
    if resource == "openapi.json" and not rest:
        if request.method != "GET":
            return not_allowed(request, "GET")
        return json_answer(200, DOCUMENT_JSON)
    answer = _RESOURCES.get(resource)
    if answer is None or "" in rest:
        return not_found(request)
    target = split_target(request.target)
    location = Location("", b"", Query(target.query), target)
    call = await authenticate(services, request, location)
    if call.user is None:
        return error_answer(request, 401, "MissingAuthenticationToken", "sign the request (SigV4)")
    if not call.user.administrator:
        return error_answer(request, 403, "AccessDenied", "only administrators may do this")
    return await answer(call, rest)


async def _answer_users(call: Call, path: list[str]) -> Response:
    """`users`, `users/WHO`."""
    services, request = call.services, call.request
    if len(path) > 1:
        return not_found(request)
    if path:
        if request.method != "DELETE":
            return not_allowed(request, "DELETE")
        return await _remove(services, request, unquote(path[0]))
    if request.method == "GET":
        request.note["operation"] = "AdminListUsers"
        people = sorted(await services.metadata.users(), key=lambda user: user.email)
        return view_answer(200, [_view(user) for user in people])
    if request.method == "POST":
        return await _add(services, request, await read_small_body(call, REQUEST_BYTES_MAX))
    return not_allowed(request, "GET, POST")


_RESOURCES: dict[str, Callable[[Call, list[str]], Awaitable[Response]]] = {
    "users": _answer_users,
    "buckets": answer_buckets,
    "usage": answer_usage,
    "keys": answer_keys,
}


async def _add(services: Services, request: Request, body: bytes) -> Response:
    request.note["operation"] = "AdminAddUser"
    try:
        asked = msgspec.json.decode(body, type=NewUser)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error_answer(request, 400, "MalformedJSON", str(error))
    identity = new_identity(
        asked.email, asked.name, access_key=asked.access_key, secret_key=asked.secret_key
    )
    user = await add_person(
        services.metadata, services.keyring, identity, administrator=asked.administrator
    )
    added = AddedUserView(
        id=user.id,
        email=user.email,
        name=user.name,
        administrator=user.administrator,
        access_keys=tuple(key.access_key for key in user.keys),
        access_key=identity.access_key,
        secret_key=identity.secret_key,
    )
    return view_answer(201, added)


async def _remove(services: Services, request: Request, who: str) -> Response:
    request.note["operation"] = "AdminRemoveUser"
    user = await find_person(services.metadata, who)
    if user is not None and user.administrator:
        others = [
            other
            for other in await services.metadata.users()
            if other.administrator and other.id != user.id
        ]
        if not others:
            return error_answer(
                request, 409, "LastAdministrator", "the last administrator cannot be removed"
            )
    removed = await remove_person(services.metadata, who)
    return view_answer(200, _view(removed))


def _view(user: User) -> UserView:
    return UserView(
        id=user.id,
        email=user.email,
        name=user.name,
        administrator=user.administrator,
        access_keys=tuple(key.access_key for key in user.keys),
    )
