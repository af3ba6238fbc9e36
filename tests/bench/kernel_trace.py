# SPDX-License-Identifier: Apache-2.0
"""The kernel's own tracing (tracefs): when tasks left their CPU, and what a thread wrote when.

A witness of the reflex that shares nothing with it: no BPF, no counter of the agent.
"""
import atexit
import collections
import os
import re
import subprocess
import tempfile

LINE = re.compile(r"^\s*(.+)-(\d+)\s+.*?\s(\d+\.\d+): (\w+)(.*)$")
BUFFER_KIB = 32768  # a CPU
# Of the thread: falling asleep, looking at a cgroup, setting its timer.
COUNTED = ("epoll_wait", "bpf", "timerfd_settime")


class KernelTrace:
    """Traces from start() to stop(); times are CLOCK_MONOTONIC, in seconds."""

    def __init__(self):
        self.calls = collections.Counter()
        self.mount = tempfile.mkdtemp(prefix="ebbtide-tracefs-")
        self.folder = f"{self.mount}/instances/ebbtide-{os.getpid()}"
        subprocess.run(["mount", "-t", "tracefs", "tracefs", self.mount], check=True)
        atexit.register(self.close)
        os.mkdir(self.folder)
        self.write("trace_clock", "mono")
        self.write("buffer_size_kb", BUFFER_KIB)

    def write(self, name, value):
        with open(f"{self.folder}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def start(self, switched, writer):
        """Watch tasks @switched leave a CPU, and thread @writer write to files at a position."""
        events = {
            "sched/sched_switch": "||".join(f"prev_pid=={pid}" for pid in switched),
            "syscalls/sys_enter_pwrite64": f"common_pid=={writer}",
            "syscalls/sys_exit_pwrite64": f"common_pid=={writer}",
        }
        for call in COUNTED:
            events[f"syscalls/sys_enter_{call}"] = f"common_pid=={writer}"
        for event, condition in events.items():
            self.write(f"events/{event}/filter", condition)
            self.write(f"events/{event}/enable", 1)

    def stop(self):
        """({pid: [time it left a CPU]}, [(file descriptor, written at)], events lost). How often the thread
        made each call is in calls then."""
        self.write("events/enable", 0)
        self.calls = collections.Counter()
        left, writes, opened = {}, [], None
        with open(f"{self.folder}/trace", encoding="ascii", errors="replace") as file:
            for line in file:
                found = LINE.match(line)
                if not found:
                    continue
                at, event, text = float(found[3]), found[4], found[5]
                if event == "sched_switch":
                    pid = int(re.search(r"prev_pid=(\d+)", text)[1])
                    left.setdefault(pid, []).append(at)
                elif event.removeprefix("sys_") in COUNTED:
                    self.calls[event.removeprefix("sys_")] += 1
                elif "fd:" in text:
                    opened = int(re.search(r"fd: (\w+)", text)[1], 16)
                elif "->" in text and opened is not None:
                    writes.append((opened, at))
                    opened = None
        return left, writes, self.lost()

    def lost(self):
        total = 0
        for cpu in os.listdir(f"{self.folder}/per_cpu"):
            with open(f"{self.folder}/per_cpu/{cpu}/stats", encoding="ascii") as file:
                total += sum(int(line.rsplit(":", 1)[1]) for line in file
                             if line.startswith(("overrun", "dropped")))
        return total

    def close(self):
        if not os.path.isdir(self.mount):
            return
        if os.path.isdir(self.folder):
            self.write("events/enable", 0)
            os.rmdir(self.folder)
        subprocess.run(["umount", self.mount], check=True)
        os.rmdir(self.mount)
