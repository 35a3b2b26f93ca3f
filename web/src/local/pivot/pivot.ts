// What a pivot's numbers look like: words of keys, formats of values, shades of cells, and the filter that a cell stands for.
import type { Cell, FieldInfo, Key, Pivot } from "../rows";
import { type Aggregator, type FilterGroup, withEquals } from "../state";

export const AGGREGATOR_NAMES: Record<Aggregator, string> = {
  count: "Count",
  sum: "Sum",
  avg: "Average",
  min: "Minimum",
  max: "Maximum",
  stderr: "Standard error",
  "pass@k": "pass@k",
};

/** One key as text; a field that a rollout does not have is a key, too. */
export function keyText(value: Key[number] | undefined): string {
  return value === null || value === undefined ? "(none)" : value === "" ? "(empty)" : String(value);
}

export function keyLabel(key: Key): string {
  return key.length ? key.map(keyText).join(" · ") : "All";
}

/** Numbers of one table: scores to three places, large ones with fewer, counts whole. */
export function format(value: number | null | undefined, aggregator: Aggregator): string {
  if (value === null || value === undefined) return "";
  if (aggregator === "count" || (Number.isInteger(value) && Math.abs(value) > 1))
    return value.toLocaleString();
  if (aggregator === "pass@k") return `${(value * 100).toFixed(1)}%`;
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 10 ? 1 : 3;
  return value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** What hovering over a cell says. */
export function explain(cell: Cell, aggregator: Aggregator): string {
  const counted = `${cell.count.toLocaleString()} ${aggregator === "count" ? "rollouts" : cell.count === 1 ? "value" : "values"}`;
  if (cell.value === null) return `none: ${counted}, too few for this`;
  const between =
    cell.low !== null && cell.high !== null
      ? `, 95 % interval ${format(cell.low, aggregator)} to ${format(cell.high, aggregator)}`
      : "";
  return `${format(cell.value, aggregator)}${between}, ${counted}`;
}

/** How strong a cell's colour is, 0 to 1, between the least and the largest value of the table. */
export function heat(pivot: Pivot): (cell: Cell | null) => number | null {
  const values = pivot.cells.flat().flatMap((cell) => (cell?.value == null ? [] : [cell.value]));
  const low = Math.min(...values);
  const high = Math.max(...values);
  return (cell) =>
    cell?.value == null || values.length < 2 || high === low ? null : (cell.value - low) / (high - low);
}

/** The filter that shows the rollouts of a cell; null where a key is the absence of a value, which no filter can ask for. */
export function cellFilter(
  filterConfig: readonly FilterGroup[],
  keys: readonly { fields: readonly string[]; key: Key }[],
  infos: readonly FieldInfo[],
): FilterGroup[] | null {
  const wanted: { field: string; value: string; type: "text" | "number" | "date" }[] = [];
  for (const { fields, key } of keys) {
    for (const [place, field] of fields.entries()) {
      const value = key[place];
      if (value === null || value === undefined || value === "") return null;
      const type = infos.find((info) => info.path === field)?.type;
      wanted.push({
        field,
        value: String(value),
        type: typeof value === "number" ? "number" : type === "date" ? "date" : "text",
      });
    }
  }
  return withEquals(filterConfig, ...wanted);
}
