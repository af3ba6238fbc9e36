# SPDX-License-Identifier: Apache-2.0
"""A learner whose answers a test decides: speaks docs/wire.md, knows only the fields it needs.

plans[service] is what every report of that service is answered with; reports[service] is the newest
that came. While silent is set nothing is answered.
"""
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wire import double, fields, number, text, varint

ACTION_HOLD = 4
SAMPLE = {2: "requests", 3: "requests_over", 10: "cpu_used_us", 11: "cpu_allocated_us",
          22: "cpu_limit_millicores", 23: "memory_limit_bytes", 24: "refills",
          26: "cpu_reserved_millicores"}


def single(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def action(namespace, service, plan):
    """plan: cpu or request (millicores), memory (bytes), allowance (share, refills, ceiling),
    burst (us)."""
    out = text(1, namespace) + text(2, service) + number(3, ACTION_HOLD) + number(4, 1)
    out += double(5, plan.get("cpu", 0)) + number(6, plan.get("memory", 0)) + text(7, "scripted")
    out += double(15, plan.get("request", 0))
    if "allowance" in plan or "burst" in plan:
        share, refills, ceiling = plan.get("allowance", (0, 0, 0))
        out += text(10, single(1, share) + number(2, refills) + double(3, ceiling)
                     + number(4, plan.get("burst", 0)))
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
        for field, value in fields(body):
            if field == 4:
                sequence = value
            elif field == 6:
                actions += self.take(dict(fields(value)))
        return number(1, sequence) + actions

    def take(self, unit):
        namespace, service = unit[1].decode(), unit[2].decode()
        report = {name: 0 for name in SAMPLE.values()}
        report.update({SAMPLE[n]: v if isinstance(v, int) else struct.unpack("<d", v)[0]
                       for n, v in fields(unit[3]) if n in SAMPLE})
        report["reflex"] = bool(unit.get(9, 0))
        report["starting"] = unit.get(10, 0)
        self.reports[service] = report
        self.refills[service] = self.refills.get(service, 0) + report["refills"]
        plan = self.plans.get(service)
        return text(2, action(namespace, service, plan)) if plan else b""

    def close(self):
        self.server.shutdown()
        self.server.server_close()
