// Chat messages as evaluations store them, and what is read out of them: text, reasoning, tool calls beside their results. Everything
// comes from models and tools, so nothing is taken to have the right shape.

export interface ContentPart {
  type?: string;
  text?: string;
  image_url?: { url?: string } | string;
  [field: string]: unknown;
}

export interface ToolCall {
  id?: string;
  type?: string;
  function?: { name?: string; arguments?: unknown };
}

export interface ChatMessage {
  role?: string;
  content?: string | ContentPart[] | null;
  reasoning_content?: string | null;
  name?: string | null;
  tool_call_id?: string | null;
  tool_calls?: ToolCall[] | null;
  /** 0 left the message out of the loss of a supervised training. */
  weight?: number | null;
  /** Reward and end of an environment's step. */
  control_plane_step?: Record<string, unknown> | null;
  [field: string]: unknown;
}

/** A message with the results of the tools it called, which are told there instead of as messages of their own. */
export interface Turn {
  message: ChatMessage;
  results: Map<string, ChatMessage>;
}

/** Messages in order; a tool's answer goes to the call that asked for it, where there is one. */
export function turns(messages: readonly ChatMessage[]): Turn[] {
  const shown: Turn[] = [];
  const asked = new Map<string, Turn>();
  for (const message of messages) {
    const id = message.role === "tool" ? message.tool_call_id : null;
    const asker = id ? asked.get(id) : undefined;
    if (id && asker && !asker.results.has(id)) {
      asker.results.set(id, message);
      continue;
    }
    const turn: Turn = { message, results: new Map() };
    for (const call of list(message.tool_calls)) if (call?.id) asked.set(call.id, turn);
    shown.push(turn);
  }
  return shown;
}

/** The content's parts; a plain text is one part. */
export function parts(content: ChatMessage["content"]): ContentPart[] {
  if (typeof content === "string") return content ? [{ type: "text", text: content }] : [];
  return list(content).filter((part) => typeof part === "object" && part !== null);
}

/** All text of a message; other parts are left out. */
export function textOf(message: ChatMessage | undefined): string {
  return parts(message?.content)
    .map((part) => (typeof part.text === "string" ? part.text : ""))
    .join("");
}

const THINK = /^\s*<think(?:ing)?>/;

/** Thinking and answer apart: from the field for it, or out of a leading `<think>…</think>` (cut off without its end: all of it). */
export function reasoning(message: ChatMessage): { thought: string; rest: ContentPart[] } {
  const all = parts(message.content);
  const field = message.reasoning_content;
  if (typeof field === "string" && field) return { thought: field, rest: all };
  const [first, ...others] = all;
  const begin =
    typeof first?.text === "string" && message.role === "assistant" ? THINK.exec(first.text) : null;
  if (!first?.text || !begin) return { thought: "", rest: all };
  const end = /<\/think(?:ing)?>/.exec(first.text);
  if (!end) return { thought: first.text.slice(begin[0].length), rest: others };
  const answer = first.text.slice(end.index + end[0].length).trimStart();
  return {
    thought: first.text.slice(begin[0].length, end.index).trim(),
    rest: answer ? [{ ...first, text: answer }, ...others] : others,
  };
}

/** Arguments of a call or a tool's answer as JSON, where they are. */
export function asJson(value: unknown): { json: unknown } | { text: string } {
  if (typeof value !== "string") return { json: value };
  if (!/^\s*[[{]/.test(value)) return { text: value };
  try {
    return { json: JSON.parse(value) };
  } catch {
    return { text: value };
  }
}

const PICTURE = /^data:image\/(png|jpeg|jpg|gif|webp|bmp|avif|svg\+xml)[;,]/i;
const LARGEST = 12_000_000;

/** The address of a picture that can be shown without asking another host; null: it is shown as a link or as text. */
export function pictureSource(url: unknown): string | null {
  return typeof url === "string" && url.length <= LARGEST && PICTURE.test(url) ? url : null;
}

/** An address that a link may lead to: http or https. */
export function linkTarget(url: unknown): string | null {
  if (typeof url !== "string" || !/^https?:\/\//i.test(url)) return null;
  try {
    return new URL(url).href;
  } catch {
    return null;
  }
}

export function pictureUrl(part: ContentPart): unknown {
  return typeof part.image_url === "object" && part.image_url !== null ? part.image_url.url : part.image_url;
}

function list<T>(value: readonly T[] | null | undefined): readonly T[] & T[] {
  return (Array.isArray(value) ? value : []) as T[];
}
