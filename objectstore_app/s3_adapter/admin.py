"""The admin API under `/_admin/v1/`: people, as JSON, for administrators.

Requests carry the same SigV4 signatures as S3's. Every error is a JSON object with a code, a
message and the request's id. What exists is described in `admin_openapi`.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

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
from .admin_openapi import DOCUMENT_JSON
from .authentication import authenticate
from .bodies import read_small_body
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


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    request_id: str


async def handle_admin(services: Services, request: Request) -> Response:
    """Answer one request whose target starts with PREFIX."""
    try:
        return await _answer(services, request)
    except InvalidIdentityError as error:
        return _error(request, 400, "InvalidArgument", str(error))
    except UserExistsError as error:
        return _error(request, 409, "UserExists", str(error))
    except UserMissingError as error:
        return _error(request, 404, "NoSuchUser", str(error))
    except ObjectStoreError as error:
        told = as_s3_error(error)
        return _error(request, told.status, told.code, told.message)


async def _answer(services: Services, request: Request) -> Response:
    path, _, _ = request.target.partition(b"?")
    parts = path[len(PREFIX) :].split(b"/")
    if parts == [b"openapi.json"]:
        if request.method != "GET":
            return _not_allowed(request, "GET")
        return _json(200, DOCUMENT_JSON)
    if parts[0] != b"users" or len(parts) > 2 or (len(parts) == 2 and not parts[1]):
        return _error(request, 404, "NotFound", "no such resource; see /_admin/v1/openapi.json")
    target = split_target(request.target)
    location = Location("", b"", Query(target.query), target)
    call = await authenticate(services, request, location)
    if call.user is None:
        return _error(request, 401, "MissingAuthenticationToken", "sign the request (SigV4)")
    if not call.user.administrator:
        return _error(request, 403, "AccessDenied", "only administrators may do this")
    if len(parts) == 2:
        if request.method != "DELETE":
            return _not_allowed(request, "DELETE")
        return await _remove(services, request, unquote_to_bytes(parts[1]).decode(errors="replace"))
    if request.method == "GET":
        request.note["operation"] = "AdminListUsers"
        people = sorted(await services.metadata.users(), key=lambda user: user.email)
        return _json(200, msgspec.json.encode([_view(user) for user in people]))
    if request.method == "POST":
        return await _add(services, request, await read_small_body(call, REQUEST_BYTES_MAX))
    return _not_allowed(request, "GET, POST")


async def _add(services: Services, request: Request, body: bytes) -> Response:
    request.note["operation"] = "AdminAddUser"
    try:
        asked = msgspec.json.decode(body, type=NewUser)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _error(request, 400, "MalformedJSON", str(error))
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
    return _json(201, msgspec.json.encode(added))


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
            return _error(
                request, 409, "LastAdministrator", "the last administrator cannot be removed"
            )
    removed = await remove_person(services.metadata, who)
    return _json(200, msgspec.json.encode(_view(removed)))


def _view(user: User) -> UserView:
    return UserView(
        id=user.id,
        email=user.email,
        name=user.name,
        administrator=user.administrator,
        access_keys=tuple(key.access_key for key in user.keys),
    )


def _json(status: int, body: bytes) -> Response:
    return Response(status, [("Content-Type", "application/json")], body, len(body))


def _error(request: Request, status: int, code: str, message: str) -> Response:
    request.note["error"] = code
    view = ErrorView(code=code, message=message, request_id=request.request_id)
    return _json(status, msgspec.json.encode(view))


def _not_allowed(request: Request, allowed: str) -> Response:
    response = _error(request, 405, "MethodNotAllowed", f"this resource allows {allowed}")
    response.headers.append(("Allow", allowed))
    return response
