"""A small engine that runs our Pulumi program where the `pulumi` command is not installed.

It serves the two gRPC services a Pulumi program talks to (`monitor`), drives the program's
provider plugins (`plugins`) through check → diff → create, update, replace or delete (`steps`,
`deletion`, `refresh`), and keeps the stack in Pulumi's own deployment format (`state`), so that a
stack moves to the real command and back with `stack export` and `stack import`. It implements what
our program uses and refuses the rest by name. `operations` is what the command line calls.
"""
