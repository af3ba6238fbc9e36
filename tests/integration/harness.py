# SPDX-License-Identifier: Apache-2.0
"""Starts the real programs for integration tests, ends them by pid, and prints TAP."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("EBBTIDE_BUILD", f"{ROOT}/build"))


def cpu_root():
    for name in ("cpu", "cpu,cpuacct"):
        if os.path.isdir(f"/sys/fs/cgroup/{name}"):
            return f"/sys/fs/cgroup/{name}"
    return "/sys/fs/cgroup"


def unified_root():
    """Where cgroup v2 is, with the controllers or beside them."""
    folder = "/sys/fs/cgroup/unified"
    return folder if os.path.isdir(folder) else "/sys/fs/cgroup"


def prefer(cluster):
    """The functions before the machine's other programs, which are not part of what is measured."""
    top = f"{cpu_root()}/{cluster.cgroup.split('/')[1]}"
    for name, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
        if os.path.exists(f"{top}/{name}"):
            with open(f"{top}/{name}", "w", encoding="utf-8") as file:
                file.write(most)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def wait_for(what, check, seconds=20):
    """Poll @check until it is true; its value. OSError and KeyError count as not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = check()
            if value:
                return value
        except (OSError, KeyError):
            value = None
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def deployment(name, replicas, command, cpu="1", memory="128Mi"):
    labels = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": {
                         "terminationGracePeriodSeconds": 3,
                         "containers": [{"name": "function", "image": "test",
                                         "command": command,
                                         "ports": [{"containerPort": 8080}],
                                         "resources": {
                                             "requests": {"cpu": "100m", "memory": "24Mi"},
                                             "limits": {"cpu": cpu, "memory": memory}}}]}}}}


def objective(name, mode="auto", policy="dqn", target="50ms"):
    return {"apiVersion": "ebbtide.io/v1alpha1", "kind": "ScaleObjective",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                     "mode": mode, "policy": policy,
                     "latency": {"percentile": 99, "target": target},
                     "bounds": {"cpu": {"min": "50m", "max": "1"},
                                "memory": {"min": "24Mi", "max": "128Mi"},
                                "replicas": {"min": 1, "max": 3}}}}


FIBONACCI = ["/usr/bin/python3", "tests/workloads/fibonacci.py"]

# Of a traced request's latency.
PARTS = ["socket_queue_us", "waiting_cpu_us", "throttled_us", "on_cpu_us", "blocked_us",
         "sending_us"]


def assert_parts_add_up(event):
    parts = event["breakdown"]
    assert sorted(parts) == sorted(PARTS), parts
    assert all(parts[p] >= 0 for p in PARTS), parts
    assert abs(sum(parts.values()) - event["latency_us"]) < 0.001, event


NGINX = """daemon off; worker_processes 1; error_log stderr; pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
	access_log off; keepalive_requests 100000;
	client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	server {{
		listen 127.0.0.1:PORT;
		{more}
		location / {{ return 200 "ok\\n"; }}
		location /missing {{ return 404; }}
		location /bad {{ return 503; }}
	}}
}}
"""


def configured(folder, name, text, command):
    """A service's command: @command on a file of @text, with the port that it is given for PORT."""
    with open(f"{folder}/{name}.conf", "w", encoding="utf-8") as file:
        file.write(text)
    return ["/bin/sh", "-c", f"sed s/PORT/$PORT/ {folder}/{name}.conf >{folder}/{name}.run; "
            f"exec {command} {folder}/{name}.run"]


def nginx(folder, name, *more):
    """The command of an nginx with one worker; @more: lines of its server."""
    return configured(folder, name, NGINX.format(folder=folder, more="\n\t\t".join(more)),
                      "nginx -e stderr -c")


