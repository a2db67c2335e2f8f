"""A stand-in for the Hugging Face hub on this machine: it answers `huggingface_hub` over HTTP as the hub does.

It has file lists, revisions, ETags, large files behind a redirect, uploads, and the hub's errors; and it can refuse a
request, cut a connection, or answer with a page, as a hotel's network does.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

LARGE = ".safetensors"  # such files lie elsewhere, behind a redirect, as the hub's LFS files do


class Hub:
    """A running server. Use it as a context manager.

    Attributes:
        url: where it is, for `HF_ENDPOINT`.
        repositories: name → {commit → {path: bytes}}.
        branches: (name, revision) → commit.
        gated: names of repositories that ask for a token.
        refusals: list of status codes with which the next requests are refused.
        cuts: path → after how many bytes the connection is cut; each cut is made once.
        broken: paths that cannot be downloaded once no cut is left for them.
        html: whether every answer is a page.
        requests: what was asked for, as "GET /path".
        ranges: the `Range` headers that were sent.
    """

    def __init__(self):
        self.repositories, self.branches, self.gated = {}, {}, set()
        self.refusals, self.cuts, self.broken, self.html = [], {}, set(), False
        self.requests, self.ranges, self.uploads = [], [], {}

    def add(self, name, files, revision="main"):
        """Makes a commit with these files, a dict from paths to bytes. Returns its id."""
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = dict(files)
        self.branches[name, revision] = commit
        return commit

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *arguments):
        pass

    def answer(self, status, content=b"", headers=None):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def fail(self, status, code):
        self.answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_request(self):
        hub, path = self.hub, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        body = self.body()
        hub.requests.append(f"{self.command} {path}")
        if hub.html:
            return self.answer(200, b"<html>Welcome to our hotel</html>", {"Content-Type": "text/html"})
        if hub.refusals:
            return self.answer(hub.refusals.pop(0), {"error": "Not now"}, {"Retry-After": "0"})
        for pattern, method in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            (r"/api/models/([^/]+/[^/]+)/tree/(\w+)", self.tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
            (r"/large/(\w+)", self.large),
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", lambda body: self.answer(200, {"errors": [], "warnings": []})),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/upload/(\w+)", self.upload),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
        ):
            if found := re.fullmatch(pattern, path):
                return method(*found.groups(), body)
        return self.fail(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def files_of(self, name, revision):
        """The commit and its files, or None after an error was sent."""
        hub, revision = self.hub, revision or "main"
        if name in hub.gated and not self.headers.get("Authorization"):
            return self.fail(401, "GatedRepo")
        if name not in hub.repositories:
            return self.fail(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        commit = hub.branches.get((name, revision), revision)
        if commit not in hub.repositories[name]:
            return self.fail(404, "RevisionNotFound")
        return commit, hub.repositories[name][commit]

    def info(self, name, revision, body):
        if found := self.files_of(name, revision):
            siblings = [{"rfilename": path} for path in found[1]]
            self.answer(200, {"id": name, "modelId": name, "sha": found[0], "private": False, "siblings": siblings})

    def tree(self, name, commit, body):
        if found := self.files_of(name, commit):
            self.answer(200, [_described(path, content) for path, content in found[1].items()])

    def resolve(self, name, revision, path, body):
        found = self.files_of(name, revision)
        if not found:
            return
        commit, files = found
        headers = {"X-Repo-Commit": commit}
        if path not in files:
            return self.answer(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        content = files[path]
        if not path.endswith(LARGE):
            return self.send(path, content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        digest = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": len(content)}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host, as the hub's storage is
        self.answer(302, b"", headers | {"Location": f"{elsewhere}/large/{digest}"})

    def large(self, digest, body):
        commits = [files for commits in self.hub.repositories.values() for files in commits.values()]
        contents = [pair for files in commits for pair in files.items()]
        path, content = next(pair for pair in contents if hashlib.sha256(pair[1]).hexdigest() == digest)
        self.send(path, content, {"ETag": f'"{digest}"'})

    def send(self, path, content, headers):
        """Sends a file, from where the `Range` header says, and cuts the connection where it is to be cut."""
        status, size = 200, len(content)
        if wanted := self.headers.get("Range"):
            start = int(re.fullmatch(r"bytes=(\d+)-.*", wanted)[1])
            self.hub.ranges.append(wanted)
            status, content = 206, content[start:]
            headers = headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        cut = self.hub.cuts.pop(path, None) if self.command == "GET" else None
        if cut is None and self.command == "GET" and path in self.hub.broken:
            return self.answer(500)
        if cut is None:
            return self.answer(status, content, headers)
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.wfile.flush()
        self.close_connection = True

    def create(self, body):
        if not self.headers.get("Authorization"):
            return self.answer(401, {"error": "Invalid username or password."})
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.add(name, {})
        self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def preupload(self, name, revision, body):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, name, body):
        objects = [
            each | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, digest, body):
        if hashlib.sha256(body).hexdigest() != digest:
            return self.answer(400, {"error": "another content"})
        self.hub.uploads[digest] = body
        self.answer(200)

    def commit(self, name, revision, body):
        files = dict(self.hub.repositories[name][self.hub.branches[name, revision]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.add(name, files, revision)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def handle_one_request(self):
        with contextlib.suppress(ConnectionError):  # a client that has gone
            super().handle_one_request()


def _described(path, content):
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    described = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(LARGE):
        described["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return described
