"""Ansible module: containerd holds every image of some OCI layouts.

A layout's index names its images and the digests of their manifests, containerd says the same of
those it has. Only a layout with an image that is missing or different is imported, so no marker
has to be kept and a removed image comes back. A tag of the store's own image is one build: while a
container runs one, another build is refused under that tag, since which of the two a next pod ran
nobody could tell. Standard library only, since it runs with the node's
own Python.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: images_imported
short_description: containerd holds every image of some OCI layouts
description:
  - Imports layouts whose images containerd does not have, or has with other contents.
  - Fails where a container runs an image of O(one_build) that has other contents.
options:
  layouts:
    description: Folders on the node, each an OCI image layout.
    type: list
    elements: path
    required: true
  one_build:
    description: What the names of images begin with whose tags are one build each.
    type: str
    default: "objectstore.internal/objectstore:"
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
            "layouts": {"type": "list", "elements": "path", "required": True},
            "one_build": {"type": "str", "default": "objectstore.internal/objectstore:"},
            "namespace": {"type": "str", "default": "k8s.io"},
        },
        supports_check_mode=True,
    )
    namespace = module.params["namespace"]
    try:
        layouts = {path: images_of(path) for path in module.params["layouts"]}
    except (OSError, KeyError, ValueError) as error:
        module.fail_json(msg=f"a layout of images cannot be read: {error}")
    present = held(module, namespace)
    missing = {path: lacking(images, present) for path, images in layouts.items()}
    wanted = [path for path, names in missing.items() if names]
    other_builds = [
        name
        for names in missing.values()
        for name in names
        if name in present and name.startswith(module.params["one_build"])
    ]
    running = run_here(module, namespace) if other_builds else set()
    if taken := sorted(running.intersection(other_builds)):
        module.fail_json(
            msg=f"this node runs another build of {', '.join(taken)}: give the new one a version "
            "of its own (objectstore bundle build --version), and upgrade to that"
        )
    if not module.check_mode:
        for path in wanted:
            imported(module, namespace, path)
    names = sorted(name for path in wanted for name in missing[path])
    module.exit_json(changed=bool(wanted), imported=names, diff=difference(names))


def images_of(path: str) -> dict[str, str]:
    """Name → digest of the manifest, from the layout's index."""
    index = json.loads((Path(path) / "index.json").read_bytes())
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


def run_here(module: AnsibleModule, namespace: str) -> set[str]:
    """The names of the images that containers on the node were made from."""
    argv = ["ctr", "-n", namespace, "containers", "list"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIST_TIMEOUT_S)
    if done.returncode:
        module.fail_json(msg=f"containerd does not list its containers: {done.stderr.strip()}")
    return {fields[1] for line in done.stdout.splitlines() if len(fields := line.split()) > 1}


def lacking(images: dict[str, str], present: dict[str, str]) -> list[str]:
    return [name for name, digest in images.items() if present.get(name) != digest]


def imported(module: AnsibleModule, namespace: str, path: str) -> None:
    with subprocess.Popen(["tar", "-C", path, "-cf", "-", "."], stdout=subprocess.PIPE) as packing:
        done = subprocess.run(
            ["ctr", "-n", namespace, "images", "import", "-"],
            stdin=packing.stdout,
            capture_output=True,
            text=True,
            check=False,
            timeout=IMPORT_TIMEOUT_S,
        )
    if done.returncode or packing.returncode:
        module.fail_json(msg=f"{path} could not be imported: {done.stderr.strip()}")


def difference(names: list[str]) -> dict[str, str]:
    return {"before": "", "after": "".join(f"image {name}\n" for name in names)}


if __name__ == "__main__":
    main()
