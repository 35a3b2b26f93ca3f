// How `Chart` asks uPlot to draw: its lines, bands, axes and colours.
import type uPlot from "uplot";
import type { ChartMark, ChartProps } from "./Chart";
import { figure } from "./figures";
import { ema, type Series, stack, type Values } from "./series";

/** One line of the plot; several belong to one series: measured values, their average, both ends of an interval. */
export interface Line {
  of: string;
  colour: number;
  role: "line" | "raw" | "low" | "high";
  points: boolean;
  dashed: boolean;
  values: Values;
}

/** The lines of a chart and the columns that uPlot takes, x first. */
export function plotRows(
  x: readonly number[],
  series: readonly Series[],
  smoothing: number,
  stacked: boolean,
  log: boolean,
): { lines: Line[]; data: (readonly number[] | Values)[] } {
  const lines: Line[] = [];
  const stacks = stacked ? stack(series.map((one) => ema(one.values, smoothing))) : null;
  series.forEach((one, index) => {
    const colour = one.colour ?? (index % 8) + 1;
    const add = (role: Line["role"], values: Values) =>
      lines.push({
        of: one.label,
        colour,
        role,
        points: !!one.points,
        dashed: !!one.dashed,
        // A logarithm has no place for zero and below.
        values: log ? values.map((value) => (value !== null && value > 0 ? value : null)) : values,
      });
    if (one.band) {
      add("low", one.band.low);
      add("high", one.band.high);
    }
    const smooth = smoothing > 1 && !one.exact && !stacks;
    if (smooth) add("raw", one.values);
    add("line", stacks?.[index] ?? (smooth ? ema(one.values, smoothing) : one.values));
  });
  return { lines, data: [x, ...lines.map((line) => line.values)] };
}

export function plotOptions(
  box: HTMLElement,
  heard: { current: ChartProps & { onCursor: (index: number | null) => void } },
  lines: readonly Line[],
  hidden: ReadonlySet<string>,
): uPlot.Options {
  const props = heard.current;
  const style = getComputedStyle(box);
  const role = (name: string) => style.getPropertyValue(name).trim();
  const tint = (colour: number, share: number) => translucent(role(`--series-${colour}`), share);
  const mark = props.axis ?? figure;
  const font = `11px ${style.fontFamily}`;
  const axis = {
    stroke: role("--ink-faint"),
    font,
    ticks: { show: false },
    grid: { stroke: role("--line"), width: 1 },
  };
  const bands: uPlot.Band[] = [];
  lines.forEach((line, index) => {
    if (line.role === "high") bands.push({ series: [index + 1, index], fill: tint(line.colour, 0.14) });
    if (props.stacked && index > 0) bands.push({ series: [index + 1, index], fill: tint(line.colour, 0.45) });
  });
  return {
    width: Math.max(box.clientWidth, 120),
    height: props.height ?? 220,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, dist: 4 } },
    scales: {
      x: { time: false, range: (_, min, max) => (min === max ? [min - 1, max + 1] : [min, max]) },
      y: {
        distr: props.log ? 3 : 1,
        range: props.log ? undefined : (_, min, max) => bounds(min, max, props),
      },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 26,
        space: 60,
        incrs: WHOLE_STEPS,
        values: (_, marks) => marks.map(figure),
      },
      {
        ...axis,
        size: 52,
        space: 34,
        // On a logarithmic axis only the powers of ten have a line.
        grid: props.log
          ? { ...axis.grid, filter: (_, marks) => marks.map((at) => (isPower(at) ? at : null)) }
          : axis.grid,
        filter: props.log ? (_, marks) => marks.map((at) => (isPower(at) ? at : null)) : undefined,
        values: (_, marks) => marks.map((value) => (value === null ? "" : mark(value))),
      },
    ],
    series: [
      {},
      ...lines.map((line, index): uPlot.Series => {
        const colour = role(`--series-${line.colour}`);
        const edge = line.role === "low" || line.role === "high";
        return {
          label: line.of,
          show: !hidden.has(line.of),
          stroke: edge ? "transparent" : line.role === "raw" ? tint(line.colour, 0.32) : colour,
          width: edge ? 0 : line.role === "raw" ? 1 : 1.75,
          dash: line.dashed ? [5, 4] : undefined,
          spanGaps: true,
          fill: props.stacked && index === 0 ? tint(line.colour, 0.45) : undefined,
          points:
            edge || line.role === "raw"
              ? { show: false }
              : {
                  show: (plot, at) => line.points || isAlone(plot.data[at] as Values),
                  size: 6,
                  fill: colour,
                  width: 0,
                },
        };
      }),
    ],
    bands,
    hooks: {
      setCursor: [
        (plot) =>
          heard.current.onCursor(
            plot.cursor.left === undefined || plot.cursor.left < 0 ? null : (plot.cursor.idx ?? null),
          ),
      ],
      draw: [
        (plot) => whiskers(plot, lines, hidden, tint),
        (plot) => drawMarks(plot, heard.current.marks ?? [], tint, font),
      ],
      ready: [
        (plot) => {
          let from = -1;
          plot.over.addEventListener("mousedown", (event) => {
            from = event.clientX;
          });
          plot.over.addEventListener("click", (event) => {
            const index = plot.cursor.idx;
            if (Math.abs(event.clientX - from) > 3 || index === null || index === undefined) return;
            heard.current.onPick?.(plot.data[0][index] as number);
          });
          if (props.onPick) plot.over.style.cursor = "pointer";
        },
      ],
    },
  };
}

