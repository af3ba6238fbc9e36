# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernels by name: downloaded once, unpacked, never installed.

A kernel is looked for with apt in a folder of its own, so the machine's package lists and sources stay
as they are; the mirror is the one the machine itself uses. What is kept is only the image.
"""
import collections
import contextlib
import fcntl
import glob
import os
import re
import shutil
import subprocess
import tempfile
import time

# Name -> suites, the first that has a cloud kernel is taken. "newest" is whatever they bring.
SUITES = {
    "5.10": ["bullseye-security", "bullseye"],
    "6.1": ["bookworm-security", "bookworm"],
    "6.12": ["trixie-security", "trixie"],
    "newest": ["trixie-backports", "sid"],
}
MAIN_SUITES = {"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid",
               "bullseye", "bookworm", "trixie", "forky", "duke"}
META_PACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ATTEMPTS, PAUSES_S = 3, (3, 10)

Kernel = collections.namedtuple("Kernel", "name image release")


class KernelError(Exception):
    """Why a kernel cannot be had, in one line."""


def cache_folder():
    """EBBTIDE_VM_CACHE, or in the user's cache: builds come and go, the kernels stay."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                           "ebbtide", "kernels")
    return os.path.abspath(os.environ.get("EBBTIDE_VM_CACHE") or default)


def command(arguments, **options):
    result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=dict(os.environ, LC_ALL="C"), check=False, **options)
    if result.returncode != 0:
        said = [line for line in result.stderr.splitlines() if line.startswith(("E:", "Err:"))]
        said = said or result.stderr.splitlines() or [f"exit {result.returncode}"]
        raise KernelError(f"{os.path.basename(arguments[0])} {arguments[-1]}: {said[0]}")
    return result.stdout


def mirrors():
    """(main, security) as the machine's own apt has them, or EBBTIDE_VM_MIRROR for both."""
    given = os.environ.get("EBBTIDE_VM_MIRROR")
    if given:
        given = given.rstrip("/")
        return given, f"{given}-security"
    with tempfile.TemporaryDirectory(prefix="ebbtide-apt-") as empty:
        uris = command(["apt-get", f"-oDir::State::lists={empty}", "--print-uris", "update"])
    main = security = None
    for base, suite in re.findall(r"^'(\S+?)/dists/([^/']+)(?:/updates)?/InRelease'", uris, re.M):
        if suite.endswith("-security"):
            security = security or base
        elif suite in MAIN_SUITES:
            main = main or base
    if not main:
        raise KernelError("this machine's apt has no Debian mirror; name one in EBBTIDE_VM_MIRROR")
    return main, security or f"{main}-security"


class Apt:
    """apt over one suite, with lists and cache in @folder."""

    def __init__(self, folder, suite):
        main, security = mirrors()
        os.makedirs(f"{folder}/lists/partial")
        os.makedirs(f"{folder}/cache/archives/partial")
        signed = f"signed-by={KEYRING}" if os.path.exists(KEYRING) else ""
        with open(f"{folder}/sources.list", "w", encoding="utf-8") as file:
            file.write(f"deb [arch=amd64 {signed}] "
                       f"{security if suite.endswith('-security') else main} {suite} main\n")
        # A suite that is no longer updated is as good as ever for a kernel to test on.
        self.options = [
            f"-oDir::Etc::sourcelist={folder}/sources.list", "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferences=/dev/null", "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State::lists={folder}/lists", "-oDir::State::status=/dev/null",
            f"-oDir::Cache={folder}/cache", "-oAcquire::Languages=none",
            "-oAcquire::Check-Valid-Until=false", "-oAcquire::http::Timeout=30",
            "-oAPT::Architecture=amd64", "-oAPT::Sandbox::User=root",
            "-oAPT::Update::Error-Mode=any", "-q"]
        command(["apt-get", *self.options, "update"])

    def dependency(self, package, prefix):
        found = re.findall(rf"^\s*Depends: ({re.escape(prefix)}\S+)$",
                           command(["apt-cache", *self.options, "depends", package]), re.M)
        return found[0] if found else None

    def download(self, package, folder):
        command(["apt-get", *self.options, "download", package], cwd=folder)
        return glob.glob(f"{folder}/{glob.escape(package)}_*.deb")[0]


def unpack(name, suite, target):
    """Put suite's newest cloud kernel into @target: vmlinuz and release."""
    with tempfile.TemporaryDirectory(prefix="ebbtide-kernel-") as folder:
        apt = Apt(f"{folder}/apt", suite)
        image = apt.dependency(META_PACKAGE, "linux-image-")
        if not image:
            raise KernelError(f"{suite} has no {META_PACKAGE}")
        if name != "newest" and not image.startswith(f"linux-image-{name}."):
            raise KernelError(f"{suite} has {image}, not a {name}")
        # Since 6.19 the image itself is a package that the linux-image one depends on.
        package = apt.dependency(image, "linux-binary-") or image
        command(["dpkg", "-x", apt.download(package, folder), f"{folder}/root"])
        found = (glob.glob(f"{folder}/root/boot/vmlinuz-*")
                 + glob.glob(f"{folder}/root/usr/lib/modules/*/vmlinuz"))
        if not found:
            raise KernelError(f"{package} has no vmlinuz")
        fresh = f"{target}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh)
        shutil.copy(found[0], f"{fresh}/vmlinuz")
        with open(f"{fresh}/release", "w", encoding="utf-8") as file:
            file.write(image.removeprefix("linux-image-") + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(fresh, target)


def cached(name):
    """The kernel that is here already, or None."""
    folder = os.path.join(cache_folder(), name)
    try:
        with open(f"{folder}/release", encoding="utf-8") as file:
            return Kernel(name, f"{folder}/vmlinuz", file.read().strip())
    except OSError:
        return None


@contextlib.contextmanager
def locked(name):
    os.makedirs(cache_folder(), exist_ok=True)
    with open(os.path.join(cache_folder(), f"{name}.lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def get(name, refresh=False, say=print):
    """The kernel of that name, downloaded if it is not here. KernelError after several attempts."""
    with locked(name):
        if not refresh and cached(name):
            return cached(name)
        for attempt in range(ATTEMPTS):
            errors = []
            for suite in SUITES[name]:
                try:
                    unpack(name, suite, os.path.join(cache_folder(), name))
                    return cached(name)
                except (KernelError, OSError) as error:
                    errors.append(str(error))
                    say(f"# {name}, attempt {attempt + 1}: {error}")
            if attempt < ATTEMPTS - 1:
                time.sleep(PAUSES_S[attempt])
        raise KernelError("; ".join(errors))
