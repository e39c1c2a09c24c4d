"""First-boot data: what a node is told, and that nothing in it can become shell."""

from __future__ import annotations

import subprocess

import pytest

from objectstore_infra.node_image.boot import BootData, render

GOOD = {
    "hostname": "abc-oss-default-0",
    "address": "10.77.0.10",
    "prefix_length": 24,
    "gateway": "10.77.0.1",
    "resolver": "10.77.0.1",
    "authorized_key": "ssh-ed25519 AAAAC3Nza objectstore-abc-oss",
}


def test_the_script_is_valid_shell_with_all_that_a_node_needs() -> None:
    script = render(BootData(**GOOD))
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for part in ("'10.77.0.10/24'", "via '10.77.0.1'", "abc-oss-default-0", "ssh-ed25519 AAAAC3"):
        assert part in script


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", "a'; reboot; '"),
        ("hostname", ""),
        ("address", "10.77.0.10; reboot"),
        ("gateway", "$(reboot)"),
        ("resolver", "::1"),
        ("authorized_key", "ssh-ed25519 AAAA x'; reboot"),
        ("authorized_key", "ssh-rsa AAAA"),
    ],
)
def test_what_is_no_name_address_or_key_is_refused(field: str, value: str) -> None:
    with pytest.raises(
        ValueError, match=r"not a host name|not an ed25519|Expected 4 octets|Only decimal"
    ):
        BootData(**{**GOOD, field: value})
