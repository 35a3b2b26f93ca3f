// The tokens of one model call, as they were sampled: shaded by how surprising each was, or by what the learner makes of it.
// Thousands of spans are drawn once; what is under the pointer or the arrow keys is told in one line above them.
import { clsx } from "clsx";
import { type KeyboardEvent, memo, type PointerEvent, useMemo, useRef, useState } from "react";
import { Button } from "./Button";
import { change, figure, percent } from "./figures";

export interface Token {
  /** Null where only the text is known. */
  id?: number | null;
  /** The bytes that are UTF-8 so far; empty inside a character of several tokens. */
  text: string;
  /** False: it was given (prompt, template, tool result), and is not trained. */
  sampled: boolean;
  logprob: number | null;
  advantage?: number | null;
}

export type Shade = "probability" | "advantage" | "none";

const SHADES: [Shade, string][] = [
  ["probability", "Probability"],
  ["advantage", "Advantage"],
  ["none", "No shading"],
];
/** Tokens drawn at once; a button brings the next ones. */
const PORTION = 6000;
/** A token at this log-probability (1 in 400) or below has the full shade. */
const SURPRISE = -6;
/** An advantage of this many standard deviations has the full shade. */
const STRONG = 2;

/** Chooses the shading, and says what its colours mean. */
export function ShadePicker(props: { shade: Shade; onShade: (shade: Shade) => void; advantage?: boolean }) {
  const shades = SHADES.filter(([shade]) => shade !== "advantage" || props.advantage !== false);
  return (
    <div className="flex flex-wrap items-center gap-x-4 gap-y-2 text-xs">
      <fieldset className="inline-flex rounded-md border border-line-strong p-0.5">
        <legend className="sr-only">Shade tokens by</legend>
        {shades.map(([shade, label]) => (
          <button
            key={shade}
            type="button"
            aria-pressed={shade === props.shade}
            onClick={() => props.onShade(shade)}
            className={clsx(
              "rounded px-2 py-1 font-medium",
              shade === props.shade ? "bg-accent-soft text-accent-text" : "text-ink-soft hover:text-ink",
            )}
          >
            {label}
          </button>
        ))}
      </fieldset>
      <ul className="flex flex-wrap items-center gap-x-3 gap-y-1 text-ink-soft" aria-label="Legend">
        {legend(props.shade).map(([label, background]) => (
          <li key={label} className="flex items-center gap-1.5">
            <span
              aria-hidden="true"
              className="inline-block h-3.5 w-5 rounded-sm border"
              style={{ background }}
            />
            {label}
          </li>
        ))}
        <li className="text-ink-faint italic">given, not sampled</li>
      </ul>
    </div>
  );
}

export function TokenView(props: { tokens: readonly Token[]; shade: Shade; label: string }) {
  const { tokens, shade } = props;
  const box = useRef<HTMLDivElement>(null);
  const marked = useRef<HTMLElement | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const [portions, setPortions] = useState(1);
  const end = Math.min(tokens.length, portions * PORTION);

  const show = (element: HTMLElement | null | undefined) => {
    if (!element || element === marked.current) return;
    marked.current?.removeAttribute("data-at");
    marked.current = element;
    element.setAttribute("data-at", "");
    setAt(Number(element.dataset.token));
  };
  const span = (index: number) => box.current?.querySelector<HTMLElement>(`[data-token="${index}"]`);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 20, ArrowUp: -20 }[event.key];
    const target =
      step !== undefined
        ? Math.max(0, Math.min(end - 1, (at ?? -1) + step))
        : event.key === "Home"
          ? 0
          : event.key === "End"
            ? end - 1
            : null;
    if (target === null) return;
    event.preventDefault();
    event.stopPropagation();
    const element = span(target);
    show(element);
    element?.scrollIntoView({ block: "nearest" });
  };
  const shown = useMemo(() => tokens.slice(0, end), [tokens, end]);
  return (
    <div className="flex min-w-0 flex-col gap-2">
      <Detail token={at === null ? undefined : tokens[at]} at={at} count={tokens.length} />
      <div
        ref={box}
        role="application"
        aria-label={`${props.label}: ${tokens.length} tokens; arrow keys move from one to the next`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys move inside it
        tabIndex={0}
        onKeyDown={move}
        onPointerMove={(event: PointerEvent) =>
          show((event.target as HTMLElement).closest<HTMLElement>("[data-token]"))
        }
        onPointerDown={(event: PointerEvent) =>
          show((event.target as HTMLElement).closest<HTMLElement>("[data-token]"))
        }
        className="max-h-[32rem] overflow-y-auto rounded-md border bg-surface p-3 font-mono text-[13px] leading-6 break-words whitespace-pre-wrap [&_[data-at]]:outline-2 [&_[data-at]]:outline-accent"
      >
        <Spans tokens={shown} shade={shade} />
      </div>
      {end < tokens.length && (
        <Button small className="self-start" onClick={() => setPortions(portions + 1)}>
          Show the next {Math.min(PORTION, tokens.length - end).toLocaleString("en")} of{" "}
          {tokens.length.toLocaleString("en")} tokens
        </Button>
      )}
    </div>
  );
}

