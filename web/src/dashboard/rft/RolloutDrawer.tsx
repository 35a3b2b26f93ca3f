// One rollout in full: scores and what is known of it on the left, conversation, tokens or JSON on the right, and what became of the
// same row before and after. Arrow keys go to the next one of the table.
import { ChevronLeft, ChevronRight } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { shortId } from "~/api/names";
import { type RftJob, useRollout, useRollouts } from "~/api/reinforcementFineTuningJobs";
import type { RolloutDetails } from "~/api/rft";
import { Conversation } from "~/conversation/Conversation";
import { Json } from "~/conversation/Json";
import { IconButton } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { Drawer } from "~/design/Dialog";
import { Empty, Loaded } from "~/design/Panel";
import { Tabs } from "~/design/Tabs";
import { type Shade, ShadePicker, TokenView } from "~/design/TokenView";
import type { SearchProps } from "./JobPage";
import { RolloutFacts, RolloutScores } from "./RolloutFacts";
import { GroupStrip, HistoryStrip } from "./RolloutStrips";
import { rolloutQuery } from "./search";

type Part = "conversation" | "tokens" | "json";

export function RolloutDrawer(props: SearchProps & { job: RftJob; rolloutId: string }) {
  const { job, search, onSearch, rolloutId } = props;
  const id = shortId(job.name);
  const rollout = useRollout(id, rolloutId);
  const page = useRollouts(id, rolloutQuery(search), search.tab === "epoch");
  const ids = useMemo(() => (page.data?.rollouts ?? []).map((one) => one.rolloutId), [page.data]);
  const at = ids.indexOf(rolloutId);
  const open = (next: string | undefined) => next && onSearch({ rollout: next });
  const [before, after] = [at > 0 ? ids[at - 1] : undefined, at >= 0 ? ids[at + 1] : undefined];

  useEffect(() => {
    const hear = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as HTMLElement;
      if (target.closest("input, textarea, select, [role=tablist], [role=application], .cm-editor")) return;
      const next =
        event.key === "ArrowRight" || event.key === "j"
          ? after
          : event.key === "ArrowLeft" || event.key === "k"
            ? before
            : undefined;
      if (next) onSearch({ rollout: next });
    };
    window.addEventListener("keydown", hear);
    return () => window.removeEventListener("keydown", hear);
  }, [before, after, onSearch]);

  return (
    <Drawer
      open
      onClose={() => onSearch({ rollout: undefined })}
      title={
        <span className="flex items-baseline gap-2">
          Rollout <span className="truncate font-mono text-xs font-normal text-ink-soft">{rolloutId}</span>
        </span>
      }
      actions={
        <>
          <CopyButton text={rolloutId} label="Copy the rollout's id" />
          <IconButton label="Previous rollout (left arrow)" disabled={!before} onClick={() => open(before)}>
            <ChevronLeft size={16} />
          </IconButton>
          <IconButton label="Next rollout (right arrow)" disabled={!after} onClick={() => open(after)}>
            <ChevronRight size={16} />
          </IconButton>
        </>
      }
    >
      <div className="p-4 lg:p-0">
        <Loaded query={rollout} what="The rollout" lines={10}>
          {(data) => <Details rollout={data} onOpen={(next) => onSearch({ rollout: next })} />}
        </Loaded>
      </div>
    </Drawer>
  );
}

function Details({ rollout, onOpen }: { rollout: RolloutDetails; onOpen: (id: string) => void }) {
  const [part, setPart] = useState<Part>("conversation");
  const [shade, setShade] = useState<Shade>("probability");
  const turns = rollout.turns ?? [];
  return (
    <div className="grid min-w-0 gap-4 lg:min-h-full lg:grid-cols-[20rem_minmax(0,1fr)] lg:grid-rows-[auto_1fr] lg:gap-0">
      <RolloutScores rollout={rollout} />
      <div className="flex min-w-0 flex-col gap-4 lg:row-span-2 lg:border-l lg:p-4">
        <HistoryStrip rollout={rollout} onOpen={onOpen} />
        <GroupStrip rollout={rollout} onOpen={onOpen} />
        <Tabs
          label="What of the rollout is shown"
          active={part}
          onChange={(next) => setPart(next as Part)}
          tabs={[
            { id: "conversation", label: "Conversation", count: rollout.row?.messages?.length },
            {
              id: "tokens",
              label: "Tokens",
              count: turns.reduce((sum, turn) => sum + turn.tokens.length, 0),
            },
            { id: "json", label: "JSON" },
          ]}
        />
        {part === "conversation" && <Conversation messages={rollout.row?.messages ?? []} />}
        {part === "json" && <Json value={rollout.row} depth={2} />}
        {part === "tokens" &&
          (turns.length ? (
            <div className="flex flex-col gap-4">
              <ShadePicker shade={shade} onShade={setShade} advantage={rollout.advantage !== null} />
              {turns.map((turn) => (
                <section key={turn.turn} aria-label={`Turn ${turn.turn}`} className="flex flex-col gap-1.5">
                  <h3 className="flex flex-wrap gap-x-3 text-xs font-semibold">
                    Turn {turn.turn}
                    <span className="font-normal text-ink-soft">
                      {turn.finishReason ? `ended by ${turn.finishReason}` : "did not end"}
                      {turn.temperature !== null && `, temperature ${turn.temperature}`}
                      {turn.start ? `, after ${turn.start} tokens of earlier turns` : ""}
                    </span>
                  </h3>
                  <TokenView tokens={turn.tokens} shade={shade} label={`Turn ${turn.turn}`} />
                </section>
              ))}
            </div>
          ) : (
            <Empty title="No tokens were recorded">
              Tokens are kept for model calls that went through this platform's gateway.
            </Empty>
          ))}
      </div>
      <RolloutFacts rollout={rollout} />
    </div>
  );
}
