// Row by row, the most different first: both scores, and the difference as a bar to the left or the right.
import { useMemo } from "react";
import { Score } from "~/design/Badge";
import { Button } from "~/design/Button";
import { type Column, DataTable } from "~/design/DataTable";
import { Empty } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import type { Comparison, Pair } from "../rows";
import type { LocalState } from "../state";
import { useLocalState } from "../useLocalState";
import { kindOf, signed } from "./verdict";

export function Pairs(props: {
  pairs: Pair[];
  comparison: Comparison;
  onOpen: (pair: Pair) => void;
  more?: () => void;
  busy: boolean;
}) {
  const [{ compareConfig }, change] = useLocalState();
  const { show } = compareConfig;
  const { summary, total } = props.comparison;
  const shown = useMemo(
    () => (show === "all" ? props.pairs : props.pairs.filter((pair) => kindOf(pair) === show)),
    [props.pairs, show],
  );
  const largest = Math.max(...props.pairs.map((pair) => Math.abs(pair.difference)), 1e-9);
  const columns = useMemo(() => columnsOf(largest), [largest]);
  const setShow = (id: string) =>
    change({ compareConfig: { ...compareConfig, show: id as LocalState["compareConfig"]["show"] } }, true);
  return (
    <div className="space-y-3">
      <Tabs
        label="Which rows"
        active={show}
        onChange={setShow}
        tabs={[
          { id: "all", label: "All rows", count: summary.n },
          { id: "wins", label: "Wins", count: summary.wins },
          { id: "losses", label: "Losses", count: summary.losses },
          { id: "ties", label: "Ties", count: summary.ties },
        ]}
      />
      <DataTable
        label="Rows compared"
        columns={columns}
        rows={shown}
        rowKey={(pair) => `${pair.name ?? ""} ${pair.rowId}`}
        onRowClick={props.onOpen}
        empty={
          props.more ? (
            <Empty title={`No ${show} among the ${props.pairs.length} most different rows`} />
          ) : (
            <Empty title={show === "all" ? "No row was scored on both sides" : `There are no ${show}`}>
              {show === "all" &&
                "Two sides have pairs when both scored the same rows of the same evaluation."}
            </Empty>
          )
        }
      />
      {props.more && (
        <div className="flex items-center gap-3 text-[13px] text-ink-soft">
          <Button busy={props.busy} onClick={props.more}>
            Load more rows
          </Button>
          The {props.pairs.length} most different of {total}
        </div>
      )}
    </div>
  );
}

function columnsOf(largest: number): Column<Pair>[] {
  return [
    {
      id: "row",
      header: "Row",
      width: 170,
      value: (pair) => pair.rowId,
      cell: (pair) => (
        <div className="max-w-56">
          <div className="truncate font-mono text-xs" title={pair.rowId}>
            {pair.rowId}
          </div>
          {pair.name && <div className="truncate text-xs text-ink-faint">{pair.name}</div>}
        </div>
      ),
    },
    {
      id: "prompt",
      header: "Prompt",
      width: 260,
      cell: (pair) => (
        <span className="block max-w-96 truncate text-ink-soft" title={pair.prompt ?? undefined}>
          {pair.prompt || "none"}
        </span>
      ),
    },
    {
      id: "left",
      header: "Left",
      align: "right",
      width: 110,
      value: (pair) => pair.left,
      cell: (pair) => <Side score={pair.left} runs={pair.leftIds.length} />,
    },
    {
      id: "right",
      header: "Right",
      align: "right",
      width: 110,
      value: (pair) => pair.right,
      cell: (pair) => <Side score={pair.right} runs={pair.rightIds.length} />,
    },
    {
      id: "difference",
      header: "Difference",
      align: "right",
      width: 240,
      value: (pair) => pair.difference,
      cell: (pair) => <Difference value={pair.difference} largest={largest} />,
    },
  ];
}

function Side({ score, runs }: { score: number; runs: number }) {
  return (
    <span title={runs === 1 ? "one run" : `mean of the scored ones of ${runs} runs`}>
      <Score value={score} />
      {runs > 1 && <span className="ml-1.5 text-xs text-ink-faint">×{runs}</span>}
    </span>
  );
}

function Difference({ value, largest }: { value: number; largest: number }) {
  const half = `${(Math.abs(value) / largest) * 50}%`;
  return (
    <div className="flex items-center justify-end gap-3">
      <div aria-hidden="true" className="relative h-2.5 w-36 rounded-sm bg-sunken">
        <div className="absolute inset-y-0 left-1/2 w-px bg-line-strong" />
        <div
          className={
            value > 0 ? "absolute inset-y-0 left-1/2 bg-good" : "absolute inset-y-0 right-1/2 bg-bad"
          }
          style={{ width: half }}
        />
      </div>
      <span
        className={`tabular w-14 font-mono text-xs font-medium ${value > 0 ? "text-good" : value < 0 ? "text-bad" : "text-ink-soft"}`}
      >
        {signed(value)}
      </span>
    </div>
  );
}
