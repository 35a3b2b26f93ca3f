// A job that goes on: how far it is, and its latest figure. Its stream keeps both fresh.

import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type AnyJob, JOB_NOUN, JOB_PATH, unfinished, useRewardCurve } from "~/api/fineTuningJobs";
import { shortId } from "~/api/names";
import { useWatch } from "~/api/watch";
import { Badge, ResourceState, Score } from "~/design/Badge";
import { figure } from "~/design/figures";
import { Progress } from "~/design/Progress";
import { Sparkline } from "~/design/Sparkline";
import { Time } from "~/design/Time";

export function RunningJob({ job }: { job: AnyJob }) {
  const client = useQueryClient();
  const id = shortId(job.name);
  useWatch(`jobs/${job.name}`, ({ kind }) => {
    if (kind === "job" || kind === "end")
      client.invalidateQueries({ queryKey: [JOB_NOUN[job.kind], "newest"] });
    if (kind === "events") client.invalidateQueries({ queryKey: [JOB_NOUN[job.kind], job.name, "curve"] });
  });
  const step = number(job.run.step);
  const total = number(job.run.total_steps);
  return (
    <article className="space-y-3 rounded-lg border bg-surface p-4">
      <header className="flex items-start justify-between gap-3">
        <div className="min-w-0">
          <Link
            to={`/dashboard/fine-tuning/${JOB_PATH[job.kind]}/${id}`}
            className="font-semibold break-all text-accent-text hover:underline"
          >
            {job.displayName || id}
          </Link>
          <div className="truncate text-xs text-ink-soft">
            {shortId(job.baseModel) || "continues a model"} · started <Time at={job.createTime} ago />
          </div>
        </div>
        <Badge tone="accent">{job.kind.toUpperCase()}</Badge>
      </header>
      <div className="flex items-center justify-between gap-3">
        <ResourceState state={job.state} />
        <JobFigure job={job} />
      </div>
      <div>
        <Progress share={job.percent / 100} label={`Progress of ${job.displayName || id}`} />
        <div className="tabular mt-1 flex justify-between text-xs text-ink-soft">
          <span>{job.percent} %</span>
          {step !== null && total !== null && (
            <span>
              step {step} of {total}
            </span>
          )}
        </div>
      </div>
    </article>
  );
}

/** The figure that tells how a job goes: reward with its curve, or the loss. */
export function JobFigure({ job }: { job: AnyJob }) {
  return job.kind === "rft" ? <Reward job={job} /> : <Loss run={job.run} />;
}

function Reward({ job }: { job: AnyJob }) {
  const curve = useRewardCurve(job.name, unfinished(job.state));
  const score = number(job.run.mean_score) ?? curve.data?.at(-1) ?? null;
  if (score === null) return <span className="text-xs text-ink-faint">no reward yet</span>;
  return (
    <span className="flex items-center gap-2">
      <Sparkline values={curve.data ?? []} label="Mean reward" />
      <Score value={score} />
    </span>
  );
}

function Loss({ run }: { run: Record<string, unknown> }) {
  const held = number(run.eval_loss);
  const loss = held ?? number(run.loss);
  if (loss === null) return <span className="text-xs text-ink-faint">no loss yet</span>;
  return (
    <span className="tabular text-xs text-ink-soft">
      {held === null ? "loss" : "held-out loss"}{" "}
      <span className="font-mono text-[13px] font-medium text-ink">{figure(loss)}</span>
    </span>
  );
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
