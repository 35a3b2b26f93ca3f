// Rollouts grouped by what they have in common: a table of one number a cell, and a chart of the same.
import { Grid3x3 } from "lucide-react";
import { Button } from "~/design/Button";
import { Empty, Failure, Panel, Skeleton } from "~/design/Panel";
import { AddFilter, Filters } from "../filters/Filters";
import { type Pivot, usePivot } from "../rows";
import { DEFAULTS } from "../state";
import { useLocalState } from "../useLocalState";
import { useTitle } from "../useTitle";
import { Pickers } from "./Pickers";
import { PivotChart } from "./PivotChart";
import { PivotTable } from "./PivotTable";
import { AGGREGATOR_NAMES } from "./pivot";

export function PivotPage() {
  useTitle("Pivot");
  const [state, change] = useLocalState();
  const query = usePivot(state);
  const { pivotConfig } = state;
  const pivot = query.error ? undefined : query.data;
  const usual = JSON.stringify(pivotConfig) === JSON.stringify(DEFAULTS.pivotConfig);
  const figure =
    pivotConfig.selectedAggregator === "count"
      ? "Rollouts"
      : `${pivotConfig.selectedAggregator === "pass@k" ? `pass@${pivotConfig.k}` : AGGREGATOR_NAMES[pivotConfig.selectedAggregator]} of ${pivotConfig.selectedValueField}`;
  return (
    <>
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h1 className="text-lg font-semibold">Pivot</h1>
        <div className="flex flex-wrap items-center gap-2">
          <AddFilter />
          {!usual && (
            <Button small kind="quiet" onClick={() => change({ pivotConfig: DEFAULTS.pivotConfig })}>
              Back to the usual pivot
            </Button>
          )}
        </div>
      </div>
      <Filters />
      <Pickers />
      {query.error && (
        <Failure title="The pivot could not be made" error={query.error} retry={() => query.refetch()} />
      )}
      {query.isPending && <Skeleton lines={6} />}
      {pivot && pivot.rows.length === 0 && (
        <Panel>
          <Empty title="There is nothing to group" picture={<Grid3x3 size={28} />}>
            No rollout matches the filter, or none was made yet.
          </Empty>
        </Panel>
      )}
      {pivot && pivot.rows.length > 0 && <NoAggregate pivot={pivot} />}
      {pivot && pivot.rows.length > 0 && (
        <div className="grid min-w-0 items-start gap-4 xl:grid-cols-[minmax(0,3fr)_minmax(0,2fr)]">
          <PivotTable pivot={pivot} figure={figure} />
          <PivotChart pivot={pivot} figure={figure} />
        </div>
      )}
    </>
  );
}

/** An experiment's aggregate is written when it ends; until then its rollouts' own scores are there. */
function NoAggregate({ pivot }: { pivot: Pivot }) {
  const [{ pivotConfig }, change] = useLocalState();
  if (!pivotConfig.selectedValueField.endsWith(".agg_score") || pivot.grandTotal.value !== null) return null;
  return (
    <div
      role="status"
      className="flex flex-wrap items-center gap-3 rounded-lg border bg-note-soft px-3 py-2 text-[13px]"
    >
      None of these rollouts has the aggregate of its experiment: it is written when an experiment ends.
      <Button
        small
        onClick={() =>
          change({ pivotConfig: { ...pivotConfig, selectedValueField: "$.evaluation_result.score" } })
        }
      >
        Use each rollout's own score
      </Button>
    </div>
  );
}
