// A drawing as a picture beside its code. It is only ever an image: nothing in it runs, nothing is fetched.
import { Maximize2 } from "lucide-react";
import { useState } from "react";
import { IconButton } from "~/design/Button";
import { Code, CopyButton } from "~/design/Copy";
import { Dialog } from "~/design/Dialog";
import { svgAddress } from "./segments";

/** Characters of a drawing that are still drawn. */
const LARGEST = 500_000;

/** Only the picture, on paper white in both themes, for tables and strips. */
export function SvgImage({
  source,
  label = "Drawing",
  className,
}: {
  source: string;
  label?: string;
  className?: string;
}) {
  const [failed, setFailed] = useState<string | null>(null);
  if (source.length > LARGEST || failed === source)
    return (
      <span className="text-xs text-ink-faint">
        {failed === source
          ? "This drawing cannot be shown: it is not well-formed."
          : "This drawing is too large to show."}
      </span>
    );
  return (
    <img
      src={svgAddress(source)}
      alt={label}
      className={className ?? "max-h-64 max-w-full rounded bg-white object-contain"}
      onError={() => setFailed(source)}
    />
  );
}

export function SvgPicture({ source }: { source: string }) {
  const [large, setLarge] = useState(false);
  return (
    <figure className="overflow-hidden rounded-md border bg-surface">
      <figcaption className="flex items-center justify-between border-b bg-raised px-3 py-0.5 text-xs text-ink-soft">
        <span>
          SVG drawing{" "}
          <span className="tabular text-ink-faint">{source.length.toLocaleString()} characters</span>
        </span>
        <span className="flex">
          <CopyButton text={source} label="Copy the drawing's code" />
          <IconButton label="Open large" onClick={() => setLarge(true)}>
            <Maximize2 size={14} />
          </IconButton>
        </span>
      </figcaption>
      <div className="grid gap-3 p-3 md:grid-cols-[minmax(9rem,16rem)_minmax(0,1fr)]">
        <div className="flex items-center justify-center">
          <SvgImage source={source} />
        </div>
        <Code text={source.slice(0, 20_000)} wrap className="max-h-64 overflow-auto" />
      </div>
      <Dialog open={large} onClose={() => setLarge(false)} title="Drawing" wide>
        <div className="flex justify-center rounded bg-white p-4">
          <SvgImage source={source} className="h-[70dvh] w-full object-contain" />
        </div>
      </Dialog>
    </figure>
  );
}
