#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A gRPC service with one unary method, and its client, for benches.

usage: grpc_peer.py serve PORT
       grpc_peer.py call PORT COUNT [--concurrency N] [--errors] [--wait]

/bench.Echo/Say answers with what it got; a request of 'fail' gets status 13 (INTERNAL). With --wait
the client connects, makes one call a channel, prints 'warm' and waits for a line. It prints what
came of its calls as JSON.
"""
import argparse
import concurrent.futures
import json
import signal
import sys
import threading

import grpc

METHOD = "/bench.Echo/Say"


def say(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.INTERNAL, "as asked")
    return request


def serve(port):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4),
                         options=(("grpc.so_reuseport", 0),))
    handler = grpc.method_handlers_generic_handler(
        "bench.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    server.add_generic_rpc_handlers((handler,))
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        sys.exit(f"grpc_peer: port {port} is taken")
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(1).wait()


def caller(port, count, errors, ready, go, results):
    """@count calls one after the other on a channel, and so a connection, of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        method = channel.unary_unary(METHOD)
        if go:
            method(b"warm")
            ready.release()
            go.wait()
        answered = failed = 0
        for i in range(count):
            try:
                method(b"fail" if errors and i % 10 == 0 else b"hello " * 10)
                answered += 1
            except grpc.RpcError:
                failed += 1
        results.append((answered, failed))


def call(port, count, concurrency, errors, wait):
    ready, go = threading.Semaphore(0), threading.Event() if wait else None
    results = []
    shares = [count // concurrency + (i < count % concurrency) for i in range(concurrency)]
    threads = [threading.Thread(target=caller, args=(port, share, errors, ready, go, results))
               for share in shares]
    for thread in threads:
        thread.start()
    if wait:
        for _ in threads:
            ready.acquire()
        print("warm", flush=True)
        sys.stdin.readline()
        go.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"completed": sum(a + f for a, f in results),
                      "errors": sum(f for _, f in results)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("serve", "call"))
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--wait", action="store_true")
    options = parser.parse_args()
    if options.what == "serve":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        serve(options.port)
    else:
        call(options.port, options.count, options.concurrency, options.errors, options.wait)


if __name__ == "__main__":
    main()
