// Every step of a run in figures.
import { useMemo } from "react";
import type { MetricsLine, RftMetrics, RunEvent } from "~/api/rft";
import { Score } from "~/design/Badge";
import { type Column, DataTable } from "~/design/DataTable";
import { count, figure, percent } from "~/design/figures";
import { Time } from "~/design/Time";
import { chunksOf } from "./curated";

interface Step {
  chunk: RunEvent;
  line: MetricsLine | undefined;
}

export function StepTable({ metrics, onStep }: { metrics: RftMetrics; onStep: (step: number) => void }) {
  const rows = useMemo(() => {
    const lines = new Map(metrics.metrics.map((line) => [line.step, line]));
    return chunksOf(metrics).map(
      (chunk): Step => ({ chunk, line: chunk.sealed === 0 ? undefined : lines.get(chunk.step ?? -1) }),
    );
  }, [metrics]);
  return (
    <DataTable
      label="Steps"
      name="rft-steps"
      columns={COLUMNS}
      rows={rows}
      rowKey={(row) => `${row.chunk.chunk ?? row.chunk.step}-${row.chunk.time ?? ""}`}
      onRowClick={(row) => onStep(row.chunk.step ?? 0)}
      className="rounded-none border-0"
    />
  );
}

const ofChunk = (
  id: string,
  header: string,
  format: (value: number | null) => string,
  more: Partial<Column<Step>> = {},
): Column<Step> => ({
  id,
  header,
  align: "right",
  width: 110,
  value: (row) => number(row.chunk[id]),
  cell: (row) => format(number(row.chunk[id])),
  ...more,
});
const ofLine = (id: string, header: string, more: Partial<Column<Step>> = {}): Column<Step> => ({
  id,
  header,
  align: "right",
  width: 110,
  value: (row) => number(row.line?.[id]),
  cell: (row) => figure(number(row.line?.[id])),
  ...more,
});

const COLUMNS: Column<Step>[] = [
  ofChunk("step", "Step", count, { width: 70 }),
  ofChunk("epoch", "Epoch", count, { width: 70 }),
  ofChunk("mean_score", "Mean reward", figure, {
    cell: (row) => <Score value={number(row.chunk.mean_score)} />,
  }),
  ofChunk("score_std", "Std", figure, { width: 80 }),
  ofChunk("rollouts", "Rollouts", count),
  ofChunk("invalid", "Invalid", count, { width: 80 }),
  ofChunk("kept_groups", "Kept groups", count),
  ofChunk("constant_groups", "Constant", count),
  ofChunk("dropped_groups", "Dropped", count, { hidden: true }),
  ofChunk("completion_tokens", "Mean tokens", figure),
  ofChunk("completion_tokens_p95", "Tokens p95", figure),
  ofChunk("truncated", "Truncated", percent),
  ofLine("entropy", "Entropy"),
  ofLine("mismatch_max", "Mismatch max"),
  ofLine("grad_norm", "Gradient norm"),
  ofLine("loss", "Loss", { hidden: true }),
  ofLine("learning_rate", "Learning rate", { hidden: true }),
  ofLine("kl", "KL", { hidden: true }),
  ofLine("clip_fraction", "Clipped", { hidden: true }),
  ofChunk("seconds", "Seconds", figure),
  {
    id: "time",
    header: "Ended",
    width: 180,
    value: (row) => row.chunk.time,
    cell: (row) => <Time at={row.chunk.time} />,
  },
];

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
