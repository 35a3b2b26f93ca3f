// A rollout as a conversation: who said what, what the model thought, which tools it called and what they answered.
import { clsx } from "clsx";
import { Bot, ChevronRight, Settings2, User, Wrench } from "lucide-react";
import { type ReactNode, useState } from "react";
import { Badge } from "~/design/Badge";
import { CopyButton } from "~/design/Copy";
import { Bounded } from "./Bounded";
import { Json } from "./Json";
import { Markdown, Plain } from "./Markdown";
import {
  asJson,
  type ChatMessage,
  type ContentPart,
  linkTarget,
  pictureSource,
  pictureUrl,
  reasoning,
  type ToolCall,
  type Turn,
  textOf,
  turns,
} from "./messages";

export type { ChatMessage } from "./messages";

const LOOK: Record<string, { edge: string; icon: ReactNode }> = {
  system: { edge: "border-l-line-strong", icon: <Settings2 size={14} /> },
  developer: { edge: "border-l-line-strong", icon: <Settings2 size={14} /> },
  user: { edge: "border-l-note", icon: <User size={14} /> },
  assistant: { edge: "border-l-accent", icon: <Bot size={14} /> },
  tool: { edge: "border-l-fair", icon: <Wrench size={14} /> },
};
/** Messages shown before someone asks for more, from the beginning. */
const MANY = 60;

export function Conversation({ messages }: { messages: readonly ChatMessage[] }) {
  const [shown, setShown] = useState(MANY);
  const all = turns(messages.filter((message) => typeof message === "object" && message !== null));
  if (all.length === 0) return <p className="py-4 text-ink-faint">There are no messages.</p>;
  return (
    <div className="space-y-2.5" role="log" aria-label="Conversation" aria-live="off">
      {all.slice(0, shown).map((turn, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: messages are known by their place
        <Message key={place} turn={turn} />
      ))}
      {all.length > shown && (
        <button
          type="button"
          className="text-accent-text underline underline-offset-2"
          onClick={() => setShown(shown + 4 * MANY)}
        >
          {all.length - shown} more messages
        </button>
      )}
    </div>
  );
}

function Message({ turn }: { turn: Turn }) {
  const [raw, setRaw] = useState(false);
  const { message, results } = turn;
  const role = message.role ?? "unknown";
  const look = LOOK[role] ?? { edge: "border-l-line-strong", icon: <User size={14} /> };
  const { thought, rest } = reasoning(message);
  const text = textOf(message);
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : [];
  return (
    <article
      aria-label={`Message of ${role}`}
      className={clsx("group min-w-0 rounded-md border border-l-[3px] bg-surface", look.edge)}
    >
      <header className="flex items-center justify-between gap-2 py-1 pr-1.5 pl-3">
        <div className="flex min-w-0 items-center gap-2 text-xs">
          <span className="text-ink-faint" aria-hidden="true">
            {look.icon}
          </span>
          <span className="font-semibold">{role}</span>
          {message.name && <span className="truncate text-ink-soft">{message.name}</span>}
          {message.weight === 0 && <Badge>not trained</Badge>}
          {message.control_plane_step && <StepMark step={message.control_plane_step} />}
        </div>
        <div className="flex items-center gap-1">
          {text && (
            <button
              type="button"
              aria-pressed={raw}
              onClick={() => setRaw(!raw)}
              className={clsx(
                "h-7 rounded-md px-2 text-xs text-ink-faint hover:bg-sunken hover:text-ink",
                raw && "bg-sunken text-ink",
              )}
            >
              Raw
            </button>
          )}
          {text && <CopyButton text={text} label="Copy message" />}
        </div>
      </header>
      <div className="space-y-2.5 px-3 pb-3">
        {thought && <Reasoning text={thought} />}
        {rest.map((part, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: parts are known by their place
          <Part key={place} part={part} raw={raw} by={role} />
        ))}
        {calls.map((call, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a call may lack its id
          <Call key={place} call={call} result={call?.id ? results.get(call.id) : undefined} />
        ))}
        {!thought && rest.length === 0 && calls.length === 0 && (
          <p className="text-ink-faint">Nothing was said.</p>
        )}
      </div>
    </article>
  );
}