const Spans = memo(function Spans({ tokens, shade }: { tokens: readonly Token[]; shade: Shade }) {
  return tokens.map((token, index) => (
    <span
      // biome-ignore lint/suspicious/noArrayIndexKey: a token is its place
      key={index}
      data-token={index}
      className={token.sampled ? "rounded-[3px]" : "rounded-[3px] text-ink-faint italic"}
      style={token.sampled ? { background: background(token, shade) } : undefined}
    >
      {visible(token.text)}
    </span>
  ));
});

function Detail({ token, at, count }: { token: Token | undefined; at: number | null; count: number }) {
  if (!token)
    return (
      <p className="tabular text-xs text-ink-faint">
        {count.toLocaleString("en")} tokens. Point at one, or use the arrow keys, to see what it is.
      </p>
    );
  const parts: [string, string][] = [
    ["token", `${(at ?? 0) + 1} of ${count.toLocaleString("en")}`],
    ["text", JSON.stringify(token.text)],
  ];
  if (token.id !== null && token.id !== undefined) parts.push(["id", String(token.id)]);
  if (!token.sampled) parts.push(["given", "not trained"]);
  if (token.logprob !== null) {
    parts.push(["log-probability", `${figure(token.logprob)} nats`]);
    parts.push(["probability", percent(Math.exp(token.logprob))]);
  }
  if (token.advantage !== null && token.advantage !== undefined)
    parts.push(["advantage", change(token.advantage)]);
  return (
    <p role="status" className="tabular flex flex-wrap gap-x-4 text-xs">
      {parts.map(([name, value]) => (
        <span key={name} className="max-w-64 truncate">
          <span className="text-ink-faint">{name}</span> <span className="font-mono">{value}</span>
        </span>
      ))}
    </p>
  );
}

function background(token: Token, shade: Shade): string | undefined {
  if (shade === "probability" && token.logprob !== null) return tint("fair", token.logprob / SURPRISE);
  if (shade === "advantage" && token.advantage)
    return tint(token.advantage > 0 ? "good" : "bad", Math.abs(token.advantage) / STRONG);
  return undefined;
}

/** A role's colour, as strong as `share` (0 to 1) says; at its strongest the text on it still has its contrast. */
function tint(role: "good" | "fair" | "bad", share: number): string {
  const strength = Math.round(Math.min(1, Math.max(0, share)) * 40);
  return `color-mix(in srgb, var(--${role}) ${strength}%, transparent)`;
}

function legend(shade: Shade): [string, string][] {
  if (shade === "probability")
    return [
      ["certain", tint("fair", 0)],
      ["1 in 20", tint("fair", Math.log(1 / 20) / SURPRISE)],
      ["1 in 400 or less", tint("fair", 1)],
    ];
  if (shade === "advantage")
    return [
      ["made likelier", tint("good", 0.8)],
      ["made less likely", tint("bad", 0.8)],
    ];
  return [];
}

/** Whitespace that would not be seen gets a sign; a part of a character gets a dot. */
function visible(text: string): string {
  if (text === "") return "·";
  return text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t");
}
