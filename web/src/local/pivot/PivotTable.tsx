// The pivot as a table with totals; colour says more and less, hovering says how sure, a click shows the rollouts.
import { useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { type Cell, type Key, type Pivot, useFields } from "../rows";
import type { FilterGroup } from "../state";
import { useLocalState } from "../useLocalState";
import { cellFilter, explain, format, heat, keyLabel, keyText } from "./pivot";

const HEAD = "border-b bg-raised px-3 py-2 text-xs font-semibold text-ink-soft whitespace-nowrap";
/** Columns and rows that are drawn; a larger pivot is cut, and says so. */
const MOST_ROWS = 500;
const MOST_COLUMNS = 60;

export function PivotTable({ pivot, figure }: { pivot: Pivot; figure: string }) {
  const [{ pivotConfig, filterConfig, paginationConfig }] = useLocalState();
  const navigate = useNavigate();
  const infos = useFields().data ?? [];
  const { selectedRowFields: rowFields, selectedColumnFields: columnFields } = pivotConfig;
  const shade = heat(pivot);
  const columns = pivot.columns.slice(0, MOST_COLUMNS);
  const totals = columnFields.length > 0;

  const filterOf = (row: Key | null, column: Key | null): FilterGroup[] | null =>
    cellFilter(
      filterConfig,
      [
        ...(row ? [{ fields: rowFields, key: row }] : []),
        ...(column ? [{ fields: columnFields, key: column }] : []),
      ],
      infos,
    );
  const show = (filters: FilterGroup[]) =>
    navigate({
      to: "/table",
      search: (before: object) => ({
        ...before,
        filterConfig: filters,
        paginationConfig: { ...paginationConfig, currentPage: 1 },
      }),
    });
  const cell = (value: Cell | null, row: Key | null, column: Key | null, heated: boolean): ReactNode => {
    if (!value) return null;
    const filters = filterOf(row, column);
    const words = `${explain(value, pivotConfig.selectedAggregator)}${filters ? ". Click to see the rollouts" : ""}`;
    const strength = heated ? shade(value) : null;
    return (
      <CellButton
        title={words}
        onClick={filters ? () => show(filters) : undefined}
        strength={strength}
        label={`${[row && keyLabel(row), column && keyLabel(column)].filter(Boolean).join(", ") || "Everything"}: ${words}`}
      >
        {format(value.value, pivotConfig.selectedAggregator) || "none"}
      </CellButton>
    );
  };

  return (
    <section className="min-w-0 overflow-hidden rounded-lg border bg-surface">
      <h2 className="truncate border-b bg-raised px-3 py-2 text-[13px] font-semibold" title={figure}>
        {figure}
      </h2>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard */}
      <section aria-label="Pivot" tabIndex={0} className="max-h-[70dvh] overflow-auto outline-offset-[-2px]">
        <table aria-label={figure} className="w-full border-separate border-spacing-0 text-[13px]">
          <thead className="sticky top-0 z-10">
            <tr>
              {(rowFields.length ? rowFields : ["All"]).map((field) => (
                <th key={field} scope="col" className={`${HEAD} text-left`} title={field}>
                  {field.split(".").at(-1)}
                </th>
              ))}
              {columns.map((column) => (
                <th
                  key={JSON.stringify(column)}
                  scope="col"
                  className={`${HEAD} text-right`}
                  title={keyLabel(column)}
                >
                  <span className="ml-auto block max-w-44 truncate">
                    {column.length ? column.map((value) => shortened(keyText(value))).join(" · ") : "Value"}
                  </span>
                </th>
              ))}
              {totals && (
                <th scope="col" className={`${HEAD} border-l text-right`}>
                  Total
                </th>
              )}
            </tr>
          </thead>
          <tbody>
            {pivot.rows.slice(0, MOST_ROWS).map((row, at) => (
              <tr key={JSON.stringify(row)}>
                {(row.length ? row : [null]).map((value, place) => (
                  <th
                    // biome-ignore lint/suspicious/noArrayIndexKey: keys stand in the order of their fields
                    key={place}
                    scope="row"
                    className="max-w-72 truncate border-b px-3 py-1.5 text-left font-normal"
                    title={row.length ? keyText(value) : undefined}
                  >
                    {row.length ? keyText(value) : "All"}
                  </th>
                ))}
                {columns.map((column, place) => (
                  <td key={JSON.stringify(column)} className="border-b p-0 text-right">
                    {cell(pivot.cells[at]?.[place] ?? null, row, column, true)}
                  </td>
                ))}
                {totals && (
                  <td className="border-b border-l p-0 text-right font-medium">
                    {cell(pivot.rowTotals[at] ?? null, row, null, false)}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
          {rowFields.length > 0 && (
            <tfoot>
              <tr className="bg-raised font-medium">
                <th scope="row" colSpan={rowFields.length} className="px-3 py-1.5 text-left font-semibold">
                  Total
                </th>
                {columns.map((column, place) => (
                  <td key={JSON.stringify(column)} className="p-0 text-right">
                    {cell(pivot.columnTotals[place] ?? null, null, column, false)}
                  </td>
                ))}
                {totals && (
                  <td className="border-l p-0 text-right font-semibold">
                    {cell(pivot.grandTotal, null, null, false)}
                  </td>
                )}
              </tr>
            </tfoot>
          )}
        </table>
      </section>
      {(pivot.rows.length > MOST_ROWS || pivot.columns.length > MOST_COLUMNS) && (
        <p className="border-t px-3 py-2 text-xs text-ink-soft">
          The first {Math.min(MOST_ROWS, pivot.rows.length)} of {pivot.rows.length} rows and{" "}
          {Math.min(MOST_COLUMNS, pivot.columns.length)} of {pivot.columns.length} columns are shown; totals
          are of all. A filter makes the table smaller.
        </p>
      )}
    </section>
  );
}

function CellButton(props: {
  title: string;
  label: string;
  strength: number | null;
  onClick: (() => void) | undefined;
  children: ReactNode;
}) {
  return (
    <button
      type="button"
      title={props.title}
      aria-label={props.label}
      disabled={!props.onClick}
      onClick={props.onClick}
      style={
        props.strength === null
          ? undefined
          : // At most a third of the accent: the ink stays readable on it in both themes.
            {
              background: `color-mix(in srgb, var(--accent) ${Math.round(4 + props.strength * 30)}%, transparent)`,
            }
      }
      className="tabular block w-full px-3 py-1.5 text-right outline-offset-[-2px] enabled:hover:underline disabled:cursor-default"
    >
      {props.children}
    </button>
  );
}

/** The last part of a long path: models are told apart by it. */
function shortened(text: string): string {
  return text.length > 24 && text.includes("/") ? (text.split("/").at(-1) ?? text) : text;
}
