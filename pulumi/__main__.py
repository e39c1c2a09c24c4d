"""The Pulumi program: one object store, from the stack's configuration."""

from objectstore_infra.components.object_store import ObjectStore
from objectstore_infra.stack_config import read_spec

ObjectStore.deploy(read_spec())
