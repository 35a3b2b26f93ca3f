/** The agent itself: one call of a model through the plain OpenAI SDK. */
import type { initRequestSchema } from "eval-protocol";
import OpenAI from "openai";

export type InitRequest = ReturnType<typeof initRequestSchema.parse>;
export type Log = { info(message: string): unknown };

/** Of completion_params: these say where calls go, which model_base_url already does. */
const NOT_FOR_THE_MODEL = new Set(["base_url", "api_base", "api_key"]);

/** Ask the model for the drawing. What it answers is recorded by the gateway, so there is nothing to give back. */
export async function draw(request: InitRequest, log: Log, signal: AbortSignal): Promise<void> {
  if (!request.messages?.length) throw new Error("The request has no messages: there is nothing to draw.");
  const client = new OpenAI({ baseURL: request.model_base_url, apiKey: request.api_key ?? "none", timeout: 300_000 });
  const params = Object.fromEntries(
    Object.entries(request.completion_params).filter(([name, value]) => value != null && !NOT_FOR_THE_MODEL.has(name)),
  );
  if (request.tools?.length) params.tools = request.tools;
  log.info(`Drawing row ${request.metadata.row_id}`);
  const body = { ...params, messages: request.messages } as unknown as OpenAI.ChatCompletionCreateParamsNonStreaming;
  const completion = await client.chat.completions.create(body, { signal });
  const choice = completion.choices[0];
  log.info(`The model answered ${choice?.message.content?.length ?? 0} characters (${choice?.finish_reason})`);
}
