"""A proxy on the road to the store: counts requests by type, notes when each was answered, and can hold answers back.
It changes nothing: what passes is what was sent. One request at a time on each connection, as HTTP/1.1 clients do it."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass
class Request:
    method: str
    path: str
    query: str
    begun: float
    sent: float = 0.0
    answered: float = 0.0

    @property
    def type(self):
        query = self.query
        if self.method == "GET":
            return "list" if "list-type=" in query or "prefix=" in query or "delimiter=" in query else "get"
        if self.method == "PUT":
            return "put part" if "partNumber=" in query else "put"
        if self.method == "POST":
            return "delete" if query.startswith("delete") else "begin or end a multipart"
        return {"DELETE": "delete"}.get(self.method, self.method.lower())


class Proxy:
    def __init__(self, port, delay=0.0):
        self.requests, self.delay, self._upstream = [], delay, port
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def by_type(self):
        return Counter(request.type for request in self.requests)

    def _run(self, ready):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _serve(self, client, to_client):
        try:
            upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1 << 20)
        except OSError:
            to_client.close()
            return
        current = [None]
        back = asyncio.ensure_future(self._back(upstream, to_client, current))
        try:
            while True:
                current[0] = await self._pass_request(client, to_upstream, current)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            to_upstream.close()
            back.cancel()
            to_client.close()

    async def _pass_request(self, client, to_upstream, current):
        head = await client.readuntil(b"\r\n\r\n")
        line, _, rest = head.decode("latin-1").partition("\r\n")
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        fields = dict(field.lower().split(": ", 1) for field in rest.split("\r\n") if ": " in field)
        request = current[0] = Request(method, path, query, time.monotonic())
        self.requests.append(request)
        to_upstream.write(head)
        if fields.get("transfer-encoding") == "chunked":
            size = -1
            while size != 0:
                line = await client.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                to_upstream.write(line + await client.readexactly(size + 2))
                await to_upstream.drain()
        left = int(fields.get("content-length", 0))
        while left:
            piece = await client.read(min(left, 1 << 18))
            if not piece:
                raise ConnectionError
            left -= len(piece)
            to_upstream.write(piece)
            await to_upstream.drain()
        request.sent = time.monotonic()
        return request

    async def _back(self, upstream, to_client, current):
        try:
            while piece := await upstream.read(1 << 18):
                request = current[0]
                if request and not request.answered and not piece.startswith(b"HTTP/1.1 100"):
                    if self.delay:
                        await asyncio.sleep(max(0.0, request.begun + self.delay - time.monotonic()))
                    request.answered = time.monotonic()
                to_client.write(piece)
                await to_client.drain()
        except ConnectionError:
            pass
        finally:
            to_client.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
