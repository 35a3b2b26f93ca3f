// A report cut at its own pictures: only files that lie beside it are shown, everything else goes through safe Markdown.

type ReportPart = { kind: "text"; text: string } | { kind: "figure"; file: string; label: string };

const FIGURE = /^!\[([^\]]*)\]\(([a-z0-9_-]+\.svg)\)$/i;

export function reportParts(markdown: string): ReportPart[] {
  const parts: ReportPart[] = [];
  let lines: string[] = [];
  let fenced = false;
  const flush = () => {
    const text = lines.join("\n").trim();
    if (text) parts.push({ kind: "text", text });
    lines = [];
  };
  for (const line of markdown.split("\n")) {
    if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
    const figure = fenced ? null : FIGURE.exec(line.trim());
    if (figure) {
      flush();
      parts.push({ kind: "figure", label: figure[1] || "Figure", file: figure[2] as string });
    } else lines.push(line);
  }
  flush();
  return parts;
}
