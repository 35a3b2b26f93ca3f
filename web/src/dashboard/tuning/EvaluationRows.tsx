// What each held-out row said at a step, beside what it said before training: which rows got better, which worse.
import { useMemo } from "react";
import { type HeldOutRow, type TuningJob, type TuningKind, useHeldOutRows } from "~/api/tuningJobs";
import { DataTable } from "~/design/DataTable";
import { Select } from "~/design/Field";
import { change, figure } from "~/design/figures";
import { Empty, Failure, Panel } from "~/design/Panel";

interface Line {
  row: number;
  before: number | null;
  after: number | null;
  margin: number | null;
  tokens: number | null;
}

export default function EvaluationRows(props: {
  kind: TuningKind;
  id: string;
  job: TuningJob;
  step: string | undefined;
  onStep: (step: string) => void;
}) {
  const { kind, id, job } = props;
  const steps = Object.keys(job.evaluationRowsSignedUrls).sort((a, b) => Number(a) - Number(b));
  const last = steps.at(-1);
  const step = props.step && steps.includes(props.step) ? props.step : last;
  const first = useHeldOutRows(kind, id, job, steps[0]);
  const now = useHeldOutRows(kind, id, job, step);
  const rows = useMemo(
    () => (now.data && first.data ? linesOf(first.data, now.data) : undefined),
    [first.data, now.data],
  );
  if (!steps.length)
    return (
      <Panel>
        <Empty title="No rows are held out">
          Create the job with an evaluation dataset, or let it hold out a tenth of its rows.
        </Empty>
      </Panel>
    );
  const error = first.error ?? now.error;
  if (error) return <Failure title="The rows could not be loaded" error={error} />;
  const better = rows?.filter((row) => (row.after ?? 0) < (row.before ?? 0)).length ?? 0;
  return (
    <DataTable<Line>
      label="Held-out rows"
      rows={rows}
      rowKey={(row) => String(row.row)}
      toolbar={
        <>
          <div className="flex items-center gap-2 text-xs text-ink-soft">
            At step
            <Select aria-label="At step" value={step} onChange={(event) => props.onStep(event.target.value)}>
              {steps.map((each) => (
                <option key={each} value={each}>
                  {each}
                </option>
              ))}
            </Select>
          </div>
          {rows && (
            <span className="tabular text-xs text-ink-soft">
              {better} of {rows.length} rows better than before training
            </span>
          )}
        </>
      }
      columns={[
        {
          id: "row",
          header: "Row",
          align: "right",
          width: 70,
          value: (row) => row.row,
          cell: (row) => row.row,
        },
        {
          id: "before",
          header: "Loss before training",
          align: "right",
          value: (row) => row.before,
          cell: (row) => figure(row.before),
        },
        {
          id: "after",
          header: `Loss at step ${step}`,
          align: "right",
          value: (row) => row.after,
          cell: (row) => figure(row.after),
        },
        {
          id: "change",
          header: "Change",
          align: "right",
          value: difference,
          cell: (row) => {
            const by = difference(row);
            if (by === null) return "dropped";
            return <span className={by < 0 ? "text-good" : by > 0 ? "text-bad" : ""}>{change(by, 4)}</span>;
          },
        },
        ...(kind === "dpo"
          ? [
              {
                id: "margin",
                header: "Margin",
                align: "right" as const,
                value: (row: Line) => row.margin,
                cell: (row: Line) => figure(row.margin),
              },
            ]
          : [
              {
                id: "tokens",
                header: "Trained tokens",
                align: "right" as const,
                value: (row: Line) => row.tokens,
                cell: (row: Line) => row.tokens ?? "none",
              },
            ]),
      ]}
    />
  );
}

function linesOf(first: readonly HeldOutRow[], now: readonly HeldOutRow[]): Line[] {
  return now.map((row, place) => ({
    row: place,
    before: lossOf(first[place]),
    after: lossOf(row),
    margin: row.margin ?? null,
    tokens: row.tokens ?? null,
  }));
}

/** Of a pair its loss; of a conversation the mean over its trained tokens. */
function lossOf(row: HeldOutRow | undefined): number | null {
  if (!row) return null;
  if (row.loss !== undefined) return row.loss;
  return typeof row.nats === "number" && row.tokens ? row.nats / row.tokens : null;
}

function difference(row: Line): number | null {
  return row.before === null || row.after === null ? null : row.after - row.before;
}
