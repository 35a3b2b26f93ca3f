// The pivot as bars: one group for each row, one colour for each column, with whiskers where an interval is known.
import type { Cell, Pivot } from "../rows";
import { useLocalState } from "../useLocalState";
import { explain, format, keyLabel } from "./pivot";

/** Bars that a person can tell apart; of more the first are drawn. */
const MOST_BARS = 60;
const SERIES = 8;
const BAR = 16;
const GAP = 14;
const NAME = 20;
const WIDTH = 460;
const VALUE = 64;

export function PivotChart({ pivot, figure }: { pivot: Pivot; figure: string }) {
  const [{ pivotConfig }] = useLocalState();
  const aggregator = pivotConfig.selectedAggregator;
  const columns = pivot.columns.slice(0, SERIES);
  const groups = pivot.rows.slice(0, Math.max(1, Math.floor(MOST_BARS / columns.length))).map((key, at) => ({
    key,
    bars: columns.flatMap((column, place) => {
      const cell = pivot.cells[at]?.[place];
      return cell && cell.value !== null ? [{ cell, column, place }] : [];
    }),
  }));
  const reach = (cell: Cell) => [cell.value ?? 0, cell.low ?? 0, cell.high ?? 0];
  const all = groups.flatMap((group) => group.bars.flatMap((bar) => reach(bar.cell)));
  if (all.length === 0) return null;
  const low = Math.min(0, ...all);
  const high = Math.max(...all, low + 1e-9);
  const x = (value: number) => ((value - low) / (high - low)) * (WIDTH - VALUE);
  let height = 0;
  const placed = groups.map((group) => {
    const top = height;
    height += NAME + group.bars.length * (BAR + 3) + GAP;
    return { ...group, top };
  });
  return (
    <section className="min-w-0 rounded-lg border bg-surface">
      <h2 className="truncate border-b bg-raised px-3 py-2 text-[13px] font-semibold" title={figure}>
        Chart
      </h2>
      {columns.length > 1 && (
        <ul className="flex flex-wrap gap-x-4 gap-y-1 px-3 pt-3 text-xs" aria-label="Colours">
          {columns.map((column, place) => (
            <li key={JSON.stringify(column)} className="flex min-w-0 items-center gap-1.5">
              <span
                aria-hidden="true"
                className="size-2.5 shrink-0 rounded-sm"
                style={{ background: `var(--series-${place + 1})` }}
              />
              <span className="truncate" title={keyLabel(column)}>
                {keyLabel(column)}
              </span>
            </li>
          ))}
        </ul>
      )}
      <section
        aria-label="Chart"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        className="max-h-[70dvh] overflow-y-auto p-3 outline-offset-[-2px]"
      >
        <svg viewBox={`0 0 ${WIDTH} ${height}`} className="w-full" role="img" aria-label={`Bars: ${figure}`}>
          <line x1={x(0)} x2={x(0)} y1={0} y2={height - GAP} stroke="var(--line-strong)" />
          {placed.map(({ key, bars, top }) => (
            <g key={JSON.stringify(key)}>
              <text x={0} y={top + 13} fontSize={12} fill="var(--ink-soft)">
                {cut(keyLabel(key), 68)}
              </text>
              {bars.map(({ cell, column, place }, at) => {
                const y = top + NAME + at * (BAR + 3);
                const [from, to] = [x(Math.min(0, cell.value ?? 0)), x(Math.max(0, cell.value ?? 0))];
                const end = Math.max(to, cell.high === null ? 0 : x(cell.high));
                return (
                  <g key={JSON.stringify(column)}>
                    <title>{`${keyLabel(key)}, ${keyLabel(column)}: ${explain(cell, aggregator)}`}</title>
                    <rect
                      x={from}
                      y={y}
                      width={Math.max(1.5, to - from)}
                      height={BAR}
                      rx={2}
                      fill={`var(--series-${place + 1})`}
                      opacity={0.85}
                    />
                    {cell.low !== null && cell.high !== null && (
                      <g stroke="var(--ink)" strokeWidth={1.2}>
                        <line x1={x(cell.low)} x2={x(cell.high)} y1={y + BAR / 2} y2={y + BAR / 2} />
                        <line x1={x(cell.low)} x2={x(cell.low)} y1={y + 4} y2={y + BAR - 4} />
                        <line x1={x(cell.high)} x2={x(cell.high)} y1={y + 4} y2={y + BAR - 4} />
                      </g>
                    )}
                    <text x={end + 6} y={y + BAR - 4} fontSize={11} fill="var(--ink)" className="tabular">
                      {format(cell.value, aggregator)}
                    </text>
                  </g>
                );
              })}
            </g>
          ))}
        </svg>
      </section>
      {(groups.length < pivot.rows.length || columns.length < pivot.columns.length) && (
        <p className="border-t px-3 py-2 text-xs text-ink-soft">
          Bars of {groups.length} of {pivot.rows.length} rows and {columns.length} of {pivot.columns.length}{" "}
          columns.
        </p>
      )}
    </section>
  );
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}
