// The studio: what the policy draws beside the reward that it learns from, both alive, and the reward in an editor.
import "./studio.css";
import { Link, useParams } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import { unfinished } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { type RftJob, useRftJob, useRftMetrics } from "~/api/reinforcementFineTuningJobs";
import type { RftMetrics } from "~/api/rft";
import { ResourceState } from "~/design/Badge";
import { Loaded, Panel, Skeleton } from "~/design/Panel";
import { evaluationsOf, rewardCurve } from "../rft/curated";
import { useLiveJob } from "../rft/live";
import { Controls } from "./Controls";
import { Drawings } from "./Drawings";
import { EvaluatorEditor } from "./EvaluatorEditor";
import { Findings } from "./Findings";
import { marksOf, versionsOf } from "./steering";

const Chart = lazy(() => import("~/design/Chart").then((module) => ({ default: module.Chart })));

export function StudioPage() {
  const { id } = useParams({ strict: false }) as { id: string };
  const job = useRftJob(id);
  const metrics = useRftMetrics(id);
  useLiveJob(job.data, id);
  return (
    <Loaded query={job} what={`Job ${id}`} lines={8}>
      {(data) => (
        <Loaded query={metrics} what="The metrics" lines={8}>
          {(lines) => <Studio key={id} id={id} job={data} metrics={lines} />}
        </Loaded>
      )}
    </Loaded>
  );
}

function Studio({ id, job, metrics }: { id: string; job: RftJob; metrics: RftMetrics }) {
  const [at, setAt] = useState<number | null>(null);
  const versions = useMemo(() => versionsOf(metrics.events), [metrics.events]);
  const heldOut = Number(evaluationsOf(metrics)[0]?.n ?? 48);
  const run = job.run ?? {};
  return (
    <div className="flex flex-col gap-4">
      <header className="flex flex-wrap items-end justify-between gap-3">
        <div className="min-w-0">
          <nav aria-label="Path" className="text-xs text-ink-faint">
            <Link
              to={`/dashboard/fine-tuning/reinforcement/${id}` as string}
              className="hover:text-ink hover:underline"
            >
              {job.displayName || id}
            </Link>{" "}
            / studio
          </nav>
          <h1 className="text-2xl font-semibold">Studio</h1>
        </div>
        <div className="tabular flex flex-wrap items-center gap-x-4 gap-y-1 text-[13px] text-ink-soft">
          <ResourceState state={job.state} />
          <span>
            step <b className="text-ink">{run.step ?? 0}</b>
            {run.total_steps ? ` of ${run.total_steps}` : ""}
          </span>
          {job.rewoundFrom && (
            <span>
              rewound from{" "}
              <Link
                to={`/dashboard/studio/${shortId(job.rewoundFrom)}` as string}
                className="text-accent-text underline underline-offset-2"
              >
                {shortId(job.rewoundFrom)}
              </Link>{" "}
              to version {job.rewoundTo}
            </span>
          )}
        </div>
      </header>
      {job.state === "JOB_STATE_FAILED" && (
        <p
          role="alert"
          className="rounded-lg border border-bad bg-bad-soft px-4 py-3 whitespace-pre-wrap [overflow-wrap:anywhere]"
        >
          {job.status.message}
        </p>
      )}
      <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,11fr)_minmax(0,10fr)]">
        <div className="min-w-0 space-y-4">
          <Drawings
            id={id}
            versions={versions}
            at={at}
            onAt={setAt}
            heldOut={heldOut}
            live={unfinished(job.state)}
          />
          <Findings id={id} />
        </div>
        <div className="min-w-0 space-y-4">
          <Reward job={job} metrics={metrics} versions={versions.values} onPick={setAt} />
          <Controls job={job} id={id} />
          <EvaluatorEditor job={job} id={id} events={metrics.events} />
        </div>
      </div>
    </div>
  );
}

function Reward(props: {
  job: RftJob;
  metrics: RftMetrics;
  versions: readonly number[];
  onPick: (version: number) => void;
}) {
  const { job, metrics } = props;
  const curve = useMemo(() => rewardCurve(metrics), [metrics]);
  const marks = useMemo(() => marksOf(metrics.events, job.rewoundTo), [metrics.events, job.rewoundTo]);
  return (
    <Panel title="Reward">
      {curve.x.length === 0 ? (
        <p className="py-8 text-center text-ink-soft">The curve begins with the first step.</p>
      ) : (
        <Suspense fallback={<Skeleton lines={5} />}>
          <Chart
            label="Reward"
            x={curve.x}
            series={curve.series}
            marks={marks}
            height={200}
            onPick={(x) => {
              const version = props.versions.filter((one) => one <= x).at(-1);
              if (version !== undefined) props.onPick(version);
            }}
          />
        </Suspense>
      )}
    </Panel>
  );
}
