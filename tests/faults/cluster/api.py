"""The API of a deployment's Kubernetes, asked again and again while something is done to it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

API_PORT = 6443
ASKED_EVERY_S = 0.2
REQUEST_S_MAX = 2.0
# keepalived's share is 3 s; the rest is etcd's, should its leader have been on that node.
AWAY_S_MAX = 15.0


@dataclass
class Api:
    """The API at the management address, asked by the administrator again and again."""

    address: str
    context: ssl.SSLContext
    outages: list[tuple[float, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, method: str, path: str, body: object = None) -> dict:
        connection = http.client.HTTPSConnection(
            self.address, API_PORT, timeout=REQUEST_S_MAX, context=self.context
        )
        try:
            kind = "merge-patch+json" if method == "PATCH" else "json"
            headers = {"Content-Type": f"application/{kind}"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 300:
                raise OSError(f"{answer.status}: {content[:200]!r}")
            return json.loads(content)
        finally:
            connection.close()

    def note(self, value: str | None) -> None:
        body = {"metadata": {"annotations": {"objectstore.internal/asked": value}}}
        self.ask("PATCH", "/api/v1/namespaces/default", body)

    def watch(self) -> None:
        """Write through the API until told to stop; note every time in which it did not work."""
        last, count = time.monotonic(), 0
        while not self._stop.is_set():
            count += 1
            try:
                self.note(str(count))
            except (OSError, http.client.HTTPException):
                time.sleep(ASKED_EVERY_S)
                continue
            now = time.monotonic()
            self.outages.append((last, now - last))
            last = now
            time.sleep(ASKED_EVERY_S)

    def __enter__(self) -> Api:
        self._thread = threading.Thread(target=self.watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self.ask(
            "PATCH", "/api/v1/namespaces/default", {"metadata": {"annotations": {"asked": None}}}
        )

    def longest_s(self) -> float:
        return max(seconds for _, seconds in self.outages)

    def ready(self) -> dict[str, bool]:
        return {
            item["metadata"]["name"]: any(
                (condition["type"], condition["status"]) == ("Ready", "True")
                for condition in item["status"]["conditions"]
            )
            for item in self.ask("GET", "/api/v1/nodes")["items"]
        }


def trusting(folder: Path, pem: Path) -> ssl.SSLContext:
    """The administrator's, from the kubeconfig in the operator's folder; `pem` is written."""
    access = yaml.safe_load((folder / "kubeconfig").read_text())
    user, cluster = access["users"][0]["user"], access["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    pem.touch(mode=0o600)
    for part in ("client-certificate-data", "client-key-data"):
        pem.write_bytes(pem.read_bytes() + base64.b64decode(user[part]))
    context.load_cert_chain(pem)
    return context


def waited(condition: Callable[[], bool], limit_s: float, what: str) -> float:
    """Seconds until the condition held, asked every half second."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.5)
    pytest.fail(f"{what} did not come within {limit_s:.0f} s")
