// The curated metrics of an RFT job: what each curve is made of, and how it looks in a run that goes well.
import type { MetricsLine, RftMetrics, RunEvent } from "~/api/rft";
import { figure, percent } from "~/design/figures";
import type { Series, Values } from "~/design/series";

export interface Curve {
  id: string;
  title: string;
  /** One sentence: what is healthy. */
  healthy: string;
  x: number[];
  series: Series[];
  format: (value: number) => string;
  /** Marks of the y axis, where they are not bare numbers. */
  axis?: (value: number) => string;
  range?: { min?: number; max?: number };
  log?: boolean;
  stacked?: boolean;
}

export function chunksOf(data: RftMetrics): RunEvent[] {
  return data.events.filter((event) => event.kind === "chunk");
}

export function evaluationsOf(data: RftMetrics): RunEvent[] {
  return data.events.filter((event) => event.kind === "evaluation");
}

/** Mean reward by step and, where there are held-out rows, their score with its interval; on one x. */
export function rewardCurve(data: RftMetrics): { x: number[]; series: Series[] } {
  const chunks = chunksOf(data);
  const evaluations = evaluationsOf(data);
  const x = [...new Set([...chunks, ...evaluations].map(stepOf))].sort((a, b) => a - b);
  const at = (events: RunEvent[], field: string) => {
    const values = new Map(events.map((event) => [stepOf(event), number(event[field])]));
    return x.map((step) => values.get(step) ?? null);
  };
  const series: Series[] = [{ label: "Mean reward", values: at(chunks, "mean_score"), colour: 1 }];
  if (evaluations.length)
    series.push({
      label: "Held-out score",
      values: at(evaluations, "score"),
      band: { low: at(evaluations, "low"), high: at(evaluations, "high") },
      colour: 2,
      points: true,
      exact: true,
      dashed: true,
    });
  return { x, series };
}

/** Everything beside the reward that has at least one value. `maxStaleness`: of the job, in policy versions. */
export function curatedCurves(data: RftMetrics, maxStaleness = 0): Curve[] {
  const chunks = chunksOf(data);
  const lines = data.metrics;
  const chunkX = chunks.map(stepOf);
  const lineX = lines.map((line) => line.step);
  const chunk = (label: string, field: string, more: Partial<Series> = {}): Series => ({
    label,
    values: chunks.map((event) => number(event[field])),
    ...more,
  });
  const line = (label: string, field: string, more: Partial<Series> = {}): Series => ({
    label,
    values: lines.map((one) => number(one[field])),
    ...more,
  });
  const seconds = (value: number) => `${figure(value)} s`;
  const tokens = (value: number) => `${figure(value)} tok`;
  const curves: Curve[] = [
    {
      id: "spread",
      title: "Spread of rewards",
      healthy: "The middle rises while the spread stays open; no spread leaves nothing to learn from.",
      x: chunkX,
      series: [
        chunk("Mean", "mean_score", {
          band: { low: values(chunks, "score_p10"), high: values(chunks, "score_p90") },
        }),
        chunk("Standard deviation", "score_std", { colour: 3 }),
      ],
      format: figure,
      range: { min: 0 },
    },
    {
      id: "solved",
      title: "Groups solved by all or by none",
      healthy: "Neither near 100 %: rows that are always or never solved teach nothing.",
      x: chunkX,
      series: [chunk("By all", "solved_all", { colour: 1 }), chunk("By none", "solved_none", { colour: 2 })],
      format: percent,
      axis: percent,
      range: { min: 0, max: 1 },
    },
    {
      id: "groups",
      title: "Groups kept and dropped",
      healthy: "Most groups are kept; when most scores agree, the rows are too easy or too hard.",
      x: chunkX,
      series: [
        chunk("Kept", "kept_groups", { colour: 1 }),
        chunk("All scores equal", "constant_groups", { colour: 5 }),
        {
          label: "Too few valid",
          values: chunks.map((event) => {
            const [all, constant] = [number(event.dropped_groups), number(event.constant_groups)];
            return all === null || constant === null ? null : Math.max(0, all - constant);
          }),
          colour: 2,
        },
      ],
      format: figure,
      range: { min: 0 },
      stacked: true,
    },
    {
      id: "invalid",
      title: "Invalid rollouts",
      healthy: "At or near 0; they are left out, and more than half of a chunk fails the job.",
      x: chunkX,
      series: [chunk("Invalid", "invalid", { colour: 2 })],
      format: figure,
      range: { min: 0 },
    },
    {
      id: "length",
      title: "Completion length",
      healthy: "Steady; a climb without a better reward is padding, a fall to almost nothing a collapse.",
      x: chunkX,
      series: [
        chunk("Mean", "completion_tokens", { colour: 1 }),
        chunk("Median", "completion_tokens_p50", { colour: 3 }),
        chunk("95th percentile", "completion_tokens_p95", { colour: 2 }),
      ],
      format: tokens,
      range: { min: 0 },
    },
    {
      id: "truncated",
      title: "Cut off at the limit",
      healthy: "Under 5 %; more means that the longest completion is set too low.",
      x: chunkX,
      series: [chunk("Truncated", "truncated", { colour: 2 })],
      format: percent,
      axis: percent,
      range: { min: 0 },
    },
    {
      id: "turns",
      title: "Model calls of a rollout",
      healthy: "As many as the task needs, and steady.",
      x: chunkX,
      series: [chunk("Turns", "turns", { colour: 6 })],
      format: figure,
      range: { min: 0 },
    },
    {
      id: "entropy",
      title: "Entropy",
      healthy: "Falls slowly; at 0 the policy has stopped exploring.",
      x: lineX,
      series: [line("Entropy", "entropy", { colour: 3 })],
      format: (value) => `${figure(value)} nats`,
      range: { min: 0 },
    },
    {
      id: "mismatch",
      title: "Learner against engine",
      healthy: maxStaleness
        ? `Steady and small. Not near 0: rollouts may be ${versions(maxStaleness)} older than the policy that learns from them.`
        : "Far below 0.01 nats and flat: both compute the same policy.",
      x: lineX,
      series: [line("Largest", "mismatch_max", { colour: 2 }), line("Mean", "mismatch_mean", { colour: 1 })],
      format: figure,
      log: true,
    },
    {
      id: "gradient",
      title: "Gradient norm",
      healthy: "No lasting spikes; it is clipped at 1.",
      x: lineX,
      series: [line("Gradient norm", "grad_norm", { colour: 4 })],
      format: figure,
      range: { min: 0 },
    },
    {
      id: "ratio",
      title: "Policy ratio, 1st to 99th percentile",
      healthy: maxStaleness
        ? "Around 1, wider with staleness; far from 1 the rollouts are too old to learn from."
        : "Around 1: the batch was sampled by the policy that is trained.",
      x: lineX,
      series: [
        line("99th percentile", "ratio_p99", { colour: 2 }),
        line("1st percentile", "ratio_p01", { colour: 1 }),
      ],
      format: figure,
    },
    {
      id: "learning-rate",
      title: "Learning rate",
      healthy: "As planned: warm-up, then what was asked for.",
      x: lineX,
      series: [line("Learning rate", "learning_rate", { colour: 7, exact: true })],
      format: figure,
      range: { min: 0 },
    },
    times(data, seconds),
    ...metricCurves(chunks, chunkX),
  ];
  return (
    curves
      .map((curve) => ({
        ...curve,
        series: curve.series.filter((one) => one.values.some((value) => value !== null)),
      }))
      // The spread without a measure of it would be the reward curve once more.
      .filter((curve) => curve.series.length > (curve.id === "spread" ? 1 : 0))
  );
}

