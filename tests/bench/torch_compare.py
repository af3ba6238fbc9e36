#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Time one Double DQN update in PyTorch and compare it with bench-dqn's, one after the other.

Net 32-128-128-9, batch 64, Adam, smooth L1, uniform sampling from a buffer of 100,000; one thread
each, the same OpenBLAS kernels each: those that bench-dqn chooses with the presets unset.
Prints 'figure updates_vs_torch_ratio VALUE ratio', or 'skip' with the reason.
"""
import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time

INPUTS, HIDDEN, ACTIONS, BATCH, CAPACITY = 32, 128, 9, 64, 100_000
ROUNDS, STEPS = 10, 300


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", default=os.environ.get("EBBTIDE_BUILD", "build"),
                        help="build folder (default: $EBBTIDE_BUILD or build)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(torch_updates_per_s())
        return 0
    if importlib.util.find_spec("torch") is None:
        print("skip updates_vs_torch_ratio: python3-torch is not installed "
              "(apt-get install python3-torch)")
        return 0
    program = os.path.join(options.build, "tests", "bench-dqn")
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    environment["OMP_NUM_THREADS"] = environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        ours = subprocess.run([program, "--updates-only"], env=environment, check=True,
                              stdout=subprocess.PIPE, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"torch_compare: {program}: {error}; build it with make tests", file=sys.stderr)
        return 1
    rate = float(re.search(r"figure updates_per_s (\S+)", ours).group(1))
    kernels = re.search(r"on kernels (\w+)", ours).group(1)
    environment["OPENBLAS_CORETYPE"] = kernels
    theirs = float(subprocess.run([sys.executable, os.path.abspath(__file__), "--child"],
                                  env=environment, check=True, stdout=subprocess.PIPE,
                                  text=True).stdout)
    print(f"presets unset for both; kernels {kernels}, one thread: ours {rate:.0f}/s, "
          f"PyTorch {theirs:.0f}/s")
    print(f"figure torch_updates_per_s {theirs:.0f} 1/s")
    print(f"figure updates_vs_torch_ratio {rate / theirs:.2f} ratio")
    return 0


if __name__ == "__main__":
    sys.exit(main())
