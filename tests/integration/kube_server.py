#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A scripted API server for test_kube.c. Prints its port, then serves until it is ended.

usage: kube_server.py [--tls CERT KEY CA] [--token-file FILE]

/echo                what was asked, as JSON
/status/CODE/REASON  a Status with that code and reason
/busy/CODE/N         N times that code with a Retry-After of 1 s, then 200; who comes sooner gets 400
/SCENARIO/pods       list and watch, by the scenario's script below
/SCENARIO/log        what was asked of that scenario: "list", "watch VERSION"
"""
import argparse
import http.server
import json
import ssl
import sys
import threading
import time
import urllib.parse


def pod(name, version, uid=None):
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(version),
                "managedFields": [{"manager": "kubectl"}]}
    if uid:
        metadata["uid"] = uid
    return {"metadata": metadata}


def pod_list(version, *names):
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": str(version)},
            "items": [pod(name, version) for name in names]}


def event(kind, name, version, uid=None):
    return json.dumps({"type": kind, "object": pod(name, version, uid)})


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
CLOSE, HANG = "close", "hang"
BUSY = {"kind": "Status", "code": 429, "reason": "TooManyRequests",
        "message": "Too many requests, please try again later."}
RETRY_AFTER_S = 1


# Each: (what the nth list answers, what the nth watch sends and how it ends).
def order(kind, n, query):
    if kind == "list":
        return 200, pod_list(10, "a", "b")
    if n == 0:
        return [event("ADDED", "c", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13)], HANG
    return [], HANG


def reconnect(kind, n, query):
    if kind == "list":
        return 200, pod_list(10, "a")
    bookmark = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "15"}}})
    steps = [[event("MODIFIED", "a", 11)], [bookmark], [event("MODIFIED", "a", 16)]]
    return (steps[n], CLOSE) if n < len(steps) else ([], HANG)


def gone_status(kind, n, query):
    if kind == "list":
        return 200, pod_list(10, "a", "b") if n == 0 else pod_list(20, "a", "c")
    return (410, GONE) if n == 0 else ([], HANG)


def gone_event(kind, n, query):
    if kind == "list":
        return 200, pod_list(10, "a", "b") if n == 0 else pod_list(20, "b")
    return ([json.dumps({"type": "ERROR", "object": GONE})] if n == 0 else [], HANG)


def replaced(kind, n, query):
    """The same name under another uid is another object: the old one's end comes first."""
    if kind == "list":
        answer = pod_list(10 + n)
        answer["items"] = [pod("a", 10 + n, f"uid-{n}")]
        return 200, answer
    return (410, GONE) if n == 0 else ([], HANG)


def paged(kind, n, query):
    if kind == "watch":
        return [], HANG
    token = query.get("continue")
    if token is None:
        answer = pod_list(10, "a", "b")
        answer["metadata"]["continue"] = "next page/&="
    elif token == "next page/&=":
        answer = pod_list(10, "c")
    else:
        return 400, {"kind": "Status", "code": 400, "message": f"bad continue {token}"}
    return 200, answer


def garbage(kind, n, query):
    if kind == "list":
        return 200, pod_list(10 + n, "a")
    return (["{not json"] if n == 0 else [], HANG)


def endless(kind, n, query):
    """One line that never ends."""
    if kind == "list":
        return 200, pod_list(10 + n, "a")
    return (["x" * (17 << 20)] if n == 0 else [], HANG)


def forbidden(kind, n, query):
    if kind == "list" and n < 2:
        return 403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "may not list"}
    return (200, pod_list(10, "a")) if kind == "list" else ([], HANG)


def split(kind, n, query):
    """An event that arrives in pieces, and two in one piece."""
    if kind == "list":
        return 200, pod_list(10)
    text = event("ADDED", "a", 11) + "\n" + event("ADDED", "b", 12) + "\n" + event("ADDED", "c", 13)
    return ([("pieces", text + "\n")], HANG)