/** Where the time of a step goes: rolling out, training, publishing, evaluating, waiting. */
function times(data: RftMetrics, format: (value: number) => string): Curve {
  const chunks = chunksOf(data);
  const training = new Map(data.metrics.map((line) => [line.step, number(line.seconds)]));
  const of = (label: string, found: Values, colour: Series["colour"]): Series => ({
    label,
    values: found,
    colour,
  });
  return {
    id: "time",
    title: "Time of a step",
    healthy: "Rollouts take most of it; a learner that waits, or is waited for, can be given more at once.",
    x: chunks.map(stepOf),
    series: [
      of(
        "Rollouts",
        chunks.map((event) => number(event.rollout_seconds) ?? number(event.seconds)),
        1,
      ),
      of(
        "Training",
        chunks.map((event) => (event.sealed === 0 ? null : (training.get(stepOf(event)) ?? null))),
        3,
      ),
      of("Publishing", values(chunks, "publish_seconds"), 5),
      of("Held-out evaluation", values(chunks, "evaluation_seconds"), 2),
      of("Waiting for the learner", values(chunks, "wait_seconds"), 8),
    ],
    format,
    range: { min: 0 },
    stacked: true,
  };
}

/** The evaluator's own metrics, eight to a curve. */
function metricCurves(chunks: readonly RunEvent[], x: number[]): Curve[] {
  const names = [...new Set(chunks.flatMap((event) => Object.keys(event.metrics ?? {})))].sort();
  const curves: Curve[] = [];
  for (let first = 0; first < names.length; first += 8)
    curves.push({
      id: `metrics-${first}`,
      title: first === 0 ? "The evaluator's metrics" : `The evaluator's metrics, from ${first + 1} on`,
      healthy: "They rise together; one that falls while the reward rises is being traded away.",
      x,
      series: names.slice(first, first + 8).map((name) => ({
        label: name,
        values: chunks.map((event) => number(event.metrics?.[name])),
      })),
      format: figure,
    });
  return curves;
}

function versions(count: number): string {
  return count === 1 ? "1 version" : `up to ${count} versions`;
}

function values(events: readonly RunEvent[], field: string): (number | null)[] {
  return events.map((event) => number(event[field]));
}

function stepOf(event: RunEvent | MetricsLine): number {
  return number(event.step) ?? 0;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
