"""Deployments on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints

from tunesmith.schemas.users import DisplayName
from tunesmith.schemas.wire import Status, Time, Wire

MOST_REPLICAS = 1

WITHOUT_EFFECT = {
    "acceleratorCount": "hardware is this machine's",
    "acceleratorType": "hardware is this machine's",
    "autoTune": "the engine tunes nothing by itself",
    "autoscalingPolicy": "a deployment has one replica, or none when it is scaled to zero",
    "deploymentShape": "hardware is this machine's",
    "deploymentTemplate": "hardware is this machine's",
    "directRouteApiKeys": "every model is reached through the gateway",
    "directRouteType": "every model is reached through the gateway",
    "disableDeploymentSizeValidation": "no size is checked",
    "enableAddons": "adapters of a base model are served beside it without it",
    "enableHotLoad": "adapters are loaded while the engine runs without it",
    "enableHotReloadLatestAddon": "adapters are loaded while the engine runs without it",
    "enableSessionAffinity": "there is one replica",
    "expireTime": "a deployment stays until it is deleted",
    "maxWithRevocableReplicaCount": "there is one replica",
    "placement": "there is one place, this machine",
    "region": "there is one place, this machine",
    "preemptible": "nothing preempts it",
    "pricingPlanId": "nothing is billed",
}
"""Fields that published clients send and that change nothing here, with the reason. Any other unknown field is refused."""


class DeploymentInput(Wire):
    """Body of a create or update."""

    model_config = ConfigDict(extra="allow")

    base_model: str | None = None
    display_name: DisplayName = ""
    description: Annotated[str, StringConstraints(max_length=999)] = ""
    min_replica_count: int | None = Field(default=None, ge=0)
    max_replica_count: int | None = Field(default=None, ge=0)


class DeploymentScale(Wire):
    """Body of `:scale`."""

    replica_count: int = Field(ge=0)


class ReplicaStats(Wire):
    """How many replicas are where."""

    initializing_replica_count: int = 0
    ready_replica_count: int = 0


class Deployment(Wire):
    """A deployment as the API shows it."""

    name: str
    display_name: str = ""
    description: str = ""
    base_model: str
    state: str
    status: Status
    min_replica_count: int
    max_replica_count: int
    desired_replica_count: int
    replica_count: int
    replica_stats: ReplicaStats
    notes: list[dict[str, Any]] = []
    """Options that were accepted without effect, with the reason."""
    create_time: Time
    update_time: Time
