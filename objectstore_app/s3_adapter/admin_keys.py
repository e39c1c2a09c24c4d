"""The key store's part of the admin API: named keys, their versions, what each still wraps.

The bytes of a key are never told: they are made here, and lie in the directory sealed.
"""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from ..metadata_service.api import StoreKey
from ..metadata_service.errors import StoreKeyExistsError, StoreKeyInUseError, StoreKeyMissingError
from ..object_controller.keychain import KEY_NAME
from ..protocol.dates import iso_extended
from ..runtime.http import Response
from .admin_answers import error_answer, not_allowed, not_found, view_answer
from .bodies import read_small_body
from .call import Call

REQUEST_BYTES_MAX = 4096


class KeyVersionView(msgspec.Struct, frozen=True, kw_only=True):
    """`data_keys` is how many it wraps: one for each encrypted body or part."""

    id: int
    created: str
    active: bool
    data_keys: int


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    versions: tuple[KeyVersionView, ...]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str


async def answer_keys(call: Call, path: list[str]) -> Response:
    """`keys`, `keys/NAME/rotate`, `keys/NAME/versions/ID`."""
    try:
        return await _answer(call, [unquote(part) for part in path])
    except StoreKeyExistsError as error:
        return error_answer(call.request, 409, "KeyExists", str(error))
    except StoreKeyInUseError as error:
        return error_answer(call.request, 409, "KeyInUse", str(error))
    except StoreKeyMissingError as error:
        return error_answer(call.request, 404, "NoSuchKey", str(error))


async def _answer(call: Call, path: list[str]) -> Response:
    request, keys = call.request, call.services.keys
    match path:
        case []:
            if request.method == "GET":
                request.note["operation"] = "AdminListKeys"
                held = await call.services.metadata.store_keys()
                return view_answer(200, await _views(call, *held))
            if request.method == "POST":
                request.note["operation"] = "AdminAddKey"
                return await _add(call)
            return not_allowed(request, "GET, POST")
        case [name, "rotate"]:
            if request.method != "POST":
                return not_allowed(request, "POST")
            request.note["operation"] = "AdminRotateKey"
            [view] = await _views(call, await keys.rotate(name))
            return view_answer(200, view)
        case [name, "versions", version] if version.isascii() and version.isdigit():
            if request.method != "DELETE":
                return not_allowed(request, "DELETE")
            request.note["operation"] = "AdminRetireKeyVersion"
            [view] = await _views(call, await keys.retire(name, int(version)))
            return view_answer(200, view)
    return not_found(request)


async def _add(call: Call) -> Response:
    body = await read_small_body(call, REQUEST_BYTES_MAX)
    try:
        name = msgspec.json.decode(body, type=NewKey).name
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error_answer(call.request, 400, "MalformedJSON", str(error))
    if not KEY_NAME.fullmatch(name):
        return error_answer(
            call.request, 400, "InvalidArgument",
            "a key's name has 1 to 128 letters, digits, '_', '.' or '-'",
        )  # fmt: skip
    [view] = await _views(call, await call.services.keys.add(name))
    return view_answer(201, view)


async def _views(call: Call, *keys: StoreKey) -> list[KeyView]:
    use = await call.services.metadata.key_use()
    return [
        KeyView(
            name=key.name,
            versions=tuple(
                KeyVersionView(
                    id=version.id,
                    created=iso_extended(version.created_ms),
                    active=version is key.versions[-1],
                    data_keys=use.get(version.id, 0),
                )
                for version in key.versions
            ),
        )
        for key in keys
    ]
