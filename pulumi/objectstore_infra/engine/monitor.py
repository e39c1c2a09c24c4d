"""The two gRPC services that a Pulumi program talks to, on loopback.

`ResourceMonitor` turns requests into `Goal`s for `steps`; whatever the engine does not implement
is refused by its name. `Engine` takes log lines, from the program and from provider plugins. They
have separate servers and threads: a provider logs from within a step, and must not wait for a
thread that other steps hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, Protocol

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

from .errors import EngineError, UnsupportedError
from .plugins import CHANNEL_OPTIONS
from .project import StackConfig
from .steps import Alias, Deployment, Goal
from .values import UNKNOWN, from_struct, to_struct

# The numbers of resource_pb2.ResourceMonitorFeature that this monitor implements.
FEATURES = (
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_OUTPUT_VALUES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
)
FEATURE_NAMES = frozenset(
    {"secrets", "resourceReferences", "outputValues", "aliasSpecs", "deletedWith"}
)
LOG_THREADS = 8
SEVERITIES = {0: "debug", 1: "info", 2: "warning", 3: "error"}


class LogSink(Protocol):
    """Takes log lines; `urn` may be empty."""

    def log(self, severity: str, urn: str, message: str) -> None:
        """One message of the program or of a provider."""


class EngineService(engine_pb2_grpc.EngineServicer):
    """Log lines, and the name of the stack's root resource."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._root_urn = ""
        self._server = grpc.server(
            ThreadPoolExecutor(LOG_THREADS, "engine"), options=CHANNEL_OPTIONS
        )
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def start(self) -> None:
        """Serve."""
        self._server.start()

    def stop(self) -> None:
        """Serve no longer."""
        self._server.stop(grace=1).wait()

    def Log(self, request: engine_pb2.LogRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """Show one message."""
        del context
        self._sink.log(SEVERITIES.get(request.severity, "info"), request.urn, request.message)
        return empty_pb2.Empty()

    def GetRootResource(
        self, request: engine_pb2.GetRootResourceRequest, context: grpc.ServicerContext
    ) -> engine_pb2.GetRootResourceResponse:
        """Give the URN of the root resource."""
        del request, context
        return engine_pb2.GetRootResourceResponse(urn=self._root_urn)

    def SetRootResource(
        self, request: engine_pb2.SetRootResourceRequest, context: grpc.ServicerContext
    ) -> engine_pb2.SetRootResourceResponse:
        """Note the URN of the root resource."""
        del context
        self._root_urn = request.urn
        return engine_pb2.SetRootResourceResponse()


class ResourceMonitor(resource_pb2_grpc.ResourceMonitorServicer):
    """The services a program registers its resources with."""

    def __init__(
        self,
        deployment: Deployment,
        project: str,
        stack: str,
        config: StackConfig,
        *,
        preview: bool,
        parallel: int,
    ) -> None:
        self._deployment = deployment
        self._info = resource_pb2.DeploymentInfo(
            project=project,
            stack=stack,
            organization="organization",
            config=config.values,
            configSecretKeys=sorted(config.secret_keys),
            dryRun=preview,
            parallel=parallel,
            supportedFeatures=FEATURES,
        )
        self._server = grpc.server(ThreadPoolExecutor(parallel, "step"), options=CHANNEL_OPTIONS)
        resource_pb2_grpc.add_ResourceMonitorServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def start(self) -> None:
        """Serve."""
        self._server.start()

    def stop(self) -> None:
        """Serve no longer; steps under way are cut off from the program."""
        self._server.stop(grace=None).wait()

    def GetDeploymentInfo(
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> resource_pb2.DeploymentInfo:
        """Tell the program which stack this is and what the engine can do."""
        del request, context
        return self._info

    def SupportsFeature(
        self, request: resource_pb2.SupportsFeatureRequest, context: grpc.ServicerContext
    ) -> resource_pb2.SupportsFeatureResponse:
        """Answer whether a feature, by its older name, is implemented."""
        del context
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in FEATURE_NAMES)

    def RegisterResource(
        self, request: resource_pb2.RegisterResourceRequest, context: grpc.ServicerContext
    ) -> resource_pb2.RegisterResourceResponse:
        """Bring one resource to what the program asks for."""
        try:
            goal = _goal(request)
        except UnsupportedError as error:
            self._refuse(context, f"{error.feature} ({request.type} {request.name})")
        try:
            row = self._deployment.register(goal)
        except EngineError as error:
            # The SDK shows this code as one clean line; others as a long traceback.
            context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        return resource_pb2.RegisterResourceResponse(
            urn=row.urn,
            id="" if row.id == UNKNOWN else row.id,
            object=to_struct(row.outputs if row.custom else {}),
        )

    def RegisterResourceOutputs(
        self,
        request: resource_pb2.RegisterResourceOutputsRequest,
        context: grpc.ServicerContext,
    ) -> empty_pb2.Empty:
        """Record the outputs of a component or the stack."""
        try:
            self._deployment.register_outputs(request.urn, from_struct(request.outputs))
        except UnsupportedError as error:
            self._refuse(context, f"{error.feature} (outputs of {request.urn})")
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """Let the program end: nothing calls back into it."""
        del request, context
        return empty_pb2.Empty()

    def Invoke(
        self, request: resource_pb2.ResourceInvokeRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse provider functions."""
        if request.tok == "pulumi:pulumi:getResource":
            self._refuse(context, "resources rehydrated by URN")
        self._refuse(context, f"provider functions ({request.tok})")

    def Call(
        self, request: resource_pb2.ResourceCallRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse methods on resources."""
        self._refuse(context, f"method calls on resources ({request.tok})")

    def ReadResource(
        self, request: resource_pb2.ReadResourceRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse reading what another stack owns."""
        kind = "stack references" if "StackReference" in request.type else "`get` of a resource"
        self._refuse(context, f"{kind} ({request.type} {request.name})")

    def ExistsResource(
        self, request: resource_pb2.ExistsResourceRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse asking for existence."""
        self._refuse(context, f"`exists` of a resource ({request.type})")

    def RegisterStackTransform(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Refuse stack transforms."""
        self._refuse(context, "stack transforms")

    def RegisterStackInvokeTransform(
        self, request: object, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse invoke transforms."""
        self._refuse(context, "invoke transforms")

    def RegisterResourceHook(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Refuse resource hooks."""
        self._refuse(context, "resource hooks")

    def RegisterErrorHook(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Refuse error hooks."""
        self._refuse(context, "error hooks")

    def RegisterPackage(
        self, request: resource_pb2.RegisterPackageRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        """Refuse parameterized providers."""
        self._refuse(context, f"parameterized providers ({request.name})")

    def _refuse(self, context: grpc.ServicerContext, feature: str) -> NoReturn:
        message = self._deployment.refuse(feature)
        context.abort(grpc.StatusCode.UNAVAILABLE, message)
        raise AssertionError  # abort raises; this tells the type checker


def _goal(request: resource_pb2.RegisterResourceRequest) -> Goal:
    for feature in _unsupported(request):
        raise UnsupportedError(feature)
    return Goal(
        type=request.type,
        name=request.name,
        custom=request.custom,
        parent=request.parent,
        inputs=from_struct(request.object),
        provider=request.provider,
        version=request.version,
        dependencies=list(request.dependencies),
        property_dependencies={
            key: sorted(row.urns) for key, row in request.propertyDependencies.items()
        },
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        deleted_with=request.deletedWith,
        delete_before_replace=(
            request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None
        ),
        ignore_changes=list(request.ignoreChanges),
        additional_secret_outputs=list(request.additionalSecretOutputs),
        aliases=[
            *(Alias(urn=urn) for urn in request.aliasURNs),
            *(_alias(alias) for alias in request.aliases),
        ],
    )


def _alias(alias: resource_pb2.RegisterResourceRequest) -> Alias:
    if alias.urn:
        return Alias(urn=alias.urn)
    spec = alias.spec
    if spec.stack or spec.project:
        raise UnsupportedError("aliases to another stack or project")
    return Alias(
        name=spec.name or None,
        type=spec.type or None,
        parent="" if spec.noParent else spec.parentUrn or None,
    )


def _unsupported(request: resource_pb2.RegisterResourceRequest) -> Iterator[str]:
    # An empty message is not false, so messages are asked for their size.
    asked = {
        "remote components": request.remote,
        "import of existing resources": request.importId,
        "parameterized providers": request.packageRef,
        "transforms": len(request.transforms),
        "resource hooks": request.hooks.ByteSize(),
        "custom_timeouts": request.customTimeouts.ByteSize(),
        "replace_on_changes": len(request.replaceOnChanges),
        "replace_with": len(request.replace_with),
        "replacement_trigger": request.HasField("replacement_trigger"),
        "hide_diffs": len(request.hideDiffs),
        "state migrations": len(request.state_migrations),
        "env_var_mappings": len(request.envVarMappings),
        "plugin_download_url": request.pluginDownloadURL,
        "plugin checksums": len(request.pluginChecksums),
    }
    return (feature for feature, is_asked in asked.items() if is_asked)
