// One rollout, opened: the conversation, and beside it what it scored and why, how it went, and its ids.
import { type ReactNode, useState } from "react";
import { Conversation } from "~/conversation/Conversation";
import { Json } from "~/conversation/Json";
import { Markdown } from "~/conversation/Markdown";
import { Badge, Score } from "~/design/Badge";
import { CopyButton } from "~/design/Copy";
import { Loaded } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { type EvaluationRow, type RowSummary, useRow } from "../rows";
import { isError, StatusMark } from "../statuses";
import { FIELDS } from "./columns";
import { Filterable } from "./FilterButton";
import { RolloutLogs } from "./RolloutLogs";

const TABS = [
  { id: "conversation", label: "Conversation" },
  { id: "logs", label: "Logs" },
  { id: "metadata", label: "Metadata" },
  { id: "json", label: "JSON" },
];

export function RowDetails({ summary }: { summary: RowSummary }) {
  const [tab, setTab] = useState("conversation");
  const query = useRow(summary.rolloutId);
  return (
    <div className="p-3 sm:p-4">
      <Loaded query={query} what={`Rollout ${summary.rolloutId}`} lines={6}>
        {(row) => (
          <div className="grid gap-4 lg:grid-cols-[minmax(0,1fr)_20rem]">
            <div className="min-w-0">
              <Tabs
                label={`Views of rollout ${summary.rolloutId}`}
                tabs={TABS}
                active={tab}
                onChange={setTab}
                actions={
                  <CopyButton text={() => JSON.stringify(row, null, 2)} label="Copy the row as JSON" />
                }
              />
              <div className="pt-3">
                {tab === "conversation" && <Conversation messages={row.messages ?? []} />}
                {tab === "logs" && (
                  <RolloutLogs rolloutId={summary.rolloutId} running={summary.rolloutStatus.code === 101} />
                )}
                {tab === "metadata" && <Metadata row={row} />}
                {tab === "json" && <Json value={row} depth={3} />}
              </div>
            </div>
            <aside
              aria-label={`Scores and status of rollout ${summary.rolloutId}`}
              className="min-w-0 space-y-3"
            >
              <Result row={row} />
              <StatusCard summary={summary} row={row} />
              <Ids summary={summary} />
            </aside>
          </div>
        )}
      </Loaded>
    </div>
  );
}

function Card({ title, end, children }: { title: string; end?: ReactNode; children: ReactNode }) {
  return (
    <section className="overflow-hidden rounded-md border bg-surface">
      <div className="flex items-center justify-between gap-2 border-b bg-raised px-3 py-1.5">
        <h2 className="text-xs font-semibold">{title}</h2>
        {end}
      </div>
      <div className="space-y-2.5 p-3 text-[13px]">{children}</div>
    </section>
  );
}

function Result({ row }: { row: EvaluationRow }) {
  const result = row.evaluation_result;
  if (!result)
    return (
      <Card title="Score">
        <p className="text-ink-faint">Not scored{row.rollout_status?.code === 101 ? " yet" : ""}.</p>
      </Card>
    );
  const metrics = Object.entries(result.metrics ?? {});
  return (
    <Card title="Score" end={<Score value={result.score} valid={result.is_score_valid} />}>
      {result.is_score_valid === false && <Badge tone="fair">not valid: left out of every average</Badge>}
      {result.error && <p className="text-bad [overflow-wrap:anywhere]">{result.error}</p>}
      {result.reason ? (
        <Markdown text={result.reason} />
      ) : (
        metrics.length === 0 && <p className="text-ink-faint">No reason was given.</p>
      )}
      {metrics.length > 0 && (
        <dl className="space-y-2.5 border-t pt-2.5">
          {metrics.map(([name, metric]) => (
            <div key={name}>
              <dt className="flex items-center justify-between gap-2">
                <span className="truncate font-medium" title={name}>
                  {name}
                </span>
                <Score value={metric?.score} valid={metric?.is_score_valid} />
              </dt>
              <dd>
                <div aria-hidden="true" className="my-1 h-1 overflow-hidden rounded bg-sunken">
                  <div
                    className="h-full rounded bg-accent"
                    style={{ width: `${Math.min(1, Math.max(0, metric?.score ?? 0)) * 100}%` }}
                  />
                </div>
                {metric?.reason && (
                  <p className="text-xs whitespace-pre-wrap text-ink-soft [overflow-wrap:anywhere]">
                    {metric.reason.slice(0, 4000)}
                  </p>
                )}
              </dd>
            </div>
          ))}
        </dl>
      )}
      {typeof result.agg_score === "number" && (
        <p className="tabular border-t pt-2.5 text-xs text-ink-soft">
          Whole experiment: {result.agg_score.toFixed(3)}
          {typeof result.standard_error === "number" &&
            ` ± ${result.standard_error.toFixed(3)} (standard error)`}
        </p>
      )}
    </Card>
  );
}

function StatusCard({ summary, row }: { summary: RowSummary; row: EvaluationRow }) {
  // The list knows that a rollout's process died; the stored row may still say that it runs.
  const rollout = { ...row.rollout_status, ...summary.rolloutStatus };
  const evaluation = row.eval_metadata?.status ?? summary.evalStatus;
  return (
    <Card title="Status">
      {(
        [
          ["Rollout", rollout],
          ["Evaluation", evaluation],
        ] as const
      ).map(([what, status]) => (
        <div key={what}>
          <div className="flex items-center justify-between gap-2">
            <span>{what}</span>
            <StatusMark status={status} />
          </div>
          {status?.message && (
            <p
              className={`mt-1 text-xs whitespace-pre-wrap [overflow-wrap:anywhere] ${isError(status.code) ? "text-bad" : "text-ink-soft"}`}
            >
              {status.message.slice(0, 4000)}
            </p>
          )}
          {status?.details && status.details.length > 0 && (
            <Json value={status.details} depth={isError(status.code) ? 3 : 0} className="mt-1.5" />
          )}
        </div>
      ))}
    </Card>
  );
}

function Ids({ summary }: { summary: RowSummary }) {
  const ids = [
    ["Invocation", FIELDS.invocation, summary.invocationId],
    ["Experiment", FIELDS.experiment, summary.experimentId],
    ["Run", FIELDS.run, summary.runId],
    ["Row", FIELDS.row, summary.rowId],
    ["Rollout", FIELDS.rollout, summary.rolloutId],
  ] as const;
  return (
    <Card title="IDs">
      <dl className="space-y-1">
        {ids.map(([name, field, value]) => (
          <div key={name} className="flex items-center justify-between gap-3">
            <dt className="text-ink-soft">{name}</dt>
            <dd className="flex min-w-0 items-center">
              <Filterable field={field} value={value} noun={name.toLowerCase()} mono />
              {value && <CopyButton text={value} label={`Copy ${name.toLowerCase()} id`} />}
            </dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function Metadata({ row }: { row: EvaluationRow }) {
  const parts = [
    ["Input", row.input_metadata],
    ["Execution", row.execution_metadata],
    ["Evaluation", row.eval_metadata],
    ["Ground truth", row.ground_truth],
    ["Tools", row.tools],
  ] as const;
  return (
    <div className="space-y-3">
      {parts
        .filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) => (
          <section key={name}>
            <h2 className="pb-1 text-xs font-semibold text-ink-soft">{name}</h2>
            <Json value={value} depth={2} />
          </section>
        ))}
    </div>
  );
}
