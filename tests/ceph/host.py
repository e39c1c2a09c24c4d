"""Make this machine able to run the tests on Ceph: `python -m tests.ceph.host`.

Installs Debian's daemons and the Python binding where they are missing, with apt as root, and
starts none of them: the tests run daemons of their own. Where it cannot, it says why and succeeds;
the tests are then skipped, with that reason. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ceph.cluster import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-common", "python3-rados")
BINDING = "/usr/lib/python3/dist-packages"
# Asked by maintainer scripts whether a service may be started; 101 is no.
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_NEVER = "#!/bin/sh\nexit 101\n"


def lacking() -> list[str]:
    """What the tests need and this machine has not."""
    found = [name for name in PROGRAMS if shutil.which(name) is None]
    if not list(Path(BINDING).glob("rados.cpython-*.so")):
        found.append("python3-rados")
    return found


def obstacle(packages: tuple[str, ...] = PACKAGES) -> str:
    """Why these cannot be installed here; empty when they can."""
    if shutil.which("apt-get") is None:
        return "this is no Debian"
    if os.geteuid() != 0:
        return f"installing needs root (apt-get install {' '.join(packages)})"
    return ""


@contextmanager
def no_service_started() -> Iterator[None]:
    """Keep the packages from starting what they install. A policy that is there stays."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text(POLICY_NEVER, encoding="ascii")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink()


def install(packages: tuple[str, ...] = PACKAGES) -> None:
    """Raises subprocess.CalledProcessError, its output shown."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_service_started():
        for argv in (("update", "-q"), ("install", "-qy", "--no-install-recommends", *packages)):
            done = subprocess.run(
                ["apt-get", *argv],
                env=quiet,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode:
                print("\n".join(done.stdout.splitlines()[-12:]))
                done.check_returncode()
    # It would report crashes to a cluster that this machine does not have.
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "--quiet", "ceph-crash.service"], check=False)


def main() -> int:
    if missing := lacking():
        if why := obstacle():
            print(f"ceph: {', '.join(missing)} missing, and {why}: its tests are skipped")
            return 0
        print(f"ceph: installing {' '.join(PACKAGES)} with apt, no service is started")
        began = time.monotonic()
        try:
            install()
        except subprocess.CalledProcessError as error:
            print(f"ceph: {error}", file=sys.stderr)
            return 1
        # Debian's binding is linked into the environment.
        subprocess.run([ROOT / "scripts" / "venv", "test"], check=True)
        print(f"ceph: installed after {time.monotonic() - began:.0f} s")
    print("ceph: its daemons and the binding are here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
