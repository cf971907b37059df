"""The readers of a fan-out benchmark: many sockets in a process of their own, as cheap as they can be.

    python -m tests.bench.fanout_reader PORT CONNECTIONS [STALLED]

Every message carries one `~`. Each line on stdin is a number of messages in all; when so many have come, a line with
the number is printed. At the end of stdin the 99th percentile of the latencies, in milliseconds, is printed, for
messages that carry `@<monotonic seconds>@`. STALLED more connections are opened and never read.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import time

from tests.bench.load import HANDSHAKE

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


class Reader(asyncio.Protocol):
    """Counts messages; `latencies` are shared by all readers."""

    count = 0
    latencies: list[float] = []  # noqa: RUF012 - of the process, not of one reader
    upgraded = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.head = b""
        transport.write(HANDSHAKE.format(key=KEY).encode())

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            data, self.head = self.head.partition(b"\r\n\r\n")[2], None  # type: ignore[assignment]
            Reader.upgraded += 1
        Reader.count += data.count(b"~")
        at = data.rfind(b"@")
        if at > 0:
            sent = data[data.rfind(b"@", 0, at) + 1 : at]
            if sent:
                Reader.latencies.append(time.monotonic() - float(sent))


async def main() -> None:
    port, number = int(sys.argv[1]), int(sys.argv[2])
    loop = asyncio.get_running_loop()
    stalled = []
    for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 0):
        quiet = socket.create_connection(("127.0.0.1", port))
        quiet.sendall(HANDSHAKE.format(key=KEY).encode())
        stalled.append(quiet)
    for _ in range(number):
        await loop.create_connection(Reader, "127.0.0.1", port)
    while Reader.upgraded < number:
        await asyncio.sleep(0.005)
    print("ready", flush=True)
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        wanted = int(line)
        while Reader.count < wanted:
            await asyncio.sleep(0.0005)
        print(wanted, flush=True)
    print(statistics.quantiles(Reader.latencies, n=100)[98] * 1000 if len(Reader.latencies) > 1 else 0.0, flush=True)


asyncio.run(main())
