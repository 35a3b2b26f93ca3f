// Reads again what changed: at once, and then at most once in a pause, however fast it changes. A page in the background waits until it
// is looked at.
import { type Query, type QueryKey, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef } from "react";

/** Invalidates the queries below a key, at most once in `pause` milliseconds; the last word is never lost. `wanted`: only those. */
export function useReadAgain(wanted?: (query: Query) => boolean): (key: QueryKey, pause: number) => void {
  const client = useQueryClient();
  const throttle = useRef<Throttle>(null);
  useEffect(() => {
    const made = new Throttle((queryKey) => client.invalidateQueries({ queryKey, predicate: wanted }));
    throttle.current = made;
    return () => made.close();
  }, [client, wanted]);
  return useCallback((key, pause) => throttle.current?.call(key, pause), []);
}

/** Calls at once, then at most once in a pause; the last word is never lost. Not while the page is hidden. */
export class Throttle {
  private readonly waiting = new Map<string, ReturnType<typeof setTimeout>>();
  private readonly last = new Map<string, number>();
  private readonly missed = new Map<string, QueryKey>();

  constructor(private readonly act: (key: QueryKey) => void) {
    document.addEventListener("visibilitychange", this.shown);
  }

  call(key: QueryKey, pause: number): void {
    const name = JSON.stringify(key);
    if (document.hidden) {
      this.missed.set(name, key);
      return;
    }
    if (this.waiting.has(name)) return;
    const left = (this.last.get(name) ?? 0) + pause - Date.now();
    const run = () => {
      this.waiting.delete(name);
      this.last.set(name, Date.now());
      this.act(key);
    };
    if (left <= 0) run();
    else this.waiting.set(name, setTimeout(run, left));
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.shown);
    for (const timer of this.waiting.values()) clearTimeout(timer);
  }

  private readonly shown = () => {
    if (document.hidden) return;
    for (const key of this.missed.values()) this.act(key);
    this.missed.clear();
  };
}
