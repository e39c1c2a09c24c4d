"""The OpenAPI description of the admin API, kept beside the code that serves it."""

from __future__ import annotations

import msgspec

from .. import __version__
from ..object_controller.keychain import KEY_NAME

_ERROR = {"$ref": "#/components/schemas/Error"}
_USER = {"$ref": "#/components/schemas/User"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_NUMBER = {"type": "integer", "minimum": 0}
_KEY = {"$ref": "#/components/schemas/Key"}
_BUCKET = {"$ref": "#/components/schemas/Bucket"}
_USAGE_SHOWN = {
    "name": _TEXT,
    "owner": {"type": "string", "description": "The owner id that S3 returns."},
    "objects": {**_NUMBER, "description": "Current ones."},
    "versions": {**_NUMBER, "description": "With bytes: no delete markers."},
    "size_bytes": {**_NUMBER, "description": "Of all versions."},
    "uploads": {**_NUMBER, "description": "Multipart uploads under way."},
}
_BUCKET_SHOWN = {
    "name": _TEXT,
    "owner": {"type": "string", "description": "The owner id that S3 returns."},
    "created": {"type": "string", "format": "date-time"},
    "region": _TEXT,
    "versioning": {"type": "string", "enum": ["", "Enabled", "Suspended"]},
    "compression": {
        "type": "string",
        "enum": ["zstd", "none"],
        "description": "What holds now: the bucket's setting, else the store's.",
    },
    "encryption": {
        "type": "string",
        "description": "`none`, `AES256` or `aws:kms NAME`: what holds now.",
    },
    "objects": _NUMBER,
    "versions": _NUMBER,
    "size_bytes": {**_NUMBER, "description": "Of the plain bytes of all versions."},
    "uploads": _NUMBER,
}
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
    "Bucket": {
        "type": "object",
        "required": list(_BUCKET_SHOWN),
        "properties": _BUCKET_SHOWN,
    },
    "Usage": {
        "type": "object",
        "required": list(_USAGE_SHOWN),
        "properties": _USAGE_SHOWN,
    },
    "BucketChange": {
        "type": "object",
        "required": ["compression"],
        "additionalProperties": False,
        "properties": {
            "compression": {
                "type": "string",
                "enum": ["zstd", "none", "default"],
                "description": "For objects written from now on; `default` is the store's.",
            }
        },
    },
    "NewKey": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string", "pattern": KEY_NAME.pattern}},
    },
    "Key": {
        "type": "object",
        "required": ["name", "versions"],
        "properties": {
            "name": _TEXT,
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "created", "active", "data_keys"],
                    "properties": {
                        "id": _NUMBER,
                        "created": {"type": "string", "format": "date-time"},
                        "active": {"type": "boolean"},
                        "data_keys": {
                            **_NUMBER,
                            "description": "How many it wraps: one for each body or part.",
                        },
                    },
                },
            },
        },
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


def _in_path(name: str, description: str) -> dict[str, object]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": _TEXT,
        "description": description,
    }


def _body(schema: str) -> dict[str, object]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"required": True, "content": content}


_NO_BUCKET = _answer("No such bucket.", _ERROR)
_NO_KEY = _answer("No such key or version.", _ERROR)
_BUCKET_PATHS = {
    "/_admin/v1/usage": {
        "get": {
            "operationId": "listUsage",
            "description": "What buckets hold, exactly, by name, 1,000 at most.",
            "parameters": [
                {
                    "name": "after",
                    "in": "query",
                    "schema": _TEXT,
                    "description": "Only buckets whose names sort behind this one.",
                }
            ],
            "responses": {
                "200": _answer(
                    "Usage.",
                    {"type": "array", "items": {"$ref": "#/components/schemas/Usage"}},
                ),
                **_REFUSALS,
            },
        }
    },
    "/_admin/v1/buckets/{name}": {
        "parameters": [_in_path("name", "The bucket's name.")],
        "get": {
            "operationId": "showBucket",
            "responses": {"200": _answer("The bucket.", _BUCKET), "404": _NO_BUCKET, **_REFUSALS},
        },
        "patch": {
            "operationId": "setBucket",
            "requestBody": _body("BucketChange"),
            "responses": {
                "200": _answer("As it is now.", _BUCKET),
                "400": _answer("A value breaks a rule.", _ERROR),
                "404": _NO_BUCKET,
                **_REFUSALS,
            },
        },
    },
}
_KEY_PATHS = {
    "/_admin/v1/keys": {
        "get": {
            "operationId": "listKeys",
            "responses": {
                "200": _answer("All keys.", {"type": "array", "items": _KEY}),
                **_REFUSALS,
            },
        },
        "post": {
            "operationId": "addKey",
            "requestBody": _body("NewKey"),
            "responses": {
                "201": _answer("Added.", _KEY),
                "400": _answer("The name breaks a rule.", _ERROR),
                "409": _answer("There is a key of that name.", _ERROR),
                **_REFUSALS,
            },
        },
    },
    "/_admin/v1/keys/{name}/rotate": {
        "parameters": [_in_path("name", "The key's name.")],
        "post": {
            "operationId": "rotateKey",
            "description": "Adds a version, which wraps from here on.",
            "responses": {"200": _answer("Rotated.", _KEY), "404": _NO_KEY, **_REFUSALS},
        },
    },
    "/_admin/v1/keys/{name}/versions/{id}": {
        "parameters": [_in_path("name", "The key's name."), _in_path("id", "The version.")],
        "delete": {
            "operationId": "retireKeyVersion",
            "description": "Forgets a version for good.",
            "responses": {
                "200": _answer("What is left of the key.", _KEY),
                "404": _NO_KEY,
                "409": _answer("It is active, or it wraps data keys.", _ERROR),
                **_REFUSALS,
            },
        },
    },
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
        **_BUCKET_PATHS,
        **_KEY_PATHS,
    },
    "components": {"schemas": _SCHEMAS},
}

DOCUMENT_JSON = msgspec.json.encode(DOCUMENT)
