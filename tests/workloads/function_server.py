# SPDX-License-Identifier: Apache-2.0
"""The HTTP/1.1 server that the test functions share.

One thread, an event loop and a first-in-first-out queue of requests. With the interpreter lock only
one request computes at a time anyway; threads would slice them, which lets the last ones wait
longest. README.md has the figures.

A response leaves in one write, so its first and last byte are sent at the same moment. SIGTERM and
SIGINT stop accepting, requests that have come are answered, then the process exits with status 0.
SIGUSR1 makes each request of fibonacci twice the work from now on, without a word to anyone; SIGUSR2
ends that.
"""

import argparse
import collections
import json
import os
import selectors
import signal
import socket
import sys
import time
import urllib.parse

BACKLOG = 1024
HEAD_MAX_BYTES = 16 * 1024
BODY_MAX_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
# A client that sends nothing within this time of the signal has no request under way.
DRAIN_S = 1.0

REASONS = {
    200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 411: "Length Required",
    413: "Content Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented",
}


class HttpError(Exception):
    """Ends a request with a status and a message that says what to do."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


Request = collections.namedtuple("Request", "method path query body keep_alive")


def whole_number(query, name, default, low, high):
    """The query's number `name`, or `default`; 400 when it is not within low..high."""
    text = query.get(name)
    if text is None:
        return default
    # int() would also take "1_8", " 18" and digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise HttpError(400, f"{name} is {text!r}; give a whole number from {low} to {high}")
    return int(text)


