# SPDX-License-Identifier: Apache-2.0
"""The real learner under load, killed again and again; then what its log holds is compared with
what was acknowledged. Used by kill_learner and tests/bench/bench-learner."""
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

from harness import BUILD, free_port, read, wait_for

UNITS = 4
AGENTS = 8


class Learner:
    """One learner after another on the same port and state directory; no API server answers it."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="ebbtide-test-")
        self.state, self.log_path = f"{self.folder}/state", f"{self.folder}/learner.log"
        self.port, self.arguments, self.child = free_port(), arguments, None
        self.server = f"http://127.0.0.1:{free_port()}"

    def start(self):
        with open(self.log_path, "a", encoding="utf-8") as log:
            log.write("--- start\n")
            log.flush()
            self.child = subprocess.Popen(
                [f"{BUILD}/ebbtide-learner", "--server", self.server, "--state", self.state,
                 "--listen", f"127.0.0.1:{self.port}", "--seed", "1", *self.arguments],
                stdout=log, stderr=log, start_new_session=True)

    def fetch(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def ready(self):
        if self.child.poll() is not None:
            raise AssertionError(f"the learner left with {self.child.returncode}:\n{self.tail()}")
        return self.fetch("/readyz") == "ok\n"

    def wait_ready(self, seconds=60):
        wait_for("a ready learner", self.ready, seconds)

    def metric(self, name):
        line = next(x for x in self.fetch("/metrics").splitlines() if x.startswith(name + " "))
        return float(line.rsplit(" ", 1)[1])

    def kill(self):
        self.child.kill()
        self.child.wait()

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(timeout=60)

    def starts(self):
        """The log's lines of each start."""
        return [x.splitlines() for x in read(self.log_path).split("--- start")[1:]]

    def tail(self):
        return "\n".join(read(self.log_path).splitlines()[-20:])

    def dump(self):
        """The records of both logs; anything damaged is an error."""
        result = subprocess.run([f"{BUILD}/ebbtide-learner", "--dump-replay", self.state],
                                capture_output=True, text=True, timeout=300, check=True)
        assert result.stderr == "", result.stderr
        return [json.loads(x) for x in result.stdout.splitlines()]

    def close(self):
        if self.child and self.child.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Client:
    """report_client: agents that keep what is not acknowledged."""

    def __init__(self, learner, *arguments):
        self.acked, self.seen = f"{learner.folder}/acked", 0
        self.child = subprocess.Popen(
            [f"{BUILD}/tests/report_client", "--port", str(learner.port), "--acked", self.acked,
             *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True)

    def wait_progress(self):
        """Until more was acknowledged than at the last call."""
        wait_for("a report that is taken", lambda: os.path.getsize(self.acked) > self.seen, 60)
        self.seen = os.path.getsize(self.acked)

    def end(self, timeout=60):
        self.child.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=300):
        out, _ = self.child.communicate(timeout=timeout)
        assert self.child.returncode == 0, f"report_client left with {self.child.returncode}"
        return json.loads(out)

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


def unclean(lines):
    """What a start said that it should not have; no API is there, so its watches fail."""
    bad = [x for x in lines if re.search(r" (err|warning) ", x)
           and "watch=" not in x and " blas=" not in x and "torn at the end: cut" not in x]
    return bad + [x for x in lines if "event=recalled" in x and
                  (" repeated=0 " not in x or " refused=0 " not in x
                   or " damaged_bytes=0 " not in x)]


def compare(acked, records):
    """Acknowledged experiences that are not in the log, and experiences that are there twice."""
    count = collections.Counter()
    for record in records:
        if record["kind"] != "experiences" or record["policy"] != "vertical":
            continue
        rewards = [record["sequence"] % (1 << 20)] * UNITS
        assert [round(-e["reward"] * (1 << 14)) for e in record["experiences"]] == rewards, record
        names = [f"service-{i}" for i in range(UNITS)]
        assert [e["service"] for e in record["experiences"]] == names, record
        count[record["agent"], record["sequence"]] += 1
    lost = [key for key in acked if key not in count]
    twice = [key for key, times in count.items() if times > 1]
    return lost, twice, sum(count.values())


def run(kills, seed, *arguments):
    """Counts by name after so many kills; raises when a start was not clean."""
    moments = random.Random(seed)
    learner = Learner("--replay", "4000000", "--updates-per-s", "50", *arguments)
    client, loaded = None, 0
    try:
        learner.start()
        client = Client(learner, "--agents", str(AGENTS), "--units", str(UNITS), "--pause-us",
                        "3000", "--lose-every", "3")
        for _ in range(kills):
            # One in four comes while it starts, the others under load.
            if moments.random() < 0.75:
                learner.wait_ready()
                client.wait_progress()
                loaded += 1
            time.sleep(moments.uniform(0, 0.15))
            learner.kill()
            learner.start()
        learner.wait_ready()
        totals = client.end()
        assert learner.end() == 0, learner.tail()
        with open(client.acked, encoding="utf-8") as file:
            acked = {(a, int(s)) for a, s in (line.split() for line in file)}
        lost, twice, stored = compare(acked, learner.dump())
        # Once more, to hear that what is in the log is what is remembered.
        learner.start()
        learner.wait_ready()
        assert learner.end() == 0, learner.tail()
        starts = learner.starts()
        assert len(starts) == kills + 2, len(starts)
        bad = [line for lines in starts for line in unclean(lines)]
        assert not bad, bad
        recalled = next(x for x in starts[-1] if "event=recalled" in x)
        assert f" experiences={stored * UNITS} " in recalled, (stored, recalled)
        torn = sum("torn at the end: cut" in x for lines in starts for x in lines)
        return {"lost": len(lost) * UNITS, "duplicated": len(twice) * UNITS,
                "acknowledged": len(acked) * UNITS, "unanswered": totals["unanswered"],
                "thrown_away": totals["thrown_away"],
                "kills_under_load": loaded, "torn": torn, "stored": stored * UNITS}
    finally:
        if client:
            client.close()
        learner.close()
