# SPDX-License-Identifier: Apache-2.0
"""What the live benches share: functions behind the gateway with a learner, and pictures.

Import it once EBBTIDE_BUILD is set.
"""
import csv
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(BENCH), "integration"))
# pylint: disable=wrong-import-position
from harness import BUILD, FIBONACCI, ROOT, Cluster, cpu_root, deployment, objective, prefer, read
from harness import wait_for

WORKLOADS = f"{ROOT}/tests/workloads"
NICE = -15
# Told apart without red and green, and in grey print (Okabe and Ito's set).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a7a7a", "#000000",
           "#8c6d31", "#5254a3")


def on_signals():
    """An end from outside cleans up as well."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _f: sys.exit(128 + n))


def learner_knows(option):
    """Whether this learner has the option: benches outlive options."""
    text = subprocess.run([f"{BUILD}/ebbtide-learner", "--help"], capture_output=True, text=True,
                          check=False)
    return option in text.stdout + text.stderr


def trace_part(name, start, every, seconds):
    """@seconds of a trace from its second @start on, each @every-th, going round at its end."""
    with open(f"{WORKLOADS}/{name}", encoding="ascii") as file:
        rates = [float(line) for line in file if line[:1] != "#"]
    peak = max(rates)
    return [rates[(start + i * every) % len(rates)] / peak for i in range(seconds)]


class Live(Cluster):
    """A cluster whose services are asked through the gateway."""

    def prefer(self):
        """Functions, gateway and Ebbtide before the machine's other programs, in the order they have.

        A thread that has made itself nice stays so: training may not delay the client's requests.
        """
        prefer(self)
        waiting = [child.pid for child in self.children.values()]
        while waiting:
            pid = waiting.pop()
            for thread in os.listdir(f"/proc/{pid}/task"):
                if os.getpriority(os.PRIO_PROCESS, int(thread)) <= 0:
                    os.setpriority(os.PRIO_PROCESS, int(thread), NICE)
                waiting += map(int, read(f"/proc/{pid}/task/{thread}/children").split())

    def number(self, service, name):
        return float(self.unit(service, name))

    def set(self, service, **fields):
        """What an operator would write into the tree."""
        for field, value in fields.items():
            path = f"{self.tree}/services/default/{service}/objective/{field}"
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{value}\n")

    def load(self, service, n, rates, arrivals="poisson", seed=1, target_us=0):
        """Start playing @rates (requests/s, one a second); finish() gives what the client saw."""
        folder = tempfile.mkdtemp(prefix="load-", dir=self.folder)
        with open(f"{folder}/trace", "w", encoding="ascii") as file:
            file.writelines(f"{rate:.4f}\n" for rate in rates)
        words = [f"{BUILD}/tests/loadgen", "--trace", f"{folder}/trace", "--arrivals", arrivals,
                 "--seed", str(seed), "--json", f"{folder}/json"]
        if target_us:
            words += ["--target-us", str(target_us), "--second-output", f"{folder}/seconds"]
        with open(f"{folder}/log", "w", encoding="utf-8") as log:
            child = subprocess.Popen(  # pylint: disable=consider-using-with
                words + [f"http://127.0.0.1:{self.gateway}/function/{service}/?n={n}"],
                stdout=log, stderr=log, start_new_session=True)
        self.children[folder] = child
        return folder

    def finish(self, folder, seconds=60):
        """(summary, rows of seconds) of a load that is over."""
        child = self.children[folder]
        child.wait(timeout=seconds)
        del self.children[folder]
        if child.returncode:
            raise AssertionError(f"loadgen: exit {child.returncode}: {read(folder + '/log')}")
        rows = []
        if os.path.exists(f"{folder}/seconds"):
            with open(f"{folder}/seconds", encoding="ascii") as file:
                rows = [{k: float(v) if v else None for k, v in row.items()}
                        for row in csv.DictReader(file)]
        return json.loads(read(f"{folder}/json")), rows

    def journal(self, start=0):
        """(lines of the learner's journal from byte @start on, where it ended)."""
        path = f"{self.folder}/decisions.jsonl"
        if not os.path.exists(path):
            return [], start
        with open(path, "rb") as file:
            file.seek(start)
            text = file.read()
        text = text[:text.rfind(b"\n") + 1]
        return [json.loads(line) for line in text.splitlines()], start + len(text)

    def pid(self, service):
        """Of the service's only process."""
        folder = f"{cpu_root()}{self.cgroup}/default"
        pod = next(p for p in sorted(os.listdir(folder)) if p.startswith(service + "-"))
        return int(read(f"{folder}/{pod}/function/cgroup.procs").split()[0])


def keep_awake():
    """
    No CPU halts while the file is open: a virtual one that does comes back when its host has time, and
    every wait grows by it. None where the kernel has no such file.
    """
    try:
        latency = open("/dev/cpu_dma_latency", "wb", buffering=0)
        latency.write(struct.pack("i", 0))
        return latency
    except OSError as error:
        print(f"CPUs may halt: {error}", file=sys.stderr)
        return None


class Stolen:
    """What the machine's host kept of the CPU time that was wanted here, since made: 0 to 1."""

    def __init__(self):
        self.before = self.times()

    @staticmethod
    def times():
        """(time wanted, of it stolen), in ticks of all CPUs; what is nice wants none."""
        user, _, system, _, _, irq, softirq, stolen = map(
            int, read("/proc/stat").splitlines()[0].split()[1:9])
        return user + system + irq + softirq + stolen, stolen

    def share(self):
        wanted, stolen = (after - before for after, before in zip(self.times(), self.before))
        return stolen / max(1, wanted)


def calmest(play, attempts, calm):
    """
    What play() gives, its disturbance first, played again while that is over @calm, at most @attempts
    times: the calmest of them.
    """
    best = None
    for _ in range(attempts):
        played = play()
        if best is None or played[0] < best[0]:
            best = played
        if best[0] <= calm:
            break
    return best


def each_second(seconds, look):
    """Call @look(second) once a second, @seconds times, on time."""
    start = time.monotonic()
    for second in range(seconds):
        time.sleep(max(0.0, start + second + 1 - time.monotonic()))
        look(second)


def draw(path, title, x_label, y_label, series, lines="linespoints", extra=()):
    """An SVG of series [(name, [(x, y)])] by gnuplot."""
    with tempfile.TemporaryDirectory(prefix="ebbtide-plot-") as folder:
        plots = []
        for index, (name, points) in enumerate(series):
            data = f"{folder}/{index}"
            with open(data, "w", encoding="ascii") as file:
                file.writelines(f"{x} {y}\n" for x, y in points)
            colour = COLOURS[index % len(COLOURS)]
            points_too = f"pt {index % 15 + 1} ps 0.7" if "points" in lines else ""
            plots.append(f"'{data}' with {lines} lc rgb '{colour}' lw 2 {points_too} "
                         f"title \"{name}\"")
        script = "\n".join([
            "set terminal svg size 900,520 font 'sans-serif,13' background rgb 'white'",
            f"set output '{path}'", f"set title \"{title}\"", f"set xlabel \"{x_label}\"",
            f"set ylabel \"{y_label}\"", "set grid lc rgb '#dddddd'", "set key outside right top",
            *extra, "plot " + ", ".join(plots), ""])
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