def response_bytes(status, value, keep_alive):
    """Status line, headers and the JSON body in one piece."""
    body = json.dumps(value).encode() + b"\n"
    head = (f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n")
    return head.encode() + body


def take_request(buffer):
    """The first whole request of `buffer` (which loses it), or None while it is not all there."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_MAX_BYTES:
            raise HttpError(431, f"the head is longer than {HEAD_MAX_BYTES} bytes")
        return None
    lines = buffer[:end].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or words[1][:1] != "/":
        raise HttpError(400, "the request line is not METHOD /PATH HTTP/1.1")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError(400, "a header line is not NAME: VALUE")
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise HttpError(411, "send a Content-Length instead of a transfer encoding")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise HttpError(400, f"Content-Length is {length!r}; give the body's bytes")
    if int(length) > BODY_MAX_BYTES:
        raise HttpError(413, f"the body is longer than {BODY_MAX_BYTES} bytes")
    start = end + 4
    if len(buffer) < start + int(length):
        return None
    body = bytes(buffer[start:start + int(length)])
    del buffer[:start + int(length)]
    connection = headers.get("connection", "").lower()
    keep_alive = connection == "keep-alive" if words[2] == "HTTP/1.0" else connection != "close"
    path, _, query = words[1].partition("?")
    pairs = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    return Request(words[0], urllib.parse.unquote(path), pairs, body, keep_alive)


class Connection:
    """A client: what it sent and was not yet taken, what was not yet written to it."""

    def __init__(self, sock):
        self.sock = sock
        self.received = bytearray()
        self.unsent = b""
        self.queued = False   # has a place in the server's queue
        self.ended = False    # sent its last byte
        self.closing = False  # to be closed once unsent is empty
        self.watched = selectors.EVENT_READ


class FunctionServer:
    """Calls handler(request, cost) -> (status, value) for each request, in the order they came."""

    def __init__(self, handler, host, port):
        self.handler = handler
        self.selector = selectors.DefaultSelector()
        self.queue = collections.deque()
        self.connections = set()
        self.stopping = False
        self.cost = 1  # times the usual work that a request is
        self.wakeup, self.waker = socket.socketpair()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def accept(self):
        """Take every connection that waits."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                print(f"cannot accept a connection: {error}", file=sys.stderr)
                # Out of descriptors: it stays in the backlog until one is free.
                time.sleep(0.01)
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self.connections.add(connection)
            self.selector.register(sock, selectors.EVENT_READ, connection)

    def close(self, connection):
        """Forget the connection, whatever is left of it."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        if connection.watched:
            self.selector.unregister(connection.sock)
        connection.sock.close()

    def watch(self, connection):
        """Wait for what the connection can do next; close it when that is nothing."""
        if connection not in self.connections:
            return
        events = 0
        # One whole request and more is here already: let the client wait.
        full = len(connection.received) > HEAD_MAX_BYTES + BODY_MAX_BYTES
        if not (connection.ended or connection.closing or full):
            events |= selectors.EVENT_READ
        if connection.unsent:
            events |= selectors.EVENT_WRITE
        if not events and not connection.queued:
            self.close(connection)
        elif events != connection.watched:
            if not connection.watched:
                self.selector.register(connection.sock, events, connection)
            elif not events:
                self.selector.unregister(connection.sock)
            else:
                self.selector.modify(connection.sock, events, connection)
            connection.watched = events

    def read(self, connection):
        """Receive; a connection that sent something gets its place in the queue."""
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)
            return
        if not data:
            connection.ended = True
        else:
            connection.received += data
            self.enqueue(connection)
        self.watch(connection)

    def enqueue(self, connection):
        """Give the connection a place in the queue, unless it has one."""
        if not connection.queued:
            connection.queued = True
            self.queue.append(connection)

    def write(self, connection, data):
        """Send what the socket takes now, keep the rest."""
        connection.unsent += data
        try:
            connection.unsent = connection.unsent[connection.sock.send(connection.unsent):]
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)

    def poll(self, timeout):
        """Take in what has come, waiting up to `timeout` seconds (None: for ever)."""
        for key, events in self.selector.select(timeout):
            if not isinstance(key.data, Connection):
                key.data()
                continue
            if events & selectors.EVENT_WRITE:
                self.write(key.data, b"")
                self.watch(key.data)
            if events & selectors.EVENT_READ and key.data in self.connections:
                self.read(key.data)

    def answer(self, request):
        """(status, value) of one request; a fault of the function is its 500, not our end."""
        try:
            return self.handler(request, self.cost)
        except HttpError as error:
            return error.status, {"error": error.message}
        except Exception as error:  # pylint: disable=broad-except
            print(f"{request.method} {request.path} failed: {error!r}", file=sys.stderr)
            return 500, {"error": "the function failed; its log says why"}

    def run_first(self):
        """Answer one request of the connection that has waited longest."""
        connection = self.queue.popleft()
        connection.queued = False
        if connection not in self.connections:
            return
        try:
            request = take_request(connection.received)
        except HttpError as error:
            # What follows a request that cannot be read cannot be read either.
            connection.closing = True
            self.write(connection, response_bytes(error.status, {"error": error.message}, False))
            self.watch(connection)
            return
        if request is not None:
            status, value = self.answer(request)
            connection.closing = self.stopping or not request.keep_alive
            self.write(connection, response_bytes(status, value, not connection.closing))
            # A pipelined request goes to the end of the queue, behind those of others.
            if connection.received and not connection.closing:
                self.enqueue(connection)
        self.watch(connection)

    def on_signal(self):
        """Between two requests: SIGTERM, SIGINT: from now on only finish. SIGUSR1, 2: cost x2, x1."""
        for number in self.wakeup.recv(READ_BYTES):
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stopping = True
            else:
                self.cost = 2 if number == signal.SIGUSR1 else 1

    def serve(self):
        """Serve until SIGTERM or SIGINT, then drain."""
        self.wakeup.setblocking(False)
        self.waker.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        self.selector.register(self.wakeup, selectors.EVENT_READ, self.on_signal)

        while not self.stopping:
            self.poll(0 if self.queue else None)
            if self.queue:
                self.run_first()

        # Connections in the backlog may carry requests already: they were accepted for the client.
        self.accept()
        self.selector.unregister(self.listener)
        self.listener.close()
        deadline = time.monotonic() + DRAIN_S
        self.poll(0)
        while self.queue or self.unfinished() and time.monotonic() < deadline:
            if self.queue:
                self.run_first()
            self.poll(0 if self.queue else 0.01)
        for connection in list(self.connections):
            self.close(connection)

    def unfinished(self):
        """Whether a client is in the middle of a request or of its response."""
        return any(c.unsent or c.received for c in self.connections)


def parse_arguments(name, about, add=None):
    """The options that every function has, and those that `add(parser)` adds."""
    def port(text):
        if not (text.isascii() and text.isdigit() and int(text) < 65536):
            raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
        return int(text)

    parser = argparse.ArgumentParser(prog=name, description=about)
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"),
                        help="address to listen on (default: HOST, or 127.0.0.1)")
    parser.add_argument("--port", type=port, default=os.environ.get("PORT", "8080"),
                        help="0 takes a free one (default: PORT, or 8080)")
    if add:
        add(parser)
    return parser.parse_args()


def serve(name, handler, host, port):
    """Serve `handler` until SIGTERM; the value is the process's exit status."""
    def handle(request, cost):
        if request.path == "/healthz":
            return 200, {"status": "ok"}
        return handler(request, cost)

    try:
        server = FunctionServer(handle, host, port)
    except (OSError, UnicodeError) as error:
        print(f"{name}: cannot listen on {host}:{port}: {error}; set PORT or --port to a free one",
              file=sys.stderr)
        return 1
    print(f"{name}: listening on {server.address[0]}:{server.address[1]}", flush=True)
    server.serve()
    return 0
