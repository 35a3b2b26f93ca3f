// The Summary of a job: the reward curve large, the curated metrics small, or all of it as a table of steps.
import { useMemo } from "react";
import { unfinished } from "~/api/fineTuningJobs";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RftMetrics } from "~/api/rft";
import { Chart } from "~/design/Chart";
import { Select } from "~/design/Field";
import { Empty, Panel } from "~/design/Panel";
import { type Curve, chunksOf, curatedCurves, evaluationsOf, rewardCurve } from "./curated";
import type { SearchProps } from "./JobPage";
import { Preflight } from "./Preflight";
import { StepTable } from "./StepTable";
import { SMOOTHINGS } from "./search";
import { ViewToggle } from "./ViewToggle";

export function Summary(props: SearchProps & { job: RftJob; metrics: RftMetrics }) {
  const { job, metrics } = props;
  const begun = metrics.metrics.length || chunksOf(metrics).length || evaluationsOf(metrics).length;
  return (
    <div className="flex flex-col gap-4">
      {job.preflight && <Preflight preflight={job.preflight} />}
      {begun ? <Curves {...props} /> : (!job.preflightOnly || !job.preflight) && <Nothing job={job} />}
    </div>
  );
}

/** What stands in place of the curves while there are none. */
function Nothing({ job }: { job: RftJob }) {
  const [waiting, what] = job.preflightOnly
    ? ["The preflight has not ended yet", "Its figures appear here as soon as its rows are scored."]
    : [
        "No step has ended yet",
        "The curves appear here as soon as the first rows are rolled out and scored.",
      ];
  const ended = job.preflightOnly ? "This preflight came to no end" : "This job ended before its first step";
  const live = unfinished(job.state);
  return (
    <Panel>
      <Empty title={live ? waiting : ended}>
        {live ? `${what} The Logs tab shows what is being done.` : "Its status and the Logs tab say why."}
      </Empty>
    </Panel>
  );
}

function Curves({ job, metrics, search, onSearch }: SearchProps & { job: RftJob; metrics: RftMetrics }) {
  const smoothing = search.smoothing ?? 0;
  const reward = useMemo(() => rewardCurve(metrics), [metrics]);
  const curves = useMemo(() => curatedCurves(metrics, job.maxStaleness), [metrics, job.maxStaleness]);
  const openStep = (step: number) => {
    const event = chunksOf(metrics).find((one) => one.step === step);
    if (event) onSearch({ tab: "epoch", epoch: Number(event.epoch ?? 0), step, page: undefined });
  };
  return (
    <>
      <Panel
        title="Reward"
        actions={
          <>
            <Select
              aria-label="Smoothing"
              value={smoothing}
              onChange={(event) => onSearch({ smoothing: Number(event.target.value) || undefined })}
            >
              {SMOOTHINGS.map((span) => (
                <option key={span} value={span}>
                  {span ? `Smoothing: EMA (${span})` : "Smoothing: none"}
                </option>
              ))}
            </Select>
            <ViewToggle
              view={search.view ?? "chart"}
              onView={(view) => onSearch({ view: view === "chart" ? undefined : view })}
            />
          </>
        }
        flush={search.view === "table"}
      >
        {search.view === "table" ? (
          <StepTable metrics={metrics} onStep={openStep} />
        ) : (
          <>
            <Chart
              label="Reward"
              x={reward.x}
              series={reward.series}
              smoothing={smoothing}
              height={300}
              onPick={openStep}
            />
            <p className="mt-1 text-xs text-ink-faint">
              Mean score of each step's valid rollouts
              {evaluationsOf(metrics).length > 0 && "; whiskers are 95 % intervals of the held-out score"}.
              Click a step to see its rollouts, drag to look closer.
            </p>
          </>
        )}
      </Panel>
      {search.view !== "table" && (
        <div className="grid gap-3 md:grid-cols-2 2xl:grid-cols-3">
          {curves.map((curve) => (
            <Small key={curve.id} curve={curve} smoothing={smoothing} onStep={openStep} />
          ))}
        </div>
      )}
    </>
  );
}

function Small({
  curve,
  smoothing,
  onStep,
}: {
  curve: Curve;
  smoothing: number;
  onStep: (step: number) => void;
}) {
  return (
    <section className="flex min-w-0 flex-col gap-1 rounded-lg border bg-surface p-3.5">
      <h2 className="text-[13px] font-semibold">{curve.title}</h2>
      <p className="text-xs text-ink-faint">{curve.healthy}</p>
      <Chart
        className="mt-auto"
        label={curve.title}
        x={curve.x}
        series={curve.series}
        smoothing={smoothing}
        format={curve.format}
        axis={curve.axis}
        range={curve.range}
        log={curve.log}
        stacked={curve.stacked}
        height={150}
        onPick={onStep}
      />
    </section>
  );
}
