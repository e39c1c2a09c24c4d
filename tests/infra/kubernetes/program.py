"""A program for the engine: a thing whose path is the kubeconfig's, and objects in that cluster.

`objects.json` holds what to declare; without it only the thing is. The kubeconfig is known once
the thing exists.
"""

import json
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes


class Thing(pulumi.CustomResource):
    """One file in the tiny provider's world."""

    path: pulumi.Output[str]

    def __init__(self, name: str) -> None:
        properties = {"name": name, "size": 1, "zone": "x", "path": None}
        options = pulumi.ResourceOptions(version="0.0.1")
        super().__init__("tiny:index:Thing", name, properties, options)


def main() -> None:
    """Declare what the file says."""
    thing = Thing("platform")
    wanted = json.loads(Path("objects.json").read_text())
    text = Path("kubeconfig").read_text()
    cluster = kubernetes.Provider("cluster", kubeconfig=thing.path.apply(lambda path: text))
    lies_in = thing if wanted["lies_in"] else None
    options = pulumi.ResourceOptions(provider=cluster, deleted_with=lies_in)
    metadata = {"name": "shown", "namespace": wanted["namespace"]}
    settings = kubernetes.core.v1.ConfigMap(
        "shown", metadata=metadata, data=wanted["data"], opts=options
    )
    kubernetes.core.v1.Secret(
        "hidden",
        metadata={"name": wanted["secret"], "namespace": settings.metadata["namespace"]},
        data={"key": pulumi.Output.secret(wanted["key"])},
        type="objectstore/test",
        opts=options,
    )


main()
