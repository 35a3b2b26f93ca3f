// Curves over steps. The picture is a canvas, so everything it shows is said twice more: in its label, and as a table on request.
// Drag over it to look closer, double-click to see all again.
import "uplot/dist/uPlot.min.css";
import { clsx } from "clsx";
import { ChartLine, Table2 } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { IconButton } from "./Button";
import { figure } from "./figures";
import { plotOptions, plotRows } from "./plot";
import { describe, type Series } from "./series";
import { useTheme } from "./theme";

export type { Series } from "./series";

export interface ChartMark {
  x: number;
  label: string;
  /** One of the theme's eight series colours. */
  colour: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;
}

export interface ChartProps {
  /** What it shows, e.g. "Mean reward". */
  label: string;
  x: readonly number[];
  /** What x counts; default "step". */
  xLabel?: string;
  series: readonly Series[];
  /** Span of the moving average; the measured values stay visible behind it. 0: none. */
  smoothing?: number;
  format?: (value: number) => string;
  /** Marks of the y axis, where there is no room for units; default: the bare number. */
  axis?: (value: number) => string;
  /** Bounds that the y axis keeps; what is left out fits the values. */
  range?: { min?: number; max?: number };
  log?: boolean;
  stacked?: boolean;
  /** Pixels of the drawing, default 220. */
  height?: number;
  /** Vertical lines: where something changed. */
  marks?: readonly ChartMark[];
  /** Called with the x that was clicked. */
  onPick?: (x: number) => void;
  className?: string;
}

export function Chart(props: ChartProps) {
  const { label, x, series, xLabel = "step", format = figure, height = 220, marks } = props;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [at, setAt] = useState<number | null>(null);
  const [table, setTable] = useState(false);
  const summary = useMemo(
    () =>
      [
        `${label} by ${xLabel}.`,
        describe(x, series, format),
        ...(marks ?? []).map((mark) => `At ${mark.x}: ${mark.label}.`),
      ].join(" "),
    [label, xLabel, x, series, format, marks],
  );
  const place = at === null ? null : (x[at] ?? null);
  return (
    <figure className={clsx("flex min-w-0 flex-col gap-1", props.className)} aria-label={label}>
      <div className="flex min-h-7 items-center justify-between gap-2">
        <div className="flex min-w-0 flex-wrap items-center gap-x-3 gap-y-0.5 text-xs">
          {series.map((one, index) => (
            <Entry
              key={one.label}
              series={one}
              index={index}
              value={at === null ? lastOf(one.values) : (one.values[at] ?? null)}
              format={format}
              off={hidden.has(one.label)}
              onToggle={series.length > 1 ? () => setHidden(toggled(hidden, one.label)) : undefined}
            />
          ))}
          {place !== null && (
            <span className="tabular text-ink-faint">
              at {xLabel} {figure(place)}
            </span>
          )}
        </div>
        <IconButton
          label={table ? `Show the curve of ${label}` : `Show the data of ${label}`}
          aria-pressed={table}
          onClick={() => setTable(!table)}
        >
          {table ? <ChartLine size={14} /> : <Table2 size={14} />}
        </IconButton>
      </div>
      {table ? (
        <DataOf {...{ label, x, series, xLabel, format, height }} />
      ) : (
        <div role="img" aria-label={summary} style={{ minHeight: height }}>
          <Plot {...props} hidden={hidden} onCursor={setAt} />
        </div>
      )}
    </figure>
  );
}

