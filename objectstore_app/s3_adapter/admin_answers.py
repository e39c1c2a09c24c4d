"""How the admin API answers: JSON, errors included."""

from __future__ import annotations

import msgspec

from ..runtime.http import Request, Response


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    request_id: str


def json_answer(status: int, body: bytes) -> Response:
    return Response(status, [("Content-Type", "application/json")], body, len(body))


def view_answer(status: int, view: object) -> Response:
    """A struct, or a list of them, as JSON."""
    return json_answer(status, msgspec.json.encode(view))


def error_answer(request: Request, status: int, code: str, message: str) -> Response:
    request.note["error"] = code
    return view_answer(status, ErrorView(code=code, message=message, request_id=request.request_id))


def not_found(request: Request) -> Response:
    return error_answer(request, 404, "NotFound", "no such resource; see /_admin/v1/openapi.json")


def not_allowed(request: Request, allowed: str) -> Response:
    response = error_answer(request, 405, "MethodNotAllowed", f"this resource allows {allowed}")
    response.headers.append(("Allow", allowed))
    return response
