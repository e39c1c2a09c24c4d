"""ZooKeeper: three servers, each on a node of its own with its data there, mutual TLS throughout.

The image holds Java and the jars and no shell, so the whole command line is here. A server learns
its number from a file that is mounted by the name of its pod. There is no HTTP to probe: a server
counts as up when its port is open, and the next one is renewed only when it has been so for a
while.
"""

from __future__ import annotations

from pulumi import Input

from objectstore_infra.workloads import pods
from objectstore_infra.workloads.names import (
    LOCAL_STORAGE,
    NAMESPACE,
    ZOOKEEPER,
    ZOOKEEPER_PORT,
    described,
    labels,
    zookeeper_image,
    zookeeper_servers,
)

SERVERS = 3
PEER_PORT, ELECTION_PORT = 2888, 3888
TICK_MS = 1000
HEAP_MIB = 96
DATA = "/var/lib/zookeeper"
NODE_DATA = "/var/lib/objectstore/zookeeper"
VOLUME_SIZE = "4Gi"
SETTLED_S = 10
TLS = "/etc/zookeeper/tls"
SETTINGS = "/etc/zookeeper/zoo.cfg"
LOGGING = "/etc/zookeeper/logback.xml"
SERVER_TLS = "zookeeper-tls"
JARS = (
    "zookeeper", "zookeeper-jute", "netty-buffer", "netty-codec", "netty-common", "netty-handler",
    "netty-resolver", "netty-transport", "netty-transport-native-epoll",
    "netty-transport-native-unix-common", "slf4j-api", "logback-classic", "logback-core",
    "commons-io", "commons-cli", "metrics-core", "snappy-java",
)  # fmt: skip
RESOURCES = pods.Resources(cpu="50m", memory="160Mi", memory_max="256Mi")

_LOGGING = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <!-- Each probe opens a connection and says nothing: an error to this class, whatever the cause.
       A client whose handshake fails says so itself. -->
  <logger name="org.apache.zookeeper.server.NettyServerCnxnFactory" level="OFF"/>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""


def files() -> dict[str, str]:
    """Return the ConfigMap's files: settings, logging, and each pod's number under its name."""
    numbers = {name: f"{place}\n" for place, name in enumerate(zookeeper_servers(SERVERS), 1)}
    return {"zoo.cfg": _settings(), "logback.xml": _LOGGING, **numbers}


def service() -> pods.Spec:
    """Return the Service that names each server, ready or not: they find each other by it."""
    ports = {"client": ZOOKEEPER_PORT, "peer": PEER_PORT, "election": ELECTION_PORT}
    return {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": labels(ZOOKEEPER),
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
    }


