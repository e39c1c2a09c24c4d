"""Settings of `objectstore serve`: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_app.config.errors import SettingsError
from objectstore_app.config.settings import Address, address, read_file, serve_settings


def test_least_is_a_data_folder() -> None:
    settings = serve_settings(data="x")
    assert settings.data is not None
    assert settings.data.is_absolute()
    assert str(settings.listen) == "127.0.0.1:7200"
    assert settings.workers >= 1


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("192.0.2.1:7200", Address("192.0.2.1", 7200)),
        ("[::1]:80", Address("::1", 80)),
        ("localhost:0", Address("localhost", 0)),
    ],
)
def test_address_forms(text: str, parsed: Address) -> None:
    assert address(text, "--listen") == parsed
    assert str(parsed) == text


@pytest.mark.parametrize("text", ["7200", ":7200", "a:", "a:b", "a:70000", "a:-1", ""])
def test_bad_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--listen.*ADDRESS:PORT"):
        address(text, "--listen")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "--data.*not given"),
        ({"data": "x", "domain": ("under_score",)}, "--domain.*under_score"),
        ({"data": "x", "domain": ("-a.com",)}, "--domain"),
        ({"data": "x", "workers": 0}, "--workers.*0"),
        ({"data": "x", "workers": 1000}, "--workers.*1 to 64"),
        ({"data": "x", "region": "EU West"}, "--region"),
        ({"data": "x", "encryption": "yes"}, "--encryption.*none or AES256"),
        ({"data": "x", "compression": "lz4"}, "--compression.*none or zstd"),
        ({"data": "x", "log_format": "xml"}, "--log-format.*text or json"),
        ({"data": "x", "tls_cert": "/etc/hostname"}, "--tls-key.*--tls-cert"),
        ({"data": "x", "tls_cert": "/no/such", "tls_key": "/no/such"}, "--tls-cert.*can be read"),
        ({"data": "x", "tls_key": "/etc/hostname"}, "--tls-cert.*--tls-key"),
    ],
)
def test_contradictions_are_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        serve_settings(**given)  # type: ignore[arg-type]


def test_file_gives_values_by_flag_name(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('data = "/srv"\ndomain = ["a.test"]\nworkers = 2\ndrain_grace = 1\n')
    settings = serve_settings(**read_file(file))  # type: ignore[arg-type]
    assert (settings.data, settings.domains, settings.workers) == (Path("/srv"), ("a.test",), 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lisen = 'a:1'", "unknown setting 'lisen'"),
        ("workers = 'two'", "workers = 'two'.*must be a whole number"),
        ("workers = true", "must be a whole number"),
        ("workers = ", "Invalid value"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_file(file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_file(tmp_path / "none.toml")
