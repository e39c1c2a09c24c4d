"""The client addresses as clients see them: both protocols on one port, and the certificate."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

pytestmark = pytest.mark.promise("D7", "S1")

PORT = 7200
TIMEOUT_S = 15


@pytest.fixture(scope="module")
def trusting(store) -> ssl.SSLContext:
    """What a client has that was given the store's authority and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(store.folder / "authority" / "clients" / "ca.pem")
    return context


def certificate(address: str, name: str, context: ssl.SSLContext) -> x509.Certificate:
    with (
        socket.create_connection((address, PORT), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))


def test_every_client_address_answers_http(store):
    for address in store.client_addresses:
        connection = http.client.HTTPConnection(address, PORT, timeout=TIMEOUT_S)
        connection.request("GET", "/_health/ready")
        assert connection.getresponse().status == 200
        connection.close()


def test_metrics_are_not_for_clients(store):
    for path in ("/_metrics", "/_metrics?x=1"):
        connection = http.client.HTTPConnection(store.client_addresses[0], PORT, timeout=TIMEOUT_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 403, path
        assert b"<Code>AccessDenied</Code>" in answer.read()
        connection.close()


def test_every_client_address_answers_https_with_a_certificate_for_itself(store, trusting):
    for address in store.client_addresses:
        connection = http.client.HTTPSConnection(address, PORT, timeout=TIMEOUT_S, context=trusting)
        connection.request("GET", "/_health/ready")
        assert connection.getresponse().status == 200
        connection.close()


def test_the_certificate_is_for_the_stores_names_and_addresses(store, trusting):
    domain = f"{store.name}.{store.domain}"
    cert = certificate(store.client_addresses[0], domain, trusting)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {domain, f"*.{domain}"}
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address(address) for address in store.client_addresses
    }
    usages = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_buckets_name_before_the_domain_is_in_the_certificate(store, trusting):
    name = f"some-bucket.{store.name}.{store.domain}"
    assert certificate(store.client_addresses[0], name, trusting)


def test_old_tls_is_refused(store, trusting):
    address = store.client_addresses[0]
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        certificate(address, address, old)


def test_the_path_reaches_the_store_byte_for_byte(store):
    """A proxy that tidied the path would break the signature of such a key."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{store.client_addresses[-1]}:{PORT}",
        aws_access_key_id=store.root_access_key,
        aws_secret_access_key=store.root_secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket, key = "validation-odd-keys", "a//b/../c%2Fd/./e f+g~\u00e4"
    client.create_bucket(Bucket=bucket)
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"odd", Metadata={"Some_Name": "v  w"})
        answer = client.get_object(Bucket=bucket, Key=key)
        assert answer["Body"].read() == b"odd"
        assert answer["Metadata"] == {"some_name": "v  w"}
        assert [row["Key"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    finally:
        client.delete_object(Bucket=bucket, Key=key)
        client.delete_bucket(Bucket=bucket)


def test_an_unsigned_request_is_refused(store):
    connection = http.client.HTTPConnection(store.client_addresses[0], PORT, timeout=TIMEOUT_S)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, b"<Code>AccessDenied</Code>" in answer.read()) == (403, True)
    connection.close()