def throttled(kind, n, query):
    """Priority and fairness turns watches away, one and then two in a row, and says for how long."""
    if kind == "list":
        return 200, pod_list(10 + n, "a")
    if n in (0, 2, 3):
        return 429, BUSY
    return [event("MODIFIED", "a", 20)], CLOSE if n == 1 else HANG


SCENARIOS = {f.__name__: f for f in (order, reconnect, gone_status, gone_event, replaced, paged,
                                     garbage, endless, forbidden, split, throttled)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counts = {}
    asked = {}
    told = {}
    connections = 0
    token_file = None
    lock = threading.Lock()

    def setup(self):
        super().setup()
        with self.lock:
            Handler.connections += 1
        self.number = Handler.connections

    def log_message(self, *args):
        pass

    def busy(self, key, code, times):
        """A client that comes before its time is told so by a code that it does not try again."""
        with self.lock:
            turned_away, told_s = Handler.told.get(key, (0, 0))
            early = time.monotonic() - told_s < RETRY_AFTER_S * 0.9
            if turned_away < times and not early:
                Handler.told[key] = turned_away + 1, time.monotonic()
        if early:
            self.answer(400, {"kind": "Status", "code": 400, "message": "before Retry-After"})
        elif turned_away < times:
            self.answer(code, dict(BUSY, code=code))
        else:
            self.answer(200, {"turnedAway": turned_away})

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        if isinstance(body, dict) and body.get("message") == BUSY["message"]:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self, lines, end):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            if isinstance(line, tuple):
                text = line[1].encode()
                for at in (0, 7, 60, 140, len(text)):
                    piece, text = text[:at], text[at:]
                    if piece:
                        self.chunk(piece)
                        time.sleep(0.03)
                if text:
                    self.chunk(text)
            else:
                self.chunk(line.encode() + b"\n")
        if end == CLOSE:
            self.chunk(b"")
            return
        # Nothing to say: wait for the client to go.
        self.close_connection = True
        while self.rfile.read(1):
            pass

    def scenario(self, name, what, query):
        if what == "log":
            self.answer(200, Handler.asked.get(name, []))
            return
        kind = "watch" if query.get("watch") == "true" else "list"
        with self.lock:
            n = Handler.counts.get((name, kind), 0)
            Handler.counts[name, kind] = n + 1
            version = " " + query.get("resourceVersion", "") if kind == "watch" else ""
            Handler.asked.setdefault(name, []).append(kind + version)
        first, second = SCENARIOS[name](kind, n, query)
        if isinstance(first, int):
            self.answer(first, second)
        else:
            self.stream(first, second)

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = url.path.strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.token_file:
            with open(self.token_file, encoding="ascii") as file:
                wanted = "Bearer " + file.read().strip()
            if self.headers.get("Authorization") != wanted:
                self.answer(401, {"kind": "Status", "code": 401, "reason": "Unauthorized",
                                  "message": "Unauthorized"})
                return
        if parts[0] == "echo":
            self.answer(200, {"method": self.command, "query": query, "body": body,
                              "connection": self.number,
                              "headers": {k.lower(): v for k, v in self.headers.items()}})
        elif parts[0] == "status":
            self.answer(int(parts[1]), {"kind": "Status", "code": int(parts[1]),
                                        "reason": parts[2], "message": "as asked"})
        elif parts[0] == "busy":
            self.busy(url.path, int(parts[1]), int(parts[2]))
        elif parts[0] == "text":
            data = b"<html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif parts[0] in SCENARIOS:
            self.scenario(parts[0], parts[1], query)
        else:
            self.answer(404, {"kind": "Status", "code": 404, "reason": "NotFound",
                              "message": f"{url.path} not found"})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    context = None

    def finish_request(self, request, client_address):
        # The handshake belongs to the connection's own thread: one may never end.
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=3, metavar=("CERT", "KEY", "CA"))
    parser.add_argument("--token-file")
    args = parser.parse_args()
    Handler.token_file = args.token_file
    server = Server(("127.0.0.1", 0), Handler)
    if args.tls:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(args.tls[0], args.tls[1])
        server.context.load_verify_locations(args.tls[2])
        server.context.verify_mode = ssl.CERT_REQUIRED
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
