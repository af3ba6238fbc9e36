# SPDX-License-Identifier: Apache-2.0
"""A learner without agents: tests report to it in their place (wire.py)."""
import http.client

import wire
from harness import FIBONACCI, Cluster, deployment, objective, wait_for


class Learner(Cluster):
    def __init__(self, *arguments, names=("fibonacci",), items=None):
        super().__init__(items or [deployment(n, 0, FIBONACCI) for n in names] +
                         [objective(n) for n in names])
        try:
            self.start_learner("--scale-period-s", "3600", *arguments)
            wait_for("the objectives", lambda: all(
                f'service="{n}"' in self.fetch(self.learner_port, "/metrics") for n in names))
        except BaseException:
            self.close()
            raise
        self.sequence = 0

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.learner_port, timeout=70)

    def report(self, *units, **head):
        self.sequence += 1
        return wire.report(self.sequence, units or [wire.unit()], **head)

    def metric(self, name):
        for line in self.fetch(self.learner_port, "/metrics").splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)


def post(connection, body, **headers):
    connection.request("POST", "/v1/report", body=body,
                       headers={k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    return response.status, response.read(), response


def with_learner(*arguments, **options):
    def decorate(test):
        def wrapped():
            learner = Learner(*arguments, **options)
            try:
                test(learner)
            finally:
                left = learner.close()
            assert not left, left
        wrapped.__name__ = test.__name__
        return wrapped
    return decorate
