// The reward audit: what the rollouts say about the evaluator. Findings first, then what they were read from.
import { CircleCheck, Info, TriangleAlert } from "lucide-react";
import { shortId } from "~/api/names";
import { type RftJob, useRftAudit } from "~/api/reinforcementFineTuningJobs";
import type { RftAudit, RolloutSummary } from "~/api/rft";
import { Score } from "~/design/Badge";
import { Chart } from "~/design/Chart";
import { DataTable } from "~/design/DataTable";
import { count, figure, percent } from "~/design/figures";
import { Empty, Loaded, Panel } from "~/design/Panel";
import { Answer } from "./Answer";
import { Scatter } from "./Scatter";
import { SecondOpinion } from "./SecondOpinion";

type OnRollout = (rolloutId: string) => void;

export function AuditTab({ job, onRollout }: { job: RftJob; onRollout: OnRollout }) {
  const audit = useRftAudit(shortId(job.name));
  return (
    <Loaded query={audit} what="The audit" lines={10}>
      {(data) =>
        data.rollouts === 0 ? (
          <Panel>
            <Empty title="Nothing to audit yet">
              The audit reads scored rollouts; there are none so far.
            </Empty>
          </Panel>
        ) : (
          <Audit audit={data} onRollout={onRollout} />
        )
      }
    </Loaded>
  );
}

function Audit({ audit, onRollout }: { audit: RftAudit; onRollout: OnRollout }) {
  const { lengthCorrelation: length } = audit;
  return (
    <div className="flex flex-col gap-4">
      <Findings audit={audit} />
      {audit.auditEvaluator && <SecondOpinion opinion={audit.auditEvaluator} />}
      <div className="grid gap-4 xl:grid-cols-2">
        <Panel title="Score against length">
          <Scatter points={length.points} onPick={onRollout} />
          {length.spearman !== null && (
            <p className="mt-2 text-ink-soft">
              Rank correlation <b className="tabular font-mono text-ink">{correlation(length.spearman)}</b>
              {length.low !== null && length.high !== null && (
                <span className="tabular">
                  {" "}
                  (95 % interval {correlation(length.low)} to {correlation(length.high)})
                </span>
              )}
              . Near 0 is healthy: a score that grows with length invites padding.
            </p>
          )}
        </Panel>
        <Panel title="Metric dominance">
          <Dominance metrics={audit.metricDominance} />
        </Panel>
      </div>
      <Trends audit={audit} />
      <div className="grid items-start gap-4 xl:grid-cols-2">
        <TopScored rollouts={audit.topScored} onRollout={onRollout} />
        <Duplicates audit={audit} onRollout={onRollout} />
      </div>
      <p className="text-xs text-ink-faint">
        Read from {count(audit.rollouts)} scored rollouts. An audit tells; it prevents nothing.
      </p>
    </div>
  );
}

/** Two digits, as findings give it. */
function correlation(value: number): string {
  return figure(Number(value.toFixed(2)));
}

function Findings({ audit }: { audit: RftAudit }) {
  if (!audit.findings.length && !audit.lengthCorrelation.points.length && !audit.metricDominance.length)
    return (
      <p className="flex items-center gap-2 rounded-lg border bg-surface px-4 py-3 text-ink-soft">
        <Info size={16} aria-hidden="true" className="shrink-0 text-note" />
        These rollouts carry neither lengths nor metrics, so there is little to judge the reward by.
      </p>
    );
  if (!audit.findings.length)
    return (
      <p className="flex items-center gap-2 rounded-lg border bg-good-soft px-4 py-3 text-good">
        <CircleCheck size={16} aria-hidden="true" />
        Nothing looks wrong with the reward. The best-scored rollouts below are still worth a look.
      </p>
    );
  return (
    <ul aria-label="Findings" className="flex flex-col gap-2">
      {audit.findings.map((finding) => {
        const warning = finding.severity === "warning";
        return (
          <li
            key={finding.title}
            className={`flex gap-3 rounded-lg border px-4 py-3 ${warning ? "border-fair bg-fair-soft" : "bg-surface"}`}
          >
            <span className={warning ? "mt-0.5 text-fair" : "mt-0.5 text-note"}>
              {warning ? (
                <TriangleAlert size={16} aria-label="Warning" />
              ) : (
                <Info size={16} aria-label="Note" />
              )}
            </span>
            <div className="min-w-0">
              <p className="font-semibold">{finding.title}</p>
              <p className="break-words text-ink-soft">{finding.detail}</p>
            </div>
          </li>
        );
      })}
    </ul>
  );
}

