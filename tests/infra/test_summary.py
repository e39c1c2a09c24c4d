"""The table that `make up` ends with."""

from __future__ import annotations

from objectstore_infra.summary import summary

OUTPUTS = {
    "endpoint_http": "http://10.77.0.30:7200",
    "endpoint_https": "https://10.77.0.30:7200",
    "client_addresses": ["10.77.0.30", "10.77.0.31"],
    "access_key": "AKIDSECRETIVE",
    "secret_key": "never-to-be-shown",
    "vms": [
        {
            "name": "abc-oss-default-0",
            "vcpu": 4,
            "cores_per_socket": 2,
            "memory_mib": 8192,
            "addresses": ["10.77.0.10"],
        },
        {
            "name": "abc-oss-envoy-1",
            "vcpu": 2,
            "cores_per_socket": 2,
            "memory_mib": 4096,
            "addresses": ["10.77.0.13", "10.77.0.30"],
        },
    ],
}


def test_vms_stand_in_aligned_columns():
    lines = summary("local", OUTPUTS).splitlines()
    assert lines[1].split() == ["VM", "vCPU", "cores/socket", "memory", "addresses"]
    assert lines[2].split() == ["abc-oss-default-0", "4", "2", "8", "GiB", "10.77.0.10"]
    assert lines[1].index("memory") == lines[2].index("8 GiB") == lines[3].index("4 GiB")
    assert lines[3].endswith("10.77.0.13, 10.77.0.30")


def test_endpoints_are_shown_and_no_secret_is():
    text = summary("local", OUTPUTS)
    assert "http://10.77.0.30:7200" in text
    assert "https://10.77.0.30:7200" in text
    assert "--stack local" in text
    assert OUTPUTS["secret_key"] not in text
    assert OUTPUTS["access_key"] not in text
