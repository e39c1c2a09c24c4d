"""First-boot data: who a node is, rendered to the shell text that its image applies at boot."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address

import jinja2

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("objectstore_infra.node_image", "."),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - shell text; `BootData` admits nothing that needs quoting
)
_HOSTNAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_SSH_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+( [A-Za-z0-9@._-]+)?")


@dataclass(frozen=True, slots=True)
class BootData:
    """What a node is told about itself."""

    hostname: str
    address: str
    prefix_length: int
    gateway: str
    resolver: str
    authorized_key: str

    def __post_init__(self) -> None:
        if not _HOSTNAME.fullmatch(self.hostname):
            raise ValueError(f"not a host name: {self.hostname!r}")
        if not _SSH_KEY.fullmatch(self.authorized_key):
            raise ValueError("not an ed25519 public key")
        for address in (self.address, self.gateway, self.resolver):
            IPv4Address(address)


def render(data: BootData) -> str:
    """Return the boot script."""
    return _TEMPLATES.get_template("boot.sh.j2").render(asdict(data))
