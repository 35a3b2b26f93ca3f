// Pieces of a data table: the head of a column, the space of rows out of sight, the bars before there are rows.
import { clsx } from "clsx";
import { ArrowDown, ArrowUp, ArrowUpDown } from "lucide-react";

export interface Sort {
  by: string;
  descending: boolean;
}

export function Head(props: {
  column: { header: string; align?: "left" | "right"; width?: number; hint?: string };
  sort: Sort | null;
  onSort?: () => void;
}) {
  const { column, sort } = props;
  const right = column.align === "right";
  const Arrow = !sort ? ArrowUpDown : sort.descending ? ArrowDown : ArrowUp;
  return (
    <th
      scope="col"
      title={column.hint}
      aria-sort={sort ? (sort.descending ? "descending" : "ascending") : undefined}
      style={{ width: column.width, minWidth: column.width }}
      className={clsx(
        "sticky top-0 z-10 border-b bg-raised px-3 py-2 text-xs font-semibold whitespace-nowrap text-ink-soft",
        right ? "text-right" : "text-left",
      )}
    >
      {props.onSort ? (
        <button
          type="button"
          onClick={props.onSort}
          className={clsx(
            "inline-flex items-center gap-1 rounded hover:text-ink",
            right && "flex-row-reverse",
          )}
        >
          {column.header}
          <Arrow size={12} aria-hidden="true" className={sort ? "text-accent-text" : "opacity-45"} />
        </button>
      ) : (
        column.header
      )}
    </th>
  );
}

/** The rows out of sight, as height. */
export function Gap({ height }: { height: number }) {
  return height > 0 ? (
    <tbody aria-hidden="true">
      <tr style={{ height }} />
    </tbody>
  ) : null;
}

/** Grey bars where rows will stand. */
export function Bars({ columns }: { columns: number }) {
  return (
    <tbody>
      {[82, 64, 74, 58, 69].map((width) => (
        <tr key={width}>
          <td colSpan={columns} className="border-b px-3 py-2.5">
            <div className="h-3.5 animate-pulse rounded bg-sunken" style={{ width: `${width}%` }} />
          </td>
        </tr>
      ))}
      <tr className="sr-only">
        <td colSpan={columns}>Loading</td>
      </tr>
    </tbody>
  );
}
