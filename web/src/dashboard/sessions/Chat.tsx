// What was said and done, as it comes: words of people to the right, the Agent's to the left, events small between them.
import { clsx } from "clsx";
import { Send } from "lucide-react";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { type AgentSession, type SessionEvent, useSessionActions, useSessionEvents } from "~/api/sessions";
import { Button } from "~/design/Button";
import { TextArea } from "~/design/Field";
import { Failure, Panel, Skeleton } from "~/design/Panel";
import { Time } from "~/design/Time";
import { toastError } from "~/design/Toast";
import { useMayChange } from "../session";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const TONE: Record<string, string> = {
  warning: "text-fair",
  error: "text-bad",
  result: "text-good",
};
/** Text in columns keeps a fixed pitch. */
const COLUMNS = /\S {3,}\S/;
const WORD: Record<string, string> = { warning: "warning", error: "error", result: "result" };

export function Chat({ session, id }: { session: AgentSession; id: string }) {
  const { events, error, ready } = useSessionEvents(id);
  const { send } = useSessionActions(id);
  const mayChange = useMayChange();
  const [words, setWords] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const following = useRef(true);

  // biome-ignore lint/correctness/useExhaustiveDependencies: every new line is followed, unless somebody reads further up
  useEffect(() => {
    if (following.current) box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [events.length]);

  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    const message = words.trim();
    if (!message) return;
    following.current = true;
    send.mutate(message, { onSuccess: () => setWords(""), onError: toastError });
  };

  const ended = ENDED.has(session.state);
  return (
    <Panel title="Chat" flush>
      <div
        ref={box}
        role="log"
        aria-label="What was said and done"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        onScroll={({ currentTarget: at }) => {
          following.current = at.scrollHeight - at.scrollTop - at.clientHeight < 40;
        }}
        className="max-h-[34rem] min-h-40 space-y-3 overflow-y-auto p-4"
      >
        {error ? <Failure title="The history could not be loaded" error={error} /> : null}
        {!ready && <Skeleton lines={5} />}
        {events.map((event) => (
          <Line key={event.sequence} event={event} />
        ))}
        {session.state === "running" && session.message && (
          <p className="flex items-center gap-2 text-xs text-note">
            <span aria-hidden="true" className="size-1.5 animate-pulse rounded-full bg-current" />
            {session.message}
          </p>
        )}
      </div>
      {ended ? (
        <p className="border-t px-4 py-3 text-[13px] text-ink-soft">
          The session has ended; start another one to go on.
        </p>
      ) : mayChange ? (
        <form onSubmit={submit} className="flex items-end gap-2 border-t p-3">
          <TextArea
            aria-label="Message to the Agent"
            className="min-h-16 flex-1"
            rows={2}
            maxLength={20_000}
            value={words}
            placeholder={session.state === "waiting" ? "Answer, or say what to change" : "Ask something"}
            onChange={(event) => setWords(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey) submit(event);
            }}
          />
          <Button
            kind="primary"
            type="submit"
            busy={send.isPending}
            disabled={!words.trim()}
            icon={<Send size={14} />}
          >
            Send
          </Button>
        </form>
      ) : (
        <p className="border-t px-4 py-3 text-[13px] text-ink-soft">Sign in to talk to the Agent.</p>
      )}
    </Panel>
  );
}

function Line({ event }: { event: SessionEvent }) {
  if (event.kind === "user_message")
    return (
      <div className="ml-auto w-fit max-w-[85%] rounded-lg rounded-br-sm bg-accent-soft px-3 py-2">
        <Text text={event.text} />
        <p className="mt-0.5 text-right text-[11px] text-ink-soft">
          <Time at={event.time} />
        </p>
      </div>
    );
  if (event.kind === "answer" || event.kind === "ask_user")
    return (
      <div className="w-fit max-w-[92%] rounded-lg rounded-bl-sm border bg-raised px-3 py-2">
        <Text text={event.text} />
        <p className="mt-0.5 text-[11px] text-ink-soft">
          <Time at={event.time} />
        </p>
      </div>
    );
  return (
    <div className="flex gap-3 text-xs">
      <span className="shrink-0 text-ink-faint">
        <Time at={event.time} />
      </span>
      <span
        className={clsx(
          "min-w-0 whitespace-pre-wrap [overflow-wrap:anywhere]",
          TONE[event.kind] ?? "text-ink-soft",
        )}
      >
        {WORD[event.kind] && <b>{WORD[event.kind]}: </b>}
        {event.text}
      </span>
    </div>
  );
}

/** Long words (a plan with its evaluator) begin with their first lines. */
function Text({ text }: { text: string }) {
  const [all, setAll] = useState(false);
  const lines = text.split("\n");
  const long = lines.length > 14 || text.length > 1500;
  const shown = all || !long ? text : lines.slice(0, 10).join("\n").slice(0, 1200);
  return (
    <>
      <p
        className={clsx(
          "whitespace-pre-wrap [overflow-wrap:anywhere]",
          COLUMNS.test(text) ? "font-mono text-xs" : "text-[13px]",
        )}
      >
        {shown}
      </p>
      {long && (
        <button
          type="button"
          aria-expanded={all}
          onClick={() => setAll(!all)}
          className="text-xs font-medium text-accent-text underline underline-offset-2"
        >
          {all ? "Show less" : `Show all ${lines.length} lines`}
        </button>
      )}
    </>
  );
}
