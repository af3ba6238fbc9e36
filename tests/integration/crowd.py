# SPDX-License-Identifier: Apache-2.0
"""Many tiny services for the agent to find: the processes, and the API that tells of them."""
import atexit
import json
import os
import queue
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import BUILD, ROOT, free_port, objective, read, wait_for

NAMESPACE = "default"
COLLECTIONS = {"/api/v1/pods": "PodList",
               "/apis/ebbtide.io/v1alpha1/scaleobjectives": "ScaleObjectiveList",
               "/apis/apps/v1/deployments": "DeploymentList"}
PODS, OBJECTIVES, DEPLOYMENTS = COLLECTIONS


class Api:
    """Lists and watches of COLLECTIONS; put() and drop() are what happens in them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.version = 1
        self.objects = {path: {} for path in COLLECTIONS}
        self.watchers = {path: [] for path in COLLECTIONS}
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # pylint: disable=invalid-name
                url = urllib.parse.urlsplit(self.path)
                if url.path not in COLLECTIONS:
                    self.answer(404, {"kind": "Status", "code": 404, "reason": "NotFound"})
                elif "watch=true" in url.query:
                    self.watch(url.path, int(urllib.parse.parse_qs(url.query)["resourceVersion"][0]))
                else:
                    self.answer(200, api.list(url.path))

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.answer(200, json.loads(body or b"{}"))

            do_PATCH = do_PUT = do_POST

            def answer(self, code, body):
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def watch(self, path, version):
                events = api.subscribe(path, version)
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while True:
                    lines = [events.get()]
                    while not events.empty():
                        lines.append(events.get())
                    if None in lines:
                        return
                    data = b"".join(lines)
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def list(self, path):
        with self.lock:
            return {"kind": COLLECTIONS[path], "metadata": {"resourceVersion": str(self.version)},
                    "items": list(self.objects[path].values())}

    def subscribe(self, path, version):
        events = queue.Queue()
        with self.lock:
            # What came between its list and its watch.
            for item in self.objects[path].values():
                if int(item["metadata"]["resourceVersion"]) > version:
                    events.put(self.line("ADDED", item))
            self.watchers[path].append(events)
        return events

    @staticmethod
    def line(kind, item):
        return json.dumps({"type": kind, "object": item}).encode() + b"\n"

    def tell(self, path, kind, item):
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        for events in self.watchers[path]:
            events.put(self.line(kind, item))

    def put(self, path, item):
        name = item["metadata"]["name"]
        with self.lock:
            kind = "MODIFIED" if name in self.objects[path] else "ADDED"
            self.objects[path][name] = item
            self.tell(path, kind, item)

    def drop(self, path, name):
        with self.lock:
            self.tell(path, "DELETED", self.objects[path].pop(name))

    def close(self):
        with self.lock:
            for events in sum(self.watchers.values(), []):
                events.put(None)
        self.server.shutdown()
        self.server.server_close()


def pod(service, name, path):
    """A running pod of one container, whose cgroup is @path."""
    return {"metadata": {"name": name, "namespace": NAMESPACE, "uid": name,
                         "labels": {"app": service, "pod-template-hash": "h"},
                         "ownerReferences": [{"kind": "ReplicaSet", "name": f"{service}-h"}]},
            "spec": {"nodeName": "test"},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "function", "containerID": f"ebbtide://{path}",
                 "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}}


class Tool:
    """A program of tests/bench that answers each line with a line of JSON."""

    def __init__(self, name, *options):
        self.name = name
        self.child = subprocess.Popen([f"{BUILD}/tests/{name}", *map(str, options)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      start_new_session=True)

    def ask(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        answer = json.loads(self.child.stdout.readline() or '{"error": "it has ended"}')
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def close(self):
        if not self.child.stdin.closed:
            self.child.stdin.close()
            self.child.wait(timeout=120)
            self.child.stdout.close()


class Crowd:
    """Services and the connections to them, of as many processes as their open files take."""

    def __init__(self, group, *options, network=77, connections=0):
        self.group = group
        # A few files are not connections. Not every root may raise the limit.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        most = files - 500 if files != resource.RLIM_INFINITY else max(1, connections)
        self.processes = [Tool("crowd", "--network", network + number, *options)
                          for number in range(max(1, -(-connections // most)))]
        self.homes, self.started = {}, 0

    def path(self, name):
        return f"{self.group}/{name}"

    def ask(self, word, path=None, *more):
        if path is None:
            answers = [process.ask(word) for process in self.processes]
            return {name: sum(answer[name] for answer in answers) for name in answers[0]}
        if word == "start":
            self.homes[path] = self.processes[self.started % len(self.processes)]
            self.started += 1
        home = self.homes.pop(path) if word == "stop" else self.homes[path]
        return home.ask(word, path, *more)

    def close(self):
        for process in self.processes:
            process.close()


class Node:
    """The API, a crowd, an agent that finds its services and, if asked for, a learner."""

    def __init__(self, group, *crowd_options, **crowd_places):
        self.folder = tempfile.mkdtemp(prefix="ebbtide-crowd-")
        self.children = {}
        self.metrics_port, self.learner_port = free_port(), free_port()
        atexit.register(self.close)
        self.api = Api()
        self.crowd = Crowd(group, *crowd_options, **crowd_places)

    def start(self, program, *arguments):
        with open(f"{self.folder}/{program}.log", "a", encoding="utf-8") as log:
            self.children[program] = subprocess.Popen(
                [f"{BUILD}/{program}", *map(str, arguments)], stdout=log, stderr=log, cwd=ROOT,
                start_new_session=True)
        return self.children[program]

    def start_learner(self, *arguments):
        self.start("ebbtide-learner", "--server", self.api.url, "--seed", 1, "--state",
                   f"{self.folder}/learner", "--listen", f"127.0.0.1:{self.learner_port}",
                   "--scale-period-s", 3600, *arguments)
        wait_for("learner", lambda: self.fetch(self.learner_port, "/healthz"))

    def start_agent(self, *arguments):
        child = self.start("ebbtide-agent", "--server", self.api.url, "--node", "test", "--state",
                           f"{self.folder}/agent", "--tree", "", "--metrics",
                           f"127.0.0.1:{self.metrics_port}", *arguments)
        wait_for("agent", lambda: child.poll() is not None or self.metrics(), 60)
        if child.poll() is not None:
            raise RuntimeError(f"ebbtide-agent ended: {self.log('ebbtide-agent')[-2000:]}")
        return child

    def end(self, program, number=signal.SIGTERM):
        child = self.children.pop(program, None)
        if not child:
            return 0
        if child.poll() is None:
            child.send_signal(number)
        return child.wait(timeout=60)

    def log(self, program):
        return read(f"{self.folder}/{program}.log")

    @staticmethod
    def fetch(port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metrics(self):
        """Every sample of the agent's /metrics: {'name{labels}': value}."""
        samples = {}
        for line in self.fetch(self.metrics_port, "/metrics").splitlines():
            if line and line[0] != "#":
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def add(self, service, name=None, mode=None):
        """A service of one pod: its process, the pod and, with a mode, an objective."""
        name = name or f"{service}-0"
        path = self.crowd.path(name)
        self.crowd.ask("start", path)
        if mode:
            self.api.put(OBJECTIVES, objective(service, mode=mode))
        self.api.put(PODS, pod(service, name, path))
        return path

    def close(self):
        """Everything down; the cgroups that stayed."""
        if not self.folder:
            return []
        for program in ("ebbtide-agent", "ebbtide-learner"):
            self.end(program)
        self.api.close()
        self.crowd.close()
        left = []
        for root in ("cpu", "memory", "unified", "."):
            path = f"/sys/fs/cgroup/{root}{self.crowd.group}"
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError:
                left.append(path)
            try:
                os.rmdir(os.path.dirname(path))
            except OSError:
                pass  # others may be at work below it
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None
        return left


def cpu_seconds(pid):
    """Of all its threads, by the scheduler's own sums: utime and stime are sampled at ticks."""
    return sum(int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
               for task in os.listdir(f"/proc/{pid}/task")) / 1e9


def memory_bytes(pid):
    """Resident memory, as ps shows it, and of it what is not shared with files."""
    status = dict(line.split(":", 1) for line in read(f"/proc/{pid}/status").splitlines())
    return [int(status[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon")]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
