// The columns of the table: those that people know, then prompt and answer, then the ids.
import { Score } from "~/design/Badge";
import type { Column } from "~/design/DataTable";
import { Time } from "~/design/Time";
import type { RowSummary } from "../rows";
import { StatusMark } from "../statuses";
import { Filterable } from "./FilterButton";

export const FIELDS = {
  name: "$.eval_metadata.name",
  model: "$.input_metadata.completion_params.model",
  invocation: "$.execution_metadata.invocation_id",
  experiment: "$.execution_metadata.experiment_id",
  run: "$.execution_metadata.run_id",
  rollout: "$.execution_metadata.rollout_id",
  row: "$.input_metadata.row_id",
} as const;

export const COLUMNS: Column<RowSummary>[] = [
  {
    id: "created",
    header: "Created",
    sort: "created_at",
    width: 200,
    cell: (row) => <Time at={row.createdAt} />,
  },
  {
    id: "name",
    header: "Name",
    sort: FIELDS.name,
    width: 140,
    cell: (row) => <Filterable field={FIELDS.name} value={row.name} noun="evaluation" className="max-w-72" />,
  },
  {
    id: "evalStatus",
    header: "Eval status",
    sort: "$.eval_metadata.status.code",
    width: 112,
    cell: (row) => <StatusMark status={row.evalStatus} />,
  },
  {
    id: "rolloutStatus",
    header: "Rollout status",
    sort: "$.rollout_status.code",
    width: 128,
    cell: (row) => <StatusMark status={row.rolloutStatus} />,
  },
  {
    id: "model",
    header: "Model",
    sort: FIELDS.model,
    width: 150,
    cell: (row) => <Filterable field={FIELDS.model} value={row.model} noun="model" className="max-w-80" />,
  },
  {
    id: "score",
    header: "Score",
    sort: "$.evaluation_result.score",
    align: "right",
    width: 84,
    cell: (row) => <Score value={row.score} valid={row.isScoreValid} />,
  },
  { id: "prompt", header: "Prompt", width: 200, cell: (row) => <Words text={row.prompt} /> },
  { id: "answer", header: "Answer", width: 200, cell: (row) => <Words text={row.answer} /> },
  id("invocation", "Invocation ID", (row) => row.invocationId),
  id("experiment", "Experiment ID", (row) => row.experimentId),
  id("run", "Run ID", (row) => row.runId, true),
  id("row", "Row ID", (row) => row.rowId, true),
  id("rollout", "Rollout ID", (row) => row.rolloutId),
  {
    id: "metrics",
    header: "Metrics",
    hidden: true,
    width: 220,
    cell: (row) => (
      <span className="tabular block max-w-80 truncate text-xs text-ink-soft">
        {Object.entries(row.metrics)
          .map(([name, score]) => `${name} ${score === null ? "none" : score.toFixed(2)}`)
          .join(" · ") || "none"}
      </span>
    ),
  },
  {
    id: "turns",
    header: "Turns",
    sort: "turns",
    align: "right",
    hidden: true,
    width: 76,
    cell: (row) => row.turns,
  },
  {
    id: "updated",
    header: "Updated",
    sort: "$.updated_at",
    hidden: true,
    width: 200,
    cell: (row) => <Time at={row.updatedAt} />,
  },
];

function id(
  noun: "invocation" | "experiment" | "run" | "row" | "rollout",
  header: string,
  value: (row: RowSummary) => string | null,
  hidden = false,
): Column<RowSummary> {
  return {
    id: noun,
    header,
    sort: FIELDS[noun],
    hidden,
    width: 150,
    cell: (row) => (
      <Filterable field={FIELDS[noun]} value={value(row)} noun={noun} mono className="max-w-60" />
    ),
  };
}

function Words({ text }: { text: string | null }) {
  return text ? (
    <span className="block max-w-80 truncate text-ink-soft" title={text}>
      {text}
    </span>
  ) : (
    <span className="text-ink-faint">none</span>
  );
}
