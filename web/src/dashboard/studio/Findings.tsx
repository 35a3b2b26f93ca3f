// What the reward audit says while the job runs: the policy follows the score, or it has found a way around it.
import { Link } from "@tanstack/react-router";
import { useRftAudit } from "~/api/reinforcementFineTuningJobs";
import { Failure, Panel, Skeleton } from "~/design/Panel";
import { AuditSummary } from "./AuditSummary";

export function Findings({ id }: { id: string }) {
  const audit = useRftAudit(id);
  const data = audit.data;
  return (
    <Panel
      title="Reward audit"
      actions={
        <Link
          to={`/dashboard/fine-tuning/reinforcement/${id}` as string}
          search={{ tab: "audit" } as never}
          className="text-xs font-medium text-accent-text underline underline-offset-2"
        >
          the whole audit
        </Link>
      }
    >
      {audit.isPending && <Skeleton lines={3} />}
      {audit.error && (
        <Failure title="The audit could not be made" error={audit.error} retry={() => audit.refetch()} />
      )}
      {data && <AuditSummary data={data} />}
    </Panel>
  );
}
