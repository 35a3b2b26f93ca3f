/** The functions in `api/` on plain Node, without a Vercel account: `npm start -- --port 3000 --host 127.0.0.1`. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { parseArgs } from "node:util";
import { setWaitUntil } from "eval-protocol";
import * as health from "./api/health.js";
import * as init from "./api/init.js";
import { stop } from "./lib/rollouts.js";

type Handler = (request: Request) => Response | Promise<Response>;
const ROUTES: Record<string, Record<string, Handler>> = { "/init": { POST: init.POST }, "/health": { GET: health.GET } };
/** Bytes of a body: a long conversation. */
const LARGEST_BODY = 32 * 2 ** 20;
/** How long log lines may take to be posted at the end, in milliseconds. */
const FLUSH_MS = 3000;

const posts = new Set<Promise<unknown>>();
setWaitUntil((post) => {
  posts.add(post);
  void post.finally(() => posts.delete(post));
});

async function answer(incoming: IncomingMessage): Promise<Response> {
  const path = (incoming.url ?? "/").split("?")[0]?.replace(/^\/api(?=\/)/, "").replace(/\/$/, "") ?? "";
  const route = ROUTES[path];
  if (!route) return Response.json({ error: { message: "There are POST /init and GET /health here." } }, { status: 404 });
  const handler = route[incoming.method ?? "GET"];
  if (!handler) {
    const allow = Object.keys(route).join(", ");
    return Response.json({ error: { message: `Use ${allow}.` } }, { status: 405, headers: { allow } });
  }
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of incoming) {
    size += piece.length;
    if (size > LARGEST_BODY) {
      return Response.json({ error: { message: `The body is larger than ${LARGEST_BODY} bytes.` } }, { status: 413 });
    }
    pieces.push(piece);
  }
  const body = incoming.method === "POST" ? Buffer.concat(pieces).toString() : undefined;
  return handler(new Request(new URL(path, "http://localhost"), { method: incoming.method, body }));
}

async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const response = await answer(incoming).catch((error: unknown) => {
    console.error(error);
    return Response.json({ error: { message: "The agent server failed; see its own log." } }, { status: 500 });
  });
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.end(await response.text());
}

const { values } = parseArgs({ options: { port: { type: "string", default: process.env.PORT ?? "3000" }, host: { type: "string", default: "127.0.0.1" } } });
const server = createServer((incoming, outgoing) => void serve(incoming, outgoing));
server.listen(Number(values.port), values.host, () => console.log(`The agent listens on http://${values.host}:${values.port}`));

for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.once(name, () => {
    server.close();
    stop();
    // The statuses of what was stopped are posted in the turns that follow.
    setTimeout(() => {
      const late = new Promise((done) => setTimeout(done, FLUSH_MS));
      void Promise.race([Promise.allSettled([...posts]), late]).then(() => process.exit(0));
    }, 100);
  });
}