function Dominance({ metrics }: { metrics: RftAudit["metricDominance"] }) {
  if (!metrics.length)
    return (
      <Empty title="The evaluator reports no metrics">
        With metrics, this shows which one decides the score.
      </Empty>
    );
  return (
    <>
      <table className="tabular w-full text-[13px]">
        <thead className="text-left text-xs text-ink-faint">
          <tr>
            <th scope="col" className="py-1 font-medium">
              Metric
            </th>
            <th scope="col" className="py-1 text-right font-medium">
              Correlation
            </th>
            <th scope="col" className="w-1/2 py-1 pl-4 font-medium">
              Share of the score's variance
            </th>
          </tr>
        </thead>
        <tbody>
          {metrics.map((metric) => (
            <tr key={metric.metric} className="border-t">
              <th
                scope="row"
                className="max-w-40 truncate py-1.5 text-left font-normal"
                title={metric.metric}
              >
                {metric.metric}
              </th>
              <td className="py-1.5 text-right font-mono">{figure(metric.correlation)}</td>
              <td className="py-1.5 pl-4">
                <span className="flex items-center gap-2">
                  <span aria-hidden="true" className="h-2 flex-1 overflow-hidden rounded-full bg-sunken">
                    <span
                      className="block h-full rounded-full bg-accent"
                      style={{ width: `${Math.min(100, Math.max(0, (metric.share ?? 0) * 100))}%` }}
                    />
                  </span>
                  <span className="w-16 text-right font-mono">{percent(metric.share)}</span>
                </span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="mt-2 text-xs text-ink-faint">
        One metric that decides nearly everything is the one that gets gamed.
      </p>
    </>
  );
}

function Trends({ audit }: { audit: RftAudit }) {
  if (audit.bySteps.length < 2) return null;
  const x = audit.bySteps.map((step) => step.step);
  const curve = (
    title: string,
    field: "duplicateShare" | "lengthCorrelation" | "meanTokens",
    range: { min?: number; max?: number },
    format = figure,
  ) => {
    const values = audit.bySteps.map((step) => step[field]);
    if (values.every((value) => value === null)) return null;
    return (
      <section className="min-w-0 rounded-lg border bg-surface p-3.5">
        <h2 className="text-[13px] font-semibold">{title} by step</h2>
        <Chart
          label={title}
          x={x}
          series={[{ label: title, values }]}
          format={format}
          axis={format}
          range={range}
          height={130}
        />
      </section>
    );
  };
  return (
    <div className="grid gap-3 md:grid-cols-3">
      {curve("One answer to several rows", "duplicateShare", { min: 0 }, percent)}
      {curve("Score against length", "lengthCorrelation", { min: -1, max: 1 })}
      {curve("Mean tokens", "meanTokens", { min: 0 })}
    </div>
  );
}

function TopScored({ rollouts, onRollout }: { rollouts: RolloutSummary[]; onRollout: OnRollout }) {
  return (
    <Panel title="Best-scored rollouts" flush>
      <DataTable
        label="Best-scored rollouts"
        className="rounded-none border-0"
        maxHeight="28rem"
        rows={rollouts}
        rowKey={(row) => row.rolloutId}
        onRowClick={(row) => onRollout(row.rolloutId)}
        columns={[
          {
            id: "score",
            header: "Score",
            align: "right",
            width: 80,
            cell: (row) => <Score value={row.score} valid={row.isScoreValid} />,
          },
          { id: "step", header: "Step", align: "right", width: 60, cell: (row) => row.step },
          {
            id: "tokens",
            header: "Tokens",
            align: "right",
            width: 70,
            cell: (row) => count(row.completionTokens),
          },
          { id: "answer", header: "Answer", cell: (row) => <Answer text={row.answer} /> },
        ]}
      />
    </Panel>
  );
}

function Duplicates({ audit, onRollout }: { audit: RftAudit; onRollout: OnRollout }) {
  return (
    <Panel
      title="One answer to several rows"
      actions={
        audit.duplicateShare !== null && (
          <span className="tabular text-xs text-ink-soft">{percent(audit.duplicateShare)} of rollouts</span>
        )
      }
      flush
    >
      <DataTable
        label="One answer to several rows"
        className="rounded-none border-0"
        maxHeight="28rem"
        rows={audit.duplicates}
        rowKey={(row) => row.rolloutIds[0] ?? row.answer}
        onRowClick={(row) => row.rolloutIds[0] && onRollout(row.rolloutIds[0])}
        empty={
          <Empty title="No answer was given to more than one row">
            One answer that scores well whatever was asked would be found here.
          </Empty>
        }
        columns={[
          {
            id: "count",
            header: "Times",
            align: "right",
            width: 95,
            value: (row) => row.count,
            cell: (row) => (
              <>
                {count(row.count)} <span className="text-ink-faint">({percent(row.share)})</span>
              </>
            ),
          },
          {
            id: "score",
            header: "Mean score",
            align: "right",
            width: 100,
            value: (row) => row.meanScore,
            cell: (row) => <Score value={row.meanScore} />,
          },
          { id: "answer", header: "Answer", cell: (row) => <Answer text={row.answer} /> },
        ]}
      />
    </Panel>
  );
}
