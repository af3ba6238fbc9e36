# SPDX-License-Identifier: Apache-2.0
"""A learner whose answers a test decides: speaks docs/wire.md, knows only the fields it needs.

plans[service] is what every report of that service is answered with; reports[service] is the newest
that came. While silent is set nothing is answered.
"""
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACTION_HOLD = 4
SAMPLE = {2: "requests", 3: "requests_over", 10: "cpu_used_us", 11: "cpu_allocated_us",
          22: "cpu_limit_millicores", 23: "memory_limit_bytes", 24: "refills"}


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data):
    """(number, value) of a message: ints, floats and bytes by wire type."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
        elif kind == 1:
            yield key >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        elif kind == 2:
            size = number()
            yield key >> 3, data[at:at + size]
            at += size
        elif kind == 5:
            yield key >> 3, struct.unpack_from("<f", data, at)[0]
            at += 4
        else:
            raise ValueError(f"wire type {kind}")


def whole(number, value):
    return varint(number << 3) + varint(value)


def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def single(number, value):
    return varint(number << 3 | 5) + struct.pack("<f", value)


def block(number, value):
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def action(namespace, service, plan):
    """plan: cpu (millicores), memory (bytes), allowance (share, refills, ceiling), burst (us)."""
    out = block(1, namespace) + block(2, service) + whole(3, ACTION_HOLD) + whole(4, 1)
    out += double(5, plan.get("cpu", 0)) + whole(6, plan.get("memory", 0)) + block(7, "scripted")
    if "allowance" in plan or "burst" in plan:
        share, refills, ceiling = plan.get("allowance", (0, 0, 0))
        out += block(10, single(1, share) + whole(2, refills) + double(3, ceiling)
                     + whole(4, plan.get("burst", 0)))
    return out


class ScriptedLearner:
    def __init__(self, port):
        self.plans, self.reports, self.silent = {}, {}, False
        self.refills = {}  # of all samples
        learner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = b"" if learner.silent else learner.answer(body)
                self.send_response(503 if learner.silent else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, body):
        actions, sequence = b"", 0
        for number, value in fields(body):
            if number == 4:
                sequence = value
            elif number == 6:
                actions += self.take(dict(fields(value)))
        return whole(1, sequence) + actions

    def take(self, unit):
        namespace, service = unit[1].decode(), unit[2].decode()
        report = {name: 0 for name in SAMPLE.values()}
        report.update({SAMPLE[n]: v for n, v in fields(unit[3]) if n in SAMPLE})
        report["reflex"] = bool(unit.get(9, 0))
        self.reports[service] = report
        self.refills[service] = self.refills.get(service, 0) + report["refills"]
        plan = self.plans.get(service)
        return block(2, action(namespace, service, plan)) if plan else b""

    def close(self):
        self.server.shutdown()
        self.server.server_close()
