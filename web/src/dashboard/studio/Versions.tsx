// The versions of an evaluator beside a running job: which one scores, which one is being built, and what each changed.
import { useState } from "react";
import { type EvaluatorVersion, useEvaluatorDifference } from "~/api/evaluators";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RunEvent } from "~/api/rft";
import { Badge, StateMark } from "~/design/Badge";
import { Diff } from "~/design/Diff";
import { Loaded } from "~/design/Panel";
import { Time } from "~/design/Time";
import { inForceFrom } from "./steering";

interface Props {
  job: RftJob;
  events: readonly RunEvent[];
  evaluator: string;
  versions: EvaluatorVersion[];
}

/** Where one version stands: building, failed, waiting for the next step, in force. */
export function VersionState({
  job,
  events,
  version,
}: Pick<Props, "job" | "events"> & { version: EvaluatorVersion }) {
  const from = inForceFrom(events, version.version);
  const current = job.control.inForce?.evaluatorVersion ?? job.evaluatorVersion;
  if (version.state === "BUILD_FAILED")
    return <StateMark tone="bad">version {version.version}: build failed</StateMark>;
  if (version.state !== "ACTIVE")
    return (
      <StateMark tone="note" live>
        version {version.version}: building
      </StateMark>
    );
  if (current === version.version)
    return (
      <StateMark tone="good">
        version {version.version}: in force{from !== null && from > 0 ? ` from step ${from}` : ""}
      </StateMark>
    );
  if (from !== null)
    return (
      <StateMark tone="plain">
        version {version.version}: was in force from step {from}
      </StateMark>
    );
  if (job.control.requested.autoEvaluatorVersion && !job.completedTime)
    return (
      <StateMark tone="note" live>
        version {version.version}: counts from the next step
      </StateMark>
    );
  return <StateMark tone="plain">version {version.version}: not used by this job</StateMark>;
}

export function Versions(props: Props) {
  const { versions, events } = props;
  const [open, setOpen] = useState<number | null>(null);
  return (
    <section aria-label="Versions of the evaluator" className="border-t">
      <h3 className="px-4 pt-3 text-xs font-semibold text-ink-soft">Versions</h3>
      <ul className="max-h-72 overflow-y-auto px-2 py-1">
        {versions.map((version, place) => {
          const before = versions[place + 1]?.version;
          const from = inForceFrom(events, version.version);
          const shown = open === version.version;
          return (
            <li key={version.version}>
              <button
                type="button"
                aria-expanded={shown}
                onClick={() => setOpen(shown ? null : version.version)}
                className="flex w-full flex-wrap items-center gap-x-3 gap-y-0.5 rounded-md px-2 py-1.5 text-left text-[13px] hover:bg-sunken"
              >
                <span className="tabular font-semibold">{version.version}</span>
                <span className="min-w-0 flex-1 truncate text-ink-soft">
                  {version.message || (version.origin === "edit" ? "edited" : "uploaded")}
                </span>
                {version.state === "BUILD_FAILED" && <Badge tone="bad">build failed</Badge>}
                {from !== null && <Badge tone="accent">from step {from}</Badge>}
                <span className="text-xs text-ink-faint">
                  <Time at={version.createTime} ago />
                </span>
              </button>
              {shown && <Difference evaluator={props.evaluator} version={version.version} base={before} />}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Difference(props: { evaluator: string; version: number; base: number | undefined }) {
  const difference = useEvaluatorDifference(props.evaluator, props.version, props.base);
  if (props.base === undefined) return <p className="px-2 pb-2 text-xs text-ink-soft">The first version.</p>;
  return (
    <Loaded query={difference} what="What changed">
      {(files) =>
        files.length === 0 ? (
          <p className="px-2 pb-2 text-xs text-ink-soft">Nothing changed against version {props.base}.</p>
        ) : (
          <div className="space-y-2 pb-2">
            {files.map((file) => (
              <div key={file.path} className="overflow-hidden rounded-md border">
                <p className="border-b bg-raised px-3 py-1 font-mono text-xs">
                  {file.path} <span className="text-ink-faint">{file.status}</span>
                </p>
                <Diff diff={file.diff} name={file.path} className="max-h-72" />
              </div>
            ))}
          </div>
        )
      }
    </Loaded>
  );
}
