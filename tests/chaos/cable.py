"""A cable to PostgreSQL, as a process: `SIGUSR1` loses the answer to the next commit, `SIGUSR2` is cut right behind it.

Lost: the commit has happened when its answer arrives here; then both ends are torn down, so whoever waits for it learns
nothing. Cut: it arrives late, when whoever sent it has asked again. Says its port first, then a line for each.
"""

import asyncio
import re
import signal
import socket
import struct
import sys

# A COMMIT, or a statement that is a transaction of its own and writes an intent.
COMMITS = re.compile(rb"^Q....\s*(?:COMMIT|WITH ours)", re.DOTALL)


class Cable:
    def __init__(self, to: int) -> None:
        self.to = to
        self.armed = ""

    def arm(self, how: str) -> None:
        self.armed = how

    async def lay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            _tear(writer)
            return
        line = Line(self, writer, back)
        await asyncio.gather(line.ask(reader), line.answer(there))


class Line:
    """One connection."""

    def __init__(self, cable: Cable, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.cable, self.client, self.server = cable, client, server
        self.loses: bytes = b""

    async def ask(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 16):
                how = self.cable.armed if COMMITS.match(data) else ""
                if how:
                    self.cable.armed = ""
                    self.loses = data
                if how == "cut":
                    self._say("cut behind")
                    _tear(self.client)
                    await asyncio.sleep(0.3)
                self.server.write(data)
                await self.server.drain()
                if how == "cut":
                    break
        except OSError:
            pass
        self.server.close()

    async def answer(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 16):
                if self.loses:
                    self._say("lost the answer to")
                    break
                self.client.write(data)
                await self.client.drain()
        except OSError:
            pass
        _tear(self.client)
        _tear(self.server)

    def _say(self, what: str) -> None:
        print(what, "an intent" if b"'sending'" in self.loses else "a commit", flush=True)  # noqa: T201


def _tear(writer: asyncio.StreamWriter) -> None:
    if writer.transport.is_closing():
        return
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def main(to: int) -> None:
    cable = Cable(to)
    server = await asyncio.start_server(cable.lay, "127.0.0.1", 0, backlog=200)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, cable.arm, "lose")
    loop.add_signal_handler(signal.SIGUSR2, cable.arm, "cut")
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
