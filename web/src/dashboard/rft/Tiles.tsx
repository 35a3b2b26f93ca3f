// Where the job stands, at one glance.
import { clsx } from "clsx";
import { unfinished } from "~/api/fineTuningJobs";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { Cost, RftMetrics } from "~/api/rft";
import { change, count, figure } from "~/design/figures";
import { Tile } from "~/design/Panel";
import { moment, span, Time, useNow } from "~/design/Time";
import { ModelLink } from "../ModelLink";
import { chunksOf, evaluationsOf } from "./curated";

export function Tiles({ job, metrics }: { job: RftJob; metrics: RftMetrics | undefined }) {
  const run = job.run ?? {};
  const epochs = job.trainingConfig.epochs ?? 1;
  const { sampled, trained } = tokensOf(metrics);
  const { cost: amount, currency } = run;
  const cost: Cost | null = amount !== undefined && currency !== undefined ? { amount, currency } : null;
  return (
    <div
      className={clsx(
        "grid grid-cols-2 gap-2.5 sm:grid-cols-3",
        job.preflightOnly ? "xl:grid-cols-5" : "xl:grid-cols-6",
      )}
    >
      <Elapsed job={job} />
      <div className="min-w-0 rounded-lg border bg-surface px-3.5 py-2.5">
        <div className="text-xs text-ink-faint">Progress</div>
        <div className="tabular truncate text-lg font-semibold">
          {job.preflightOnly
            ? "Preflight only"
            : run.total_steps
              ? `Step ${run.step ?? 0} of ${run.total_steps}`
              : "Not started"}
        </div>
        <div className="tabular flex items-center gap-2 text-xs text-ink-soft">
          {!job.preflightOnly && (
            <span className="whitespace-nowrap">
              epoch {Math.min((run.epoch ?? 0) + 1, epochs)} of {epochs}
            </span>
          )}
          <progress
            aria-label="Progress"
            max={100}
            value={run.percent ?? job.jobProgress?.percent ?? 0}
            className="h-1.5 w-full min-w-8 overflow-hidden rounded-full bg-sunken [&::-moz-progress-bar]:bg-accent [&::-webkit-progress-bar]:bg-sunken [&::-webkit-progress-value]:bg-accent"
          />
        </div>
      </div>
      {!job.preflightOnly && <Reward job={job} metrics={metrics} />}
      <Tile
        label="Models"
        value={
          <ModelLink
            name={job.preflightOnly ? undefined : job.trainingConfig.outputModel}
            none={job.preflightOnly ? "none is made" : "none yet"}
          />
        }
        hint={
          <>
            from{" "}
            <ModelLink
              name={job.trainingConfig.baseModel ?? job.trainingConfig.warmStartFrom}
              none="unknown"
            />
          </>
        }
      />
      <Tile
        label="Tokens sampled"
        value={count(run.sampled_tokens ?? sampled)}
        hint={`${count(run.trained_tokens ?? trained)} trained on`}
      />
      <Tile
        label="Cost"
        value={cost ? costText(cost) : "none"}
        hint={cost ? "at the operator's prices" : "no prices are set"}
      />
    </div>
  );
}

function Elapsed({ job }: { job: RftJob }) {
  const live = unfinished(job.state);
  const now = useNow(live ? 1000 : null);
  const start = moment(job.createTime)?.getTime();
  const end = moment(job.completedTime)?.getTime() ?? (live ? now : undefined);
  return (
    <Tile
      label="Elapsed"
      value={
        start !== undefined && end !== undefined
          ? span(Math.max(0, Math.round((end - start) / 1000)))
          : "unknown"
      }
      hint={<Time at={job.createTime} brief />}
    />
  );
}

function Reward({ job, metrics }: { job: RftJob; metrics: RftMetrics | undefined }) {
  const means = (metrics ? chunksOf(metrics) : []).flatMap((event) =>
    typeof event.mean_score === "number" ? [event.mean_score] : [],
  );
  const latest = means.at(-1) ?? job.run?.mean_score ?? null;
  const first = means[0];
  const heldOut = metrics ? evaluationsOf(metrics) : [];
  const best = job.run?.best_score;
  return (
    <Tile
      label="Mean reward"
      value={
        latest === null ? (
          "none yet"
        ) : (
          <>
            {latest.toFixed(3)}{" "}
            {first !== undefined && means.length > 1 && (
              <span
                className={latest >= first ? "text-sm font-medium text-good" : "text-sm font-medium text-bad"}
                title="Change since the first step"
              >
                {change(latest - first)}
              </span>
            )}
          </>
        )
      }
      hint={
        heldOut.length && typeof best === "number"
          ? `best held-out ${best.toFixed(3)}`
          : means.length > 1
            ? "since the first step"
            : "of the newest step"
      }
    />
  );
}

/** Tokens of all steps so far, from the run's own lines. */
function tokensOf(metrics: RftMetrics | undefined): {
  sampled: number | null;
  trained: number | null;
} {
  if (!metrics) return { sampled: null, trained: null };
  const sampled = chunksOf(metrics).reduce(
    (sum, event) => sum + (Number(event.completion_tokens) || 0) * (Number(event.rollouts) || 0),
    0,
  );
  const trained = metrics.metrics.reduce((sum, line) => sum + (line.trained_tokens ?? 0), 0);
  return { sampled: Math.round(sampled), trained };
}

export function costText(cost: Cost): string {
  const amounts = [cost.low, cost.high].every((one) => one !== undefined)
    ? cost.low === cost.high
      ? figure(cost.high)
      : `${figure(cost.low)} to ${figure(cost.high)}`
    : figure(cost.amount);
  return `${amounts} ${cost.currency}`;
}
