/** `POST /init`: begin a rollout and answer at once; its end is told to the tracing gateway. */
import { waitUntil } from "@vercel/functions";
import { initRequestSchema, setWaitUntil } from "eval-protocol";
import { begin, Full } from "../lib/rollouts.js";

setWaitUntil(waitUntil);

export async function POST(request: Request): Promise<Response> {
  let body: unknown;
  try {
    body = await request.json();
  } catch (error) {
    return failure(400, `The body is no JSON: ${(error as Error).message}`);
  }
  const parsed = initRequestSchema.safeParse(body);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue?.path.join(".") ?? "";
    return failure(400, `${field || "The body"}: ${issue?.message ?? "is not valid"}`, field || undefined);
  }
  if (!parsed.data.model_base_url) {
    return failure(400, "model_base_url is missing: the rollout's end could not be told.", "model_base_url");
  }
  try {
    const { started, state, work } = begin(parsed.data);
    if (work) waitUntil(work);
    return Response.json({ rollout_id: parsed.data.metadata.rollout_id, status: state }, { status: started ? 202 : 200 });
  } catch (error) {
    if (error instanceof Full) return failure(429, error.message, undefined, { "retry-after": "5" });
    throw error;
  }
}

function failure(status: number, message: string, field?: string, headers?: Record<string, string>): Response {
  return Response.json({ error: field ? { message, field } : { message } }, { status, headers });
}
