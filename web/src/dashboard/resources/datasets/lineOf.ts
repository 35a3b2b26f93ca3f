// The line of a file that an error speaks of, to show it beside the error.

const LONGEST = 400; // characters of a line that are shown
const READ = 64 * 1024 * 1024; // bytes of the file that are looked at

/** Number of the line that a sentence like "invalid JSON on line 42" names, from 1; null: none. */
export function lineNumber(message: string): number | null {
  const found = /\bline (\d+)\b/i.exec(message);
  return found?.[1] ? Number(found[1]) : null;
}

export async function lineOf(file: Blob, message: string): Promise<{ line: number; text: string } | null> {
  const line = lineNumber(message);
  if (line === null) return null;
  const reader = file
    .slice(0, READ)
    .stream()
    .pipeThrough(new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>)
    .getReader();
  let at = 1;
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const pieces = value.split("\n");
    for (const [place, piece] of pieces.entries()) {
      if (place > 0) {
        if (at === line) return { line, text: cut(text) };
        at += 1;
        text = "";
      }
      if (at === line) text += piece;
    }
  }
  return at === line ? { line, text: cut(text) } : null;
}

function cut(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
}
