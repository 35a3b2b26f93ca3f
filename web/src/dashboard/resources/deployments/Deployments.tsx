// All deployments.
import { Link, useNavigate } from "@tanstack/react-router";
import { Network, Plus } from "lucide-react";
import { useState } from "react";
import { type Deployment, useDeployments } from "~/api/deployments";
import { shortId } from "~/api/names";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { ResourceState } from "~/design/Badge";
import { type Column, DataTable } from "~/design/DataTable";
import { count } from "~/design/figures";
import { PageHeader } from "~/design/PageHeader";
import { Empty, Failure } from "~/design/Panel";
import { Time } from "~/design/Time";
import { modelPath } from "../models/names";
import { DeployDialog } from "./DeployDialog";

const COLUMNS: Column<Deployment>[] = [
  {
    id: "name",
    header: "Deployment",
    width: 220,
    value: (deployment) => shortId(deployment.name),
    cell: (deployment) => (
      <div className="min-w-0">
        <Link
          to={`/dashboard/deployments/${shortId(deployment.name)}`}
          className="font-medium break-all text-accent-text hover:underline"
        >
          {shortId(deployment.name)}
        </Link>
        {deployment.displayName && <div className="text-xs text-ink-soft">{deployment.displayName}</div>}
      </div>
    ),
  },
  {
    id: "state",
    header: "State",
    width: 120,
    value: (deployment) => deployment.state,
    cell: (deployment) => <ResourceState state={deployment.state} />,
  },
  {
    id: "model",
    header: "Model",
    width: 220,
    value: (deployment) => deployment.baseModel,
    cell: (deployment) => (
      <Link to={modelPath(deployment.baseModel)} className="break-all text-accent-text hover:underline">
        {shortId(deployment.baseModel)}
      </Link>
    ),
  },
  {
    id: "replicas",
    header: "Replicas",
    width: 100,
    align: "right",
    value: (deployment) => deployment.replicaCount,
    cell: (deployment) => `${deployment.replicaCount} of ${deployment.desiredReplicaCount}`,
  },
  {
    id: "created",
    header: "Created",
    width: 130,
    value: (deployment) => deployment.createTime,
    cell: (deployment) => <Time at={deployment.createTime} ago />,
  },
];

export function Deployments() {
  const deployments = useDeployments();
  const navigate = useNavigate();
  const [creating, setCreating] = useState(false);
  const create = (
    <ChangeButton kind="primary" icon={<Plus size={15} />} onClick={() => setCreating(true)}>
      Deploy a model
    </ChangeButton>
  );
  return (
    <>
      <PageHeader title="Deployments" actions={create}>
        Names under which a model is kept ready to answer. Any model can be called without one, too.
      </PageHeader>
      {deployments.error && !deployments.data ? (
        <Failure
          title="The deployments could not be loaded"
          error={deployments.error}
          retry={() => deployments.refetch()}
        />
      ) : (
        <DataTable
          label="Deployments"
          name="deployments"
          columns={COLUMNS}
          rows={deployments.data}
          rowKey={(deployment) => deployment.name}
          onRowClick={(deployment) => navigate({ to: `/dashboard/deployments/${shortId(deployment.name)}` })}
          toolbar={
            deployments.data && (
              <span className="text-xs text-ink-soft">{count(deployments.data.length)} deployments</span>
            )
          }
          empty={
            <Empty picture={<Network size={32} />} title="Nothing is deployed">
              A deployment gives a model a stable name of its own: point it at a newer model later, and
              callers change nothing.
            </Empty>
          }
        />
      )}
      <DeployDialog open={creating} onClose={() => setCreating(false)} />
    </>
  );
}
