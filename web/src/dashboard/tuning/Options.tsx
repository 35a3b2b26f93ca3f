// The options in force, defaults included, and those that were accepted without effect.
import type { TuningJob } from "~/api/tuningJobs";
import { Json } from "~/conversation/Json";
import { Panel } from "~/design/Panel";

const HIDDEN =
  /SignedUrls?$|^(run|processes|status|notes|jobProgress|state|name|displayName|createTime|updateTime|completedTime|createdBy|estimatedCost)$/;

export function Options({ job }: { job: TuningJob }) {
  const fields: [string, unknown][] = Object.entries(job).flatMap(([field, value]): [string, unknown][] =>
    HIDDEN.test(field) || value === null || value === undefined
      ? []
      : field === "trainingConfig" || field === "lossConfig"
        ? Object.entries(value as object)
        : [[field, value]],
  );
  return (
    <div className="grid items-start gap-3 lg:grid-cols-2">
      <Panel title="In force" flush>
        <table className="w-full text-[13px]">
          <caption className="sr-only">Options in force</caption>
          <tbody>
            {fields.map(([field, value]) => (
              <tr key={field} className="border-b last:border-b-0">
                <th
                  scope="row"
                  className="px-4 py-1.5 text-left align-top font-mono text-xs font-normal text-ink-soft"
                >
                  {field}
                </th>
                <td className="tabular px-4 py-1.5 [overflow-wrap:anywhere]">
                  {typeof value === "object" ? JSON.stringify(value) : String(value)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Panel>
      {job.notes.length > 0 && (
        <Panel title="Accepted without effect">
          <Json value={job.notes} />
        </Panel>
      )}
    </div>
  );
}
