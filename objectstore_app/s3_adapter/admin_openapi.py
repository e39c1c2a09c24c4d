"""The OpenAPI description of the admin API, kept beside the code that serves it."""

from __future__ import annotations

import msgspec

from .. import __version__

_ERROR = {"$ref": "#/components/schemas/Error"}
_USER = {"$ref": "#/components/schemas/User"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SCHEMAS = {
    "User": {
        "type": "object",
        "required": ["id", "email", "name", "administrator", "access_keys"],
        "properties": {
            "id": {"type": "string", "description": "The owner id that S3 returns."},
            "email": _TEXT,
            "name": _TEXT,
            "administrator": {"type": "boolean"},
            "access_keys": _TEXTS,
        },
    },
    "NewUser": {
        "type": "object",
        "required": ["email"],
        "additionalProperties": False,
        "properties": {
            "email": {"type": "string", "format": "email"},
            "name": {"type": "string", "description": "Shown to people; the address if left out."},
            "access_key": {"type": "string", "description": "Made when left out."},
            "secret_key": {"type": "string", "description": "Given together with access_key."},
            "administrator": {"type": "boolean", "default": False},
        },
    },
    "AddedUser": {
        "allOf": [
            _USER,
            {
                "type": "object",
                "required": ["access_key", "secret_key"],
                "properties": {
                    "access_key": _TEXT,
                    "secret_key": {"type": "string", "description": "Shown this once."},
                },
            },
        ]
    },
    "Error": {
        "type": "object",
        "required": ["code", "message", "request_id"],
        "properties": {"code": _TEXT, "message": _TEXT, "request_id": _TEXT},
    },
}


def _answer(description: str, schema: object) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_REFUSALS = {
    "401": _answer("The request is not signed.", _ERROR),
    "403": _answer("The signature is wrong, or its owner is no administrator.", _ERROR),
}

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {
        "title": "objectstore admin API",
        "version": __version__,
        "description": "Requests are signed with SigV4 (service `s3`) by an administrator's keys.",
    },
    "paths": {
        "/_admin/v1/users": {
            "get": {
                "operationId": "listUsers",
                "responses": {
                    "200": _answer("Everybody.", {"type": "array", "items": _USER}),
                    **_REFUSALS,
                },
            },
            "post": {
                "operationId": "addUser",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/NewUser"}}
                    },
                },
                "responses": {
                    "201": _answer("Added.", {"$ref": "#/components/schemas/AddedUser"}),
                    "400": _answer("A value breaks a rule.", _ERROR),
                    "409": _answer("The address or the access key is taken.", _ERROR),
                    **_REFUSALS,
                },
            },
        },
        "/_admin/v1/users/{who}": {
            "delete": {
                "operationId": "removeUser",
                "description": "The keys stop working at once; buckets stay.",
                "parameters": [
                    {
                        "name": "who",
                        "in": "path",
                        "required": True,
                        "schema": _TEXT,
                        "description": "Owner id, e-mail address or access key.",
                    }
                ],
                "responses": {
                    "200": _answer("Removed.", _USER),
                    "404": _answer("No such person.", _ERROR),
                    "409": _answer("The last administrator cannot be removed.", _ERROR),
                    **_REFUSALS,
                },
            }
        },
    },
    "components": {"schemas": _SCHEMAS},
}

DOCUMENT_JSON = msgspec.json.encode(DOCUMENT)
