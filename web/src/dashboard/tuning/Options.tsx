// The options in force, defaults included, and those that were accepted without effect.
import type { TuningJob } from "~/api/tuningJobs";
import { Json } from "~/conversation/Json";
import { Panel } from "~/design/Panel";
import { ValueTable } from "~/design/ValueTable";

const HIDDEN =
  /SignedUrls?$|^(run|processes|status|notes|jobProgress|state|name|displayName|createTime|updateTime|completedTime|queue|estimatedCost)$/;

export function Options({ job }: { job: TuningJob }) {
  const fields: [string, unknown][] = Object.entries(job).flatMap(([field, value]): [string, unknown][] =>
    HIDDEN.test(field) || value === null || value === undefined || value === ""
      ? []
      : field === "trainingConfig" || field === "lossConfig"
        ? Object.entries(value as object)
        : [[field, value]],
  );
  return (
    <div className="grid items-start gap-3 lg:grid-cols-2">
      <Panel title="In force" flush>
        <ValueTable caption="Options in force" values={fields} />
      </Panel>
      {job.notes.length > 0 && (
        <Panel title="Accepted without effect">
          <Json value={job.notes} />
        </Panel>
      )}
    </div>
  );
}
