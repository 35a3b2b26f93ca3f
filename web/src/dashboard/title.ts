// What the browser's tab says.
import { useEffect } from "react";

/** Name the page: "Jobs · Tunesmith". Call once a page, with what its heading says. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Tunesmith` : "Tunesmith";
  }, [title]);
}
