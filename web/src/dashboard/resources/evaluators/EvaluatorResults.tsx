// What an evaluator scored: means by run, over time as a curve.
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { type EvaluatorResult, useEvaluatorResults } from "~/api/evaluators";
import { shortId } from "~/api/names";
import { Badge, Score } from "~/design/Badge";
import { Chart } from "~/design/Chart";
import { type Column, DataTable } from "~/design/DataTable";
import { count } from "~/design/figures";
import { Empty, Loaded, Panel } from "~/design/Panel";
import { Time } from "~/design/Time";

const COLUMNS: Column<EvaluatorResult>[] = [
  {
    id: "time",
    header: "When",
    width: 140,
    value: (result) => result.time,
    cell: (result) => <Time at={result.time} ago />,
  },
  {
    id: "kind",
    header: "Kind",
    width: 110,
    value: (result) => result.kind,
    cell: (result) => (
      <Badge tone={result.kind === "rft" ? "accent" : "plain"}>
        {result.kind === "rft" ? "training" : "evaluation"}
      </Badge>
    ),
  },
  {
    id: "job",
    header: "Job",
    width: 180,
    value: (result) => shortId(result.job),
    cell: (result) =>
      result.kind === "rft" ? (
        <Link
          to={`/dashboard/fine-tuning/reinforcement/${shortId(result.job)}`}
          className="text-accent-text hover:underline"
        >
          {shortId(result.job)}
        </Link>
      ) : (
        shortId(result.job)
      ),
  },
  {
    id: "version",
    header: "Version",
    width: 80,
    align: "right",
    value: (result) => result.evaluatorVersion,
    cell: (result) => result.evaluatorVersion,
  },
  {
    id: "model",
    header: "Model",
    width: 200,
    value: (result) => result.model,
    cell: (result) => <span title={result.model ?? undefined}>{shortId(result.model) || "none"}</span>,
  },
  {
    id: "mean",
    header: "Mean score",
    width: 110,
    align: "right",
    value: (result) => result.meanScore,
    cell: (result) => <Score value={result.meanScore} />,
  },
  {
    id: "rollouts",
    header: "Rollouts",
    width: 90,
    align: "right",
    value: (result) => result.rollouts,
    cell: (result) => count(result.rollouts),
  },
  {
    id: "invalid",
    header: "Invalid",
    width: 90,
    align: "right",
    value: (result) => result.invalid,
    cell: (result) => (
      <span className={result.invalid ? "text-fair" : undefined}>{count(result.invalid)}</span>
    ),
  },
];

export function EvaluatorResults({ id }: { id: string }) {
  const results = useEvaluatorResults(id);
  return (
    <Loaded query={results} what="The results">
      {(data) =>
        data.length === 0 ? (
          <div className="rounded-lg border bg-surface">
            <Empty title="It has not scored anything yet">
              Evaluations and training jobs that use it show up here with their mean scores.
            </Empty>
          </div>
        ) : (
          <div className="space-y-4">
            <Recent results={data} />
            <DataTable
              label="Results"
              columns={COLUMNS}
              rows={data}
              rowKey={(result) => `${result.kind} ${result.job} ${result.evaluatorVersion} ${result.time}`}
            />
          </div>
        )
      }
    </Loaded>
  );
}

/** Means of the newest runs, oldest first. */
function Recent({ results }: { results: readonly EvaluatorResult[] }) {
  const scored = useMemo(
    () =>
      results
        .filter((result) => result.meanScore !== null)
        .slice(0, 50)
        .reverse(),
    [results],
  );
  const x = useMemo(() => scored.map((_, place) => place + 1), [scored]);
  const series = useMemo(
    () => [{ label: "Mean score", values: scored.map((result) => result.meanScore), points: true }],
    [scored],
  );
  if (scored.length < 2) return null;
  return (
    <Panel title="Mean scores of the latest runs">
      <Chart label="Mean scores" x={x} xLabel="run" series={series} range={{ min: 0, max: 1 }} height={160} />
    </Panel>
  );
}
