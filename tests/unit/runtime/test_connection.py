"""A connection without a socket: what the order of its callbacks must not change."""

from __future__ import annotations

import asyncio

from objectstore_app.runtime.connection import Connection
from objectstore_app.runtime.context import ServerContext, ServerLimits
from objectstore_app.runtime.http import Request, Response
from objectstore_app.runtime.metrics import Counters

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Sink(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


def test_request_that_comes_while_the_turn_before_it_ends_is_answered_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gates = [loop.create_future(), loop.create_future()]
        begun = 0

        async def application(request: Request) -> Response:
            nonlocal begun
            begun += 1
            await gates[begun - 1]
            return Response(200, [], b"answered")

        context = ServerContext(application, Counters("test"), ServerLimits(), None)
        connection, sink = Connection(context, secure=False, refused=False), Sink()
        connection.connection_made(sink)
        connection.data_received(REQUEST)
        await asyncio.sleep(0)
        gates[0].set_result(None)
        # Behind the step that ends the first turn, before anyone is told that it ended.
        loop.call_soon(connection.data_received, REQUEST)
        for _ in range(5):
            await asyncio.sleep(0)
        gates[1].set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == 2
        assert sink.written.count(b"answered") == 2

    asyncio.run(main())
