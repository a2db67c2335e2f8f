"""Connects the processes of several hosts, so that JAX sees the devices of all, and says which of them are missing."""

import collections
import contextlib
import re
import signal
import socket
import subprocess
import sys
import time

import keras


def is_first_host():
    """Whether this host writes files and shows progress. Only one host does."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.process_index() == 0


def connect(hosts=None, host=None, coordinator=None, timeout=100):
    """Connects this process to those on other hosts, before anything else uses JAX.

    Without arguments, JAX asks SLURM or the TPU. Under SLURM, each process then gets one GPU.

    Args:
        hosts: number of processes.
        host: number of this one, from 0.
        coordinator: address and port of process 0, such as "10.0.0.1:4444".
        timeout: seconds to wait for a host, at the start and when it falls silent.

    Raises:
        ValueError: if Keras does not run on JAX, the arguments do not fit together, or hosts have different numbers of
            devices.
        TimeoutError: if some processes do not come. It names them.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Expected Keras on JAX for several hosts; it runs on {keras.backend.backend()}. Set KERAS_BACKEND=jax."
        )
    if hosts is not None:
        if host is None or not 0 <= host < hosts or not re.fullmatch(r".+:\d+", coordinator or ""):
            raise ValueError(
                f"Expected a host from 0 to {hosts - 1}, and the address and port of host 0, such as 10.0.0.1:4444; "
                f"got host {host} and {coordinator!r}."
            )
        _call_the_roll(hosts, host, coordinator, time.monotonic() + timeout)
    import jax

    names = "initialization_timeout", "heartbeat_timeout_seconds", "shutdown_timeout_seconds"
    options = dict.fromkeys(names, timeout)
    if hosts is not None:  # otherwise JAX would still ask a scheduler, and take one GPU of each host
        options["cluster_detection_method"] = "deactivate"
    jax.distributed.initialize(coordinator, hosts, host, **options)
    _check_even(jax.devices())


def _check_even(devices):
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        raise ValueError(f"Expected the same number of devices on every host; got {dict(sorted(counts.items()))}.")


def _call_the_roll(hosts, host, coordinator, deadline):
    """Waits until every process has come. JAX would abort instead, without a word about which one did not."""
    address, port = coordinator.rsplit(":", 1)
    if host:
        while True:
            try:
                with socket.create_connection((address, int(port)), max(0.1, deadline - time.monotonic())) as line:
                    line.sendall(f"{host}\n".encode())
                    answer = line.makefile().readline().strip()
                    break
            except OSError as error:  # process 0 is not there yet
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Expected host 0 at {coordinator}; it does not answer: {error}.") from error
                time.sleep(0.2)
        if answer != "all":
            raise TimeoutError(f"Expected {hosts} hosts; {answer or 'host 0 stopped waiting'}.")
        return
    lines = {}
    with socket.create_server(("", int(port))) as server:
        while len(lines) < hosts - 1 and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(OSError, ValueError):  # too late, or somebody else
                line, _ = server.accept()
                line.settimeout(5)
                lines[int(line.makefile().readline())] = line
    missing = [number for number in range(1, hosts) if number not in lines]
    answer = f"these did not come in time: {missing}" if missing else "all"
    for line in lines.values():
        with line:
            line.sendall(f"{answer}\n".encode())
    if missing:
        raise TimeoutError(f"Expected {hosts} hosts; {answer}.")


def watch(command):
    """Runs a process that talks to other hosts. If it ends because one of them has stopped, says how to resume.

    Args:
        command: strings.

    Returns:
        The exit code.
    """
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    errors = b""
    while chunk := process.stderr.read1():
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
        errors = (errors + chunk)[-100_000:]
    code = process.wait()
    if stopped := re.findall(rb"stopped sending heartbeats\):\s+([\d, ]+)", errors):
        print(
            f"Host {stopped[-1].decode().strip()} has stopped. Start the same command on every host again: the run "
            f"resumes from its last checkpoint.",
            file=sys.stderr,
        )
    return code
