"""A hub of the tests' own, over HTTP: as much of the Hugging Face hub's interface as a download asks for, and its troubles."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LocalHub:
    """Repositories by kind and name, each a table of files and their bytes; ``lfs`` files have an SHA-256, others git's number.

    ``trouble`` sees each request (method and path) and may return a status and headers to answer with, a number of bytes after
    which the line breaks, or None. ``asked`` lists all requests, ``ranges`` what parts of files were asked for.
    """

    def __init__(self):
        self.repositories, self.asked, self.ranges, self.lfs = {}, [], [], (".safetensors", ".parquet")
        self.commit, self.trouble = COMMIT, lambda method, path: None

    def add(self, kind, name, files):
        self.repositories[kind, name] = dict(files)

    def add_folder(self, kind, name, folder):
        found = [file for file in folder.rglob("*") if file.is_file()]
        self.add(kind, name, {file.relative_to(folder).as_posix(): file.read_bytes() for file in found})

    def downloads(self):
        """Return the files that were asked for, not counting questions about them."""
        return [
            path.rpartition(f"/{self.commit}/")[2]
            for method, path in self.asked
            if method == "GET" and "/resolve/" in path
        ]

    def entry(self, path, content):
        number = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        told = {"type": "file", "path": path, "size": len(content), "oid": number}
        if path.endswith(self.lfs):
            sha = hashlib.sha256(content).hexdigest()
            told |= {"lfs": {"oid": sha, "size": len(content), "pointerSize": 130}}
        return told

    def answer(self, method, path, headers):
        """Return status, headers and body."""
        found = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(/revision/.+|/tree/.+)?", path)
        if found and (found[1], found[2]) in self.repositories:
            files = self.repositories[found[1], found[2]]
            told = [self.entry(name, content) for name, content in files.items()]
            body = (
                told if (found[3] or "").startswith("/tree") else {"id": found[2], "sha": self.commit, "siblings": []}
            )
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        found = re.fullmatch(rf"/(datasets/)?([^/]+/[^/]+)/resolve/{self.commit}/(.+)", path)
        files = self.repositories.get(("dataset" if found[1] else "model", found[2])) if found else None
        if files is None or found[3] not in files:
            return 404, {"X-Error-Code": "EntryNotFound" if files else "RepoNotFound"}, b""
        content, told = files[found[3]], self.entry(found[3], files[found[3]])
        etag = told["lfs"]["oid"] if "lfs" in told else told["oid"]
        out = {
            "X-Repo-Commit": self.commit,
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(content)),
        }
        if wanted := re.fullmatch(r"bytes=(\d+)-", headers.get("Range") or ""):
            start = int(wanted[1])
            self.ranges.append((found[3], start))
            return 206, out | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:]
        return 200, out, content


@contextmanager
def pointed_to(address, monkeypatch):
    """Let the client ask another address, by plain HTTP and without a token; it has read its variables long since."""
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        patch.delenv("HF_TOKEN", raising=False)
        patch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
        patch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield


@contextmanager
def serving(hub):
    """Serve a hub in threads of this process, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.partition("?")[0].replace("%2F", "/")
            hub.asked.append((self.command, path))
            trouble = hub.trouble(self.command, path)
            if isinstance(trouble, tuple):
                status, headers, body = *trouble, b""
            else:
                status, headers, body = hub.answer(self.command, path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body if not isinstance(trouble, int) else body[:trouble])
            if isinstance(trouble, int):
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
