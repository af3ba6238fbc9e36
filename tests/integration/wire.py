# SPDX-License-Identifier: Apache-2.0
"""As much of protobuf and of agent/common/wire.proto as tests need: reports out, answers in."""
import os
import re
import struct

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../agent/common/state.h"),
          encoding="utf-8") as _table:
    _table = _table.read()
STATE_SCHEMA = int(re.search(r"^#define STATE_SCHEMA (\d+)", _table, re.M)[1])
FEATURES = re.findall(r"^\tX\((\w+), -?[\d.]+, ", _table, re.M)
STATE_SIZE = len(FEATURES)


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def text(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def floats(field, values):
    return text(field, struct.pack(f"<{len(values)}f", *values))


def sample(millicores=500, over=0, memory=100 << 20, latency_us=9000, throttled_us=0):
    return (double(1, 1) + number(2, 100) + number(3, over) + double(8, latency_us) +
            number(10, 100000) + number(12, throttled_us) + number(17, 30 << 20) + number(21, 1) + double(22, millicores) +
            number(23, memory))


def unit(service="fibonacci", namespace="default", state=None, decide=True, experience=True,
         starting=0, **measured):
    state = [0.0] * STATE_SIZE if state is None else state
    out = (text(1, namespace) + text(2, service) + text(3, sample(**measured)) +
           floats(4, state) + number(6, int(decide)) + double(7, 1000) + number(8, 128 << 20) + number(10, starting))
    if experience:
        out += text(5, floats(1, state) + number(2, 4) + varint(3 << 3 | 5) +
                    struct.pack("<f", -0.5) + floats(4, state))
    return out


def report(sequence, units, agent="node", schema=STATE_SCHEMA, incarnation=1):
    return (number(1, schema) + text(2, agent) + number(3, incarnation) + number(4, sequence) +
            b"".join(text(6, one) for one in units))


def action(service, millicores, memory, name=1, namespace="default", kind=0xffffffff):
    return (text(1, namespace) + text(2, service) + number(3, kind) + number(4, 1) +
            double(5, millicores) + number(6, memory) + text(7, "dqn") + text(8, "bounds") +
            text(11, "a test says so") + number(12, name))


def answer(sequence, actions=(), count=1, learner=1):
    return (number(1, sequence) + b"".join(text(2, one) for one in actions) + number(3, count) +
            number(4, learner))


def fields(data):
    """[(field, value)]: numbers as int, fixed ones as bytes, the rest as bytes."""
    out, at = [], 0

    def take():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        tag = take()
        kind = tag & 7
        if kind == 0:
            out.append((tag >> 3, take()))
            continue
        size = take() if kind == 2 else {1: 8, 5: 4}[kind]
        assert at + size <= len(data), "cut short"
        out.append((tag >> 3, data[at:at + size]))
        at += size
    return out


def read_answer(data):
    """{sequence, number, learner, actions: [{service, action, apply, millicores, memory, ...}]}"""
    top = fields(data)
    head = dict(top)
    actions = []
    for field, value in top:
        if field != 2:
            continue
        one = dict(fields(value))
        actions.append({"service": one.get(2, b"").decode(), "action": one.get(3, 0),
                        "apply": bool(one.get(4, 0)),
                        "millicores": struct.unpack("<d", one.get(5, bytes(8)))[0],
                        "memory": one.get(6, 0), "rule": one.get(8, b"").decode(),
                        "why": one.get(11, b"").decode(), "number": one.get(12, 0)})
    return {"sequence": head.get(1, 0), "number": head.get(3, 0), "learner": head.get(4, 0),
            "actions": actions}
