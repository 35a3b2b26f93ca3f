// Numbers as people read them. Counts in full with separators, measures with four digits, sizes and shares with their unit.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 12345.6 -> "12,346"; null -> "none". */
export function count(value: number | null | undefined): string {
  return value === null || value === undefined || !Number.isFinite(value) ? "none" : WHOLE.format(value);
}

/** A measure with at most four significant digits: 0.1234, 12.3, 1,234, 1.2e-5; null -> "none". */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e9) return minus(value.toExponential(1).replace("e+", "e"));
  if (size >= 1000) return minus(WHOLE.format(value));
  return minus(String(Number(value.toPrecision(4))));
}

/** A change with its sign: "+0.120", "−0.034", "±0". */
export function change(value: number, digits = 3): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return "±0";
  return (value > 0 ? "+" : "−") + text;
}

/** 0.1234 -> "12.3 %". */
export function percent(value: number | null | undefined): string {
  return value === null || value === undefined
    ? "none"
    : `${Number((value * 100).toFixed(value < 0.1 ? 2 : 1))} %`;
}

/** Bytes with a unit, as in "0.18 MB"; below 10 kB in bytes. */
export function bytes(value: number): string {
  if (value < 10_000) return `${WHOLE.format(value)} B`;
  return value < 1e9 ? `${(value / 1e6).toFixed(2)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

function minus(text: string): string {
  return text.replace(/^-/, "−");
}
