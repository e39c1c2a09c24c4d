"""Ansible module: do these endpoints do what an S3 server must: write, read back, delete?

Runs on a node with nothing but the standard library, and signs its requests with code of its own:
a probe that shared the store's code would share its faults.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import os
import secrets
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: s3_probe
short_description: Write, read back and delete an object through each of some S3 endpoints
description:
  - >-
    Through each endpoint at once, makes a bucket of its own, puts an object, reads it back, and
    removes both.
  - A failed step is repeated from the start until O(timeout) is over.
  - >-
    Returns RV(probes), a row for each endpoint in their order, which says how long it took or why
    it failed. Fails when one of them did.
options:
  hosts:
    description: Host name or address of each endpoint.
    type: list
    elements: str
    required: true
  port:
    description: Port of the endpoints.
    type: int
    default: 7200
  authority:
    description: Speak TLS and accept only certificates of the authorities in this PEM text.
    type: str
    default: ""
  access_key:
    description: Access key of somebody who may make buckets.
    type: str
    required: true
  secret_key:
    description: The secret key that belongs to it.
    type: str
    required: true
  region:
    description: The region to sign for.
    type: str
    default: us-east-1
  timeout:
    description: For how many seconds to try.
    type: float
    default: 30
"""

BODY_BYTES = 4096
CALL_TIMEOUT_S = 15
PAUSE_S = 0.5


class ProbeError(Exception):
    """A step that did not do what S3 promises."""


class Endpoint:
    """An S3 endpoint and the keys to use there."""

    def __init__(self, host: str, params: dict[str, Any]) -> None:
        self.host = host
        self.port: int = params["port"]
        self.access_key: str = params["access_key"]
        self.secret_key: str = params["secret_key"]
        self.region: str = params["region"]
        self.context = (
            ssl.create_default_context(cadata=params["authority"]) if params["authority"] else None
        )

    def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One signed request; its answer's body. Raises: ProbeError unless the status is 2xx."""
        if self.context:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, self.port, timeout=CALL_TIMEOUT_S, context=self.context
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_TIMEOUT_S)
        try:
            connection.request(method, path, body, self.sign(method, path, body))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ProbeError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if answer.status // 100 != 2:
            said = content[:300].decode(errors="replace")
            raise ProbeError(f"{method} {path}: {answer.status} {answer.reason} {said}")
        return content

    def sign(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """The headers of a request signed with AWS Signature Version 4."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "host": f"{self.host}:{self.port}",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": stamp,
        }
        signed = ";".join(headers)
        canonical = "\n".join(
            [
                method,
                path,
                "",
                *(f"{name}:{value}" for name, value in headers.items()),
                "",
                signed,
                headers["x-amz-content-sha256"],
            ]
        )
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join(
            ["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()]
        )
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return headers


def round_trip(endpoint: Endpoint) -> None:
    """A bucket and an object of our own: made, read back, removed."""
    bucket = f"/objectstore-probe-{secrets.token_hex(6)}"
    body = os.urandom(BODY_BYTES)
    endpoint.call("PUT", bucket)
    try:
        endpoint.call("PUT", f"{bucket}/object", body)
        try:
            if endpoint.call("GET", f"{bucket}/object") != body:
                raise ProbeError(f"GET {bucket}/object: other bytes than were put")
        finally:
            endpoint.call("DELETE", f"{bucket}/object")
    finally:
        endpoint.call("DELETE", bucket)


def probed(endpoint: Endpoint, timeout_s: float) -> dict[str, Any]:
    """What came of it; `seconds` from the first attempt to the one that did."""
    began = time.monotonic()
    while True:
        try:
            round_trip(endpoint)
        except ProbeError as error:
            if time.monotonic() - began < timeout_s:
                time.sleep(PAUSE_S)
                continue
            said = f"the S3 probe of {endpoint.host}:{endpoint.port} failed: {error}"
            return {"host": endpoint.host, "failed": True, "msg": said}
        return {"host": endpoint.host, "seconds": round(time.monotonic() - began, 3)}


def probed_all(endpoints: list[Endpoint], timeout_s: float) -> list[dict[str, Any]]:
    """What came of each, in their order; all at once, so that one that hangs holds up no other."""
    with ThreadPoolExecutor(max_workers=len(endpoints) or 1) as threads:
        return list(threads.map(lambda endpoint: probed(endpoint, timeout_s), endpoints))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "default": 7200},
            "authority": {"type": "str", "default": ""},
            "access_key": {"type": "str", "required": True, "no_log": True},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "region": {"type": "str", "default": "us-east-1"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        skipped = [{"host": host, "seconds": 0.0} for host in params["hosts"]]
        said = "a probe writes; not in check mode"
        module.exit_json(changed=False, skipped=True, msg=said, probes=skipped)
    endpoints = [Endpoint(host, params) for host in params["hosts"]]
    probes = probed_all(endpoints, params["timeout"])
    failed = [probe["msg"] for probe in probes if probe.get("failed")]
    if failed:
        module.fail_json(msg="; ".join(failed), probes=probes)
    module.exit_json(changed=False, probes=probes)


if __name__ == "__main__":
    main()
