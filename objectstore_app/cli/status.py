"""`objectstore status`: is a store up and well, from its health and metrics pages.

With `--store` it is a deployment, whose machines and cluster are looked at too (`cluster_status`).
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import click

from . import cluster_status
from .options import json_output

TIMEOUT_S = 10.0
READY, NOT_READY, UNREACHABLE = 0, 1, 2
FORBIDDEN = 403
LICENCE_INCLUDED_BYTES = 2 * 10**12
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


_USAGE = {
    "buckets": "objectstore_buckets",
    "objects": "objectstore_objects",
    "versions": "objectstore_versions",
    "size_bytes": "objectstore_stored_bytes",
    "uploads": "objectstore_uploads",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the metrics page."""

    name: str
    labels: dict[str, str]
    value: float


class UnreachableError(Exception):
    """The store did not answer."""


@click.command()
@click.option(
    "--endpoint",
    envvar="OBJECTSTORE_ENDPOINT",
    default="http://127.0.0.1:7200",
    show_default=True,
    show_envvar=True,
    help="The store's address.",
)
@click.option(
    "--store",
    metavar="NAME",
    help="A store deployed from this machine: its machines, pods, shards and pools, too.",
)
@json_output
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False), help="Trust this certificate (PEM)."
)
@click.option("--insecure", is_flag=True, help="Do not verify the certificate.")
def status(endpoint: str, store: str | None, as_json: bool, ca: str | None, insecure: bool) -> None:
    """Show whether a store is up and well, and what it does.

    Exit status: 0 when it is ready, 1 when it is up but not ready or something of its deployment is
    not well, 2 when it does not answer.
    """
    cluster = cluster_status.look(store) if store else None
    endpoint = cluster_status.endpoint(store) if store else endpoint
    parts = urlsplit(endpoint if "//" in endpoint else f"http://{endpoint}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.ClickException(f"--endpoint {endpoint!r}: expected http(s)://HOST:PORT")
    tls = _context(ca, insecure=insecure) if parts.scheme == "https" else None
    try:
        _, health_text = _get(parts.netloc, tls, "/_health/ready")
        code, metrics_text = _metrics(parts.netloc, tls, cluster)
        health = json.loads(health_text)
        if code != 200 or not isinstance(health, dict) or "checks" not in health:
            raise UnreachableError("something else than an object store answers there")
    except (UnreachableError, ValueError) as error:
        down: dict[str, object] = {"endpoint": endpoint, "status": "down", "reason": str(error)}
        _show(down, f"{endpoint}: does not answer: {error}", cluster, as_json=as_json)
        sys.exit(UNREACHABLE)
    report = summary(endpoint, health, samples(metrics_text))
    _show(report, _text(report), cluster, as_json=as_json)
    well = report["status"] == "ready" and (cluster is None or cluster["status"] == "ready")
    sys.exit(READY if well else NOT_READY)


def _show(
    report: dict[str, object],
    text: str,
    cluster: cluster_status.Report | None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        parts = {name: part for name, part in (cluster or {}).items() if name != "metrics"}
        click.echo(json.dumps(report | ({"cluster": parts} if parts else {}), indent=1))
        return
    click.echo(text, err=report["status"] == "down")
    if cluster:
        click.echo(cluster_status.shown(cluster))


def samples(text: str) -> list[Sample]:
    """The samples of a page in Prometheus' text format."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is not None and not line.startswith("#"):
            labels = dict(_LABEL.findall(match.group(2) or ""))
            found.append(Sample(match.group(1), labels, float(match.group(3))))
    return found


def summary(endpoint: str, health: dict[str, object], page: list[Sample]) -> dict[str, object]:
    """What the two pages say, in one object."""
    processes: dict[str, dict[str, object]] = {}
    requests: dict[str, int] = {}
    plain: dict[str, int] = {}
    for sample in page:
        if sample.name == "objectstore_http_requests_total":
            status_class = f"{sample.labels['status'][:1]}xx"
            requests[status_class] = requests.get(status_class, 0) + int(sample.value)
        elif sample.name.startswith("objectstore_process_") and "pid" in sample.labels:
            process = processes.setdefault(sample.labels["pid"], {"role": sample.labels["role"]})
            process[sample.name.removeprefix("objectstore_process_")] = sample.value
        elif not sample.labels:
            plain[sample.name] = int(sample.value)
    return {
        "endpoint": endpoint,
        "status": health["status"],
        "version": health.get("version"),
        "role": health.get("role"),
        "checks": health["checks"],
        "requests": requests,
        "connections": plain.get("objectstore_http_connections", 0),
        "bytes_received": plain.get("objectstore_http_request_bytes_total", 0),
        "bytes_sent": plain.get("objectstore_http_response_bytes_total", 0),
        "usage": {name: plain[metric] for name, metric in _USAGE.items() if metric in plain},
        "licence": licence(plain.get(_USAGE["size_bytes"])),
        "damage": plain.get("objectstore_damage", 0),
        "processes": {pid: values for pid, values in processes.items() if values.get("up") == 1.0},
    }


def licence(used_bytes: int | None) -> dict[str, object]:
    """What is included and what is used of it; nothing is ever refused for it."""
    used = used_bytes or 0
    return {
        "included_bytes": LICENCE_INCLUDED_BYTES,
        "used_bytes": used_bytes,
        "over_bytes": max(used - LICENCE_INCLUDED_BYTES, 0),
    }


def _licence_text(found: object) -> list[str]:
    """One line, where it is known what is used."""
    if not isinstance(found, dict) or found["used_bytes"] is None:
        return []
    used, included = found["used_bytes"] / 10**12, LICENCE_INCLUDED_BYTES / 10**12
    line = f"  licence      {used:.3f} of {included:.0f} TB that are included"
    if found["over_bytes"]:
        over = found["over_bytes"] / 10**12
        line += f": {over:.3f} TB MORE, to be licensed by used capacity; nothing is refused"
    return [line]


def _text(report: dict[str, object]) -> str:
    lines = [
        f"{report['endpoint']}: {report['status']} "
        f"(objectstore {report['version']}, {report['role']})"
    ]
    checks, processes, requests = report["checks"], report["processes"], report["requests"]
    if isinstance(checks, dict):
        lines += [
            f"  {name}: {check['reason']}" for name, check in checks.items() if not check["ok"]
        ]
    if isinstance(requests, dict):
        shown = ", ".join(f"{count} {name}" for name, count in sorted(requests.items())) or "none"
        lines.append(f"  requests     {shown}; {report['connections']} connections")
    usage = report["usage"]
    if isinstance(usage, dict) and usage:
        lines.append(
            f"  holds        {usage['objects']} objects in {usage['buckets']} buckets, "
            f"{usage['versions']} versions, {usage['size_bytes']} bytes, "
            f"{usage['uploads']} uploads under way"
        )
    lines += _licence_text(report["licence"])
    if report["damage"]:
        lines.append(f"  DAMAGED      {report['damage']} places: see `objectstore atlas status`")
    lines.append(f"  bytes        {report['bytes_received']} in, {report['bytes_sent']} out")
    if isinstance(processes, dict):
        for pid, values in processes.items():
            mib = float(values.get("resident_memory_bytes", 0)) / 2**20
            cpu = float(values.get("cpu_seconds_total", 0))
            lines.append(f"  {values['role']:<12} pid {pid}, {mib:.0f} MiB, {cpu:.1f} s processor")
    return "\n".join(lines)


def _metrics(
    netloc: str, tls: ssl.SSLContext | None, cluster: cluster_status.Report | None
) -> tuple[int, str]:
    """Status and text of the metrics page. The entry of a deployment shows it to nobody; then it is
    the one that the machines were asked for, or empty.
    """
    if cluster:
        return 200, cluster["metrics"]
    code, text = _get(netloc, tls, "/_metrics")
    return (200, "") if code == FORBIDDEN else (code, text)


def _get(netloc: str, tls: ssl.SSLContext | None, path: str) -> tuple[int, str]:
    connection = (
        http.client.HTTPSConnection(netloc, timeout=TIMEOUT_S, context=tls)
        if tls
        else http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _context(ca: str | None, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