/** Steps between marks of x: steps of a job are whole. */
const WHOLE_STEPS = [
  1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
];

/** The y axis: the values with some air, but never beyond the bounds that the chart keeps. */
function bounds(low: number, high: number, props: ChartProps): [number, number] {
  const { min, max } = props.range ?? {};
  const known = Number.isFinite(low) && Number.isFinite(high);
  const air =
    known && (high > low || high !== 0) ? Math.max((high - low) * 0.08, Math.abs(high) * 0.01) : 0.5;
  return [min ?? (known ? low - air : 0), max ?? (known ? high + air : 1)];
}

function isPower(value: number): boolean {
  return Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6;
}

function isAlone(values: Values): boolean {
  return values.filter((value) => value !== null).length === 1;
}

/** An interval at each point of what is measured now and then: a line up and down with small ends. */
function whiskers(
  plot: uPlot,
  lines: readonly Line[],
  hidden: ReadonlySet<string>,
  tint: (colour: number, share: number) => string,
): void {
  lines.forEach((line, index) => {
    if (line.role !== "low" || hidden.has(line.of)) return;
    // Not the lines' own values: new data is put into the plot that is there.
    const [lows, highs] = [plot.data[index + 1] as Values, plot.data[index + 2] as Values];
    const few = (lows?.filter((value) => value !== null).length ?? 0) <= 40;
    if (!few || !lows || !highs) return;
    const { ctx } = plot;
    const end = 3 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = tint(line.colour, 0.8);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    lows.forEach((low, at) => {
      const top = highs[at];
      if (low === null || low === undefined || top === null || top === undefined) return;
      const x = plot.valToPos(plot.data[0][at] as number, "x", true);
      if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
      for (const y of [plot.valToPos(low, "y", true), plot.valToPos(top, "y", true)]) {
        ctx.moveTo(x - end, y);
        ctx.lineTo(x + end, y);
      }
      ctx.moveTo(x, plot.valToPos(low, "y", true));
      ctx.lineTo(x, plot.valToPos(top, "y", true));
    });
    ctx.stroke();
    ctx.restore();
  });
}

/** A vertical line at each mark with its label along it; labels that would lie over each other are left to the chart's text. */
function drawMarks(
  plot: uPlot,
  marks: readonly ChartMark[],
  tint: (colour: number, share: number) => string,
  font: string,
): void {
  const { ctx, bbox } = plot;
  const size = 11 * devicePixelRatio;
  let free = Number.NEGATIVE_INFINITY;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.font = font.replace("11px", `${size}px`);
  for (const mark of marks.toSorted((a, b) => a.x - b.x)) {
    const x = plot.valToPos(mark.x, "x", true);
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
    ctx.strokeStyle = tint(mark.colour, 0.75);
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (x - free < size * 1.2) continue;
    free = x;
    ctx.fillStyle = tint(mark.colour, 1);
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.translate(x - 3 * devicePixelRatio, bbox.top + bbox.height - 4 * devicePixelRatio);
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(mark.label, 0, 0);
    ctx.restore();
  }
  ctx.restore();
}

/** A theme's colour, #rrggbb, with an opacity. */
function translucent(colour: string, share: number): string {
  return `${colour}${Math.round(share * 255)
    .toString(16)
    .padStart(2, "0")}`;
}
