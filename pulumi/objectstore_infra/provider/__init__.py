"""The Pulumi provider `objectstore`: what a store's deployment is made of, as resources.

values          Pulumi's property values ↔ plain Python
handler         what every resource kind declares and does; the diff, made from the declaration
server          dispatch of the protocol to the handlers; errors
engine_log      log lines to the engine
network         Network, AddressReservation
image           NodeImage
instance        Instance
identity        SshKey, Credentials, MasterKey
configuration   OperatorFiles, ConfigurationRun
kubernetes/     another provider: Kubernetes' own resources, under the embedded engine
"""

PACKAGE = "objectstore"
VERSION = "0.1.0"
