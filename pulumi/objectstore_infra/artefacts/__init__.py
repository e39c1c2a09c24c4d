"""Artefacts: all that a deployment is made of besides our own source, from declaration to file.

    manifest.in ─ declaration ─► builder ─┬─ debian   closures of Debian packages
                                          ├─ golang   programs from Go modules, reproducibly
                                          ├─ wheels   locked Python packages for the guest
                                          └─ images   container images, written without a registry
                                                │
                                             storage  content-addressed, second build in seconds
                                                │
                                             listing  signed: name, version, source, size, SHA-256

Nothing here touches a node or needs root. What the network was asked once is remembered, so that a
build from a filled cache needs no network at all.
"""
