"""Messages behind their lengths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sysadmd.listen.measured import measured, messages


@given(st.lists(st.binary(max_size=300)))
def test_joined_messages_come_apart_again(parts: list[bytes]) -> None:
    assert list(messages(b"".join(measured(part) for part in parts))) == parts
