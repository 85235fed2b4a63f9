"""The programs that are compared: how each is configured, started around an app, and asked to restore. Configured as its
own documentation says; whatever is not named here is its default."""

import os
from dataclasses import dataclass

from .seaweed import BUCKET, KEY, REGION, SECRET

NONE, TINI, OLD, PEER, OURS = "none", "tini", "Litestream 0.3.13", "Litestream 0.5.17", "litevisor"
NGINX, HAPROXY = "nginx stream", "HAProxy"


@dataclass(frozen=True)
class Replica:
    """A prefix of the bucket behind an endpoint, or a directory."""

    where: str
    endpoint: str | None = None
    # Of age: what litevisor encrypts the replica with.
    identity: str | None = None

    def at(self, endpoint):
        return Replica(self.where, endpoint, self.identity)


class Subject:
    """Nothing at all, or an init: the app runs by itself."""

    def __init__(self, name, program=None):
        self.name, self.program = name, program

    def configure(self, directory, databases, sync="1s", merge=True):
        """Databases: (path, replica) pairs. What is returned is what `run` and `restore` want."""

    def run(self, config, app):
        return ([self.program, "--"] if self.program else []) + app

    def cold_start(self, config, database, app, directory):
        """As a container's entrypoint: restore if there is something, then run."""
        return self.run(config, app)


class Litevisor(Subject):
    def configure(self, directory, databases, sync="1s", merge=True):
        text = "[log]\nformat = \"text\"\n"
        for path, replica in databases:
            text += f"\n[[database]]\npath = \"{path}\"\n"
            if not merge:
                text += "levels = [\"1h\"]\n"
            text += "[database.replica]\n"
            if replica.endpoint:
                text += f"url = \"s3://{BUCKET}/{replica.where}\"\nendpoint = \"{replica.endpoint}\"\nregion = \"{REGION}\"\n"
                text += f"access_key_id = \"{KEY}\"\nsecret_access_key = \"{SECRET}\"\n"
            else:
                text += f"url = \"file://{replica.where}\"\n"
            if replica.identity:
                text += f"age_identities = \"{replica.identity}\"\n"
            text += f"sync_interval = \"{sync}\"\n"
        return _write(f"{directory}/supervisor.toml", text)

    def run(self, config, app):
        return [self.program, "run", "--config", config, "--"] + app

    def restore(self, config, database, out):
        return [self.program, "restore", "--config", config, database, "-o", out]


class Litestream(Subject):
    def __init__(self, name, program, tini):
        super().__init__(name, program)
        self._tini = tini

    def configure(self, directory, databases, sync="1s", merge=True):
        old = self.name == OLD
        text = "" if merge or old else "levels:\n  - interval: 1h\n"
        text += "dbs:\n"
        for path, replica in databases:
            text += f"  - path: {path}\n" + ("    replicas:\n      - " if old else "    replica:\n        ")
            if replica.endpoint:
                lines = ["type: s3", f"bucket: {BUCKET}", f"path: {replica.where}", f"endpoint: {replica.endpoint}",
                         f"region: {REGION}", "force-path-style: true", f"access-key-id: {KEY}", f"secret-access-key: {SECRET}"]
            else:
                lines = ["type: file", f"path: {replica.where}"]
            text += "\n        ".join(lines + [f"sync-interval: {sync}"]) + "\n"
        return _write(f"{directory}/litestream.yml", text)

    def run(self, config, app):
        return [self.program, "replicate", "-config", config, "-exec", " ".join(app)]

    def restore(self, config, database, out):
        return [self.program, "restore", "-config", config, "-o", out, database]

    def cold_start(self, config, database, app, directory):
        restore = f"{self.program} restore -if-db-not-exists -if-replica-exists -config {config} {database}"
        replicate = f"{self.program} replicate -config {config} -exec '{' '.join(app)}'"
        script = _write(f"{directory}/start.sh", f"#!/bin/sh\nset -e\n{restore}\nexec {replicate}\n")
        os.chmod(script, 0o755)
        return [self._tini, "--", script]


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path
