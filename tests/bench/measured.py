# SPDX-License-Identifier: Apache-2.0
"""What the benches share: the probes without the agent, real servers in a cgroup of their own.

Servers get private configurations in a temporary folder, listen on loopback and are ended by pid.
"""
import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(BENCH))
BUILD = os.path.abspath(os.environ.get("EBBTIDE_BUILD", f"{ROOT}/build"))
CPUS = sorted(os.sched_getaffinity(0))
# Server and client each on a CPU of their own, where there are two.
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]
GROUP = "/ebbtide/bench"


def arguments(description, parts=()):
    """Parse [--quick] [--only PART] [BUILD-FOLDER]: whether it is to be quick, and which parts."""
    global BUILD
    words = sys.argv[1:]
    if "--help" in words or "-h" in words:
        only = f"[--only {'|'.join(parts)}] " if parts else ""
        print(f"Usage: {os.path.relpath(sys.argv[0])} [--quick] {only}[BUILD-FOLDER]\n"
              f"{description}")
        sys.exit(0)
    quick = "--quick" in words
    if "--only" in words[:-1] and words[words.index("--only") + 1] in parts:
        at = words.index("--only")
        parts = words[at + 1:at + 2]
        del words[at:at + 2]
    rest = [word for word in words if word != "--quick"]
    if len(rest) > 1 or any(word.startswith("-") for word in rest):
        sys.exit(f"{os.path.basename(sys.argv[0])}: {' '.join(rest)} is not understood. Try --help.")
    if rest:
        BUILD = os.path.abspath(rest[0])
        os.environ["EBBTIDE_BUILD"] = BUILD
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _f: sys.exit(128 + n))
    subprocess.run([f"{ROOT}/vendor/install", "run", "bench"], check=True)
    return quick, parts


def figure(name, value, unit):
    print(f"figure {name} {value:.4g} {unit}", flush=True)


def note(text):
    print(text, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end(child):
    """SIGTERM, then SIGKILL to its process group, which is its own."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


class Measure:
    """The probes, through the program 'measure'."""

    def __init__(self):
        self.child = subprocess.Popen([f"{BUILD}/tests/measure"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.groups = []
        atexit.register(self.close)

    def ask(self, *words):
        self.child.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"measure ended at: {' '.join(map(str, words))}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"measure: {answer['error']}")
        return answer

    def group(self, name):
        path = f"{GROUP}/{name}"
        self.ask("create", path)
        self.groups.append(path)
        return path

    def close(self):
        if self.child.poll() is not None:
            return
        self.ask("close")
        for path in self.groups + [GROUP, os.path.dirname(GROUP)]:
            for _ in range(100):
                try:
                    self.ask("remove", path)
                    break
                except RuntimeError:
                    if path == os.path.dirname(GROUP):
                        break  # others may be at work below it
                    time.sleep(0.02)
        self.child.stdin.close()
        self.child.wait(timeout=30)


class Service:
    """A server of its own in a cgroup. Subclasses give its command for a port and a folder."""
    name = "service"
    ready_bytes = None

    started = 0

    def __init__(self, measure, cpu=SERVER_CPU):
        self.folder = tempfile.mkdtemp(prefix="ebbtide-bench-")
        self.port = free_port()
        Service.started += 1
        self.group = measure.group(f"{self.name}-{Service.started}")
        self.log = open(f"{self.folder}/log", "w", encoding="utf-8")
        prefix = [f"{BUILD}/tests/measure", "--in", self.group]
        if cpu is not None:
            prefix += ["taskset", "-c", str(cpu)]
        self.child = subprocess.Popen(prefix + self.command(), stdout=self.log, stderr=self.log,
                                      cwd=self.folder, start_new_session=True)
        atexit.register(self.close)
        self.wait()

    def command(self):
        raise NotImplementedError

    def wait(self):
        for _ in range(200):
            if self.child.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(f"{self.folder}/log", encoding="utf-8") as file:
            raise RuntimeError(f"{self.name} does not listen on {self.port}: {file.read()[-2000:]}")

    def pids(self):
        """Of everything in its cgroup."""
        for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if os.path.exists(f"{root}{self.group}/cgroup.procs"):
                with open(f"{root}{self.group}/cgroup.procs", encoding="ascii") as file:
                    return [int(line) for line in file]
        return []

    def close(self):
        end(self.child)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Nginx(Service):
    """One worker. / and /r/... answer 200 bytes; the others are what pipeline.c asks for."""
    name = "nginx"
    listen = ""

    def extra(self):
        return ""

    def command(self):
        with open(f"{self.folder}/large", "wb") as file:
            file.write(b"x" * 100000)
        with open(f"{self.folder}/chunked", "wb") as file:
            file.write(b"some text that gzip makes smaller\n" * 200)
        with open(f"{self.folder}/nginx.conf", "w", encoding="utf-8") as file:
            file.write(f"""
user root; daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; sendfile on;
    client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi; uwsgi_temp_path {self.folder}/uwsgi;
    scgi_temp_path {self.folder}/scgi;
    gzip on; gzip_min_length 1; gzip_types *;
    server {{
        listen 127.0.0.1:{self.port} {self.listen}; {self.extra()}
        root {self.folder};
        location / {{ return 200 "{"x" * 200}"; }}
        location = /status {{ stub_status; }}
        location = /empty {{ return 204; }}
        location = /missing {{ return 404; }}
        location = /error {{ return 503; }}
        location = /chunked {{ }}
        location = /large {{ gzip off; }}
    }}
}}
""")
        return ["nginx", "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/nginx.conf"]


class NginxTls(Nginx):
    name = "nginx-tls"
    listen = "ssl"

    def extra(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                        "-subj", "/CN=localhost", "-keyout", f"{self.folder}/key", "-out",
                        f"{self.folder}/cert"], check=True, capture_output=True)
        return f"ssl_certificate {self.folder}/cert; ssl_certificate_key {self.folder}/key;"


class NginxHttp2(Nginx):
    name = "nginx-http2"
    listen = "http2"


class Nghttpd(Service):
    name = "nghttpd"

    def command(self):
        os.mkdir(f"{self.folder}/root")
        with open(f"{self.folder}/root/index.html", "wb") as file:
            file.write(b"x" * 200)
        return ["nghttpd", "--no-tls", "--address", "127.0.0.1", "--htdocs",
                f"{self.folder}/root", str(self.port)]


class Redis(Service):
    name = "redis"

    def command(self):
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
                "--appendonly", "no", "--dir", self.folder, "--daemonize", "no"]


class Memcached(Service):
    name = "memcached"

    def command(self):
        return ["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-u", "root",
                "-t", "2", "-m", "128"]


class Grpc(Service):
    name = "grpc"

    def command(self):
        return ["/usr/bin/python3", f"{BENCH}/grpc_peer.py", "serve", str(self.port)]


class Function(Service):
    """The Fibonacci function of the demo; ?n= says how long it computes."""
    name = "function"

    def command(self):
        return ["env", f"PORT={self.port}", "/usr/bin/python3", f"{ROOT}/tests/workloads/fibonacci.py"]


def client(*command, cpu=CLIENT_CPU, realtime=False, **options):
    """Run a client on its CPU; at real-time priority a measured latency is not its own wait."""
    words = [str(word) for word in command]
    if realtime and os.geteuid() == 0:
        words = ["chrt", "-r", "1"] + words
    words = ["taskset", "-c", str(cpu)] + words
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: "
                           f"{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
