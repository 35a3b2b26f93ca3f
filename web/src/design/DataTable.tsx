// Tables of things: a header that stays, sorting by a click on it, columns that can be left out, rows that open or lead somewhere.
// It scrolls inside its own box, on a phone sideways; of many rows only those in sight are in the page.
import {
  columnVisibilityFeature,
  createSortedRowModel,
  type RowData,
  rowSortingFeature,
  type SortingState,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { clsx } from "clsx";
import { ChevronRight } from "lucide-react";
import { type KeyboardEvent, type MouseEvent, type ReactNode, useMemo, useRef, useState } from "react";
import { IconButton } from "./Button";
import { ColumnMenu, useHiddenColumns } from "./ColumnMenu";
import { Bars, Gap, Head, type Sort } from "./DataTableParts";
import { Empty } from "./Panel";

export type { Sort };

export interface Column<T> {
  id: string;
  /** Its name, in the header and in the menu of columns. */
  header: string;
  cell: (row: T) => ReactNode;
  /** What the server (`onSort`) calls it when it sorts by it. Without this or `value` it cannot be sorted. */
  sort?: string;
  /** What it is sorted by in the page, where there is no `onSort`; null and undefined come last. */
  value?: (row: T) => string | number | boolean | null | undefined;
  align?: "left" | "right";
  /** Pixels; long text in it is cut short with `truncate` inside the cell. */
  width?: number;
  /** Not shown until chosen in the menu of columns. */
  hidden?: boolean;
  /** Explains the column on hover. */
  hint?: string;
}

interface DataTableProps<T extends RowData> {
  /** What the table holds, read aloud: "Rollouts". */
  label: string;
  columns: readonly Column<T>[];
  /** undefined: not there yet. */
  rows: readonly T[] | undefined;
  rowKey: (row: T) => string;
  /** How the server sorted, and how to ask it for another order. Without `onSort` the page sorts. */
  sort?: Sort | null;
  onSort?: (sort: Sort) => void;
  /** A click or Enter on a row. Rows that expand do so without it. */
  onRowClick?: (row: T) => void;
  /** What shows below an opened row; gives each row an arrow. */
  expand?: (row: T) => ReactNode;
  /** Which rows are open, by key; without it the table keeps that itself. */
  open?: ReadonlySet<string>;
  onOpen?: (key: string, open: boolean) => void;
  /** The row that is shown elsewhere on the page. */
  selected?: string | null;
  /** Older rows are shown while newer ones are fetched. */
  busy?: boolean;
  empty?: ReactNode;
  /** Left end of the strip above the header. */
  toolbar?: ReactNode;
  /** Gives the strip a menu of columns, and keeps the choice in this browser under this name. */
  name?: string;
  /** CSS height at which the box begins to scroll. */
  maxHeight?: string;
  className?: string;
}

const features = tableFeatures({
  rowSortingFeature,
  columnVisibilityFeature,
  sortedRowModel: createSortedRowModel(),
});
const NO_ROWS: never[] = [];
/** Rows in the page before only those in sight are rendered. */
const MANY = 150;

export function DataTable<T extends RowData>(props: DataTableProps<T>) {
  const { columns, rowKey, expand, onRowClick, onSort } = props;
  const box = useRef<HTMLDivElement>(null);
  const [sorting, setSorting] = useState<SortingState>([]);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const [hidden, setHidden] = useHiddenColumns(props.name, columns);
  const open = props.open ?? opened;
  const setOpen = (key: string, now: boolean) => {
    props.onOpen?.(key, now);
    if (!props.open)
      setOpened((before) => new Set(now ? [...before, key] : [...before].filter((one) => one !== key)));
  };

  const defined = useMemo(
    () =>
      columns.map((column) => ({
        id: column.id,
        accessorFn: (row: T) => column.value?.(row) ?? undefined,
        sortFn: compare,
        sortUndefined: "last" as const,
      })),
    [columns],
  );
  const table = useTable({
    features,
    columns: defined,
    data: (props.rows ?? NO_ROWS) as T[],
    getRowId: (row: T) => rowKey(row),
    manualSorting: onSort !== undefined,
    state: { sorting, columnVisibility: Object.fromEntries([...hidden].map((id) => [id, false])) },
    onSortingChange: setSorting,
  });
  const shown = columns.filter((column) => !hidden.has(column.id));
  const rows = table.getRowModel().rows;
  const virtual = rows.length > MANY;
  const virtualizer = useVirtualizer({
    count: rows.length,
    enabled: virtual,
    getScrollElement: () => box.current,
    estimateSize: () => 37,
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 12,
  });
  const items = virtualizer.getVirtualItems();
  const first = virtual ? (items[0]?.index ?? 0) : 0;
  const last = virtual ? (items.at(-1)?.index ?? Math.min(rows.length, 30) - 1) : rows.length - 1;
  const width = shown.reduce((sum, column) => sum + (column.width ?? 140), expand ? 40 : 0);
  const span = shown.length + (expand ? 1 : 0);

  const sortOf = (column: Column<T>): Sort | null => {
    if (onSort) return props.sort && props.sort.by === column.sort ? props.sort : null;
    const one = sorting[0];
    return one?.id === column.id ? { by: one.id, descending: one.desc } : null;
  };
  const sortBy = (column: Column<T>) => {
    const now = sortOf(column);
    const descending = now ? !now.descending : column.align === "right";
    if (onSort) onSort({ by: column.sort ?? column.id, descending });
    else
      setSorting(
        now && now.descending === (column.align !== "right") ? [] : [{ id: column.id, desc: descending }],
      );
  };

  return (
    <div className={clsx("min-w-0 overflow-hidden rounded-lg border bg-surface", props.className)}>
      {(props.toolbar || props.name) && (
        <div className="flex flex-wrap items-center justify-between gap-x-4 gap-y-2 border-b bg-raised px-3 py-2">
          <div className="flex min-w-0 flex-wrap items-center gap-x-4 gap-y-2">{props.toolbar}</div>
          {props.name && <ColumnMenu columns={columns} hidden={hidden} onChange={setHidden} />}
        </div>
      )}
      <section
        ref={box}
        aria-label={props.label}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        className="@container relative overflow-auto outline-offset-[-2px]"
        style={{ maxHeight: props.maxHeight ?? "75dvh" }}
      >
        <table
          aria-label={props.label}
          aria-busy={props.busy || undefined}
          aria-rowcount={virtual ? rows.length + 1 : undefined}
          className={clsx("w-full border-separate border-spacing-0 text-[13px]", virtual && "table-fixed")}
          style={{ minWidth: width }}
        >
          <thead>
            <tr aria-rowindex={virtual ? 1 : undefined}>
              {expand && (
                <th scope="col" className="sticky top-0 z-10 w-10 border-b bg-raised">
                  <span className="sr-only">Open or close</span>
                </th>
              )}
              {shown.map((column) => (
                <Head
                  key={column.id}
                  column={column}
                  sort={sortOf(column)}
                  onSort={(onSort ? column.sort : column.value) ? () => sortBy(column) : undefined}
                />
              ))}
            </tr>
          </thead>
          {props.rows === undefined && <Bars columns={span} />}
          {props.rows?.length === 0 && (
            <tbody>
              <tr>
                <td colSpan={span}>
                  <div className="sticky left-0 w-[100cqw]">
                    {props.empty ?? <Empty title="Nothing here yet" />}
                  </div>
                </td>
              </tr>
            </tbody>
          )}
          {virtual && <Gap height={items[0]?.start ?? 0} />}
          {rows.slice(first, last + 1).map((row, offset) => {
            const index = first + offset;
            const key = row.id;
            const isOpen = expand !== undefined && open.has(key);
            const act = onRowClick
              ? () => onRowClick(row.original)
              : expand
                ? () => setOpen(key, !isOpen)
                : undefined;
            return (
              <tbody
                key={key}
                data-index={index}
                ref={virtual ? virtualizer.measureElement : undefined}
                className={clsx(props.busy && "opacity-70")}
              >
                <tr
                  tabIndex={act ? 0 : undefined}
                  aria-rowindex={virtual ? index + 2 : undefined}
                  onClick={act && ((event) => isPlainClick(event) && act())}
                  onKeyDown={act && ((event) => onRowKey(event, act))}
                  className={clsx(
                    "group outline-offset-[-2px]",
                    act && "cursor-pointer",
                    key === props.selected ? "bg-accent-soft" : isOpen ? "bg-raised" : "hover:bg-raised",
                  )}
                >
                  {expand && (
                    <td className="border-b px-1.5 align-middle">
                      <IconButton
                        label={isOpen ? "Close row" : "Open row"}
                        aria-expanded={isOpen}
                        tabIndex={-1}
                        onClick={() => setOpen(key, !isOpen)}
                      >
                        <ChevronRight
                          size={15}
                          className={clsx("transition-transform", isOpen && "rotate-90")}
                        />
                      </IconButton>
                    </td>
                  )}
                  {shown.map((column) => (
                    <td
                      key={column.id}
                      className={clsx(
                        "border-b px-3 py-2 align-middle",
                        column.align === "right" && "tabular text-right",
                      )}
                    >
                      {column.cell(row.original)}
                    </td>
                  ))}
                </tr>
                {isOpen && (
                  <tr>
                    <td colSpan={span} className="border-b bg-ground p-0">
                      {/* As wide as the box, not as the table: what is opened need not be scrolled sideways. */}
                      <div className="sticky left-0 w-[100cqw]">{expand(row.original)}</div>
                    </td>
                  </tr>
                )}
              </tbody>
            );
          })}
          {virtual && <Gap height={virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0)} />}
        </table>
      </section>
    </div>
  );
}

/** A click on the row itself: not on something in it that has its own click, not the end of marking text. */
function isPlainClick(event: MouseEvent): boolean {
  if ((event.target as Element).closest("a, button, input, select, label, textarea, summary")) return false;
  return !window.getSelection()?.toString();
}

function onRowKey(event: KeyboardEvent<HTMLTableRowElement>, act: () => void): void {
  if (event.target !== event.currentTarget) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    act();
  }
  const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  if (!step) return;
  event.preventDefault();
  const rows = [
    ...(event.currentTarget.closest("table")?.querySelectorAll<HTMLElement>("tr[tabindex]") ?? []),
  ];
  rows[rows.indexOf(event.currentTarget) + step]?.focus();
}

function compare(
  a: { getValue: (id: string) => unknown },
  b: { getValue: (id: string) => unknown },
  id: string,
) {
  const [left, right] = [a.getValue(id), b.getValue(id)];
  if (typeof left === "string" && typeof right === "string")
    return left.localeCompare(right, undefined, { numeric: true });
  return Number(left) - Number(right);
}
