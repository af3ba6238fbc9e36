# SPDX-License-Identifier: Apache-2.0
"""What is done on a machine whose kernel refuses BPF or cgroups: find out why, use a guest instead."""
import os
import subprocess

FOLDER = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(FOLDER))
EXIT_NO_GUEST = 125


def reason(build):
    """Why the agent cannot work here, in one line; None when it can, or is not built."""
    try:
        done = subprocess.run([f"{build}/ebbtide-agent", "--check"], capture_output=True, text=True,
                              errors="replace", timeout=120, check=False)
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        return "ebbtide-agent --check does not end"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or [f"ebbtide-agent --check ended with {done.returncode}"]
    return said[-1].removeprefix("ebbtide-agent: this machine does not do: ")


def in_guest(build, command, *options):
    """The arguments of a process that runs @command of this tree in a guest."""
    return [f"{FOLDER}/in-guest", "--build", build, *options, "--", *command]
