"""Ansible module: containerd forgets images of the bundles that nothing runs any more.

Only images below the bundles' own registry name are looked at. What a container on the node was
made from stays, and so do all images with one of the tags that are given. Standard library only,
since it runs with the node's own Python.
"""

from __future__ import annotations

import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: images_pruned
short_description: Remove images of bundles that nothing runs
description:
  - Removes images from containerd. Those that containers were made from stay.
options:
  tags:
    description: Versions whose images stay.
    type: list
    elements: str
    required: true
  registry:
    description: What the names of the images begin with.
    type: str
    default: objectstore.internal/
  namespace:
    description: containerd's namespace.
    type: str
    default: k8s.io
"""

TIMEOUT_S = 120


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "tags": {"type": "list", "elements": "str", "required": True},
            "registry": {"type": "str", "default": "objectstore.internal/"},
            "namespace": {"type": "str", "default": "k8s.io"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        names = ctr(params["namespace"], "images", "list", "--quiet").split()
        used = ctr(params["namespace"], "containers", "list").splitlines()
        unused = superseded(names, used_images(used), params["tags"], params["registry"])
        if unused and not module.check_mode:
            ctr(params["namespace"], "images", "remove", *unused)
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"containerd's images cannot be looked through: {error}")
    lines = "".join(f"image {name}\n" for name in unused)
    module.exit_json(changed=bool(unused), removed=unused, diff={"before": lines, "after": ""})


def ctr(namespace: str, *argv: str) -> str:
    done = subprocess.run(
        ["ctr", "-n", namespace, *argv],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return done.stdout


def used_images(lines: list[str]) -> set[str]:
    """What `ctr containers list` prints: a heading, then id, image and runtime in each line."""
    return {fields[1] for line in lines[1:] if len(fields := line.split()) > 1}


def superseded(names: list[str], used: set[str], tags: list[str], registry: str) -> list[str]:
    """The bundles' images that have another tag than is kept, in a version that something has.

    A `+` of a version reads `_` in a tag. An image stays that is the only one of its repository.
    """
    kept = {tag.replace("+", "_") for tag in tags}
    ours = [name for name in names if name.startswith(registry)]
    current = {name.rpartition(":")[0] for name in ours if is_kept(name, used, kept)}
    return [
        name
        for name in ours
        if not is_kept(name, used, kept) and name.rpartition(":")[0] in current
    ]


def is_kept(name: str, used: set[str], tags: set[str]) -> bool:
    return name in used or name.rpartition(":")[2] in tags


if __name__ == "__main__":
    main()
