// A conversation in the playground: answers as Markdown, drawings as pictures, and how fast they came.
import { Bot, User } from "lucide-react";
import { useEffect, useRef } from "react";
import { Bounded } from "~/conversation/Bounded";
import { Markdown, Plain } from "~/conversation/Markdown";
import { reasoning, textOf } from "~/conversation/messages";
import { Spinner } from "~/design/Button";
import { CopyButton } from "~/design/Copy";
import { count, figure } from "~/design/figures";
import { Empty } from "~/design/Panel";
import { span } from "~/design/Time";
import { type Answer, tokensPerSecond } from "./chat";
import type { Chat, Said } from "./useChat";

export function Transcript({ chat }: { chat: Chat }) {
  const end = useRef<HTMLDivElement>(null);
  const length = chat.turns.reduce((sum, turn) => sum + turn.content.length, chat.turns.length);
  // biome-ignore lint/correctness/useExhaustiveDependencies: follows what comes
  useEffect(() => {
    if (chat.busy) end.current?.scrollIntoView({ block: "nearest" });
  }, [length, chat.busy]);
  if (chat.turns.length === 0)
    return (
      <div className="grid flex-1 place-items-center">
        <Empty title="Say something">Answers stream in here. SVG in an answer is drawn.</Empty>
      </div>
    );
  return (
    <div role="log" aria-label="Conversation" aria-busy={chat.busy} className="flex-1 space-y-4 p-4">
      {chat.turns.map((turn, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: turns are known by their place
        <Turn key={place} turn={turn} live={chat.busy && place === chat.turns.length - 1} />
      ))}
      <div ref={end} />
    </div>
  );
}

function Turn({ turn, live }: { turn: Said; live: boolean }) {
  const mine = turn.role === "user";
  // Some models think within the answer's text, others in a field of its own.
  const told = reasoning({
    role: turn.role,
    content: turn.content,
    reasoning_content: turn.answer?.reasoning,
  });
  const answer = textOf({ content: told.rest });
  return (
    <article className="flex gap-3" aria-label={mine ? "You" : "Answer"}>
      <span
        aria-hidden="true"
        className={`mt-0.5 grid size-6 shrink-0 place-items-center rounded-full ${mine ? "bg-note-soft text-note" : "bg-accent-soft text-accent-text"}`}
      >
        {mine ? <User size={14} /> : <Bot size={14} />}
      </span>
      <div className="min-w-0 flex-1 space-y-2">
        {told.thought && (
          <details className="rounded-md border bg-sunken px-3 py-1.5" open={live && !answer}>
            <summary className="cursor-pointer text-xs text-ink-soft">Reasoning</summary>
            <Bounded text={told.thought}>{(shown) => <Plain text={shown} />}</Bounded>
          </details>
        )}
        {mine ? <Plain text={turn.content} /> : <Markdown text={answer} />}
        {turn.error && (
          <p role="alert" className="rounded-md border border-bad bg-bad-soft px-3 py-2 break-words text-bad">
            {turn.error}
          </p>
        )}
        {turn.answer && (
          <div className="tabular flex flex-wrap items-center gap-x-3 text-xs text-ink-faint">
            {live && <Spinner />}
            <Facts answer={turn.answer} stopped={turn.stopped} />
            {turn.content && !live && <CopyButton text={turn.content} label="Copy answer" />}
          </div>
        )}
      </div>
    </article>
  );
}

function Facts({ answer, stopped }: { answer: Answer; stopped?: boolean }) {
  const speed = tokensPerSecond(answer);
  const facts = [
    answer.completionTokens !== null && `${count(answer.completionTokens)} tokens`,
    speed !== null && `${figure(Math.round(speed * 10) / 10)} tokens/s`,
    answer.firstAfter !== null && `first after ${span(answer.firstAfter / 1000)}`,
    answer.elapsed > 0 && span(answer.elapsed / 1000),
    stopped ? "stopped" : answer.finishReason === "length" && "cut at max tokens",
  ].filter(Boolean);
  return <span>{facts.join(" · ")}</span>;
}
