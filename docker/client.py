"""An HTTP client of the apps in apps.sh: client.py APP BASE-URL write WORD | read. `write` exits with 0 if the app answered with
success. `read` prints all words, sorted. Every failure exits with a status other than 0."""

import json
import sys
import urllib.request


def ask(url, body=None, token=None):
    headers = {"Content-Type": "application/json", "Origin": "http://localhost", "User-Agent": "client"}
    if token:
        headers["Authorization"] = token
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as answer:
        return json.load(answer)


class Pocketbase:
    def __init__(self, base):
        self.records = base + "/api/collections/notes/records"
        self.base = base

    def write(self, word):
        try:
            ask(self.records, {"text": word})
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            self.make()
            ask(self.records, {"text": word})

    def make(self):
        who = {"identity": "admin@example.com", "password": "Passw0rd-1"}
        token = ask(self.base + "/api/collections/_superusers/auth-with-password", who)["token"]
        fields = [{"name": "text", "type": "text"}]
        everybody = {"createRule": "", "listRule": "", "viewRule": ""}
        ask(self.base + "/api/collections", {"name": "notes", "type": "base", "fields": fields, **everybody}, token)

    def read(self):
        return [record["text"] for record in ask(self.records + "?perPage=500")["items"]]


class Isso:
    def __init__(self, base):
        self.base = base

    def write(self, word):
        ask(self.base + "/new?uri=%2Fpage", {"text": word, "author": word, "title": "page"})

    def read(self):
        return [comment["author"] for comment in ask(self.base + "/?uri=%2Fpage&limit=1000")["replies"]]


app = {"pocketbase": Pocketbase, "isso": Isso}[sys.argv[1]](sys.argv[2])
if sys.argv[3] == "write":
    app.write(sys.argv[4])
else:
    print(*sorted(app.read()))
