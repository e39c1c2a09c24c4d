"""What `make up` ends with: `python -m objectstore_infra.summary STACK < outputs.json`.

Reads the stack's outputs as JSON and prints the VMs as a table, the endpoints and where the
administrator's keys are. Prints no secret.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

HEADER = ("VM", "vCPU", "cores/socket", "memory", "addresses")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def summary(stack: str, outputs: Mapping[str, Any]) -> str:
    """Return the text for the operator."""
    rows = [
        (
            vm["name"],
            str(vm["vcpu"]),
            str(vm["cores_per_socket"]),
            f"{vm['memory_mib'] / 1024:g} GiB",
            ", ".join(vm["addresses"]),
        )
        for vm in outputs["vms"]
    ]
    shown = ["", *table([HEADER, *rows]), ""]
    facts = [
        ("endpoint", f"{outputs['endpoint_http']}  {outputs['endpoint_https']}"),
        ("client addresses", ", ".join(outputs["client_addresses"])),
        ("keys", f"objectstore stack output --stack {stack} --json --show-secrets"),
    ]
    return "\n".join([*shown, *table(facts)])


if __name__ == "__main__":
    print(summary(sys.argv[1], json.load(sys.stdin)))
