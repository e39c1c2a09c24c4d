"""Artefacts: all that a deployment is made of, from declaration to file.

    manifest.in ─ declaration ─► builder ─┬─ wheels       locked Python packages for the guest
                                          ├─ source       our own wheel, of this tree
                                          ├─ environment  both as one archive for nodes
                                          ├─ debian       closures of Debian packages
                                          ├─ golang       programs from Go modules, reproducibly
                                          └─ images       container images, without a registry
                                                │
                                             storage      content-addressed, second build in seconds
                                                │
                                             listing      name, version, source, size, SHA-256
                                                │
                                             trust        who signed it, and who may

Nothing here touches a node or needs root. What the network was asked once is remembered, so that a
build from a filled cache needs no network at all.
"""
