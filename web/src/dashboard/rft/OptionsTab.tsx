// The values that a job runs with, defaults included, and where they can be looked at.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { shortId } from "~/api/names";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import { Json } from "~/conversation/Json";
import { figure } from "~/design/figures";
import { Panel } from "~/design/Panel";
import { Time } from "~/design/Time";

export function OptionsTab({ job }: { job: RftJob }) {
  const training = Object.entries(job.trainingConfig).filter(([name]) => !/Model$|warmStartFrom/.test(name));
  return (
    <div className="grid grid-cols-[minmax(0,1fr)] items-start gap-4 lg:grid-cols-2">
      <Panel title="What goes in and comes out">
        <Facts>
          <Fact name="Evaluator">
            <Name collection="evaluators" name={job.evaluator} />
            <span className="text-ink-soft">, version {job.evaluatorVersion}</span>
          </Fact>
          <Fact name="Dataset">
            <Name collection="datasets" name={job.dataset} />
          </Fact>
          <Fact name="Held-out rows">
            {job.evaluationDataset ? (
              <Name collection="datasets" name={job.evaluationDataset} />
            ) : job.evalAutoCarveout ? (
              "a tenth of the dataset"
            ) : (
              "none"
            )}
          </Fact>
          <Fact name="Base model">
            <Name collection="models" name={job.trainingConfig.baseModel} />
          </Fact>
          {job.trainingConfig.warmStartFrom && (
            <Fact name="Warm start">
              <Name collection="models" name={job.trainingConfig.warmStartFrom} />
            </Fact>
          )}
          {!job.preflightOnly && (
            <Fact name="Output model">
              <Name collection="models" name={job.trainingConfig.outputModel} />
            </Fact>
          )}
          {job.rewoundFrom && (
            <Fact name="Rewound from">
              <Name collection="fine-tuning/reinforcement" name={job.rewoundFrom} />
              <span className="text-ink-soft">, at version {job.rewoundTo}</span>
            </Fact>
          )}
          <Fact name="Created">
            <Time at={job.createTime} />
            {job.createdBy && <span className="text-ink-soft"> by {job.createdBy}</span>}
          </Fact>
          <Fact name="Ended">
            <Time at={job.completedTime} />
          </Fact>
        </Facts>
      </Panel>
      <Panel title="Training">
        <Facts>
          {training.map(([name, value]) => (
            <Fact key={name} name={words(name)}>
              {shown(value)}
            </Fact>
          ))}
          <Fact name="Chunk size (rows per step)">{shown(job.chunkSize)}</Fact>
          <Fact name="Loss">
            {job.lossConfig.method === "METHOD_UNSPECIFIED"
              ? "importance-weighted, masked (the default)"
              : shown(job.lossConfig.method)}
          </Fact>
          {Object.entries(job.lossConfig)
            .filter(([name]) => name !== "method")
            .map(([name, value]) => (
              <Fact key={name} name={words(name)}>
                {shown(value)}
              </Fact>
            ))}
        </Facts>
      </Panel>
      <Panel title="Rollouts">
        <Facts>
          {Object.entries(job.inferenceParameters).map(([name, value]) => (
            <Fact key={name} name={words(name)}>
              {shown(value)}
            </Fact>
          ))}
          <Fact name="Concurrent rollouts">{shown(job.maxConcurrentRollouts)}</Fact>
          <Fact name="Staleness">{shown(job.maxStaleness)}</Fact>
          {job.groupDeadlineSeconds !== undefined && (
            <Fact name="Group deadline">
              {shown(job.groupDeadlineSeconds)} s, with {shown(job.groupQuorum)} valid scores
            </Fact>
          )}
        </Facts>
      </Panel>
      <Panel title="Processes">
        {job.processes?.length ? (
          <Facts>
            {job.processes.map((process) => (
              <Fact key={`${process.name}-${process.pid}`} name={process.name ?? "process"}>
                {figure(process.peak_rss_mib)} MiB at most
                <span className="text-ink-faint"> (pid {process.pid})</span>
              </Fact>
            ))}
          </Facts>
        ) : (
          <p className="text-ink-soft">None was started yet.</p>
        )}
      </Panel>
      {!!job.notes?.length && (
        <Panel title="Options without effect here" className="lg:col-span-2">
          <ul className="list-disc space-y-1 pl-5">
            {job.notes.map((note) => (
              <li key={JSON.stringify(note)}>{noteText(note)}</li>
            ))}
          </ul>
        </Panel>
      )}
      <Panel title="The job as the API shows it" className="lg:col-span-2">
        <Json value={job} depth={1} />
      </Panel>
    </div>
  );
}

function Facts({ children }: { children: ReactNode }) {
  return <dl className="grid grid-cols-[minmax(0,2fr)_minmax(0,3fr)] gap-x-4 gap-y-1.5">{children}</dl>;
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-ink-faint">{name}</dt>
      <dd className="tabular min-w-0 break-words">{children}</dd>
    </>
  );
}

function Name({ collection, name }: { collection: string; name: string | undefined }) {
  if (!name) return <span className="text-ink-faint">none</span>;
  return (
    <Link
      to={`/dashboard/${collection}/${shortId(name)}` as string}
      title={name}
      className="break-all underline decoration-line-strong underline-offset-2 hover:decoration-current"
    >
      {shortId(name)}
    </Link>
  );
}

/** `learningRateWarmupSteps` -> "Learning rate warmup steps". */
export function words(field: string): string {
  const spaced = field.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

function shown(value: unknown): ReactNode {
  if (value === undefined || value === null || value === "")
    return <span className="text-ink-faint">none</span>;
  if (typeof value === "number") return figure(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function noteText(note: unknown): string {
  if (typeof note === "string") return note;
  if (typeof note === "object" && note !== null) {
    const { option, field, reason, message } = note as Record<string, unknown>;
    const name = option ?? field;
    const why = reason ?? message;
    if (name || why) return [name, why].filter(Boolean).join(": ");
  }
  return JSON.stringify(note);
}
