// Long text in portions: an answer of five megabytes must not hang the page.
import { type ReactNode, useState } from "react";
import { Button } from "~/design/Button";

/** Characters shown of a text before someone asks for more. */
export const PORTION = 20_000;

export function Bounded({ text, children }: { text: string; children: (shown: string) => ReactNode }) {
  const [portions, setPortions] = useState(1);
  if (text.length <= PORTION) return <>{children(text)}</>;
  const shown = text.slice(0, PORTION * portions);
  const left = text.length - shown.length;
  return (
    <>
      {children(shown)}
      <div className="flex flex-wrap items-center gap-3 pt-1 text-xs text-ink-soft">
        <span className="tabular">
          {shown.length.toLocaleString()} of {text.length.toLocaleString()} characters
        </span>
        {left > 0 && (
          <Button small onClick={() => setPortions(portions * 2)}>
            Show more
          </Button>
        )}
        {portions > 1 && (
          <Button small kind="quiet" onClick={() => setPortions(1)}>
            Show less
          </Button>
        )}
      </div>
    </>
  );
}
