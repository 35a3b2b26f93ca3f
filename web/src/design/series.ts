// The arithmetic of curves: smoothing, stacking, and the sentence that says what a curve does to someone who cannot see it.
import { figure } from "./figures";

export type Values = readonly (number | null)[];

export interface Series {
  label: string;
  /** One value for each x; null: not measured there. */
  values: Values;
  /** Which of the theme's eight series colours; default: its place in the list. */
  colour?: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;
  /** An interval around the values, drawn as a band, and at `points` as whiskers, too. */
  band?: { low: Values; high: Values };
  /** Dots at its values: for what is measured now and then. */
  points?: boolean;
  dashed?: boolean;
  /** Never smoothed: held-out scores, learning rates. */
  exact?: boolean;
}

/** Exponential moving average with the span `n` (weight 2 / (n + 1)); gaps stay gaps. 0 or 1: as it is. */
export function ema(values: Values, n: number): (number | null)[] {
  if (n <= 1) return [...values];
  const weight = 2 / (n + 1);
  let mean: number | null = null;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    mean = mean === null ? value : mean + weight * (value - mean);
    return mean;
  });
}

/** Sums from the first series up; a missing part counts as 0, an x where all parts are missing stays missing. */
export function stack(parts: readonly Values[]): (number | null)[][] {
  const length = parts[0]?.length ?? 0;
  const sums: (number | null)[] = Array.from({ length }, (_, at) =>
    parts.every((part) => (part[at] ?? null) === null) ? null : 0,
  );
  return parts.map((part) => {
    for (let at = 0; at < length; at++) {
      const before = sums[at];
      if (before !== null && before !== undefined) sums[at] = before + (part[at] ?? 0);
    }
    return [...sums];
  });
}

/** "Reward: 0.12 at 0 to 0.56 at 30, between 0.1 and 0.6." for each series. */
export function describe(
  x: readonly number[],
  series: readonly Series[],
  format: (value: number) => string = figure,
): string {
  return series
    .map(({ label, values }) => {
      const known = values.flatMap((value, at) =>
        value === null || !Number.isFinite(value) ? [] : [{ value, x: x[at] ?? at }],
      );
      const [first, last] = [known[0], known[known.length - 1]];
      if (!first || !last) return `${label}: no values.`;
      if (known.length === 1) return `${label}: ${format(first.value)} at ${first.x}.`;
      const all = known.map((one) => one.value);
      return `${label}: ${format(first.value)} at ${first.x} to ${format(last.value)} at ${last.x}, between ${format(
        all.reduce((a, b) => Math.min(a, b)),
      )} and ${format(all.reduce((a, b) => Math.max(a, b)))}.`;
    })
    .join(" ");
}

/** Curves that were measured at different places, on one x: missing values are null. */
export function align(curves: readonly { x: readonly number[]; values: Values }[]): {
  x: number[];
  values: (number | null)[][];
} {
  const x = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const place = new Map(x.map((value, at) => [value, at]));
  const values = curves.map((curve) => {
    const row: (number | null)[] = new Array(x.length).fill(null);
    curve.x.forEach((value, at) => {
      row[place.get(value) as number] = curve.values[at] ?? null;
    });
    return row;
  });
  return { x, values };
}
