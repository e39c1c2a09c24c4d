"""The deployment of an object store: specification, planning, Pulumi components and provider.

Nothing here imports `objectstore_app`, nor the other way round except for the command line.
"""
