// What all pairs say together.
import { clsx } from "clsx";
import { Tile } from "~/design/Panel";
import type { Comparison } from "../rows";
import { chance, signed, verdict } from "./verdict";

export function Summary({ comparison }: { comparison: Comparison }) {
  const { summary, unpaired } = comparison;
  const { title, tone } = verdict(summary);
  const share = (count: number) => (summary.n ? `${(count / summary.n) * 100}%` : "0%");
  const mean = (value: number | null) => (value === null ? "none" : value.toFixed(3));
  return (
    <section aria-label="Summary" className="space-y-3">
      <h2
        className={clsx(
          "text-base font-semibold",
          tone === "good" && "text-good",
          tone === "bad" && "text-bad",
        )}
      >
        {title}
      </h2>
      <div className="grid grid-cols-2 gap-3 lg:grid-cols-5">
        <Tile
          label="Mean, left"
          value={mean(summary.meanLeft)}
          hint={unpaired.left ? `${unpaired.left} rows without a pair` : "all rows have a pair"}
        />
        <Tile
          label="Mean, right"
          value={mean(summary.meanRight)}
          hint={unpaired.right ? `${unpaired.right} rows without a pair` : "all rows have a pair"}
        />
        <Tile
          label="Difference, right minus left"
          value={summary.difference === null ? "none" : signed(summary.difference)}
          hint={
            summary.low !== null && summary.high !== null
              ? `95 % interval ${signed(summary.low)} to ${signed(summary.high)}`
              : "no interval"
          }
        />
        <Tile
          label="Could it be chance?"
          value={summary.p === null ? "unknown" : chance(summary.p)}
          hint={summary.test ? <span title={summary.test}>{summary.test}</span> : undefined}
        />
        <div className="col-span-2 min-w-0 rounded-lg border bg-surface px-3.5 py-2.5 lg:col-span-1">
          <div className="text-xs text-ink-faint">Rows, right against left</div>
          <div className="tabular flex flex-wrap gap-x-3 text-lg font-semibold">
            <span className="text-good">{summary.wins}</span>
            <span className="text-bad">{summary.losses}</span>
            <span className="text-ink-soft">{summary.ties}</span>
          </div>
          <div className="flex h-1.5 overflow-hidden rounded bg-sunken" aria-hidden="true">
            <div className="bg-good" style={{ width: share(summary.wins) }} />
            <div className="bg-line-strong" style={{ width: share(summary.ties) }} />
            <div className="bg-bad" style={{ width: share(summary.losses) }} />
          </div>
          <div className="truncate pt-0.5 text-xs text-ink-soft">wins, losses, ties of {summary.n}</div>
        </div>
      </div>
    </section>
  );
}
