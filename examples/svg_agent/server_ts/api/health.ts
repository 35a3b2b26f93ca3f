/** `GET /health`: the server is there. */
import { running } from "../lib/rollouts.js";

export function GET(_: Request): Response {
  return Response.json({ status: "healthy", rollouts: running() });
}
