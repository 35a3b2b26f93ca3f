// Where a training run stands, at one glance.
import { unfinished } from "~/api/fineTuningJobs";
import { optionsOf, type TuningJob, type TuningKind, type TuningLine } from "~/api/tuningJobs";
import { count, figure, percent } from "~/design/figures";
import { Tile } from "~/design/Panel";
import { moment, span, Time, useNow } from "~/design/Time";
import { ModelLink } from "../ModelLink";
import { newest } from "./curves";

export function TuningTiles(props: { kind: TuningKind; job: TuningJob; lines: readonly TuningLine[] }) {
  const { kind, job, lines } = props;
  const run = (job.run ?? {}) as Record<string, number | string | null | undefined>;
  const options = optionsOf(job);
  const live = unfinished(job.state);
  const now = useNow(live ? 1000 : null);
  const start = moment(job.createTime)?.getTime() ?? now;
  const end = moment(job.completedTime)?.getTime() ?? now;
  const share = job.jobProgress.percent;
  const left = typeof run.seconds_left === "number" && live ? `${span(run.seconds_left)} left` : null;
  const cost = job.estimatedCost;
  const tokens = lines.reduce((sum, line) => sum + (line.tokens ?? 0), 0);
  return (
    <div className="grid grid-cols-2 gap-2.5 sm:grid-cols-3 xl:grid-cols-6">
      <Tile
        label="Elapsed"
        value={span(Math.max(0, (end - start) / 1000))}
        hint={left ?? <Time at={job.createTime} brief />}
      />
      <Tile
        label="Progress"
        value={
          run.total_steps ? `Step ${run.step ?? 0} of ${run.total_steps}` : String(run.stage ?? "not started")
        }
        hint={
          <span className="flex items-center gap-2">
            <span className="tabular whitespace-nowrap">
              epoch {figure(Number(run.epoch ?? 0))} of {figure(Number(options.epochs ?? 1))}
            </span>
            <progress
              aria-label="Progress"
              max={100}
              value={share}
              className="h-1.5 w-full min-w-8 overflow-hidden rounded-full bg-sunken [&::-moz-progress-bar]:bg-accent [&::-webkit-progress-bar]:bg-sunken [&::-webkit-progress-value]:bg-accent"
            />
          </span>
        }
      />
      <Tile
        label="Loss"
        value={figure((run.loss as number) ?? newest(lines, "loss"))}
        hint={kind === "dpo" ? `accuracy ${percent(newest(lines, "accuracy"))}` : "of the newest step"}
      />
      <Tile
        label="Held-out loss"
        value={figure((run.eval_loss as number) ?? newest(lines, "eval_loss"))}
        hint={
          typeof run.best_eval_loss === "number"
            ? `best ${figure(run.best_eval_loss)} at step ${run.best_step}`
            : "no rows are held out"
        }
      />
      <Tile
        label="Tokens trained on"
        value={count(Number(run.trained_tokens ?? 0))}
        hint={cost ? `${money(cost)} at the operator's prices` : `${count(tokens)} read, no prices set`}
      />
      <Tile
        label="Models"
        value={<ModelLink name={options.outputModel as string} />}
        hint={
          <>
            from <ModelLink name={(options.baseModel ?? options.warmStartFrom) as string} />
          </>
        }
      />
    </div>
  );
}

/** Whole units and billionths as people write them. */
export function money({
  currencyCode,
  units,
  nanos,
}: {
  currencyCode: string;
  units: string;
  nanos: number;
}): string {
  return `${(Number(units) + nanos / 1e9).toFixed(2)} ${currencyCode}`;
}
