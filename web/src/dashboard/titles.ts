// What the browser's tab says: the thing, the kind of page, the product.
import { useMatches } from "@tanstack/react-router";
import { useEffect } from "react";

interface Place {
  staticData: { title?: string };
  params: unknown;
}

/** "chats · Dataset · Tunesmith" of a page of one thing, "Datasets · Tunesmith" of a list. */
export function titleOf(places: readonly Place[]): string {
  const place = places.findLast((one) => one.staticData.title);
  const things = Object.values((place?.params ?? {}) as Record<string, string>);
  return [...things, place?.staticData.title, "Tunesmith"].filter(Boolean).join(" · ");
}

export function useTitle(): void {
  const title = titleOf(useMatches() as readonly Place[]);
  useEffect(() => {
    document.title = title;
  }, [title]);
}
