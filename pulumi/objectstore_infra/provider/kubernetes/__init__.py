"""The provider of `kubernetes:*` resources under the embedded engine.

The program declares its pods with pulumi-kubernetes' SDK. Under the `pulumi` command those
resources go to that package's own plugin; under the embedded engine they come here. Both apply on
the server, under a field manager, and understand the same annotations and settings as far as they
are used.

kinds       which kinds there are, where they lie in the API, what of them cannot change in place
api         one cluster's API: apply, read, delete, list; its refusals as errors of ours
changes     what differs between two sets of inputs; what somebody changed in the cluster
readiness   whether an object is what was asked for by now, and if not, why
objects     create, update, read and delete of one object: apply, wait, compare
server      the protocol of plugins on one side, `objects` on the other
"""

PACKAGE = "kubernetes"
VERSION = "4.34.2"
"""Of the SDK whose resources are understood."""
