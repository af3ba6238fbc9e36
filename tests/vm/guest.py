# SPDX-License-Identifier: Apache-2.0
"""A guest: an initramfs of this machine's own files, booted under QEMU with a given kernel.

Emulated in software, so it runs anywhere, /dev/kvm or not; pure cgroup v2. Both processors run in one
thread of the machine: with a thread each QEMU 7.2 loses interrupts now and then, and it is no faster
where the machine has no cores to spare. The kernel's messages go to the first serial port.
"""
import os
import re
import shlex
import shutil
import signal
import subprocess

QEMU = "qemu-system-x86_64"

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/usr/sbin:/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmp /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
{body}
poweroff -f
"""

# What these commands print goes to the second serial port.
COMMANDS = """mount -t tmpfs tmp /tmp
stty -F /dev/ttyS1 -opost
(
{commands}
) </dev/null >/dev/ttyS1 2>&1"""


class GuestError(Exception):
    """Why a guest cannot be built or did not end by itself."""


def libraries(program):
    """The shared libraries of an ELF file, the loader among them, as paths."""
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, check=False).stdout
    missing = re.findall(r"^\s*(\S+) => not found", listed, re.M)
    if missing:
        raise GuestError(f"{program}: no {missing[0]} on this machine")
    return re.findall(r"(/\S+) \(0x", listed)


class Image:
    """The guest's file system in a folder, until pack() makes an initramfs of it."""

    def __init__(self, folder):
        self.root, self.copied = f"{folder}/root", set()
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("bin", "proc", "sys", "dev", "tmp"):
            os.makedirs(f"{self.root}/{name}")
        self.add("/bin/busybox", "/bin/busybox")

    def add(self, source, target=None):
        """A file at the same or another place in the guest, with the libraries it links."""
        target = target or source
        if target in self.copied:
            return
        self.copied.add(target)
        os.makedirs(os.path.dirname(self.root + target), exist_ok=True)
        shutil.copy(source, self.root + target)
        with open(source, "rb") as file:
            if file.read(4) == b"\x7fELF":
                for library in libraries(source):
                    self.add(os.path.realpath(library), library)

    def add_folder(self, source, leave_out=()):
        """All files of a folder at the same place, but not those folders or files by these names."""
        for folder, folders, files in os.walk(source):
            folders[:] = [name for name in folders if name not in leave_out]
            os.makedirs(self.root + folder, exist_ok=True)
            for name in files:
                if name not in leave_out and os.path.exists(f"{folder}/{name}"):
                    self.add(f"{folder}/{name}")

    def pack(self, commands, initramfs):
        """@commands run one after another; each is followed by a line '# exit STATUS: command'."""
        lines = "".join(f"{c}\necho \"# exit $?: {shlex.quote(c)}\"\n" for c in commands)
        self.pack_body(COMMANDS.replace("{commands}", lines), initramfs)

    def pack_body(self, body, initramfs):
        """@body is what the guest's shell runs when it is up; then the guest goes off."""
        with open(f"{self.root}/init", "w", encoding="utf-8") as file:
            file.write(INIT.replace("{body}", body))
        os.chmod(f"{self.root}/init", 0o755)
        # Not compressed: an emulated processor unpacks slower than it loads.
        with open(initramfs, "wb") as out:
            names = subprocess.run(["find", "."], cwd=self.root, stdout=subprocess.PIPE,
                                   check=True).stdout
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=self.root, input=names,
                           stdout=out, check=True)
        shutil.rmtree(self.root)


class Guest:
    """One boot. start() returns at once, wait() when the guest has powered itself off."""

    def __init__(self, image, initramfs, output, memory_mib=1024, more=()):
        """@more: further arguments for QEMU."""
        self.console, self.output, self.child = f"{output}.console", output, None
        for old in (self.console, self.output):
            if os.path.exists(old):
                os.remove(old)
        self.arguments = [
            QEMU, "-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max",
            "-m", str(memory_mib), "-smp", "2", "-display", "none", "-monitor", "none",
            "-no-reboot", "-nic", "none", "-serial", f"file:{self.console}",
            "-serial", f"file:{self.output}", "-kernel", image, "-initrd", initramfs,
            "-append", "console=ttyS0 quiet panic=-1 psi=1 tsc=reliable",
            *more]

    def start(self):
        try:
            self.child = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except OSError as error:
            raise GuestError(f"{QEMU}: {error.strerror}") from error

    def wait(self, timeout_s):
        """What the commands printed. GuestError when QEMU failed or the guest went on too long."""
        try:
            error = self.child.communicate(timeout=timeout_s)[1].decode(errors="replace")
        except subprocess.TimeoutExpired as late:
            raise GuestError(f"no end after {timeout_s} s") from late
        finally:
            self.end()
        if self.child.returncode != 0:
            raise GuestError(f"QEMU ended with {self.child.returncode}: {error.strip()[-300:]}")
        return self.text(self.output)

    def end(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()

    def console_tail(self, lines=20):
        return self.text(self.console).splitlines()[-lines:]

    @staticmethod
    def text(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read().replace("\r", "")
        except OSError:
            return ""
