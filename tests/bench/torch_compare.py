#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Time one Double DQN update in PyTorch and compare it with bench-dqn's, one after the other.

Net 32-128-128-9, batch 64, Adam, smooth L1, uniform sampling from a buffer of 100,000; one thread
each, the same OpenBLAS kernels each: those that bench-dqn chooses with the presets unset, which
PyTorch is then given, because it would not choose them itself on every processor; and once more as
it is installed. The best of several turns each.
Prints 'figure updates_vs_torch_ratio VALUE ratio', or 'skip' with the reason.
"""
import argparse
import ctypes
import os
import re
import subprocess
import sys
import time

INPUTS, HIDDEN, ACTIONS, BATCH, CAPACITY = 32, 128, 9, 64, 100_000
ROUNDS, STEPS = 10, 300
TURNS = 3
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRESETS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def torch_updates_per_s():
    """Best of several rounds, as bench-dqn measures itself."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(1)

    def make():
        return nn.Sequential(
            nn.Linear(INPUTS, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, ACTIONS))

    online, target = make(), make()
    target.load_state_dict(online.state_dict())
    adam = torch.optim.Adam(online.parameters(), lr=2.5e-4)
    states = torch.randn(CAPACITY, INPUTS)
    next_states = torch.randn(CAPACITY, INPUTS)
    actions = torch.randint(ACTIONS, (CAPACITY, 1))
    returns = torch.randn(CAPACITY)
    discounts = torch.full((CAPACITY,), 0.99)

    def update():
        rows = torch.randint(CAPACITY, (BATCH,))
        with torch.no_grad():
            best = online(next_states[rows]).argmax(1, keepdim=True)
            value = target(next_states[rows]).gather(1, best).squeeze(1)
            goal = returns[rows] + discounts[rows] * value
        chosen = online(states[rows]).gather(1, actions[rows]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(chosen, goal)
        adam.zero_grad()
        loss.backward()
        adam.step()

    best_rate = 0.0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(STEPS):
            update()
        best_rate = max(best_rate, STEPS / (time.perf_counter() - begin))
    return best_rate


def torch_kernels():
    """The kernels of the OpenBLAS that PyTorch has loaded."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        paths = {line.split()[-1] for line in maps if "openblas" in line}
    for path in sorted(paths):
        library = ctypes.CDLL(path)
        library.openblas_get_corename.restype = ctypes.c_char_p
        return library.openblas_get_corename().decode()
    return "none"


def install():
    """With root and a mirror; apt's own lock keeps two of them apart."""
    print("installing python3-torch (about a gigabyte with what it needs)", flush=True)
    done = subprocess.run([os.path.join(ROOT, "vendor", "install"), "bench"], check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def measure_ours(program, environment):
    out = subprocess.run([program, "--updates-only"], env=environment, check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return (float(re.search(r"figure updates_per_s (\S+)", out).group(1)),
            re.search(r"on kernels (\w+)", out).group(1))


def measure_torch(environment):
    out = subprocess.run([sys.executable, os.path.abspath(__file__), "--child"], check=True,
                         env=environment, stdout=subprocess.PIPE, text=True).stdout
    rate, kernels = out.split()
    return float(rate), kernels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default=os.environ.get("EBBTIDE_BUILD", "build"),
                        help="build folder (default: $EBBTIDE_BUILD or build)")
    parser.add_argument("--install", action="store_true",
                        help="install Debian's python3-torch when it is missing")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        rate = torch_updates_per_s()
        print(rate, torch_kernels())
        return 0
    failed = install() if options.install and not has_torch() else None
    if not has_torch():
        print("skip updates_vs_torch_ratio: " + (failed or "python3-torch is not installed (run "
              "tests/bench/torch_compare.py --install as root)"))
        return 0
    program = os.path.join(options.build, "tests", "bench-dqn")
    environment = {name: value for name, value in os.environ.items() if name not in PRESETS}
    environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
    ours = theirs = plain = 0.0
    try:
        # In turns, so that a busy minute of the machine is not one side's alone.
        for _ in range(TURNS):
            rate, kernels = measure_ours(program, environment)
            ours = max(ours, rate)
            rate, used = measure_torch({**environment, "OPENBLAS_CORETYPE": kernels})
            theirs = max(theirs, rate)
            rate, own = measure_torch(environment)
            plain = max(plain, rate)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"torch_compare: {program}: {error}; build it with make tests", file=sys.stderr)
        return 1
    print(f"presets unset; one thread each; kernels: ours {kernels}, PyTorch's {used}: ours "
          f"{ours:.0f}/s, PyTorch {theirs:.0f}/s, on its own choice {own} {plain:.0f}/s; the best "
          f"of {TURNS} turns")
    print(f"figure torch_updates_per_s {theirs:.0f} 1/s")
    print(f"figure updates_vs_torch_ratio {ours / theirs:.2f} ratio")
    print(f"figure updates_vs_torch_as_installed_ratio {ours / plain:.2f} ratio")
    return 0


if __name__ == "__main__":
    sys.exit(main())
