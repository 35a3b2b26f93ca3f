// One rollout of the file: its score and why, the conversation, its tokens, and the same row at other steps.
import { useState } from "react";
import { Conversation } from "~/conversation/Conversation";
import { Drawing } from "~/dashboard/studio/Drawing";
import { Score } from "~/design/Badge";
import { Drawer } from "~/design/Dialog";
import { count, figure } from "~/design/figures";
import { Tabs } from "~/design/Tabs";
import { type Shade, ShadePicker, TokenView } from "~/design/TokenView";
import { asRollout, asTokens, type RunRollout, type RunStep } from "./data";

export function RunRolloutDrawer(props: {
  rollout: RunRollout;
  step: RunStep;
  history: { step: number; rollout: RunRollout }[];
  onStep: (step: number, rolloutId: string) => void;
  onClose: () => void;
}) {
  const { rollout, step, history } = props;
  const [tab, setTab] = useState("conversation");
  const [shade, setShade] = useState<Shade>("probability");
  return (
    <Drawer open onClose={props.onClose} title={`Row ${rollout.rowIndex}, step ${step.step}`}>
      <div className="space-y-4 p-4">
        <dl className="tabular flex flex-wrap gap-x-6 gap-y-2 text-[13px]">
          <Fact name="Score">
            <Score value={rollout.score} valid={rollout.isScoreValid} />
          </Fact>
          <Fact name="Advantage">{figure(rollout.advantage)}</Fact>
          <Fact name="Tokens">
            {count(rollout.completionTokens)}
            {rollout.truncated ? ", cut off" : ""}
          </Fact>
          {Object.entries(rollout.metrics ?? {}).map(([name, value]) => (
            <Fact key={name} name={name}>
              {figure(value)}
            </Fact>
          ))}
        </dl>
        {rollout.reason && <p className="text-ink-soft [overflow-wrap:anywhere]">{rollout.reason}</p>}
        {history.length > 1 && (
          <section aria-label="The same row at other steps">
            <h3 className="mb-1 text-xs font-semibold text-ink-soft">The same row, step by step</h3>
            <ol className="flex gap-2 overflow-x-auto pb-2">
              {history.map((one) => (
                <li key={one.rollout.rolloutId} className="w-24 shrink-0">
                  <Drawing
                    rollout={asRollout(one.rollout)}
                    caption={`step ${one.step}`}
                    chosen={one.step === step.step}
                    onOpen={() => props.onStep(one.step, one.rollout.rolloutId)}
                  />
                </li>
              ))}
            </ol>
          </section>
        )}
        <Tabs
          label="Parts of the rollout"
          active={tab}
          onChange={setTab}
          tabs={[
            { id: "conversation", label: "Conversation" },
            { id: "tokens", label: "Tokens" },
          ]}
        />
        {tab === "conversation" && <Conversation messages={rollout.messages} />}
        {tab === "tokens" &&
          (rollout.turns ? (
            <div className="space-y-4">
              <ShadePicker shade={shade} onShade={setShade} advantage={rollout.advantage !== null} />
              {rollout.turns.map((turn) => (
                <TokenView
                  key={turn.turn}
                  label={`Turn ${turn.turn + 1}`}
                  shade={shade}
                  tokens={asTokens(turn.tokens, rollout.advantage)}
                />
              ))}
            </div>
          ) : (
            <p className="py-4 text-ink-soft">There was no room for the tokens of this rollout.</p>
          ))}
      </div>
    </Drawer>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt className="text-xs text-ink-faint">{name}</dt>
      <dd className="font-medium">{children}</dd>
    </div>
  );
}
