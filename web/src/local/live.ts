// Hears what was written to the store and has it read again: nothing is asked while nothing happens, and what happens fast is read at
// most once a second (a pivot, every three). A page in the background waits until it is looked at.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Throttle } from "~/api/readAgain";

export type Connection = "connecting" | "open" | "lost";

/** Query keys that new rows change, with the shortest time between two readings in milliseconds. */
const READ_AGAIN: [string, number][] = [
  ["rows", 1000],
  ["pivot", 3000],
  ["compare", 3000],
  ["invocations", 10_000],
  ["models", 10_000],
  ["fields", 30_000],
];

/** Keeps all queries of the page fresh; call once. */
export function useLive(): Connection {
  const client = useQueryClient();
  const [connection, setConnection] = useState<Connection>("connecting");
  useEffect(() => {
    const again = new Throttle((key) => client.invalidateQueries({ queryKey: key }));
    let dropped = false;
    let source: EventSource;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const open = () => {
      source = new EventSource("/api/watch");
      source.onopen = () => {
        setConnection("open");
        // The server may have started anew: then its events do not reach back to what was missed.
        if (dropped) client.invalidateQueries();
        dropped = false;
      };
      source.onerror = () => {
        dropped = true;
        setConnection("lost");
        // The browser tries again by itself, but not after an answer that is no stream.
        if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 3000);
      };
      source.addEventListener("rows", (message) => {
        const { rolloutIds } = JSON.parse(message.data) as { rolloutIds: string[] };
        for (const [noun, pause] of READ_AGAIN) again.call([noun], pause);
        const told = new Set(rolloutIds);
        for (const query of client.getQueryCache().findAll({ queryKey: ["row"] }))
          if (told.has(String(query.queryKey[1]))) again.call(query.queryKey.slice(0, 2), 500);
      });
      source.addEventListener("logs", (message) => {
        for (const id of (JSON.parse(message.data) as { rolloutIds: string[] }).rolloutIds)
          again.call(["logs", id], 500);
      });
    };
    open();
    return () => {
      clearTimeout(timer);
      source.close();
      again.close();
    };
  }, [client]);
  return connection;
}
