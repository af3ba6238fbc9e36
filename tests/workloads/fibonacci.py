#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""fibonacci: a function whose argument sets its CPU cost.

GET /?n=18 or /fib/18 computes a Fibonacci number by plain recursion, a number of times that makes
one request cost about 1 ms at n = 18 and 3 ms at n = 20 (README.md); each step of n costs 1.6 times
as much. GET /healthz answers at once.
"""

import sys

import function_server
from function_server import HttpError

DEFAULT_N = 18
# The largest n whose request still ends within a few seconds.
MAX_N = 32
# One recursion at n = 18 takes only 0.2 ms on a current core.
ROUNDS = 5


def fibonacci(n):
    """The n-th Fibonacci number, the slow way: the cost is the point."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def handle(request, cost):
    """One request's (status, value)."""
    if request.path.startswith("/fib/"):
        query = {"n": request.path[len("/fib/"):]}
    elif request.path == "/":
        query = request.query
    else:
        raise HttpError(404, f"no {request.path} here; GET /?n=18, /fib/18 or /healthz")
    if request.method != "GET":
        raise HttpError(405, f"{request.method} is not GET")
    n = function_server.whole_number(query, "n", DEFAULT_N, 0, MAX_N)
    value = 0
    for _ in range(cost * ROUNDS):
        value = fibonacci(n)
    return 200, {"n": n, "fibonacci": value}


def main():
    """Listen where HOST and PORT say."""
    arguments = function_server.parse_arguments(
        "fibonacci.py", "HTTP function with a CPU cost set by its argument: GET /?n=18")
    return function_server.serve("fibonacci.py", handle, arguments.host, arguments.port)


if __name__ == "__main__":
    sys.exit(main())
