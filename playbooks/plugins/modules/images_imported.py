"""Ansible module: containerd holds every image of some OCI archives.

An archive's index names its images and the digests of their manifests, containerd says the same of
those it has. Only an archive with an image that is missing or different is imported, so no marker
has to be kept and a removed image comes back. Standard library only, since it runs with the node's
own Python.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: images_imported
short_description: containerd holds every image of some OCI archives
description:
  - Imports archives whose images containerd does not have, or has with other contents.
options:
  archives:
    description: Paths of OCI archives on the node.
    type: list
    elements: path
    required: true
  namespace:
    description: containerd's namespace; the kubelet uses the default.
    type: str
    default: k8s.io
"""

NAME = "io.containerd.image.name"
IMPORT_TIMEOUT_S = 300
LIST_TIMEOUT_S = 60


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "archives": {"type": "list", "elements": "path", "required": True},
            "namespace": {"type": "str", "default": "k8s.io"},
        },
        supports_check_mode=True,
    )
    namespace = module.params["namespace"]
    try:
        archives = {path: images_of(path) for path in module.params["archives"]}
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        module.fail_json(msg=f"an archive of images cannot be read: {error}")
    present = held(module, namespace)
    missing = {path: lacking(images, present) for path, images in archives.items()}
    wanted = [path for path, names in missing.items() if names]
    if not module.check_mode:
        for path in wanted:
            imported(module, namespace, path)
    names = sorted(name for path in wanted for name in missing[path])
    module.exit_json(changed=bool(wanted), imported=names, diff=difference(names))


def images_of(path: str) -> dict[str, str]:
    """Name → digest of the manifest, from the archive's index."""
    with tarfile.open(path, "r:") as archive:
        file = archive.extractfile("index.json")
        if file is None:
            raise ValueError(f"{path}: index.json is no file")
        index = json.loads(file.read())
    return {entry["annotations"][NAME]: entry["digest"] for entry in index["manifests"]}


def held(module: AnsibleModule, namespace: str) -> dict[str, str]:
    """Name → digest of the manifest of every image that containerd has; empty while it is down."""
    argv = ["ctr", "-n", namespace, "images", "list"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=LIST_TIMEOUT_S
        )
    except FileNotFoundError:
        if module.check_mode:
            return {}
        raise
    if done.returncode and not module.check_mode:
        module.fail_json(msg=f"containerd does not list its images: {done.stderr.strip()}")
    return listed(done.stdout.splitlines())


def listed(lines: Iterable[str]) -> dict[str, str]:
    """What `ctr images list` prints: a heading, then name, type and digest in each line."""
    rows = [line.split() for line in lines]
    return {row[0]: row[2] for row in rows if len(row) > 2 and row[2].startswith("sha256:")}


def lacking(images: dict[str, str], present: dict[str, str]) -> list[str]:
    return [name for name, digest in images.items() if present.get(name) != digest]


def imported(module: AnsibleModule, namespace: str, path: str) -> None:
    done = subprocess.run(
        ["ctr", "-n", namespace, "images", "import", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=IMPORT_TIMEOUT_S,
    )
    if done.returncode:
        module.fail_json(msg=f"{path} could not be imported: {done.stderr.strip()}")


def difference(names: list[str]) -> dict[str, str]:
    return {"before": "", "after": "".join(f"image {name}\n" for name in names)}


if __name__ == "__main__":
    main()