def stateful_set(configuration: Input[str], sealed: Input[str]) -> pods.Spec:
    """Return the servers; `configuration` is the name of the ConfigMap with `files`."""
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": LOCAL_STORAGE,
            "resources": {"requests": {"storage": VOLUME_SIZE}},
        },
    }
    return {
        "serviceName": ZOOKEEPER,
        "replicas": SERVERS,
        "podManagementPolicy": "Parallel",  # one alone has no quorum and never gets ready
        "minReadySeconds": SETTLED_S,
        "selector": {"matchLabels": labels(ZOOKEEPER)},
        "template": pods.template(
            ZOOKEEPER,
            [_container()],
            [
                {"name": "configuration", "configMap": {"name": configuration}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
                pods.secret_volume(SERVER_TLS),
            ],
            sealed,
            affinity=pods.one_a_node(ZOOKEEPER),
            stop_s=20,
            critical=True,
        ),
        "volumeClaimTemplates": [claim],
    }


def volume(node: str) -> pods.Spec:
    """Return the volume on a node; it exists as a folder there before."""
    here = {"key": pods.HOST, "operator": "In", "values": [node]}
    return {
        "capacity": {"storage": VOLUME_SIZE},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": LOCAL_STORAGE,
        "volumeMode": "Filesystem",
        "local": {"path": NODE_DATA},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }


def disruption_budget() -> pods.Spec:
    """Two of three are a quorum."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": labels(ZOOKEEPER)}}


def metadata() -> pods.Spec:
    """Return the labels of its objects."""
    return {"namespace": NAMESPACE, "labels": described(ZOOKEEPER)}


def _container() -> pods.Spec:
    listening = {"tcpSocket": {"port": ZOOKEEPER_PORT}}
    class_path = ":".join(["/etc/zookeeper", *(f"/usr/share/java/{jar}.jar" for jar in JARS)])
    return {
        "name": ZOOKEEPER,
        "args": [
            # It has little to do, and less to compile before it does it.
            "-XX:TieredStopAtLevel=1",
            f"-Dlogback.configurationFile={LOGGING}",
            f"-Djava.io.tmpdir={pods.SCRATCH}",
            "-Dzookeeper.admin.enableServer=false",
            "-cp",
            class_path,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            SETTINGS,
        ],
        "env": [pods.from_field("POD_NAME", "metadata.name")],
        "ports": [
            {"name": "client", "containerPort": ZOOKEEPER_PORT},
            {"name": "peer", "containerPort": PEER_PORT},
            {"name": "election", "containerPort": ELECTION_PORT},
        ],
        "resources": RESOURCES.specification(),
        "volumeMounts": [
            {"name": "configuration", "mountPath": SETTINGS, "subPath": "zoo.cfg"},
            {"name": "configuration", "mountPath": LOGGING, "subPath": "logback.xml"},
            {"name": "data", "mountPath": DATA},
            {"name": "configuration", "mountPath": f"{DATA}/myid", "subPathExpr": "$(POD_NAME)"},
            {"name": "scratch", "mountPath": pods.SCRATCH},
            {"name": SERVER_TLS, "mountPath": TLS, "readOnly": True},
        ],
        "startupProbe": {**listening, "periodSeconds": 1, "failureThreshold": pods.START_S_MAX},
        "readinessProbe": {**listening, "periodSeconds": 5},
        "livenessProbe": {**listening, "periodSeconds": 10, "failureThreshold": 6},
        **pods.contained(zookeeper_image()),
    }


def _settings() -> str:
    domain = f"{ZOOKEEPER}.{NAMESPACE}.svc.cluster.local"
    lines = {
        "tickTime": TICK_MS,
        "initLimit": 20,
        # Ticks of a leader's silence after which the others elect another.
        "syncLimit": 3,
        "minSessionTimeout": 2 * TICK_MS,
        "dataDir": DATA,
        "autopurge.snapRetainCount": 3,
        "autopurge.purgeInterval": 1,
        "standaloneEnabled": "false",
        # For connections to elect by, in ms.
        "cnxTimeout": TICK_MS,
        # To end a session of TLS with one that stands still takes seconds: not before the election.
        "learner.closeSocketAsync": "true",
        "leader.closeSocketAsync": "true",
        "secureClientPort": ZOOKEEPER_PORT,
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "sslQuorum": "true",
        # Epochs in the logs decide who owns a shard, and what lies here is made again from them: a
        # flush for each change would only wait behind those of Ceph.
        "forceSync": "no",
    }
    for side in ("ssl", "ssl.quorum"):
        lines |= {
            f"{side}.keyStore.location": f"{TLS}/server.pem",
            f"{side}.trustStore.location": f"{TLS}/ca.pem",
            f"{side}.clientAuth": "need",
        }
    # Who holds a certificate of this authority belongs to the store; pods have no lasting address.
    lines["ssl.quorum.hostnameVerification"] = "false"
    for place, name in enumerate(zookeeper_servers(SERVERS), 1):
        lines[f"server.{place}"] = f"{name}.{domain}:{PEER_PORT}:{ELECTION_PORT}"
    return "".join(f"{key}={value}\n" for key, value in lines.items())
