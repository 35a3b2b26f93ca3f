// One epoch: its steps as a connected strip, and the rollouts of one of them, or of all.
import { clsx } from "clsx";
import { ScrollText } from "lucide-react";
import { Fragment, useMemo } from "react";
import type { RftJob } from "~/api/reinforcementFineTuningJobs";
import type { RftMetrics, RunEvent } from "~/api/rft";
import { Chart } from "~/design/Chart";
import { Panel } from "~/design/Panel";
import { chunksOf, evaluationsOf, rewardCurve } from "./curated";
import type { SearchProps } from "./JobPage";
import { Strip } from "./JobTabs";
import { LinkButton } from "./LinkButton";
import { RolloutTable } from "./RolloutTable";
import { ViewToggle } from "./ViewToggle";

export function EpochTab(props: SearchProps & { job: RftJob; metrics: RftMetrics | undefined }) {
  const { search, onSearch, metrics } = props;
  const epoch = search.epoch ?? 0;
  const heldOut = search.kind === "evaluation";
  const evaluations = metrics ? evaluationsOf(metrics) : [];
  const steps = useMemo(
    () => (metrics ? chunksOf(metrics).filter((event) => Number(event.epoch ?? 0) === epoch) : []),
    [metrics, epoch],
  );
  const view = search.view ?? "table";
  return (
    <div className="flex flex-col gap-3">
      <div className="flex flex-wrap items-center justify-between gap-2">
        <fieldset className="inline-flex rounded-md border border-line-strong p-0.5 text-[13px]">
          <legend className="sr-only">Which rollouts</legend>
          {(
            [
              [undefined, "Training"],
              ["evaluation", "Held-out"],
            ] as const
          ).map(([kind, label]) => (
            <button
              key={label}
              type="button"
              aria-pressed={search.kind === kind}
              disabled={kind === "evaluation" && !evaluations.length}
              title={
                kind === "evaluation" && !evaluations.length ? "This job has no held-out rows" : undefined
              }
              onClick={() => onSearch({ kind, step: undefined, page: undefined })}
              className={clsx(
                "rounded px-2.5 py-1 font-medium disabled:text-ink-faint",
                search.kind === kind ? "bg-accent-soft text-accent-text" : "text-ink-soft hover:text-ink",
              )}
            >
              {label}
            </button>
          ))}
        </fieldset>
        <div className="flex items-center gap-2">
          <LinkButton to="." search={{ tab: "logs" }} icon={<ScrollText size={14} />}>
            View logs
          </LinkButton>
          <ViewToggle
            view={view}
            onView={(next) => onSearch({ view: next === "table" ? undefined : next })}
          />
        </div>
      </div>
      <Steps
        events={heldOut ? evaluations : steps}
        heldOut={heldOut}
        current={search.step}
        onStep={(step) => onSearch({ step, page: undefined })}
      />
      {view === "chart" && metrics ? (
        <EpochCurve
          {...{ metrics, epoch }}
          onStep={(step) => onSearch({ step, view: undefined, page: undefined })}
        />
      ) : (
        <RolloutTable {...props} />
      )}
    </div>
  );
}

/** "All", then each step with its mean score, joined by a line. */
function Steps(props: {
  events: RunEvent[];
  heldOut: boolean;
  current: number | undefined;
  onStep: (step: number | undefined) => void;
}) {
  const numbers = [...new Set(props.events.map((event) => event.step ?? 0))];
  const scores = new Map(
    props.events.map((event) => [event.step ?? 0, props.heldOut ? event.score : event.mean_score]),
  );
  return (
    <nav aria-label={props.heldOut ? "Evaluations" : "Steps"}>
      <Strip at={`${props.current}-${numbers.length}`}>
        <StepMark active={props.current === undefined} onChoose={() => props.onStep(undefined)} label="All" />
        {numbers.map((step) => (
          <Fragment key={step}>
            <span aria-hidden="true" className="h-px w-3 shrink-0 bg-line-strong" />
            <StepMark
              active={props.current === step}
              onChoose={() => props.onStep(step)}
              label={props.heldOut ? `Version ${step}` : `Step ${step}`}
              score={scores.get(step)}
            />
          </Fragment>
        ))}
      </Strip>
    </nav>
  );
}

function StepMark(props: { active: boolean; onChoose: () => void; label: string; score?: unknown }) {
  return (
    <button
      type="button"
      aria-current={props.active ? "step" : undefined}
      onClick={props.onChoose}
      className={clsx(
        "tabular shrink-0 rounded-lg border px-2.5 py-1 text-[13px] font-medium whitespace-nowrap",
        props.active
          ? "border-transparent bg-ink text-ground"
          : "border-line-strong bg-surface text-ink-soft hover:text-ink",
      )}
    >
      {props.label}
      {typeof props.score === "number" && (
        <span className={clsx("ml-1.5 font-mono text-xs font-normal", !props.active && "text-ink-faint")}>
          {props.score.toFixed(2)}
        </span>
      )}
    </button>
  );
}

function EpochCurve(props: { metrics: RftMetrics; epoch: number; onStep: (step: number) => void }) {
  const { metrics, epoch } = props;
  const curve = useMemo(() => {
    const chunks = chunksOf(metrics).filter((event) => Number(event.epoch ?? 0) === epoch);
    const [first, last] = [chunks[0]?.step ?? 0, chunks.at(-1)?.step ?? 0];
    const events = evaluationsOf(metrics).filter((event) => {
      const step = event.step ?? 0;
      return step >= first && step <= last + 1;
    });
    return rewardCurve({ ...metrics, events: [...chunks, ...events] });
  }, [metrics, epoch]);
  return (
    <Panel title={`Reward in epoch ${epoch}`}>
      <Chart
        label={`Reward in epoch ${epoch}`}
        x={curve.x}
        series={curve.series}
        height={280}
        onPick={props.onStep}
      />
    </Panel>
  );
}
