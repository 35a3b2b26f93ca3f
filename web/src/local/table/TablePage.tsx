// Every rollout of every local run, newest first: filter, sort, page, open. Only the page that is shown is ever loaded.
import { useState } from "react";
import { Button } from "~/design/Button";
import { DataTable } from "~/design/DataTable";
import { Empty, Failure } from "~/design/Panel";
import { AddFilter, Filters, useChangeFilters } from "../filters/Filters";
import { exportAddress, type RowSummary, useRows } from "../rows";
import { filterText } from "../state";
import { useLocalState } from "../useLocalState";
import { useTitle } from "../useTitle";
import { COLUMNS } from "./columns";
import { Pager, Showing } from "./Pager";
import { RowDetails } from "./RowDetails";
import { useHeld, viewOf } from "./useHeld";

const NONE: ReadonlySet<string> = new Set();

export function TablePage() {
  useTitle("Table");
  const [state, change] = useLocalState();
  // What is open belongs to the view: on another page, or with another filter, nothing is.
  const view = viewOf(state);
  const [opened, setOpened] = useState<{ view: string; ids: ReadonlySet<string> }>({ view, ids: NONE });
  const open = opened.view === view ? opened.ids : NONE;
  const setOpen = (ids: ReadonlySet<string>) => setOpened({ view, ids });
  const query = useRows(state);
  const [page, news, showNews] = useHeld(query, state, open.size > 0);
  const { sortField, sortDirection } = state.sortConfig;
  return (
    <>
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h1 className="text-lg font-semibold">Rollouts</h1>
        <div className="flex flex-wrap items-center gap-2">
          <AddFilter />
          <Button
            small
            disabled={!page?.rows.length}
            onClick={() => setOpen(new Set(page?.rows.map((row) => row.rolloutId)))}
          >
            Expand all
          </Button>
          <Button small disabled={open.size === 0} onClick={() => setOpen(NONE)}>
            Collapse all
          </Button>
          <Export form="jsonl" />
          <Export form="csv" />
        </div>
      </div>
      <Filters />
      {query.error && (
        <Failure title="The rollouts could not be read" error={query.error} retry={() => query.refetch()} />
      )}
      {(page || !query.error) && (
        <DataTable<RowSummary>
          label="Rollouts"
          name="local-rollouts"
          columns={COLUMNS}
          rows={page?.rows}
          rowKey={(row) => row.rolloutId}
          sort={{ by: sortField, descending: sortDirection === "desc" }}
          onSort={(sort) =>
            change({
              sortConfig: { sortField: sort.by, sortDirection: sort.descending ? "desc" : "asc" },
              paginationConfig: { ...state.paginationConfig, currentPage: 1 },
            })
          }
          expand={(row) => <RowDetails summary={row} />}
          open={open}
          onOpen={(key, now) =>
            setOpen(new Set(now ? [...open, key] : [...open].filter((one) => one !== key)))
          }
          busy={query.isPlaceholderData}
          maxHeight="max(26rem, calc(100dvh - 11.5rem))"
          toolbar={
            <>
              <Showing page={page} />
              <Pager page={page} />
              {news > 0 && (
                <Button small kind="primary" onClick={showNews}>
                  {news.toLocaleString()} new {news === 1 ? "row" : "rows"}
                </Button>
              )}
            </>
          }
          empty={<NoRows filtered={filterText(state.filterConfig) !== ""} />}
        />
      )}
    </>
  );
}

function Export({ form }: { form: "jsonl" | "csv" }) {
  const [state] = useLocalState();
  return (
    <a
      href={exportAddress(form, state)}
      download={`rollouts.${form}`}
      className="inline-flex h-7 items-center rounded-md border border-line-strong bg-surface px-2 text-xs font-medium hover:bg-sunken"
    >
      Export {form.toUpperCase()}
    </a>
  );
}

function NoRows({ filtered }: { filtered: boolean }) {
  const change = useChangeFilters();
  return filtered ? (
    <Empty
      title="No rollout matches the filter"
      action={<Button onClick={() => change([])}>Clear all filters</Button>}
    >
      Take a condition away, or look at all rollouts.
    </Empty>
  ) : (
    <Empty title="No rollouts yet">
      Run an evaluation with <code className="font-mono">pytest</code> in another terminal: its rollouts
      appear here while it runs.
    </Empty>
  );
}
