/** The rollouts that this server is working on: each one once, a bounded number at a time, each with a status at its end. */
import { createRolloutLogger, EvalProtocolError, Status, StatusCode } from "eval-protocol";
import OpenAI from "openai";
import { draw, type InitRequest } from "./agent.js";

const MOST_AT_WORK = 64;
const MOST_WAITING = 1024;
/** Ended rollouts whose `/init` is recognised when it comes again. */
const REMEMBERED = 10_000;
const HTTP_TO_CODE: Record<number, StatusCode> = {
  400: StatusCode.INVALID_ARGUMENT,
  401: StatusCode.UNAUTHENTICATED,
  403: StatusCode.PERMISSION_DENIED,
  404: StatusCode.NOT_FOUND,
  408: StatusCode.DEADLINE_EXCEEDED,
  409: StatusCode.ABORTED,
  410: StatusCode.NOT_FOUND,
  413: StatusCode.INVALID_ARGUMENT,
  422: StatusCode.INVALID_ARGUMENT,
  429: StatusCode.RESOURCE_EXHAUSTED,
  500: StatusCode.INTERNAL,
  501: StatusCode.UNIMPLEMENTED,
  502: StatusCode.UNAVAILABLE,
  503: StatusCode.UNAVAILABLE,
  504: StatusCode.DEADLINE_EXCEEDED,
};

type State = "running" | "finished" | "failed";
export type Begun = { started: boolean; state: State; work?: Promise<void> };

/** No rollout more can wait. */
export class Full extends Error {}

const states = new Map<string, State>();
const waiting: (() => void)[] = [];
const stopping = new AbortController();
let atWork = 0;

/** Rollouts that run or wait. */
export function running(): number {
  return atWork + waiting.length;
}

/** Begin a rollout, unless it was begun before. Throws Full. */
export function begin(request: InitRequest): Begun {
  const id = request.metadata.rollout_id;
  const known = states.get(id);
  if (known) return { started: false, state: known };
  if (stopping.signal.aborted) throw new Full("This agent server is shutting down.");
  if (running() >= MOST_AT_WORK + MOST_WAITING) {
    throw new Full(`${running()} rollouts are running or waiting here, which is the limit. Try again later.`);
  }
  states.set(id, "running");
  return { started: true, state: "running", work: rollOut(request) };
}

/** Stop everything: rollouts at work end as UNAVAILABLE, so that they are tried again elsewhere. */
export function stop(): void {
  stopping.abort();
  for (const go of waiting.splice(0)) go();
}

/** Everything before the ids is the gateway, which takes the log lines, too. */
export function gatewayOf(modelBaseUrl: string): string {
  return (modelBaseUrl.split("/rollout_id/")[0] ?? "").replace(/\/+$/, "");
}

async function rollOut(request: InitRequest): Promise<void> {
  const { rollout_id: id, experiment_id, run_id } = request.metadata;
  const gatewayBaseUrl = gatewayOf(request.model_base_url ?? "");
  const log = createRolloutLogger(id, { name: "svg_agent", gatewayBaseUrl, apiKey: request.api_key ?? undefined });
  let status = Status.rolloutFinished();
  if (atWork >= MOST_AT_WORK) await new Promise<void>((go) => waiting.push(go));
  atWork += 1;
  try {
    stopping.signal.throwIfAborted();
    await draw(request, log, stopping.signal);
  } catch (error) {
    status = stopping.signal.aborted
      ? Status.rolloutUnavailableError("The agent server was stopped while the rollout ran.")
      : statusOf(error);
  } finally {
    atWork -= 1;
    waiting.shift()?.();
  }
  const failed = status.code !== StatusCode.FINISHED;
  remember(id, failed ? "failed" : "finished");
  log.log(failed ? "error" : "info", failed ? status.message : `Rollout ${id} completed`, { status, experiment_id, run_id });
  log.close();
}

function remember(id: string, state: State): void {
  states.delete(id);
  states.set(id, state);
  for (const [old, its] of states) {
    if (states.size <= REMEMBERED) break;
    if (its !== "running") states.delete(old);
  }
}

/** The code that fits an exception: what may pass is tried again by the evaluation, what is wrong is not. */
function statusOf(error: unknown): Status {
  const message = error instanceof Error ? `${error.constructor.name}: ${error.message}` : String(error);
  if (error instanceof EvalProtocolError && error.statusCode !== undefined) return new Status(error.statusCode, message);
  if (error instanceof OpenAI.APIConnectionTimeoutError) return new Status(StatusCode.DEADLINE_EXCEEDED, message);
  if (error instanceof OpenAI.APIConnectionError) return new Status(StatusCode.UNAVAILABLE, message);
  if (error instanceof OpenAI.APIError && error.status) {
    return new Status(HTTP_TO_CODE[error.status] ?? StatusCode.UNKNOWN, message);
  }
  return new Status(StatusCode.INTERNAL, message);
}
