// A session waits for a person: what it asks, and the ways to answer. Anything can also be said in the chat.
import { Hand } from "lucide-react";
import { useState } from "react";
import type { AgentSession, Gate as GateOf } from "~/api/sessions";
import { useSessionActions } from "~/api/sessions";
import { Button } from "~/design/Button";
import { Confirm } from "~/design/Dialog";
import { toastError } from "~/design/Toast";

const ASKS = {
  question: "The Agent has a question",
  plan: "Approve the plan?",
  promotion: "Promote a candidate?",
};

export function Gate({ session, id, gate }: { session: AgentSession; id: string; gate: GateOf }) {
  const { send } = useSessionActions(id);
  const [ending, setEnding] = useState(false);
  const [open, setOpen] = useState(gate.kind === "question");
  const say = (message: string) => send.mutate(message, { onError: toastError });
  const others = session.candidates.filter((one) => one.number > 0 && !one.failed);
  return (
    <section aria-label={ASKS[gate.kind]} className="rounded-lg border-2 border-fair bg-fair-soft/40 p-4">
      <h2 className="flex items-center gap-2 text-base font-semibold">
        <Hand size={18} className="text-fair" aria-hidden="true" />
        {ASKS[gate.kind]}
      </h2>
      {gate.kind === "question" && gate.questions.length > 0 ? (
        <ul className="mt-2 space-y-2">
          {gate.questions.map((question) => (
            <li key={question.field + question.text}>
              <p className="[overflow-wrap:anywhere]">{question.text}</p>
              {question.choices.length > 0 && (
                <div className="mt-1 flex flex-wrap gap-1.5">
                  {question.choices.map((choice) => (
                    <Button key={choice} small busy={send.isPending} onClick={() => say(choice)}>
                      {choice}
                    </Button>
                  ))}
                </div>
              )}
            </li>
          ))}
        </ul>
      ) : (
        <>
          <p className="mt-1 text-ink-soft">
            {gate.kind === "plan"
              ? "The plan and its price stand below. Nothing is trained before you approve. To change it, say what in the chat: “use 2 epochs instead”, “drop the 5e-5”."
              : gate.kind === "promotion"
                ? session.reason || "The sweep has ended."
                : gate.text}
          </p>
          {gate.kind !== "question" && (
            <button
              type="button"
              aria-expanded={open}
              onClick={() => setOpen(!open)}
              className="mt-1 text-[13px] font-medium text-accent-text underline underline-offset-2"
            >
              {open ? "Hide what the Agent wrote" : "Read what the Agent wrote"}
            </button>
          )}
        </>
      )}
      {open && gate.kind !== "question" && (
        <pre
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
          tabIndex={0}
          className="mt-2 max-h-[28rem] overflow-auto rounded-md border bg-surface p-3 font-mono text-xs leading-5 break-words whitespace-pre-wrap"
        >
          {gate.text}
        </pre>
      )}
      <div className="mt-3 flex flex-wrap gap-2">
        {gate.kind === "plan" && (
          <Button kind="primary" busy={send.isPending} onClick={() => say("Approved, proceed.")}>
            Approve and proceed
          </Button>
        )}
        {gate.kind === "promotion" && (
          <>
            <Button
              kind="primary"
              busy={send.isPending}
              onClick={() => say("Proceed with the winning config.")}
            >
              Proceed with the winner{session.winner ? ` (candidate ${session.winner})` : ""}
            </Button>
            {others
              .filter((one) => one.number !== session.winner)
              .map((one) => (
                <Button
                  key={one.number}
                  busy={send.isPending}
                  onClick={() => say(`use candidate ${one.number}`)}
                >
                  Use candidate {one.number}
                </Button>
              ))}
          </>
        )}
        <Button kind="danger" onClick={() => setEnding(true)}>
          Stop here
        </Button>
      </div>
      <Confirm
        open={ending}
        onClose={() => setEnding(false)}
        title="End this session?"
        action="Stop here"
        busy={send.isPending}
        onConfirm={() => {
          setEnding(false);
          say("stop here");
        }}
      >
        <p>
          {gate.kind === "promotion"
            ? "No candidate is promoted. The candidates' models stay."
            : "Nothing was trained; the session ends as cancelled."}
        </p>
      </Confirm>
    </section>
  );
}
