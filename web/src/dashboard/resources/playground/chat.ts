// A chat completion as it is streamed by the gateway: server-sent events read from a fetch, so that it can be stopped.
import { ApiError, problem, WRITE_HEADERS } from "~/api/http";

export interface ChatTurn {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface Sampling {
  temperature: number;
  maxTokens: number;
}

/** What is known of an answer while it comes. */
export interface Answer {
  content: string;
  reasoning: string;
  finishReason: string | null;
  promptTokens: number | null;
  completionTokens: number | null;
  /** Milliseconds from the request to the first text, and to the end (or now). */
  firstAfter: number | null;
  elapsed: number;
}

export const NO_ANSWER: Answer = {
  content: "",
  reasoning: "",
  finishReason: null,
  promptTokens: null,
  completionTokens: null,
  firstAfter: null,
  elapsed: 0,
};

interface Chunk {
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null };
    finish_reason?: string | null;
  }[];
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null;
  error?: { message?: string; code?: string };
}

/** The answer with one event of the stream added. Raises ApiError when the event is an error. */
export function added(answer: Answer, data: string): Answer {
  const chunk = JSON.parse(data) as Chunk;
  if (chunk.error)
    throw new ApiError(chunk.error.message ?? "The answer broke off.", 0, chunk.error.code ?? "");
  const choice = chunk.choices?.[0];
  return {
    ...answer,
    content: answer.content + (choice?.delta?.content ?? ""),
    reasoning: answer.reasoning + (choice?.delta?.reasoning_content ?? ""),
    finishReason: choice?.finish_reason ?? answer.finishReason,
    promptTokens: chunk.usage?.prompt_tokens ?? answer.promptTokens,
    completionTokens: chunk.usage?.completion_tokens ?? answer.completionTokens,
  };
}

/** Splits what came into whole events' data and the rest that is not whole yet. */
export function events(buffer: string): { data: string[]; rest: string } {
  const parts = buffer.replaceAll("\r\n", "\n").split("\n\n");
  const rest = parts.pop() ?? "";
  const data = parts.flatMap((part) => {
    const lines = part.split("\n").filter((line) => line.startsWith("data:"));
    return lines.length ? [lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n")] : [];
  });
  return { data, rest };
}

/** Tokens a second between the first text and the end; null where there is too little to tell. */
export function tokensPerSecond(answer: Answer): number | null {
  const { completionTokens, firstAfter, elapsed } = answer;
  if (!completionTokens || completionTokens < 2 || firstAfter === null || elapsed <= firstAfter) return null;
  return (1000 * (completionTokens - 1)) / (elapsed - firstAfter);
}

/** Ask a model; `onAnswer` is told of every piece. Raises ApiError with the gateway's sentence, or AbortError when stopped. */
export async function chat(
  model: string,
  messages: readonly ChatTurn[],
  sampling: Sampling,
  signal: AbortSignal,
  onAnswer: (answer: Answer) => void,
): Promise<Answer> {
  const began = performance.now();
  let answer = NO_ANSWER;
  const response = await fetch("/inference/v1/chat/completions", {
    method: "POST",
    signal,
    credentials: "same-origin",
    headers: { "content-type": "application/json", ...WRITE_HEADERS },
    body: JSON.stringify({
      model,
      messages,
      temperature: sampling.temperature,
      max_tokens: sampling.maxTokens,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok || !response.body) throw await problem(response);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const read = events(buffer + decoder.decode(value, { stream: true }));
    buffer = read.rest;
    for (const data of read.data) {
      if (data === "[DONE]") continue;
      answer = added(answer, data);
      const elapsed = performance.now() - began;
      const begun = answer.content !== "" || answer.reasoning !== "";
      answer = { ...answer, elapsed, firstAfter: answer.firstAfter ?? (begun ? elapsed : null) };
    }
    onAnswer(answer);
  }
  return answer;
}
