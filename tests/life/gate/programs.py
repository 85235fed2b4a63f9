# Real servers and clients of four protocols, which know nothing of litevisor. Both ends are others' programs: Hypercorn (HTTP/1.1,
# HTTP/2 without TLS, WebSocket, Server-Sent Events), httpx, websockets, gRPC.
#
#   programs.py serve http|grpc DB            answer on 127.0.0.1:$PORT; each message is committed, then echoed
#   programs.py http|h2c|sse|websocket|grpc PORT COUNT
#                                             send COUNT messages, compare what comes back, print a line for each
#   programs.py large http|h2c PORT MIB       upload and download so much, and compare it
#   programs.py missing DB                    read such lines and print those that the database does not have
import asyncio, hashlib, os, random, sqlite3, sys


def opened(db):
    connection = sqlite3.connect(db, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS message (digest TEXT)")
    return connection


def digest(body):
    return hashlib.sha256(body).hexdigest()


def chunks(mib):
    """Each chunk differs from all others."""
    for number in range(mib):
        yield number.to_bytes(8, "big") * (1 << 17)


class Store:
    def __init__(self, db):
        self.connection = opened(db)

    def commit(self, body):
        self.connection.execute("INSERT INTO message VALUES (?)", (digest(body),))


def application(store):
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                store.commit(message["bytes"])
                await send({"type": "websocket.send", "bytes": message["bytes"]})
        elif scope["type"] == "http" and scope["path"] == "/events":
            queue = asyncio.Queue()
            events.append(queue)
            kind = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": kind})
            await send({"type": "http.response.body", "body": b"data: begin\n\n", "more_body": True})
            while True:
                event = await queue.get()
                await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
        elif scope["type"] == "http" and scope["path"] == "/up":
            hashed, more = hashlib.sha256(), True
            while more:
                message = await receive()
                hashed.update(message.get("body", b""))
                more = message.get("more_body", False)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": hashed.hexdigest().encode()})
        elif scope["type"] == "http" and scope["path"].startswith("/down/"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for chunk in chunks(int(scope["path"].removeprefix("/down/"))):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "http":
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            store.commit(body)
            for queue in events:
                queue.put_nowait(digest(body))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            # Without a length: chunked in HTTP/1.1, frames in HTTP/2.
            for at in range(0, len(body), 30_000):
                await send({"type": "http.response.body", "body": body[at : at + 30_000], "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return app


def serve_http(store, port):
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "ERROR"
    asyncio.run(serve(application(store), config, mode="asgi"))


def serve_grpc(store, port):
    import concurrent.futures, grpc

    def save(body, context):
        store.commit(body)
        return body

    def talk(bodies, context):
        for body in bodies:
            yield save(body, context)

    methods = {"Save": grpc.unary_unary_rpc_method_handler(save), "Talk": grpc.stream_stream_rpc_method_handler(talk)}
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Messages", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def bodies(count):
    """Of all sizes, from a byte to more than any buffer on the way."""
    for _ in range(count):
        yield random.randbytes(random.choice([1, 100, 5_000, 70_000, 400_000]))


def acknowledged(sent, got):
    assert sent == got, f"{len(sent)} bytes were sent, {len(got)} others came back"
    print(digest(sent), flush=True)


def http(port, count, two):
    import httpx

    with httpx.Client(http1=not two, http2=two, timeout=60, trust_env=False) as client:
        for body in bodies(count):
            answer = client.post(f"http://127.0.0.1:{port}/save", content=body)
            assert answer.http_version == ("HTTP/2" if two else "HTTP/1.1"), answer.http_version
            acknowledged(body, answer.content)


def large(port, mib, two):
    import httpx

    expected = hashlib.sha256()
    for chunk in chunks(mib):
        expected.update(chunk)
    with httpx.Client(http1=not two, http2=two, timeout=300, trust_env=False) as client:
        told = client.post(f"http://127.0.0.1:{port}/up", content=chunks(mib)).text
        assert told == expected.hexdigest(), "the upload differs"
        found, count = hashlib.sha256(), 0
        with client.stream("GET", f"http://127.0.0.1:{port}/down/{mib}") as answer:
            for chunk in answer.iter_raw():
                found.update(chunk)
                count += len(chunk)
        assert (count, found.hexdigest()) == (mib << 20, expected.hexdigest()), "the download differs"


async def sse(port, count):
    """A message is acknowledged by the event alone; the answer to the request is not waited for."""
    import httpx

    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        async with client.stream("GET", f"http://127.0.0.1:{port}/events") as stream:
            lines = (line async for line in stream.aiter_lines() if line)
            assert await anext(lines) == "data: begin"
            for body in bodies(count):
                request = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/save", content=body))
                assert await anext(lines) == f"data: {digest(body)}"
                print(digest(body), flush=True)
                await request


async def websocket(port, count):
    import websockets

    async with websockets.connect(f"ws://127.0.0.1:{port}/ws", max_size=None, proxy=None) as socket:
        for body in bodies(count):
            await socket.send(body)
            acknowledged(body, await socket.recv())


def grpc(port, count):
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        save, talk = channel.unary_unary("/test.Messages/Save"), channel.stream_stream("/test.Messages/Talk")
        for body in bodies(count):
            acknowledged(body, save(body, timeout=60))
        sent = list(bodies(count))
        for body, answer in zip(sent, talk(iter(sent), timeout=60), strict=True):
            acknowledged(body, answer)


match sys.argv[1:]:
    case ["serve", "http", db]:
        serve_http(Store(db), os.environ["PORT"])
    case ["serve", "grpc", db]:
        serve_grpc(Store(db), os.environ["PORT"])
    case ["http" | "h2c" as name, port, count]:
        http(port, int(count), name == "h2c")
    case ["large", name, port, mib]:
        large(port, int(mib), name == "h2c")
    case ["sse", port, count]:
        asyncio.run(sse(port, int(count)))
    case ["websocket", port, count]:
        asyncio.run(websocket(port, int(count)))
    case ["grpc", port, count]:
        grpc(port, int(count))
    case ["missing", db]:
        known = {row[0] for row in opened(db).execute("SELECT digest FROM message")}
        print("".join(line for line in sys.stdin if line.strip() not in known), end="")
