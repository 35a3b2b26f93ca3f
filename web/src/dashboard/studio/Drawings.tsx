// Sixteen drawings of the policy as it is now, or as it was at any version; one of them across all versions on request.
import { useCallback, useMemo, useState } from "react";
import { useWholeRollouts, type WholeRollout } from "~/api/control";
import { Dialog } from "~/design/Dialog";
import { figure } from "~/design/figures";
import { Empty, Failure, Panel, Skeleton } from "~/design/Panel";
import { Scrubber } from "~/design/Scrubber";
import { Drawing } from "./Drawing";
import { gridOf, historyOf } from "./drawings";
import type { versionsOf } from "./steering";

export function Drawings(props: {
  id: string;
  versions: ReturnType<typeof versionsOf>;
  /** null: the newest, as it comes. */
  at: number | null;
  onAt: (version: number | null) => void;
  /** Held-out rows of one evaluation. */
  heldOut: number;
  live: boolean;
}) {
  const { id, versions, at } = props;
  const { kind, values } = versions;
  const newest = values.at(-1) ?? 0;
  // Following, the newest rollouts of all versions are asked for: a tile is drawn again as soon as its own is there.
  const query = useWholeRollouts(
    id,
    at === null
      ? { kind, orderBy: "id desc", pageSize: Math.min(200, 2 * props.heldOut) }
      : { kind, step: at, orderBy: "row_index", pageSize: 200 },
  );
  const grid = useMemo(() => gridOf(query.data ?? []), [query.data]);
  const [opened, setOpened] = useState<WholeRollout | null>(null);
  const onAt = useCallback((version: number) => props.onAt(version), [props.onAt]);
  const mean = meanOf(grid);
  const shown = at ?? grid.reduce((most, one) => Math.max(most, one.step), newest);
  return (
    <Panel
      title={kind === "evaluation" ? "Held-out drawings" : "Rollouts"}
      actions={
        <span className="tabular text-xs text-ink-soft">
          policy version <b className="text-ink">{shown}</b>
          {mean !== null && (
            <>
              , mean of these <b className="text-ink">{mean.toFixed(3)}</b>
            </>
          )}
        </span>
      }
    >
      {query.error ? (
        <Failure title="The rollouts could not be loaded" error={query.error} retry={() => query.refetch()} />
      ) : query.isPending ? (
        <Skeleton lines={8} />
      ) : grid.length === 0 ? (
        <Empty title="Nothing is drawn yet">
          {props.live
            ? "The first drawings are those of the policy before training; they come in a few seconds."
            : "This job ended before it drew anything."}
        </Empty>
      ) : (
        <div className="grid grid-cols-4 gap-1.5 sm:gap-2" aria-busy={query.isPlaceholderData}>
          {grid.map((rollout) => (
            <Drawing key={rollout.rowIndex} rollout={rollout} onOpen={() => setOpened(rollout)} />
          ))}
        </div>
      )}
      <Scrubber
        className="mt-3"
        label={kind === "evaluation" ? "Policy version" : "Step"}
        values={values}
        value={at ?? newest}
        onChange={onAt}
        following={at === null}
        onFollow={() => props.onAt(null)}
      />
      <Dialog
        wide
        open={opened !== null}
        onClose={() => setOpened(null)}
        title={`Row ${opened?.rowIndex ?? ""} across the versions`}
      >
        {opened && <History id={id} kind={kind} rollout={opened} />}
      </Dialog>
    </Panel>
  );
}

function History(props: { id: string; kind: "evaluation" | "train"; rollout: WholeRollout }) {
  const { kind, rollout } = props;
  const query = useWholeRollouts(props.id, {
    kind,
    rowIndex: rollout.rowIndex,
    orderBy: "step",
    pageSize: 200,
  });
  const strip = historyOf((query.data ?? []).filter((one) => one.rowIndex === rollout.rowIndex));
  return (
    <div className="space-y-3">
      <p className="[overflow-wrap:anywhere]">{rollout.prompt}</p>
      {query.isPending && <Skeleton />}
      {query.error && <Failure title="Its history could not be loaded" error={query.error} />}
      <ol className="grid grid-cols-2 gap-2 sm:grid-cols-4 lg:grid-cols-6">
        {strip.map((one) => (
          <li key={one.id}>
            <Drawing rollout={one} caption={`version ${one.step}`} chosen={one.step === rollout.step} />
          </li>
        ))}
      </ol>
      <p className="text-[13px] text-ink-soft [overflow-wrap:anywhere]">
        {rollout.reason}
        {rollout.metrics &&
          ` ${Object.entries(rollout.metrics)
            .map(([name, value]) => `${name} ${figure(value)}`)
            .join(", ")}.`}
      </p>
    </div>
  );
}

function meanOf(rollouts: readonly WholeRollout[]): number | null {
  const scores = rollouts.flatMap((one) => (one.isScoreValid && one.score !== null ? [one.score] : []));
  return scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
}
