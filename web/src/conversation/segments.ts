// Finds the drawings in a text: `<svg …>…</svg>` outside of code blocks. Linear in the length of the text, whatever it holds.

export type Segment = { kind: "text" | "svg"; text: string };

const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/** The text cut into drawings and what stands between them, in order. What is in a code block stays text. */
export function segments(text: string): Segment[] {
  if (!text.includes("<svg")) return [{ kind: "text", text }];
  const fenced = fences(text);
  const found: Segment[] = [];
  let kept = 0;
  let from = 0;
  for (;;) {
    const start = text.indexOf("<svg", from);
    if (start < 0) break;
    const block = fenced.find(([begin, end]) => begin <= start && start < end);
    if (block) {
      from = block[1];
      continue;
    }
    const end = text.indexOf("</svg>", start);
    if (end < 0) break;
    if (start > kept) found.push({ kind: "text", text: text.slice(kept, start) });
    kept = from = end + "</svg>".length;
    found.push({ kind: "svg", text: text.slice(start, kept) });
  }
  if (kept < text.length) found.push({ kind: "text", text: text.slice(kept) });
  return found.filter((one) => one.kind === "svg" || one.text.trim());
}

/** The one drawing in a piece of code; null: none, or cut off. */
export function svgIn(code: string): string | null {
  const start = code.indexOf("<svg");
  const end = code.lastIndexOf("</svg>");
  return start >= 0 && end > start ? code.slice(start, end + "</svg>".length) : null;
}

/** A drawing as an image's address. As an image it can neither run script nor fetch anything. */
export function svgAddress(source: string): string {
  // An image needs its namespace; models forget it, and pages forgive that.
  const whole = /\sxmlns\s*=/.test(source.slice(0, source.indexOf(">") + 1))
    ? source
    : source.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"');
  return `data:image/svg+xml;charset=utf-8,${encodeURIComponent(whole.replace(/\p{Surrogate}/gu, "\ufffd"))}`;
}

/** Where code blocks begin and end, as offsets. */
function fences(text: string): [number, number][] {
  const found: [number, number][] = [];
  let open: { mark: string; at: number } | null = null;
  let at = 0;
  for (const line of text.split("\n")) {
    const mark = FENCE.exec(line)?.[1];
    if (mark && !open) open = { mark, at };
    else if (mark && open && mark[0] === open.mark[0] && mark.length >= open.mark.length) {
      found.push([open.at, at + line.length]);
      open = null;
    }
    at += line.length + 1;
  }
  if (open) found.push([open.at, text.length]);
  return found;
}
