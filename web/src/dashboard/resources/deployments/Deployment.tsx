// One deployment: its state, its one replica, how to call it.
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { MessagesSquare, Power, PowerOff, Trash2 } from "lucide-react";
import { useState } from "react";
import {
  type Deployment as DeploymentShown,
  useDeleteDeployment,
  useDeployment,
  useScaleDeployment,
} from "~/api/deployments";
import { shortId } from "~/api/names";
import { ChangeButton } from "~/dashboard/ChangeButton";
import { ResourceState } from "~/design/Badge";
import { Button } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { PageHeader } from "~/design/PageHeader";
import { Failure, Loaded, Panel, Tile } from "~/design/Panel";
import { Time } from "~/design/Time";
import { toast, toastError } from "~/design/Toast";
import { DeleteConfirm } from "../DeleteConfirm";
import { CallSnippets } from "../models/CallSnippets";
import { modelPath } from "../models/names";

export function Deployment() {
  const { deploymentId = "" } = useParams({ strict: false }) as { deploymentId?: string };
  const deployment = useDeployment(deploymentId);
  return (
    <Loaded query={deployment} what="The deployment">
      {(data) => (
        <>
          <Head deployment={data} id={deploymentId} />
          {data.status.code !== "OK" && (
            <div className="mb-4">
              <Failure title="It cannot answer" error={new Error(data.status.message)} />
            </div>
          )}
          <div className="mb-4 grid grid-cols-2 gap-3 sm:grid-cols-4">
            <Tile label="State" value={<ResourceState state={data.state} />} />
            <Tile
              label="Replicas"
              value={`${data.replicaCount} of ${data.desiredReplicaCount}`}
              hint={data.desiredReplicaCount ? undefined : "calls are answered 503"}
            />
            <Tile
              label="Model"
              value={
                <Link to={modelPath(data.baseModel)} className="text-accent-text hover:underline">
                  {shortId(data.baseModel)}
                </Link>
              }
            />
            <Tile label="Created" value={<Time at={data.createTime} ago />} />
          </div>
          <Panel title="Call it">
            <CallSnippets model={data.name} />
          </Panel>
          {(data.notes?.length ?? 0) > 0 && (
            <Panel title="Options without effect here" className="mt-4">
              <ul className="list-disc space-y-1 pl-5">
                {data.notes?.map((note) => (
                  <li key={String(note.option)}>
                    <code className="font-mono text-xs">{String(note.option)}</code>: {String(note.reason)}
                  </li>
                ))}
              </ul>
            </Panel>
          )}
        </>
      )}
    </Loaded>
  );
}

function Head({ deployment, id }: { deployment: DeploymentShown; id: string }) {
  const navigate = useNavigate();
  const scale = useScaleDeployment(id);
  const remove = useDeleteDeployment();
  const [asked, setAsked] = useState(false);
  const up = deployment.desiredReplicaCount > 0;
  return (
    <>
      <PageHeader
        crumbs={[
          <Link key="all" to="/dashboard/deployments">
            Deployments
          </Link>,
        ]}
        title={id}
        marks={
          <>
            <CopyButton text={deployment.name} label="Copy resource name" />
            <ResourceState state={deployment.state} />
          </>
        }
        actions={
          <>
            <Button
              icon={<MessagesSquare size={14} />}
              disabled={!up}
              onClick={() =>
                navigate({ to: "/dashboard/playground", search: { model: deployment.name } as never })
              }
            >
              Try it
            </Button>
            <ChangeButton
              icon={up ? <PowerOff size={14} /> : <Power size={14} />}
              busy={scale.isPending}
              onClick={() =>
                scale.mutate(up ? 0 : 1, {
                  onSuccess: () => toast(up ? `${id} is scaled to zero.` : `${id} is starting.`),
                  onError: toastError,
                })
              }
            >
              {up ? "Scale to zero" : "Scale up"}
            </ChangeButton>
            <ChangeButton kind="danger" icon={<Trash2 size={14} />} onClick={() => setAsked(true)}>
              Delete
            </ChangeButton>
          </>
        }
      >
        {deployment.description || deployment.displayName}
      </PageHeader>
      <DeleteConfirm
        open={asked}
        onClose={() => setAsked(false)}
        name={id}
        remove={remove}
        list="/dashboard/deployments"
      >
        Calls that name it fail from then on. The model stays. There is no way back but deploying it again.
      </DeleteConfirm>
    </>
  );
}
