// From page to page of the table.
import { ChevronFirst, ChevronLast, ChevronLeft, ChevronRight } from "lucide-react";
import { useId } from "react";
import { Button, IconButton } from "~/design/Button";
import { Select } from "~/design/Field";
import type { RowPage } from "../rows";
import { PAGE_SIZES } from "../state";
import { useLocalState } from "../useLocalState";

export function Pager({ page }: { page: RowPage | undefined }) {
  const [{ paginationConfig }, change] = useLocalState();
  const { pageSize } = paginationConfig;
  const size = useId();
  const pages = Math.max(1, Math.ceil((page?.matching ?? 0) / pageSize));
  const now = page?.page ?? paginationConfig.currentPage;
  const go = (to: number) => change({ paginationConfig: { ...paginationConfig, currentPage: to } });
  return (
    <nav aria-label="Pages" className="flex flex-wrap items-center gap-x-3 gap-y-2 text-[13px]">
      <div className="flex items-center gap-2 text-ink-soft">
        <label htmlFor={size}>Page size</label>
        <Select
          id={size}
          value={pageSize}
          onChange={(event) =>
            change({ paginationConfig: { currentPage: 1, pageSize: Number(event.target.value) } })
          }
        >
          {[...new Set([...PAGE_SIZES, pageSize])]
            .sort((a, b) => a - b)
            .map((each) => (
              <option key={each}>{each}</option>
            ))}
        </Select>
      </div>
      <div className="flex items-center gap-1">
        <IconButton label="First page" disabled={now <= 1} onClick={() => go(1)}>
          <ChevronFirst size={15} />
        </IconButton>
        <Button
          small
          disabled={now <= 1}
          icon={<ChevronLeft size={13} aria-hidden="true" />}
          onClick={() => go(now - 1)}
        >
          Previous
        </Button>
        <span className="tabular px-1.5 text-ink-soft">
          Page {now.toLocaleString()} of {pages.toLocaleString()}
        </span>
        <Button small disabled={now >= pages} onClick={() => go(now + 1)}>
          Next
          <ChevronRight size={13} aria-hidden="true" />
        </Button>
        <IconButton label="Last page" disabled={now >= pages} onClick={() => go(pages)}>
          <ChevronLast size={15} />
        </IconButton>
      </div>
    </nav>
  );
}

/** "Showing 1-25 of 3,815 rows". */
export function Showing({ page }: { page: RowPage | undefined }) {
  if (!page) return <span className="text-ink-faint">Counting rows</span>;
  const first = (page.page - 1) * page.pageSize + 1;
  const last = first + page.rows.length - 1;
  const of = page.matching.toLocaleString();
  return (
    <span className="tabular text-[13px] text-ink-soft" role="status">
      {page.rows.length === 0
        ? `Showing 0 of ${of} rows`
        : `Showing ${first.toLocaleString()}-${last.toLocaleString()} of ${of} rows`}
      {page.matching !== page.total && (
        <span className="text-accent-text"> (filtered from {page.total.toLocaleString()})</span>
      )}
    </span>
  );
}