class Cluster:
    """ebbtide-local, and on demand a learner and an agent, in a folder of their own."""

    def __init__(self, items, cgroup="/ebbtide/test"):
        self.folder = tempfile.mkdtemp(prefix="ebbtide-test-")
        self.cgroup, self.children = cgroup, {}
        self.api, self.gateway, self.learner_port, self.metrics_port = (
            free_port() for _ in range(4))
        self.server = f"http://127.0.0.1:{self.api}"
        self.tree = f"{self.folder}/tree"
        os.mkdir(self.tree)
        functions = f"{self.folder}/functions.json"
        with open(functions, "w", encoding="utf-8") as file:
            json.dump({"apiVersion": "v1", "kind": "List", "items": items}, file)
        self.start("ebbtide-local", "--functions", functions, "--node", "test", "--cgroup", cgroup,
                   "--listen", f"127.0.0.1:{self.api}", "--gateway", f"127.0.0.1:{self.gateway}",
                   "--state", f"{self.folder}/local")
        wait_for("local API", lambda: self.get("/readyz", raw=True))

    def start(self, name, *arguments, key=None):
        log = open(f"{self.folder}/{name}.log", "a", encoding="utf-8")
        child = subprocess.Popen([f"{BUILD}/{name}", *arguments], stdout=log, stderr=log, cwd=ROOT,
                                 start_new_session=True)
        log.close()
        self.children[key or name] = child
        return child

    def start_learner(self, *arguments):
        self.start("ebbtide-learner", "--server", self.server, "--seed", "1", "--state",
                   f"{self.folder}/learner", "--listen", f"127.0.0.1:{self.learner_port}",
                   "--decisions", f"{self.folder}/decisions.jsonl", "--scale-period-s", "2",
                   *arguments)
        wait_for("learner", lambda: self.fetch(self.learner_port, "/healthz"))

    def start_agent(self, *arguments):
        self.start("ebbtide-agent", "--server", self.server, "--node", "test", "--state",
                   f"{self.folder}/agent", "--tree", self.tree, "--tick-ms", "200", "--metrics",
                   f"127.0.0.1:{self.metrics_port}", "--learner",
                   f"http://127.0.0.1:{self.learner_port}", *arguments)
        wait_for("agent's tree", lambda: read(f"{self.tree}/agent/version"))

    def end(self, name, number=signal.SIGTERM, seconds=30):
        child = self.children.pop(name)
        if child.poll() is None:
            child.send_signal(number)
        try:
            return child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            waits = self.waits(child.pid)
            child.kill()
            child.wait()
            raise AssertionError(f"{name} did not end within {seconds} s of signal {number}; its "
                                 f"threads wait in {waits}")

    @staticmethod
    def waits(pid):
        """Where in the kernel each thread of a process that hangs is."""
        return "; ".join(f"{read(f'/proc/{pid}/task/{task}/comm')}: "
                         + " < ".join(line.split()[-1].split("+")[0] for line in read(
                             f"/proc/{pid}/task/{task}/stack").splitlines()[:4])
                         for task in sorted(os.listdir(f"/proc/{pid}/task")))

    def log(self, name):
        return read(f"{self.folder}/{name}.log")

    def fetch(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def get(self, path, raw=False):
        text = self.fetch(self.api, path)
        return text if raw else json.loads(text)

    def send(self, method, path, body, kind="application/merge-patch+json"):
        request = urllib.request.Request(self.server + path, data=json.dumps(body).encode(),
                                         method=method, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())

    def pod(self, name):
        """Metadata of the service's first one."""
        for found in self.get("/api/v1/pods")["items"]:
            if found["metadata"]["name"].startswith(name + "-"):
                return found["metadata"]
        raise KeyError(name)

    def port(self, name):
        """Its own, behind the gateway."""
        return int(self.pod(name)["annotations"]["ebbtide.io/port"])

    def ask(self, name="fibonacci", n=10):
        return self.fetch(self.gateway, f"/function/{name}/?n={n}")

    def unit(self, name, file):
        return read(f"{self.tree}/services/default/{name}/{file}")

    def quotas(self, name):
        folder = f"{cpu_root()}{self.cgroup}/default"
        found = []
        for pod in sorted(os.listdir(folder)):
            if not pod.startswith(name + "-"):
                continue
            group = f"{folder}/{pod}/function"
            if os.path.exists(f"{group}/cpu.max"):
                found.append(int(read(f"{group}/cpu.max").split()[0]))
            else:
                found.append(int(read(f"{group}/cpu.cfs_quota_us")))
        return found

    @staticmethod
    def command(pid):
        try:
            return read(f"/proc/{pid}/cmdline")
        except OSError:
            return ""

    def ctl(self, *arguments):
        return subprocess.run([f"{BUILD}/ebbctl", "--tree", self.tree, *arguments],
                              capture_output=True, text=True, timeout=30, check=False)

    def close(self):
        """Everything down; returns what was left behind."""
        last = ["ebbtide-agent", "ebbtide-learner", "ebbtide-local"]
        left = []
        for name in [n for n in self.children if n not in last] + last:
            try:
                if name in self.children:
                    self.end(name)
            except AssertionError as error:
                left.append(str(error))
        left += [f"process {d}" for d in os.listdir("/proc") if d.isdigit()
                and self.folder in self.command(d)]
        left += [line.split()[1] for line in open("/proc/mounts", encoding="utf-8")
                if self.folder in line]
        left += [p for d in ("cpu", "memory", "unified", ".")
                 for p in [f"/sys/fs/cgroup/{d}{self.cgroup}"] if os.path.isdir(p)]
        for directory in ("cpu", "memory", "unified", "."):
            try:
                os.rmdir(f"/sys/fs/cgroup/{directory}/ebbtide")
            except OSError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)
        return left


def run(tests):
    """Run functions named test_*, print TAP, exit with the right status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _f: sys.exit(128 + n))
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for index, test in enumerate(tests, 1):
        try:
            test()
            print(f"ok {index} - {test.__name__}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {index} - {test.__name__}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    return 1 if failed else 0
