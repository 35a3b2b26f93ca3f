// Copying: a small button beside anything that people carry elsewhere, and code with one in its corner.
import { clsx } from "clsx";
import { Check, Copy as CopyIcon } from "lucide-react";
import { useState } from "react";
import { IconButton } from "./Button";

export function CopyButton({
  text,
  label = "Copy",
  className,
}: {
  text: string | (() => string);
  label?: string;
  className?: string;
}) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await put(typeof text === "string" ? text : text());
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <IconButton label={done ? "Copied" : label} onClick={copy} className={className}>
      {done ? <Check size={14} className="text-good" /> : <CopyIcon size={14} />}
    </IconButton>
  );
}

/** Text in a fixed pitch, as it is, with a button that copies it. */
export function Code({
  text,
  className,
  wrap = false,
}: {
  text: string;
  className?: string;
  wrap?: boolean;
}) {
  return (
    <div className={clsx("group relative rounded-md border bg-sunken", className)}>
      <pre
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard
        tabIndex={0}
        className={clsx(
          "overflow-auto p-3 pr-10 font-mono text-xs leading-5",
          wrap && "break-words whitespace-pre-wrap",
        )}
      >
        {text}
      </pre>
      <CopyButton text={text} className="absolute top-1 right-1 bg-sunken" />
    </div>
  );
}

async function put(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without https on another host there is no clipboard API; a selection and the old command still work.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
