"""Secrets in URLs are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffrtmp.masking import mask_log, mask_url

SECRET = "geh3im"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:geh3im@host/a.mp4", "https://***@host/a.mp4"),
        ("https://us@er:geh3im@host:8443/a", "https://***@host:8443/a"),
        ("https://host/a?sig=geh3im&mode=x", "https://host/a?sig=***&mode=x"),
        ("https://host/a?geh3im", "https://host/a?***"),
        ("https://host/a#geh3im", "https://host/a#***"),
        ("rtmp://host/live/geh3im", "rtmp://host/live/***"),
        ("srt://host:9000?latency=200&passphrase=geh3im", "srt://host:9000?latency=200&passphrase=***"),
        ("https://host/a.mp4", "https://host/a.mp4"),
        ("srv:a.mov", "srv:a.mov"),
        ("see 'https://u:geh3im@h/x' and http://h/?k=geh3im", "see 'https://***@h/x' and http://h/?k=***"),
    ],
)
def test_a_secret_in_a_url_is_masked_wherever_it_stands(url: str, shown: str) -> None:
    assert mask_url(url) == shown
    starred = mask_log(url.encode())
    assert SECRET.encode() not in starred
    assert len(starred) == len(url.encode())


@given(st.text(max_size=80), st.text(max_size=80))
def test_p12_any_text_can_be_masked_and_a_log_keeps_its_length(before: str, after: str) -> None:
    text = f"{before}https://u:{SECRET}@h/{after}"
    assert f":{SECRET}@" not in mask_url(text)
    assert len(mask_log(text.encode())) == len(text.encode())


@given(st.binary(max_size=200))
def test_p12_any_bytes_can_be_masked(data: bytes) -> None:
    assert len(mask_log(data)) == len(data)