function Entry(props: {
  series: Series;
  index: number;
  value: number | null;
  format: (value: number) => string;
  off: boolean;
  onToggle?: () => void;
}) {
  const { series, off } = props;
  const inside = (
    <>
      <span
        aria-hidden="true"
        className="h-0.5 w-3 rounded-full"
        style={{ background: `var(--series-${series.colour ?? (props.index % 8) + 1})` }}
      />
      <span className="truncate">{series.label}</span>
      <span className="tabular font-mono font-medium text-ink">
        {props.value === null ? "" : props.format(props.value)}
      </span>
    </>
  );
  const look = clsx(
    "inline-flex max-w-full items-center gap-1.5 text-ink-soft",
    off && "line-through opacity-60",
  );
  if (!props.onToggle) return <span className={look}>{inside}</span>;
  return (
    <button
      type="button"
      aria-pressed={!off}
      onClick={props.onToggle}
      className={clsx(look, "hover:text-ink")}
    >
      {inside}
    </button>
  );
}

function Plot(props: ChartProps & { hidden: ReadonlySet<string>; onCursor: (index: number | null) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const heard = useRef(props);
  heard.current = props;
  const { shown } = useTheme();
  const rows = useMemo(
    () => plotRows(props.x, props.series, props.smoothing ?? 0, !!props.stacked, !!props.log),
    [props.x, props.series, props.smoothing, props.stacked, props.log],
  );
  const latest = useRef(rows);
  latest.current = rows;
  // What the plot is made of; when only numbers change, they are put into the plot that is there, and a zoom stays.
  const shape = JSON.stringify([
    rows.lines.map((line) => ({ ...line, values: 0 })),
    [...props.hidden],
    props.range,
    props.log,
    props.stacked,
    props.height,
    shown,
  ]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `shape` stands for all that makes another plot
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const made = new uPlot(
      plotOptions(element, heard, latest.current.lines, props.hidden),
      latest.current.data as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => {
      if (element.clientWidth)
        made.setSize({ width: element.clientWidth, height: heard.current.height ?? 220 });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    const made = plot.current;
    if (made && made.data !== rows.data) made.setData(rows.data as uPlot.AlignedData, whole(made));
  }, [rows]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the plot reads the marks when it is drawn
  useEffect(() => plot.current?.redraw(false), [props.marks]);

  return <div ref={box} className="min-w-0" />;
}

/** Whether all of x is in view: then new data may widen it. */
function whole(plot: uPlot): boolean {
  const all = plot.data[0];
  const { min, max } = plot.scales.x ?? {};
  return all.length < 2 || ((min ?? 0) <= (all[0] ?? 0) && (max ?? 0) >= (all[all.length - 1] ?? 0));
}

function DataOf(props: {
  label: string;
  x: readonly number[];
  series: readonly Series[];
  xLabel: string;
  format: (value: number) => string;
  height: number;
}) {
  return (
    <section
      className="overflow-auto rounded border"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
      tabIndex={0}
      aria-label={`Data of ${props.label}`}
      style={{ height: props.height }}
    >
      <table className="tabular w-full text-right text-xs">
        <thead className="sticky top-0 bg-sunken">
          <tr>
            <th scope="col" className="px-2 py-1 font-medium">
              {props.xLabel}
            </th>
            {props.series.map((one) => (
              <th key={one.label} scope="col" className="px-2 py-1 font-medium">
                {one.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.x.map((place, at) => (
            <tr key={place} className="border-t">
              <th scope="row" className="px-2 py-0.5 font-normal text-ink-soft">
                {figure(place)}
              </th>
              {props.series.map((one) => (
                <td key={one.label} className="px-2 py-0.5 font-mono">
                  {cell(one, at, props.format)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function cell(series: Series, at: number, format: (value: number) => string): string {
  const value = series.values[at] ?? null;
  if (value === null) return "";
  const [low, high] = [series.band?.low[at] ?? null, series.band?.high[at] ?? null];
  return low === null || high === null ? format(value) : `${format(value)} [${format(low)}, ${format(high)}]`;
}

function lastOf(values: Series["values"]): number | null {
  for (let at = values.length - 1; at >= 0; at--)
    if ((values[at] ?? null) !== null) return values[at] as number;
  return null;
}

function toggled(set: ReadonlySet<string>, name: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(name)) next.add(name);
  return next;
}
