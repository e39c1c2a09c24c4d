"""A control plane on loopback: etcd, API server and controllers as processes, no node.

The programs are those that the bundle's builder made. Without kubelets nothing runs: a test plays
the kubelet by writing the status of pods.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from objectstore_infra.artefacts import storage
from objectstore_infra.provider.kubernetes.api import Access, Cluster, ClusterError
from objectstore_infra.provider.kubernetes.kinds import kind_of

START_TIMEOUT_S = 90.0
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "etcd")
CONTROLLERS = (
    "garbage-collector-controller,namespace-controller,deployment-controller,replicaset-controller,"
    "statefulset-controller,disruption-controller,serviceaccount-controller"
)


def programs(folder: Path) -> dict[str, Path]:
    """The programs out of the builder's cache, executable; skips the test where one is missing."""
    kept = storage.Storage(storage.cache_dir() / "artefacts")
    found = {}
    for artefact in ("kubernetes", "etcd"):
        records = (storage.cache_dir() / "artefacts" / "made" / artefact).glob("*.json")
        for record in sorted(records, key=lambda path: path.stat().st_mtime):
            for row in json.loads(record.read_text()):
                found[row["name"]] = kept.path(storage.StoredFile(**row))
    missing = [name for name in PROGRAMS if name not in found or not found[name].exists()]
    if missing:
        pytest.skip(f"not built yet: {', '.join(missing)}; make bundle PROFILE=platform builds it")
    for name in PROGRAMS:
        # Files of the cache are not executable, and may not be changed.
        shutil.copyfile(found[name], folder / name)
        (folder / name).chmod(0o755)
    return {name: folder / name for name in PROGRAMS}


class Authority:
    """Signs for the control plane and its clients."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        self.certificate, _ = self.sign("test", "", self._key, authority=True)

    def sign(
        self,
        name: str,
        group: str,
        key: rsa.RSAPrivateKey | None = None,
        *,
        authority: bool = False,
    ) -> tuple[bytes, bytes]:
        """A certificate and its key, as PEM."""
        own = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        now = datetime.datetime.now(datetime.UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name if authority else x509.Name(parts))
            .issuer_name(self._name)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return (
            certificate.public_bytes(pem),
            own.private_bytes(pem, form, serialization.NoEncryption()),
        )

    def kubeconfig(self, server: str, name: str, group: str) -> str:
        """What the operator has of a cluster."""
        certificate, key = self.sign(name, group)
        cluster = {"server": server, "certificate-authority-data": _b64(self.certificate)}
        user = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
        return yaml.safe_dump(
            {
                "current-context": "test",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
            }
        )


class ControlPlane:
    """A running control plane."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.cluster = Cluster(Access.from_kubeconfig(kubeconfig), unreachable_s=5.0)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """Start a control plane with its data in the folder; it ends with the block."""
    found = programs(folder)
    authority = Authority()
    ports = _free_ports(4)
    etcd, peers = (f"http://127.0.0.1:{port}" for port in ports[:2])
    server = f"https://127.0.0.1:{ports[2]}"
    files = _written(folder, authority)
    admin = authority.kubeconfig(server, "test-admin", "system:masters")
    (folder / "admin.conf").write_text(admin)
    commands = {
        "etcd": [
            f"--data-dir={folder / 'etcd-data'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports[2]}",
            f"--client-ca-file={files['ca.pem']}",
            f"--tls-cert-file={files['server.pem']}",
            f"--tls-private-key-file={files['server.key']}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://test",
            f"--service-account-key-file={files['server.key']}",
            f"--service-account-signing-key-file={files['server.key']}",
            "--disable-admission-plugins=ServiceAccount",
        ],
        "kube-controller-manager": [
            f"--kubeconfig={folder / 'admin.conf'}",
            f"--secure-port={ports[3]}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}",
            "--leader-elect=false",
            f"--controllers={CONTROLLERS}",
        ],
    }
    with contextlib.ExitStack() as ended:
        started = {}
        for name, options in commands.items():
            log = ended.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen(
                [str(found[name]), *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
            ended.callback(_end, process)
            started[name] = process
        plane = ControlPlane(admin)
        _wait_until_ready(plane, started, folder)
        yield plane


def _wait_until_ready(
    plane: ControlPlane, started: dict[str, subprocess.Popen[bytes]], folder: Path
) -> None:
    account = kind_of("kubernetes:core/v1:ServiceAccount")
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        for name, process in started.items():
            log = (folder / f"{name}.log").read_text()[-2000:]
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{log}"
        with contextlib.suppress(ClusterError):
            # Made by a controller: then all of them run.
            if plane.cluster.read(account, "default", "default"):
                return
        assert time.monotonic() < deadline, "the control plane does not come up"
        time.sleep(0.3)


def _written(folder: Path, authority: Authority) -> dict[str, Path]:
    certificate, key = authority.sign("apiserver", "")
    contents = {"ca.pem": authority.certificate, "server.pem": certificate, "server.key": key}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
