#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that does with each connection what it is told, for tests of what an agent counts.

On a Unix socket (argument 1) comes one line of JSON a connection: {"peer": PORT, "steps": [...]}, with
the client's port; a line of JSON with what each step gave goes back. TCP is on $PORT. On port
argument 2 two processes listen (SO_REUSEPORT) and answer lines. Steps:

["read", N]            N bytes, which are given back in hexadecimal
["write", [HEX, ...]]  each in a segment of its own
["sleep", SECONDS]
["file"]               gives the descriptor's number
["fork"]               the steps that follow are a child's
["pass"]               the steps that follow are those of a process that is passed the connection
["give"]               passes the connection to the one who told; it is closed here
["close"], ["reset"]   end it
"""
import array
import json
import os
import socket
import struct
import sys
import threading
import time


class Connections:
    """What has been accepted, by the client's port, until it is asked for."""

    def __init__(self):
        self.changed, self.by_peer = threading.Condition(), {}

    def accept(self, listener):
        while True:
            connection, address = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.changed:
                self.by_peer[address[1]] = connection
                self.changed.notify_all()
            # Or it would stay open until the next one comes.
            del connection

    def take(self, peer):
        with self.changed:
            if not self.changed.wait_for(lambda: peer in self.by_peer, 10):
                raise TimeoutError(f"no connection from port {peer}")
            return self.by_peer.pop(peer)


def passed_on(connection, steps, helper):
    """@steps by the process at the other end of @helper; what they gave."""
    text = json.dumps(steps).encode() + b"\n"
    with helper.lock:
        socket.send_fds(helper.socket, [text[:1]], [connection.fileno()])
        helper.socket.sendall(text[1:])
        connection.close()
        return json.loads(helper.input.readline())


def forked(connection, steps, told):
    """@steps by a child; what they gave."""
    out, inward = os.pipe()
    child = os.fork()
    if child == 0:
        result = run(connection, steps, told, None)
        connection.close()
        os.write(inward, json.dumps(result).encode())
        os._exit(0)
    os.close(inward)
    connection.close()
    with open(out, encoding="utf-8") as file:
        result = json.load(file)
    os.waitpid(child, 0)
    return result


def run(connection, steps, told, helper):
    results = []
    for at, step in enumerate(steps):
        if step[0] == "fork":
            return results + forked(connection, steps[at + 1:], told)
        if step[0] == "pass":
            return results + passed_on(connection, steps[at + 1:], helper)
        results.append(step_run(connection, step, told))
    return results


def step_run(connection, step, told):
    if step[0] == "read":
        data = b""
        while len(data) < step[1]:
            part = connection.recv(step[1] - len(data))
            if not part:
                raise EOFError(f"the client ended after {data!r}, {step[1]} bytes expected")
            data += part
        return data.hex()
    if step[0] == "write":
        for piece in step[1]:
            connection.sendall(bytes.fromhex(piece))
        return None
    if step[0] == "sleep":
        time.sleep(step[1])
        return None
    if step[0] == "file":
        return connection.fileno()
    if step[0] == "give":
        told.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                               array.array("i", [connection.fileno()]))])
        connection.close()
        return None
    if step[0] == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return None


def serve(told, connections, helper):
    with told, told.makefile("r") as lines:
        for line in lines:
            order = json.loads(line)
            try:
                connection = connections.take(order["peer"])
                result = run(connection, order["steps"], told, helper)
            except (OSError, EOFError) as error:
                result = {"error": repr(error)}
            told.sendall(json.dumps(result).encode() + b"\n")


class Helper:
    """A second process: it is passed connections, and it has a listener of its own."""

    def __init__(self, port):
        self.socket, other = socket.socketpair()
        self.lock = threading.Lock()
        if os.fork() == 0:
            self.socket.close()
            helper_main(other, port)
            os._exit(0)
        other.close()
        self.input = self.socket.makefile("r")


def helper_main(other, port):
    threading.Thread(target=echo, args=(listen(port),), daemon=True).start()
    while True:
        text, files, _, _ = socket.recv_fds(other, 1, 1)
        if not text:
            return
        while not text.endswith(b"\n"):
            text += other.recv(65536)
        with socket.socket(fileno=files[0]) as connection:
            result = run(connection, json.loads(text), None, None)
        other.sendall(json.dumps(result).encode() + b"\n")


def listen(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def echo(listener):
    """Answers a line with a line that begins with the process's number."""
    while True:
        connection, _ = listener.accept()
        with connection:
            data = connection.recv(4096)
            while data:
                connection.sendall(f"{os.getpid()} ".encode() + data)
                data = connection.recv(4096)


def main():
    port = int(os.environ["PORT"])
    helper = Helper(int(sys.argv[2]))
    connections = Connections()
    threading.Thread(target=connections.accept, args=(listen(port),), daemon=True).start()
    threading.Thread(target=echo, args=(listen(int(sys.argv[2])),), daemon=True).start()
    with socket.socket(socket.AF_UNIX) as control:
        if os.path.exists(sys.argv[1]):
            os.unlink(sys.argv[1])
        control.bind(sys.argv[1])
        control.listen(64)
        while True:
            told, _ = control.accept()
            threading.Thread(target=serve, args=(told, connections, helper), daemon=True).start()


if __name__ == "__main__":
    main()
