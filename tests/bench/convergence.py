# SPDX-License-Identifier: Apache-2.0
"""What bench-convergence makes of the learner's journal: curves of reward, and when one has converged.

Two parts of a logged reward move while a service runs as it did, and hide what was learnt: it is taken
at the price of a violation, which adapts, and CPU is counted over a slow average of use, which lags
behind load and machine. So a curve's point is the reward's formula (docs/learning.md) over the sums of
its steps: at one price, and over what was used meanwhile.
"""
import math
import statistics

WINDOW = 50  # steps
BAND = 0.05
# The highest at which the network alone decides (agent/common/rung.c). At the one that an objective
# starts with, 0.5, a service that is always over its objective gets more than one that never is.
PRICE = 5.0
# As agent/common/state.c.
MEMORY, REPLICAS, REFILLS, SLACK_MOST = 0.2, 0.2, 0.003, 5


def violated(sample, target_us, percentile):
    asked = sample["requests"] + sample["requests_failed"]
    if not asked:
        return sample["in_flight"] >= 1 and sample["tick_s"] * 1e6 > target_us
    return (sample["requests_over"] + sample["requests_failed"]
            > (1 - percentile / 100) * asked)


def penalty(sample, target_us, percentile):
    """over + failure of docs/learning.md, 'Reward'."""
    asked = sample["requests"] + sample["requests_failed"]
    share = (sample["requests_over"] + sample["requests_failed"]) / asked if asked else 1
    failure = 1 if sample["oom_kills"] or sample["requests_failed"] else 0
    if not violated(sample, target_us, percentile):
        return failure + (0.25 * share / (1 - percentile / 100) if asked else 0)
    late = 0
    if sample["latency_objective_us"] > target_us:
        late = min(math.log2(sample["latency_objective_us"] / target_us) / 4, 1)
    return failure + 0.5 + 0.25 * late + 0.25 * min(1, share)


def step_of(line, replicas_max):
    """A journal's decision as a step of a curve: what the tick or period that ended with it was."""
    sample = line.get("sample") or line["period"]
    containers = max(1, sample["containers"])
    memory = sample["memory_limit_bytes"] * containers / max(1, sample["memory_working_set_bytes"])
    replicas = line.get("from_replicas", sample["containers"])
    step = {"allocated": sample["cpu_allocated_us"] / 1e6 / sample["tick_s"],
            "used": sample["cpu_used_us"] / 1e6 / sample["tick_s"],
            "other": MEMORY * min(SLACK_MOST, memory) + REPLICAS * replicas / replicas_max
                     + REFILLS * sample["refills"] / sample["tick_s"] / containers,
            "penalty": penalty(sample, line["target_us"], line["percentile"]),
            "violated": violated(sample, line["target_us"], line["percentile"]),
            "requests": sample["requests"], "tick_s": sample["tick_s"], "logged": line["reward"],
            "explored": line["explored"]}
    for name in ("from_rung", "from_millicores", "from_bytes", "from_replicas", "violation_price"):
        if name in line:
            step[name] = line[name]
    return step


def steps(lines, kind, replicas_max):
    """Of a journal's lines; what the agent learnt nothing from is no step."""
    return [step_of(line, replicas_max) for line in lines
            if line["kind"] == kind and line.get("reward") is not None and not line.get("pushed")]


def reward(part, needed=None, price=PRICE):
    """Of some steps together; CPU over @needed cores, or over what they used."""
    mean = lambda name: statistics.fmean(step[name] for step in part)
    needed = needed or mean("used")
    slack = min(SLACK_MOST, mean("allocated") / needed) if needed else SLACK_MOST
    return -(slack + mean("other") + price * mean("penalty")) / (1 + price)


class Curve:
    """Reward of the last WINDOW steps from step WINDOW on, and what it ends at: the last quarter."""

    def __init__(self, values, final):
        self.values, self.final = values, final

    @classmethod
    def of(cls, trial, whole_replicas):
        # Replicas are whole and fixed in size: they cannot follow the machine's speed of the minute.
        needed = statistics.fmean(step["used"] for step in trial) if whole_replicas else None
        return cls([reward(trial[end - WINDOW:end], needed)
                    for end in range(WINDOW, len(trial) + 1)],
                   reward(trial[-(len(trial) // 4):], needed))

    @classmethod
    def mean(cls, curves):
        """As far as all of them go."""
        return cls([statistics.fmean(values) for values in zip(*(c.values for c in curves))],
                   statistics.fmean(c.final for c in curves))

    def points(self):
        return [(WINDOW + i, value) for i, value in enumerate(self.values)]

    def converged(self):
        """The step from which on it stays within the band of its end; None: never."""
        outside = [i for i, value in enumerate(self.values)
                   if abs(value - self.final) > BAND * abs(self.final)]
        if not outside:
            return WINDOW
        return None if outside[-1] + 1 >= len(self.values) else WINDOW + outside[-1] + 1
