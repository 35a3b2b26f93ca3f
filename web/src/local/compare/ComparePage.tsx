// Two invocations or two models on the same rows: what changed, whether it may be chance, and where.
import { GitCompareArrows } from "lucide-react";
import { useState } from "react";
import { Button } from "~/design/Button";
import { Empty, Failure, Panel, Skeleton } from "~/design/Panel";
import { AddFilter, Filters } from "../filters/Filters";
import { type Pair, useComparison, useInvocations, useModels } from "../rows";
import { useLocalState } from "../useLocalState";
import { useTitle } from "../useTitle";
import { PairDrawer } from "./PairDrawer";
import { Pairs } from "./Pairs";
import { Sides } from "./Sides";
import { Summary } from "./Summary";
import { suggestInvocations, suggestModels } from "./verdict";

export function ComparePage() {
  useTitle("Compare");
  const [state] = useLocalState();
  const { left, right } = state.compareConfig;
  const query = useComparison(state);
  const [pair, setPair] = useState<Pair | null>(null);
  const first = query.data?.pages[0];
  const chosen = left !== "" && right !== "" && left !== right;
  return (
    <>
      <div className="flex flex-wrap items-center justify-between gap-2">
        <h1 className="text-lg font-semibold">Compare</h1>
        <AddFilter />
      </div>
      <Filters />
      <Sides />
      {!chosen && <Choose />}
      {chosen && query.isPending && <Skeleton lines={6} />}
      {query.error && (
        <Failure title="They could not be compared" error={query.error} retry={() => query.refetch()} />
      )}
      {chosen && first && !query.error && (
        <>
          <Summary comparison={first} />
          <Pairs
            pairs={query.data?.pages.flatMap((page) => page.pairs) ?? []}
            comparison={first}
            onOpen={setPair}
            more={query.hasNextPage ? () => query.fetchNextPage() : undefined}
            busy={query.isFetchingNextPage}
          />
        </>
      )}
      <PairDrawer pair={pair} onClose={() => setPair(null)} />
    </>
  );
}

function Choose() {
  const [{ compareConfig }, change] = useLocalState();
  const invocations = useInvocations();
  const models = useModels();
  const byModel = compareConfig.by === "model";
  const list = byModel ? models : invocations;
  if (list.error)
    return (
      <Failure
        title={`The ${compareConfig.by}s could not be read`}
        error={list.error}
        retry={() => list.refetch()}
      />
    );
  const suggested = byModel ? suggestModels(models.data ?? []) : suggestInvocations(invocations.data ?? []);
  return (
    <Panel>
      <Empty
        title={`Choose two ${byModel ? "models" : "invocations"}`}
        picture={<GitCompareArrows size={28} />}
        action={
          suggested && (
            <Button
              kind="primary"
              onClick={() =>
                change({ compareConfig: { ...compareConfig, left: suggested[0], right: suggested[1] } })
              }
            >
              {byModel ? "Compare the two most used" : "Compare the newest with the one before"}
            </Button>
          )
        }
      >
        Rows that were scored on both sides are laid side by side; the right side wins or loses against the
        left. Runs of one row count as their mean.
      </Empty>
    </Panel>
  );
}
