"""HTTP as uvicorn speaks it, with a bound for the head of a request, which its quick parser does not have."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
"""Of the request line and the headers; a little more passes where it comes at once."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that does not end is answered with 400, and the connection closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes: int | None = None
        """How much of a head has come that has not ended; None between heads."""

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that it has ended."""
        self._head_bytes = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        if self._head_bytes is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"the head of a request may have {MAX_HEAD_BYTES} bytes")
