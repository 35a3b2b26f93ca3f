// What a row of a dataset says, in a line.
import { type ChatMessage, textOf } from "~/conversation/messages";

/** The last thing a user said, the answer that the row holds, and how many messages there are. */
export function said(row: Record<string, unknown>): { prompt: string; answer: string; messages: number } {
  const messages = list(row.messages);
  if (messages.length) {
    const last = messages.at(-1);
    return {
      prompt: textOf(messages.findLast((message) => message.role === "user") ?? messages[0]),
      answer: last?.role === "assistant" ? textOf(last) : "",
      messages: messages.length,
    };
  }
  const input = list((row.input as { messages?: unknown } | undefined)?.messages);
  return {
    prompt: textOf(input.findLast((message) => message.role === "user")),
    answer: textOf(list(row.preferred_output)[0]),
    messages: input.length + 1,
  };
}

function list(value: unknown): ChatMessage[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null) : [];
}
