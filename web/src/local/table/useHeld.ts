// Rows stay where they are while someone reads one of them: what arrives meanwhile is counted, and shown when asked for. What changes
// in the rows themselves shows at once.
import { useEffect, useState } from "react";
import type { RowPage, RowSummary } from "../rows";
import { filterText, type LocalState } from "../state";

/** The page to show, how many rows came since it is held, and a way to show them. */
export function useHeld(
  query: { data: RowPage | undefined; isPlaceholderData: boolean },
  state: LocalState,
  reading: boolean,
): [RowPage | undefined, number, () => void] {
  const fresh = query.data;
  const view = viewOf(state);
  const [held, setHeld] = useState<{ view: string; page: RowPage } | null>(null);
  const settled = query.isPlaceholderData ? undefined : fresh;
  const holds = reading && held?.view === view;
  useEffect(() => {
    if (!reading) setHeld(null);
    else if (!holds && settled) setHeld({ view, page: settled });
  }, [reading, holds, settled, view]);
  if (!holds || !held || !fresh) return [fresh, 0, () => {}];
  return [updated(held.page, fresh), newcomers(held.page, fresh), () => setHeld({ view, page: fresh })];
}

/** What decides which rows the table has. */
export function viewOf(state: LocalState): string {
  return JSON.stringify([filterText(state.filterConfig), state.sortConfig, state.paginationConfig]);
}

/** The held rows in their places, each as it is now where that is known. */
export function updated(held: RowPage, fresh: RowPage): RowPage {
  const now = new Map<string, RowSummary>(fresh.rows.map((row) => [row.rolloutId, row]));
  return {
    ...held,
    rows: held.rows.map((row) => now.get(row.rolloutId) ?? row),
    total: fresh.total,
    matching: fresh.matching,
  };
}

function newcomers(held: RowPage, fresh: RowPage): number {
  return Math.max(0, fresh.matching - held.matching);
}