function Part({ part, raw, by }: { part: ContentPart; raw: boolean; by: string }) {
  if (typeof part.text === "string") {
    const said = by === "tool" ? asJson(part.text) : { text: part.text };
    if (!raw && "json" in said) return <Json value={said.json} />;
    if (!raw && by !== "tool") return <Markdown text={part.text} />;
    return <Bounded text={part.text}>{(shown) => <Mono text={shown} />}</Bounded>;
  }
  if (part.type === "image_url" || part.image_url) return <Picture url={pictureUrl(part)} />;
  return <Json value={part} depth={1} />;
}

function Mono({ text }: { text: string }) {
  return (
    <pre className="rounded-md border bg-sunken p-3 font-mono text-xs leading-5 whitespace-pre-wrap [overflow-wrap:anywhere]">
      {text}
    </pre>
  );
}

function Picture({ url }: { url: unknown }) {
  const source = pictureSource(url);
  if (source)
    return (
      <img src={source} alt="Part of the message" className="max-h-96 max-w-full rounded border bg-white" />
    );
  const target = linkTarget(url);
  return target ? (
    <a
      href={target}
      target="_blank"
      rel="noopener noreferrer"
      className="text-accent-text underline underline-offset-2 [overflow-wrap:anywhere]"
    >
      Picture on {new URL(target).host}, not loaded
    </a>
  ) : (
    <span className="text-ink-faint">A picture that cannot be shown ({String(url).slice(0, 60)})</span>
  );
}

function Reasoning({ text }: { text: string }) {
  return (
    <Fold label="Reasoning" hint={`${text.length.toLocaleString()} characters`}>
      <div className="border-l-2 pl-3 text-ink-soft">
        <Markdown text={text} />
      </div>
    </Fold>
  );
}

function Call({ call, result }: { call: ToolCall; result: ChatMessage | undefined }) {
  const given = asJson(call?.function?.arguments ?? {});
  return (
    <section className="overflow-hidden rounded-md border">
      <div className="flex flex-wrap items-center gap-2 border-b bg-raised px-3 py-1.5 text-xs">
        <Wrench size={13} aria-hidden="true" className="text-fair" />
        <span className="font-mono font-semibold">{call?.function?.name ?? "unnamed tool"}</span>
        {call?.id && <span className="truncate font-mono text-ink-faint">{call.id}</span>}
      </div>
      <div className="space-y-2 p-2.5">
        <div className="text-xs text-ink-faint">Arguments</div>
        {"json" in given ? <Json value={given.json} /> : <Plain text={given.text} />}
        {result ? (
          <>
            <div className="flex items-center justify-between text-xs text-ink-faint">
              Result
              <CopyButton text={textOf(result)} label="Copy result" />
            </div>
            {reasoning(result).rest.map((part, place) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: parts are known by their place
              <Part key={place} part={part} raw={false} by="tool" />
            ))}
          </>
        ) : (
          <div className="text-xs text-ink-faint">No result was recorded.</div>
        )}
      </div>
    </section>
  );
}

function StepMark({ step }: { step: Record<string, unknown> }) {
  return (
    <>
      {typeof step.reward === "number" && <Badge tone="note">reward {step.reward}</Badge>}
      {step.terminated === true && <Badge>ended</Badge>}
    </>
  );
}

/** Something that is folded until opened, and not rendered before. */
export function Fold(props: { label: ReactNode; hint?: ReactNode; open?: boolean; children: ReactNode }) {
  const [open, setOpen] = useState(props.open ?? false);
  return (
    <div className="space-y-2">
      <button
        type="button"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className="flex items-center gap-1.5 rounded text-xs font-medium text-ink-soft hover:text-ink"
      >
        <ChevronRight
          size={13}
          aria-hidden="true"
          className={clsx("transition-transform", open && "rotate-90")}
        />
        {props.label}
        {props.hint && <span className="tabular font-normal text-ink-faint">{props.hint}</span>}
      </button>
      {open && props.children}
    </div>
  );
}
