"""Requests to an S3 store are signed like AWS's own examples; S3's errors are parsed."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from spark_streaming.storage.s3_request import Answer, error_of, signature_headers
from spark_streaming.storage.store_address import ObjectStore

# The example of "Authenticating Requests: Using the Authorization Header" in the API reference.
STORE = ObjectStore(
    "https://examplebucket.s3.amazonaws.com",
    "us-east-1",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)
NOW = datetime(2013, 5, 24, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ],
)
def test_a_request_is_signed_as_in_the_protocols_examples(query: str, signature: str) -> None:
    headers = signature_headers(STORE, "GET", "/", query, b"", NOW)
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
        f"Signature={signature}"
    )


def test_the_secret_key_is_not_shown() -> None:
    assert "wJalr" not in repr(STORE)


def test_an_error_is_told_by_its_code_and_message_and_anything_else_by_its_status() -> None:
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>"
    assert error_of(body) == ("AccessDenied", "No.")
    spaced = b'<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>SlowDown</Code></Error>'
    assert error_of(spaced) == ("SlowDown", "")
    for other in (b"", b"<html><body>", b"<ListBucketResult/>"):
        assert error_of(other) == ("", "")
    assert Answer(403, body, *error_of(body)).summary() == "HTTP 403 AccessDenied: No."
    assert Answer(404).summary() == "HTTP 404"
