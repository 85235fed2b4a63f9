"""SeaweedFS on loopback, one for each round: started, asked with signed requests, removed with its data."""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import xml.etree.ElementTree as xml

KEY, SECRET, REGION, BUCKET = "bench", "bench-secret", "us-east-1", "bench"
# gRPC listens on the HTTP port plus this.
GRPC = 10_000


def _free_ports(count):
    """Ports whose gRPC twin is free too, below the range that the kernel hands out."""
    held, ports = [], []
    while len(ports) < count:
        port = random.randrange(11_000, 22_000)
        try:
            for number in (port, port + GRPC):
                held.append(socket.create_server(("127.0.0.1", number)))
            ports.append(port)
        except OSError:
            pass
    for one in held:
        one.close()
    return ports


class Seaweed:
    def __init__(self, weed, directory):
        self.directory = directory
        os.makedirs(f"{directory}/data")
        identity = {"name": "bench", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
        with open(f"{directory}/s3.json", "w") as file:
            json.dump({"identities": [identity | {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}, file)
        self._ports = _free_ports(5)
        self.port, master, volume, filer, admin = self._ports
        with open(f"{directory}/weed.log", "w") as log:
            self._process = subprocess.Popen(
                [weed, "mini", f"-dir={directory}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
                 "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                 f"-s3.config={directory}/s3.json", f"-s3.localSocket={directory}/s3.sock",
                 f"-filer.localSocket={directory}/filer.sock", f"-s3.port={self.port}", f"-master.port={master}",
                 f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"TMPDIR": directory},
                start_new_session=True,
            )
        self._wait()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def _wait(self):
        limit = time.monotonic() + 60
        while time.monotonic() < limit and self._process.poll() is None:
            try:
                if self._ask("PUT", f"/{BUCKET}")[0] in (200, 409) and self._ask("PUT", f"/{BUCKET}/probe", b"x")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise SystemExit(f"bench: SeaweedFS did not start; see {self.directory}/weed.log")

    def objects(self, prefix):
        """Key → bytes of everything below the prefix."""
        found, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            status, body = self._ask("GET", f"/{BUCKET}", query=query)
            if status != 200:
                raise SystemExit(f"bench: cannot list {prefix}: {status} {body[:300]}")
            page = xml.fromstring(body)
            space = page.tag.partition("}")[0] + "}"
            for entry in page.iter(f"{space}Contents"):
                found[entry.findtext(f"{space}Key")] = int(entry.findtext(f"{space}Size"))
            token = page.findtext(f"{space}NextContinuationToken")
            if not token:
                return found

    def _ask(self, method, path, body=b"", query=None):
        """One request with AWS's signature, version 4."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        encoded = "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in sorted((query or {}).items()))
        digest, host = hashlib.sha256(body).hexdigest(), f"127.0.0.1:{self.port}"
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{method}\n{path}\n{encoded}\n{lines}\n{names}\n{digest}"
        scope = f"{day}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{SECRET}".encode()
        for word in (day, REGION, "s3", "aws4_request", text):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path + (f"?{encoded}" if encoded else ""), body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def stop(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        for port in self._ports:
            for role in ("s3", "master", "volume", "filer", "admin"):
                try:
                    os.unlink(f"/tmp/seaweedfs-{role}-grpc-{port + GRPC}.sock")
                except FileNotFoundError:
                    pass
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
