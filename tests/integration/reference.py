# SPDX-License-Identifier: Apache-2.0
"""What the pages in docs/ say of options, metrics, files and fields, for tests that compare it."""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def page(name):
    with open(f"{ROOT}/docs/{name}", encoding="utf-8") as file:
        return file.read()


def section(text, heading):
    """What stands below a heading, up to the next of its level or above."""
    level, rest = re.search(rf"^(#+) {re.escape(heading)}\n(.*)", text, re.M | re.S).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.M)[0]


def rows(text):
    """(names in the first cell, the whole row) of each row of the tables."""
    for row in re.findall(r"^\|.*\|$", text, re.M):
        names = re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[1])
        if names:
            yield names, row


def options(text):
    return {option for names, _ in rows(text) for name in names
            for option in re.findall(r"--[a-z][a-z-]*", name)}


def metrics(text):
    """{name: type}."""
    return {re.match(r"\w+", name)[0]: row.split("|")[2].strip()
            for names, row in rows(text) for name in names if name.startswith("ebbtide_")}


def files(text, written=False):
    """{name: mode} of a section of tree.md; @written: all may be."""
    return {name: 0o644 if written or "0644" in row else 0o444
            for names, row in rows(text) for name in names if re.fullmatch(r"[a-z]\w*", name)}
