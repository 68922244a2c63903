"""The gate before a server on loopback (s3_server.py): passes bytes on until it is killed.

Run as a script: PORT, the server's port, and after how many bytes, either way, it dies (never, where that is left out).
It prints a line once it listens, since a client may kill it, by those bytes, before anybody could ask whether it does.
"""

import asyncio
import os
import sys

HOST = "127.0.0.1"


async def gate(port: int, backend: int, dies_after: int | None) -> None:
    """Passes on what comes until that were `dies_after` bytes."""
    sent = 0

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while data := await source.read(1 << 16):
                left = None if dies_after is None else dies_after - sent
                target.write(data if left is None else data[: max(0, left)])
                await target.drain()
                sent += len(data)
                if left is not None and len(data) > left:
                    os._exit(1)
            target.write_eof()
        except OSError:
            target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection(HOST, backend)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, outer), carry(inner, writer))
        outer.close()
        writer.close()

    async with await asyncio.start_server(serve, HOST, port) as server:
        print("listening", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(gate(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else None))
