// One row on both sides: its rollouts' conversations beside each other.
import { useState } from "react";
import { Conversation } from "~/conversation/Conversation";
import { Markdown } from "~/conversation/Markdown";
import { Score } from "~/design/Badge";
import { Drawer } from "~/design/Dialog";
import { Select } from "~/design/Field";
import { Loaded } from "~/design/Panel";
import { type Pair, useRow } from "../rows";
import { StatusMark } from "../statuses";
import { useLocalState } from "../useLocalState";
import { signed } from "./verdict";

export function PairDrawer({ pair, onClose }: { pair: Pair | null; onClose: () => void }) {
  const [{ compareConfig }] = useLocalState();
  return (
    <Drawer
      open={pair !== null}
      onClose={onClose}
      title={pair ? `${pair.rowId}: ${signed(pair.difference)}` : ""}
    >
      {pair && (
        <div className="grid gap-4 p-4 md:grid-cols-2" key={pair.rowId}>
          <Side name="Left" what={compareConfig.left} mean={pair.left} ids={pair.leftIds} />
          <Side name="Right" what={compareConfig.right} mean={pair.right} ids={pair.rightIds} />
        </div>
      )}
    </Drawer>
  );
}

function Side({ name, what, mean, ids }: { name: string; what: string; mean: number; ids: string[] }) {
  const [chosen, setChosen] = useState(ids[0] ?? "");
  return (
    <section aria-label={`${name} side`} className="min-w-0 space-y-3">
      <header className="space-y-2 border-b pb-3">
        <div className="flex items-center justify-between gap-3">
          <h3 className="min-w-0 truncate text-[13px] font-semibold" title={what}>
            <span className="text-ink-faint">{name}</span> {what}
          </h3>
          <Score value={mean} />
        </div>
        {ids.length > 1 && (
          <Select
            aria-label={`Run on the ${name.toLowerCase()} side`}
            className="w-full font-mono text-xs"
            value={chosen}
            onChange={(event) => setChosen(event.target.value)}
          >
            {ids.map((id, place) => (
              <option key={id} value={id}>
                Run {place + 1} of {ids.length}: {id}
              </option>
            ))}
          </Select>
        )}
      </header>
      {chosen && <Rollout rolloutId={chosen} />}
    </section>
  );
}

function Rollout({ rolloutId }: { rolloutId: string }) {
  const query = useRow(rolloutId);
  return (
    <Loaded query={query} what={`Rollout ${rolloutId}`} lines={6}>
      {(row) => (
        <div className="space-y-3">
          <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-[13px]">
            <span className="flex items-center gap-2">
              Score
              <Score value={row.evaluation_result?.score} valid={row.evaluation_result?.is_score_valid} />
            </span>
            <StatusMark status={row.rollout_status} />
          </div>
          {row.evaluation_result?.reason && (
            <div className="rounded-md border bg-surface px-3 py-2 text-ink-soft">
              <Markdown text={row.evaluation_result.reason} />
            </div>
          )}
          <Conversation messages={row.messages ?? []} />
        </div>
      )}
    </Loaded>
  );
}
