"""The pods of a store, declared with pulumi-kubernetes: one module a workload.

store              the component: what is made in which order
names              what namespace, ports, labels and images are called
access             service accounts and what they may ask the API
keys               Secrets: certificates, the master key, Ceph's keys, the first administrator
settings           `service.toml` of each service, in ConfigMaps
traffic            network policies, from the declaration that the nodes' packet filter is made of
pods               what all pods have in common: security, volumes, probes, where they run
zookeeper          three servers with local volumes
metadata, iam, object_controller, atlas   the store's services

The specifications are plain functions of plain values that return Kubernetes' own structure, as its
documentation shows it; only `store` and `keys` know of Pulumi.
"""
